"""How far a batch is, by the manifests of all its shards."""

import time
from collections import Counter
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from datetime import datetime

from roadseg.infer.batch.lease import valid_lease
from roadseg.infer.batch.manifest import (
    DONE,
    FAILED,
    RUNNING,
    Manifest,
    Record,
    manifests_of,
    merged,
)
from roadseg.infer.batch.own_file import Location

INTERRUPTED, WAITING = "interrupted", "waiting"
"""States that no manifest says: whose driver is gone, and not begun."""
STATES = (DONE, RUNNING, INTERRUPTED, FAILED, WAITING)
"""States of videos in the order of a table."""
UNITS = (("hours", 3600), ("minutes", 60), ("seconds", 1))
"""Units of time and their seconds, the longest first."""


@dataclass(frozen=True, kw_only=True)
class Status:
    """How far a batch is."""

    films: dict[str, int]
    """Videos in each of `STATES`."""
    frames: int
    """Frames of the videos that are done."""
    video_s: float
    """Seconds of them."""
    cpu_s: float
    """CPU seconds that they took."""
    left_s: float | None
    """Seconds to the end, if videos go on as they did; None where nothing runs or is done."""
    running: dict[str, str]
    """Videos that are being labelled, each with its machine."""
    failed: dict[str, str]
    """Videos that failed, each with the reason."""


def unit_of(seconds: float) -> tuple[str, int]:
    """Return the unit, of `UNITS`, in which to say how long something is."""
    return next((unit for unit in UNITS if seconds >= unit[1]), UNITS[-1])


def duration(seconds: float) -> str:
    """Say how long something is: 12.5 hours, 8.8 seconds."""
    name, unit_s = unit_of(seconds)
    return f"{seconds / unit_s:,.1f} {name}"


def status_of(location: Location) -> Status:
    """Return how far a batch is.

    Args:
        location: A manifest, or the folder of several, or an address of either.

    Raises:
        ConfigError: There is none, or one of another version.
    """
    return status_by(manifests_of(location))


def status_by(manifests: Sequence[Manifest]) -> Status:
    """Return how far a batch is by its manifests."""
    driven = _driven_films(manifests)
    films = {name: state.last for name, state in merged(manifests).items() if state.last}
    states = Counter(_state(record, driven) for record in films.values())
    states[WAITING] = max(_listed(manifests) - len(films), 0)
    done = [record for record in films.values() if record.state == DONE]
    measured = [record.measured() for record in done]
    running = {n: r.machine for n, r in films.items() if _state(r, driven) == RUNNING}
    return Status(
        films={name: states[name] for name in STATES},
        frames=sum(metrics.frames for metrics in measured),
        video_s=round(sum(metrics.video_s for metrics in measured), 1),
        cpu_s=round(sum(metrics.cpu_s for metrics in measured), 1),
        left_s=_left_s(films.values(), len(done), states) if running else None,
        running=running,
        failed={n: r.error or "" for n, r in films.items() if r.state == FAILED},
    )


def _listed(manifests: Sequence[Manifest]) -> int:
    """Return how many videos there are, by the shards into which they were divided last."""
    latest = max(manifests, key=lambda manifest: manifest.listed_at)
    return sum(m.listed for m in manifests if m.division == latest.division)


def _driven_films(manifests: Iterable[Manifest]) -> set[str]:
    """Return the videos of the shards that a driver has at the moment."""
    films: set[str] = set()
    for manifest in manifests:
        if valid_lease(manifest.path):
            films |= {record.film for record in manifest.records}
    return films


def _state(record: Record, driven: set[str]) -> str:
    if record.state in (DONE, FAILED):
        return record.state
    return RUNNING if record.state == RUNNING and record.film in driven else INTERRUPTED


def _left_s(films: Iterable[Record], done: int, states: Counter[str]) -> float | None:
    """Return how long what is left takes at the pace of what is done."""
    if not done:
        return None
    begun_s = min(datetime.fromisoformat(record.at).timestamp() for record in films)
    left = states[RUNNING] + states[INTERRUPTED] + states[WAITING]
    return round((time.time() - begun_s) * left / done, 1)
