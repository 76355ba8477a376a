"""The chat as its reader meets it, in a real browser, beside other chats with the same scripted agent.

Every chat is a process of its own. Times are the page's own, taken by `watch.js`; CPU time is that of the server's
process tree, all of it until the last word, then what it uses more than when nobody does anything; the main thread's is
Chromium's `TaskDuration`.
"""

import asyncio
import json
import time
from collections.abc import Callable, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, fields, replace
from itertools import pairwise
from pathlib import Path
from statistics import median
from typing import Any

from playwright.sync_api import Browser, Page, sync_playwright

from tests.bench.apps import model
from tests.bench.served import CHAINLIT, EACH_TOKEN, EXAMPLE, PARLEY, STOCK, App, Served, missing, serve
from tests.bench.table import NO_FIGURE, Cell, Table, number
from tests.browser import _QUIET as BROWSER_FLAGS
from tests.browser import _installed_browser

REPETITIONS = 5
LONGEST_SECONDS = 60
"""A reply that takes longer is not repeated."""

LIMIT_MS = 300_000
"""How long a reply may take until the chat is left out."""

OPEN_MS = 60_000
"""How long a page may take until it shows its conversation."""

IDLE_SECONDS = 5.0
"""How long the idle server is watched before the first measured reply."""

QUIET_SHARE = 0.15
"""The share of a core below which the server and the page count as settled."""

SETTLE_SECONDS = 20
"""How long a chat may work on after the last word until it is not waited for any longer."""

_HERE = Path(__file__).parent


@dataclass(frozen=True)
class Reply:
    """What one reply cost. `None`: nothing to measure."""

    prompt_ms: float | None
    first_ms: float | None
    gap_ms: float | None
    updates: float | None
    whole_seconds: float | None
    cpu_seconds: float | None
    idle_percent: float | None
    main_seconds: float | None
    longest_task_ms: float | None
    kilobytes: float | None
    reload_ms: float | None = None

    @property
    def cpu_ms_per_update(self) -> float | None:
        """Milliseconds of the server's CPU for each visible update."""
        return 1000 * self.cpu_seconds / self.updates if self.updates and self.cpu_seconds is not None else None

    @property
    def cpu_beyond_idle(self) -> float | None:
        """Seconds of the server's CPU without what it uses in as long a time when nobody does anything."""
        if self.cpu_seconds is None or self.idle_percent is None or self.whole_seconds is None:
            return None
        return self.cpu_seconds - self.idle_percent / 100 * self.whole_seconds


Results = Mapping[tuple[App, int], Reply]
"""The median reply of each chat at each number of earlier messages."""


def measure(quick: bool) -> list[Table]:
    """Measure all chats that are installed; with `quick`, once each, at fewer sizes."""
    alone = model_seconds(1 if quick else REPETITIONS)
    results: dict[tuple[App, int], Reply] = {}
    remarks: list[str] = []
    apps = [PARLEY, STOCK, EACH_TOKEN, EXAMPLE, CHAINLIT]
    remarks += [sentence for app in apps if (sentence := missing(app))]
    apps = [app for app in apps if not missing(app)]
    with sync_playwright() as playwright:
        browser = playwright.chromium.launch(executable_path=_installed_browser(), args=list(BROWSER_FLAGS))
        for count in sorted({size for app in apps for size in _sizes(app, quick)}):
            for app in apps:  # Beside each other at each size: what else the machine does hits all alike.
                if count in _sizes(app, quick):
                    try:
                        results[app, count] = _measured(browser, app, count, 1 if quick else REPETITIONS)
                    except Exception as error:  # One chat that fails is no reason to lose the others.
                        remarks.append(f"{app.name} at {count:,} was not measured: {_first_line(error)}")
        browser.close()
    return [_figures(results, alone, 1 if quick else REPETITIONS, remarks), _ratios(results, alone)]


def browser_version() -> str:
    """The measured browser's version."""
    with sync_playwright() as playwright:
        browser = playwright.chromium.launch(executable_path=_installed_browser(), args=list(BROWSER_FLAGS))
        version = browser.version
        browser.close()
        return version


def model_seconds(repetitions: int) -> float:
    """Seconds that the agent takes for a reply when nothing is around it."""

    async def once() -> float:
        begin = time.perf_counter()
        async with model.agent.run_stream(model.question(1)) as result:
            async for _ in result.stream_text(delta=True, debounce_by=None):
                pass
        return time.perf_counter() - begin

    async def all_of_them() -> float:
        await once()
        return median([await once() for _ in range(repetitions)])

    return asyncio.run(all_of_them())


def _first_line(error: Exception) -> str:
    return (str(error).strip() or type(error).__name__).splitlines()[0]


def _sizes(app: App, quick: bool) -> Sequence[int]:
    return (0, app.sizes[-1]) if quick else app.sizes


def _measured(browser: Browser, app: App, count: int, repetitions: int) -> Reply:
    print(f"  {app.name}, {count:,} earlier messages …", flush=True)
    with serve(app, count) as served, _visit(browser, app, served) as page:
        measured = Measured(app, count, served, page)
        measured.warm_up()
        replies: list[Reply] = []
        for number in range(1, repetitions + 1):
            replies.append(measured.reply(number))
            if (replies[-1].whole_seconds or 0) > LONGEST_SECONDS:
                break
        # After all replies: the first one of a page takes longer.
        reloads = [measured.reload(len(replies)) for _ in replies]
        return _median([replace(reply, reload_ms=shown) for reply, shown in zip(replies, reloads, strict=True)])


@contextmanager
def _visit(browser: Browser, app: App, served: Served) -> Any:
    context = browser.new_context(viewport={"width": 1200, "height": 800})
    context.add_cookies([{"name": name, "value": value, "url": served.url} for name, value in served.cookies.items()])
    script = (_HERE / "watch.js").read_text(encoding="utf-8")
    context.add_init_script(script.replace("(LIST, REPLY)", f"({json.dumps(app.list)}, {json.dumps(app.reply)})"))
    try:
        yield context.new_page()
    finally:
        context.close()


class Measured:
    """A chat with a visitor."""

    def __init__(self, app: App, count: int, served: Served, page: Page) -> None:
        self._app, self._count, self._served, self._page = app, count, served, page
        self._devtools = page.context.new_cdp_session(page)
        self._devtools.send("Performance.enable")
        self._received = 0
        self._idle = 0.0
        self._devtools.send("Network.enable")
        self._devtools.on("Network.dataReceived", self._on_data)
        self._devtools.on("Network.webSocketFrameReceived", self._on_frame)

    def warm_up(self) -> None:
        """Open the page, see the earlier messages, and have a short reply written: first times are different."""
        self._page.goto(self._served.url)
        if self._count:
            newest = model.newest_earlier(self._count)
            self._page.locator(self._app.list, has_text=newest).first.wait_for(timeout=OPEN_MS)
        self._page.locator(self._app.box).first.wait_for()
        self._settle()
        self._ask(0, "briefly")
        self._settle()
        self._idle = self._idle_share()

    def reply(self, number: int) -> Reply:
        """Have a reply written, and measure it."""
        begin, cpu, main, received = time.monotonic(), self._served.cpu_seconds(), self._main_seconds(), self._received
        seen = self._ask(number, "at length")
        self._settle()
        elapsed = time.monotonic() - begin
        updates, whole = seen["updates"], seen["last"] / 1000
        return Reply(
            prompt_ms=seen["prompt"],
            first_ms=updates[0],
            gap_ms=max(later - earlier for earlier, later in pairwise(updates)),
            updates=len(updates),
            whole_seconds=whole,
            cpu_seconds=self._served.cpu_seconds() - cpu - self._idle * (elapsed - whole),
            idle_percent=100 * self._idle,
            main_seconds=self._main_seconds() - main,
            longest_task_ms=self._page.evaluate("bench.longestTask()"),
            kilobytes=(self._received - received) / 1000,
        )

    def _ask(self, number: int, wish: str) -> dict[str, Any]:
        words = {"prompt": model.asked(number), "first": model.first_word(number), "last": model.last_word(number)}
        self._page.locator(self._app.box).first.fill(model.question(number, wish))
        self._page.evaluate("words => bench.expect(words)", words)
        self._page.keyboard.press("Enter")
        return self._page.evaluate("limit => bench.reply(limit)", LIMIT_MS)

    def reload(self, number: int) -> float | None:
        """Milliseconds from a reload until the newest message is shown, `number` being the newest prompt's."""
        if not self._app.reloads and not self._count:
            return None  # It shows an empty chat.
        newest = model.last_word(number) if self._app.reloads else model.newest_earlier(self._count)
        self._page.evaluate("text => bench.await(text)", newest)
        self._page.reload(wait_until="commit")
        shown = self._page.evaluate("limit => bench.shown(limit)", OPEN_MS)
        self._settle()
        return shown

    def _settle(self) -> None:
        """Return when the server and the page have nothing left to do."""
        for _ in range(SETTLE_SECONDS * 2):
            before = self._served.cpu_seconds(), self._main_seconds()
            self._page.wait_for_timeout(500)
            after = self._served.cpu_seconds(), self._main_seconds()
            if all(late - early <= QUIET_SHARE / 2 for early, late in zip(before, after, strict=True)):
                return

    def _idle_share(self) -> float:
        """The share of a core that the server uses when nobody does anything."""
        begin, cpu = time.monotonic(), self._served.cpu_seconds()
        self._page.wait_for_timeout(IDLE_SECONDS * 1000)
        return (self._served.cpu_seconds() - cpu) / (time.monotonic() - begin)

    def _main_seconds(self) -> float:
        metrics = self._devtools.send("Performance.getMetrics")["metrics"]
        return next(metric["value"] for metric in metrics if metric["name"] == "TaskDuration")

    def _on_data(self, event: dict[str, Any]) -> None:
        self._received += max(event["encodedDataLength"], 0) or event["dataLength"]

    def _on_frame(self, event: dict[str, Any]) -> None:
        self._received += len(event["response"]["payloadData"])


def _median(replies: Sequence[Reply]) -> Reply:
    return Reply(
        **{
            field.name: median(values)
            if (values := [v for r in replies if (v := getattr(r, field.name)) is not None])
            else None
            for field in fields(Reply)
        }
    )


_COLUMNS: Sequence[tuple[str, Callable[[Reply], float | None]]] = (
    ("Enter → prompt (ms)", lambda reply: reply.prompt_ms),
    ("Enter → first word (ms)", lambda reply: reply.first_ms),
    ("longest gap (ms)", lambda reply: reply.gap_ms),
    ("updates", lambda reply: reply.updates),
    ("whole reply (s)", lambda reply: reply.whole_seconds),
    ("server CPU (s)", lambda reply: reply.cpu_seconds),
    ("of it beyond idle (s)", lambda reply: reply.cpu_beyond_idle),
    ("idle server CPU (%)", lambda reply: reply.idle_percent),
    ("server CPU per update (ms)", lambda reply: reply.cpu_ms_per_update),
    ("main thread (s)", lambda reply: reply.main_seconds),
    ("longest task (ms)", lambda reply: reply.longest_task_ms),
    ("received (kB)", lambda reply: reply.kilobytes),
    ("reload → newest message (ms)", lambda reply: reply.reload_ms),
)


def _figures(results: Results, alone: float, repetitions: int, remarks: Sequence[str]) -> Table:
    rows = [
        [app.name, f"{count:,}", *(_cell(figure(reply)) for _, figure in _COLUMNS)]
        for (app, count), reply in sorted(results.items(), key=lambda item: _ORDER.index(item[0][0]))
    ]
    note = _NOTE.format(
        tokens=model.TOKENS,
        step=1000 * model.TOKEN_SECONDS,
        alone=alone,
        repetitions=repetitions,
        longest=LONGEST_SECONDS,
    )
    columns = ["chat", "earlier messages", *(name for name, _ in _COLUMNS)]
    return Table("One reply in the browser", columns, rows, "\n".join([note, *(f"- {remark}" for remark in remarks)]))


_ORDER = (PARLEY, STOCK, EACH_TOKEN, EXAMPLE, CHAINLIT)

_NOTE = """\
- {tokens} tokens, one every {step:.0f} ms. The agent alone takes {alone:.2f} s. Medians of {repetitions}, after a short
  reply that is not measured; a reply of more than {longest} s is measured once. Each adds two messages.
- An update is a frame in which the reply's text changed; the gap is between two of them. A task of less than 50 ms
  counts as 0. Server CPU and main thread are from Enter until both have settled. What the server uses when nobody does
  anything is in it until the last word: Gradio's queue looks for work each millisecond, in Parley each ten.
- gr.ChatInterface and Chainlit stream `result.stream_text()` as Pydantic AI gives it, gathered for a tenth of a second;
  the row "each token" is without that (`debounce_by=None`). Parley and the example read events themselves.
- Parley and the example read the earlier messages from their databases. gr.ChatInterface (`save_history=True`) has
  them as the chatbot's first value; a reload shows these, not the newest. Chainlit sends them when the chat starts, and
  again after a reload.
- Not measured: the example at 1,000, where its page shows an error, because it parses an answer that has arrived only
  in part; Chainlit at 1,000, because its page had not shown the last of so many messages, sent this way, after five
  minutes.
- The libraries of the example's page come from its own server instead of CDNs, TypeScript's not minified.
- Parley runs as its requirements install it, without logfire."""


def _cell(value: float | None) -> Cell:
    return NO_FIGURE if value is None else value if not float(value).is_integer() else int(value)


@dataclass(frozen=True)
class Target:
    """A figure of Parley's and what it should at most be.

    Attributes:
        count: Earlier messages of the reply.
        most: The limit, a multiple of the `base`'s figure or, without one, a figure.
        base: Which reply it is compared with.
    """

    what: str
    figure: Callable[[Reply], float | None]
    count: int
    most: float
    unit: str = ""
    base: tuple[App, int] | None = None


def _targets(alone: float) -> list[Target]:
    def first(reply: Reply) -> float | None:
        return reply.first_ms

    def cpu(reply: Reply) -> float | None:
        return reply.cpu_seconds

    def whole(reply: Reply) -> float | None:
        return None if reply.whole_seconds is None else reply.whole_seconds / alone

    own, sizes = (PARLEY, 0), PARLEY.sizes
    return [
        *(Target("Enter → prompt", lambda reply: reply.prompt_ms, size, 60, "ms") for size in sizes),
        Target("Enter → first word", first, 0, 0.5, base=(STOCK, 0)),
        Target("Enter → first word", first, 2000, 1.3, base=own),
        *(Target("longest gap", lambda reply: reply.gap_ms, size, 200, "ms") for size in sizes),
        *(Target("whole reply, in times of the model's own", whole, size, 1.03) for size in (0, 2000)),
        Target("server CPU", cpu, 0, 0.8, base=(STOCK, 0)),
        Target("server CPU", cpu, 1000, 0.2, base=(STOCK, 1000)),
        Target("server CPU", cpu, 2000, 1.3, base=own),
        Target("main thread", lambda reply: reply.main_seconds, 1000, 1.5, base=own),
        *(Target("longest task", lambda reply: reply.longest_task_ms, size, 200, "ms") for size in sizes),
        Target("reload → newest message", lambda reply: reply.reload_ms, 2000, 1.5, base=own),
    ]


def _ratios(results: Results, alone: float) -> Table:
    rows = [row for target in _targets(alone) if (row := _judged(target, results))]
    columns = ["Parley's", "earlier messages", "compared with", "measured", "target", "met"]
    return Table("Targets", columns, rows, "Targets are for reading: the benchmark doesn't fail by time.")


def _judged(target: Target, results: Results) -> list[Cell] | None:
    """A row of the table, if both sides were measured."""
    reply = results.get((PARLEY, target.count))
    value = target.figure(reply) if reply else None
    if value is None or (target.base and target.base not in results):
        return None
    compared = NO_FIGURE
    if target.base:
        base = target.figure(results[target.base])
        if not base:
            return None
        app, count = target.base
        value, compared = value / base, f"{'itself' if app is PARLEY else app.name} at {count:,}"
    unit = f" {target.unit}" if target.unit else " times"
    limit = f"≤ {target.most:g}{unit}"
    shown = f"{number(value)}{unit}"
    return [target.what, f"{target.count:,}", compared, shown, limit, "yes" if value <= target.most else "no"]
