"""Handing back to the system what replies took of the process's memory."""

import asyncio
import ctypes
import sys
from functools import cache

QUIET_SECONDS = 5
"""How long nothing is written before memory is handed back: pages have painted the last words by then."""


class Spare:
    """The memory that is free in the process: what malloc keeps for the next allocation.

    A reply of ten megabytes is copied at each step of its way. What is freed in another order than it was taken stays
    with the process for good, unless the C library is asked to look for it.
    """

    def __init__(self) -> None:
        self._due: asyncio.TimerHandle | None = None

    def keep(self) -> None:
        """Something is being written again: leave the memory where it is."""
        if self._due is not None:
            self._due.cancel()
            self._due = None

    def hand_back_soon(self) -> None:
        """Nothing is being written any more."""
        self.keep()
        loop = asyncio.get_running_loop()
        self._due = loop.call_later(QUIET_SECONDS, loop.run_in_executor, None, _trim)


def _trim() -> None:
    library = _c_library()
    if library is not None:
        library.malloc_trim(0)


@cache
def _c_library() -> ctypes.CDLL | None:
    """The GNU C library, where it is the process's: others hand memory back by themselves."""
    library = ctypes.CDLL(None) if sys.platform == "linux" else None
    return library if hasattr(library, "malloc_trim") else None
