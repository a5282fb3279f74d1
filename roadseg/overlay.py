"""Draw class maps over pictures: colour, legend, side by side."""

from collections.abc import Sequence
from functools import cached_property

import cv2
import numpy as np
from numpy.typing import NDArray

from roadseg.config import ModelSpec, OverlayConfig
from roadseg.errors import ConfigError

Picture = NDArray[np.uint8]

OUTLINE_LEVEL = 235
"""Grey level of the line between two classes."""
GROUND_LEVEL = 24
"""Grey level of the legend's ground; everything else in it is letters or swatches."""
DIMMED = 0.35
"""Brightness of what is dimmed."""


def class_ids(names: Sequence[str], spec: ModelSpec, flag: str = "--classes") -> frozenset[int]:
    """Return the ids of classes by name as users write them behind a flag; no names mean all.

    Raises:
        ConfigError: The model does not know a name.
    """
    unknown = [name for name in names if name not in spec.class_names]
    if unknown:
        raise ConfigError(
            f"{flag} names {', '.join(unknown)}; the model knows {', '.join(spec.class_names)}"
        )
    return frozenset(map(spec.class_names.index, names or spec.class_names))


class Overlay:
    """Paints class maps in the colours of a model.

    Args:
        spec: Names and colours of the classes.
        shown: Ids to paint; the rest of the picture stays as it is.
        alpha: Share of the colour in a painted pixel, 0..1.
        outline: Draw a light line where one class ends; dark neighbours, such as car on road, are
            hard to tell apart without.
        legend: Write the shown classes in a corner.
        side_by_side: Put the untouched picture to the left of the painted one.
        dim: Turn what is not painted to dark grey.
    """

    def __init__(
        self,
        spec: ModelSpec,
        *,
        shown: frozenset[int],
        alpha: float,
        outline: bool = True,
        legend: bool = True,
        side_by_side: bool = False,
        dim: bool = False,
    ) -> None:
        self._spec = spec
        self._dim = dim
        self._shown = sorted(shown)
        self._alpha = alpha
        self._outline = outline
        self._legend = legend
        self._side_by_side = side_by_side
        self._legends: dict[tuple[int, int], tuple[Picture, NDArray[np.bool_]]] = {}

    def draw(self, picture: Picture, class_map: NDArray[np.uint8]) -> Picture:
        """Return a painted copy of a picture (H, W, 3) RGB, given its class map (H, W).

        Side by side, the result is twice as wide.
        """
        painted = self._blend(picture, class_map)
        if self._outline:
            self._add_outline(painted, class_map)
        if self._legend:
            self._add_legend(painted)
        if self._side_by_side:
            painted = cv2.hconcat([picture, painted])  # type: ignore[assignment]
        return painted

    def _blend(self, picture: Picture, class_map: NDArray[np.uint8]) -> Picture:
        colors = cv2.LUT(cv2.merge([class_map] * 3), self._color_table)
        blended = cv2.addWeighted(picture, 1 - self._alpha, colors, self._alpha, 0)
        if len(self._shown) == len(self._spec.class_names):
            return blended  # type: ignore[return-value]
        painted = _dimmed(picture) if self._dim else picture.copy()
        cv2.copyTo(blended, cv2.LUT(class_map, self._shown_table), painted)
        return painted

    @cached_property
    def _color_table(self) -> Picture:
        table = np.zeros((1, 256, 3), np.uint8)
        table[0, : len(self._spec.palette)] = self._spec.palette
        return table

    @cached_property
    def _shown_table(self) -> Picture:
        table = np.zeros(256, np.uint8)
        table[self._shown] = 255
        return table

    @cached_property
    def _region_table(self) -> Picture:
        """Map each shown class to itself and the rest to one id."""
        table = np.full(256, 255, np.uint8)
        table[self._shown] = self._shown
        return table

    def _add_outline(self, picture: Picture, class_map: NDArray[np.uint8]) -> None:
        """Paint the pixels that differ from their left or upper neighbour, in place."""
        regions = cv2.LUT(class_map, self._region_table)
        edges = np.zeros_like(class_map)
        edges[:, 1:] = cv2.compare(regions[:, 1:], regions[:, :-1], cv2.CMP_NE)
        below = cv2.compare(regions[1:], regions[:-1], cv2.CMP_NE)
        cv2.bitwise_or(edges[1:], below, edges[1:])
        cv2.copyTo(np.full_like(picture, OUTLINE_LEVEL), edges, picture)

    def _add_legend(self, picture: Picture) -> None:
        """Lay the legend over the top left corner, in place."""
        size = picture.shape[:2]
        if size not in self._legends:
            entries = [(self._spec.class_names[i], self._spec.palette[i]) for i in self._shown]
            legend = render_legend(entries, size)
            self._legends[size] = legend, legend.max(axis=2, keepdims=True) == GROUND_LEVEL
        legend, ground = self._legends[size]
        margin = letter_px(size[0]) // 2
        corner = picture[margin : margin + legend.shape[0], margin : margin + legend.shape[1]]
        inside = slice(corner.shape[0]), slice(corner.shape[1])  # a tiny picture cuts the legend
        # Swatches and letters stay at full strength, the ground lets the road shine through.
        corner[:] = np.where(ground[inside], corner // 4 + GROUND_LEVEL, legend[inside])


def overlay_for(spec: ModelSpec, config: OverlayConfig, *, side_by_side: bool = False) -> Overlay:
    """Return the overlay that a user asked for.

    Raises:
        ConfigError: The model does not know a class.
    """
    shown = class_ids(config.only, spec, "--only") & class_ids(config.classes, spec)
    return Overlay(
        spec,
        shown=shown,
        alpha=config.alpha,
        outline=config.outline,
        legend=config.legend,
        side_by_side=side_by_side,
        dim=bool(config.only),
    )


def _dimmed(picture: Picture) -> Picture:
    grey = cv2.cvtColor(picture, cv2.COLOR_RGB2GRAY)
    return cv2.merge([cv2.convertScaleAbs(grey, alpha=DIMMED)] * 3)  # type: ignore[return-value]


def letter_px(picture_height: int) -> int:
    """Return the height of letters that can be read in a picture of this height."""
    return max(round(picture_height / 36), 9)


def render_legend(
    entries: Sequence[tuple[str, tuple[int, int, int]]], size_hw: tuple[int, int]
) -> Picture:
    """Return a panel (h, w, 3) RGB with a swatch and a name for each entry, fit for a picture."""
    text_px = letter_px(size_hw[0])
    pad, row = text_px // 2, round(text_px * 1.5)
    font = cv2.FontFace("sans")
    boxes = [
        cv2.getTextSize((0, 0), name, (0, 0), font, text_px, 500) for name, _ in entries
    ]  # (x, y, width, height) each
    widest = max(box[2] for box in boxes)
    swatch = round(text_px * 1.4)
    shape = (row * len(entries) + 2 * pad, widest + swatch + 4 * pad, 3)
    panel = np.full(shape, GROUND_LEVEL, np.uint8)
    for i, (name, color) in enumerate(entries):
        top = pad + i * row
        middle = top + row // 2
        half = text_px // 2
        cv2.rectangle(panel, (pad, middle - half), (pad + swatch, middle + half), color, cv2.FILLED)
        cv2.rectangle(panel, (pad, middle - half), (pad + swatch, middle + half), (235,) * 3, 1)
        baseline = (2 * pad + swatch + pad // 2, middle + round(text_px * 0.36))
        cv2.putText(panel, name, baseline, (245,) * 3, font, text_px, 500)
    return panel
