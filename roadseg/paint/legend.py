"""The legend: a swatch and a name for each painted class."""

from collections.abc import Sequence
from functools import lru_cache
from typing import NamedTuple

import cv2
import numpy as np
from numpy.typing import NDArray

from roadseg.video.picture import ColorSpace, Picture

GROUND_LEVEL = 32
"""Grey level of the legend's ground; everything else in it is letters or swatches."""
GROUND_OPACITY = 0.75
"""How much of the road the legend's ground hides."""


class Layer(NamedTuple):
    """What is laid over a plane: the plane times `kept`, plus `added`."""

    kept: NDArray[np.float32]
    added: NDArray[np.float32]


@lru_cache(maxsize=4)  # a run has one, of megabytes; a stream of pictures has many sizes
def legend_layers(
    entries: tuple[tuple[str, tuple[int, int, int]], ...],
    size_hw: tuple[int, int],
    space: ColorSpace,
) -> tuple[Layer, ...]:
    """Return the legend for a picture of a size, for Y, U and V.

    Swatches and letters are opaque, the ground lets the road shine through.
    """
    panel = render_legend(entries, size_hw)
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


def letter_px(picture_height: int) -> int:
    """Return the height of letters that can be read in a picture of this height."""
    return max(round(picture_height / 36), 9)


def render_legend(
    entries: Sequence[tuple[str, tuple[int, int, int]]], size_hw: tuple[int, int]
) -> NDArray[np.uint8]:
    """Return a panel (h, w, 3) RGB with a swatch and a name for each entry, fit for a picture.

    Its sides are even.
    """
    text_px = letter_px(size_hw[0])
    pad, row = text_px // 2, round(text_px * 1.5)
    font = cv2.FontFace("sans")
    boxes = [
        cv2.getTextSize((0, 0), name, (0, 0), font, text_px, 500) for name, _ in entries
    ]  # (x, y, width, height) each
    widest = max(box[2] for box in boxes)
    swatch = round(text_px * 1.4)
    height, width = row * len(entries) + 2 * pad, widest + swatch + 4 * pad
    panel = np.full((height + height % 2, width + width % 2, 3), GROUND_LEVEL, np.uint8)
    for i, (name, color) in enumerate(entries):
        top = pad + i * row
        middle = top + row // 2
        half = text_px // 2
        cv2.rectangle(panel, (pad, middle - half), (pad + swatch, middle + half), color, cv2.FILLED)
        cv2.rectangle(panel, (pad, middle - half), (pad + swatch, middle + half), (235,) * 3, 1)
        baseline = (2 * pad + swatch + pad // 2, middle + round(text_px * 0.36))
        cv2.putText(panel, name, baseline, (245,) * 3, font, text_px, 500)
    return panel
