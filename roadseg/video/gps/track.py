"""The way that a camera went: positions by time."""

from collections.abc import Iterable
from dataclasses import dataclass, replace
from itertools import pairwise
from typing import NamedTuple, Self

import numpy as np
from numpy.typing import NDArray

DEGREE_DIGITS = 7
"""Decimals of degrees that are written: a centimetre."""
LONGEST_GAP_S = 30.0
"""Time between two positions above which nothing is known about the way between them."""


class Position(NamedTuple):
    """A position at a time."""

    time_s: float
    """Seconds, on the clock that the source of the positions has."""
    latitude: float
    """Degrees north, by WGS 84."""
    longitude: float
    """Degrees east."""

    @property
    def is_plausible(self) -> bool:
        """Whether it is on Earth, and not the zero that cameras write without a fix."""
        on_earth = abs(self.latitude) <= 90 and abs(self.longitude) <= 180
        return on_earth and (self.latitude, self.longitude) != (0, 0)


@dataclass(frozen=True, eq=False)
class Track:
    """Positions in order of time, at least one."""

    times_s: NDArray[np.float64]
    """(N,) seconds, increasing."""
    latitudes: NDArray[np.float64]
    """(N,) degrees."""
    longitudes: NDArray[np.float64]
    """(N,) degrees, without a jump where the track crosses 180."""
    source: str
    """What knows them, such as "GoPro telemetry"."""

    @classmethod
    def of(cls, positions: Iterable[Position], source: str) -> Self | None:
        """Return the track through positions, of each time the last; None if there are none."""
        by_time = {p.time_s: p for p in positions if p.is_plausible}
        if not by_time:
            return None
        times_s, latitudes, longitudes = np.array([by_time[t] for t in sorted(by_time)]).T
        return cls(times_s, latitudes, np.unwrap(longitudes, period=360), source)

    def at(self, time_s: float) -> tuple[float, float] | None:
        """Return latitude and longitude at a time; None where too little is known."""
        after = int(np.searchsorted(self.times_s, time_s))
        around = self.times_s[max(after - 1, 0) : after + 1]
        if not around[0] <= time_s <= around[-1] or np.ptp(around) > LONGEST_GAP_S:
            return None
        latitude, longitude = (
            float(np.interp(time_s, self.times_s, values))
            for values in (self.latitudes, self.longitudes)
        )
        return latitude, _wrapped(longitude)

    def between(self, first_s: float, last_s: float) -> Self | None:
        """Return the part between two times, its times counted from the first; None if it is empty.

        It begins and ends at these times, where the position is known then.
        """
        inside = (self.times_s > first_s) & (self.times_s < last_s)
        positions = [Position(t, north, _wrapped(east)) for t, north, east in self._rows()[inside]]
        positions += [
            Position(time_s, *place)
            for time_s in (first_s, last_s)
            if (place := self.at(time_s)) is not None
        ]
        return self.of((p._replace(time_s=p.time_s - first_s) for p in positions), self.source)

    def moved(self, seconds: float) -> Self:
        """Return the same positions at later times."""
        return replace(self, times_s=self.times_s + seconds)

    def thinned(self, most: int) -> Self:
        """Return at most so many of the positions, and the last one."""
        count = len(self.times_s)
        kept = sorted({*range(0, count, -(-count // most)), count - 1})
        times_s, latitudes, longitudes = self._rows()[kept].T
        return replace(self, times_s=times_s, latitudes=latitudes, longitudes=longitudes)

    def parts(self) -> list[list[Position]]:
        """Return the positions in parts without a gap."""
        positions = [Position(*row) for row in self._rows().tolist()]
        parts = [[positions[0]]]
        for one, other in pairwise(positions):
            if other.time_s - one.time_s > LONGEST_GAP_S:
                parts.append([])
            parts[-1].append(other)
        return parts

    def _rows(self) -> NDArray[np.float64]:
        return np.stack([self.times_s, self.latitudes, self.longitudes], axis=1)


def _wrapped(longitude: float) -> float:
    return (longitude + 180) % 360 - 180


def spread(
    places: Iterable[tuple[float, float]], start_s: float, duration_s: float
) -> list[Position]:
    """Return positions that a packet holds, at even distances over its time.

    Args:
        places: Latitude and longitude of each.
        start_s: The packet's time.
        duration_s: How long it lasts.
    """
    found = list(places)
    return [
        Position(start_s + duration_s * number / len(found), *place)
        for number, place in enumerate(found)
    ]
