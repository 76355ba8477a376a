"""The built-in agent knows the date and uses the web with a model that is up to it, and asks nothing of the others."""

from collections.abc import AsyncIterator, Iterator
from datetime import datetime
from pathlib import Path
from typing import Any

import pytest
from openai import AsyncOpenAI
from pydantic_ai import Agent, ModelMessage, ModelRetry
from pydantic_ai.models import Model
from pydantic_ai.models.function import AgentInfo, FunctionModel
from pydantic_ai.models.openai import OpenAIChatModel
from pydantic_ai.providers.openai import OpenAIProvider
from pydantic_ai.providers.openai_compatible import OpenAICompatibleProvider

from chat import agent as module
from chat.agent import INSTRUCTIONS, build_agent, build_deps, current_time
from tests.provider import KEY, Provider, running_provider


@pytest.fixture(scope="module")
def provider() -> Iterator[Provider]:
    with running_provider() as provider:
        yield provider


@pytest.fixture
async def client(provider: Provider) -> AsyncIterator[AsyncOpenAI]:
    async with AsyncOpenAI(base_url=provider.url, api_key=KEY) as client:
        yield client


async def ask(model: Model, prompt: str) -> None:
    async with build_agent().run_stream_events(prompt, model=model, infer_name=False) as events:
        async for _ in events:
            pass


def test_it_is_a_short_file_that_leaves_the_model_to_the_settings() -> None:
    agent = build_agent()
    assert (agent.name, agent.model, type(agent)) == ("parley", None, Agent)
    assert build_deps("ann", "c") is None
    assert len(Path(module.__file__).read_text(encoding="utf-8").splitlines()) < 60


@pytest.mark.anyio
async def test_a_capable_model_is_told_the_date_and_offered_the_time(client: AsyncOpenAI, provider: Provider) -> None:
    model = OpenAIChatModel("gpt-4o", provider=OpenAIProvider(openai_client=client))
    before, after = (datetime.now().astimezone() for _ in range(2))
    await ask(model, "what day is it?")
    body = provider.answered("what day is it?").body
    said = "\n".join(message["content"] for message in body["messages"] if message["role"] == "system")
    assert said.startswith(INSTRUCTIONS)
    assert any(f"Today is {day:%A, %Y-%m-%d}, in the server's time zone ({day:%Z})." in said for day in (before, after))
    assert "current_time" in [tool["function"]["name"] for tool in body["tools"]]


@pytest.mark.anyio
async def test_a_model_whose_provider_searches_and_fetches_does_both_there() -> None:
    seen: set[str] = set()

    async def answer(messages: list[ModelMessage], info: AgentInfo) -> AsyncIterator[str]:
        seen.update(tool.unique_id for tool in info.model_request_parameters.native_tools)
        yield "Done."

    await ask(FunctionModel(stream_function=answer), "hello")
    assert seen == {"web_search", "web_fetch"}


@pytest.mark.anyio
async def test_the_embedded_model_gets_the_instructions_alone(client: AsyncOpenAI, provider: Provider) -> None:
    model = OpenAIChatModel("small", provider=OpenAICompatibleProvider("local", openai_client=client))
    await ask(model, "hello, small one")
    body = provider.answered("hello, small one").body
    assert body["messages"] == [
        {"role": "system", "content": INSTRUCTIONS},
        {"role": "user", "content": "hello, small one"},
    ]
    assert "tools" not in body


@pytest.mark.parametrize(("zone", "offset"), [("Asia/Kolkata", "IST (UTC+0530)"), ("UTC", "UTC (UTC+0000)")])
def test_the_time_is_the_one_of_the_zone_that_is_asked_for(zone: str, offset: str) -> None:
    assert current_time(zone).endswith(offset)
    assert current_time().endswith(f"{datetime.now().astimezone():%Z (UTC%z)}")


@pytest.mark.parametrize("zone", ["Nowhere/Else", "Europe", "../passwd", "\0", "/etc"])
def test_a_zone_that_is_not_one_is_said_to_the_model(zone: str) -> None:
    with pytest.raises(ModelRetry, match="There is no time zone"):
        current_time(zone)


def test_a_web_page_is_fetched_here_by_the_tool_that_refuses_private_addresses_or_not_at_all(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    asked: list[dict[str, Any]] = []
    monkeypatch.setattr(module, "WebFetch", lambda **options: asked.append(options))
    monkeypatch.setattr(module, "Agent", lambda **_: None)
    for found in (object(), None):
        monkeypatch.setattr(module, "find_spec", lambda name, found=found: found)
        monkeypatch.setattr(module, "WebSearch", lambda **options: asked.append(options))
        build_agent()
    assert [options["local"] for options in asked] == ["duckduckgo", True, False, False]
