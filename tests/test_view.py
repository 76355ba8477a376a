"""What a page is shown of a conversation, and that it costs the same however long the conversation is."""

import asyncio
import re
from collections.abc import AsyncIterator, Awaitable
from dataclasses import replace
from inspect import isawaitable
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given
from hypothesis import settings as examples
from hypothesis import strategies as st
from pydantic_ai import Agent, ModelMessage, ModelRequest, ModelResponse, RunContext
from pydantic_ai.capabilities import AbstractCapability
from pydantic_ai.conversation import Conversation
from pydantic_ai.messages import BinaryContent, TextPart, UserPromptPart
from pydantic_ai.models import ModelRequestContext
from pydantic_ai.models.function import AgentInfo, FunctionModel

from chat import runs as runs_module
from chat.database import Database, Transaction
from chat.identity import Owner
from chat.models import ChatAgent, ChatModel
from chat.services import Services, open_services
from chat.settings import Settings
from chat.view import AROUND, LONGEST_ID, TURN, WIDEST, WINDOW, Span, View, conversation_id_from, watch
from tests.anything import ANYTHING, objects
from tests.long import turns

pytestmark = pytest.mark.anyio

ANNA, BEN = Owner("visitor:anna"), Owner("visitor:ben")
LENGTH = 2000


@pytest.fixture
async def services(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> AsyncIterator[Services]:
    # How often a reply is checkpointed depends on how long it takes; what a turn costs beside that does not.
    monkeypatch.setattr(runs_module, "CHECKPOINT_SECONDS", 3600)
    async with open_services(Settings(database=tmp_path / "chat.db")) as services:
        yield services


@pytest.fixture
def agent() -> ChatAgent:
    async def say(messages: list[ModelMessage], info: AgentInfo) -> AsyncIterator[str]:
        yield "An answer."

    short = Agent(FunctionModel(stream_function=say), name="short", system_prompt="A secret.", instructions=told)
    return ChatAgent(short, (ChatModel("short", own=True),))


def told(context: RunContext[Any]) -> str:
    """Instructions that the second turn changes."""
    return f"Be brief, {'twice' if len(context.messages) > 1 else 'once'}."


class Work:
    """What the database is asked, as long as it is counted."""

    def __init__(self, monkeypatch: pytest.MonkeyPatch) -> None:
        self.statements: list[str] = []
        self.rows = 0
        for kind, name in ((Database, "rows"), (Transaction, "rows"), (Transaction, "execute")):
            monkeypatch.setattr(kind, name, self._counted(getattr(kind, name)))

    def reset(self) -> None:
        self.statements, self.rows = [], 0

    def _counted(self, call: Any) -> Any:
        def counted(database: Any, sql: str, *parameters: Any) -> Any:
            self.statements.append(re.sub(r"\s+", " ", sql).strip())
            answer = call(database, sql, *parameters)
            return waited(answer) if isawaitable(answer) else self._count(answer)

        async def waited(answer: Awaitable[Any]) -> Any:
            return self._count(await answer)

        return counted

    def _count(self, answer: Any) -> Any:
        self.rows += len(answer) if isinstance(answer, list) else 0
        return answer


async def conversation_of(services: Services, length: int, owner: Owner = ANNA) -> str:
    """A conversation with so many messages."""
    conversation = Conversation(messages=turns(0, length // 2))
    await services.store.save(conversation, scope=owner)
    return conversation.conversation_id


async def shown(services: Services, conversation_id: str, span: Any = None) -> View:
    return [view async for view in watch(services, ANNA, conversation_id, Span.from_page(span))][-1]


async def answered(services: Services, conversation_id: str, agent: ChatAgent) -> None:
    await services.runs.send(ANNA, conversation_id, "And now?", agent)
    await ended(services, conversation_id)


async def ended(services: Services, conversation_id: str) -> None:
    """Wait until no reply is being written in it."""
    while (run := services.runs.of(ANNA, conversation_id)) is not None:
        await run.after(run.version)


def texts(view: View) -> list[str]:
    return [message["content"][0]["text"].split("\n")[0] for message in view.messages]


async def test_the_newest_messages_are_shown_first(services: Services) -> None:
    view = await shown(services, await conversation_of(services, LENGTH))
    assert len(view.messages) == WINDOW
    assert texts(view)[-2:] == ["prompt 999", "reply 999"]
    assert (view.first, view.last) == (LENGTH - WINDOW, None)


@pytest.mark.parametrize(
    ("span", "first", "last"),
    [
        ({"first": 1900}, 1900, None),
        ({"first": 100, "last": 139}, 100, 139),
        ({"first": 0, "last": 39}, 0, 39),
        ({"last": 139}, 130, 139),
        ({"first": 1990, "last": 5000}, 1990, None),
        ({"first": 0}, LENGTH - WIDEST, None),
        ({"first": 0, "last": 1000}, 0, WIDEST - 1),
        ({"first": -5, "last": 9}, 0, 9),
        ({"first": 101, "last": 140}, 102, 140),
        ({"first": 10, "last": 10}, 10, 10),
    ],
)
async def test_any_part_can_be_asked_for_and_begins_with_a_prompt(
    services: Services, span: dict[str, int], first: int, last: int | None
) -> None:
    view = await shown(services, await conversation_of(services, LENGTH), span)
    end = LENGTH - 1 if last is None else last
    said = [f"{kind} {number}" for number in range(LENGTH // 2) for kind in ("prompt", "reply")]
    assert texts(view) == said[first : end + 1]
    assert (view.first, view.last) == (first, last)
    assert list(view.counts) == [1] * (end - first + 1)


async def test_a_part_can_be_asked_for_around_a_message(services: Services) -> None:
    conversation_id = await conversation_of(services, LENGTH)
    entries = await services.store.load_entries(conversation_id) or []
    view = await shown(services, conversation_id, {"around": entries[601].id})
    assert view.target is not None
    assert texts(view)[view.target] == "reply 300"
    assert len(view.messages) <= 2 * AROUND + 1


async def test_a_message_of_another_conversation_is_not_found_in_this_one(services: Services) -> None:
    conversation_id = await conversation_of(services, 10)
    other = await services.store.load_entries(await conversation_of(services, 10)) or []
    view = await shown(services, conversation_id, {"around": other[3].id})
    assert view.target is None
    assert view.last is None


@pytest.mark.parametrize(
    "span",
    [None, 7, "x", [], {"first": "0"}, {"first": None, "last": 2.5}, {"around": 3}, {"last": -1}, {"first": 10**30}],
)
async def test_whatever_a_page_asks_for_it_is_shown_something_of_its_conversation(
    services: Services, span: Any
) -> None:
    view = await shown(services, await conversation_of(services, 10), span)
    assert view.messages
    assert view.conversation is not None


async def test_a_reply_is_not_shown_to_who_reads_further_up(services: Services, agent: ChatAgent) -> None:
    conversation_id = await conversation_of(services, LENGTH)
    run = await services.runs.send(ANNA, conversation_id, "And now?", agent)
    views = [view async for view in watch(services, ANNA, conversation_id, Span(first=100, last=139))]
    assert all(texts(view)[0] == "prompt 50" and len(view.messages) == 40 for view in views)
    assert run.done


async def test_who_reads_further_up_is_not_sent_a_view_for_each_word(services: Services) -> None:
    words = 300

    async def say(messages: list[ModelMessage], info: AgentInfo) -> AsyncIterator[str]:
        for _ in range(words):
            await asyncio.sleep(0)
            yield "word "

    agent = ChatAgent(Agent(FunctionModel(stream_function=say), name="chatty"), (ChatModel("chatty", own=True),))
    conversation = await conversation_of(services, 100)
    await services.runs.send(ANNA, conversation, "One more?", agent)
    views = [view async for view in watch(services, ANNA, conversation, Span(first=10, last=20))]
    assert views[-1].phase == "idle"
    assert len(views) < words / 10


async def test_a_turn_asks_the_database_as_little_after_two_thousand_messages_as_at_first(
    services: Services, agent: ChatAgent, monkeypatch: pytest.MonkeyPatch
) -> None:
    work = Work(monkeypatch)

    async def turn(length: int) -> tuple[list[str], int]:
        conversation_id = await conversation_of(services, length)
        await answered(services, conversation_id, agent)  # The history is read once, for the first turn.
        work.reset()
        await answered(services, conversation_id, agent)
        return list(work.statements), work.rows

    short, long = await turn(2), await turn(LENGTH)
    place = "SELECT position, jump FROM entry WHERE id = ?"  # One to three for each new entry, wherever it is.
    assert [it for it in long[0] if it != place] == [it for it in short[0] if it != place]
    assert long[0].count(place) <= 6
    assert len(long[0]) <= 36
    assert long[1] <= short[1] + 4


async def test_opening_a_conversation_reads_a_window_of_it_whatever_its_length(
    services: Services, monkeypatch: pytest.MonkeyPatch
) -> None:
    work = Work(monkeypatch)
    costs: list[tuple[int, int]] = []
    for length in (100, LENGTH):
        conversation_id = await conversation_of(services, length)
        for span in (None, {"first": 10, "last": 49}):
            work.reset()
            await shown(services, conversation_id, span)
            costs.append((len(work.statements), work.rows))
    assert costs[2:] == costs[:2]
    assert max(rows for _, rows in costs) <= TURN + 5


async def test_the_history_is_read_again_when_another_program_has_changed_it(
    services: Services, agent: ChatAgent
) -> None:
    conversation_id = await conversation_of(services, 2)
    await answered(services, conversation_id, agent)
    elsewhere = await services.store.load(conversation_id)
    assert elsewhere is not None
    elsewhere.messages += turns(50, 1)
    await services.store.save(elsewhere)
    await answered(services, conversation_id, agent)
    assert texts(await shown(services, conversation_id))[-4:] == ["prompt 50", "reply 50", "And now?", "An answer."]


async def test_what_the_model_was_told_is_shown_to_those_who_may_see_it(services: Services, agent: ChatAgent) -> None:
    conversation_id = (await services.runs.send(ANNA, None, "Hello.", agent)).conversation_id
    await ended(services, conversation_id)
    await answered(services, conversation_id, agent)
    hidden = await shown(services, conversation_id)
    assert [message["role"] for message in hidden.messages] == ["user", "assistant"] * 2
    told = [view async for view in watch(services, ANNA, conversation_id, show_system=True)][-1]
    blocks = [message for message in told.messages if "title" in message["metadata"]]
    assert [message["content"][0]["text"].strip("`\n") for message in blocks] == [
        "A secret.",
        "Be brief, once.",
        "Be brief, twice.",
    ]


async def test_a_total_is_unknown_where_a_model_has_no_price_and_is_not_said_where_nobody_bills(
    services: Services, agent: ChatAgent
) -> None:
    class Billed(AbstractCapability[Any]):
        """Lets replies come from a provider that Pydantic AI has no prices of."""

        async def after_model_request(
            self, ctx: RunContext[Any], *, request_context: ModelRequestContext, response: ModelResponse
        ) -> ModelResponse:
            return replace(response, provider_name="mystery")

    billed = replace(agent, agent=Agent(agent.agent.model, capabilities=[Billed()]))
    free = (await services.runs.send(ANNA, None, "Hello.", agent)).conversation_id
    unknown = (await services.runs.send(ANNA, None, "Hello.", billed)).conversation_id
    for conversation_id in (free, unknown):
        await ended(services, conversation_id)
    assert (await shown(services, free)).spent == ""
    assert (await shown(services, unknown)).spent.endswith(" out · cost unknown")


async def test_opening_a_conversation_reads_none_of_its_files_and_a_reply_only_the_newest(
    services: Services, agent: ChatAgent, monkeypatch: pytest.MonkeyPatch
) -> None:
    def film(number: int) -> ModelRequest:
        content = BinaryContent(b"%d" % number * 5_000_000, media_type="video/mp4", identifier=f"{number}.mp4")
        return ModelRequest([UserPromptPart([content, "Look."])])

    messages = [message for number in range(1, 10) for message in (film(number), ModelResponse([TextPart("Yes.")]))]
    conversation = Conversation(messages=messages)
    await services.store.save(conversation, scope=ANNA)
    given: list[ModelMessage] = []

    async def say(messages: list[ModelMessage], info: AgentInfo) -> AsyncIterator[str]:
        given.extend(messages)
        yield "An answer."

    read = bytes_of_files_read(monkeypatch)
    view = await shown(services, conversation.conversation_id)
    assert ">9.mp4</a>" in view.messages[-3]["content"][0]["text"]
    await services.runs.prepare(ANNA, conversation.conversation_id)
    assert read == []
    await answered(
        services, conversation.conversation_id, replace(agent, agent=Agent(FunctionModel(stream_function=say)))
    )
    assert read == [5_000_000] * 6
    texts = [str(part.content)[:40] for message in given for part in message.parts if isinstance(part, UserPromptPart)]
    assert "3.mp4 was here" in texts[2]
    assert "BinaryContent" in texts[3]
    stored = await services.store.load(conversation.conversation_id, scope=ANNA)
    assert stored is not None
    assert stored.messages[: len(messages)] == messages


def bytes_of_files_read(monkeypatch: pytest.MonkeyPatch) -> list[int]:
    """How long each of the files is that are read from now on."""
    read: list[int] = []
    row = Database.row

    async def noted(database: Database, sql: str, *parameters: Any) -> Any:
        found = await row(database, sql, *parameters)
        if found is not None and isinstance(found[0], bytes):
            read.append(len(found[0]))
        return found

    monkeypatch.setattr(Database, "row", noted)
    return read


@examples(max_examples=60, deadline=None)
@given(objects("first", "last", "around") | ANYTHING, st.integers(0, 10**6))
def test_whatever_span_a_page_asks_for_it_gets_a_window_of_what_there_is(sent: object, end: int) -> None:
    first, last = Span.from_page(sent).within(end)
    assert 0 <= first <= last <= end
    assert last - first < WIDEST


@examples(max_examples=60, deadline=None)
@given(ANYTHING)
def test_an_id_is_a_short_text_that_can_be_stored_or_none_at_all(sent: object) -> None:
    named = conversation_id_from(sent)
    assert named is None or (named == sent and len(named.encode()) <= 4 * LONGEST_ID)
