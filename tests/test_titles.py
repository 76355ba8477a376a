"""A conversation gets a title of its model's after its first whole reply, at no cost to its turns."""

import asyncio
from collections.abc import AsyncIterator
from pathlib import Path
from typing import Any

import pytest
from pydantic_ai import Agent, ModelMessage, ModelRequest
from pydantic_ai.messages import BinaryContent, UserPromptPart
from pydantic_ai.models.function import AgentInfo, DeltaToolCall, FunctionModel

from chat import titles as titles_module
from chat.identity import Owner
from chat.models import ChatAgent, ChatModel
from chat.runs import Run
from chat.services import Services, open_services
from chat.settings import Settings
from chat.titles import INSTRUCTIONS

pytestmark = pytest.mark.anyio

ANNA = Owner("visitor:anna")
PATIENCE = 20


class Author:
    """A model that answers at once, and gives a title when the test lets it."""

    def __init__(self, title: str | Exception = "“A short title.”") -> None:
        self.title = title
        self.asked: list[str] = []
        self.was_asked = asyncio.Event()
        self.free = asyncio.Event()
        self.free.set()
        self.model = FunctionModel(stream_function=self._stream, model_name="author")  # pyright: ignore
        self.agent = Agent(self.model, name="author")
        self.chat_agent = ChatAgent(self.agent, (ChatModel("author", self.model, own=True),))

    async def _stream(self, messages: list[ModelMessage], info: AgentInfo) -> AsyncIterator[Any]:
        [prompt] = [part for part in messages[-1].parts if isinstance(part, UserPromptPart)]
        if info.instructions != INSTRUCTIONS:
            if prompt.content == "fail":
                raise RuntimeError("as it was told")
            if prompt.content == "approve":
                yield {0: DeltaToolCall(name="pay", json_args="{}", tool_call_id="1")}
                return
            yield f"Answer to {prompt.content}"
            return
        self.asked.append(str(prompt.content))
        self.was_asked.set()
        await self.free.wait()
        if isinstance(self.title, Exception):
            raise self.title
        yield self.title


@pytest.fixture
async def services(tmp_path: Path) -> AsyncIterator[Services]:
    async with open_services(Settings(database=tmp_path / "chat.db")) as services:
        yield services


async def answer(services: Services, author: Author, prompt: Any, conversation: str | None = None) -> Run:
    """Send a prompt as the page does, and wait until its reply is stored. A title may then be on its way."""
    run = await services.runs.send(ANNA, conversation, prompt, author.chat_agent)
    if conversation is None:
        await services.library.title_from_prompt(ANNA, run.conversation_id, str(prompt))
    services.titles.begin(run, author.chat_agent)
    assert await run.ends_within(PATIENCE)
    return run


async def at_rest(services: Services) -> None:
    async with asyncio.timeout(PATIENCE):
        while services.titles._tasks:  # pyright: ignore
            await asyncio.wait(services.titles._tasks.values())  # pyright: ignore


async def title(services: Services, run: Run) -> str:
    [listed] = await services.library.find(ANNA, [run.conversation_id])
    return listed.title


async def test_the_first_words_are_followed_by_the_models_title(services: Services) -> None:
    author = Author()
    author.free.clear()
    run = await answer(services, author, "Why is the sky blue?")
    assert await title(services, run) == "Why is the sky blue?"
    author.free.set()
    await at_rest(services)
    assert await title(services, run) == "A short title"
    [asked] = author.asked
    assert "Why is the sky blue?" in asked
    assert "Answer to Why is the sky blue?" in asked


async def test_a_model_is_asked_once_for_a_conversation(services: Services) -> None:
    author = Author()
    run = await answer(services, author, "one")
    await at_rest(services)
    await answer(services, author, "two", run.conversation_id)
    await at_rest(services)
    assert len(author.asked) == 1


async def test_the_next_message_is_answered_while_the_title_is_written_and_both_are_counted(services: Services) -> None:
    author = Author()
    author.free.clear()
    run = await answer(services, author, "one")
    async with asyncio.timeout(PATIENCE):
        await author.was_asked.wait()
    await answer(services, author, "two", run.conversation_id)
    author.free.set()
    await at_rest(services)
    assert await title(services, run) == "A short title"
    loaded = await services.store.load(run.conversation_id, scope=ANNA)
    assert loaded is not None
    assert loaded.usage.requests == 3
    await answer(services, author, "three", run.conversation_id)
    entries = await services.store.load_entries(run.conversation_id, scope=ANNA)
    assert len(entries or ()) == 6
    assert await services.journal.outcomes([entry.id for entry in entries or ()]) == {}


async def test_a_title_that_a_person_gives_meanwhile_stays(services: Services) -> None:
    author = Author()
    author.free.clear()
    run = await answer(services, author, "one")
    await services.library.rename(ANNA, run.conversation_id, "Mine")
    author.free.set()
    await at_rest(services)
    assert await title(services, run) == "Mine"


@pytest.mark.parametrize("trouble", [RuntimeError("no titles today"), "", "  \n\u200b"])
async def test_without_a_title_from_the_model_the_first_words_stay_and_it_is_not_asked_again(
    services: Services, trouble: str | Exception
) -> None:
    author = Author(trouble)
    run = await answer(services, author, "one")
    await at_rest(services)
    await answer(services, author, "two", run.conversation_id)
    await at_rest(services)
    assert await title(services, run) == "one"
    assert len(author.asked) == 1
    entries = await services.store.load_entries(run.conversation_id, scope=ANNA)
    assert len(entries or ()) == 4


async def test_a_model_that_takes_too_long_is_not_waited_for(
    services: Services, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(titles_module, "SECONDS", 0.05)
    author = Author()
    author.free.clear()
    run = await answer(services, author, "one")
    await at_rest(services)
    assert await title(services, run) == "one"


@pytest.mark.parametrize("prompt", ["fail", "approve"])
async def test_only_a_whole_reply_is_a_reason_for_a_title(services: Services, prompt: str) -> None:
    author = Author()

    @author.agent.tool_plain(requires_approval=True)
    def pay() -> str:
        return "paid"

    run = await answer(services, author, prompt)
    await at_rest(services)
    assert author.asked == []
    await answer(services, author, "two", run.conversation_id)
    await at_rest(services)
    assert await title(services, run) == "A short title"


async def test_an_embedded_model_is_never_asked(services: Services, monkeypatch: pytest.MonkeyPatch) -> None:
    author = Author()
    monkeypatch.setattr(titles_module, "LocalModel", FunctionModel)
    run = await answer(services, author, "one")
    await at_rest(services)
    assert (author.asked, await title(services, run)) == ([], "one")


async def test_files_are_named_and_long_texts_are_cut(services: Services) -> None:
    author = Author()
    picture = BinaryContent(b"\x89PNG", media_type="image/png", identifier="sunset.png")
    await answer(services, author, [picture, "x" * 100_000])
    await at_rest(services)
    [asked] = author.asked
    assert "sunset.png" in asked
    assert len(asked) < 10_000


async def test_a_server_that_stops_loses_the_title_only_and_the_next_reply_asks_again(
    services: Services, tmp_path: Path
) -> None:
    author = Author()
    author.free.clear()
    run = await answer(services, author, "one")
    await services.end_runs()
    await at_rest(services)
    assert await title(services, run) == "one"
    author.free.set()
    async with open_services(Settings(database=tmp_path / "chat.db")) as again:
        await answer(again, author, "two", run.conversation_id)
        await at_rest(again)
        assert await title(again, run) == "A short title"


async def test_what_is_titled_can_be_deleted_meanwhile(services: Services) -> None:
    author = Author()
    author.free.clear()
    run = await answer(services, author, "one")
    await services.deletions.delete(ANNA, run.conversation_id)
    author.free.set()
    await at_rest(services)
    assert await services.library.find(ANNA, [run.conversation_id]) == []
    await services.deletions.restore(ANNA, run.conversation_id)
    [entry, _] = await services.store.load_entries(run.conversation_id, scope=ANNA) or ()
    assert isinstance(entry.message, ModelRequest)
