"""How sure a frame's labels are, and what is too unsure to be shown.

Confidence is the probability of the strongest class. It is averaged over the surroundings of that
class: so the thin line of doubt between two regions does not count, and a drop on the glass counts
as a whole. Where the picture is too dark to show anything it counts less (see
`roadseg.segmentation.darkness`). In a video it is also averaged over the moments before, along the
motion, so that what is left out does not flicker. It lies on the network's grid, in 8 bits, and is
enlarged only where that is asked for.
"""

import math
from dataclasses import dataclass, replace
from typing import Self

import numpy as np
from numpy.typing import NDArray

from roadseg.segmentation.darkness import trust
from roadseg.segmentation.grid import Planes, grid_of
from roadseg.segmentation.maps import Maps
from roadseg.segmentation.placement import Placement
from roadseg.spec import UNSURE
from roadseg.video.frame import Labels, SegmentedFrame
from roadseg.video.picture import AnyPicture, ColorSpace

STEADY = 0.8
"""Weight of the past in a video's confidence after `temporal_filter.REFERENCE_S`, as
`ModelConfig.steady` is in its labels."""
FORGOTTEN = 1 / 64
"""Weight at which the past changes a confidence of 8 bits by a level, and by four at most."""


@dataclass(frozen=True)
class Confidence:
    """How sure a frame's labels are."""

    placement: Placement
    """Where the frame lies on the grid."""
    plane: Planes
    """(1, h, w) uint8 on the grid, where the frame's picture lies; 255 is certain."""

    @classmethod
    def of(cls, logits: Planes, placement: Placement, picture: AnyPicture) -> Self:
        """Return that of a picture, given its logits (C, h, w)."""
        found = confidence_of(logits, placement, picture.small_luma(), picture.space)
        return cls(placement, grid_of(logits).rounded(found))

    def at(self, size_hw: tuple[int, int]) -> NDArray[np.uint8]:
        """Return it at a size of the frame, (H, W), on the CPU."""
        grid = grid_of(self.plane)
        found = grid.resized(replace(self.placement, frame_hw=size_hw), self.plane)
        return np.asarray(grid.on_host(found), np.uint8)

    def shown(self, labels: Labels, least: float) -> Labels:
        """Return a class map of the frame, at any size, as it is shown and counted.

        Args:
            labels: (H, W) ids.
            least: Confidence, 0..1, below which a pixel becomes `UNSURE`.
        """
        level = level_of(least)
        if isinstance(labels, np.ndarray) and self.plane.min() >= level:
            return labels
        placement = replace(self.placement, frame_hw=labels.shape)
        unsure = grid_of(self.plane).unsure(placement, self.plane, level)
        if not isinstance(labels, np.ndarray):
            return labels.without(unsure, UNSURE)
        shown = labels.copy()
        shown[unsure] = UNSURE
        return shown


def confidence_of(
    logits: Planes, placement: Placement, luma: NDArray[np.uint8], space: ColorSpace
) -> Planes:
    """Return the confidence of a picture's labels, (1, h, w) float32, 255 for certain.

    Args:
        logits: (C, h, w).
        placement: Where the picture lies on their grid.
        luma: Its brightness, small.
        space: What its numbers mean.
    """
    grid, factor = grid_of(logits), trust(luma, space)
    certain = grid.confidence_of(logits)
    if factor is None:
        return certain
    return certain * grid.beside(placement.spread(factor, logits.shape[1:]), logits)


def level_of(confidence: float) -> int:
    """Return a least confidence, 0..1, in the 8 bits of a plane."""
    return math.ceil(confidence * 255)


def without_unsure(item: SegmentedFrame, least: float, maps: Maps) -> SegmentedFrame:
    """Return a frame that shows and counts nothing less sure than `least`, 0..1.

    Its class map has the strongest class everywhere, if that is among the maps that are wanted.
    """
    if item.confidence is None or not least:
        return item
    shown, coarse = item.confidence.shown(item.labels, least), item.coarse_map
    if coarse is not None:
        coarse = shown if coarse is item.labels else item.confidence.shown(coarse, least)
    if Maps.SHOWN in maps:
        return replace(item, labels=shown, coarse_map=coarse)
    return replace(item, sure_labels=None if shown is item.labels else shown, coarse_map=coarse)
