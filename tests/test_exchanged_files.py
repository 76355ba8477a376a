"""Files go to a provider over the OpenAI protocols and come back from it, to the byte, and are kept and shown."""

import base64
import json
from collections.abc import AsyncIterator, Iterator, Sequence
from pathlib import Path
from typing import Any

import pytest
from openai import AsyncOpenAI
from pydantic_ai import Agent
from pydantic_ai.capabilities import NativeTool
from pydantic_ai.messages import BinaryContent, BinaryImage, UserContent
from pydantic_ai.models import Model
from pydantic_ai.models.openai import OpenAIChatModel, OpenAIResponsesModel
from pydantic_ai.native_tools import ImageGenerationTool
from pydantic_ai.providers.openai import OpenAIProvider

from chat.files import binary_contents
from chat.identity import Owner
from chat.models import ChatAgent, ChatModel
from chat.services import Services, open_services
from chat.settings import Settings
from chat.view import watch
from tests.provider import KEY, PICTURE, Provider, running_provider

pytestmark = pytest.mark.anyio

ANNA = Owner("visitor:anna")
PHOTO = BinaryImage(PICTURE + b"photo", media_type="image/png", identifier="photo.png")
PAPER = BinaryContent(b"%PDF-1.7 paper", media_type="application/pdf", identifier="paper.pdf")
REPORT = BinaryContent(b"%PDF-1.7 report", media_type="application/pdf", identifier="report.pdf")
CHART = BinaryImage(PICTURE + b"chart", media_type="image/png", identifier="chart.png")


@pytest.fixture
async def services(tmp_path: Path) -> AsyncIterator[Services]:
    async with open_services(Settings(database=tmp_path / "chat.db")) as services:
        yield services


@pytest.fixture
def provider() -> Iterator[Provider]:
    with running_provider() as provider:
        yield provider


@pytest.fixture
async def openai(provider: Provider) -> AsyncIterator[OpenAIProvider]:
    async with AsyncOpenAI(base_url=provider.url, api_key=KEY) as client:
        yield OpenAIProvider(openai_client=client)


def agent_with(model: Model, **options: Any) -> ChatAgent:
    return ChatAgent(Agent(model, **options), (ChatModel("test", model, own=True),))


async def answered(services: Services, agent: ChatAgent, conversation_id: str | None, *prompt: UserContent) -> str:
    run = await services.runs.send(ANNA, conversation_id, prompt, agent)
    while not run.done:
        await run.after(run.version)
    return run.conversation_id


async def shown(services: Services, conversation_id: str) -> list[str]:
    views = [view async for view in watch(services, ANNA, conversation_id)]
    return [message["content"][0]["text"] for message in views[-1].messages]


async def kept(services: Services, conversation_id: str) -> list[bytes]:
    """The files of a conversation as they are stored."""
    conversation = await services.store.load(conversation_id, scope=ANNA)
    assert conversation is not None
    return [content.data for message in conversation.messages for content in binary_contents(message)]


def in_base64(files: Sequence[BinaryContent]) -> list[str]:
    return [f"data:{file.media_type};base64,{base64.b64encode(file.data).decode()}" for file in files]


async def test_images_and_pdfs_are_sent_and_those_of_a_tool_come_back_shown_and_are_sent_on(
    services: Services, provider: Provider, openai: OpenAIProvider
) -> None:
    def paper() -> list[object]:
        return ["Done.", REPORT, CHART]

    agent = agent_with(OpenAIChatModel("gpt-4o", provider=openai), tools=[paper])
    conversation_id = await answered(services, agent, None, PHOTO, PAPER, "call paper {}")
    asked, again = provider.exchanges
    photo, document, words = asked.body["messages"][-1]["content"]
    assert [photo["image_url"]["url"], document["file"]["file_data"]] == in_base64([PHOTO, PAPER])
    assert words == {"type": "text", "text": "call paper {}"}
    for address in in_base64([PHOTO, PAPER, REPORT, CHART]):
        assert address in json.dumps(again.body["messages"])
    assert await kept(services, conversation_id) == [file.data for file in (PHOTO, PAPER, REPORT, CHART)]
    pictured, attached, _, _, _, report, chart, *_ = await shown(services, conversation_id)
    assert "<img " in pictured
    assert ">paper.pdf</a>" in attached
    assert ">report.pdf</a>" in report
    assert "<img " in chart


async def test_an_image_that_the_provider_generates_comes_back_and_is_known_in_the_next_turn(
    services: Services, provider: Provider, openai: OpenAIProvider
) -> None:
    model = OpenAIResponsesModel("gpt-5", provider=openai)
    agent = agent_with(model, capabilities=[NativeTool(ImageGenerationTool())])
    conversation_id = await answered(services, agent, None, PAPER, "Draw a cat.")
    assert await kept(services, conversation_id) == [PAPER.data, PICTURE]
    texts = await shown(services, conversation_id)
    assert any("<img " in text for text in texts)
    assert "There it is." in texts
    await answered(services, agent, conversation_id, "Once more.")
    first, second = provider.exchanges
    assert in_base64([PAPER])[0] in json.dumps(first.body["input"])
    assert {"type": "image_generation_call", "id": "ig-1"} in second.body["input"]
