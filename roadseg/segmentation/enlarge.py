"""Class maps at the size of a picture, from the levels of the classes on a coarser grid.

Each class is interpolated bilinearly and each pixel takes the strongest, so that edges come out as
lines, not staircases. Where the four corners of a cell have the same strongest class, so has every
pixel between them; only cells on a boundary, some 5 % of a road scene, need all classes. The result
equals that of interpolating every class everywhere.
"""

from collections.abc import Iterable, Iterator
from dataclasses import dataclass

import cv2
import numpy as np
from numpy.typing import NDArray

FAR_BEHIND = 12.0
"""Distance from the strongest logit at which a class is cut off."""
STRONGEST = 255
"""Level of the strongest class of a cell; 0 is `FAR_BEHIND` or more."""
MIXED = 255
"""Marks a cell whose corners differ. No model has that many classes."""
ROW_PX = 4096
"""Length of the rows in which scattered pixels go to OpenCV, whose rows are limited."""
MOST_CHANNELS = 4
"""Channels of a picture that OpenCV interpolates at once."""

Levels = NDArray[np.uint8]
"""(C, h, w), one level for each class; see `levels_of`."""


@dataclass(frozen=True)
class Axis:
    """Positions on the grid of the pixels along one side of a picture."""

    positions: NDArray[np.float32]
    """Position of each pixel's centre, in cells; 0 is the centre of the first cell."""

    @classmethod
    def window(cls, cells: int, enlarged: int, first: int, count: int) -> "Axis":
        """Return the pixels of a part of the enlarged grid.

        Args:
            cells: Cells of the grid along this side.
            enlarged: Pixels that they become.
            first: Pixel at which the part begins.
            count: Pixels of the part.
        """
        centers = np.arange(first, first + count) + 0.5
        return cls((centers * (cells / enlarged) - 0.5).astype(np.float32))

    @property
    def corners(self) -> NDArray[np.intp]:
        """Index of the corner before each pixel, counted from the one outside the grid."""
        return np.floor(self.positions).astype(np.intp) + 1


def levels_of(logits: NDArray[np.float32]) -> Levels:
    """Return how far each class is behind the strongest of its cell, in 8 bits.

    Distances between classes are kept; 8 bits save memory traffic, which interpolation is bound by.
    Classes nearer to each other than `FAR_BEHIND` / 255 become equal.

    Args:
        logits: (C, h, w).
    """
    best = logits.max(axis=0)
    levels = np.empty(logits.shape, np.uint8)
    for of_class, target in zip(logits, levels, strict=True):
        behind = np.maximum(of_class - best, -FAR_BEHIND)
        cv2.convertScaleAbs(behind, dst=target, alpha=STRONGEST / FAR_BEHIND, beta=STRONGEST)
    return levels


def enlarge(levels: Levels, rows: Axis, columns: Axis) -> NDArray[np.uint8]:
    """Return the strongest class of each pixel (H, W), the lowest id where some are equal."""
    cells = np.take(_between(_strongest(levels)), columns.corners, axis=1)
    class_map = np.take(cells, rows.corners, axis=0)
    y, x = _mixed_pixels(cells, rows)
    if y.size:
        class_map[y, x] = _strongest_at(levels, rows.positions[y], columns.positions[x])
    return class_map


def _between(ids: NDArray[np.uint8]) -> NDArray[np.uint8]:
    """Return the class of each cell between four corners, (h + 1, w + 1), or `MIXED`.

    The grid's edge is repeated around it.
    """
    corners = np.asarray(cv2.copyMakeBorder(ids, 1, 1, 1, 1, cv2.BORDER_REPLICATE), np.uint8)
    first = corners[:-1, :-1]
    others = (corners[:-1, 1:], corners[1:, :-1], corners[1:, 1:])
    agree = np.logical_and.reduce([first == other for other in others])
    return np.where(agree, first, np.uint8(MIXED))


def _mixed_pixels(
    cells: NDArray[np.uint8], rows: Axis
) -> tuple[NDArray[np.intp], NDArray[np.intp]]:
    """Return the row and the column of each pixel in a mixed cell.

    Args:
        cells: (h + 1, W) classes between corners, at the picture's width.
        rows: Which of them the picture's rows take.
    """
    which, x = np.divmod(np.flatnonzero(cells == MIXED), cells.shape[1])
    starts = np.searchsorted(rows.corners, np.arange(len(cells) + 1))
    heights = np.diff(starts)[which]
    ends = np.cumsum(heights)
    y = np.arange(heights.sum()) + np.repeat(starts[which] - ends + heights, heights)
    return y, np.repeat(x, heights)


def _strongest_at(
    levels: Levels, y: NDArray[np.float32], x: NDArray[np.float32]
) -> NDArray[np.uint8]:
    """Return the strongest class at scattered places (n,) of the grid."""
    spare = -len(y) % ROW_PX
    wide_x, wide_y = (np.pad(p, (0, spare)).reshape(-1, ROW_PX) for p in (x, y))
    places = cv2.convertMaps(wide_x, wide_y, cv2.CV_16SC2)
    return _strongest(_interpolated(levels, places)).ravel()[: len(y)]


def _interpolated(
    levels: Levels, places: tuple[cv2.typing.MatLike, cv2.typing.MatLike]
) -> Iterator[NDArray[np.uint8]]:
    """Yield each class's level at places, as `cv2.convertMaps` gives them."""
    for first in range(0, len(levels), MOST_CHANNELS):
        merged = cv2.merge(list(levels[first : first + MOST_CHANNELS]))
        found = cv2.remap(merged, *places, cv2.INTER_LINEAR, borderMode=cv2.BORDER_REPLICATE)
        for plane in cv2.split(found):
            yield np.asarray(plane, np.uint8)


def _strongest(levels: Iterable[NDArray[np.uint8]]) -> NDArray[np.uint8]:
    """Return which of the classes is the strongest in each place, the lowest of equal ones."""
    planes = iter(levels)
    best = next(planes).copy()
    ids = np.zeros_like(best)
    for class_id, level in enumerate(planes, 1):
        wins = cv2.compare(level, best, cv2.CMP_GT)
        cv2.max(level, best, best)
        cv2.copyTo(np.full_like(ids, class_id), wins, ids)
    return ids
