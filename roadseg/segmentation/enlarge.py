"""Class maps at the size of a picture, from the levels of the classes on a coarser grid.

Each class is interpolated bilinearly and each pixel takes the strongest, so that edges come out as
lines, not staircases. Where the four corners of a cell have the same strongest class, so has every
pixel between them; only cells on a boundary, some 5 % of a road scene, need all classes. The result
equals that of interpolating every class everywhere. What is too unsure is found in the same way.
"""

from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass
from itertools import islice

import cv2
import numpy as np
from numpy.typing import NDArray

from roadseg.spec import UNSURE

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


def enlarge(
    levels: Levels,
    rows: Axis,
    columns: Axis,
    confidence: NDArray[np.uint8] | None = None,
    least: int = 0,
) -> NDArray[np.uint8]:
    """Return the strongest class of each pixel (H, W), the lowest id where some are equal.

    Args:
        levels: (C, h, w).
        rows: Where the pixels lie on the grid, from top to bottom.
        columns: Where they lie from left to right.
        confidence: (h, w) on the same grid; None leaves no pixel out.
        least: What a pixel has `UNSURE` below.
    """
    corners, planes = _between(_strongest(levels)), list(levels)
    if confidence is not None:
        sure = _between(np.asarray(confidence >= least, np.uint8))
        corners = np.select(
            [sure == MIXED, sure == 0], [np.uint8(MIXED), np.uint8(UNSURE)], corners
        )
        planes.append(confidence)
    cells = np.take(corners, columns.corners, axis=1)
    class_map = np.take(cells, rows.corners, axis=0)
    y, x = _mixed_pixels(cells, rows)
    if y.size:
        found = _at(planes, rows.positions[y], columns.positions[x])
        ids = _strongest(islice(found, len(levels)))
        for sureness in found:  # that of the pixels, if it was asked for
            ids[sureness < least] = UNSURE
        class_map[y, x] = ids.ravel()[: y.size]
    return class_map


def unsure(
    confidence: NDArray[np.uint8], least: int, rows: Axis, columns: Axis
) -> NDArray[np.bool_]:
    """Return where `enlarge` has `UNSURE` (H, W), given the confidence (h, w)."""
    planes = np.stack([confidence, np.full_like(confidence, least)])
    return np.asarray(enlarge(planes, rows, columns) == 1, np.bool_)


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


def _at(
    planes: Sequence[NDArray[np.uint8]], y: NDArray[np.float32], x: NDArray[np.float32]
) -> Iterator[NDArray[np.uint8]]:
    """Yield each plane's level at scattered places (n,) of the grid, in rows of `ROW_PX`."""
    spare = -len(y) % ROW_PX
    wide_x, wide_y = (np.pad(p, (0, spare)).reshape(-1, ROW_PX) for p in (x, y))
    places = cv2.convertMaps(wide_x, wide_y, cv2.CV_16SC2)
    for first in range(0, len(planes), MOST_CHANNELS):
        merged = cv2.merge(planes[first : first + MOST_CHANNELS])
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
