"""End the program when it is told to: in good order, and at once when it is told twice.

The first signal leaves through every `with` and `finally`, so that films end and files are whole. A
call into a library that does not return would keep it waiting for ever; a second signal ends the
process all the same, as a crash would, and what a crash leaves plays and can be gone on from.
Signals are noticed on a thread of their own, as the main thread may be the one that hangs.
"""

import contextlib
import os
import signal
import socket
import sys
from collections.abc import Iterator
from types import FrameType

from roadseg.infer.stages import WatchThread

NAMES = ("SIGINT", "SIGTERM", "SIGHUP")
"""Signals that end the program; Windows has no SIGHUP."""
PATIENCE_S = 2.0
"""Seconds of stopping after which the user is told about it."""
GRACE_S = 1.0
"""Seconds that a second signal leaves for an end in good order."""
STOPPING = b"roadseg: stopping takes longer than usual; a second signal (Ctrl-C) ends it at once\n"
END = bytes(1)
"""What tells the watching thread, which is told signals by their numbers, that all is done."""


@contextlib.contextmanager
def ending_on_signals() -> Iterator[None]:
    """Have the first signal leave the block, in the main thread, and a second end the process.

    Signals that whoever started the program wants ignored, as `nohup` does, stay ignored.
    """
    numbers = [getattr(signal, name) for name in NAMES if hasattr(signal, name)]
    ours = {n for n in numbers if signal.getsignal(n) is not signal.SIG_IGN}
    told, tells = socket.socketpair()
    with told, tells, WatchThread(lambda: _watch(told, ours), lambda: tells.send(END), "signals"):
        tells.setblocking(False)
        signal.set_wakeup_fd(tells.fileno(), warn_on_full_buffer=False)
        leave = _Leave()
        for number in ours:
            signal.signal(number, leave)
        try:
            yield
        finally:
            signal.set_wakeup_fd(-1)


class _Leave:
    """Leaves the program at the first signal; the next must not break into that."""

    def __init__(self) -> None:
        self._leaving = False

    def __call__(self, number: int, _frame: FrameType | None) -> None:
        if self._leaving:
            return
        self._leaving = True
        if number == signal.SIGINT:
            raise KeyboardInterrupt
        sys.exit(128 + number)


def _watch(told: socket.socket, ours: set[int]) -> None:
    """Wait until all is done, or for two signals and the time to heed them."""
    if not _wait(told, ours, None):
        return
    try:
        second = _wait(told, ours, PATIENCE_S)
    except TimeoutError:
        os.write(2, STOPPING)  # past the locks of `sys.stderr`, which may be held
        second = _wait(told, ours, None)
    if not second:
        return
    with contextlib.suppress(TimeoutError):
        if not _wait(told, ours, GRACE_S):
            return
    os._exit(128 + second)


def _wait(told: socket.socket, ours: set[int], timeout_s: float | None) -> int:
    """Return the next signal's number, or 0 when all is done. Raises `TimeoutError`."""
    told.settimeout(timeout_s)
    while (number := told.recv(1)[0]) and number not in ours:
        pass
    return number
