"""Many people at once: each sends one message to the real app, over HTTP, and reads the reply as it is written.

A person does what a page does: takes a cookie, follows the announcements, joins the queue, reads its event stream, and
asks for the sidebar when the message is taken. The client parses next to nothing: it shares the machine with the
server.
"""

import asyncio
import json
import statistics
import tempfile
import time
from collections.abc import AsyncIterator, Sequence
from contextlib import asynccontextmanager, suppress
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any
from uuid import uuid4

import psutil

from tests.bench.apps.model import TOKEN_SECONDS, TOKENS, first_word, last_word, question, reply
from tests.bench.program import Program, parley
from tests.bench.table import Table

MODEL = f"the model writes {TOKENS} tokens, one each {TOKEN_SECONDS * 1000:.0f} ms by the clock"
STREAMED, LINED = 50, 200
LIST_SECONDS = 0.3
"""How long the page waits until it asks for its list again."""

LIMIT_SECONDS = 180
"""After this a person gives up, and has failed."""

_LONGEST_LINE = 1 << 24


@dataclass
class Person:
    """What one person saw. Times are seconds on the client's clock."""

    number: int
    sent: float = 0
    first: float | None = None
    last: float | None = None
    frames: int = 0
    places: list[int] = field(default_factory=list[int])
    """Numbers in line that the page showed."""
    conversation: str | None = None
    whole: bool = False
    """Whether the reply, read again afterwards, has all its words."""

    @property
    def writing(self) -> float:
        """Seconds from the first word to the last."""
        assert self.first is not None
        assert self.last is not None
        return self.last - self.first


@dataclass(frozen=True)
class Crowd:
    """What all saw, and what it cost."""

    people: Sequence[Person]
    seconds: float
    server_cpu: float
    client_cpu: float
    others_cpu: float
    """What all other programs on the machine computed, in seconds: next to nothing, or the figures mean little."""

    @property
    def whole(self) -> list[Person]:
        return [person for person in self.people if person.whole]


def measure(quick: bool) -> list[Table]:
    """Fifty people, all of them served at once; then two hundred, most of whom have to wait in line."""
    with tempfile.TemporaryDirectory() as directory, parley(Path(directory)) as program:
        alone = statistics.median(asyncio.run(_crowd(program, 1)).people[0].writing for _ in range(1 if quick else 3))
        streamed = [asyncio.run(_crowd(program, STREAMED)) for _ in range(1 if quick else 3)]
        lined = asyncio.run(_crowd(program, LINED))
    return [_streaming_table(streamed, alone), _line_table(lined)]


def _streaming_table(crowds: Sequence[Crowd], alone: float) -> Table:
    people = [person for crowd in crowds for person in crowd.whole]
    # Who sees the first word late gets the rest of it at once: no more speed than the model has.
    speeds = sorted(alone / max(alone, person.writing) for person in people)
    replies = sorted(alone / (person.last - person.sent) for person in people if person.last)
    waits = sorted((person.first - person.sent) * 1000 for person in people if person.first)
    failed = sum(len(crowd.people) - len(crowd.whole) for crowd in crowds)
    rows = [
        ("the slowest person's speed, % of one person's alone", speeds[0] * 100, "≥ 90"),
        ("median speed, %", statistics.median(speeds) * 100, ""),
        ("the slowest whole reply from sending on, % of that speed", replies[0] * 100, ""),
        ("first word, 50 % see it within, ms", _percentile(waits, 50), ""),
        ("first word, 95 % see it within, ms", _percentile(waits, 95), "≤ 1,000"),
        ("first word, the last, ms", waits[-1], ""),
        ("updates of a page per second, median", statistics.median(map(_updates, people)), "≤ 10"),
        ("replies that are not whole", failed, "0"),
        *_cpu_rows(crowds),
    ]
    note = (
        f"All send within one moment; {MODEL}. Speed: the time between the first and the last word on a single "
        f"person's page, alone on the same server ({alone:.2f} s), divided by the same time on each page, at "
        "most 100 %: a late first word makes the rest seem fast, so read it together with the whole reply's figure. "
        f"{len(crowds)} rounds."
    )
    return Table(f"{STREAMED} people streaming at once", ("what", "figure", "target"), rows, note)


def _updates(person: Person) -> float:
    """Per second, from sending to the last word."""
    assert person.last is not None
    return person.frames / (person.last - person.sent)


def _line_table(crowd: Crowd) -> Table:
    waits = sorted(person.first - person.sent for person in crowd.whole if person.first)
    lined = [person for person in crowd.people if person.places]
    late = [person for person in crowd.whole if person.first and person.first - person.sent > 2]
    rows = [
        ("replies that are not whole", len(crowd.people) - len(crowd.whole), "0"),
        ("people who saw their number in line", len(lined), f"≥ {LINED - 64}"),
        ("who had a place at once and saw dots for over 2 s", sum(not person.places for person in late), ""),
        ("highest number in line", max((max(person.places) for person in lined), default=0), ""),
        ("first word, 50 % see it within, s", _percentile(waits, 50), ""),
        ("first word, 95 % see it within, s", _percentile(waits, 95), ""),
        ("first word, the last, s", waits[-1] if waits else float("nan"), ""),
        ("everybody has the whole reply after, s", crowd.seconds, ""),
        *_cpu_rows([crowd]),
    ]
    note = f"64 replies are written at the same time (`CHAT_MAX_RUNS`), the others wait in line; {MODEL}."
    return Table(f"{LINED} people at once", ("what", "figure", "target"), rows, note)


def _cpu_rows(crowds: Sequence[Crowd]) -> list[tuple[str, float, str]]:
    seconds = sum(crowd.seconds for crowd in crowds)
    return [
        ("server, % of one core", 100 * sum(crowd.server_cpu for crowd in crowds) / seconds, ""),
        ("this client, % of one core", 100 * sum(crowd.client_cpu for crowd in crowds) / seconds, ""),
        ("other programs, % of one core", 100 * sum(crowd.others_cpu for crowd in crowds) / seconds, ""),
    ]


async def _crowd(program: Program, size: int) -> Crowd:
    """So many new people, all of whom send at the same moment."""
    pages = await open_pages(program, size)
    following = [asyncio.create_task(page.follow()) for page in pages]
    await asyncio.sleep(0.5)
    cpu, own, busy, begin = program.cpu_seconds(), time.process_time(), _busy_seconds(), time.perf_counter()
    await asyncio.gather(*(page.ask() for page in pages))
    seconds, server, client = time.perf_counter() - begin, program.cpu_seconds() - cpu, time.process_time() - own
    others = _busy_seconds() - busy - server - client
    for page in pages:
        await page.read_again()
    for task in following:
        task.cancel()
    await asyncio.gather(*following, return_exceptions=True)
    return Crowd([page.person for page in pages], seconds, server, client, max(0, others))


async def open_pages(program: Program, count: int) -> list["Page"]:
    """Pages of as many new people."""
    host, _, port = program.url.removeprefix("http://").partition(":")
    pages = [Page(host, int(port), number) for number in range(1, count + 1)]
    for page in pages:
        await page.open()
    return pages


def _busy_seconds() -> float:
    """What all programs on the machine have computed so far, on all cores."""
    times = psutil.cpu_times()
    return sum(times) - times.idle - getattr(times, "iowait", 0)


class Page:
    """A tab of one person, as far as the server can tell."""

    def __init__(self, host: str, port: int, number: int) -> None:
        self.person = Person(number)
        self._first, self._last = first_word(number).encode(), last_word(number).encode()
        self._host, self._port = host, port
        self._session = uuid4().hex
        self._cookie = ""
        self._functions: dict[str, int] = {}
        self._listing: asyncio.Task[None] | None = None

    async def open(self) -> None:
        """Take the cookie, learn what the page can call, and load what it shows first: nothing yet."""
        async with self._request("GET", "/config") as (headers, lines):
            self._cookie = headers["set-cookie"].partition(";")[0]
            config = json.loads(b"".join([line async for line in lines]))
        self._functions = {function["api_name"]: function["id"] for function in config["dependencies"]}
        async for _ in self.call("watch", {}):
            pass

    async def follow(self) -> None:
        """Keep the announcements open, as each tab does."""
        async with self._request("GET", "/parley/announcements") as (_, lines):
            async for _ in lines:
                pass

    async def ask(self) -> None:
        """Send the message and read its reply until the end."""
        self.person.sent = time.perf_counter()
        with suppress(TimeoutError, OSError, asyncio.IncompleteReadError):
            async with asyncio.timeout(LIMIT_SECONDS):
                status = {"conversation": None, "sent": 1}
                async for line in self.call("chat", question(self.person.number), status):
                    await self._see(line)

    async def read_again(self) -> None:
        """Look at the conversation as a new tab would: is all of it there?"""
        wanted = json.dumps("".join(reply(self.person.number)))[1:-1].encode()
        if self.person.conversation:
            status = {"conversation": self.person.conversation}
            self.person.whole = any([wanted in line async for line in self.call("watch", status)])

    async def _see(self, line: bytes) -> None:
        person, now = self.person, time.perf_counter()
        person.frames += b'"process_generating"' in line
        if person.conversation is None and b'"conversation":"' in line:
            person.conversation = _after(line, b'"conversation":"', b'"').decode()
            self._listing = asyncio.create_task(self._list(person.conversation))
        if person.first is None:
            if b"number " in line:
                person.places.append(int(_after(line, b"number ", b" ")))
            if self._first in line:
                person.first = now
        if person.last is None and self._last in line:
            person.last = now

    async def _list(self, conversation: str) -> None:
        await asyncio.sleep(LIST_SECONDS)
        async with self._request("GET", f"/parley/conversations?id={conversation}") as (_, lines):
            async for _ in lines:
                pass

    async def call(self, name: str, *data: Any) -> AsyncIterator[bytes]:
        """The server's messages about one event of the page, until it is completed."""
        await self._join(name, *data)
        async with self._request("GET", f"/gradio_api/queue/data?session_hash={self._session}") as (_, lines):
            async for line in lines:
                if line.startswith(b"data:"):
                    yield line
                    if b'"process_completed"' in line:
                        return

    async def _join(self, name: str, *data: Any) -> None:
        event = {"data": data, "fn_index": self._functions[name], "session_hash": self._session}
        async with self._request("POST", "/gradio_api/queue/join", json.dumps(event).encode()) as (_, lines):
            async for _ in lines:
                pass

    @asynccontextmanager
    async def _request(
        self, method: str, address: str, body: bytes = b""
    ) -> AsyncIterator[tuple[dict[str, str], AsyncIterator[bytes]]]:
        """One request on a connection of its own: the answer's headers and the lines of its body."""
        reader, writer = await asyncio.open_connection(self._host, self._port, limit=_LONGEST_LINE)
        try:
            head = [
                f"{method} {address} HTTP/1.1",
                f"Host: {self._host}:{self._port}",
                "Content-Type: application/json",
                f"Content-Length: {len(body)}",
                f"Cookie: {self._cookie}",
                "Connection: close",
            ]
            writer.write("\r\n".join([*head, "", ""]).encode() + body)
            answer = (await reader.readuntil(b"\r\n\r\n")).decode().split("\r\n")
            if " 200 " not in answer[0]:
                raise ConnectionError(f"{address} answers {answer[0]}")
            headers = {name.lower(): value for name, _, value in (line.partition(": ") for line in answer[1:])}
            # The sizes of chunks are lines too; an event never has two chunks, and no other body is chunked.
            yield headers, aiter(reader)
        finally:
            writer.close()


def _after(line: bytes, before: bytes, end: bytes) -> bytes:
    return line.partition(before)[2].partition(end)[0]


def _percentile(ordered: Sequence[float], percent: float) -> float:
    """The smallest figure that so many per cent do not exceed."""
    return ordered[max(0, -(-len(ordered) * percent // 100).__int__() - 1)] if ordered else float("nan")


if __name__ == "__main__":
    for table in measure(quick=False):
        print(table.markdown(), end="\n\n")
