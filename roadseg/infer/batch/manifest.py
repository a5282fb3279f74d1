"""What is known of every video of a batch: JSON lines, one file a shard, beside the outputs.

The first line of a manifest says what its videos are labelled with, each that follows what became
of one video or of a chunk of it: the last word counts. Only the shard's driver writes to it, at its
end alone, so that a driver may be killed at any moment; a line that it had only begun is dropped.
`docs/scale.md` has the fields.
"""

import json
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import asdict, dataclass, field, fields
from datetime import UTC, datetime
from fnmatch import fnmatchcase
from itertools import chain
from pathlib import Path
from typing import Any, Self

from roadseg import __version__
from roadseg.errors import ConfigError
from roadseg.infer.batch.chunks import Metrics
from roadseg.infer.batch.own_file import Location, own_file
from roadseg.video.objects import below, objects_in

FORMAT = 1
"""Version of the manifest's form; later ones add fields and keep these."""
RUNNING, STOPPED, DONE, FAILED = "running", "stopped", "done", "failed"
NAME = "manifest-{}-of-{}.jsonl"
"""File name of a shard's manifest."""
PATTERN = "manifest-*-of-*.jsonl"


def now() -> str:
    """Return the time in UTC, as manifests have it: earlier times sort before later ones."""
    return datetime.now(UTC).isoformat(timespec="milliseconds")


@dataclass(frozen=True, kw_only=True)
class Record:
    """What became of a video, or of a chunk of it, at a time."""

    film: str
    """Name of the video below what the batch was given."""
    state: str
    """running, stopped (in good order), done or failed."""
    attempt: int
    """Which attempt it was."""
    machine: str
    """Name of the machine that made it; empty while a cluster has not said which one does."""
    at: str = field(default_factory=now)
    """When, in UTC."""
    chunk: int | None = None
    """Number of the chunk; None is the whole video."""
    source: str | None = None
    """Size in bytes and date of the video, by which another in its place is noticed."""
    outputs: tuple[str, ...] = ()
    """Files and folders written."""
    metrics: Mapping[str, Any] | None = None
    """What it came to, the fields of `Metrics`."""
    error: str | None = None
    """Why it failed."""

    @classmethod
    def from_json(cls, values: Mapping[str, Any]) -> Self:
        """Return a line's record; what a later version has added is left out."""
        known = {f.name: values[f.name] for f in fields(cls) if f.name in values}
        return cls(**known | {"outputs": tuple(values.get("outputs", ()))})

    def to_json(self) -> dict[str, Any]:
        """Return what a line holds."""
        return {name: value for name, value in asdict(self).items() if value not in (None, ())}

    def measured(self) -> Metrics:
        """Return what it came to."""
        known = {f.name for f in fields(Metrics)}
        values = {k: v for k, v in (self.metrics or {}).items() if k in known}
        return Metrics(**values | {"warnings": tuple(values.get("warnings", ()))})


@dataclass
class FilmState:
    """All that is known of a video."""

    last: Record | None = None
    """The last word on the whole video."""
    is_begun: bool = False
    """Whether any driver began it, so that its outputs may be the batch's own."""
    chunks: dict[int, Record] = field(default_factory=dict)
    """The last word on each chunk since the video was begun."""
    has_moved: bool = False
    """Whether a chunk was labelled, or given to a cluster, since the last word on the video."""

    def add(self, record: Record) -> None:
        """Take a record that is newer than all before."""
        if record.chunk is not None:
            self.chunks[record.chunk] = record
            self.has_moved |= record.state == DONE or not record.machine
            return
        is_other = self.last is not None and self.last.source != record.source
        if is_other or record.state == DONE:
            self.chunks.clear()  # they are another video's, or joined and gone
        self.is_begun |= record.state != FAILED
        self.last, self.has_moved = record, False


@dataclass(frozen=True)
class Manifest:
    """A manifest as it was read."""

    path: Location
    """Its file."""
    settings: Mapping[str, str]
    """What its videos are labelled with."""
    records: tuple[Record, ...]
    """What became of them, the oldest first."""
    listed: int = 0
    """Videos that the shard had when they were last listed."""
    listed_at: str = ""
    """When that was, in UTC."""

    @property
    def division(self) -> str:
        """The `division_of` its file."""
        return division_of(self.path)


def division_of(manifest: Location) -> str:
    """Return what the manifests of all shards of one division have in common: their number."""
    return str(manifest).rpartition("-of-")[2]


def read_manifest(path: Location) -> Manifest:
    """Read a manifest, to its last line that is whole.

    Raises:
        ConfigError: It is none, or of another version.
    """
    data = own_file(path).read()
    if data is None:
        raise ConfigError(f"{path} does not exist; give a manifest, or the --out of a batch")
    return _parsed(path, data)


def _parsed(path: Location, data: bytes) -> Manifest:
    """Return what a manifest holds. Raises `ConfigError`."""
    whole, _, _ = data.rpartition(b"\n")
    first, *rest = whole.splitlines() or [b""]
    settings = _settings(path, first)
    records, listed, listed_at = [], 0, ""
    for number, line in enumerate(rest, 2):
        try:
            values = json.loads(line)
            if "film" in values:
                records.append(Record.from_json(values))
            if "listed" in values:
                listed, listed_at = values["listed"], values["at"]
        except (ValueError, TypeError, KeyError) as error:
            raise ConfigError(
                f"line {number} of {path} is damaged; take it out, and what it tells of is "
                "done again if need be"
            ) from error
    return Manifest(path, settings, tuple(records), listed, listed_at)


def _settings(path: Location, line: bytes) -> Mapping[str, str]:
    """Return the settings that a manifest's first line holds. Raises `ConfigError`."""
    try:
        head = json.loads(line)
        form = head["roadseg_manifest"]
        if form == FORMAT:
            return dict(head["settings"])
    except (ValueError, TypeError, KeyError) as error:
        raise ConfigError(f"{path} is no manifest of roadseg; give one, or move it away") from error
    raise ConfigError(
        f"{path} is a manifest of form {form}, and this version of roadseg reads form {FORMAT}; "
        "use the version that made it, or another --out"
    )


def manifests_of(location: Location) -> list[Manifest]:
    """Return a manifest, or those of all shards in a folder.

    Raises:
        ConfigError: There is none.
    """
    paths = manifest_paths(location)
    if not paths:
        raise ConfigError(
            f"{location} holds no {PATTERN}; give the --out of a batch, or one of its manifests"
        )
    return [read_manifest(path) for path in paths]


def manifest_paths(location: Location) -> Sequence[Location]:
    """Return the manifests in a folder or below an address, or the one that a location is."""
    if isinstance(location, Path):
        return sorted(location.glob(PATTERN)) if location.is_dir() else [location]
    if fnmatchcase(location.given.rpartition("/")[2], PATTERN):
        return [location]
    return [below(location, name) for name in objects_in(location) if fnmatchcase(name, PATTERN)]


def merged(manifests: Iterable[Manifest]) -> dict[str, FilmState]:
    """Return what is known of every video by the manifests of all shards, by its name.

    Within a manifest the order of lines counts, as clocks may be set back. A video in several, as
    the number of shards was changed, goes by the one with the latest word.
    """
    histories: dict[str, list[list[Record]]] = {}
    for manifest in manifests:
        own: dict[str, list[Record]] = {}
        for record in manifest.records:
            own.setdefault(record.film, []).append(record)
        for film, records in own.items():
            histories.setdefault(film, []).append(records)
    films = {film: FilmState() for film in histories}
    for film, shards in histories.items():
        shards.sort(key=lambda records: records[-1].at)
        for record in chain.from_iterable(shards):
            films[film].add(record)
    return films


class ManifestWriter:
    """The manifest that a driver adds to.

    Args:
        path: Its file.
        settings: What the videos are labelled with.

    Raises:
        ConfigError: The file is of another version, or its videos are labelled with other settings.
        OutputError: It cannot be written.
    """

    def __init__(self, path: Location, settings: Mapping[str, str]) -> None:
        self._file = own_file(path)
        whole, end, torn = (self._file.read() or b"").rpartition(b"\n")
        if not end:
            head = {"roadseg_manifest": FORMAT, "version": __version__, "settings": dict(settings)}
            self._file.write(json.dumps(head).encode() + b"\n")
            return
        check_settings(_parsed(path, whole + end), settings)
        if torn:
            self._file.write(whole + end)

    def add(self, record: Record) -> None:
        """Write a record, which is on the disk when this returns.

        Raises:
            OutputError: It cannot be written.
        """
        self._append(record.to_json())

    def note_listed(self, films: int) -> None:
        """Write how many videos the shard has. Raises `OutputError`."""
        self._append({"listed": films, "at": now()})

    def _append(self, line: Mapping[str, Any]) -> None:
        self._file.append(json.dumps(line).encode() + b"\n")


def check_settings(manifest: Manifest, settings: Mapping[str, str]) -> None:
    """See that videos are labelled with the settings that a manifest has.

    Raises:
        ConfigError: They are others.
    """
    names = sorted({*manifest.settings, *settings})
    changed = [n for n in names if manifest.settings.get(n) != settings.get(n)]
    if changed:
        raise ConfigError(
            f"{manifest.path} was begun with other settings ({', '.join(changed)}); give the same, "
            "or another --out"
        )
