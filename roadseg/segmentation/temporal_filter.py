"""Temporal filter: a frame's logits are mixed with the previous ones, warped along the flow.

A network that sees each frame alone changes its decision where it is unsure, and class maps
flicker. A recursive filter of the logits x removes that: y = x + w (warped y' - x). Logits are
logarithms of probabilities up to a term that all classes share, so the strongest class is that of
the filtered probabilities without normalising them. The past has the weight

    w = strength ^ (elapsed / REFERENCE_S) * exp(-(residual / TOLERANCE)^2)

The first factor makes the filter's memory the same in seconds at every frame rate, even a variable
one. The second, pixel by pixel, drops the past where motion does not explain the picture: something
was hidden, entered or changed. As w is from 0 to 1, the state stays within the range of the
predicted logits.
"""

from dataclasses import dataclass
from typing import Any, Self

import cv2
import numpy as np

from roadseg.segmentation.flow import Flow, Warp
from roadseg.segmentation.grid import Planes, grid_of
from roadseg.segmentation.placement import Placement

REFERENCE_S = 1 / 15
"""Time after which the weight of the past is `strength`."""
TOLERANCE = 20.0
"""Residual, in grey levels, at which the weight of the past falls to 1/e."""


@dataclass(frozen=True)
class GridWarp:
    """The motion from a frame back to an earlier one, on the grid of its labels."""

    flow: Any
    """(h, w, 2), in cells."""
    weight: Any
    """(h, w) weight of the past as far as the residual decides it."""
    elapsed_s: float
    """Time between the two."""

    @classmethod
    def of(cls, warp: Warp | None, placement: Placement, logits: Planes) -> Self | None:
        """Return a warp on the grid of some logits (C, h, w), beside them; None of None.

        Args:
            warp: The motion.
            placement: Where the frame lies in the network's input.
            logits: Its logits.
        """
        if warp is None:
            return None
        grid, grid_hw = grid_of(logits), (logits.shape[1], logits.shape[2])
        flow = flow_on_grid(warp.flow, placement, grid_hw)
        residual = placement.spread(warp.residual, grid_hw) / np.float32(TOLERANCE)
        weight = np.asarray(cv2.exp(-(residual**2)), np.float32)
        return cls(grid.beside(flow, logits), grid.beside(weight, logits), warp.elapsed_s)


class SteadyFilter:
    """Filters the logits of one frame after the other.

    Args:
        strength: Weight of the past after `REFERENCE_S`, 0 to below 1.
    """

    def __init__(self, strength: float) -> None:
        self._strength = strength
        self._state: Planes | None = None

    def update(self, logits: Planes, warp: GridWarp | None) -> Planes:
        """Return a frame's filtered logits, which the caller must not change.

        Args:
            logits: (C, h, w), as predicted.
            warp: Back to the frame of the last call; None drops the past.
        """
        past = self._state
        if past is None or warp is None or past.shape != logits.shape:
            self._state = logits
            return logits
        grid = grid_of(logits)
        remembered = self._strength ** (max(warp.elapsed_s, 0.0) / REFERENCE_S)
        self._state = grid.filtered(logits, past, warp.flow, warp.weight * remembered)
        return self._state


def flow_on_grid(flow: Flow, placement: Placement, grid_hw: tuple[int, int]) -> Flow:
    """Return a frame's flow on the grid of the logits, in cells of it."""
    scale_y, scale_x = (
        content / network * grid / side
        for content, network, grid, side in zip(
            placement.content_hw, placement.network_hw, grid_hw, flow.shape[:2], strict=True
        )
    )
    spread = placement.spread(flow, grid_hw)
    row = np.tile(np.array([scale_x, scale_y], np.float32), grid_hw[1])
    return (spread.reshape(len(spread), -1) * row).reshape(spread.shape)  # pairs take longer
