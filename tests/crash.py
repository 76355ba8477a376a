"""Kills the chat's server at random moments while it writes, and checks after each start that nothing is lost.

`python -m tests.crash 200` does so two hundred times and prints how many milliseconds of text each kill cost.

The server is the real one, in a process of its own. Its agent (`tests.storyteller`) notes each word in a file before it
hands it over, so that what a kill cost can be told: the time from the first word that is missing after the restart
until the kill.
"""

import argparse
import asyncio
import multiprocessing
import os
import random
import socket
import sqlite3
import statistics
import tempfile
import time
from collections import Counter
from collections.abc import Iterator, Sequence
from contextlib import aclosing, closing
from dataclasses import dataclass, field
from pathlib import Path

import httpx
from pydantic_ai import ModelMessage
from pydantic_ai.messages import ToolCallPart, ToolReturnPart

from chat.store import messages_from_json
from tests.protocol import Status, Visitor, shown
from tests.storyteller import NOTES, QUESTION, WORD, notes, prompts, serve, texts

AT_ONCE = 4
"""Replies that are written when the server is killed."""

LATEST_KILL = 2.0
"""Seconds after which the server is killed, at most."""

START_SECONDS = 60

MAY_LOSE_MS = 500


@dataclass
class Tale:
    """A conversation that was being written when the server was killed."""

    prompt: str
    status: Status | None = None
    """What a page knew of it; `None` until it had seen that the prompt is stored."""
    seen: int = 0
    """The last word that a page had seen."""


@dataclass
class Report:
    """What the kills cost."""

    kills: int = 0
    killed_while_starting: int = 0
    lost_ms: list[float] = field(default_factory=list[float])
    """For each reply that a kill interrupted."""
    behind_page_ms: list[float] = field(default_factory=list[float])
    """For each of these, how far what is stored is behind what a page had seen."""
    running_tools: int = 0

    def __str__(self) -> str:
        steps = (0, 25, 50, 100, 150, 200, 250, 300, 400, 500)
        counted = Counter(max(step for step in steps if step <= lost) for lost in self.lost_ms)
        lines = [f"{step:>5} ms and more: {counted[step]:4} {'#' * counted[step]}" for step in steps if counted[step]]
        return "\n".join(
            [
                f"{self.kills} kills, of {len(self.lost_ms)} replies and {self.running_tools} running tools.",
                f"{self.killed_while_starting} more kills while the server started.",
                f"Lost text: median {statistics.median(self.lost_ms):.0f} ms, worst {max(self.lost_ms):.0f} ms.",
                f"Behind what a page had seen: worst {max(self.behind_page_ms):.0f} ms.",
                *lines,
            ]
        )


class Harness:
    """The server's file, its agent's notes, and what was going on when it was killed last."""

    def __init__(self, directory: Path, seed: int) -> None:
        self.database = directory / "chat.db"
        self.notes = directory / "notes.txt"
        self.notes.touch()
        os.environ[NOTES] = str(self.notes)
        self.random = random.Random(seed)  # noqa: S311  # To be repeated, not to be safe.
        self.port = _free_port()
        self.report = Report()
        self._processes = multiprocessing.get_context("forkserver")
        # Imported once: each server is a new process all the same.
        self._processes.set_forkserver_preload(["tests.storyteller"])
        self._told = 0
        self._spawn()

    def _spawn(self) -> None:
        self._ready, ready = self._processes.Pipe(duplex=False)
        self._process = self._processes.Process(target=serve, args=(self.database, self.notes, self.port, ready))
        self._process.start()
        ready.close()

    def start(self) -> None:
        """Start the server, unless it runs, and wait until it serves."""
        if not self._process.is_alive():
            self._spawn()
        assert self._ready.poll(START_SECONDS), "The server does not start."
        assert self._ready.recv()

    def kill(self) -> float:
        """Kill the server at once; when, in milliseconds."""
        now = time.time() * 1000
        self._process.kill()
        self._process.join()
        self._ready.close()
        return now

    def begin(self) -> list[Tale]:
        """The next conversations."""
        self._told += AT_ONCE
        return [Tale(f"tale-{self._told - number}") for number in range(AT_ONCE)]

    def kill_while_starting(self) -> None:
        """Kill a server in the middle of its start, when it may be recovering."""
        self._spawn()
        self._process.join(self.random.uniform(0, 1))
        self.kill()
        self.report.killed_while_starting += 1


async def crash(kills: int, directory: Path, *, seed: int) -> Report:
    """Kill the server so many times; what it cost. Fails when something is not as it must be."""
    harness = Harness(directory, seed)
    try:
        harness.start()
        async with Visitor(f"http://127.0.0.1:{harness.port}") as visitor:
            for _ in range(kills):
                tales = harness.begin()
                killed = await _kill_while_writing(harness, visitor, tales)
                harness.report.kills += 1
                if harness.random.random() < 0.25:
                    harness.kill_while_starting()
                harness.start()
                _check_file(harness, tales, killed)
                await _check_pages(harness, visitor, tales)
        _check_notes(harness)
    finally:
        harness.kill()
    return harness.report


async def _kill_while_writing(harness: Harness, visitor: Visitor, tales: Sequence[Tale]) -> float:
    watching = [asyncio.create_task(_watch(visitor, tale)) for tale in tales]
    await asyncio.wait(watching, timeout=harness.random.uniform(0.1, LATEST_KILL))
    killed = harness.kill()
    for result in await asyncio.gather(*watching, return_exceptions=True):
        assert isinstance(result, httpx.HTTPError), f"A watcher ended before the server did: {result!r}"
    return killed


async def _watch(visitor: Visitor, tale: Tale) -> None:
    async with aclosing(visitor.call("chat", tale.prompt, {"conversation": None})) as frames:
        async for messages, status in frames:
            tale.status = status
            tale.seen = max([tale.seen, *(int(n) for text in shown(messages) for n, _ in WORD.findall(text))])


def _check_file(harness: Harness, tales: Sequence[Tale], killed: float) -> None:
    """The file is whole; of each conversation it has the prompt once, and the text but for the last moment."""
    with closing(sqlite3.connect(f"file:{harness.database}?mode=ro", uri=True)) as database:
        assert database.execute("PRAGMA integrity_check").fetchall() == [("ok",)]
        assert database.execute("SELECT count(*) FROM checkpoint").fetchall() == [(0,)]
        histories = list(_histories(database))
    for tale in tales:
        found = [messages for messages in histories if tale.prompt in prompts(messages)]
        assert len(found) == 1 if tale.status else len(found) <= 1, f"{tale} is stored {len(found)} times."
        for messages in found:
            assert prompts(messages) == [tale.prompt]
            _check_reply(harness, tale, messages, killed)


def _check_reply(harness: Harness, tale: Tale, messages: Sequence[ModelMessage], killed: float) -> None:
    noted = [note.split() for note in notes() if note.startswith((f"{tale.prompt} ", f"{tale.prompt}."))]
    written = [(int(number), float(at)) for _, kind, number, at in noted if kind == "word"]
    kept = [(int(number), float(at)) for text in texts(messages) for number, at in WORD.findall(text)]
    assert kept == written[: len(kept)], f"{tale.prompt} has other words than were written."
    assert "".join(texts(messages)) == "".join(f"w{number}@{at:.0f} " for number, at in kept)
    # Not less than nothing: a word can still be written between the look at the clock and the kill.
    lost = max(0, killed - written[len(kept)][1]) if len(kept) < len(written) else 0
    behind = written[tale.seen - 1][1] - (kept[-1][1] if kept else written[0][1]) if tale.seen > len(kept) else 0
    assert lost <= MAY_LOSE_MS, f"{tale.prompt} lost {lost:.0f} ms of text."
    assert behind <= MAY_LOSE_MS, f"A page had seen {behind:.0f} ms more of {tale.prompt}."
    if written:
        harness.report.lost_ms.append(lost)
        harness.report.behind_page_ms.append(behind)
    returns = [part.tool_call_id for message in messages for part in message.parts if isinstance(part, ToolReturnPart)]
    calls = [part.tool_call_id for message in messages for part in message.parts if isinstance(part, ToolCallPart)]
    assert len(set(returns)) == len(returns)
    assert len(set(calls)) == len(calls)
    ended = {call for call, kind, _, at in noted if kind == "end" and killed - float(at) > MAY_LOSE_MS}
    assert ended <= set(returns), f"{tale.prompt} lost the results {ended - set(returns)}."
    started = {call for call, kind, _, _ in noted if kind == "start"}
    harness.report.running_tools += len(started - {call for call, kind, _, _ in noted if kind == "end"})


async def _check_pages(harness: Harness, visitor: Visitor, tales: Sequence[Tale]) -> None:
    """A page shows what is left, marked; and it goes on, or is answered again."""
    for tale in tales:
        if tale.status is None:
            continue
        messages, status = await visitor.last("watch", tale.status)
        assert status["phase"] == "idle"
        assert "Interrupted" in shown(messages)[-1]
        offered = [option["value"] for option in messages[-1]["options"]]
        assert offered == (["retry", "continue"] if len(messages) > 2 else ["retry"])
        if harness.random.random() < 0.25:
            messages, status = await visitor.last("act", {**status, "action": {"do": "retry"}})
            # It was not told yet when its first word had not been written.
            assert shown(messages)[-1] == "Told before." or tale.seen == 0
        messages, status = await visitor.last("chat", QUESTION, status)
        assert shown(messages)[-2:] == [QUESTION, "Yes."]
        assert "options" not in messages[-1]


def _check_notes(harness: Harness) -> None:
    """No tool was run a second time."""
    started = Counter(note.split()[0] for note in notes() if " start " in note)
    assert max(started.values()) == 1


def _histories(database: sqlite3.Connection) -> Iterator[list[ModelMessage]]:
    """The messages of each conversation."""
    entries = {
        id_: (parent, message) for id_, parent, message in database.execute("SELECT id, parent_id, message FROM entry")
    }
    for (head,) in database.execute("SELECT head_id FROM conversation"):
        rows: list[str] = []
        while head is not None:
            head, row = entries[head]
            rows.insert(0, row)
        yield messages_from_json(rows)


def _free_port() -> int:
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return int(probe.getsockname()[1])


def _main() -> None:
    parser = argparse.ArgumentParser(prog="python -m tests.crash", description=__doc__)
    parser.add_argument("kills", nargs="?", type=int, default=200)
    parser.add_argument("--seed", type=int, default=time.time_ns())
    arguments = parser.parse_args()
    print(f"Seed {arguments.seed}")
    with tempfile.TemporaryDirectory() as directory:
        print(asyncio.run(crash(arguments.kills, Path(directory), seed=arguments.seed)))


if __name__ == "__main__":
    _main()
