"""Long conversations: what would take an evening to type, put into the database of a running chat."""

import asyncio
from collections.abc import Awaitable, Callable
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import TypeVar

from pydantic_ai import ModelMessage, ModelRequest, ModelResponse, TextPart, UserPromptPart

from chat.store import SQLiteConversationStore

T = TypeVar("T")


def turns(first: int, count: int) -> list[ModelMessage]:
    """Turns that say "prompt <number>" and "reply <number>", with more in some of the replies."""
    messages: list[ModelMessage] = []
    for number in range(first, first + count):
        reply = f"reply {number}" + "\n\nA paragraph that takes some room." * (number % 4)
        messages.append(ModelRequest(parts=[UserPromptPart(f"prompt {number}")]))
        messages.append(ModelResponse(parts=[TextPart(reply)]))
    return messages


def lengthen(database: Path, conversation_id: str, count: int) -> list[str]:
    """Add `count` turns, numbered from 0, to a conversation; the ids of the prompts' entries."""

    async def add(store: SQLiteConversationStore) -> list[str]:
        conversation = await store.load(conversation_id)
        assert conversation is not None
        conversation.messages += turns(0, count)
        return [entry.id for entry in await store.save(conversation)][::2]

    return _with_store(database, add)


def copy_of(database: Path, conversation_id: str) -> str:
    """The id of a conversation of its own that begins as this one."""

    async def fork(store: SQLiteConversationStore) -> str:
        record = await store.read_record(conversation_id)
        assert record is not None
        conversation = await store.fork(conversation_id, scope=record.scope, source_scope=record.scope)
        return conversation.conversation_id

    return _with_store(database, fork)


def _with_store(database: Path, use: Callable[[SQLiteConversationStore], Awaitable[T]]) -> T:
    async def run() -> T:
        async with SQLiteConversationStore(database) as store:
            return await use(store)

    # In a thread of its own: the browser's event loop runs in this one.
    with ThreadPoolExecutor(1) as thread:
        return thread.submit(asyncio.run, run()).result()
