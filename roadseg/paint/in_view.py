"""Track which classes are in view, for the legend."""

import numpy as np
from numpy.typing import NDArray

LEAST_SHARE = 0.001
"""Least share of the picture of a class in view."""
HOLD_S = 2.0
"""Seconds that a class stays in view after that, so that the legend does not flicker."""
STEP = 4
"""Step between the rows and columns that are counted."""


class InView:
    """Follows the classes in view from frame to frame.

    A class comes into view at once, and what is older than `HOLD_S` has no effect.
    """

    def __init__(self) -> None:
        self._seen_s: dict[int, float] = {}

    def update(self, class_map: NDArray[np.uint8], time_s: float) -> frozenset[int]:
        """Return the ids of the classes in view, given the next class map (H, W) and its time."""
        sample = class_map[::STEP, ::STEP]
        pixels = np.bincount(sample.ravel())
        for class_id in np.flatnonzero(pixels >= LEAST_SHARE * sample.size):
            self._seen_s[int(class_id)] = time_s
        return frozenset(i for i, seen_s in self._seen_s.items() if 0 <= time_s - seen_s <= HOLD_S)
