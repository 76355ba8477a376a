"""A reply belongs to its conversation: however it ends, its prompt and its text are kept and the next turn works."""

import asyncio
import gc
import json
import sqlite3
import threading
import weakref
from collections.abc import AsyncIterator, Awaitable, Callable, Iterator, Sequence
from contextlib import aclosing, asynccontextmanager, contextmanager, suppress
from pathlib import Path
from typing import Any

import pytest
from openai import AsyncOpenAI
from pydantic_ai import Agent, ModelMessage
from pydantic_ai.conversation import Conversation
from pydantic_ai.messages import (
    ModelRequest,
    ModelResponse,
    SystemPromptPart,
    TextPart,
    ThinkingPart,
    ToolCallPart,
    ToolReturnPart,
    UserPromptPart,
)
from pydantic_ai.models.function import AgentInfo, DeltaThinkingPart, DeltaToolCall, FunctionModel
from pydantic_ai.models.openai import OpenAIChatModel
from pydantic_ai.providers.openai import OpenAIProvider
from pydantic_ai.usage import UsageLimits

from chat import database as database_module
from chat import runs as runs_module
from chat import view as view_module
from chat.database import DatabaseUnavailable
from chat.identity import Owner
from chat.journal import Journal, Outcome
from chat.models import ChatAgent, ChatModel
from chat.runs import INTERRUPTED, STOPPED, ConversationBusy, ConversationMissing, Run, ShuttingDown
from chat.services import Services, open_services
from chat.settings import Settings
from chat.store import SQLiteConversationStore
from chat.view import UNANSWERED, View, watch
from tests.provider import HERE, KEY, Provider, running_provider, words

pytestmark = pytest.mark.anyio

ANNA, BEN = Owner("visitor:anna"), Owner("visitor:ben")
PATIENCE = 20
"""Seconds that a test waits for what happens at once when it works."""

LIMIT = 3
"""Seconds that a reply may take where that is tried: one that ends by itself takes far less, also on a busy machine."""

_END = object()


class Pen:
    """A model that writes what the test hands it, when it does, for all runs that ask it."""

    def __init__(self) -> None:
        self.asked: asyncio.Queue[list[ModelMessage]] = asyncio.Queue()
        self._ink: asyncio.Queue[Any] = asyncio.Queue()
        self.agent = Agent(FunctionModel(stream_function=self._stream, model_name="pen"), name="pen")  # pyright: ignore
        self.chat_agent = ChatAgent(self.agent, (ChatModel("pen"),))

    def write(self, *pieces: Any) -> None:
        """Words, deltas, or an error to raise."""
        for piece in pieces:
            self._ink.put_nowait(piece)

    def end(self, *pieces: Any) -> None:
        self.write(*pieces, _END)

    async def _stream(self, messages: list[ModelMessage], info: AgentInfo) -> AsyncIterator[Any]:
        self.asked.put_nowait(list(messages))
        while (piece := await self._ink.get()) is not _END:
            if isinstance(piece, BaseException):
                raise piece
            yield piece


class Checkpoints:
    """Tells when what runs have written is in the journal."""

    def __init__(self, monkeypatch: pytest.MonkeyPatch) -> None:
        self._written = asyncio.Event()
        write = Journal.write

        async def write_and_tell(*arguments: Any) -> None:
            await write(*arguments)
            self._written.set()

        monkeypatch.setattr(Journal, "write", write_and_tell)

    async def hold(self, services: Services, *texts: str) -> None:
        """Wait until all of these are in it."""
        async with asyncio.timeout(PATIENCE):
            while True:
                self._written.clear()
                unfinished = repr(await services.journal.unfinished())
                if all(text in unfinished for text in texts):
                    return
                await self._written.wait()


@pytest.fixture
def pen() -> Pen:
    return Pen()


@pytest.fixture
def path(tmp_path: Path) -> Path:
    return tmp_path / "chat.db"


@pytest.fixture
def impatient(monkeypatch: pytest.MonkeyPatch) -> None:
    """What the chat does after seconds it does at once."""
    monkeypatch.setattr(database_module, "BUSY_SECONDS", 0.02)
    monkeypatch.setattr(runs_module, "SAVE_RETRY_SECONDS", (0.02,))
    monkeypatch.setattr(runs_module, "CHECKPOINT_SECONDS", 0.02)
    monkeypatch.setattr(runs_module, "GRACE_SECONDS", 0.1)


@pytest.fixture
async def services(path: Path) -> AsyncIterator[Services]:
    async with open_services(settings(path)) as services:
        yield services


@pytest.fixture(scope="module")
def provider() -> Iterator[Provider]:
    with running_provider() as provider:
        yield provider


@pytest.fixture
async def model(provider: Provider) -> AsyncIterator[OpenAIChatModel]:
    async with AsyncOpenAI(base_url=provider.url, api_key=KEY) as client:
        yield OpenAIChatModel("test", provider=OpenAIProvider(openai_client=client))


@pytest.fixture
def online(model: OpenAIChatModel) -> ChatAgent:
    """An agent whose model is asked over HTTP."""
    return ChatAgent(Agent(model, name="online"), (ChatModel("test"),))


def settings(path: Path, *, timeout: float = 60, max_runs: int = 64) -> Settings:
    return Settings(database=path, timeout=timeout, max_runs=max_runs)


async def until(run: Run, condition: Callable[[], bool]) -> None:
    async with asyncio.timeout(PATIENCE):
        version = -1
        while not condition():
            version = await run.after(version)


async def done(run: Run) -> None:
    await until(run, lambda: run.done)


async def ended(others: set[asyncio.Task[Any]]) -> None:
    """Wait until no task is left beside these."""
    async with asyncio.timeout(PATIENCE):
        while tasks := asyncio.all_tasks() - others:
            await asyncio.wait(tasks)


async def soon(awaitable: Awaitable[Any]) -> Any:
    return await asyncio.wait_for(awaitable, PATIENCE)


def text_of(run: Run) -> str:
    return "".join(texts(run.partial.messages()))


def texts(messages: Sequence[ModelMessage]) -> list[str]:
    """What was said, message by message."""
    kinds = (TextPart, UserPromptPart, ThinkingPart)
    said = ("".join(str(part.content) for part in message.parts if isinstance(part, kinds)) for message in messages)
    return [text for text in said if text]


async def stored(services: Services, conversation_id: str, owner: Owner = ANNA) -> list[str]:
    return texts([entry.message for entry in await services.store.load_entries(conversation_id, scope=owner) or []])


async def answer(services: Services, agent: ChatAgent, prompt: str, conversation_id: str | None = None) -> Run:
    """Send a prompt and wait until its turn has ended."""
    run = await services.runs.send(ANNA, conversation_id, prompt, agent)
    await done(run)
    return run


async def outcome(services: Services, run: Run) -> Outcome | None:
    """What is noted of its turn, or of what follows it."""
    entries = [entry.id for entry in await services.store.load_entries(run.conversation_id) or ()]
    noted = await services.journal.outcomes(entries[entries.index(run.prompt_id) :])
    return next(iter(noted.values()), None)


async def shown(services: Services, conversation_id: str) -> View:
    """What a page shows at last."""
    async with asyncio.timeout(PATIENCE):
        return [view async for view in watch(services, ANNA, conversation_id)][-1]


def options(view: View) -> list[str]:
    return [option["value"] for option in view.messages[-1].get("options", [])]


def as_if_killed(path: Path) -> Path:
    """What the disk would hold if the process were killed now."""
    copy = path.with_name(f"killed {path.name}")
    with sqlite3.connect(path) as source, sqlite3.connect(copy) as target:
        source.backup(target)
    source.close()
    target.close()
    return copy


def checkpoints_left(path: Path) -> int:
    with sqlite3.connect(path) as connection:
        [(count,)] = connection.execute("SELECT count(*) FROM checkpoint")
    connection.close()
    return count


# A turn


async def test_the_prompt_is_stored_before_the_model_is_called(services: Services, path: Path) -> None:
    async def read_file(messages: list[ModelMessage], info: AgentInfo) -> AsyncIterator[str]:
        with sqlite3.connect(path) as connection:
            [(message,)] = connection.execute("SELECT message FROM entry")
        connection.close()
        yield json.loads(message)["parts"][0]["content"]

    run = await answer(
        services, ChatAgent(Agent(FunctionModel(stream_function=read_file)), (ChatModel("reader"),)), "hello"
    )
    assert await stored(services, run.conversation_id) == ["hello", "hello"]


async def test_the_model_sees_the_whole_conversation(services: Services, pen: Pen) -> None:
    pen.end("Hi.")
    first = await answer(services, pen.chat_agent, "hello")
    pen.end("Fine.")
    await answer(services, pen.chat_agent, "how are you?", first.conversation_id)
    assert [texts(await pen.asked.get()) for _ in range(2)] == [["hello"], ["hello", "Hi.", "how are you?"]]
    assert await stored(services, first.conversation_id) == ["hello", "Hi.", "how are you?", "Fine."]


async def test_a_conversation_goes_on_however_often_the_model_was_asked_and_adds_up_its_usage(
    services: Services, pen: Pen
) -> None:
    conversation_id = None
    for number in range(60):
        pen.end("Hi.")
        run = await answer(services, pen.chat_agent, f"hello {number}", conversation_id)
        conversation_id = run.conversation_id
        assert await outcome(services, run) is None
    record = await services.store.read_record(run.conversation_id)
    assert record is not None
    assert record.usage.requests == 60


async def test_a_conversation_of_somebody_else_is_missing_also_while_it_is_written(
    services: Services, pen: Pen
) -> None:
    run = await services.runs.send(ANNA, None, "hello", pen.chat_agent)
    for conversation_id in (run.conversation_id, "another"):
        with pytest.raises(ConversationMissing):
            await services.runs.send(BEN, conversation_id, "mine now", pen.chat_agent)
        with pytest.raises(ConversationMissing):
            await services.runs.retry(BEN, conversation_id, pen.chat_agent)
    assert services.runs.of(BEN, run.conversation_id) is None
    assert services.runs.writing(BEN) == set()
    assert services.runs.writing(ANNA) == {run.conversation_id}
    pen.end("Hi.")
    await done(run)
    with pytest.raises(ConversationMissing):
        await services.runs.send(BEN, run.conversation_id, "mine now", pen.chat_agent)
    assert await stored(services, run.conversation_id) == ["hello", "Hi."]


async def test_fifty_conversations_at_once_are_stored_byte_for_byte_as_the_model_sent_them(
    services: Services, provider: Provider, online: ChatAgent
) -> None:
    prompts = [f"words {number}" for number in range(30, 80)]
    started = [services.runs.send(ANNA, None, prompt, online) for prompt in prompts]
    sent = await asyncio.gather(*started)
    await asyncio.gather(*map(done, sent))
    for prompt, run in zip(prompts, sent, strict=True):
        assert await stored(services, run.conversation_id) == [prompt, words(int(prompt.split()[1]))]
        assert await outcome(services, run) is None


# Watching


async def test_a_watcher_gets_the_latest_state_and_never_a_backlog(services: Services, pen: Pen) -> None:
    run = await services.runs.send(ANNA, None, "hello", pen.chat_agent)
    version = await run.after(-1)
    pen.write(*(f"{number} " for number in range(100)))
    await until(run, lambda: "99" in text_of(run))
    newest = await soon(run.after(version))
    assert text_of(run) == "".join(f"{number} " for number in range(100))
    waiting = asyncio.create_task(run.after(newest))
    ready, _ = await asyncio.wait({waiting}, timeout=0)
    assert not ready
    pen.write("more")
    assert await soon(waiting) > newest
    pen.end()
    await done(run)


async def test_a_watcher_that_never_looks_again_slows_nothing(services: Services, pen: Pen) -> None:
    run = await services.runs.send(ANNA, None, "hello", pen.chat_agent)
    async with aclosing(watch(services, ANNA, run.conversation_id)) as views:
        first = await anext(views)
        assert first.phase == "writing"
        pen.end(*(f"{number} " for number in range(1_000)))
        await done(run)
        rest = [view async for view in views]
    assert [view.phase for view in rest] == ["idle"]
    assert rest[-1].messages[-1]["content"][0]["text"].endswith("999 ")


async def test_a_reply_that_has_words_waits_while_another_one_begins(
    services: Services, pen: Pen, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(runs_module, "GULP_SECONDS", 0)  # It gives way at each word,
    for name in ("GIVE_WAY_SECONDS", "LONGEST_WAY_SECONDS", "BEGINNING_SECONDS"):
        monkeypatch.setattr(runs_module, name, PATIENCE)  # for longer than the other one takes.
    run = await services.runs.send(ANNA, None, "Say all.", pen.chat_agent)
    pen.write("One, ")
    await until(run, lambda: text_of(run) == "One, ")
    other = Pen()
    beginning = await services.runs.send(BEN, None, "Begin.", other.chat_agent)
    await soon(other.asked.get())
    pen.write("two, ", "three, ")
    await until(run, lambda: text_of(run) == "One, two, ")
    other.end("Begun.")
    await done(beginning)
    assert text_of(run) == "One, two, "
    run.stop()
    await done(run)


async def test_a_reply_goes_on_beside_one_whose_model_says_nothing(
    services: Services, pen: Pen, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(runs_module, "GULP_SECONDS", 0)  # It gives way at each word.
    mute = Pen()
    silent = await services.runs.send(BEN, None, "Say nothing.", mute.chat_agent)
    await soon(mute.asked.get())
    run = await services.runs.send(ANNA, None, "Say all.", pen.chat_agent)
    pen.end("One, ", "two, ", "three.")
    await done(run)
    assert text_of(run) == "One, two, three."
    assert not silent.done
    mute.end("Nothing.")
    await done(silent)


async def test_a_model_is_given_the_newest_messages_and_all_are_kept(path: Path, pen: Pen) -> None:
    async with open_services(Settings(database=path, history=4)) as services:
        run = None
        for number in range(8):
            pen.end(f"answer {number}")
            run = await answer(services, pen.chat_agent, f"prompt {number}", run and run.conversation_id)
        given = [texts(await pen.asked.get()) for _ in range(8)]
        assert run is not None
        assert given[0] == ["prompt 0"]
        # Once twice as much has come together as it is given, only that much is read again.
        assert all(4 <= len(messages) <= 10 for messages in given[2:])
        assert [messages[-1] for messages in given] == [f"prompt {number}" for number in range(8)]
        assert len(await stored(services, run.conversation_id)) == 16


async def test_a_system_prompt_is_given_with_each_reply(services: Services, pen: Pen) -> None:
    agent = Agent(pen.agent.model, system_prompt="Be kind.")
    run = None
    for _ in range(2):
        pen.end("Hello.")
        run = await answer(services, ChatAgent(agent, (ChatModel("pen"),)), "hello", run and run.conversation_id)
        first, *_ = (await pen.asked.get())[0].parts
        assert isinstance(first, SystemPromptPart)
        assert first.content == "Be kind."


async def test_whoever_stops_watching_changes_nothing_for_the_run(services: Services, pen: Pen) -> None:
    run = await services.runs.send(ANNA, None, "hello", pen.chat_agent)
    watching = asyncio.create_task(shown(services, run.conversation_id))
    pen.write("one ")
    await until(run, lambda: text_of(run) == "one ")
    watching.cancel()
    await asyncio.wait({watching})
    pen.end("two")
    await done(run)
    assert await stored(services, run.conversation_id) == ["hello", "one two"]


async def test_whoever_stops_watching_at_the_moment_of_news_is_gone(
    services: Services, pen: Pen, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(view_module, "PAINT_SECONDS", 0)
    run = await services.runs.send(ANNA, None, "hello", pen.chat_agent)
    await soon(pen.asked.get())
    for rounds in range(10):  # Of the event loop, between the news and the end of the watch.
        async with aclosing(watch(services, ANNA, run.conversation_id)) as views:
            await anext(views)
            watching = asyncio.create_task(anext(views))  # pyright: ignore
            for _ in range(10):
                await asyncio.sleep(0)
            run.touch()
            for _ in range(rounds):
                await asyncio.sleep(0)
            if watching.cancel():
                await asyncio.wait({watching}, timeout=PATIENCE)
                assert watching.cancelled()
    pen.end()
    await done(run)


async def test_a_sender_who_goes_away_leaves_a_prompt_that_is_answered(services: Services, pen: Pen) -> None:
    await services.store.save(Conversation(conversation_id="c"), scope=ANNA)
    sending = asyncio.create_task(services.runs.send(ANNA, "c", "hello", pen.chat_agent))
    await asyncio.sleep(0)
    sending.cancel()
    await soon(pen.asked.get())
    run = services.runs.of(ANNA, "c")
    assert run is not None
    pen.end("Hi.")
    await done(run)
    assert sending.cancelled()
    assert await stored(services, "c") == ["hello", "Hi."]


async def test_a_view_of_a_conversation_whose_next_prompt_is_being_stored_never_lacks_that_prompt(
    services: Services, pen: Pen, monkeypatch: pytest.MonkeyPatch
) -> None:
    pen.end("Hi.")
    run = await answer(services, pen.chat_agent, "hello")
    storing, go_on = asyncio.Event(), asyncio.Event()
    save = services.store.save

    async def slow_save(*arguments: Any, **options: Any) -> Any:
        storing.set()
        await go_on.wait()
        return await save(*arguments, **options)

    monkeypatch.setattr(services.store, "save", slow_save)
    sending = asyncio.create_task(services.runs.send(ANNA, run.conversation_id, "again", pen.chat_agent))
    await storing.wait()
    view = await anext(watch(services, ANNA, run.conversation_id))
    assert view.phase == "idle"
    go_on.set()
    second = await sending
    pen.write("Hi ")
    await until(second, lambda: text_of(second) == "Hi ")
    view = await anext(watch(services, ANNA, run.conversation_id))
    assert view.phase == "writing"
    assert [message["content"][0]["text"] for message in view.messages] == ["hello", "Hi.", "again", "Hi "]
    pen.end("again.")
    await done(second)


# Stop


async def test_stop_closes_the_providers_connection_keeps_the_text_and_the_next_message_works(
    services: Services, provider: Provider, online: ChatAgent, caplog: pytest.LogCaptureFixture
) -> None:
    run = await services.runs.send(ANNA, None, "steady", online)
    await until(run, lambda: "word3" in text_of(run))
    run.stop()
    await done(run)
    assert caplog.text == ""  # Where it would say that the run had to be left behind.
    seen = text_of(run)
    assert await asyncio.to_thread(provider.answered("steady").left.wait, PATIENCE)
    assert await stored(services, run.conversation_id) == ["steady", seen]
    assert await outcome(services, run) == STOPPED
    view = await shown(services, run.conversation_id)
    assert view.messages[-1]["content"][0]["text"] == "*Stopped.*"
    assert options(view) == ["retry", "continue"]
    await answer(services, online, "echo still here", run.conversation_id)
    assert await stored(services, run.conversation_id) == ["steady", seen, "echo still here", "still here"]


async def test_stop_before_the_first_word_closes_the_connection_too(
    services: Services, provider: Provider, online: ChatAgent
) -> None:
    provider.asked.queue.clear()
    run = await services.runs.send(ANNA, None, "hang", online)
    exchange = await asyncio.to_thread(provider.asked.get, timeout=PATIENCE)
    run.stop()
    await done(run)
    assert await asyncio.to_thread(exchange.left.wait, PATIENCE)
    assert await outcome(services, run) == STOPPED
    assert options(await shown(services, run.conversation_id))[0] == "retry"
    await answer(services, online, "echo still here", run.conversation_id)
    assert (await stored(services, run.conversation_id))[-1] == "still here"


async def test_stop_between_two_calls_of_the_model_keeps_the_tools_result(services: Services, pen: Pen) -> None:
    @pen.agent.tool_plain
    async def look() -> str:
        return "blue"

    run = await services.runs.send(ANNA, None, "sky?", pen.chat_agent)
    pen.end(DeltaToolCalls("look"))
    await soon(pen.asked.get())
    await soon(pen.asked.get())
    run.stop()
    await done(run)
    messages = [entry.message for entry in await services.store.load_entries(run.conversation_id, scope=ANNA) or []]
    assert [part.content for part in tool_returns(messages)] == ["blue"]
    pen.end("Fine.")
    await answer(services, pen.chat_agent, "go on", run.conversation_id)
    assert (await stored(services, run.conversation_id))[-1] == "Fine."


async def test_stop_after_the_end_changes_nothing(services: Services, pen: Pen) -> None:
    pen.end("Hi.")
    run = await answer(services, pen.chat_agent, "hello")
    run.stop()
    assert await stored(services, run.conversation_id) == ["hello", "Hi."]
    assert await outcome(services, run) is None


# Failures

FAILURES = {
    "unauthorized": ("", "The model's provider did not accept this chat's key."),
    "no such model": ("", "The model's provider does not have the model that this chat asks for."),
    "rate limited": ("", "The model is asked too much at the moment. Try again in 7 seconds."),
    "server error": ("", "The model's provider has a problem. Try again in a minute."),
    "too long": ("", "This conversation has become too long for the model. Start a new chat."),
    "reset": (HERE, "The connection to the model was lost."),
    "filtered": (HERE, "The model's provider refused to answer this because of its content."),
    "malformed": (HERE, "The model answered in a form that the agent can't use."),
}
"""What is kept of a reply that a provider's fault ends, and the sentence that is shown."""


async def check_failed(services: Services, run: Run, agent: ChatAgent, partial: str, sentence: str) -> None:
    """The turn ended with a sentence, keeps its text, can be retried, and the next one is accepted by the model."""
    prompt, *reply = await stored(services, run.conversation_id)
    assert reply == ([partial] if partial else [])
    assert await outcome(services, run) == Outcome("failed", sentence)
    view = await shown(services, run.conversation_id)
    assert view.messages[-1]["content"][0]["text"] == f"*{sentence}*"
    assert options(view)[0] == "retry"
    await answer(services, agent, "echo still here", run.conversation_id)
    assert await stored(services, run.conversation_id) == [prompt, *reply, "echo still here", "still here"]
    assert options(await shown(services, run.conversation_id)) == []


@pytest.mark.parametrize("fault", FAILURES)
async def test_a_providers_fault_is_one_sentence_and_the_conversation_goes_on(
    services: Services, online: ChatAgent, fault: str, caplog: pytest.LogCaptureFixture
) -> None:
    run = await answer(services, online, fault)
    await check_failed(services, run, online, *FAILURES[fault])
    assert run.conversation_id in caplog.text


@pytest.mark.parametrize(("fault", "partial"), [("hang", ""), ("stall", HERE)])
async def test_a_model_call_that_hangs_ends_at_the_time_limit(
    path: Path, provider: Provider, online: ChatAgent, fault: str, partial: str
) -> None:
    async with open_services(settings(path, timeout=LIMIT)) as services:
        run = await answer(services, online, fault)
        assert await asyncio.to_thread(provider.answered(fault).left.wait, PATIENCE)
        sentence = f"This reply took longer than {LIMIT} seconds and was ended."
        await check_failed(services, run, online, partial, sentence)


async def test_a_provider_that_nobody_listens_at_is_one_sentence(services: Services) -> None:
    async with AsyncOpenAI(base_url="http://127.0.0.1:9/v1", api_key=KEY, max_retries=0) as client:
        model = OpenAIChatModel("test", provider=OpenAIProvider(openai_client=client))
        run = await answer(services, ChatAgent(Agent(model), (ChatModel("test"),)), "hello")
    assert await outcome(services, run) == Outcome("failed", "The connection to the model was lost.")


async def test_a_key_that_is_refused_never_reaches_the_visitor(services: Services, provider: Provider) -> None:
    async with AsyncOpenAI(base_url=provider.url, api_key="sk-another-secret") as client:
        model = OpenAIChatModel("test", provider=OpenAIProvider(openai_client=client))
        run = await answer(services, ChatAgent(Agent(model), (ChatModel("test"),)), "hello")
    assert await outcome(services, run) == Outcome("failed", FAILURES["unauthorized"][1])
    assert "secret" not in json.dumps((await shown(services, run.conversation_id)).messages)


async def test_a_tool_that_raises_is_one_sentence_and_the_conversation_goes_on(
    services: Services, online: ChatAgent
) -> None:
    @online.agent.tool_plain  # pyright: ignore
    def explode() -> str:
        raise ValueError("the password is secret")

    run = await answer(services, online, "call explode {}")
    await check_failed(services, run, online, HERE, "The agent ran into a problem (ValueError).")


async def test_a_tool_that_hangs_ends_at_the_time_limit(path: Path, online: ChatAgent) -> None:
    @online.agent.tool_plain  # pyright: ignore
    async def wait() -> str:
        return await asyncio.get_running_loop().create_future()

    async with open_services(settings(path, timeout=LIMIT)) as services:
        run = await answer(services, online, "call wait {}")
        await check_failed(services, run, online, HERE, f"This reply took longer than {LIMIT} seconds and was ended.")


@pytest.mark.usefixtures("impatient")
async def test_a_tool_that_blocks_its_thread_ends_at_the_time_limit_too(path: Path, online: ChatAgent) -> None:
    released, before = threading.Event(), asyncio.all_tasks()

    @online.agent.tool_plain  # pyright: ignore
    def block() -> str:
        released.wait(3 * PATIENCE)
        return "too late"

    async with open_services(settings(path, timeout=LIMIT)) as services:
        run = await answer(services, online, "call block {}")
        await check_failed(services, run, online, HERE, f"This reply took longer than {LIMIT} seconds and was ended.")
        released.set()
        await ended(before)
        assert "too late" not in repr(await services.store.load_entries(run.conversation_id))


@pytest.mark.usefixtures("impatient")
async def test_a_tool_that_will_not_be_cancelled_is_left_behind_at_the_time_limit(
    path: Path, online: ChatAgent, caplog: pytest.LogCaptureFixture
) -> None:
    released, before = asyncio.Event(), asyncio.all_tasks()

    @online.agent.tool_plain  # pyright: ignore
    async def insist() -> str:
        while not released.is_set():
            with suppress(asyncio.CancelledError):
                await released.wait()
        return "too late"

    async with open_services(settings(path, timeout=LIMIT)) as services:
        run = await answer(services, online, "call insist {}")
        await check_failed(services, run, online, HERE, f"This reply took longer than {LIMIT} seconds and was ended.")
        assert "left behind" in caplog.text
        released.set()
        await ended(before)
        assert "too late" not in repr(await services.store.load_entries(run.conversation_id))


async def test_a_usage_limit_that_is_reached_is_one_sentence(services: Services, model: OpenAIChatModel) -> None:
    agent = ChatAgent(LimitedAgent(model), (ChatModel("test"),))

    @agent.agent.tool_plain  # pyright: ignore
    async def look() -> str:
        return "blue"

    run = await answer(services, agent, "call look {}")
    await check_failed(
        services, run, agent, HERE, "This reply has reached the limit that is set for its use of the model."
    )


class LimitedAgent(Agent[None, str]):
    """Asks its model once in a run."""

    def run_stream_events(self, *arguments: Any, **options: Any) -> Any:
        return super().run_stream_events(*arguments, usage_limits=UsageLimits(request_limit=1), **options)


async def test_a_reply_that_the_provider_cut_in_the_middle_of_a_tool_call_is_followed_by_a_valid_history(
    services: Services, pen: Pen
) -> None:
    pen.write("I will ", {1: DeltaToolCall(name="look", json_args='{"at": "th', tool_call_id="call-1")})
    pen.write(ConnectionResetError())
    run = await answer(services, pen.chat_agent, "sky?")
    assert await stored(services, run.conversation_id) == ["sky?", "I will "]
    pen.end("Fine.")
    await answer(services, pen.chat_agent, "go on", run.conversation_id)
    await pen.asked.get()
    assert unanswered(await pen.asked.get()) == set()


async def test_a_reply_that_can_not_be_stored_is_one_sentence_and_keeps_other_runs_checkpoints(
    services: Services, path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    checkpoints, bad, good = Checkpoints(monkeypatch), Pen(), Pen()
    other = await services.runs.send(ANNA, None, "hello", good.chat_agent)
    run = await services.runs.send(ANNA, None, "hello", bad.chat_agent)
    bad.write("half a pair: \ud83d")
    await until(run, lambda: text_of(run) != "")
    good.write("kept ")
    await checkpoints.hold(services, "kept")
    good.write("on")
    await checkpoints.hold(services, "kept on")
    bad.end()
    await done(run)
    assert await outcome(services, run) == Outcome("failed", "The reply holds something that can't be stored.")
    good.end()
    await done(other)
    assert await stored(services, other.conversation_id) == ["hello", "kept on"]
    assert checkpoints_left(path) == 0


async def test_what_comes_before_something_that_can_not_be_stored_is_kept(services: Services, pen: Pen) -> None:
    @pen.agent.tool_plain
    async def look() -> object:
        return {"a thing": object()}

    pen.end("Let me see. ", DeltaToolCalls("look"))
    run = await answer(services, pen.chat_agent, "hello")
    assert await stored(services, run.conversation_id) == ["hello", "Let me see. "]
    assert await outcome(services, run) == Outcome("failed", "The reply holds something that can't be stored.")
    pen.end("Fine.")
    await answer(services, pen.chat_agent, "go on", run.conversation_id)
    assert await stored(services, run.conversation_id) == ["hello", "Let me see. ", "go on", "Fine."]


def DeltaToolCalls(*names: str) -> dict[int, DeltaToolCall]:  # noqa: N802  # Reads as what the model sends.
    """Calls of tools without arguments, as a model sends them."""
    return {
        index: DeltaToolCall(name=name, json_args="{}", tool_call_id=f"call of {name}")
        for index, name in enumerate(names, start=1)
    }


def tool_returns(messages: Sequence[ModelMessage]) -> list[ToolReturnPart]:
    return [part for message in messages for part in message.parts if isinstance(part, ToolReturnPart)]


def unanswered(messages: Sequence[ModelMessage]) -> set[str]:
    """The tool calls without a result."""
    calls = {part.tool_call_id for message in messages for part in message.parts if isinstance(part, ToolCallPart)}
    return calls - {part.tool_call_id for part in tool_returns(messages)}


# Two at once


async def test_of_two_senders_at_once_one_is_answered_and_the_others_prompt_is_not_stored(
    services: Services, pen: Pen
) -> None:
    pen.end("Hi.")
    first = await answer(services, pen.chat_agent, "hello")
    c = first.conversation_id
    for number in range(10):
        prompts = [f"{number} from one tab", f"{number} from the other"]
        results = await asyncio.gather(
            *(services.runs.send(ANNA, c, prompt, pen.chat_agent) for prompt in prompts),
            services.runs.retry(ANNA, c, pen.chat_agent),
            return_exceptions=True,
        )
        [run] = [result for result in results if isinstance(result, Run)]
        assert [type(result) for result in results].count(ConversationBusy) == 2
        pen.end("Yes.")
        await done(run)
    said = await stored(services, c)
    assert said == ["hello", "Hi.", *(text for n in range(10) for text in (f"{n} from one tab", "Yes."))]


async def test_two_retries_at_once_run_once(services: Services, pen: Pen) -> None:
    pen.end("Hi.")
    first = await answer(services, pen.chat_agent, "hello")
    retries = [services.runs.retry(ANNA, first.conversation_id, pen.chat_agent) for _ in range(2)]
    run, busy = await asyncio.gather(*retries, return_exceptions=True)
    assert isinstance(run, Run)
    assert isinstance(busy, ConversationBusy)
    pen.end("Hello.")
    await done(run)
    assert await stored(services, first.conversation_id) == ["hello", "Hello."]


async def test_retry_answers_the_newest_prompt_again_and_keeps_the_old_reply_as_a_branch(
    services: Services, pen: Pen
) -> None:
    pen.end("Hi.")
    first = await answer(services, pen.chat_agent, "hello")
    c = first.conversation_id
    pen.end("Bad.")
    await answer(services, pen.chat_agent, "how are you?", c)
    for reply in ("Good.", "Better."):
        pen.end(reply)
        await done(await services.runs.retry(ANNA, c, pen.chat_agent))
        assert await stored(services, c) == ["hello", "Hi.", "how are you?", reply]
    record = await services.store.read_record(c)
    assert record is not None
    branches = [texts([e.message for e in await services.store.read_history(tip)]) for tip in record.branches]
    assert branches == [["hello", "Hi.", "how are you?", reply] for reply in ("Bad.", "Good.")]


async def test_retry_after_a_failure_clears_its_sentence(services: Services, pen: Pen) -> None:
    pen.write("This ", RuntimeError())
    failed = await answer(services, pen.chat_agent, "hello")
    pen.end("Hi.")
    run = await services.runs.retry(ANNA, failed.conversation_id, pen.chat_agent)
    await done(run)
    assert await outcome(services, run) is None
    assert await stored(services, failed.conversation_id) == ["hello", "Hi."]


async def test_a_conversation_without_a_prompt_can_not_be_retried(services: Services, pen: Pen) -> None:
    await services.store.save(Conversation(conversation_id="empty"), scope=ANNA)
    for conversation_id in ("empty", "missing"):
        with pytest.raises(ConversationMissing):
            await services.runs.retry(ANNA, conversation_id, pen.chat_agent)
    assert services.runs.writing(ANNA) == set()


async def add_turn(path: Path, conversation_id: str, *said: str) -> None:
    """Another program that uses the same file adds a prompt and a reply."""
    async with SQLiteConversationStore(path) as store:
        conversation = await store.load(conversation_id, scope=ANNA)
        assert conversation is not None
        prompt, reply = said
        conversation.messages.append(ModelRequest(parts=[UserPromptPart(prompt)]))
        conversation.messages.append(ModelResponse(parts=[TextPart(reply)]))
        await store.save(conversation, scope=ANNA)


async def test_a_reply_is_put_after_what_another_program_stored_meanwhile(
    services: Services, pen: Pen, path: Path
) -> None:
    run = await services.runs.send(ANNA, None, "hello", pen.chat_agent)
    pen.write("Hi ")
    await until(run, lambda: text_of(run) == "Hi ")
    await add_turn(path, run.conversation_id, "from a script", "to a script")
    pen.end("there.")
    await done(run)
    assert await stored(services, run.conversation_id) == ["hello", "from a script", "to a script", "Hi there."]
    assert await outcome(services, run) == Outcome(
        "interrupted", "This conversation was also changed elsewhere meanwhile."
    )
    pen.end("Fine.")
    await answer(services, pen.chat_agent, "go on", run.conversation_id)
    assert (await stored(services, run.conversation_id))[-2:] == ["go on", "Fine."]


async def test_a_reply_that_was_put_there_is_not_put_there_again_when_clearing_up_fails(
    services: Services, pen: Pen, path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    finish = Journal.finish

    async def fail_once(*arguments: Any, **options: Any) -> None:
        monkeypatch.setattr(Journal, "finish", finish)
        raise DatabaseUnavailable("The disk is full.")

    monkeypatch.setattr(runs_module, "SAVE_RETRY_SECONDS", (0,))
    run = await services.runs.send(ANNA, None, "hello", pen.chat_agent)
    pen.write("Hi.")
    await until(run, lambda: text_of(run) == "Hi.")
    await add_turn(path, run.conversation_id, "from a script", "to a script")
    monkeypatch.setattr(Journal, "finish", fail_once)
    pen.end()
    await done(run)
    assert await stored(services, run.conversation_id) == ["hello", "from a script", "to a script", "Hi."]


async def test_a_prompt_is_put_after_what_another_program_stores_at_the_same_moment(
    services: Services, pen: Pen, path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    pen.end("Hi.")
    first = await answer(services, pen.chat_agent, "hello")
    save = services.store.save

    async def late_save(*arguments: Any, **options: Any) -> Any:
        monkeypatch.setattr(services.store, "save", save)
        await add_turn(path, first.conversation_id, "from a script", "to a script")
        return await save(*arguments, **options)

    monkeypatch.setattr(services.store, "save", late_save)
    pen.end("Fine.")
    await answer(services, pen.chat_agent, "how are you?", first.conversation_id)
    said = ["hello", "Hi.", "from a script", "to a script", "how are you?", "Fine."]
    assert await stored(services, first.conversation_id) == said
    assert texts(pen.asked.get_nowait()) == ["hello"]
    assert texts(pen.asked.get_nowait()) == said[:-1]


async def test_a_reply_whose_conversation_was_deleted_meanwhile_ends_without_a_trace(
    services: Services, pen: Pen, path: Path
) -> None:
    run = await services.runs.send(ANNA, None, "hello", pen.chat_agent)
    pen.write("Hi ")
    await until(run, lambda: text_of(run) == "Hi ")
    await services.store.delete(run.conversation_id, scope=ANNA)
    pen.end("there.")
    await done(run)
    assert await services.store.load(run.conversation_id) is None
    assert checkpoints_left(path) == 0


# While the database can't be written


@contextmanager
def locked(path: Path) -> Iterator[None]:
    """Another program holds the file."""
    other = sqlite3.connect(path, isolation_level=None)
    other.execute("BEGIN EXCLUSIVE")
    try:
        yield
    finally:
        other.close()


@asynccontextmanager
async def pragma(services: Services, broken: str, whole: str) -> AsyncIterator[None]:
    writer = services.store.database._writer
    assert writer is not None
    await writer.execute(f"PRAGMA {broken}")
    try:
        yield
    finally:
        await writer.execute(f"PRAGMA {whole}")


@asynccontextmanager
async def locked_by_another(path: Path) -> AsyncIterator[None]:
    with locked(path):
        yield


TROUBLES: dict[str, tuple[Callable[[Path, Services], Any], str]] = {
    "locked": (lambda path, services: locked_by_another(path), "is locked by another program"),
    "full": (lambda path, services: pragma(services, "max_page_count = 1", "max_page_count = 1000000"), "is full"),
    "read-only": (lambda path, services: pragma(services, "query_only = ON", "query_only = OFF"), "Make it writable"),
}


@pytest.mark.usefixtures("impatient")
@pytest.mark.parametrize("trouble", TROUBLES)
async def test_a_reply_goes_on_while_the_database_can_not_be_written_says_so_and_is_saved_when_it_can(
    path: Path, pen: Pen, trouble: str
) -> None:
    breaking, sentence = TROUBLES[trouble]
    async with open_services(settings(path)) as services:
        pen.end("Before.")
        before = await answer(services, pen.chat_agent, "an older one")
        run = await services.runs.send(ANNA, None, "hello", pen.chat_agent)
        async with breaking(path, services):
            pen.write("Hi ", "x" * 100_000)
            await until(run, lambda: run.trouble is not None)
            assert sentence in str(run.trouble)
            pen.write("there. ")
            await until(run, lambda: text_of(run).endswith("there. "))
            view = await anext(watch(services, ANNA, run.conversation_id))
            assert view.phase == "writing"
            assert view.notice == f"Not saved yet: {run.trouble} Saving is tried again until it works."
            pen.end("Bye.")
            await until(run, lambda: run.state == "saving")
            view = await anext(watch(services, ANNA, run.conversation_id))
            assert view.phase == "saving"
            assert view.notice.startswith("Not saved yet")
            assert view.messages[-1]["content"][0]["text"].endswith("there. Bye.")
            assert await stored(services, run.conversation_id) == ["hello"]
        await done(run)
        assert run.trouble is None
        assert await stored(services, run.conversation_id) == ["hello", f"Hi {'x' * 100_000}there. Bye."]
        assert await stored(services, before.conversation_id) == ["an older one", "Before."]
        assert (await shown(services, run.conversation_id)).notice == ""
    with sqlite3.connect(path) as connection:
        assert connection.execute("PRAGMA integrity_check").fetchall() == [("ok",)]
    connection.close()
    assert checkpoints_left(path) == 0


@pytest.mark.usefixtures("impatient")
async def test_the_notice_goes_when_the_database_can_be_written_again_while_the_reply_is_written(
    path: Path, pen: Pen
) -> None:
    async with open_services(settings(path)) as services:
        run = await services.runs.send(ANNA, None, "hello", pen.chat_agent)
        with locked(path):
            pen.write("Hi ")
            await until(run, lambda: run.trouble is not None)
        await until(run, lambda: run.trouble is None)
        assert run.state == "writing"
        pen.end("there.")
        await done(run)
        assert await stored(services, run.conversation_id) == ["hello", "Hi there."]


@pytest.mark.usefixtures("impatient")
async def test_a_prompt_that_can_not_be_stored_is_refused_and_not_answered(path: Path, pen: Pen) -> None:
    async with open_services(settings(path)) as services:
        pen.end("Hi.")
        first = await answer(services, pen.chat_agent, "hello")
        with locked(path), pytest.raises(DatabaseUnavailable, match="locked"):
            await services.runs.send(ANNA, first.conversation_id, "lost?", pen.chat_agent)
        assert pen.asked.qsize() == 1
        assert services.runs.writing(ANNA) == set()
        pen.end("Fine.")
        await answer(services, pen.chat_agent, "again", first.conversation_id)
        assert await stored(services, first.conversation_id) == ["hello", "Hi.", "again", "Fine."]


async def test_a_reply_that_waits_to_be_saved_is_saved_at_the_end_when_the_database_can_be_written_again(
    path: Path, pen: Pen, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(database_module, "BUSY_SECONDS", 0.02)
    monkeypatch.setattr(runs_module, "SAVE_RETRY_SECONDS", (600,))
    async with open_services(settings(path)) as services:
        run = await services.runs.send(ANNA, None, "hello", pen.chat_agent)
        with locked(path):
            pen.end("Hi.")
            await until(run, lambda: run.state == "saving" and run.trouble is not None)
    async with open_services(settings(path)) as services:
        assert await stored(services, run.conversation_id) == ["hello", "Hi."]
        assert await outcome(services, run) is None


@pytest.mark.usefixtures("impatient")
async def test_what_can_not_be_saved_at_the_end_is_recovered_from_its_checkpoints(
    path: Path, pen: Pen, monkeypatch: pytest.MonkeyPatch
) -> None:
    checkpoints = Checkpoints(monkeypatch)
    async with open_services(settings(path)) as services:
        run = await services.runs.send(ANNA, None, "hello", pen.chat_agent)
        pen.write("Hi ")
        await checkpoints.hold(services, "Hi ")
        with locked(path):
            await services.end_runs()
    async with open_services(settings(path)) as services:
        assert await stored(services, run.conversation_id) == ["hello", "Hi "]
        assert await outcome(services, run) == INTERRUPTED


# Waiting in line


async def test_more_runs_than_allowed_wait_in_line_in_order_and_show_their_place(path: Path) -> None:
    pens = [Pen() for _ in range(5)]

    @pens[2].agent.instructions
    def never() -> str:
        raise AssertionError("The agent of a run that was stopped in line was run.")

    async with open_services(settings(path, max_runs=2)) as services:
        runs = [await services.runs.send(ANNA, None, f"prompt {n}", pen.chat_agent) for n, pen in enumerate(pens)]
        for run in runs[:2]:
            await until(run, lambda run=run: run.state == "writing")
        for run in runs[2:]:
            await until(run, lambda run=run: run.place > 0)
        assert [(run.state, run.place) for run in runs[2:]] == [("waiting", 1), ("waiting", 2), ("waiting", 3)]
        view = await anext(watch(services, ANNA, runs[3].conversation_id))
        assert view.phase == "waiting"
        assert view.notice == "Waiting for a free place: number 2 in line."
        assert [message["content"][0]["text"] for message in view.messages] == ["prompt 3"]

        runs[2].stop()
        await done(runs[2])
        assert await outcome(services, runs[2]) == STOPPED
        assert [run.place for run in runs[3:]] == [1, 2]

        for served in (3, 4):
            assert pens[served].asked.empty()
            ending = {3: 1, 4: 0}[served]
            pens[ending].end("Done.")
            await done(runs[ending])
            await soon(pens[served].asked.get())
        for number in (3, 4):
            pens[number].end("Done.")
            await done(runs[number])
            assert await stored(services, runs[number].conversation_id) == [f"prompt {number}", "Done."]


async def test_one_who_waits_in_line_when_the_server_ends_is_never_asked_and_can_be_retried(path: Path) -> None:
    first, second = Pen(), Pen()
    async with open_services(settings(path, max_runs=1)) as services:
        await services.runs.send(ANNA, None, "hello", first.chat_agent)
        await soon(first.asked.get())
        waiting = await services.runs.send(ANNA, None, "me too", second.chat_agent)
    assert second.asked.empty()
    async with open_services(settings(path)) as services:
        view = await shown(services, waiting.conversation_id)
        assert options(view) == ["retry"]
        second.end("Here you are.")
        await done(await services.runs.retry(ANNA, waiting.conversation_id, second.chat_agent))
        assert await stored(services, waiting.conversation_id) == ["me too", "Here you are."]


# What is left


async def test_finished_runs_leave_nothing_behind(
    services: Services, pen: Pen, path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    # pytest keeps all that is logged, and with an error its frames.
    monkeypatch.setattr(runs_module, "log_failure", lambda *arguments: None)
    before = asyncio.all_tasks()

    async def a_turn(*pieces: Any) -> weakref.ref[Run]:
        pen.write(*pieces)
        run = await services.runs.send(ANNA, None, "hello", pen.chat_agent)
        async with aclosing(watch(services, ANNA, run.conversation_id)) as views:
            await anext(views)
        if not pieces:
            await soon(pen.asked.get())
            run.stop()
        await done(run)
        return weakref.ref(run)

    left = [await a_turn("Hi.", _END), await a_turn("Hi ", RuntimeError()), await a_turn()]
    await ended(before)
    gc.collect()
    assert [reference() for reference in left] == [None, None, None]
    assert services.runs.writing(ANNA) == set()
    assert checkpoints_left(path) == 0


async def test_a_finished_run_goes_without_a_search_for_garbage(services: Services, pen: Pen) -> None:
    before = asyncio.all_tasks()
    gc.disable()  # It is rare while the chat serves, and a reply can be large.
    try:
        pen.end("Hi.")
        left = weakref.ref(await answer(services, pen.chat_agent, "hello"))
        await ended(before)
        assert left() is None
    finally:
        gc.enable()


async def test_the_end_of_the_server_saves_what_is_being_written(
    path: Path, provider: Provider, online: ChatAgent, pen: Pen
) -> None:
    async with open_services(settings(path)) as services:
        remote = await services.runs.send(ANNA, None, "steady", online)
        run = await services.runs.send(ANNA, None, "hello", pen.chat_agent)
        pen.write("Hi ")
        await until(run, lambda: text_of(run) == "Hi ")
        await until(remote, lambda: "word3" in text_of(remote))
        await services.end_runs()
        with pytest.raises(ShuttingDown):
            await services.runs.send(ANNA, None, "one more", pen.chat_agent)
    assert await asyncio.to_thread(provider.answered("steady").left.wait, PATIENCE)
    assert checkpoints_left(path) == 0
    async with open_services(settings(path)) as services:
        assert await stored(services, run.conversation_id) == ["hello", "Hi "]
        prompt, reply = await stored(services, remote.conversation_id)
        assert prompt == "steady"
        assert reply.startswith(text_of(remote))  # The model may have been a word ahead of what was shown.
        assert await outcome(services, run) == INTERRUPTED
        assert options(await shown(services, run.conversation_id)) == ["retry", "continue"]


@pytest.mark.usefixtures("impatient")
async def test_the_end_of_the_server_does_not_wait_for_a_tool_that_blocks_its_thread(path: Path, pen: Pen) -> None:
    blocking, released = threading.Event(), threading.Event()

    @pen.agent.tool_plain
    def block() -> None:
        blocking.set()
        released.wait(3 * PATIENCE)

    async with open_services(settings(path)) as services:
        run = await services.runs.send(ANNA, None, "hello", pen.chat_agent)
        pen.end("Let me see. ", DeltaToolCalls("block"))
        assert await asyncio.to_thread(blocking.wait, PATIENCE)
    assert not released.is_set()
    released.set()
    async with open_services(settings(path)) as services:
        assert await stored(services, run.conversation_id) == ["hello", "Let me see. "]
        assert await outcome(services, run) == INTERRUPTED


# After a kill


async def test_after_a_kill_the_partial_reply_is_there_and_the_conversation_goes_on(
    services: Services, pen: Pen, path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    checkpoints = Checkpoints(monkeypatch)
    run = await services.runs.send(ANNA, None, "hello", pen.chat_agent)
    pen.write({0: DeltaThinkingPart(content="hm ")}, "Hi ", "there")
    await checkpoints.hold(services, "Hi there")
    killed = as_if_killed(path)
    pen.end()
    await done(run)
    async with open_services(settings(killed)) as services:
        assert await stored(services, run.conversation_id) == ["hello", "hm Hi there"]
        view = await shown(services, run.conversation_id)
        assert view.messages[-1]["content"][0]["text"] == f"*{INTERRUPTED.sentence}*"
        assert options(view) == ["retry", "continue"]
        assert checkpoints_left(killed) == 0
        pen.end("Fine.")
        await answer(services, pen.chat_agent, "go on", run.conversation_id)
        assert await stored(services, run.conversation_id) == ["hello", "hm Hi there", "go on", "Fine."]
    async with open_services(settings(killed)) as services:
        assert await stored(services, run.conversation_id) == ["hello", "hm Hi there", "go on", "Fine."]


async def test_after_a_kill_before_the_first_word_the_prompt_is_there_and_can_be_answered(
    services: Services, pen: Pen, path: Path
) -> None:
    run = await services.runs.send(ANNA, None, "hello", pen.chat_agent)
    killed = as_if_killed(path)
    pen.end()
    await done(run)
    async with open_services(settings(killed)) as services:
        view = await shown(services, run.conversation_id)
        assert view.messages[-1]["content"][0]["text"] == f"*{UNANSWERED.sentence}*"
        assert options(view) == ["retry"]
        pen.end("Hi.")
        await done(await services.runs.retry(ANNA, run.conversation_id, pen.chat_agent))
        assert await stored(services, run.conversation_id) == ["hello", "Hi."]


async def test_after_a_kill_a_tools_result_is_kept_and_a_tool_that_was_running_is_not_run_again(
    services: Services, pen: Pen, path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    checkpoints, calls, release = Checkpoints(monkeypatch), list[str](), asyncio.Event()
    monkeypatch.setattr(runs_module, "CHECKPOINT_SECONDS", 600)  # A tool's result does not wait for its time.

    @pen.agent.tool_plain
    async def quick() -> str:
        calls.append("quick")
        return "the result"

    @pen.agent.tool_plain
    async def slow() -> str:
        calls.append("slow")
        await release.wait()
        return "never seen"

    run = await services.runs.send(ANNA, None, "hello", pen.chat_agent)
    pen.end("Let me see. ", DeltaToolCalls("quick", "slow"))
    await checkpoints.hold(services, "the result")
    killed = as_if_killed(path)
    release.set()
    pen.end()
    await done(run)
    async with open_services(settings(killed)) as services:
        messages = [entry.message for entry in await services.store.load_entries(run.conversation_id) or []]
        assert [part.content for part in tool_returns(messages)] == ["the result"]
        assert unanswered(messages) == {"call of slow"}
        blocks = [message for message in (await shown(services, run.conversation_id)).messages if message["metadata"]]
        by_title = {block["metadata"].get("title"): block for block in blocks}
        assert by_title["Tool: slow"]["metadata"].get("log") == "interrupted"
        assert "the result" in by_title["Tool: quick"]["content"][0]["text"]
        while not pen.asked.empty():
            pen.asked.get_nowait()
        pen.end("Fine.")
        await answer(services, pen.chat_agent, "go on", run.conversation_id)
        assert unanswered(pen.asked.get_nowait()) == set()
        assert (await stored(services, run.conversation_id))[-1] == "Fine."
    assert calls == ["quick", "slow"]


async def test_after_a_kill_between_saving_and_clearing_nothing_is_doubled(
    services: Services, pen: Pen, path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    checkpoints, killed = Checkpoints(monkeypatch), list[Path]()
    finish = Journal.finish

    async def kill_before_finish(*arguments: Any, **options: Any) -> None:
        killed.append(as_if_killed(path))
        await finish(*arguments, **options)

    run = await services.runs.send(ANNA, None, "hello", pen.chat_agent)
    pen.write("Hi ")
    await checkpoints.hold(services, "Hi ")
    monkeypatch.setattr(Journal, "finish", kill_before_finish)
    pen.end("there.")
    await done(run)
    monkeypatch.setattr(Journal, "finish", finish)
    assert checkpoints_left(killed[0]) > 0
    async with open_services(settings(killed[0])) as services:
        assert await stored(services, run.conversation_id) == ["hello", "Hi there."]
        assert await outcome(services, run) is None
        assert checkpoints_left(killed[0]) == 0


async def test_a_kill_in_the_middle_of_a_recovery_loses_and_doubles_nothing(
    services: Services, pen: Pen, path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    checkpoints, killed = Checkpoints(monkeypatch), list[Path]()
    finish = Journal.finish
    run = await services.runs.send(ANNA, None, "hello", pen.chat_agent)
    pen.write("Hi ")
    await checkpoints.hold(services, "Hi ")
    first = as_if_killed(path)

    async def kill_before_finish(*arguments: Any) -> None:
        killed.append(as_if_killed(first))
        await finish(*arguments)

    pen.end()
    await done(run)
    monkeypatch.setattr(Journal, "finish", kill_before_finish)
    async with open_services(settings(first)):
        pass
    monkeypatch.setattr(Journal, "finish", finish)
    async with open_services(settings(killed[0])) as services:
        assert await stored(services, run.conversation_id) == ["hello", "Hi "]
        assert await outcome(services, run) == INTERRUPTED


async def test_after_a_kill_a_partial_reply_is_put_after_what_another_program_stored(
    services: Services, pen: Pen, path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    checkpoints = Checkpoints(monkeypatch)
    run = await services.runs.send(ANNA, None, "hello", pen.chat_agent)
    pen.write("Hi ")
    await checkpoints.hold(services, "Hi ")
    await add_turn(path, run.conversation_id, "from a script", "to a script")
    killed = as_if_killed(path)
    pen.end()
    await done(run)
    async with open_services(settings(killed)) as services:
        assert await stored(services, run.conversation_id) == ["hello", "from a script", "to a script", "Hi "]


async def test_after_a_kill_a_conversation_that_was_deleted_stays_so(
    services: Services, pen: Pen, path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    checkpoints = Checkpoints(monkeypatch)
    run = await services.runs.send(ANNA, None, "hello", pen.chat_agent)
    pen.write("Hi ")
    await checkpoints.hold(services, "Hi ")
    await services.store.delete(run.conversation_id)
    killed = as_if_killed(path)
    pen.end()
    await done(run)
    async with open_services(settings(killed)) as services:
        assert await services.store.load(run.conversation_id) is None
        assert checkpoints_left(killed) == 0
