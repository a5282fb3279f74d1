"""Dense optical flow between frames, computed on small pictures of the luma.

Flow points backwards: at each pixel of the later picture it is the displacement, (x, y) in pixels,
to the same point in the earlier one. Values of the earlier frame are fetched along it, so that
every pixel of the later frame gets one. It is computed at a small size and scaled to the size of
whatever is warped.

A search always returns some flow, and a small residual does not prove that it is right: one road
resembles another. Its smoothness does. Real motion varies little from pixel to pixel; where nothing
matches, the search returns noise, and neighbours point far apart. Such flow is called torn here and
is not used.
"""

from dataclasses import dataclass
from functools import lru_cache
from typing import Any, TypeVar

import cv2
import numpy as np
from numpy.typing import NDArray

UNSEEN = 255.0
"""Residual where the earlier picture does not show the point, or the flow is torn."""
CUT_SHARE = 0.5
"""Mean residual, as a share of the contrast, above which two frames are of different scenes."""
LEAST_CONTRAST = 8.0
"""Least contrast assumed, in grey levels, so that noise in the dark is no cut."""
CELL_PX = 8
"""Side of the cells over which flow is compared with its neighbours."""
MOST_STRETCH = 0.5
"""Largest change of flow from pixel to pixel, in pixels, summed over both directions."""
TORN_AROUND = 0.35
"""Share of a cell and its eight neighbours that change by more where flow is torn."""
LEAST_RANGE = 8
"""Range of brightness around a pixel, in grey levels, of what one can lose sight of.

Roads and skies are more even, and their flow is torn in any drive at speed.
"""
TORN_CUT = 0.2
"""Torn share of the picture above which two frames are not linked by motion.

Drives at 15 Hz and more stay below it, at 5 Hz they come near it, and jumps are far beyond.
"""
TOGETHER = 4
"""Planes of 8 bits that OpenCV moves at once, in half the time that it takes one by one."""

Luma = NDArray[np.uint8]
Number = TypeVar("Number", np.uint8, np.float32)
Flow = NDArray[np.float32]


@dataclass(frozen=True)
class Warp:
    """The motion from a frame back to an earlier one."""

    flow: Flow
    """(h, w, 2)."""
    residual: NDArray[np.float32]
    """(h, w), as of `residual_of`; `UNSEEN` where the flow is torn."""
    elapsed_s: float
    """Time between the two."""


class Motion:
    """Finds flow by dense inverse search (Kroeger et al., ECCV 2016) in its quickest setting.

    It keeps OpenCV's buffers, so one thread uses it at a time.
    """

    def __init__(self) -> None:
        self._search = cv2.DISOpticalFlow.create(cv2.DISOPTICAL_FLOW_PRESET_ULTRAFAST)

    def between(self, later: Luma, earlier: Luma) -> Flow:
        """Return the flow (h, w, 2) from one picture back to another of its size."""
        return np.asarray(self._search.calc(later, earlier, None), np.float32)  # type: ignore[call-overload]

    def step(self, later: Luma, earlier: Luma, elapsed_s: float) -> Warp | None:
        """Return the warp between neighbouring frames; None where no motion links them."""
        flow = self.between(later, earlier)
        torn = torn_cells(flow)
        step = single_step(later, earlier, flow, torn, elapsed_s)
        return None if is_torn(torn) or is_cut(later, step.residual) else step


def single_step(
    later: Luma, earlier: Luma, flow: Flow, torn: NDArray[np.bool_], elapsed_s: float
) -> Warp:
    """Return the warp between neighbouring frames, given its flow and its `torn_cells`."""
    residual = residual_of(later, earlier, flow)
    residual[torn_pixels(torn, later)] = UNSEEN
    return Warp(flow, residual, elapsed_s)


def extend(step: Warp, further: Warp, later: Luma, earliest: Luma) -> Warp:
    """Return the warp along `step` and then `further`; `UNSEEN` where either is."""
    flow = compose(step.flow, further.flow)
    residual = residual_of(later, earliest, flow)
    beyond = fetch(further.residual, step.flow, cv2.INTER_NEAREST)
    residual[np.maximum(step.residual, beyond) >= UNSEEN] = UNSEEN
    return Warp(flow, residual, step.elapsed_s + further.elapsed_s)


def unseen_share(warp: Warp, later: Luma) -> float:
    """Return the share of a picture that shows something and has no way back along a warp."""
    unseen = cv2.compare(warp.residual, UNSEEN, cv2.CMP_GE)  # type: ignore[call-overload]
    around = np.ones((CELL_PX + 1, CELL_PX + 1), np.uint8)
    even = cv2.compare(
        cv2.morphologyEx(later, cv2.MORPH_GRADIENT, around),
        LEAST_RANGE,  # type: ignore[call-overload]
        cv2.CMP_LT,
    )
    return cv2.countNonZero(cv2.subtract(unseen, even)) / later.size


def compose(flow: Flow, further: Flow) -> Flow:
    """Return the flow along `flow` and, from its end points, along `further`."""
    return np.asarray(flow + fetch(further, flow, cv2.INTER_LINEAR), np.float32)


def residual_of(later: Luma, earlier: Luma, flow: Flow) -> NDArray[np.float32]:
    """Return the difference (h, w) that warping leaves, in grey levels; `UNSEEN` past the edge."""
    ends = positions(flow)
    difference = cv2.absdiff(later, _remap(earlier, ends, cv2.INTER_LINEAR)).astype(np.float32)
    difference[_outside(ends)] = UNSEEN
    return difference


def leads_out(flow: Flow) -> NDArray[np.bool_]:
    """Return where (h, w) flow points past the edge of the earlier picture."""
    return _outside(positions(flow))


def _outside(ends: NDArray[np.float32]) -> NDArray[np.bool_]:
    """Return where (h, w) positions (h, w, 2) are not in a picture of their size."""
    height, width = ends.shape[:2]
    inside = cv2.inRange(ends, (-0.5, -0.5), (width - 0.5, height - 0.5))
    return np.asarray(inside == 0, np.bool_)


def torn_cells(flow: Flow) -> NDArray[np.bool_]:
    """Return which cells, (rows, columns), have torn flow."""
    centres = flow[CELL_PX // 2 :: CELL_PX, CELL_PX // 2 :: CELL_PX]
    stretch = np.zeros(centres.shape[:2], np.float32)
    for part in cv2.split(centres):  # x, then y
        stretch[:, :-1] += np.abs(part[:, 1:] - part[:, :-1])
        stretch[:-1] += np.abs(part[1:] - part[:-1])
    stretched = (stretch > MOST_STRETCH * CELL_PX).astype(np.float32)
    return np.asarray(cv2.blur(stretched, (3, 3)) > TORN_AROUND, np.bool_)


def torn_pixels(torn: NDArray[np.bool_], later: Luma) -> NDArray[np.bool_]:
    """Return which pixels (h, w) of the later picture lie in torn cells."""
    cells = torn.astype(np.uint8)
    return np.asarray(
        cv2.resize(cells, later.shape[::-1], interpolation=cv2.INTER_NEAREST) != 0, np.bool_
    )


def is_torn(torn: NDArray[np.bool_]) -> bool:
    """Return whether so many cells are torn that the camera jumped between the frames."""
    return bool(np.count_nonzero(torn) > TORN_CUT * torn.size)


def is_cut(later: Luma, residual: NDArray[np.float32]) -> bool:
    """Return whether a residual is so large that the scene changed between the frames.

    Args:
        later: The picture.
        residual: Its `residual_of`.
    """
    seen = cv2.compare(residual, UNSEEN, cv2.CMP_LT)  # type: ignore[call-overload]
    return not cv2.countNonZero(seen) or cv2.mean(residual, seen)[0] > CUT_SHARE * contrast(later)


def contrast(luma: Luma) -> float:
    """Return the mean absolute deviation of a picture's brightness, in grey levels."""
    around = cv2.subtract(luma, cv2.mean(luma)[0], dtype=cv2.CV_32F)  # type: ignore[call-overload]
    return max(cv2.norm(around, cv2.NORM_L1) / luma.size, LEAST_CONTRAST)


def move_class_map(class_map: NDArray[np.uint8], flow: Flow) -> NDArray[np.uint8]:
    """Return an earlier frame's class map (H, W) warped to the later frame.

    Absolute positions are enlarged rather than flow, which saves an addition at full size. Outside
    the small picture's outermost pixel centres they are repeated, an error of at most half of one
    of its pixels.
    """
    height, width = class_map.shape
    ends = positions(flow)
    for axis, scale in enumerate((width / flow.shape[1], height / flow.shape[0])):
        ends[..., axis] = (ends[..., axis] + 0.5) * scale - 0.5
    whole = cv2.resize(ends, (width, height), interpolation=cv2.INTER_LINEAR)
    return np.asarray(_remap(class_map, whole, cv2.INTER_NEAREST), np.uint8)


def move_planes(planes: NDArray[Number], ends: NDArray[np.float32]) -> NDArray[Number]:
    """Return planes (C, h, w) of an earlier frame at the `positions` of a flow, as a new array."""
    result = np.empty_like(planes)
    if planes.dtype != np.uint8:
        for plane, target in zip(planes, result, strict=True):
            _remap(plane, ends, cv2.INTER_LINEAR, target)
        return result
    for first in range(0, len(planes), TOGETHER):
        group = slice(first, first + TOGETHER)
        moved = _remap(cv2.merge(list(planes[group])), ends, cv2.INTER_LINEAR)
        cv2.split(moved, list(result[group]))
    return result


def fetch(values: NDArray[Any], flow: Flow, interpolation: int) -> NDArray[Any]:
    """Return an array's values at the end points of a flow of its size; edges are repeated."""
    return _remap(values, positions(flow), interpolation)


def _remap(
    values: NDArray[Any],
    positions: cv2.typing.MatLike,
    interpolation: int,
    target: NDArray[Any] | None = None,
) -> NDArray[Any]:
    """Return the values at positions (H, W, 2), written into `target` if it is given."""
    found = cv2.remap(
        values,
        positions,
        None,  # type: ignore[call-overload]
        interpolation,
        dst=target,
        borderMode=cv2.BORDER_REPLICATE,
    )
    return np.asarray(found)


def positions(flow: Flow) -> NDArray[np.float32]:
    """Return the end points of a flow as columns and rows (h, w, 2)."""
    return np.asarray(flow + _grid(flow.shape[0], flow.shape[1]), np.float32)


@lru_cache(maxsize=8)
def _grid(height: int, width: int) -> NDArray[np.float32]:
    """Return the column and the row of each pixel (h, w, 2)."""
    rows, columns = np.mgrid[:height, :width].astype(np.float32)
    return np.stack([columns, rows], axis=2)
