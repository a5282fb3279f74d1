"""Drive a batch: have one video after the other labelled, and note what became of each.

It may be stopped or killed at any moment and started again: what the manifests say is done, and is
there, is not done again; what was half done is gone on with; a video that fails stops no other.
"""

import contextlib
import platform
from collections import Counter, deque
from collections.abc import Callable
from dataclasses import asdict, dataclass, field, replace
from functools import partial
from typing import Any, TypeVar

from roadseg.errors import ClusterError, OutputBusy, OutputError, RoadsegError, VideoError
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
from roadseg.infer.batch.films import BatchConfig, next_attempt, outputs_of, to_go_on
from roadseg.infer.batch.lease import Lease, check_division
from roadseg.infer.batch.listener import Listener, Progress, Summary
from roadseg.infer.batch.manifest import (
    DONE,
    FAILED,
    RUNNING,
    STOPPED,
    FilmState,
    ManifestWriter,
    Record,
    check_settings,
    manifest_paths,
    manifests_of,
    merged,
)
from roadseg.infer.batch.sources import fingerprint
from roadseg.infer.batch.store import remove_empty
from roadseg.infer.batch.workers import Here, Outcome, Task, Workers, ends_run
from roadseg.infer.config import InferConfig

T = TypeVar("T")


@dataclass
class _Film:
    """A video that is being labelled."""

    name: str
    config: InferConfig
    attempt: int
    source: str | None
    chunks: list[Chunk] = field(default_factory=list)
    """Its chunks; none where it is labelled whole."""
    labelled: dict[int, Metrics] = field(default_factory=dict)
    """What each chunk came to that is labelled, by its number."""
    losses: Counter[int | None] = field(default_factory=Counter)
    """Workers that were lost, by the number of the chunk that they had."""


class Driver:
    """The driver of a shard.

    Args:
        batch: Settings.
        listener: Who is told.
        workers: Who labels; None is this process.
    """

    def __init__(
        self, batch: BatchConfig, listener: Listener, workers: Workers | None = None
    ) -> None:
        self._batch = batch
        self._listener = listener
        self._workers = workers or Here(self._tell)
        self._where: dict[str, Any] = {"machine": platform.node() if workers is None else ""}
        self._seen: set[str] = set()
        self._queue: deque[tuple[str, InferConfig]] = deque()
        self._open: dict[str, _Film] = {}
        self._ready: deque[tuple[_Film, Chunk | None]] = deque()
        self._ended: dict[str, Record] = {}
        self._done_before = 0

    def run(self) -> Summary:
        """Label all videos of the shard that are not done, those included that appear meanwhile.

        Raises:
            OutputBusy: Another driver has the shard, or one of another division.
            ConfigError: The manifest is of another version or of other settings.
            OutputError: The manifest cannot be written, or the disk is full.
            BackendUnavailable: A runtime or a package that the settings need is not installed.
            ClusterError: The workers are gone, or one of them is not as it must be.
        """
        batch = self._batch
        make_folder(batch.out)
        path = batch.shard.manifest(batch.location)
        with Lease(path, self._listener.waits) as self._lease:
            check_division(path, manifest_paths(batch.location))
            self._manifest = ManifestWriter(path, batch.settings)
            manifests = manifests_of(batch.location)
            for manifest in manifests:
                check_settings(manifest, batch.settings)
            self._known = merged(manifests)
            try:
                self._work()
            except OutputBusy:
                raise  # the manifest is another driver's
            except BaseException:
                self._note_stopped()
                raise
        if batch.bucket:
            remove_empty(batch.out)
        ended = self._ended.values()
        return Summary(
            done=tuple(record for record in ended if record.state == DONE),
            failed=tuple(record for record in ended if record.state == FAILED),
            done_before=self._done_before,
        )

    def _work(self) -> None:
        while self._list():
            while self._queue or self._open:
                self._fill()
                if self._open:
                    self._take(*self._workers.next_done())

    def _list(self) -> bool:
        """Queue the videos that were not there before; return whether there are any."""
        self._batch.store.refresh()
        films = self._batch.films()
        ours = {name: config for name, config in films.items() if self._batch.shard.has(name)}
        new = {name: config for name, config in ours.items() if name not in self._seen}
        done = self._batch.is_done
        left = {
            name: config for name, config in new.items() if not done(name, config, self._of(name))
        }
        for name in new.keys() - left.keys():
            self._clear(new[name])
        self._seen |= new.keys()
        self._done_before += len(new) - len(left)
        self._queue.extend(left.items())
        self._manifest.note_listed(len(ours))
        self._listener.listed(left)
        return bool(left)

    def _fill(self) -> None:
        """Give the workers as much as they have room for; begin videos for that."""
        while (self._ready or self._queue) and self._workers.has_room():
            if self._ready:
                self._submit(*self._ready.popleft())
            else:
                self._begin(*self._queue.popleft())

    def _begin(self, name: str, config: InferConfig) -> None:
        """Begin a video, unless it failed as often as it may."""
        state = self._of(name)
        attempt, source = next_attempt(config, state), fingerprint(config)
        film = _Film(name, to_go_on(config, state), attempt, source)
        if attempt > self._batch.attempts:
            self._give_up(replace(film, attempt=attempt - 1), state)
            return
        try:
            self._batch.check_free(film.config)
        except OutputError as error:
            self._fail(film, error)  # before it is begun, or the next run would replace that
            return
        self._note(film, RUNNING)
        self._open[name] = film
        self._tried(film, partial(self._plan, film, state))
        self._finish_if_whole(film)

    def _plan(self, film: _Film, state: FilmState) -> None:
        """Find what is to be done for a video: all of it, or the chunks that are not labelled."""
        for path in outputs_of(film.config):
            make_folder(path.parent)
        if not state.chunks:
            self._batch.clear(film.config)  # what is left is another video's, or was given up
        if self._batch.chunk_s is None or not can_be_split(film.config):
            self._ready.append((film, None))
            return
        film.config = replace(film.config, resume=False)
        film.chunks = chunks_of(film.config, self._batch.chunk_s)
        make_chunk_folder(film.config)
        for chunk in list(film.chunks):
            self._plan_chunk(film, chunk, state.chunks.get(chunk.number))

    def _plan_chunk(self, film: _Film, chunk: Chunk, last: Record | None) -> None:
        """Have a chunk labelled, unless an earlier run did and left it here."""
        if last is not None:
            chunk = replace(chunk, attempt=last.attempt)
            config = chunk_config(film.config, chunk)
            if last.state == DONE and self._batch.are_there(config, last.measured()):
                film.chunks[chunk.number] = chunk
                film.labelled[chunk.number] = last.measured()
                return
            chunk = replace(chunk, attempt=last.attempt + 1)
        self._ready.append((film, chunk))

    def _submit(self, film: _Film, chunk: Chunk | None) -> None:
        config = film.config
        if chunk is not None:
            film.chunks[chunk.number] = chunk
            config = chunk_config(config, chunk)
            self._note(film, RUNNING, chunk, **self._where)
        elif not self._where["machine"]:
            self._note(film, RUNNING, **self._where)
        self._workers.submit(Task(film.name, config, chunk))

    def _take(self, task: Task, outcome: Outcome) -> None:
        """Take a task's outcome; what comes late of a video that failed says nothing any more."""
        film = self._open.get(task.film)
        if film is None:
            return
        self._batch.note(outcome.handed_over)
        if outcome.is_lost:
            self._begin_anew(film, task.chunk, outcome)
        elif outcome.error is not None:
            if outcome.ends_run:
                raise outcome.error
            self._fail(film, outcome.error)
        elif outcome.metrics is not None:
            self._keep(film, task, outcome, outcome.metrics)

    def _begin_anew(self, film: _Film, chunk: Chunk | None, outcome: Outcome) -> None:
        """Begin anew what a worker had that is gone, unless that happened as often as it may."""
        number = None if chunk is None else chunk.number
        film.losses[number] += 1
        what = film.name if chunk is None else f"chunk {number} of {film.name}"
        if chunk is not None:
            self._note(film, FAILED, chunk, error=str(outcome.error))
        if film.losses[number] >= self._batch.attempts:
            sentence = f"ended its worker {film.losses[number]} times ({outcome.error})"
            self._fail(film, ClusterError(f"{what} {sentence}"))
            return
        self._listener.lost(f"{what} is begun anew, as its worker is gone ({outcome.error})")
        if chunk is None:
            film.config = to_go_on(film.config, self._of(film.name))
        else:
            chunk = replace(chunk, attempt=chunk.attempt + 1)
        self._ready.appendleft((film, chunk))

    def _keep(self, film: _Film, task: Task, outcome: Outcome, metrics: Metrics) -> None:
        """Keep account of what is labelled; join the chunks after the last.

        Raises:
            ClusterError: It is not here, as its machine sees other folders.
        """
        if not self._batch.are_there(task.config, metrics):
            raise ClusterError(
                f"{outcome.machine} labelled {film.name} into {outputs_of(task.config)[0].parent}, "
                "and nothing is there; --out must be the same folder on all machines"
            )
        if task.chunk is None:
            self._end(film, metrics)
            return
        film.labelled[task.chunk.number] = metrics
        self._note(film, DONE, task.chunk, machine=outcome.machine, metrics=asdict(metrics))
        self._listener.progress(Progress(film.name, None, len(film.labelled), len(film.chunks)))
        self._finish_if_whole(film)

    def _finish_if_whole(self, film: _Film) -> None:
        """Join the chunks of a video, if it has any and all are labelled."""
        if film.name not in self._open or not film.chunks:
            return
        if len(film.labelled) == len(film.chunks):
            metrics = self._tried(film, partial(self._join, film))
            if metrics is not None:
                self._end(film, metrics)

    def _join(self, film: _Film) -> Metrics:
        for chunk in film.chunks:
            self._batch.fetch(chunk_config(film.config, chunk))
        labelled = [film.labelled[chunk.number] for chunk in film.chunks]
        return join(film.config, film.chunks, labelled)

    def _tried(self, film: _Film, work: Callable[[], T]) -> T | None:
        """Return what some work on a video gives; None if it failed, which stops no other video."""
        try:
            return work()
        except Exception as error:  # whatever it is
            if ends_run(error):
                raise
            self._fail(film, error)
            return None

    def _tell(self, task: Task, done: int, total: int | None) -> None:
        self._listener.progress(Progress(task.film, task.number, done, total))

    def _end(self, film: _Film, metrics: Metrics) -> None:
        """Deliver what was made of a video and note that, if it is still the one that was begun."""
        outputs = self._tried(film, partial(self._deliver, film, metrics))
        if outputs is None:
            return
        if fingerprint(film.config) == film.source:
            self._note(film, DONE, outputs=outputs, metrics=asdict(metrics))
            self._clear(film.config)
            return
        sentence = "changed while it was labelled; run the same command again when it is whole"
        self._fail(film, VideoError(f"{film.name} {sentence}"))

    def _deliver(self, film: _Film, metrics: Metrics) -> tuple[str, ...]:
        if not film.chunks:
            self._batch.fetch(film.config)
        return self._batch.deliver(film.name, film.config, metrics.recorded)

    def _clear(self, config: InferConfig) -> None:
        """Remove what machines handed over of a video that is done, or leave it to the next run."""
        with contextlib.suppress(RoadsegError):
            self._batch.clear(config)

    def _fail(self, film: _Film, error: Exception) -> None:
        """Note that a video failed; an error that is a bug says of which kind it is."""
        is_known = isinstance(error, RoadsegError)
        sentence = str(error) if is_known else f"{type(error).__name__}: {error}"
        self._ready = deque(ready for ready in self._ready if ready[0] is not film)
        self._note(film, FAILED, error=sentence)
        self._listener.failed(error)

    def _give_up(self, film: _Film, state: FilmState) -> None:
        """Leave a video that failed as often as it may, or ended the program as often."""
        last = state.last
        assert last is not None  # it was begun before
        advice = (
            f"given up at attempt {film.attempt}; mend it, or add --attempts {film.attempt + 1}"
        )
        if last.state == RUNNING:
            self._fail(film, VideoError(f"{film.name} ended the program each time ({advice})"))
            return
        self._ended[film.name] = last
        self._listener.noted(last)
        self._listener.failed(VideoError(f"{last.error} ({advice})"))

    def _note(self, film: _Film, state: str, chunk: Chunk | None = None, **more: Any) -> None:
        self._lease.check()
        record = Record(
            film=film.name,
            state=state,
            chunk=None if chunk is None else chunk.number,
            attempt=chunk.attempt if chunk else film.attempt,
            source=film.source,
            **{"machine": platform.node(), **more},
        )
        self._manifest.add(record)
        self._of(film.name).add(record)
        if chunk is None:
            self._ended[film.name] = record
            if state in (DONE, FAILED):
                self._open.pop(film.name, None)
        self._listener.noted(record)

    def _note_stopped(self) -> None:
        """Note of what is being labelled that it is left half done, where that is possible."""
        with contextlib.suppress(RoadsegError):
            for film in self._open.values():
                self._note(film, STOPPED)

    def _of(self, name: str) -> FilmState:
        return self._known.setdefault(name, FilmState())
