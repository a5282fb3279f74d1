"""End the program on a signal: in good order on the first, at once on the second.

The first signal leaves through every `with` and `finally`, so that every file is finished. A call
into a library that does not return would delay that for ever; so a second signal ends the process
as a crash would, and what a crash leaves plays and can be resumed. A thread of its own waits for
signals, as the main thread may be the one that hangs.
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
"""Seconds of stopping after which a line says so."""
GRACE_S = 1.0
"""Seconds that a second signal leaves for an end in good order."""
STOPPING = b"roadseg: stopping takes longer than usual; a second signal (Ctrl-C) ends it at once\n"
END = bytes(1)
"""Byte that ends the watching thread; any other is the number of a signal."""


@contextlib.contextmanager
def ending_on_signals() -> Iterator[None]:
    """Have the first signal leave the block, in the main thread, and a second end the process.

    Signals that whoever started the program wants ignored, as `nohup` does, stay ignored.
    """
    numbers = [getattr(signal, name) for name in NAMES if hasattr(signal, name)]
    ours = {n for n in numbers if signal.getsignal(n) is not signal.SIG_IGN}
    inbox, outbox = socket.socketpair()
    watching = WatchThread(lambda: _watch(inbox, ours), lambda: outbox.send(END), "signals")
    with inbox, outbox, watching:
        outbox.setblocking(False)
        signal.set_wakeup_fd(outbox.fileno(), warn_on_full_buffer=False)
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


def _watch(inbox: socket.socket, ours: set[int]) -> None:
    """End the process on the second signal, unless it ends in good order before."""
    if not _wait(inbox, ours, None):
        return
    try:
        second = _wait(inbox, ours, PATIENCE_S)
    except TimeoutError:
        with contextlib.suppress(OSError):  # nobody may read it any more
            os.write(2, STOPPING)  # past the locks of `sys.stderr`, which may be held
        second = _wait(inbox, ours, None)
    if not second:
        return
    with contextlib.suppress(TimeoutError):
        if not _wait(inbox, ours, GRACE_S):
            return
    os._exit(128 + second)


def _wait(inbox: socket.socket, ours: set[int], timeout_s: float | None) -> int:
    """Return the next signal's number, or 0 when all is done. Raises `TimeoutError`."""
    inbox.settimeout(timeout_s)
    while (number := inbox.recv(1)[0]) and number not in ours:
        pass
    return number
