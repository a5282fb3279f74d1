"""Drive a batch: label one video after the other, and note what became of each.

It may be stopped or killed at any moment and started again: what the manifests say is done, and is
there, is not done again; what was half done is gone on with; a video that fails stops no other.
"""

import contextlib
import errno
import platform
from collections import deque
from collections.abc import Callable
from dataclasses import asdict, dataclass, replace
from functools import partial
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
    label,
    make_chunk_folder,
)
from roadseg.infer.batch.films import (
    BatchConfig,
    Films,
    are_there,
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
from roadseg.infer.batch.sources import fingerprint
from roadseg.infer.batch.store import remove_empty
from roadseg.infer.config import InferConfig

FULL = (errno.ENOSPC, errno.EDQUOT)
"""Errors of a disk that has no room, which every other video would meet too."""


@dataclass(frozen=True)
class Progress:
    """How far the video is that is being labelled."""

    film: str
    """Its name."""
    chunk: int | None
    """Number of the chunk; None is the whole video."""
    done: int
    """Frames written."""
    total: int | None
    """Frames expected, where the file tells."""


@dataclass(frozen=True, kw_only=True)
class Listener:
    """Who is told how a batch goes."""

    listed: Callable[[Films], None] = lambda _films: None
    """Called with videos that are to be labelled, as they are found."""
    noted: Callable[[Record], None] = lambda _record: None
    """Called with every record of the manifest."""
    progress: Callable[[Progress], None] = lambda _progress: None
    """Called with every frame."""
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


@dataclass(frozen=True)
class _Film:
    """A video that is being labelled."""

    name: str
    config: InferConfig
    attempt: int
    source: str | None


class Driver:
    """The driver of a shard.

    Args:
        batch: Settings.
        listener: Who is told.
    """

    def __init__(self, batch: BatchConfig, listener: Listener) -> None:
        self._batch = batch
        self._listener = listener
        self._seen: set[str] = set()
        self._queue: deque[tuple[str, InferConfig]] = deque()
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
        path = batch.shard.manifest(batch.place)
        with Lease(path, self._listener.waits) as self._lease:
            self._manifest = ManifestWriter(path, batch.settings)
            manifests = manifests_of(batch.place)
            for manifest in manifests:
                check_settings(manifest, batch.settings)
            self._known = merged(manifests)
            while self._list():
                while self._queue:
                    self._do(*self._queue.popleft())
        if batch.bucket:
            remove_empty(batch.out)
        ended = self._ended.values()
        return Summary(
            done=tuple(record for record in ended if record.state == DONE),
            failed=tuple(record for record in ended if record.state == FAILED),
            done_before=self._done_before,
        )

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
        self._seen |= new.keys()
        self._done_before += len(new) - len(left)
        self._queue.extend(left.items())
        self._manifest.note_listed(len(ours))
        self._listener.listed(left)
        return bool(left)

    def _do(self, name: str, config: InferConfig) -> None:
        """Label a video and note how that ended, unless it failed as often as it may."""
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
        try:
            metrics = self._label(film, state)
            outputs = self._batch.deliver(name, film.config, metrics.recorded)
        except Exception as error:  # whatever it is, it stops no other video
            if _is_full(error):
                self._note_stopped(film)
                raise
            self._fail(film, error)
        except BaseException:
            self._note_stopped(film)
            raise
        else:
            self._end(film, metrics, outputs)

    def _label(self, film: _Film, state: FilmState) -> Metrics:
        for path in outputs_of(film.config):
            make_folder(path.parent)
        if self._batch.chunk_s is None or not can_be_split(film.config):
            return label(film.config, partial(self._tell, film, None))
        config = replace(film.config, resume=False)
        chunks = chunks_of(config, self._batch.chunk_s)
        make_chunk_folder(config)
        labelled = [self._label_chunk(film, chunk, state) for chunk in chunks]
        return join(config, chunks, labelled)

    def _label_chunk(self, film: _Film, chunk: Chunk, state: FilmState) -> Metrics:
        """Label a chunk, unless an earlier run did and left it here."""
        config, last = chunk_config(film.config, chunk), state.chunks.get(chunk.number)
        if last is not None and are_there(config, last.measured()):
            return last.measured()
        metrics = label(config, partial(self._tell, film, chunk.number))
        self._note(film, DONE, chunk=chunk.number, metrics=asdict(metrics))
        return metrics

    def _tell(self, film: _Film, chunk: int | None, done: int, total: int | None) -> None:
        self._listener.progress(Progress(film.name, chunk, done, total))

    def _end(self, film: _Film, metrics: Metrics, outputs: tuple[str, ...]) -> None:
        """Note that a video is labelled, if it is still the one that was begun."""
        if fingerprint(film.config) == film.source:
            self._note(film, DONE, outputs=outputs, metrics=asdict(metrics))
            return
        sentence = "changed while it was labelled; run the same command again when it is whole"
        self._fail(film, VideoError(f"{film.name} {sentence}"))

    def _fail(self, film: _Film, error: Exception) -> None:
        """Note that a video failed; an error that is a bug says of which kind it is."""
        is_known = isinstance(error, RoadsegError)
        sentence = str(error) if is_known else f"{type(error).__name__}: {error}"
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

    def _note(self, film: _Film, state: str, **more: Any) -> None:
        self._lease.check()
        record = Record(
            film=film.name,
            state=state,
            attempt=film.attempt,
            machine=platform.node(),
            source=film.source,
            **more,
        )
        self._manifest.add(record)
        self._of(film.name).add(record)
        if record.chunk is None:
            self._ended[film.name] = record
        self._listener.noted(record)

    def _note_stopped(self, film: _Film) -> None:
        """Note that a video is left half done, where that is still possible."""
        with contextlib.suppress(RoadsegError):
            self._note(film, STOPPED)

    def _of(self, name: str) -> FilmState:
        return self._known.setdefault(name, FilmState())


def _is_full(error: Exception) -> bool:
    cause = error.__cause__
    return isinstance(error, OutputError) and isinstance(cause, OSError) and cause.errno in FULL
