"""What a batch found in all its videos, by its manifests alone: of bounded size for any number."""

from collections import Counter
from collections.abc import Iterable, Mapping
from dataclasses import dataclass

from roadseg.infer.batch.chunks import Metrics
from roadseg.infer.batch.manifest import DONE, FAILED, manifests_of, merged
from roadseg.infer.batch.own_file import Location
from roadseg.infer.batch.status import Status, status_by

MOST_PERIODS = 200
"""Most points of a curve."""
MOST_LISTED = 100
"""Most rows of a table."""
PERIODS = (len("2026-08-01T06:30"), len("2026-08-01T06"), len("2026-08-01"), len("2026-08"))
"""Characters of a date that name a minute, an hour, a day and a month, the finest first."""
YEAR = len("2026")


@dataclass(frozen=True, kw_only=True)
class Period:
    """The videos that were recorded in a minute, an hour, a day, a month or a year."""

    at: str
    """When it is, in ISO 8601."""
    video_s: float
    """Seconds of video."""
    class_shares: Mapping[str, float]
    """Share of each class in all pixels."""


@dataclass(frozen=True, kw_only=True)
class WithPeople:
    """A video with people on the road."""

    film: str
    """Its name."""
    people_s: float
    """Seconds with people on the road."""
    video_s: float
    """Seconds in all."""


@dataclass(frozen=True, kw_only=True)
class BatchReport:
    """What a batch found."""

    settings: Mapping[str, str]
    """What its videos are labelled with."""
    status: Status
    """How far it is."""
    class_shares: Mapping[str, float]
    """Share of each class in all videos."""
    periods: tuple[Period, ...]
    """Videos by when they were recorded; one without a date is in none."""
    with_people: tuple[WithPeople, ...]
    """Videos with people on the road, those with most of them first, as many as are listed."""
    with_people_count: int
    """How many there are."""
    unmeasured_count: int
    """Videos that no statistics were written of, so that nobody knows whether people were there."""
    failed: Mapping[str, str]
    """Videos that failed, each with the reason, as many as are listed."""


def report_of(location: Location) -> BatchReport:
    """Return what a batch found.

    Args:
        location: A manifest, or the folder of several, or an address of either.

    Raises:
        ConfigError: There is none, or one of another version.
    """
    manifests = manifests_of(location)
    films = {name: state.last for name, state in merged(manifests).items() if state.last}
    done = {name: record.measured() for name, record in films.items() if record.state == DONE}
    failed = {name: r.error or "" for name, r in films.items() if r.state == FAILED}
    people = [
        WithPeople(film=name, people_s=metrics.people_s, video_s=metrics.video_s)
        for name, metrics in done.items()
        if metrics.people_s
    ]
    people.sort(key=lambda film: (-film.people_s, film.film))
    return BatchReport(
        settings=manifests[0].settings,
        status=status_by(manifests),
        class_shares=shares_of_all(done.values()),
        periods=periods_of(done.values()),
        with_people=tuple(people[:MOST_LISTED]),
        with_people_count=len(people),
        unmeasured_count=sum(metrics.people_s is None for metrics in done.values()),
        failed=dict(sorted(failed.items())[:MOST_LISTED]),
    )


def periods_of(videos: Iterable[Metrics]) -> tuple[Period, ...]:
    """Return videos by the finest periods of which there are not too many for a curve."""
    dated = [(metrics.recorded, metrics) for metrics in videos if metrics.recorded]
    lengths = (n for n in PERIODS if len({date[:n] for date, _ in dated}) <= MOST_PERIODS)
    length = next(lengths, YEAR)
    groups: dict[str, list[Metrics]] = {}
    for date, metrics in dated:
        groups.setdefault(date[:length], []).append(metrics)
    return tuple(
        Period(
            at=at,
            video_s=round(sum(metrics.video_s for metrics in group), 1),
            class_shares=shares_of_all(group),
        )
        for at, group in sorted(groups.items())
    )


def shares_of_all(videos: Iterable[Metrics]) -> dict[str, float]:
    """Return the share of each class in all pixels of videos; a second counts as any other."""
    seconds, total_s = Counter[str](), 0.0
    for metrics in videos:
        total_s += metrics.video_s
        seconds.update({n: share * metrics.video_s for n, share in metrics.class_shares.items()})
    return {name: round(s / total_s, 6) for name, s in seconds.items()} if total_s else {}
