"""The videos of a batch: which are a shard's, and what is to be done with each."""

import os
import re
from collections.abc import Callable, Mapping
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Self
from zlib import crc32

from roadseg.backends.runtimes import runtime_of
from roadseg.errors import ConfigError, RoadsegError
from roadseg.files import sha256_of
from roadseg.infer.batch.chunks import LEAST_CHUNK_S, Metrics
from roadseg.infer.batch.manifest import DONE, FAILED, NAME, RUNNING, FilmState
from roadseg.infer.config import InferConfig, settings_record
from roadseg.infer.outputs import is_file
from roadseg.spec import PALETTES
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
        return crc32(film.encode("utf-8", "surrogateescape")) % self.count == self.number

    def manifest(self, out: Path) -> Path:
        """Return the shard's manifest."""
        return out / NAME.format(self.number, self.count)


@dataclass(frozen=True, kw_only=True)
class BatchConfig:
    """Settings of a batch beside those of its videos."""

    out: Path
    """Folder of all that is written."""
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

    def __post_init__(self) -> None:
        """Check each value, naming the flag at fault."""
        if self.chunk_s is not None and not self.chunk_s >= LEAST_CHUNK_S:
            raise ConfigError(
                f"--chunk is {self.chunk_s:g}; it must be {LEAST_CHUNK_S:g} seconds or more, as "
                "each chunk costs the frames around it"
            )
        if self.attempts < 1:
            raise ConfigError(f"--attempts is {self.attempts}; it must be 1 or more")


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


def fingerprint(config: InferConfig) -> str | None:
    """Return a state of a video's file that changes when it is replaced; None of an address."""
    try:
        state = config.source.stat() if isinstance(config.source, Path) else None
    except OSError:
        return None  # which is said when its turn comes
    return state and f"{state.st_size} {state.st_mtime_ns}"


def outputs_of(config: InferConfig) -> tuple[Path, ...]:
    """Return what a video's run writes."""
    places = (config.out, config.masks, config.stats, config.report, config.geojson)
    return tuple(place for place in places if place is not None)


def are_there(config: InferConfig, metrics: Metrics) -> bool:
    """Return whether what a chunk's run wrote is still there; one without frames wrote nothing."""
    return not metrics.frames or all(os.path.lexists(path) for path in outputs_of(config))


def is_done(config: InferConfig, state: FilmState) -> bool:
    """Return whether a video was labelled, and is still there as it was then."""
    last = state.last
    return (
        last is not None
        and last.state == DONE
        and last.source == fingerprint(config)
        and all(os.path.lexists(path) for path in outputs_of(config))
    )


def next_attempt(config: InferConfig, state: FilmState) -> int:
    """Return which attempt at a video comes next; only one that was killed or failed counts."""
    last = state.last
    if last is None or last.source != fingerprint(config) or last.state == DONE:
        return 1
    return last.attempt + (last.state in (RUNNING, FAILED))


def to_go_on(config: InferConfig, state: FilmState) -> InferConfig:
    """Return the settings with which a video is begun, or gone on with where that is possible.

    What an earlier attempt has published is replaced.
    """
    if state.last is None:
        return config
    can_resume = (
        is_file(config.out)
        and not config.tells_of_drive
        and part_path(config.out).exists()
        and state.last.state != FAILED
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
