"""Find the stretches of a drive in which the network is out of its depth.

It is where it is unsure of much of the picture for a while: at night, in rain, in a strange scene.
"""

import math
from collections.abc import Callable
from dataclasses import dataclass

LEAST_UNSURE = 0.12
"""Share of the picture, averaged over the last moments, of which it is unsure then. By day it was
mostly below 0.1 in our videos, and above this at night and in rain."""
AVERAGED_S = 2.0
"""Seconds after which a frame's weight in that average has fallen to 1/e."""
LEAST_S = 2.0
"""Shorter stretches are left out."""
GAP_S = 3.0
"""Longest time between two parts of one stretch."""
MOST_STRETCHES = 100
"""Most stretches that are kept, the longest."""


@dataclass(kw_only=True)
class Stretch:
    """A time in which the network is out of its depth."""

    start_s: float
    end_s: float
    unsure: float
    """Largest share of the picture, on average over moments, of which it is unsure."""
    thumbnail: bytes
    """The picture then, as JPEG."""

    @property
    def duration_s(self) -> float:
        """Seconds from the first frame to the last."""
        return self.end_s - self.start_s


class DepthLog:
    """Finds the stretches, frame by frame."""

    def __init__(self) -> None:
        self._average = 0.0
        self._last_s: float | None = None
        self._stretches: list[Stretch] = []

    def add(self, time_s: float, unsure: float, thumbnail: Callable[[], bytes]) -> None:
        """Note a frame.

        Args:
            time_s: Its time.
            unsure: Share of the picture of which the network is unsure.
            thumbnail: Makes a small picture of it.
        """
        elapsed_s = math.inf if self._last_s is None else time_s - self._last_s
        self._average += (unsure - self._average) * (1 - math.exp(-elapsed_s / AVERAGED_S))
        self._last_s = time_s
        if self._average >= LEAST_UNSURE:
            self._extend(time_s, thumbnail)

    def stretches(self) -> list[Stretch]:
        """Return those that are long enough, in order."""
        return [s for s in self._stretches if s.duration_s >= LEAST_S]

    def _extend(self, time_s: float, thumbnail: Callable[[], bytes]) -> None:
        """Add a moment to the last stretch, or begin one."""
        last = self._stretches[-1] if self._stretches else None
        if last is None or time_s - last.end_s > GAP_S:
            self._forget()
            self._stretches.append(
                Stretch(start_s=time_s, end_s=time_s, unsure=self._average, thumbnail=thumbnail())
            )
            return
        last.end_s = time_s
        if self._average > last.unsure:
            last.unsure, last.thumbnail = self._average, thumbnail()

    def _forget(self) -> None:
        """Drop what is too short, and of too many the shortest."""
        self._stretches = self.stretches()
        if len(self._stretches) == MOST_STRETCHES:
            self._stretches.remove(min(self._stretches, key=lambda s: s.duration_s))
