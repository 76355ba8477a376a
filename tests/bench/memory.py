"""What the server keeps in memory once something large or long is over.

The resident memory is the system's own figure for the server's process, some seconds after its last reply. The server
is neither asked to collect garbage nor to hand memory back: what Python and malloc keep for later counts. So that this
can be told from a leak, each step is done twice: what grows again the second time is lost.
"""

import asyncio
import sqlite3
import tempfile
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import closing
from pathlib import Path

from pydantic_ai import Agent, ModelMessage
from pydantic_ai.conversation import Conversation
from pydantic_ai.models.function import AgentInfo, FunctionModel

from chat.identity import Owner
from chat.store import SQLiteConversationStore
from tests.bench.apps.model import history
from tests.bench.load import Page, open_pages
from tests.bench.program import Program, parley
from tests.bench.table import Table
from tests.protocol import Visitor

BIG, CHUNK = 10_000_000, 100_000
"""Characters of the large reply, and of each piece that the model writes of it."""

MESSAGES = 100_000
AT_ONCE = 20
FIRST_RUNS = 100
"""Replies before the baseline: what grows with the first ones is not what is looked for."""

SETTLE_SECONDS = 6
"""Longer than a page is waited for, and than a connection is kept."""

Step = Callable[[Visitor, Program], Awaitable[None]]


async def _script(messages: list[ModelMessage], info: AgentInfo) -> AsyncIterator[str]:
    if "big" in str(messages[-1]):
        for number in range(BIG // CHUNK):
            await asyncio.sleep(0.02)
            yield f"{number:09} " * (CHUNK // 10)
    yield "Done."


agent = Agent(FunctionModel(stream_function=_script, model_name="scripted"), name="scripted")


def measure(quick: bool) -> list[Table]:
    """A server of its own for each step."""
    runs = 200 if quick else 1_000
    steps: dict[str, Step] = {
        f"a reply of {BIG // 10**6} MB": _big_reply,
        f"opening a conversation of {MESSAGES:,} messages": _open_long,
        f"continuing a conversation of {MESSAGES:,} messages": _continue_long,
        f"{runs:,} finished runs": lambda visitor, program: _runs(program, runs),
    }
    rows = [(name, *asyncio.run(_grown(step))) for name, step in steps.items()]
    note = (
        f"Resident memory of the server's process, {SETTLE_SECONDS} s after its last reply, as the system counts it: "
        f"nothing is collected or handed back for the measurement. Before: after {FIRST_RUNS} short replies."
    )
    columns = ("what", "before, MiB", "after, MiB", "after it again, MiB", "after, %", "again, % more", "target")
    return [Table("Memory of the server", columns, rows, note)]


async def _grown(step: Step) -> tuple[float | str, ...]:
    with tempfile.TemporaryDirectory() as name, parley(Path(name), "tests.bench.memory:agent") as program:
        async with Visitor(program.url) as visitor:
            await _runs(program, FIRST_RUNS)
            if step in (_open_long, _continue_long):
                await _seed_long(visitor, Path(name))
            before = await _settled(program)
            await step(visitor, program)
            after = await _settled(program)
            await step(visitor, program)
            again = await _settled(program)
    return before, after, again, 100 * after / before, 100 * (again - after) / before, "≤ 110 %"


async def _big_reply(visitor: Visitor, program: Program) -> None:
    _, status = await visitor.last("chat", "big", {"conversation": None})
    assert status["phase"] == "idle"


async def _open_long(visitor: Visitor, program: Program) -> None:
    await visitor.last("watch", {"conversation": "long"})


async def _continue_long(visitor: Visitor, program: Program) -> None:
    await visitor.last("chat", "Again?", {"conversation": "long"})


async def _runs(program: Program, count: int) -> None:
    """So many conversations with one short reply each, of some people who keep their pages open."""

    async def all_of(page: Page) -> None:
        for _ in range(count // AT_ONCE):
            messages = [line async for line in page.call("chat", "Hello?", {"conversation": None})]
            assert b'"success":true' in messages[-1]

    await asyncio.gather(*map(all_of, await open_pages(program, AT_ONCE)))


async def _seed_long(visitor: Visitor, directory: Path) -> None:
    """The visitor's long conversation, written beside the server as any script may."""
    _, status = await visitor.last("chat", "Hello?", {"conversation": None})
    path = directory / "chat.db"
    with closing(sqlite3.connect(path)) as database:
        [(owner,)] = database.execute(
            "SELECT scope FROM conversation WHERE conversation_id = ?", (status["conversation"],)
        )
    async with SQLiteConversationStore(path) as store:
        await store.save(Conversation(conversation_id="long", messages=history(MESSAGES)), scope=Owner(owner))


async def _settled(program: Program) -> float:
    await asyncio.sleep(SETTLE_SECONDS)
    return program.resident_mib()


if __name__ == "__main__":
    for table in measure(quick=False):
        print(table.markdown(), end="\n\n")
