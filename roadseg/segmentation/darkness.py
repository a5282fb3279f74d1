"""Find where a picture is too dark to show anything, such as the sky of a night.

The network answers there too, by habit: above a road it has seen sky and trees, and takes black for
trees. What is black and small is a thing that it knows, a tyre or a window; what is black over a
large part of the picture is nothing that can be seen.
"""

import cv2
import numpy as np
from numpy.typing import NDArray

from roadseg.video.picture import ColorSpace

FROM_BLACK = 10
"""Levels of brightness above black that are nothing but a camera's noise."""
LEAST_SHARE = 1 / 10
"""Least sides of what is dark, as a share of the picture's height."""
TRUST = 0.7
"""Factor on the confidence there: what is nearly certain stands, as does most of the road."""


def trust(luma: NDArray[np.uint8], space: ColorSpace) -> NDArray[np.float32] | None:
    """Return a factor on the confidence in a picture's labels, (h, w); None where it is 1 all over.

    Args:
        luma: (h, w) brightness, small.
        space: What its numbers mean.
    """
    black, _, _ = space.black
    brightest_around = cv2.dilate(luma, np.ones((3, 3), np.uint8))
    dark = cv2.compare(brightest_around, black + FROM_BLACK, cv2.CMP_LE)  # type: ignore[call-overload]
    side = max(round(len(luma) * LEAST_SHARE), 1)
    large = cv2.morphologyEx(dark, cv2.MORPH_OPEN, np.ones((side, side), np.uint8))
    if not cv2.countNonZero(large):
        return None
    return np.where(large, np.float32(TRUST), np.float32(1))
