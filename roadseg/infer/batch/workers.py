"""Who labels the videos of a batch and their chunks: this process, or others for it.

A driver gives tasks to its workers as they have room, and takes the outcomes as they come.
"""

import platform
from collections import deque
from collections.abc import Callable
from dataclasses import dataclass
from functools import partial
from typing import Protocol

from roadseg.errors import BackendUnavailable, OutputError, RoadsegError
from roadseg.files import FULL
from roadseg.infer.batch.chunks import Chunk, Metrics, OnFrame, label
from roadseg.infer.config import InferConfig


@dataclass(frozen=True)
class Task:
    """A video or a chunk of one to label."""

    film: str
    """Name of the video."""
    config: InferConfig
    """Settings, those of the chunk if it is one."""
    chunk: Chunk | None = None
    """The chunk; None is the whole video."""

    @property
    def number(self) -> int | None:
        """Number of the chunk; None is the whole video."""
        return None if self.chunk is None else self.chunk.number


@dataclass(frozen=True, kw_only=True)
class Outcome:
    """How a task ended."""

    machine: str
    """Name of the machine that had it; empty where its worker is gone."""
    metrics: Metrics | None = None
    """What it came to; None if it failed."""
    error: Exception | None = None
    """Why it failed."""
    ends_run: bool = False
    """Whether every other video would fail in the same way."""
    is_lost: bool = False
    """Whether the worker is gone, which says nothing about the task: it can be begun anew."""
    handed_over: tuple[str, ...] = ()
    """Names below the batch's address of what it made, where the driver sees no file of it."""


class Workers(Protocol):
    """Who labels. One driver has them."""

    def has_room(self) -> bool:
        """Return whether another task would be begun now, or soon enough that none has to wait."""
        ...

    def submit(self, task: Task) -> None:
        """Have a task done."""
        ...

    def next_done(self) -> tuple[Task, Outcome]:
        """Wait for the next task that ends, whichever it is, and return how it ended.

        Raises:
            ClusterError: There is nobody any more who could do it.
        """
        ...


class Here:
    """This process, which does one task after the other.

    Args:
        on_frame: Called with every frame of a task: the frames done, and those expected.
    """

    def __init__(self, on_frame: Callable[[Task, int, int | None], None]) -> None:
        self._tasks: deque[Task] = deque()
        self._on_frame = on_frame

    def has_room(self) -> bool:
        """Return whether nothing is to be done."""
        return not self._tasks

    def submit(self, task: Task) -> None:
        """Take a task, and do it when its outcome is asked for."""
        self._tasks.append(task)

    def next_done(self) -> tuple[Task, Outcome]:
        """Do a task."""
        task = self._tasks.popleft()
        try:
            return task, outcome_of(task.config, partial(self._on_frame, task))
        except Exception as error:  # a bug too stops no other video
            return task, Outcome(machine=platform.node(), error=error)


def outcome_of(config: InferConfig, on_frame: OnFrame = lambda _done, _total: None) -> Outcome:
    """Label a video or a chunk in this process, and return how that ended. A bug is raised."""
    machine = platform.node()
    try:
        return Outcome(machine=machine, metrics=label(config, on_frame))
    except RoadsegError as error:
        return Outcome(machine=machine, error=error, ends_run=ends_run(error))


def ends_run(error: Exception) -> bool:
    """Return whether every other video would meet this: a disk without room, a missing package."""
    if isinstance(error, BackendUnavailable):
        return True
    cause = error.__cause__
    return isinstance(error, OutputError) and isinstance(cause, OSError) and cause.errno in FULL
