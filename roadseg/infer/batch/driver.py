"""Drive a batch: give out what is to be done, note what became of it, join chunks.

It may be stopped or killed at any moment and started again: what the manifests say is done, and is
there, is not done again; what was half done is gone on with; a video that fails stops no other.
"""

import contextlib
import errno
import platform
from collections import deque
from collections.abc import Callable
from dataclasses import asdict, dataclass, field, replace
from typing import Any

from roadseg.errors import OutputError, RoadsegError, VideoError
from roadseg.files import make_folder
from roadseg.infer.batch.chunks import (
    Chunk,
    Metrics,
    can_be_split,
    chunk_config,
    chunks_of,
    join,
    make_chunk_folder,
)
from roadseg.infer.batch.films import (
    BatchConfig,
    Films,
    are_there,
    fingerprint,
    is_done,
    next_attempt,
    outputs_of,
    to_go_on,
)
from roadseg.infer.batch.lease import Lease
from roadseg.infer.batch.manifest import (
    DONE,
    FAILED,
    RUNNING,
    STOPPED,
    FilmState,
    ManifestWriter,
    Record,
    check_settings,
    manifests_of,
    merged,
)
from roadseg.infer.batch.workers import Outcome, Task, Workers
from roadseg.infer.config import InferConfig

FULL = (errno.ENOSPC, errno.EDQUOT)
"""Errors of a disk that has no room, which every other video would meet too."""


@dataclass(frozen=True, kw_only=True)
class Listener:
    """Gets the progress of a batch."""

    listed: Callable[[Films], None] = lambda _films: None
    """Called with videos that are to be labelled, as they are found."""
    noted: Callable[[Record], None] = lambda _record: None
    """Called with every record of the manifest."""
    failed: Callable[[Exception], None] = lambda _error: None
    """Called with what a video failed of."""
    waits: Callable[[str], None] = lambda _sentence: None
    """Called with a sentence when another driver's end is waited for."""


@dataclass(frozen=True, kw_only=True)
class Summary:
    """What a driver did with the videos of its shard."""

    done: tuple[Record, ...]
    """The last word on those that it labelled."""
    failed: tuple[Record, ...]
    """And on those that failed, now or for good before."""
    done_before: int
    """Videos that were done already."""


@dataclass
class _Film:
    """A video that is being labelled."""

    name: str
    config: InferConfig
    attempt: int
    source: str | None
    chunks: list[Chunk] = field(default_factory=list)
    labelled: dict[int, Metrics] = field(default_factory=dict)


class Driver:
    """The driver of a shard.

    Args:
        batch: Settings.
        workers: Who labels.
        listener: Gets the progress.
    """

    def __init__(self, batch: BatchConfig, workers: Workers, listener: Listener) -> None:
        self._batch = batch
        self._workers = workers
        self._listener = listener
        self._machine = platform.node()
        self._seen: set[str] = set()
        self._queue: deque[tuple[str, InferConfig]] = deque()
        self._tasks: deque[Task] = deque()
        self._open: dict[str, _Film] = {}
        self._given = 0
        self._ended: dict[str, Record] = {}
        self._done_before = 0

    def run(self) -> Summary:
        """Label all videos of the shard that are not done, those included that appear meanwhile.

        Raises:
            OutputBusy: Another driver has the shard.
            ConfigError: The manifest is of another version or of other settings.
            OutputError: The manifest cannot be written, or the disk is full.
        """
        batch = self._batch
        make_folder(batch.out)
        path = batch.shard.manifest(batch.out)
        with Lease(path, self._listener.waits) as self._lease:
            self._manifest = ManifestWriter(path, batch.settings)
            manifests = manifests_of(batch.out)
            for manifest in manifests:
                check_settings(manifest, batch.settings)
            self._known = merged(manifests)
            try:
                while self._list():
                    self._drive()
            except BaseException:
                self._note_stopped()
                raise
        ended = self._ended.values()
        return Summary(
            done=tuple(record for record in ended if record.state == DONE),
            failed=tuple(record for record in ended if record.state == FAILED),
            done_before=self._done_before,
        )

    def _list(self) -> bool:
        """Queue the videos that were not there before; return whether there are any."""
        films = self._batch.films()
        new = {n: c for n, c in films.items() if n not in self._seen and self._batch.shard.has(n)}
        self._seen |= new.keys()
        left = {n: c for n, c in new.items() if not is_done(c, self._state(n))}
        self._done_before += len(new) - len(left)
        self._queue.extend(left.items())
        self._manifest.note_listed(sum(map(self._batch.shard.has, films)))
        self._listener.listed(left)
        return bool(left)

    def _drive(self) -> None:
        """Do what is queued."""
        while True:
            while self._workers.room and (task := self._next_task()):
                self._workers.give(task)
                self._given += 1
            if not self._given:
                return
            outcome = self._workers.next()
            self._given -= 1
            self._take(outcome)

    def _next_task(self) -> Task | None:
        while not self._tasks and self._queue:
            self._begin(*self._queue.popleft())
        return self._tasks.popleft() if self._tasks else None

    def _begin(self, name: str, config: InferConfig) -> None:
        """Turn a video into tasks; none are left if all its chunks were labelled before."""
        state = self._state(name)
        film = _Film(
            name, to_go_on(config, state), next_attempt(config, state), fingerprint(config)
        )
        if film.attempt > self._batch.attempts:
            self._give_up(film, state)
            return
        self._open[name] = film
        self._note(film, RUNNING)
        try:
            for path in outputs_of(config):
                make_folder(path.parent)
            if self._batch.chunk_s is None or not can_be_split(config):
                self._tasks.append(Task(film=name, config=film.config, attempt=film.attempt))
            else:
                self._split(film, state, self._batch.chunk_s)
        except RoadsegError as error:
            self._fail(film, error)

    def _give_up(self, film: _Film, state: FilmState) -> None:
        """Leave a video that failed as often as it may."""
        last = state.last
        assert last is not None  # it was begun before
        film.attempt = last.attempt
        if last.state == RUNNING:
            self._fail(film, _killed_each_time(last))
        else:
            self._ended[film.name] = last
            self._listener.noted(last)
            self._listener.failed(VideoError(f"{last.error} ({_given_up(last)})"))

    def _split(self, film: _Film, state: FilmState, least_s: float) -> None:
        """Turn a video into its chunks, without those that an earlier run labelled."""
        film.config = replace(film.config, resume=False)
        film.chunks = chunks_of(film.config, least_s)
        make_chunk_folder(film.config)
        for chunk in film.chunks:
            config = chunk_config(film.config, chunk)
            last = state.chunks.get(chunk.number)
            if last and last.state == DONE and are_there(config, last.measured()):
                film.labelled[chunk.number] = last.measured()
            else:
                self._tasks.append(
                    Task(film=film.name, config=config, attempt=1, chunk=chunk.number)
                )
        self._join_if_complete(film)

    def _take(self, outcome: Outcome) -> None:
        """Note how a task ended, and do what follows from it."""
        task, film = outcome.task, self._open.get(outcome.task.film)
        self._lease.check()
        if film is None:
            return  # it failed by another of its chunks
        if outcome.error is not None:
            self._take_error(film, outcome, outcome.error)
        elif task.chunk is None:
            assert outcome.metrics is not None
            self._end(film, outcome.metrics, outcome.machine)
        else:
            assert outcome.metrics is not None
            film.labelled[task.chunk] = outcome.metrics
            self._note(
                film,
                DONE,
                chunk=task.chunk,
                attempt=task.attempt,
                machine=outcome.machine,
                metrics=asdict(outcome.metrics),
            )
            self._join_if_complete(film)

    def _take_error(self, film: _Film, outcome: Outcome, error: Exception) -> None:
        task = outcome.task
        if task.chunk is not None:
            self._note(
                film,
                FAILED,
                chunk=task.chunk,
                attempt=task.attempt,
                machine=outcome.machine,
                error=_sentence(error),
            )
        if outcome.is_lost and task.attempt < self._batch.attempts:
            self._tasks.append(replace(task, attempt=task.attempt + 1))
            return
        if not outcome.is_lost and _is_full(error):
            raise error
        self._fail(film, error)

    def _join_if_complete(self, film: _Film) -> None:
        if len(film.labelled) < len(film.chunks):
            return
        labelled = [film.labelled[chunk.number] for chunk in film.chunks]
        try:
            metrics = join(film.config, film.chunks, labelled)
        except RoadsegError as error:
            if _is_full(error):
                raise
            self._fail(film, error)
        else:
            self._end(film, metrics, self._machine)

    def _end(self, film: _Film, metrics: Metrics, machine: str) -> None:
        """Note that a video is labelled, if it is still the one that was begun."""
        if fingerprint(film.config) != film.source:
            self._fail(
                film,
                VideoError(
                    f"{film.name} changed while it was labelled; run the same command again when "
                    "it is whole"
                ),
            )
            return
        self._open.pop(film.name)
        outputs = tuple(str(path) for path in outputs_of(film.config))
        self._note(film, DONE, machine=machine, outputs=outputs, metrics=asdict(metrics))

    def _fail(self, film: _Film, error: Exception) -> None:
        """Note that a video failed; its chunks are not worked on any more."""
        self._open.pop(film.name, None)
        self._tasks = deque(task for task in self._tasks if task.film != film.name)
        self._note(film, FAILED, error=_sentence(error))
        self._listener.failed(error)

    def _note(self, film: _Film, state: str, **more: Any) -> None:
        own: dict[str, Any] = {"attempt": film.attempt, "machine": self._machine}
        record = Record(film=film.name, state=state, source=film.source, **own | more)
        self._lease.check()
        self._manifest.add(record)
        self._state(film.name).add(record)
        if record.chunk is None:
            self._ended[film.name] = record
        self._listener.noted(record)

    def _note_stopped(self) -> None:
        """Note the videos that are left half done, where that is still possible."""
        with contextlib.suppress(RoadsegError):
            for film in list(self._open.values()):
                self._note(film, STOPPED)

    def _state(self, name: str) -> FilmState:
        return self._known.setdefault(name, FilmState())


def _sentence(error: Exception) -> str:
    """Return what a manifest says of an error; one that is a bug says of which kind it is."""
    return str(error) if isinstance(error, RoadsegError) else f"{type(error).__name__}: {error}"


def _is_full(error: Exception) -> bool:
    cause = error.__cause__
    return isinstance(error, OutputError) and isinstance(cause, OSError) and cause.errno in FULL


def _killed_each_time(last: Record) -> VideoError:
    return VideoError(f"{last.film} ended the program each time ({_given_up(last)})")


def _given_up(last: Record) -> str:
    return f"given up at attempt {last.attempt}; mend it, or add --attempts {last.attempt + 1}"
