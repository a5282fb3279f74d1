"""Draw the legend: a swatch and a name for each painted class in view."""

from collections.abc import Sequence
from functools import lru_cache
from typing import NamedTuple

import cv2
import numpy as np
from numpy.typing import NDArray

from roadseg.settings import Color
from roadseg.video.picture import PLANE_STEPS, ColorSpace, Picture, Plane

GROUND_LEVEL = 32
"""Grey level of the legend's background; letters and swatches have others."""
GROUND_OPACITY = 0.75
"""Opacity of the background; letters and swatches are opaque."""
MOST_SHARE = 0.1
"""Largest share of the picture that a legend covers."""
LEAST_LETTER_PX = 8
"""Height of the smallest letters that can be read."""
FONT = cv2.FontFace("sans")
WEIGHT = 500
"""Weight of its letters."""
LEGENDS_KEPT = 16
"""Legends that are cached, as the classes in view change back and forth."""

Entry = tuple[str, Color]
"""A class by its name and colour."""


class Layer(NamedTuple):
    """A layer over a plane: the result is the plane times `kept`, plus `added`."""

    kept: NDArray[np.float32]
    added: NDArray[np.float32]


class Legend(NamedTuple):
    """A legend for pictures of one size."""

    layers: tuple[Layer, ...]
    """For Y, U and V."""
    top: int
    """First row of Y that it covers; even."""
    left: int
    """First column of Y; even."""

    def corners(self, planes: Sequence[Plane]) -> list[Plane]:
        """Return what it covers of the planes of a picture, to read and to write."""
        return [
            plane[self.top // step :, self.left // step :][: len(layer.kept), : layer.kept.shape[1]]
            for plane, layer, step in zip(planes, self.layers, PLANE_STEPS, strict=True)
        ]


@lru_cache(maxsize=LEGENDS_KEPT)
def legend_at(
    corner: str,
    entries: tuple[Entry, ...],
    names: tuple[str, ...],
    size_hw: tuple[int, int],
    space: ColorSpace,
) -> Legend | None:
    """Return the legend in a corner of a picture; None if it has no entries or no room.

    Args:
        corner: One of `roadseg.paint.config.CORNERS`.
        entries: Its entries. In a small picture the first ones, such as sky, are left out.
        names: All classes that it may name in this video, which the letters must leave room for.
        size_hw: Height and width of the picture.
        space: Colour space of the picture.
    """
    text_px = _fitting_letter_px(names, size_hw)
    while entries and not _fits(_panel_hw([name for name, _ in entries], text_px), size_hw):
        entries = entries[1:]
    if not entries:
        return None
    panel = render_legend(entries, text_px)
    margin = _margin(size_hw)
    bottom, right = (
        (side - of_panel - margin) // 2 * 2
        for side, of_panel in zip(size_hw, panel.shape[:2], strict=True)
    )
    top = margin if corner.startswith("top") else bottom
    left = margin if corner.endswith("left") else right
    return Legend(_layers(panel, space), top, left)


def letter_px(picture_height: int) -> int:
    """Return the height of letters that can be read in a picture of this height."""
    return max(round(picture_height / 36), 9)


def render_legend(entries: Sequence[Entry], text_px: int) -> NDArray[np.uint8]:
    """Return a panel (h, w, 3) RGB with a swatch and a name for each entry. Its sides are even.

    Args:
        entries: Its entries.
        text_px: Height of its letters.
    """
    pad, row, swatch = _measures(text_px)
    panel_hw = _panel_hw([name for name, _ in entries], text_px)
    panel = np.full((*panel_hw, 3), GROUND_LEVEL, np.uint8)
    for i, (name, color) in enumerate(entries):
        middle = pad + i * row + row // 2
        half = text_px // 2
        cv2.rectangle(panel, (pad, middle - half), (pad + swatch, middle + half), color, cv2.FILLED)
        cv2.rectangle(panel, (pad, middle - half), (pad + swatch, middle + half), (235,) * 3, 1)
        baseline = (2 * pad + swatch + pad // 2, middle + round(text_px * 0.36))
        cv2.putText(panel, name, baseline, (245,) * 3, FONT, text_px, WEIGHT)
    return panel


def _measures(text_px: int) -> tuple[int, int, int]:
    """Return the padding, the height of a row and the width of a swatch beside letters."""
    return text_px // 2, round(text_px * 1.5), round(text_px * 1.4)


def _panel_hw(names: Sequence[str], text_px: int) -> tuple[int, int]:
    """Return the height and width of a legend of some names; both are even."""
    pad, row, swatch = _measures(text_px)
    boxes = (cv2.getTextSize((0, 0), name, (0, 0), FONT, text_px, WEIGHT) for name in names)
    widest = max(width for _, _, width, _ in boxes)
    height, width = row * len(names) + 2 * pad, widest + swatch + 4 * pad
    return height + height % 2, width + width % 2


def _fitting_letter_px(names: Sequence[str], size_hw: tuple[int, int]) -> int:
    """Return the height of the largest letters with which a legend of some names fits.

    It is at least that of the smallest legible letters.
    """
    for text_px in range(letter_px(size_hw[0]), LEAST_LETTER_PX, -1):
        if _fits(_panel_hw(names, text_px), size_hw):
            return text_px
    return LEAST_LETTER_PX


def _fits(panel_hw: tuple[int, int], size_hw: tuple[int, int]) -> bool:
    """Return whether there is room for a legend."""
    (rows, columns), (height, width) = panel_hw, size_hw
    margins = 2 * _margin(size_hw)
    is_inside = rows + margins <= height and columns + margins <= width
    return is_inside and rows * columns <= MOST_SHARE * height * width


def _margin(size_hw: tuple[int, int]) -> int:
    """Return the distance of a legend from the edges of a picture; even."""
    return letter_px(size_hw[0]) // 4 * 2


def _layers(panel: NDArray[np.uint8], space: ColorSpace) -> tuple[Layer, ...]:
    """Return the layers of a panel (h, w, 3) RGB for Y, U and V."""
    ground = panel.max(axis=2) == GROUND_LEVEL
    opacity = np.full(ground.shape, 1, np.float32)
    opacity[ground] = GROUND_OPACITY
    half = opacity.shape[1] // 2, opacity.shape[0] // 2
    half_opacity = np.asarray(cv2.resize(opacity, half, interpolation=cv2.INTER_AREA), np.float32)
    planes = Picture.from_rgb(panel, space).planes
    opacities = (opacity, half_opacity, half_opacity)
    return tuple(
        Layer(1 - o, np.multiply(o, p, dtype=np.float32))
        for o, p in zip(opacities, planes, strict=True)
    )
