"""How long it takes to be told that somebody else's thing is missing, beside one that is: `--times`.

Ben asks for Anna's things and for missing ones, by every function and route that takes a name, one after the other in
an order that is drawn by lot. A rank test (Mann-Whitney) tells how likely the two would be as different as they were if
there were no difference at all.
"""

import math
import random
import statistics
import time
from collections.abc import AsyncIterator, Awaitable, Callable, Sequence
from dataclasses import dataclass
from functools import partial
from typing import Any

from tests.attacks.others import FUNCTIONS, REQUESTS
from tests.attacks.stage import Stage, Things

ROUNDS = 400
"""Requests for Anna's thing, and as many for a missing one, of each route."""

CALLS = 150
"""The same of each function that waits in line, which takes ten times as long."""

LIKELY = 0.01
"""A difference that is less likely by chance, among all that were tried, counts as one."""


@dataclass(frozen=True)
class Times:
    """Seconds that each answer took, and the chance that they are of one kind."""

    name: str
    hers: list[float]
    missing: list[float]

    @property
    def medians(self) -> tuple[float, float]:
        return statistics.median(self.hers), statistics.median(self.missing)

    @property
    def chance(self) -> float:
        return _same(self.hers, self.missing)


async def measured(stage: Stage) -> AsyncIterator[Times]:
    """The times of each route and function that is asked for something of Anna's."""
    missing = stage.hers.missing()
    for (method, path), requests in sorted(REQUESTS.items()):
        if asked := _first(requests, stage, missing):
            acts = [partial(stage.ben.ask, *request[:2], **request[2]) for request in asked]
            yield await _timed(f"{method} `{path}`", acts, ROUNDS)
    for name, function in stage.functions.items():
        if name in FUNCTIONS and function["backend_fn"] and (called := _first(FUNCTIONS[name], stage, missing)):
            call = stage.ben.call if function["queue"] is not False else stage.ben.run
            yield await _timed(f"`{name}`", [partial(call, function["id"], *each) for each in called], CALLS)


def _first(tries: Callable[[Things, Things], Sequence[Any]], stage: Stage, missing: Things) -> tuple[Any, Any] | None:
    """The first of the tries that names something of Anna's, and the same with a missing one."""
    pairs = zip(tries(stage.hers, stage.his), tries(missing, stage.his), strict=True)
    return next((pair for pair in pairs if pair[0] != pair[1]), None)


async def _timed(name: str, acts: Sequence[Callable[[], Awaitable[str]]], rounds: int) -> Times:
    """Ask for hers with the first act and for a missing one with the second, so many times each."""
    for act in [*acts] * 10:  # Everything is warm then.
        await act()
    order = [0, 1] * rounds
    random.shuffle(order)
    times: tuple[list[float], list[float]] = ([], [])
    for which in order:
        began = time.perf_counter()
        await acts[which]()
        times[which].append(time.perf_counter() - began)
    return Times(name, *times)


def _same(these: list[float], those: list[float]) -> float:
    """The two-sided chance of the Mann-Whitney test, by the normal approximation, which holds from some twenty on."""
    ranks = {value: rank for rank, value in enumerate(sorted({*these, *those}))}
    order = sorted([(ranks[value], 0) for value in these] + [(ranks[value], 1) for value in those])
    total = sum(place for place, (_, which) in enumerate(order, 1) if which == 0)
    first, second = len(these), len(those)
    mean = first * (first + second + 1) / 2
    spread = math.sqrt(first * second * (first + second + 1) / 12)
    return math.erfc(abs(total - mean) / spread / math.sqrt(2))


def table(times: list[Times]) -> str:
    """The figures as they stand in SECURITY.md, and what they say together."""
    lines = ["| asked for | Anna's, ms | a missing one, ms | chance |", "|---|---:|---:|---:|"]
    for each in times:
        hers, missing = each.medians
        lines.append(f"| {each.name} | {hers * 1000:.2f} | {missing * 1000:.2f} | {each.chance:.3f} |")
    told = [each.name for each in times if each.chance * len(times) < LIKELY]
    apart = max(abs(hers - missing) for hers, missing in (each.medians for each in times))
    said = "none can be told apart" if not told else f"told apart: {', '.join(told)}"
    return "\n".join(lines) + f"\n\nOf {len(times)}, {said}; the medians are at most {apart * 1000:.2f} ms apart.\n"
