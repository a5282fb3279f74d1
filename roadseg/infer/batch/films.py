"""The videos of a batch: which are a shard's, and what is to be done with each."""

import os
import re
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, replace
from functools import cached_property
from hashlib import blake2b
from pathlib import Path
from typing import Self

from roadseg.backends.runtimes import runtime_of
from roadseg.errors import ConfigError, RoadsegError
from roadseg.files import sha256_of
from roadseg.infer.batch.chunks import LEAST_CHUNK_S, Metrics, chunk_folder
from roadseg.infer.batch.manifest import DONE, FAILED, NAME, RUNNING, FilmState
from roadseg.infer.batch.own_file import Location, inside
from roadseg.infer.batch.partition import any_date, partition
from roadseg.infer.batch.sources import fingerprint
from roadseg.infer.batch.store import Bucket, Store, check_free, store_at
from roadseg.infer.config import InferConfig, settings_record
from roadseg.infer.output_checks import is_file
from roadseg.spec import PALETTES
from roadseg.video.url import Url
from roadseg.video.write.part import check_settings, part_path

Films = Mapping[str, InferConfig]
"""Settings for each video, by the video's name in the batch."""


@dataclass(frozen=True)
class Shard:
    """One of several equal parts of a batch.

    A video belongs to a shard by its name alone. So the shards of several drivers cover all videos
    without overlap, even if videos are added or removed in between.
    """

    number: int = 0
    """Shards before it."""
    count: int = 1
    """Shards in all."""

    @classmethod
    def parse(cls, text: str) -> Self:
        """Return a shard as users write it.

        Raises:
            ConfigError: It is none.
        """
        match = re.fullmatch(r"(\d{1,6})/(\d{1,6})", text)
        if not match or not int(match[1]) < int(match[2]):
            raise ConfigError(
                f"--shard is {text!r}; give I/N with I from 0 to N-1, such as --shard 0/4"
            )
        return cls(int(match[1]), int(match[2]))

    def has(self, film: str) -> bool:
        """Return whether a video is one of the shard's."""
        name = film.encode("utf-8", "surrogateescape")
        # Not a checksum: of numbered names, its last bits may all be the same.
        digest = blake2b(name, digest_size=8).digest()
        return int.from_bytes(digest) % self.count == self.number

    def manifest(self, out: Location) -> Location:
        """Return the shard's manifest."""
        return inside(out, NAME.format(self.number, self.count))


@dataclass(frozen=True, kw_only=True)
class BatchConfig:
    """Settings of a batch beside those of its videos."""

    out: Path
    """Folder of all that is written, or of what is not complete yet where `bucket` is given."""
    films: Callable[[], Films]
    """Lists the videos that there are now, each with its settings."""
    settings: Mapping[str, str]
    """What the videos have in common, for the manifest."""
    shard: Shard = Shard()
    """Which videos are labelled."""
    chunk_s: float | None = None
    """Least length of a chunk in seconds; None labels videos whole."""
    attempts: int = 3
    """Times that a video, or a chunk of it, is begun before it is given up."""
    dataset: str | None = None
    """Name of the data set of all statistics; None leaves them beside what else is written."""
    bucket: Url | None = None
    """Address below which all that is written lies in the end; None is `out`."""

    def __post_init__(self) -> None:
        """Check each value, naming the flag at fault."""
        if self.chunk_s is not None and not self.chunk_s >= LEAST_CHUNK_S:
            raise ConfigError(
                f"--chunk is {self.chunk_s:g}; it must be {LEAST_CHUNK_S:g} seconds or more, as "
                "each chunk costs the frames around it"
            )
        if self.attempts < 1:
            raise ConfigError(f"--attempts is {self.attempts}; it must be 1 or more")

    @property
    def location(self) -> Location:
        """Where all that is written lies in the end."""
        return self.bucket or self.out

    @cached_property
    def store(self) -> Store:
        """The outputs that lie there."""
        return store_at(self.location)

    def names(self, film: str, config: InferConfig, recorded: str | None) -> dict[Path, str]:
        """Return what a video's run writes, with the names that it gets in the store.

        Args:
            film: Name of the video.
            config: Its settings.
            recorded: When it was recorded.
        """
        names = {path: path.relative_to(self.out).as_posix() for path in outputs_of(config)}
        if self.dataset and config.stats:
            names[config.stats] = partition(self.dataset, film, recorded)
        return names

    def are_there(self, config: InferConfig, metrics: Metrics) -> bool:
        """Return whether what a chunk's run wrote is there; one without frames wrote nothing."""
        names = handed_over(config, self.out)
        return not metrics.frames or all(
            os.path.lexists(path) or self.store.has(name) for path, name in names.items()
        )

    def note(self, names: Sequence[str]) -> None:
        """Take notice of what a machine handed over."""
        if isinstance(self.store, Bucket):
            self.store.note(names)

    def fetch(self, config: InferConfig) -> None:
        """Bring here what another machine's run wrote, if it handed anything over.

        Raises:
            OutputError: It cannot be fetched, or written here.
        """
        if isinstance(self.store, Bucket):
            names = handed_over(config, self.out)
            self.store.fetch({p: name for p, name in names.items() if self.store.has(name)})

    def clear(self, config: InferConfig) -> None:
        """Remove what machines handed over of a video. Raises `OutputError`."""
        if isinstance(self.store, Bucket):
            self.store.clear(chunk_folder(config).relative_to(self.out).as_posix())

    def is_done(self, film: str, config: InferConfig, state: FilmState) -> bool:
        """Return whether a video was labelled, and is still there as it was then."""
        last = state.last
        if last is None or last.state != DONE or last.source != fingerprint(config, listed=True):
            return False
        return all(map(self.store.has, self.names(film, config, last.measured().recorded).values()))

    def check_free(self, config: InferConfig) -> None:
        """Find out before a video is labelled whether nothing lies at its place.

        Raises:
            OutputError: Something does, and is not to be replaced.
        """
        for path in outputs_of(config):
            name = path.relative_to(self.out).as_posix()
            check_free(self.store, name, replace=config.overwrite)

    def deliver(self, film: str, config: InferConfig, recorded: str | None) -> tuple[str, ...]:
        """Bring what a video's run wrote to where it belongs; return where that is.

        Raises:
            OutputError: It cannot be put there.
        """
        names = self.names(film, config, recorded)
        self.store.take(names, replace=config.overwrite)
        if self.dataset and config.stats:
            self.store.remove(any_date(self.dataset, film), but=names[config.stats])
        return tuple(map(self.store.address, names.values()))


def common_settings(config: InferConfig, chunk_s: float | None) -> dict[str, str]:
    """Return what all videos of a batch are labelled with, as its manifest has it.

    It is the same on every machine: files count by what is in them.
    """
    record = config.to_record()
    record["weights"] = f"{config.weights.name} {sha256_of(config.weights)}"
    record["backend"] = runtime_of(config.weights, config.backend)
    if config.palette not in PALETTES and Path(config.palette).is_file():
        record["palette"] = sha256_of(Path(config.palette))
    record["chunk_s"] = str(chunk_s)
    record["film"] = str(config.out is not None)
    beside = {"masks": config.masks, "stats": config.stats, "report": config.report}
    record |= {name: str(place and place.suffix) for name, place in beside.items()}
    record |= _map_settings(config)
    del record["source"]
    return record


def _map_settings(config: InferConfig) -> dict[str, str]:
    """Return what a batch's maps are made from; nothing of what is not asked for."""
    record = {}
    if config.geojson:
        record["geojson"] = config.geojson.suffix
    if config.gpx and config.gpx.is_file():
        record["gpx"] = sha256_of(config.gpx)
    if config.no_map:
        record["no_map"] = str(config.no_map)
    return record


def outputs_of(config: InferConfig) -> tuple[Path, ...]:
    """Return what a video's run writes."""
    return tuple(filter(None, (config.out, *config.written_beside)))


def handed_over(config: InferConfig, out: Path) -> dict[Path, str]:
    """Return what a video's or a chunk's run writes, with the names by which machines pass it on.

    Args:
        config: Settings of the run.
        out: Folder of all that the batch writes.
    """
    paths = outputs_of(config)
    folder = paths[0].parent if config.is_chunk else chunk_folder(config)
    return {path: (folder / path.name).relative_to(out).as_posix() for path in paths}


def next_attempt(config: InferConfig, state: FilmState) -> int:
    """Return which attempt at a video comes next.

    Only one that failed counts, or was killed before it had labelled another chunk. A driver that
    was killed while a cluster labelled says nothing about the video.
    """
    last = state.last
    if last is None or last.source != fingerprint(config) or last.state == DONE:
        return 1
    is_in_doubt = last.state == RUNNING and last.machine and not state.has_moved
    was_in_vain = last.state == FAILED or is_in_doubt
    return last.attempt + bool(was_in_vain)


def to_go_on(config: InferConfig, state: FilmState) -> InferConfig:
    """Return the settings with which a video is begun, or gone on with where that is possible.

    What an earlier attempt has published is replaced, and nothing else.
    """
    if state.last is None or not state.is_begun:
        return config
    can_resume = (
        is_file(config.out)
        and not config.tells_of_drive
        and part_path(config.out).exists()
        and state.last.state != FAILED
        and state.last.source == fingerprint(config)
        and _has_these_settings(config.out, config)
    )
    return replace(config, overwrite=True, resume=can_resume)


def _has_these_settings(out: Path, config: InferConfig) -> bool:
    """Return whether the part of a video was begun with these settings and files."""
    try:
        check_settings(out, settings_record(config))
    except RoadsegError:
        return False
    return True
