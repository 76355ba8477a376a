"""What a conversation's length and an owner's number of conversations change for the store: nothing, it is hoped.

Each figure is the median of many repetitions, which alternate between the sizes, in one database on disk.
"""

import asyncio
import gc
import statistics
import sys
import tempfile
import time
from collections.abc import AsyncIterator, Awaitable, Callable, Mapping, Sequence
from dataclasses import replace
from datetime import UTC, datetime
from pathlib import Path

from pydantic_ai import Agent, ModelMessage, ModelMessagesTypeAdapter, ModelRequest, ModelResponse
from pydantic_ai.conversation import Conversation
from pydantic_ai.conversation_store import ConversationEntry
from pydantic_ai.messages import TextPart, UserPromptPart
from pydantic_ai.models.function import AgentInfo, FunctionModel

from chat.database import Transaction
from chat.identity import Owner
from chat.library import Library
from chat.models import ChatAgent, ChatModel
from chat.server import SWITCH_SECONDS
from chat.services import Services, open_services
from chat.settings import Settings
from chat.store import SQLiteConversationStore
from tests.bench.table import Table

MESSAGES = (100, 10_000, 100_000)
CONVERSATIONS = (10, 1_000, 10_000)
NEWEST = 50
WHOLE = 1_000
"""Messages of the conversation that is loaded as a whole."""

OWNER = Owner("owner")
REPLY = "The boats come in with herring and mackerel, and the first lorries wait beside the customs house. " * 4

Step = Callable[[int], Awaitable[object]]
"""What is measured, for a size."""


def measure(quick: bool) -> list[Table]:
    """Appending, loading the newest, sending and listing, at several sizes; and loading everything."""
    gc.freeze()  # As `chat.server` does.
    sys.setswitchinterval(SWITCH_SECONDS)
    return asyncio.run(_measure(quick))


async def _measure(quick: bool) -> list[Table]:
    with tempfile.TemporaryDirectory() as directory:
        settings = Settings(database=Path(directory) / "chat.db")
        async with open_services(settings) as services:
            await _seed(services)
            return [
                await _by_messages(services, quick),
                await _whole(services.store, quick),
                await _by_conversations(services.library, quick),
            ]


async def _by_messages(services: Services, quick: bool) -> Table:
    often, seldom = (40, 3) if quick else (300, 9)
    store, agent = services.store, _agent()

    async def append(size: int) -> None:
        record = await store.read_record(_name(size))
        assert record is not None
        await _append(store, record.conversation_id)

    async def newest(size: int) -> None:
        await store.load_entries(_name(size), limit=NEWEST, scope=OWNER)

    async def program(size: int) -> None:
        conversation = await store.load(_name(size), limit=NEWEST, scope=OWNER)
        assert conversation is not None
        conversation.messages += _turn(0)
        await store.save(conversation, scope=OWNER)

    async def send(size: int) -> None:
        await services.runs.send(OWNER, _name(size), "Again?", agent)

    async def saved(size: int) -> None:
        while run := services.runs.of(OWNER, _name(size)):
            await run.after(run.version)

    figures = [
        ("append a turn: read the record, write it with 2 new entries", await _medians(MESSAGES, append, often)),
        (f"load the newest {NEWEST}, append a turn, save", await _medians(MESSAGES, program, often)),
        (f"load the newest {NEWEST}", await _medians(MESSAGES, newest, often)),
        ("send a message, until its prompt is stored (`Runs.send`)", await _medians(MESSAGES, send, seldom, saved)),
        ("send a message, until its reply is stored", await _medians(MESSAGES, _both(send, saved), seldom)),
    ]
    rows = [
        (what, *(ms[size] for size in MESSAGES), ms[MESSAGES[-1]] / ms[MESSAGES[0]], "≤ 1.3") for what, ms in figures
    ]
    note = (
        f"Medians of {often} repetitions, of {seldom} for sending. The model of what is sent answers at once with one "
        "word; it is sent the newest messages only."
    )
    columns = ("ms, by stored messages of the conversation", *(f"{size:,}" for size in MESSAGES), "ratio", "target")
    return Table("A turn in a long conversation", columns, rows, note)


async def _whole(store: SQLiteConversationStore, quick: bool) -> Table:
    conversation = await store.load(_name(WHOLE), scope=OWNER)
    assert conversation is not None
    assert len(conversation.messages) == WHOLE
    json = ModelMessagesTypeAdapter.dump_json(conversation.messages)

    async def load(size: int) -> None:
        await store.load(_name(size), scope=OWNER)

    async def validate(size: int) -> None:
        ModelMessagesTypeAdapter.validate_json(json)

    steps = {0: load, 1: validate}
    both = await _medians(tuple(steps), lambda which: steps[which](WHOLE), 20 if quick else 200)
    rows = [(f"{WHOLE:,} messages", both[0], both[1], both[0] / both[1], "≤ 1.5")]
    columns = ("conversation", "`store.load`, ms", "`validate_json` of the same, ms", "ratio", "target")
    return Table("Loading all of a conversation", columns, rows, f"{len(json) / 2**20:.2f} MiB of JSON.")


async def _by_conversations(library: Library, quick: bool) -> Table:
    rows = []
    for page in (10, 100):
        ms = await _medians(
            CONVERSATIONS, lambda size, page=page: library.conversations(_owner(size), limit=page), 50 if quick else 500
        )
        # An owner of ten has no page of a hundred.
        smallest = min(size for size in CONVERSATIONS if size >= page)
        cells = (ms[size] if size >= page else "" for size in CONVERSATIONS)
        rows.append((f"newest {page}", *cells, ms[CONVERSATIONS[-1]] / ms[smallest], "≤ 1.3"))
    columns = ("ms, by conversations of the owner", *(f"{size:,}" for size in CONVERSATIONS), "ratio", "target")
    return Table("The list of conversations", columns, rows)


async def _medians(
    sizes: Sequence[int], step: Step, repetitions: int, after: Step | None = None
) -> Mapping[int, float]:
    """Median milliseconds of a step for each size. `after` is what follows it and is not measured."""
    times: dict[int, list[float]] = {size: [] for size in sizes}
    for repetition in range(repetitions + 1):
        for size in sizes:
            begin = time.perf_counter()
            await step(size)
            taken = (time.perf_counter() - begin) * 1000
            if after is not None:
                await after(size)
            if repetition:  # The first time warms up.
                times[size].append(taken)
    return {size: statistics.median(taken) for size, taken in times.items()}


def _both(first: Step, second: Step) -> Step:
    async def both(size: int) -> None:
        await first(size)
        await second(size)

    return both


async def _append(store: SQLiteConversationStore, conversation_id: str) -> None:
    record = await store.read_record(conversation_id)
    assert record is not None
    prompt, reply = _turn(0)
    first = ConversationEntry(parent_id=record.head_id, message=prompt)
    second = ConversationEntry(parent_id=first.id, message=reply)
    changed = replace(record, head_id=second.id, revision=second.id, updated_at=datetime.now(UTC))
    await store.write_record(changed, new_entries=[first, second], expected_revision=record.revision)


async def _seed(services: Services) -> None:
    for size in {*MESSAGES, WHOLE}:
        messages = [message for number in range(size // 2) for message in _turn(number)]
        await services.store.save(Conversation(conversation_id=_name(size), messages=messages), scope=OWNER)
    for size in CONVERSATIONS:
        await _seed_conversations(services, size)


async def _seed_conversations(services: Services, size: int) -> None:
    """Records without messages: the list reads no others. One transaction, as so many saves would take a minute."""
    names = [f"{size}-{number}" for number in range(size)]
    usage = "{}"
    records = [
        (name, _owner(size), usage, name, datetime.fromtimestamp(number, UTC).isoformat())
        for number, name in enumerate(names)
    ]

    def seed(change: Transaction) -> None:
        change.execute_many(
            """INSERT INTO conversation (conversation_id, scope, usage, revision, updated_at, format_version)
            VALUES (?, ?, ?, ?, ?, 1)""",
            records,
        )
        change.execute_many(
            "INSERT INTO title (conversation_id, title) VALUES (?, ?)", [(name, f"About {name}") for name in names]
        )

    await services.store.database.change(seed)


def _name(size: int) -> str:
    return f"of {size}"


def _owner(size: int) -> Owner:
    return Owner(f"owner of {size}")


def _turn(number: int) -> list[ModelMessage]:
    prompt = ModelRequest(parts=[UserPromptPart(f"{number}: what happens at the harbour?")])
    return [prompt, ModelResponse(parts=[TextPart(REPLY)], model_name="scripted")]


def _agent() -> ChatAgent:
    async def answer(messages: list[ModelMessage], info: AgentInfo) -> AsyncIterator[str]:
        yield "Yes."

    return ChatAgent(Agent(FunctionModel(stream_function=answer), name="brief"), (ChatModel("brief"),))


if __name__ == "__main__":
    for table in measure(quick=False):
        print(table.markdown(), end="\n\n")
