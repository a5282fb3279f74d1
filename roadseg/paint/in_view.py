"""Which classes are in view: what a legend names, steadily."""

import numpy as np
from numpy.typing import NDArray

LEAST_SHARE = 0.001
"""Share of the picture with which a class is in view."""
HOLD_S = 2.0
"""Seconds that it stays in view without; so a legend does not flicker."""
STEP = 4
"""Every so many rows and columns are counted, which is plenty."""


class InView:
    """Follows the classes in view from frame to frame.

    A class comes into view at once. What lies further back than `HOLD_S` makes no difference.
    """

    def __init__(self) -> None:
        self._seen_s: dict[int, float] = {}

    def update(self, class_map: NDArray[np.uint8], time_s: float) -> frozenset[int]:
        """Return the ids of the classes in view, given the next class map (H, W) and its time."""
        return self.follow(class_map[::STEP, ::STEP], time_s)

    def follow(self, sample: NDArray[np.uint8], time_s: float) -> frozenset[int]:
        """Return the same, given every `STEP`-th row and column of the class map alone."""
        pixels = np.bincount(sample.ravel())
        for class_id in np.flatnonzero(pixels >= LEAST_SHARE * sample.size):
            self._seen_s[int(class_id)] = time_s
        return frozenset(i for i, seen_s in self._seen_s.items() if 0 <= time_s - seen_s <= HOLD_S)
