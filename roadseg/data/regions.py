"""The regions of a class map as run lengths and as polygons, in the forms of other programs."""

from collections.abc import Iterator
from dataclasses import dataclass

import cv2
import numpy as np
from numpy.typing import NDArray

LEAST_SHARE = 0.0002
"""Share of the picture below which a polygon is noise."""
TOLERANCE_PX = 1.0
"""Largest distance of a polygon from the region's edge."""


@dataclass(frozen=True)
class Polygon:
    """The outer edge of a connected region of a class."""

    class_id: int
    points: NDArray[np.int32]
    """(N, 2) column and row of each corner."""
    area_px: float


def polygons(ids: NDArray[np.uint8], num_classes: int) -> list[Polygon]:
    """Return the polygons of a class map (H, W), large ones first; holes are not cut out.

    Drawn in this order, what lies inside another region is drawn over it.
    """
    found = []
    for class_id, mask in masks_of(ids, num_classes):
        edges, _ = cv2.findContours(mask.view(np.uint8), cv2.RETR_EXTERNAL, cv2.CHAIN_APPROX_SIMPLE)
        for edge in edges:
            points = cv2.approxPolyDP(edge, TOLERANCE_PX, closed=True).reshape(-1, 2)
            area_px = cv2.contourArea(edge)
            if len(points) >= 3 and area_px >= LEAST_SHARE * ids.size:
                found.append(Polygon(class_id, points.astype(np.int32), area_px))
    return sorted(found, key=lambda polygon: -polygon.area_px)


def run_lengths(mask: NDArray[np.bool_]) -> list[int]:
    """Return the lengths of the runs of a flat mask, those without first, perhaps of length 0."""
    changes = np.flatnonzero(np.diff(mask)) + 1
    edges = np.concatenate([[0], changes, [len(mask)]])
    lengths: list[int] = np.diff(edges).tolist()
    return [0, *lengths] if mask[0] else lengths


def coco_counts(lengths: list[int]) -> str:
    """Return run lengths in the compressed form of COCO's API, `rleToString` in maskApi.c.

    From the fourth on, it has the difference to the length two before; of each number, five bits
    a character, the lowest first.
    """
    text = bytearray()
    for index, length in enumerate(lengths):
        rest = length - (lengths[index - 2] if index > 2 else 0)
        more = True
        while more:
            bits, rest = rest & 0x1F, rest >> 5
            more = rest != (-1 if bits & 0x10 else 0)
            text.append(48 + (bits | 0x20 if more else bits))
    return text.decode()


def masks_of(ids: NDArray[np.uint8], num_classes: int) -> Iterator[tuple[int, NDArray[np.bool_]]]:
    """Yield each class of a class map that occurs, with its mask."""
    for class_id in np.unique(ids).tolist():
        if class_id < num_classes:
            yield class_id, ids == class_id


def box_of(mask: NDArray[np.bool_]) -> tuple[int, int, int, int]:
    """Return left, top, width and height of what a mask holds, which is something."""
    left, top, width, height = cv2.boundingRect(mask.astype(np.uint8))
    return left, top, width, height
