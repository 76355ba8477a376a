"""Memory that large replies took goes back to the system."""

import asyncio
import sys
from pathlib import Path

import pytest

from chat.memory import Spare

pytestmark = [
    pytest.mark.anyio,
    pytest.mark.skipif(sys.platform != "linux", reason="reads Linux's own count of the process's memory"),
]

PIECE, PIECES = 100_000, 2_000
PATIENCE = 30


def resident() -> int:
    """Bytes of the process that are in RAM."""
    return int(Path("/proc/self/statm").read_text().split()[1]) * 4096


async def until_below(limit: int) -> None:
    async with asyncio.timeout(PATIENCE):
        while resident() > limit:  # noqa: ASYNC110  # The system tells nobody.
            await asyncio.sleep(0.05)


async def test_what_is_free_between_things_that_stay_is_handed_back(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("chat.memory.QUIET_SECONDS", 0)
    spare = Spare()
    pieces = [bytes(PIECE) for _ in range(PIECES)]
    kept = pieces[::50]
    del pieces
    left = resident()
    spare.hand_back_soon()
    await until_below(left - PIECE * PIECES // 2)
    assert kept


async def test_nothing_is_handed_back_when_something_is_written_again(monkeypatch: pytest.MonkeyPatch) -> None:
    asked: list[None] = []
    monkeypatch.setattr("chat.memory.QUIET_SECONDS", 0)
    monkeypatch.setattr("chat.memory._trim", lambda: asked.append(None))
    spare = Spare()
    spare.hand_back_soon()
    spare.keep()
    loop = asyncio.get_running_loop()
    later = loop.create_future()
    loop.call_later(0.01, later.set_result, None)
    await later
    assert asked == []
