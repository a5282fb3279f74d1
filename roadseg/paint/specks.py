"""Find the specks in a class map: connected regions too small to be outlined.

They are found on a grid of every so many rows and columns (`on_grid`, `speck_grid`), and then told
apart in all rows or some (`specks_among`).
"""

from typing import Any

import cv2
import numpy as np
from numpy.typing import NDArray

GRID_COLUMNS = 320
"""Columns on which regions are measured, about as many as the network sees: measuring all pixels of
1920x1080 would take longer than the rest of the painting."""
NO_SPECK = 254
"""Id of pixels outside specks."""
HIDDEN = 255
"""Id of pixels outside regions."""


def specks_among(
    regions: NDArray[np.uint8], grid: NDArray[np.uint8] | None, top: int
) -> NDArray[np.uint8] | None:
    """Return a mask (h, W) of 255 on each pixel of a speck and 0 elsewhere; None if there is none.

    Args:
        regions: (h, W) class ids of some rows of a picture, `HIDDEN` outside regions.
        grid: What `speck_grid` found in all of it.
        top: The first of these rows.
    """
    if grid is None:
        return None
    height, width = regions.shape
    step = speck_step(width)
    rows = grid[top // step : -(-(top + height) // step)]
    ids = np.repeat(np.repeat(rows, step, axis=1), step, axis=0)[top % step :]
    return np.asarray(cv2.compare(regions, ids[:height, :width], cv2.CMP_EQ), np.uint8)


def speck_step(width: int) -> int:
    """Return how many columns and rows of a picture there are for one of the grid."""
    return max(width // GRID_COLUMNS, 1)


def on_grid(class_map: Any) -> Any:
    """Return what of a class map (H, W), an array or a tensor, lies on the grid, (h, w)."""
    step = speck_step(class_map.shape[1])
    return class_map[::step, ::step]


def speck_grid(regions: NDArray[np.uint8], least_share: float) -> NDArray[np.uint8] | None:
    """Return where specks are on the grid (h, w): their ids, else `NO_SPECK`; None if nowhere.

    A speck reaches up to a step further than the samples of it, so it is grown by one.

    Args:
        regions: (h, w) class ids on the grid, `HIDDEN` outside regions.
        least_share: Share of the picture from which a region is no speck.
    """
    found = _speck_ids(regions, least_share * regions.size)
    return None if found is None else np.asarray(cv2.erode(found, np.ones((3, 3), np.uint8)))


def _speck_ids(regions: NDArray[np.uint8], least: float) -> NDArray[np.uint8] | None:
    """Return the class id of each pixel of a speck, `NO_SPECK` elsewhere; None without specks.

    Args:
        regions: (H, W) class ids.
        least: Pixels below which a region is a speck.
    """
    if least <= 1:
        return None
    ids = np.full_like(regions, NO_SPECK)
    for class_id in np.flatnonzero(np.bincount(regions.ravel(), minlength=HIDDEN)[:HIDDEN]):
        member = np.asarray(cv2.inRange(regions, int(class_id), int(class_id)), np.uint8)
        _paint_specks(ids, member, int(class_id), least)
    return None if (ids == NO_SPECK).all() else ids


def _paint_specks(
    ids: NDArray[np.uint8], member: NDArray[np.uint8], class_id: int, least: float
) -> None:
    """Write a class's id to the pixels of its specks, in place.

    Each is searched for in its own bounding box only.
    """
    left, top, width, height = cv2.boundingRect(member)
    part = slice(top, top + height), slice(left, left + width)
    _, numbers, boxes, _ = cv2.connectedComponentsWithStats(member[part], connectivity=8)
    specks = np.flatnonzero(boxes[1:, cv2.CC_STAT_AREA] < least) + 1  # 0 is what is no member
    for number, (x, y, columns, rows) in zip(specks, boxes[specks, :4].tolist(), strict=True):
        box = slice(y, y + rows), slice(x, x + columns)
        ids[part][box][numbers[box] == number] = class_id
