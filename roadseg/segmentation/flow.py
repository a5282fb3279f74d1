"""Where things went from one frame to the next: dense flow between small pictures of the luma.

Flow leads back: at each pixel of the later picture it is the way, (x, y) in pixels, to where the
same thing was in the earlier one. So what is known of the earlier frame is fetched from there, and
every pixel of the later frame gets a value. Flow belongs to whole frames and not to a size: it is
made on small pictures, and scaled to whatever is to be moved.

A search always returns some flow, and a flow from one road to another explains its brightness well
enough. What tells it from motion is its shape. Things that move take along what is beside them;
where nothing matches, the search settles on chance and leads neighbours far apart. There the flow
is torn, and says nothing.
"""

from dataclasses import dataclass
from functools import lru_cache
from typing import Any, TypeVar

import cv2
import numpy as np
from numpy.typing import NDArray

UNSEEN = 255.0
"""Residual where the earlier picture does not show the place, or no motion was found."""
CUT_SHARE = 0.5
"""Residual, as a share of the picture's contrast, from which two frames are of different scenes."""
LEAST_CONTRAST = 8.0
"""Grey levels of contrast that every picture is granted, so that noise in the dark is no cut."""
CELL_PX = 8
"""Side of the cells over which flow is compared with that beside it."""
MOST_STRETCH = 0.5
"""Pixels by which flow may change from one pixel to the next, across the cell and down together."""
TORN_AROUND = 0.35
"""Share of the nine cells in and around a place that change by more if the flow is torn there."""
TORN_CUT = 0.2
"""Torn share of the picture from which no way leads from one frame to the other.

Drives at 15 Hz and more stay below it, at 5 Hz they are about at it, and jumps are far beyond.
"""

Luma = NDArray[np.uint8]
Number = TypeVar("Number", np.uint8, np.float32)
Flow = NDArray[np.float32]


@dataclass(frozen=True)
class Warp:
    """What leads from a frame back to another one."""

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


def single_step(
    later: Luma, earlier: Luma, flow: Flow, torn: NDArray[np.bool_], elapsed_s: float
) -> Warp:
    """Return the warp along a flow whose `torn_cells` are known."""
    residual = residual_of(later, earlier, flow)
    places = cv2.resize(torn.astype(np.uint8), later.shape[::-1], interpolation=cv2.INTER_NEAREST)
    residual[places != 0] = UNSEEN
    return Warp(flow, residual, elapsed_s)


def extend(step: Warp, further: Warp, later: Luma, earliest: Luma) -> Warp:
    """Return the warp along `step` and then `further`; what either does not see, is not seen."""
    flow = compose(step.flow, further.flow)
    residual = residual_of(later, earliest, flow)
    beyond = fetch(further.residual, step.flow, cv2.INTER_NEAREST)
    residual[np.maximum(step.residual, beyond) >= UNSEEN] = UNSEEN
    return Warp(flow, residual, step.elapsed_s + further.elapsed_s)


def compose(flow: Flow, further: Flow) -> Flow:
    """Return the flow that leads along `flow`, and from where that arrives along `further`."""
    return np.asarray(flow + fetch(further, flow, cv2.INTER_LINEAR), np.float32)


def residual_of(later: Luma, earlier: Luma, flow: Flow) -> NDArray[np.float32]:
    """Return how much flow leaves unexplained, (h, w) in grey levels; `UNSEEN` beyond the edge."""
    difference = cv2.absdiff(later, fetch(earlier, flow, cv2.INTER_LINEAR)).astype(np.float32)
    difference[leads_out(flow)] = UNSEEN
    return difference


def leads_out(flow: Flow) -> NDArray[np.bool_]:
    """Return where (h, w) flow leads beyond the edge of the earlier picture."""
    height, width = flow.shape[:2]
    x, y = cv2.split(_positions(flow))
    outside = (x < -0.5) | (y < -0.5) | (x > width - 0.5) | (y > height - 0.5)
    return np.asarray(outside, np.bool_)


def torn_cells(flow: Flow) -> NDArray[np.bool_]:
    """Return in which cells, (rows, columns), flow is torn: no motion was found there."""
    centres = flow[CELL_PX // 2 :: CELL_PX, CELL_PX // 2 :: CELL_PX]
    across, down = (np.abs(np.diff(centres, axis=axis)).sum(axis=2) for axis in (1, 0))
    stretch = np.pad(across, ((0, 0), (0, 1))) + np.pad(down, ((0, 1), (0, 0)))
    stretched = (stretch > MOST_STRETCH * CELL_PX).astype(np.float32)
    return np.asarray(cv2.blur(stretched, (3, 3)) > TORN_AROUND, np.bool_)


def is_torn(torn: NDArray[np.bool_]) -> bool:
    """Tell a jump from motion by the `torn_cells` of the flow: no way leads across a jump."""
    return float(torn.mean()) > TORN_CUT


def is_cut(later: Luma, residual: NDArray[np.float32]) -> bool:
    """Tell a change of scene from motion: next to nothing of the picture is explained by flow.

    Args:
        later: The picture.
        residual: Its `residual_of`.
    """
    seen = residual[residual < UNSEEN]
    return not seen.size or float(seen.mean()) > CUT_SHARE * contrast(later)


def contrast(luma: Luma) -> float:
    """Return how far a picture's brightness is from its mean, on average, in grey levels."""
    return max(float(np.abs(luma - np.float32(luma.mean())).mean()), LEAST_CONTRAST)


def move_class_map(class_map: NDArray[np.uint8], flow: Flow) -> NDArray[np.uint8]:
    """Return an earlier frame's class map (H, W) where things are in the later frame.

    Positions are enlarged rather than flow, which saves adding to them at full size. Beyond the
    outermost of the small picture's centres they are repeated, so up to half of its pixel there is
    fetched from beside.
    """
    height, width = class_map.shape
    positions = _positions(flow)
    for axis, scale in enumerate((width / flow.shape[1], height / flow.shape[0])):
        positions[..., axis] = (positions[..., axis] + 0.5) * scale - 0.5
    whole = cv2.resize(positions, (width, height), interpolation=cv2.INTER_LINEAR)
    return np.asarray(_remap(class_map, whole, cv2.INTER_NEAREST), np.uint8)


def move_planes(planes: NDArray[Number], flow: Flow) -> NDArray[Number]:
    """Return what an earlier frame has (C, h, w) where things are in the later frame, anew."""
    positions = _positions(flow)
    result = np.empty_like(planes)
    for plane, target in zip(planes, result, strict=True):
        _remap(plane, positions, cv2.INTER_LINEAR, target)
    return result


def fetch(values: NDArray[Any], flow: Flow, interpolation: int) -> NDArray[Any]:
    """Return what lies where flow leads, from an array of its size; beyond the edge, the edge."""
    return _remap(values, _positions(flow), interpolation)


def _remap(
    values: NDArray[Any],
    positions: cv2.typing.MatLike,
    interpolation: int,
    target: NDArray[Any] | None = None,
) -> NDArray[Any]:
    """Return what lies at positions (H, W, 2), perhaps in an array that is there already."""
    found = cv2.remap(
        values,
        positions,
        None,  # type: ignore[call-overload]
        interpolation,
        dst=target,
        borderMode=cv2.BORDER_REPLICATE,
    )
    return np.asarray(found)


def _positions(flow: Flow) -> NDArray[np.float32]:
    """Return the columns and rows (h, w, 2) where flow leads."""
    return np.asarray(flow + _grid(flow.shape[0], flow.shape[1]), np.float32)


@lru_cache(maxsize=8)
def _grid(height: int, width: int) -> NDArray[np.float32]:
    """Return the column and the row of each pixel (h, w, 2)."""
    rows, columns = np.mgrid[:height, :width].astype(np.float32)
    return np.stack([columns, rows], axis=2)
