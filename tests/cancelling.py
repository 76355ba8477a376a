"""Cancels a coroutine at a chosen await, so that a test can go through all of them."""

import asyncio
from collections.abc import Coroutine, Generator
from dataclasses import dataclass
from typing import Any


@dataclass
class CancelledAt:
    """Awaits `coroutine` and cancels it at its await number `position` and at the `times - 1` awaits after that one.

    What it waits for at that moment is left to go on in its thread, as when a task is cancelled. Awaiting gives
    whether the coroutine ended on its own because it has no such await.
    """

    coroutine: Coroutine[Any, Any, Any]
    position: int
    times: int = 1

    def __await__(self) -> Generator[Any, Any, bool]:
        step = -1
        try:
            waited_for = self.coroutine.send(None)
            while True:
                step += 1
                if self.position <= step < self.position + self.times:
                    waited_for.cancel()
                    yield  # A task that is cancelled wakes up in the loop's next round, too.
                    waited_for = self.coroutine.throw(asyncio.CancelledError())
                else:
                    yield waited_for
                    waited_for = self.coroutine.send(None)
        except StopIteration:
            return step < self.position
        except asyncio.CancelledError:
            return False
