"""Who labels the videos and chunks of a batch: this process, or a cluster's."""

from collections.abc import Callable
from dataclasses import dataclass
from typing import Protocol

from roadseg.infer.batch.chunks import Metrics, label
from roadseg.infer.config import InferConfig


@dataclass(frozen=True, kw_only=True)
class Task:
    """A video, or a chunk of one, to be labelled."""

    film: str
    """Name of the video."""
    config: InferConfig
    """Settings."""
    attempt: int
    """Which attempt it is."""
    chunk: int | None = None
    """Number of the chunk; None is the whole video."""


@dataclass(frozen=True, kw_only=True)
class Outcome:
    """How a task ended: with metrics or an error."""

    task: Task
    """The task."""
    machine: str
    """Where it was done."""
    metrics: Metrics | None = None
    """What it came to."""
    error: Exception | None = None
    """Why it failed."""
    is_lost: bool = False
    """Whether the worker failed and not the task, which another may do."""


class Workers(Protocol):
    """Those who do tasks."""

    @property
    def room(self) -> int:
        """Tasks that can be given now."""
        ...

    def give(self, task: Task) -> None:
        """Give a task."""
        ...

    def next(self) -> Outcome:
        """Wait until one of the tasks given has ended."""
        ...


class ThisProcess:
    """The process itself, one task after the other on all cores.

    Args:
        machine: Name of the machine.
        on_frame: Called with the task, its frames written and those expected.
    """

    def __init__(self, machine: str, on_frame: Callable[[Task, int, int | None], None]) -> None:
        self._machine = machine
        self._on_frame = on_frame
        self._task: Task | None = None

    @property
    def room(self) -> int:
        """Tasks that can be given now."""
        return int(self._task is None)

    def give(self, task: Task) -> None:
        """Give a task."""
        self._task = task

    def next(self) -> Outcome:
        """Do the task given."""
        task, self._task = self._task, None
        assert task is not None
        try:
            metrics = label(task.config, lambda done, total: self._on_frame(task, done, total))
        except Exception as error:  # whatever it is, it stops no other video
            return Outcome(task=task, machine=self._machine, error=error)
        return Outcome(task=task, machine=self._machine, metrics=metrics)
