"""Have the C library give large blocks back, so that a process holds what it uses."""

import ctypes
import sys

LARGE_BYTES = 4 << 20
"""Blocks from this size on are given back at once: class maps and pictures in 4K."""
KEPT_BYTES = 16 << 20
"""Bytes at the end of a thread's heap that it may keep."""
M_TRIM_THRESHOLD, M_MMAP_THRESHOLD = -1, -3
"""Numbers of the settings in the C library's `malloc.h`."""


def give_large_blocks_back() -> None:
    """Have freed blocks of `LARGE_BYTES` go back to the system, in all of this process.

    The GNU C library gives each thread a heap of its own and, after the first large block is freed,
    keeps up to 64 MB in each: with a stage's pictures made on one thread and freed on another, that
    came to a third of what labelling 4K took. To get and clear such a block anew takes 2 ms.
    """
    if sys.platform != "linux":
        return
    mallopt = getattr(ctypes.CDLL(None), "mallopt", None)  # not in every C library
    if mallopt:
        mallopt(M_MMAP_THRESHOLD, LARGE_BYTES)
        mallopt(M_TRIM_THRESHOLD, KEPT_BYTES)
