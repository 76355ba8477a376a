"""Conversations are kept whole: in memory by Pydantic AI's store and in SQLite by ours, under one suite."""

import asyncio
import sqlite3
import subprocess
import sys
import tempfile
from collections.abc import AsyncIterator, Sequence
from contextlib import closing
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from pydantic_ai import DeferredToolRequests, ModelMessage, ModelMessagesTypeAdapter, RunUsage
from pydantic_ai.conversation import Conversation
from pydantic_ai.conversation_store import (
    ConversationConflict,
    ConversationEntry,
    ConversationRecord,
    ConversationStore,
    InMemoryConversationStore,
)
from pydantic_ai.exceptions import UserError
from pydantic_ai.messages import ModelRequest, ModelResponse, TextPart, ToolCallPart, UserPromptPart

from chat.database import Database
from chat.store import SQLiteConversationStore
from tests.cancelling import CancelledAt
from tests.every_part import EVERY_MESSAGE, missing_samples

pytestmark = pytest.mark.anyio

PROJECT = Path(__file__).parent.parent


@pytest.fixture
async def sqlite(tmp_path: Path) -> AsyncIterator[SQLiteConversationStore]:
    async with SQLiteConversationStore(tmp_path / "chat.db") as store:
        yield store


@pytest.fixture(params=["memory", "sqlite"])
async def store(request: pytest.FixtureRequest, tmp_path: Path) -> AsyncIterator[ConversationStore]:
    if request.param == "memory":
        yield InMemoryConversationStore()
    else:
        async with SQLiteConversationStore(tmp_path / "chat.db") as store:
            yield store


def prompt(text: str) -> ModelRequest:
    return ModelRequest([UserPromptPart(text)])


def turns(*texts: str) -> list[ModelMessage]:
    """Prompts and replies by turns."""
    return [ModelResponse([TextPart(text)]) if index % 2 else prompt(text) for index, text in enumerate(texts)]


def texts(messages: Sequence[ModelMessage] | None) -> list[str]:
    return [str(part.content) for message in messages or () for part in message.parts]  # pyright: ignore


async def keep(
    store: ConversationStore, messages: Sequence[ModelMessage], conversation_id: str = "c", scope: str | None = None
) -> Conversation:
    """Save a new conversation."""
    conversation = Conversation(messages=list(messages), conversation_id=conversation_id)
    await store.save(conversation, scope=scope)
    return conversation


async def load(store: ConversationStore, conversation_id: str = "c", **options: Any) -> Conversation:
    conversation = await store.load(conversation_id, **options)
    assert conversation is not None
    return conversation


async def entry_ids(store: ConversationStore, conversation_id: str = "c") -> list[str]:
    return [entry.id for entry in await store.load_entries(conversation_id) or ()]


async def left_of(store: ConversationStore, ids: Sequence[str]) -> list[str]:
    """Which of these entries the store still has."""
    left: list[str] = []
    for entry_id in ids:
        try:
            left.append((await store.read_entry(entry_id)).id)
        except LookupError:
            continue
    return left


# What is kept


def test_there_is_a_sample_of_every_kind_that_pydantic_ai_defines() -> None:
    assert missing_samples() == set()


async def test_every_kind_of_message_comes_back_as_it_was_saved(store: ConversationStore) -> None:
    await keep(store, EVERY_MESSAGE)
    loaded = (await load(store)).messages
    assert loaded == EVERY_MESSAGE
    # Equality leaves out some fields, such as a file's media type.
    assert ModelMessagesTypeAdapter.dump_json(loaded) == ModelMessagesTypeAdapter.dump_json(EVERY_MESSAGE)


@pytest.mark.parametrize(
    "text",
    [
        pytest.param("a\0b\0", id="NUL"),
        pytest.param("\u202eright to left\u202c \u05e9\u05dc\u05d5\u05dd \u200f", id="right-to-left marks"),
        pytest.param("👩🏽‍🚀🇵🇪 e\u0301 \ufeff\ufffe \U0010ffff", id="emoji and the edges of Unicode"),
        pytest.param(" \t\r\n\v\f\x1b\x7f\x85\u2028 ", id="white space and control characters"),
        pytest.param("0123456789abcdef" * 65_536, id="1 MB"),
        pytest.param("line\r\n" * 10_000, id="10,000 lines"),
        pytest.param('"];--\\" {"a": 1} \'', id="quotes"),
    ],
)
async def test_text_is_kept_to_the_character(store: ConversationStore, text: str) -> None:
    await keep(store, turns(text, text))
    assert texts((await load(store)).messages) == [text, text]


async def test_a_text_that_has_no_utf8_form_is_refused_and_leaves_nothing(sqlite: SQLiteConversationStore) -> None:
    with pytest.raises(ValueError, match="surrogates"):
        await keep(sqlite, turns("half of a pair: \ud83d"))
    assert await sqlite.load("c") is None


async def test_usage_and_deferred_tool_requests_are_kept(store: ConversationStore) -> None:
    usage = RunUsage(requests=2, tool_calls=1, input_tokens=7, output_tokens=9, details={"reasoning_tokens": 3})
    deferred = DeferredToolRequests(
        calls=[ToolCallPart("ask", {"question": "Which?"}, tool_call_id="1")],
        approvals=[ToolCallPart("delete", '{"path": "x"}', tool_call_id="2")],
        metadata={"1": {"since": 5}},
    )
    await store.save(Conversation(conversation_id="c", usage=usage, deferred_tool_requests=deferred))
    loaded = await load(store)
    assert (loaded.messages, loaded.usage, loaded.deferred_tool_requests) == ([], usage, deferred)


async def test_deferred_tool_requests_are_gone_once_saved_without(store: ConversationStore) -> None:
    call = ToolCallPart("ask", {}, tool_call_id="1")
    await store.save(Conversation(conversation_id="c", deferred_tool_requests=DeferredToolRequests(calls=[call])))
    conversation = await load(store)
    conversation.deferred_tool_requests = None
    await store.save(conversation)
    assert (await load(store)).deferred_tool_requests is None


async def test_what_is_not_stored_is_none(store: ConversationStore) -> None:
    assert await store.load("c") is None
    assert await store.load_entries("c") is None
    assert await store.list_conversations() == []
    with pytest.raises(LookupError):
        await store.read_entry("e")


# Windows


@pytest.mark.parametrize(("limit", "last"), [(0, ""), (1, "d"), (3, "bcd"), (4, "abcd"), (99, "abcd"), (None, "abcd")])
async def test_a_limit_loads_the_last_messages(store: ConversationStore, limit: int | None, last: str) -> None:
    await keep(store, turns(*"abcd"))
    assert texts((await load(store, limit=limit)).messages) == [*last]
    entries = await store.load_entries("c", limit=limit) or []
    assert [entry.id for entry in entries] == (await entry_ids(store))[4 - len(last) :]


async def test_a_saved_window_is_appended_to_the_whole_conversation(store: ConversationStore) -> None:
    await keep(store, turns(*"abcd"))
    window = await load(store, limit=1)
    window.messages += turns(*"ef")
    saved = await store.save(window)
    assert texts([entry.message for entry in saved]) == [*"ef"]
    assert texts((await load(store)).messages) == [*"abcdef"]


async def test_saving_again_stores_only_what_is_new(store: ConversationStore) -> None:
    conversation = await keep(store, turns(*"ab"))
    before = await entry_ids(store)
    assert await store.save(conversation) == []
    conversation.messages += turns("c")
    [added] = await store.save(conversation)
    assert await entry_ids(store) == [*before, added.id]


# Branches and forks


async def test_a_branch_keeps_what_it_leaves_and_can_switch_back(store: ConversationStore) -> None:
    conversation = await keep(store, turns(*"abcd"))
    left = await entry_ids(store)
    branched = await store.branch("c", at=2, expected_revision=conversation.revision)
    branched.messages += turns("C", "D")
    await store.save(branched)
    assert texts((await load(store)).messages) == [*"abCD"]
    [record] = await store.list_conversations()
    assert record.branches == [left[-1]]

    tip = (await entry_ids(store))[-1]
    back = await store.branch("c", from_entry=left[-1], expected_revision=branched.revision)
    assert texts(back.messages) == [*"abcd"]
    assert await entry_ids(store) == left
    [record] = await store.list_conversations()
    assert record.branches == [tip]


async def test_to_continue_at_an_entry_is_to_branch_and_save_at_once(tmp_path: Path) -> None:
    lines: list[list[list[str]]] = []
    for name, at_once in (("branched.db", False), ("continued.db", True)):
        async with SQLiteConversationStore(tmp_path / name) as store:
            await keep(store, turns("one", "1", "two", "2"))
            record = await store.read_record("c")
            assert record is not None
            for at, more in ((0, ["uno", "1"]), (None, []), (2, ["dos"]), (None, []), (3, [])):
                left = (record.branches[-1:] or [None])[0]
                history = await entry_ids(store)
                entry = left if at is None else history[at - 1] if at else None
                if at_once:
                    await store.continue_at(record, entry, turns(*more))
                else:
                    how = {"at": 0} if entry is None else {"from_entry": entry}
                    conversation = await store.branch("c", **how, expected_revision=record.revision)
                    conversation.messages.extend(turns(*more))
                    await store.save(conversation)
                record = await store.read_record("c")
                assert record is not None
            tips = [record.head_id, *record.branches]
            lines.append([texts([entry.message for entry in await store.read_history(tip)]) for tip in tips])
    assert lines[0] == lines[1]
    assert len(lines[0]) == 4


async def test_a_rewritten_history_branches_off_where_it_differs(store: ConversationStore) -> None:
    conversation = await keep(store, turns(*"abcd"))
    left = await entry_ids(store)
    rewritten = Conversation(
        messages=[*conversation.messages[:2], *turns("C")], conversation_id="c", revision=conversation.revision
    )
    await store.save(rewritten)
    [record] = await store.list_conversations()
    assert (await entry_ids(store))[:2] == left[:2]
    assert texts((await load(store)).messages) == [*"abC"]
    assert record.branches == [left[-1]]


async def test_a_fork_shares_entries_and_goes_its_own_way(store: ConversationStore) -> None:
    original = await keep(store, turns(*"abcd"), scope="ann")
    fork = await store.fork("c", at=2, new_conversation_id="fork")
    assert await entry_ids(store, "fork") == (await entry_ids(store))[:2]
    fork.messages += turns("x")
    original.messages += turns("e")
    await store.save(fork)
    await store.save(original)
    assert texts((await load(store, "fork")).messages) == [*"abx"]
    assert texts((await load(store)).messages) == [*"abcde"]
    record = next(record for record in await store.list_conversations() if record.conversation_id == "fork")
    assert (record.scope, record.forked_from, record.forked_at) == ("ann", "c", (await entry_ids(store))[1])


async def test_a_fork_does_not_replace_a_conversation_that_exists(store: ConversationStore) -> None:
    await keep(store, turns(*"ab"))
    await keep(store, turns("mine"), "other")
    with pytest.raises(ConversationConflict):
        await store.fork("c", new_conversation_id="other")
    assert texts((await load(store, "other")).messages) == ["mine"]


# Scopes and lists


async def test_a_conversation_of_another_scope_is_as_if_it_were_not_there(store: ConversationStore) -> None:
    conversation = await keep(store, turns(*"ab"), scope="ann")
    before = await load(store)
    assert await store.load("c", scope="bob") is None
    assert await store.load_entries("c", scope="bob") is None
    assert await store.list_conversations(scope="bob") == []
    with pytest.raises(UserError, match="not in the store"):
        await store.branch("c", at=0, expected_revision=conversation.revision, scope="bob")
    with pytest.raises(UserError, match="not in the store"):
        await store.fork("c", source_scope="bob")
    with pytest.raises(ConversationConflict):
        await store.save(conversation, scope="bob")
    await store.delete("c", scope="bob")
    assert await load(store, scope="ann") == before


async def test_conversations_are_listed_newest_first(store: ConversationStore) -> None:
    for name in "abc":
        await keep(store, turns(name), name, scope="ann")
    await keep(store, turns("other"), "other", scope="bob")
    await store.save(await load(store, "a"))

    async def listed(**options: Any) -> list[str]:
        return [record.conversation_id for record in await store.list_conversations(**options)]

    assert await listed() == ["a", "other", "c", "b"]
    assert await listed(scope="ann") == ["a", "c", "b"]
    assert await listed(scope="ann", limit=2) == ["a", "c"]
    assert await listed(limit=0) == []


# Conflicts


async def test_of_many_writers_with_the_same_revision_exactly_one_wins(store: ConversationStore) -> None:
    await keep(store, turns("start"))
    loaded = [await load(store) for _ in range(20)]
    for index, conversation in enumerate(loaded):
        conversation.messages += turns(str(index))
    results = await asyncio.gather(*(store.save(each) for each in loaded), return_exceptions=True)
    winners = [index for index, result in enumerate(results) if not isinstance(result, ConversationConflict)]
    assert len(winners) == 1
    assert texts((await load(store)).messages) == ["start", str(winners[0])]


async def test_of_many_writers_of_the_same_new_conversation_exactly_one_wins(store: ConversationStore) -> None:
    results = await asyncio.gather(*(keep(store, turns(str(index))) for index in range(20)), return_exceptions=True)
    [winner] = [result for result in results if isinstance(result, Conversation)]
    assert [type(result) for result in results].count(ConversationConflict) == 19
    assert (await load(store)).messages == winner.messages


async def test_writers_that_load_again_after_a_conflict_lose_nothing(store: ConversationStore) -> None:
    await keep(store, [])

    async def append(text: str) -> None:
        while True:
            conversation = await load(store)
            conversation.messages += turns(text)
            try:
                await store.save(conversation)
            except ConversationConflict:
                continue
            return

    await asyncio.gather(*(append(str(index)) for index in range(10)))
    assert sorted(texts((await load(store)).messages)) == [*"0123456789"]


async def test_a_copy_from_before_a_delete_is_not_saved_over_what_came_after(store: ConversationStore) -> None:
    old = await keep(store, turns("old"))
    await store.delete("c")
    with pytest.raises(ConversationConflict):
        await store.save(old)
    await keep(store, turns("new"))
    with pytest.raises(ConversationConflict):
        await store.save(old)
    assert texts((await load(store)).messages) == ["new"]


async def test_a_record_that_continues_a_released_entry_is_a_conflict_and_leaves_nothing(
    store: ConversationStore,
) -> None:
    await keep(store, turns(*"ab"))
    [_, released] = await entry_ids(store)
    await store.delete("c")
    record = ConversationRecord(conversation_id="fork", head_id=released)
    with pytest.raises(ConversationConflict):
        await store.write_record(record, expected_revision=None)
    assert await store.load("fork") is None


# Deleting


async def test_delete_erases_the_entries_that_nothing_else_reaches(store: ConversationStore) -> None:
    conversation = await keep(store, turns(*"abcd"))
    ids = await entry_ids(store)
    branched = await store.branch("c", at=1, expected_revision=conversation.revision)
    branched.messages += turns("B")
    ids += [entry.id for entry in await store.save(branched)]
    await keep(store, turns("other"), "other")
    await store.delete("c")
    assert await store.load("c") is None
    assert await left_of(store, ids) == []
    assert texts((await load(store, "other")).messages) == ["other"]


async def test_delete_keeps_what_a_fork_still_reaches(store: ConversationStore) -> None:
    await keep(store, turns(*"abcd"))
    ids = await entry_ids(store)
    await store.fork("c", at=2, new_conversation_id="fork")
    await store.delete("c")
    assert await left_of(store, ids) == ids[:2]
    assert texts((await load(store, "fork")).messages) == [*"ab"]
    await store.delete("fork")
    assert await left_of(store, ids) == []


async def test_delete_keeps_what_a_fork_that_went_on_still_reaches(store: ConversationStore) -> None:
    await keep(store, turns(*"abcd"))
    ids = await entry_ids(store)
    fork = await store.fork("c", at=2, new_conversation_id="fork")
    fork.messages += turns("x", "y")
    await store.save(fork)
    await store.delete("c")
    assert await left_of(store, ids) == ids[:2]
    assert texts((await load(store, "fork")).messages) == [*"abxy"]


async def test_delete_keeps_what_a_branch_that_a_fork_left_still_reaches(store: ConversationStore) -> None:
    await keep(store, turns(*"abcd"))
    ids = await entry_ids(store)
    fork = await store.fork("c", at=3, new_conversation_id="fork")
    await store.branch("fork", at=1, expected_revision=fork.revision)
    await store.delete("c")
    assert await left_of(store, ids) == ids[:3]


async def test_deleting_what_is_not_there_changes_nothing(store: ConversationStore) -> None:
    await keep(store, turns("a"))
    await store.delete("other")
    assert texts((await load(store)).messages) == ["a"]


# Both stores, the same after any sequence of changes


class Twins(ConversationStore):
    """Two stores that are given the same and must answer the same."""

    def __init__(self, *stores: ConversationStore) -> None:
        self._stores = stores

    async def _both(self, name: str, *args: Any, **kwargs: Any) -> Any:
        answers: list[Any] = []
        for store in self._stores:
            try:
                answers.append(await getattr(store, name)(*args, **kwargs))
            except (ConversationConflict, LookupError) as error:
                answers.append(ConversationConflict if isinstance(error, ConversationConflict) else LookupError)
        assert answers[0] == answers[1]
        if isinstance(answers[0], type):
            raise answers[0]("c")
        return answers[0]

    async def read_record(self, conversation_id: str) -> ConversationRecord | None:
        return await self._both("read_record", conversation_id)

    async def read_records(self, *, scope: str | None = None, limit: int | None = None) -> Sequence[ConversationRecord]:
        return await self._both("read_records", scope=scope, limit=limit)

    async def write_record(self, record: ConversationRecord, **options: Any) -> None:
        await self._both("write_record", record, **options)

    async def delete_record(self, conversation_id: str, *, expected_revision: str) -> None:
        await self._both("delete_record", conversation_id, expected_revision=expected_revision)

    async def read_entry(self, entry_id: str) -> ConversationEntry:
        return await self._both("read_entry", entry_id)

    async def read_history(self, head_id: str | None, *, limit: int | None = None) -> list[ConversationEntry]:
        return await self._both("read_history", head_id, limit=limit)


NAMES = st.sampled_from(["x", "x'", "y"])
CHANGES = st.lists(
    st.one_of(
        st.tuples(st.just("append"), NAMES, st.integers(0, 3)),
        st.tuples(st.just("branch"), NAMES, st.integers(0, 4)),
        st.tuples(st.just("switch"), NAMES, st.integers(0, 4)),
        st.tuples(st.just("fork"), NAMES, st.integers(0, 4)),
        st.tuples(st.just("delete"), NAMES, st.just(0)),
    ),
    max_size=14,
)


async def change(store: ConversationStore, kind: str, name: str, number: int) -> list[ConversationEntry]:
    """Make one change, when it is possible; the entries it added."""
    conversation = await store.load(name, limit=number)
    if conversation is None:
        return await store.save(Conversation(messages=turns(*"ab"[:number]), conversation_id=name))
    if kind == "append":
        conversation.messages += turns(*"cdef"[:number])
        return await store.save(conversation)
    if kind == "branch":
        at = min(number, len(await entry_ids(store, name)))
        await store.branch(name, at=at, expected_revision=conversation.revision)
    elif kind == "switch":
        record = await store.read_record(name)
        if record is not None and number < len(record.branches):
            tip = record.branches[number]
            await store.branch(name, from_entry=tip, expected_revision=conversation.revision)
    elif kind == "fork":
        await store.delete(f"{name}'")
        await store.fork(name, at=min(number, len(await entry_ids(store, name))), new_conversation_id=f"{name}'")
    else:
        await store.delete(name)
    return []


@settings(max_examples=60, deadline=None, database=None, derandomize=True)
@given(CHANGES)
def test_after_any_changes_sqlite_holds_what_memory_holds(changes: list[tuple[str, str, int]]) -> None:
    async def compare(path: Path) -> None:
        async with SQLiteConversationStore(path) as sqlite:
            twins = Twins(InMemoryConversationStore(), sqlite)
            ever: list[str] = []
            for step in changes:
                ever += [entry.id for entry in await change(twins, *step)]
                for record in await twins.list_conversations():
                    await twins.load_entries(record.conversation_id)
                left = await left_of(twins, ever)
                rows = await sqlite.database.rows("SELECT id FROM entry")
                assert sorted(row["id"] for row in rows) == sorted(left)

    with tempfile.TemporaryDirectory() as directory:
        asyncio.run(compare(Path(directory) / "chat.db"))


# What only a file can do


def counts(path: Path) -> dict[str, int]:
    """How many rows each table has, seen from outside."""
    with closing(sqlite3.connect(path)) as connection:
        assert connection.execute("PRAGMA integrity_check").fetchall() == [("ok",)]
        assert connection.execute("PRAGMA foreign_key_check").fetchall() == []
        tables = ("conversation", "entry", "branch")
        return {table: connection.execute(f"SELECT count(*) FROM {table}").fetchone()[0] for table in tables}  # noqa: S608  # names from the line above


def start(script: str, *arguments: str | Path) -> subprocess.Popen[str]:
    """A process of its own that runs a script in the project's directory."""
    command = [sys.executable, "-W", "error", "-c", script, *map(str, arguments)]
    return subprocess.Popen(command, cwd=PROJECT, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True)


async def test_conversations_are_there_when_the_file_is_opened_again(tmp_path: Path) -> None:
    async with SQLiteConversationStore(tmp_path / "chat.db") as store:
        await keep(store, EVERY_MESSAGE, scope="ann")
        before = await store.list_conversations()
    async with SQLiteConversationStore(str(tmp_path / "chat.db")) as store:
        assert (await load(store, scope="ann")).messages == EVERY_MESSAGE
        assert await store.list_conversations() == before


async def test_a_store_on_a_database_leaves_it_open(tmp_path: Path) -> None:
    async with Database(tmp_path / "chat.db") as database:
        async with SQLiteConversationStore(database) as store:
            await keep(store, turns("a"))
        assert texts((await load(SQLiteConversationStore(database))).messages) == ["a"]


async def test_a_history_is_read_in_one_query(sqlite: SQLiteConversationStore) -> None:
    await keep(sqlite, turns(*"abcdef"))
    head = (await entry_ids(sqlite))[-1]
    queries: list[str] = []
    await sqlite.database.read(lambda connection: connection.set_trace_callback(queries.append))
    assert texts([entry.message for entry in await sqlite.read_history(head)]) == [*"abcdef"]
    assert len(queries) == 1


async def test_a_long_history_with_large_messages_is_read_whole_and_in_order(sqlite: SQLiteConversationStore) -> None:
    words = [f"{number} " + "x" * (1_500_000 if number % 400 == 0 else 10) for number in range(1_300)]
    conversation = await keep(sqlite, turns(*words))
    assert (await load(sqlite)).messages == conversation.messages
    assert (await load(sqlite, limit=901)).messages == conversation.messages[-901:]


async def test_a_window_reads_no_message_before_it(sqlite: SQLiteConversationStore) -> None:
    conversation = await keep(sqlite, turns(*map(str, range(500))))
    before = (await entry_ids(sqlite))[400]
    sql = "UPDATE entry SET message = 'not JSON' WHERE id = ?"
    await sqlite.database.change(lambda change: change.execute(sql, (before,)))
    assert (await load(sqlite, limit=40)).messages == conversation.messages[-40:]


async def test_the_file_is_durable_and_strict(sqlite: SQLiteConversationStore) -> None:
    names = ("journal_mode", "synchronous", "foreign_keys")
    pragmas = await sqlite.database.change(lambda change: {name: change.rows(f"PRAGMA {name}")[0][0] for name in names})
    full = 2
    assert pragmas == {"journal_mode": "wal", "synchronous": full, "foreign_keys": 1}
    tables = await sqlite.database.rows(
        "SELECT name, strict FROM pragma_table_list WHERE type = 'table' AND name NOT LIKE 'sqlite%'"
    )
    assert {"conversation": 1, "entry": 1, "branch": 1}.items() <= dict(map(tuple, tables)).items()
    assert {strict for _, strict in tables} == {1}


async def test_ten_thousand_messages_are_saved_loaded_and_deleted(sqlite: SQLiteConversationStore) -> None:
    conversation = await keep(sqlite, turns(*map(str, range(10_000))))
    assert (await load(sqlite)).messages == conversation.messages
    assert (await load(sqlite, limit=40)).messages == conversation.messages[-40:]
    await sqlite.delete("c")
    assert counts(sqlite.database.path) == {"conversation": 0, "entry": 0, "branch": 0}


@pytest.mark.parametrize("times", [1, 2])
async def test_a_save_cancelled_at_any_await_leaves_all_or_nothing(sqlite: SQLiteConversationStore, times: int) -> None:
    path = sqlite.database.path
    nothing, both = {"conversation": 1, "entry": 2, "branch": 0}, {"conversation": 1, "entry": 5, "branch": 0}
    seen: list[bool] = []
    while not (seen and seen[-1]):
        conversation = await keep(sqlite, turns(*"ab"))
        conversation.messages += turns(*"cde")
        ended = await CancelledAt(sqlite.save(conversation), len(seen), times)
        # What the cancelled one began goes on to its end on the connection's thread, before the next.
        await keep(sqlite, turns("next"), "next")
        await sqlite.delete("next")
        assert counts(path) in ([both] if ended else [nothing, both])
        assert texts((await load(sqlite)).messages) in ([*"ab"], [*"abcde"])
        await sqlite.delete("c")
        seen.append(ended)
    assert len(seen) > 1


@pytest.mark.parametrize("times", [1, 2])
async def test_a_delete_cancelled_at_any_await_leaves_all_or_nothing(
    sqlite: SQLiteConversationStore, times: int
) -> None:
    nothing, whole = {"conversation": 1, "entry": 1, "branch": 0}, {"conversation": 2, "entry": 4, "branch": 0}
    seen: list[bool] = []
    while not (seen and seen[-1]):
        await keep(sqlite, turns(*"abc"))
        ended = await CancelledAt(sqlite.delete("c"), len(seen), times)
        await keep(sqlite, turns("next"), "next")
        assert counts(sqlite.database.path) in ([nothing] if ended else [nothing, whole])
        for name in ("c", "next"):
            await sqlite.delete(name)
        seen.append(ended)
    assert len(seen) > 1


APPEND = """
import asyncio, sys
from pydantic_ai import ModelRequest, UserPromptPart
from pydantic_ai.conversation_store import ConversationConflict
from chat.store import SQLiteConversationStore

async def main(path, name):
    async with SQLiteConversationStore(path) as store:
        print("ready", flush=True)
        sys.stdin.readline()
        for number in range(30):
            while True:
                conversation = await store.load("c")
                conversation.messages.append(ModelRequest([UserPromptPart(f"{name}{number}")]))
                try:
                    await store.save(conversation)
                    break
                except ConversationConflict:
                    continue

asyncio.run(main(*sys.argv[1:]))
"""


async def test_two_processes_that_write_one_conversation_lose_nothing(sqlite: SQLiteConversationStore) -> None:
    await keep(sqlite, [])
    processes = [start(APPEND, sqlite.database.path, name) for name in "ab"]
    for process in processes:
        assert process.stdout is not None
        assert process.stdout.readline() == "ready\n"
    await asyncio.gather(*(asyncio.to_thread(process.communicate, "go\n") for process in processes))
    assert [process.returncode for process in processes] == [0, 0]
    written = texts((await load(sqlite)).messages)
    for name in "ab":
        assert [text for text in written if text.startswith(name)] == [f"{name}{number}" for number in range(30)]
    assert len(written) == 60


SAVE_FOREVER = """
import asyncio, sys
from pydantic_ai import ModelRequest, UserPromptPart
from pydantic_ai.conversation import Conversation
from chat.store import SQLiteConversationStore

async def write(store, name):
    conversation = Conversation(conversation_id=name)
    while True:
        conversation.messages += [ModelRequest([UserPromptPart(f"{name} " * 2000)])] * 3
        await store.save(conversation)
        print(name, len(conversation.messages), flush=True)

async def main(path):
    async with SQLiteConversationStore(path) as store:
        await asyncio.gather(*(write(store, f"{sys.argv[2]}{number}") for number in range(4)))

asyncio.run(main(sys.argv[1]))
"""


@pytest.mark.parametrize("lines", [1, 30])
def test_a_process_killed_while_it_saves_leaves_whole_conversations(tmp_path: Path, lines: int) -> None:
    path = tmp_path / "chat.db"
    confirmed: dict[str, int] = {}
    with start(SAVE_FOREVER, path, "c") as process:
        assert process.stdout is not None
        for _ in range(lines):
            name, count = process.stdout.readline().split()
            confirmed[name] = int(count)
        process.kill()

    async def whole() -> None:
        async with SQLiteConversationStore(path) as store:
            for record in await store.list_conversations():
                entries = await store.load_entries(record.conversation_id) or []
                assert (entries[0].parent_id, entries[-1].id) == (None, record.head_id)
                assert len(entries) % 3 == 0
                assert len(entries) >= confirmed.get(record.conversation_id, 0)
                assert set(texts([entry.message for entry in entries])) == {f"{record.conversation_id} " * 2000}
                confirmed.pop(record.conversation_id, None)

    before = counts(path)
    asyncio.run(whole())
    assert confirmed == {}
    assert counts(path) == before


SCRIPT = """
import asyncio, sys
from pydantic_ai import Agent
from pydantic_ai.conversation import Conversation
from pydantic_ai.models.test import TestModel
from chat.store import SQLiteConversationStore

async def main(path):
    agent = Agent(TestModel(custom_output_text="Paris."))
    async with SQLiteConversationStore(path) as store:
        for prompt in ("The capital of France?", "Sure?"):
            conversation = await store.load("c") or Conversation(conversation_id="c")
            await store.save(await agent.run(prompt, conversation=conversation))

asyncio.run(main(sys.argv[1]))
assert "gradio" not in sys.modules
"""


async def test_a_program_that_runs_an_agent_keeps_its_conversation_without_gradio(tmp_path: Path) -> None:
    with start(SCRIPT, tmp_path / "chat.db") as process:
        assert process.wait() == 0
    async with SQLiteConversationStore(tmp_path / "chat.db") as store:
        conversation = await load(store)
    assert texts(conversation.messages) == ["The capital of France?", "Paris.", "Sure?", "Paris."]
    assert conversation.usage.requests == 2
