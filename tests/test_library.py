"""An owner's conversations are listed with their titles, newest first, and nobody else's are."""

from collections.abc import AsyncIterator
from pathlib import Path

import pytest
from pydantic_ai.conversation import Conversation
from pydantic_ai.messages import ModelRequest, UserPromptPart

from chat.identity import Owner
from chat.library import Library, Listed
from chat.store import SQLiteConversationStore

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
