"""How often a password may be tried."""

import time
from collections import OrderedDict, deque

from chat.address import counted

WINDOW = 15 * 60
"""Seconds in which attempts are counted."""

FAILURES = {"pair": 5, "name": 50, "address": 50}
"""Failures after which nothing more is tried: for a name from one address, for a name, from an address.

The first is small, so that one who guesses is stopped without keeping out whoever has that name.
"""

COUNTED = 20_000
"""Names and addresses that are counted, the least recent forgotten first."""


class Attempts:
    """Counts what failed, in memory: a restart forgets it."""

    def __init__(self) -> None:
        self._failures: OrderedDict[tuple[str, str], deque[float]] = OrderedDict()

    def wait(self, name: str, address: str) -> float:
        """Seconds until the name may be tried from the address; 0 when it may be now."""
        now = time.monotonic()
        return max(self._wait(key, now) for key in _keys(name, address))

    def fail(self, name: str, address: str) -> None:
        """Count a failure; before it is known whether it is one, so that many at once count too."""
        now = time.monotonic()
        for key in _keys(name, address):
            self._failures.setdefault(key, deque(maxlen=FAILURES[key[0]])).append(now)
            self._failures.move_to_end(key)
        while len(self._failures) > COUNTED:
            self._failures.popitem(last=False)

    def succeed(self, name: str, address: str) -> None:
        """Take back the newest one, and forget what the right person got wrong before."""
        pair, *others = _keys(name, address)
        self._failures.pop(pair, None)
        for key in others:
            if failures := self._failures.get(key):
                failures.pop()

    def _wait(self, key: tuple[str, str], now: float) -> float:
        failures = self._failures.get(key)
        if not failures or len(failures) < FAILURES[key[0]]:
            return 0
        return max(0, failures[0] + WINDOW - now)


def _keys(name: str, address: str) -> list[tuple[str, str]]:
    network = counted(address)
    return [("pair", f"{name} {network}"), ("name", name), ("address", network)]
