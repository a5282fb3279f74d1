"""Track which classes are in view, for the legend."""

import numpy as np
from numpy.typing import NDArray

LEAST_SHARE = 0.001
"""Least share of the picture of a class in view."""
HOLD_S = 2.0
"""Seconds that a class stays in view after that, so that the legend does not flicker."""


class InView:
    """Follows the classes in view from frame to frame.

    A class comes into view at once, and what is older than `HOLD_S` has no effect.
    """

    def __init__(self) -> None:
        self._seen_s: dict[int, float] = {}

    def update(self, pixels: NDArray[np.int64], time_s: float) -> frozenset[int]:
        """Return the ids of the classes in view, given the next frame's pixels of each id (n,)."""
        for class_id in np.flatnonzero(pixels >= LEAST_SHARE * pixels.sum()):
            self._seen_s[int(class_id)] = time_s
        return frozenset(i for i, seen_s in self._seen_s.items() if 0 <= time_s - seen_s <= HOLD_S)
