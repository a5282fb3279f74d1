"""Boxes around objects, with their class and number."""

from collections.abc import Sequence
from collections.abc import Set as AbstractSet
from functools import lru_cache

import cv2
import numpy as np
from numpy.typing import NDArray

from roadseg.paint.legend import FONT, WEIGHT, Legend, letter_px
from roadseg.spec import ModelSpec
from roadseg.video.frame import Region
from roadseg.video.picture import PLANE_STEPS, OnDevice, Painter, Picture

LINE_SHARE = 1 / 360
"""Width of a line, as a share of the picture's height."""
LETTERS, GROUND = 245, 24
"""Levels of grey of a label."""
LABELS_KEPT = 256
"""Labels that are kept, as each is drawn in many frames."""


class Boxed:
    """Paints as another painter does, and boxes over it.

    Args:
        painter: That other one.
        spec: Names and colours of the classes.
        objects: What to draw boxes around.
        left: First column of the painted picture in what the painter returns.
        legend: What of the painted picture lies above the boxes.
    """

    def __init__(
        self,
        painter: Painter,
        spec: ModelSpec,
        objects: Sequence[Region],
        left: int = 0,
        legend: Legend | None = None,
    ) -> None:
        self._painter = painter
        self._colors = dict(zip(spec.class_names, spec.palette, strict=True))
        self._objects = objects
        self._left = left
        self._legend = legend

    def draw(
        self,
        picture: Picture,
        class_map: NDArray[np.uint8],
        in_view: AbstractSet[int] | None = None,
    ) -> Picture:
        """Return a painted copy of a picture."""
        return self._boxed(self._painter.draw(picture, class_map, in_view))

    def draw_on_device(
        self, picture: OnDevice, labels: OnDevice, in_view: AbstractSet[int] | None = None
    ) -> Picture:
        """Return a painted copy of a picture on a device: on the CPU, where encoders take it."""
        return self._boxed(self._painter.draw_on_device(picture, labels, in_view).on_host)

    def _boxed(self, canvas: Picture) -> Picture:
        """Draw the boxes under the legend, in place."""
        steps = zip(canvas.planes, PLANE_STEPS, strict=True)
        painted = [plane[:, self._left // step :] for plane, step in steps]
        corners = self._legend.corners(painted) if self._legend else []
        kept = [corner.copy() for corner in corners]
        for region in sorted(self._objects, key=lambda o: o.top + o.height):  # the nearest last
            self._frame(canvas, region)
            self._label(canvas, region)
        for corner, levels in zip(corners, kept, strict=True):
            corner[:] = levels
        return canvas

    def _frame(self, canvas: Picture, region: Region) -> None:
        """Draw a box in the colour of its class, in place."""
        width = max(round(canvas.size_hw[0] * LINE_SHARE), 1)
        color = np.array([self._colors[region.name]], np.uint8)
        left, top = self._left + region.left, region.top
        ends = left + region.width, top + region.height
        for plane, level, step in zip(
            canvas.planes, canvas.space.yuv(color)[0].tolist(), PLANE_STEPS, strict=True
        ):
            inner = max(width // step, 1)
            x, y, right, bottom = (side // step for side in (left, top, *ends))
            right, bottom = max(right, x + inner), max(bottom, y + inner)
            plane[y : y + inner, x:right] = plane[bottom - inner : bottom, x:right] = level
            plane[y:bottom, x : x + inner] = plane[y:bottom, right - inner : right] = level

    def _label(self, canvas: Picture, region: Region) -> None:
        """Write the number above a box, or in it where there is no room, in place."""
        if region.track is None:
            return
        luma, *chroma = canvas.planes
        label = _label_of(f"{region.name} {region.track}", letter_px(canvas.size_hw[0]) * 3 // 4)
        top = region.top - label.shape[0] if region.top >= label.shape[0] else region.top
        left, top = (self._left + region.left) // 2 * 2, top // 2 * 2
        place = np.s_[top : top + label.shape[0], left : left + label.shape[1]]
        luma[place] = label[: luma[place].shape[0], : luma[place].shape[1]]
        for plane in chroma:
            half = np.s_[
                top // 2 : (top + label.shape[0]) // 2, left // 2 : (left + label.shape[1]) // 2
            ]
            plane[half] = 128


@lru_cache(maxsize=LABELS_KEPT)
def _label_of(text: str, text_px: int) -> NDArray[np.uint8]:
    """Return a label (h, w), in levels of grey; its sides are even."""
    pad = text_px // 4
    _, _, width, _ = cv2.getTextSize((0, 0), text, (0, 0), FONT, text_px, WEIGHT)
    size_hw = ((text_px + 2 * pad) // 2 * 2, (width + 2 * pad + 1) // 2 * 2)
    label = np.full((*size_hw, 3), GROUND, np.uint8)
    baseline = (pad, size_hw[0] // 2 + round(text_px * 0.36))
    cv2.putText(label, text, baseline, (LETTERS,) * 3, FONT, text_px, WEIGHT)
    return label[..., 0]
