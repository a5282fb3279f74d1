"""Keep the priority of threads that encode."""

import contextlib
import os
from collections.abc import Iterator
from pathlib import Path

THREADS = Path("/proc/self/task")
"""Where Linux lists the threads of this process."""


@contextlib.contextmanager
def kept_priority() -> Iterator[None]:
    """Give threads back the scheduling that the calling one had, where an encoder has raised it.

    SVT-AV1 gives its threads, and the one that opens it, real-time priority where it is allowed to,
    as for root in a container. Nothing else would run beside them, other programs included.
    """
    if not hasattr(os, "sched_getscheduler"):  # it is there where SVT-AV1 does so
        yield
        return
    before = os.sched_getscheduler(0), os.sched_getparam(0)
    try:
        yield
    finally:
        raised = os.sched_getscheduler(0)
        if raised != before[0]:
            for thread in (int(path.name) for path in THREADS.iterdir()):
                with contextlib.suppress(ProcessLookupError):  # it has ended
                    if os.sched_getscheduler(thread) == raised:
                        os.sched_setscheduler(thread, *before)
