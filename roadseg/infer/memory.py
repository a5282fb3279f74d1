"""Have the C library give large blocks back, so that a process holds what it uses."""

import ctypes
import sys

LARGE_BYTES = 4 << 20
"""Blocks from this size on are given back at once: class maps and pictures in 4K."""
KEPT_BYTES = 16 << 20
"""Free bytes that may stay at a heap's end."""
MOST_HEAPS = 2
"""Heaps that all threads share."""
M_TRIM_THRESHOLD, M_MMAP_THRESHOLD, M_ARENA_MAX = -1, -3, -8
"""Numbers of the settings in the C library's `malloc.h`."""


def give_large_blocks_back() -> None:
    """Have freed blocks of `LARGE_BYTES` go back to the system, in all of this process.

    The GNU C library gives each thread a heap of its own and, once a large block was freed, keeps
    up to 64 MB in each; what one stage makes and another frees leaves holes in them. Two heaps do
    for threads that spend their time elsewhere. To get a large block anew takes 2 ms.
    """
    if sys.platform != "linux":
        return
    mallopt = getattr(ctypes.CDLL(None), "mallopt", None)  # not in every C library
    if mallopt:
        mallopt(M_MMAP_THRESHOLD, LARGE_BYTES)
        mallopt(M_TRIM_THRESHOLD, KEPT_BYTES)
        mallopt(M_ARENA_MAX, MOST_HEAPS)
