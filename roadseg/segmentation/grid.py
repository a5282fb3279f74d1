"""What is computed with labels on the network's grid, done where they lie.

Flow and residuals are small and found on the CPU. What is used more than once of them is brought
beside the planes once.
"""

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any, TypeAlias

import cv2
import numpy as np
from numpy.typing import NDArray

from roadseg.segmentation.enlarge import Levels, levels_of
from roadseg.segmentation.flow import Flow, move_planes, positions
from roadseg.segmentation.placement import Placement

SURROUNDINGS = 1 / 40
"""Height of the surroundings over which confidence is averaged, to either side, as a share of the
grid's."""

Planes: TypeAlias = Any
"""(C, h, w): logits float32, or levels uint8; an array, or a tensor where there is PyTorch."""
ClassMap: TypeAlias = Any
"""(H, W) ids, alike."""


@dataclass(frozen=True, kw_only=True)
class Grid:
    """The functions for planes in one kind of memory."""

    levels_of: Callable[[Planes], Planes]
    """Gives how far each class is behind the strongest of its cell, in 8 bits."""
    confidence_of: Callable[[Planes], Planes]
    """Gives, of logits, the probability of each cell's strongest class, averaged over the cells
    around it that are of the same: (1, h, w) float32, 255 for certain."""
    rounded: Callable[[Planes], Planes]
    """Gives planes with levels from 0 to 255 in 8 bits."""
    joined: Callable[[Planes, Planes], Planes]
    """Gives planes of 8 bits followed by others."""
    beside: Callable[[NDArray[np.float32], Planes], Any]
    """Gives an array where planes lie."""
    moved: Callable[[Planes, Any], Planes]
    """Gives what an earlier frame has along a flow (h, w, 2) which lies beside it, anew."""
    filtered: Callable[[Planes, Planes, Any, Any], Planes]
    """Gives logits mixed with past ones that are moved along a flow (h, w, 2), given the weight
    (h, w) of the past; flow and weight lie beside them."""
    between: Callable[[Planes, Flow, Planes, Flow, NDArray[np.float32]], Planes]
    """Gives levels mixed with others, each moved along its flow, given the others' share (h, w)."""
    enlarged: Callable[[Placement, Planes], ClassMap]
    """Gives the frame's class map, of levels."""
    enlarged_sure: Callable[[Placement, Planes, Planes, int], ClassMap]
    """Gives the same with `UNSURE` where a confidence (1, h, w) is below the least."""
    unsure: Callable[[Placement, Planes, int], Any]
    """Gives where that is, at the frame's size, (H, W)."""
    resized: Callable[[Placement, Planes], Planes]
    """Gives a plane (1, h, w) of 8 bits at the frame's size, (H, W)."""
    restored: Callable[[Placement, ClassMap], ClassMap]
    """Gives the frame's class map, of one at the size of the network's input."""
    on_host: Callable[[Planes], NDArray[Any]]
    """Gives the planes on the CPU."""


def grid_of(values: Planes | ClassMap) -> Grid:
    """Return the functions for logits, levels or a class map, by where these lie."""
    if isinstance(values, np.ndarray):
        return ON_HOST
    from roadseg.segmentation.grid_cuda import ON_DEVICE  # knows PyTorch, which may be missing

    return ON_DEVICE


def surroundings(height: int) -> int:
    """Return how many cells confidence is averaged over to either side, on a grid of a height."""
    return round(height * SURROUNDINGS)


def _confidence_of(logits: NDArray[np.float32]) -> NDArray[np.float32]:
    best = logits[0].copy()
    for of_class in logits[1:]:
        cv2.max(best, of_class, best)
    total = np.zeros_like(best)
    for of_class in logits:
        total += cv2.exp(of_class - best)
    certain, averaged = np.float32(255) / total, np.zeros_like(best)
    reach = surroundings(len(best))
    for of_class in logits:
        member = cv2.compare(of_class, best, cv2.CMP_EQ)
        left, top, width, height = cv2.boundingRect(member)
        if width:
            rows = slice(max(top - reach, 0), top + height + reach)
            columns = slice(max(left - reach, 0), left + width + reach)
            window = np.s_[rows, columns]
            _average_among(member[window], certain[window], averaged[window], reach)
    return np.asarray(averaged[None], np.float32)


def _average_among(
    member: NDArray[Any], certain: NDArray[Any], averaged: NDArray[Any], reach: int
) -> None:
    """Put into `averaged`, for each member, the average over those within reach."""
    side = 2 * reach + 1
    share = cv2.blur(member.astype(np.float32), (side, side))
    among = cv2.blur(cv2.copyTo(certain, member), (side, side))
    cv2.copyTo(cv2.divide(among, share, scale=255), member, averaged)


def _rounded(planes: NDArray[np.float32]) -> Levels:
    return np.stack([np.asarray(cv2.convertScaleAbs(plane), np.uint8) for plane in planes])


def _joined(planes: Levels, others: Levels) -> Levels:
    return np.concatenate([planes, others])


def _beside(values: NDArray[np.float32], _planes: Planes) -> NDArray[np.float32]:
    return values


def _moved(planes: Planes, flow: Flow) -> Planes:
    return move_planes(planes, positions(flow))


def _filtered(
    logits: NDArray[np.float32], past: NDArray[np.float32], flow: Flow, weight: NDArray[np.float32]
) -> NDArray[np.float32]:
    moved: NDArray[np.float32] = _moved(past, flow)
    moved -= logits
    moved *= weight
    moved += logits
    return moved


def _between(
    levels: Levels, flow: Flow, others: Levels, other_flow: Flow, share: NDArray[np.float32]
) -> Levels:
    mixed, moved, rest = _moved(levels, flow), _moved(others, other_flow), 1 - share
    for level, other in zip(mixed, moved, strict=True):
        cv2.blendLinear(level, other, rest, share, dst=level)
    return np.asarray(mixed, np.uint8)


ON_HOST = Grid(
    levels_of=levels_of,
    confidence_of=_confidence_of,
    rounded=_rounded,
    joined=_joined,
    beside=_beside,
    moved=_moved,
    filtered=_filtered,
    between=_between,
    enlarged=Placement.enlarge,
    enlarged_sure=Placement.enlarge_sure,
    unsure=Placement.unsure,
    resized=Placement.resize,
    restored=Placement.restore,
    on_host=np.asarray,
)
"""For arrays."""
