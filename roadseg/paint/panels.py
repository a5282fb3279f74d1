"""Draw a picture beside class maps of it."""

from collections.abc import Sequence

import cv2
import numpy as np
from numpy.typing import NDArray

from roadseg.video.encoded import JpegQuality, encoded

GAP_PX = 2
"""White pixels around each panel."""


def compare_pictures(
    picture: NDArray[np.uint8],
    class_maps: Sequence[NDArray[np.uint8]],
    palette: Sequence[tuple[int, int, int]],
    *,
    columns: int | None = None,
    share: float = 1.0,
) -> bytes:
    """Return a picture and class maps of it side by side as a JPEG.

    Args:
        picture: (H, W, 3) RGB.
        class_maps: (H, W) ids each; an id without a colour is black.
        palette: RGB colours by id.
        columns: Panels in a row, a divisor of their number; None puts all in one.
        share: Share of the colour in a class map's panel, 0..1; the rest is the picture.
    """
    table = np.zeros((256, 3), np.uint8)
    table[: len(palette)] = palette
    painted = (cv2.addWeighted(table[m], share, picture, 1 - share, 0) for m in class_maps)
    framed = [
        cv2.copyMakeBorder(p, *(GAP_PX,) * 4, cv2.BORDER_CONSTANT, value=(255,) * 3)
        for p in (picture, *painted)
    ]
    columns = columns or len(framed)
    rows = [np.hstack(framed[first : first + columns]) for first in range(0, len(framed), columns)]
    return encoded(np.vstack(rows), JpegQuality.PANEL)
