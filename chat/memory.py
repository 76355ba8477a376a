"""Handing back to the system what replies took of the process's memory."""

import ctypes
import sys

LARGE = 128 * 1024
"""Bytes from which a piece of memory is the system's own to give and to take back: where glibc begins."""

_M_MMAP_THRESHOLD = -3
"""The setting's number in glibc's malloc.h."""


def hand_back_large_memory() -> None:
    """Have the C library hand each large piece of memory back to the system once it is freed.

    A reply of ten megabytes is copied at each step of its way. By itself glibc learns from that: once such a piece was
    freed, others up to 32 MiB are put between small things, and stay with the process for good (mallopt(3), "dynamic
    mmap threshold"). Does nothing where the process has another C library: others hand memory back by themselves.
    """
    if sys.platform == "linux" and hasattr(library := ctypes.CDLL(None), "mallopt"):
        library.mallopt(_M_MMAP_THRESHOLD, LARGE)
