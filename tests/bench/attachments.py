"""What attachments change for opening a conversation and for a reply in it: a hundred of 5 MB, against none."""

import asyncio
import os
import sqlite3
import statistics
import tempfile
import time
from collections.abc import AsyncIterator
from contextlib import closing
from pathlib import Path

from pydantic_ai import Agent, ModelMessage, ModelRequest, ModelResponse
from pydantic_ai.conversation import Conversation
from pydantic_ai.messages import BinaryContent, TextPart, UserContent, UserPromptPart
from pydantic_ai.models.function import AgentInfo, FunctionModel

from chat.identity import Owner
from chat.settings import Settings
from chat.store import SQLiteConversationStore
from tests.bench.program import parley
from tests.bench.table import Table
from tests.protocol import Visitor

SIZE, COUNT = 5_000_000, 100


async def _script(messages: list[ModelMessage], info: AgentInfo) -> AsyncIterator[str]:
    yield "Done."


agent = Agent(FunctionModel(stream_function=_script, model_name="scripted"), name="scripted")


def measure(quick: bool) -> list[Table]:
    """A server of its own for each of the two conversations."""
    count, repetitions = (10, 5) if quick else (COUNT, 20)
    rows = [
        (f"{what}, {count} turns", *asyncio.run(_measured(count, size, repetitions)))
        for what, size in (("text only", 0), (f"a file of {SIZE // 10**6} MB in each", SIZE))
    ]
    note = (
        f"Medians of {repetitions}, over HTTP. Memory is the server's, resident. A reply's model is given the newest "
        f"{Settings.model_fields['history_mb'].default} MB of files (`CHAT_HISTORY_MB`); it answers at once."
    )
    columns = (
        "conversation",
        "opened, ms",
        "memory before, MiB",
        "after opening, MiB",
        "reply, ms",
        "after replies, MiB",
    )
    return [Table("Attachments", columns, rows, note)]


async def _measured(count: int, size: int, repetitions: int) -> tuple[float, ...]:
    with tempfile.TemporaryDirectory() as name, parley(Path(name), "tests.bench.attachments:agent") as program:
        async with Visitor(program.url) as visitor:
            await visitor.last("chat", "Hello?", {"conversation": None})
            await _seed(Path(name) / "chat.db", count, size)
            before = program.resident_mib()
            opened = [await _took(visitor, "watch") for _ in range(repetitions)]
            after = program.resident_mib()
            replies = [await _took(visitor, "chat", "And now?") for _ in range(repetitions)]
            return statistics.median(opened), before, after, statistics.median(replies), program.resident_mib()


async def _took(visitor: Visitor, event: str, *data: str) -> float:
    begin = time.perf_counter()
    messages, status = await visitor.last(event, *data, {"conversation": "attached"})
    assert messages
    assert status["phase"] == "idle"
    return (time.perf_counter() - begin) * 1000


async def _seed(path: Path, count: int, size: int) -> None:
    """The visitor's conversation, written beside the server as any script may."""
    with closing(sqlite3.connect(path)) as database:
        [(owner,)] = database.execute("SELECT scope FROM conversation")
    async with SQLiteConversationStore(path) as store:
        conversation = Conversation(conversation_id="attached")
        for number in range(count):
            files = (
                [BinaryContent(os.urandom(size), media_type="video/mp4", identifier=f"{number}.mp4")] if size else []
            )
            prompt: list[UserContent] = [*files, f"What is in number {number}?"]
            conversation.messages += [ModelRequest([UserPromptPart(prompt)]), ModelResponse([TextPart("Nothing.")])]
            await store.save(conversation, scope=Owner(owner))
    os.sync()  # What is measured next doesn't wait for half a gigabyte on its way to the disk.


if __name__ == "__main__":
    for table in measure(quick=False):
        print(table.markdown(), end="\n\n")
