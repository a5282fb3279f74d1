"""Which class maps of a frame are wanted."""

from collections.abc import Callable
from enum import Flag, auto
from typing import Any

from roadseg.segmentation.placement import Placement
from roadseg.video.frame import Labels


class Maps(Flag):
    """Which class maps of a frame are wanted."""

    FULL = auto()
    """At the frame's size, to paint and to write."""
    COARSE = auto()
    """At its size in the network's input, to measure."""
    SHOWN = auto()
    """Those of the frame's size only as they are shown, with `UNSURE` where they are too unsure.

    Without it a frame has two: one with the strongest class everywhere, and one as it is shown.
    """

    def make(
        self, placement: Placement, resize: Callable[[Placement, Any], Labels], values: Any
    ) -> tuple[Labels, Labels | None]:
        """Return a frame's class map, coarse if only that is wanted, and its coarse map if it is.

        Args:
            placement: Where the frame lies in the network's input.
            resize: Makes the class map for a placement.
            values: What it makes it of.
        """
        if Maps.COARSE not in self:
            return resize(placement, values), None
        coarse = resize(placement.coarse, values)
        is_enough = Maps.FULL not in self or placement.coarse == placement
        return coarse if is_enough else resize(placement, values), coarse
