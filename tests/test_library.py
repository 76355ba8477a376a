"""An owner's conversations are listed with their titles, newest first, and nobody else's are."""

import sqlite3
from collections.abc import AsyncIterator
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given
from hypothesis import settings as examples
from hypothesis import strategies as st
from pydantic_ai.conversation import Conversation
from pydantic_ai.messages import ModelRequest, UserPromptPart

from chat.identity import Owner
from chat.library import PLACES, Library, Listed, Mark
from chat.store import SQLiteConversationStore
from tests.anything import TEXT

pytestmark = pytest.mark.anyio

ANN, BOB = Owner("visitor:ann"), Owner("visitor:bob")


@pytest.fixture
async def store(tmp_path: Path) -> AsyncIterator[SQLiteConversationStore]:
    async with SQLiteConversationStore(tmp_path / "chat.db") as store:
        yield store


@pytest.fixture
def library(store: SQLiteConversationStore) -> Library:
    return Library(store.database)


async def start(store: SQLiteConversationStore, name: str, owner: str | None = ANN) -> Conversation:
    conversation = Conversation(messages=[ModelRequest([UserPromptPart(name)])], conversation_id=name)
    await store.save(conversation, scope=owner)
    return conversation


async def titles(library: Library, owner: Owner = ANN, limit: int = 100) -> list[str]:
    return [listed.title for listed in (await library.conversations(owner, limit=limit))[0]]


async def test_an_owner_sees_their_own_conversations_and_no_others(
    store: SQLiteConversationStore, library: Library
) -> None:
    for name, owner in (("a", ANN), ("b", BOB), ("c", None)):
        await start(store, name, owner)
        for asking in (ANN, BOB):
            await library.title_from_prompt(asking, name, f"{name}, as {asking} says")
    record = await store.read_record("a")
    assert record is not None
    listed = Listed("a", "a, as visitor:ann says", record.updated_at)
    assert await library.conversations(ANN, limit=9) == ([listed], None)
    assert await library.find(ANN, ["a", "b", "c", "d"]) == [listed]
    assert await titles(library, BOB) == ["b, as visitor:bob says"]
    assert await titles(library, Owner("visitor:new")) == []


async def test_the_most_recently_changed_conversation_comes_first(
    store: SQLiteConversationStore, library: Library
) -> None:
    conversations = {name: await start(store, name) for name in "abc"}
    for name in conversations:
        await library.title_from_prompt(ANN, name, name)
    await store.save(conversations["a"])
    assert await titles(library) == ["a", "c", "b"]
    assert await titles(library, limit=2) == ["a", "c"]


async def test_a_conversation_without_a_title_is_listed_as_untitled(
    store: SQLiteConversationStore, library: Library
) -> None:
    await start(store, "a")
    assert await titles(library) == ["Untitled"]


async def test_the_first_title_stays(store: SQLiteConversationStore, library: Library) -> None:
    conversation = await start(store, "a")
    await library.title_from_prompt(ANN, "a", "The first")
    await library.title_from_prompt(ANN, "a", "The second")
    await store.save(conversation)
    assert await titles(library) == ["The first"]


async def test_a_title_goes_with_its_conversation(store: SQLiteConversationStore, library: Library) -> None:
    await start(store, "a")
    await library.title_from_prompt(ANN, "a", "Old")
    await store.delete("a")
    assert await titles(library) == []
    await start(store, "a")
    assert await titles(library) == ["Untitled"]


async def test_pages_go_on_where_they_ended_whatever_has_moved_meanwhile(
    store: SQLiteConversationStore, library: Library
) -> None:
    conversations = {name: await start(store, name) for name in "abcdefg"}
    await library.move(ANN, "c", "pinned")
    first, mark = await library.conversations(ANN, limit=3)
    assert [listed.conversation_id for listed in first] == ["c", "g", "f"]
    await store.save(conversations["a"])  # It moves from the end to the beginning.
    second, mark = await library.conversations(ANN, after=mark, limit=3)
    assert ([listed.conversation_id for listed in second], mark) == (["e", "d", "b"], None)


async def test_conversations_of_the_same_moment_are_all_listed(
    store: SQLiteConversationStore, library: Library
) -> None:
    for number in range(7):
        await start(store, f"c{number}")
    await store.database.change(lambda change: change.execute("UPDATE conversation SET updated_at = '2026-01-01'"))
    found: list[str] = []
    mark = None
    while not found or mark:
        page, mark = await library.conversations(ANN, after=mark, limit=2)
        found += [listed.conversation_id for listed in page]
    assert found == [f"c{number}" for number in reversed(range(7))]


async def test_archived_conversations_are_a_list_of_their_own(store: SQLiteConversationStore, library: Library) -> None:
    conversations = {name: await start(store, name) for name in "abc"}
    await library.move(ANN, "b", "archived")
    await store.save(conversations["b"])
    archived, mark = await library.conversations(ANN, archived=True)
    assert ([(listed.conversation_id, listed.place) for listed in archived], mark) == ([("b", "archived")], None)
    assert [listed.conversation_id for listed in (await library.conversations(ANN))[0]] == ["c", "a"]
    await library.move(ANN, "b", "listed")
    assert [listed.conversation_id for listed in (await library.conversations(ANN))[0]] == ["b", "c", "a"]


async def test_nobody_else_can_rename_move_or_read_a_conversation(
    store: SQLiteConversationStore, library: Library
) -> None:
    await start(store, "a")
    await library.title_from_prompt(ANN, "a", "Mine")
    before = await library.find(ANN, ["a"])
    for conversation in ("a", "missing"):
        assert not await library.rename(BOB, conversation, "His")
        assert not await library.move(BOB, conversation, "archived")
        assert not await library.see(BOB, conversation)
        assert not await library.title_from_model(BOB, conversation, "His")
        assert not await library.is_settled(BOB, conversation)
        assert await library.find(BOB, [conversation]) == []
    assert await library.find(ANN, ["a"]) == before


async def test_a_title_that_a_person_gave_is_never_overwritten(
    store: SQLiteConversationStore, library: Library
) -> None:
    for name in "ab":
        await start(store, name)
    await library.title_from_prompt(ANN, "a", "The first words")
    for name in "ab":
        assert await library.rename(ANN, name, "Mine")
        await library.title_from_prompt(ANN, name, "Other words")
        assert not await library.title_from_model(ANN, name, "The model's")
    assert await titles(library) == ["Mine", "Mine"]
    assert await library.rename(ANN, "a", "Mine again")
    assert await titles(library) == ["Mine", "Mine again"]


async def test_a_model_is_asked_once_and_what_it_leaves_blank_stays_as_it_was(
    store: SQLiteConversationStore, library: Library
) -> None:
    for name in "ab":
        await start(store, name)
        await library.title_from_prompt(ANN, name, "The first words")
        assert not await library.is_settled(ANN, name)
    assert await library.title_from_model(ANN, "a", "The model's")
    assert await library.title_from_model(ANN, "b", "")
    assert await titles(library) == ["The first words", "The model's"]
    assert await library.is_settled(ANN, "a")
    assert not await library.title_from_model(ANN, "b", "Another")


@pytest.mark.parametrize("archived", [False, True])
async def test_a_page_is_read_from_an_index_in_its_order_however_many_conversations_there_are(
    store: SQLiteConversationStore, library: Library, monkeypatch: pytest.MonkeyPatch, archived: bool
) -> None:
    asked: list[tuple[str, Any]] = []
    rows = store.database.rows

    async def note(sql: str, parameters: Any = ()) -> list[sqlite3.Row]:
        asked.append((sql, parameters))
        return await rows(sql, parameters)

    monkeypatch.setattr(store.database, "rows", note)
    await library.conversations(ANN, after=Mark("listed", "2026", "a"), archived=archived)
    [(sql, parameters)] = asked
    plan = " / ".join(row["detail"] for row in await rows(f"EXPLAIN QUERY PLAN {sql}", parameters))
    assert "(place,updated_at,conversation_id)<(?,?,?)" in plan
    assert "SCAN" not in plan
    assert "TEMP B-TREE" not in plan


@examples(max_examples=60, deadline=None)
@given(TEXT | st.lists(st.sampled_from(PLACES) | TEXT, min_size=2, max_size=4).map(" ".join))
def test_a_mark_that_a_page_sends_back_is_one_of_the_list_or_none(sent: str) -> None:
    try:
        mark = Mark.from_page(sent)
    except ValueError:
        return
    assert mark.place in PLACES
    assert str(mark) == sent
