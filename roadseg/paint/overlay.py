"""Draw class maps over pictures: colour, outline, legend, side by side.

Everything is drawn on the planes of Y, U and V, in the picture's own colour space. A chroma sample,
which four pixels share, takes the class of the top left one.
"""

from collections.abc import Iterator, Sequence
from collections.abc import Set as AbstractSet
from dataclasses import dataclass
from functools import cached_property, lru_cache, reduce
from typing import TYPE_CHECKING

import cv2
import numpy as np
from numpy.typing import NDArray

from roadseg.errors import ConfigError
from roadseg.paint.config import NO_LEGEND, OverlayConfig
from roadseg.paint.legend import Entry, Legend, legend_at
from roadseg.paint.specks import HIDDEN, on_grid, speck_grid, specks_among
from roadseg.spec import IGNORE_INDEX, UNLABELLED, UNSURE, ModelSpec
from roadseg.video.picture import PLANE_STEPS, AnyPicture, ColorSpace, OnDevice, Picture, Plane

if TYPE_CHECKING:
    from roadseg.paint.overlay_cuda import CudaOverlay

OUTLINE_LEVEL = 235
"""Grey level of the line between two classes, which keeps the chroma below it."""
DIMMED = 0.35
"""Factor on the brightness of dimmed pixels."""
BAND_PX = 64
"""Rows that are painted at a time, an even number: what it takes stays small, and in the cache."""


def class_ids(names: Sequence[str], spec: ModelSpec, flag: str = "--classes") -> frozenset[int]:
    """Return the ids of classes by name as users write them behind a flag.

    No names mean all classes but unlabelled, which some adopted models have.

    Raises:
        ConfigError: The model does not know a name.
    """
    unknown = [name for name in names if name not in spec.class_names]
    if unknown:
        raise ConfigError(
            f"{flag} names {', '.join(unknown)}; the model knows {', '.join(spec.class_names)}"
        )
    named = names or [name for name in spec.class_names if name != UNLABELLED]
    return frozenset(map(spec.class_names.index, named))


@dataclass(frozen=True)
class Style:
    """What is painted and how, wherever pictures lie."""

    spec: ModelSpec
    """Names and colours of the classes."""
    config: OverlayConfig
    """Settings."""
    side_by_side: bool
    """Whether the untouched picture lies to the left of the painted one."""
    shown: tuple[int, ...]
    """Ids of the classes that are painted, in order."""

    def left_of(self, width: int) -> int:
        """Return the columns to the left of a painted picture, even, as two share a colour."""
        return width + width % 2 if self.side_by_side else 0

    def legend(
        self, size_hw: tuple[int, int], space: ColorSpace, in_view: AbstractSet[int] | None
    ) -> Legend | None:
        """Return the legend of a painted picture; None if there is none."""
        corner = self.config.legend
        if corner == NO_LEGEND:
            return None
        return legend_at(corner, self.entries(in_view), self.names, size_hw, space)

    def entries(self, in_view: AbstractSet[int] | None) -> tuple[Entry, ...]:
        """Return the legend's entries: the classes that are painted and, if known, in view."""
        named = (i for i in self.shown if in_view is None or i in in_view)
        return tuple((self.spec.class_names[i], self.spec.palette[i]) for i in named)

    @property
    def names(self) -> tuple[str, ...]:
        """All that the legend may name."""
        return tuple(self.spec.class_names[i] for i in self.shown)


class Overlay:
    """Paints class maps in the colours of a model.

    Args:
        spec: Names and colours of the classes.
        config: Settings.
        side_by_side: Put the untouched picture to the left of the painted one.

    Raises:
        ConfigError: The model does not know a class.
    """

    def __init__(
        self, spec: ModelSpec, config: OverlayConfig, *, side_by_side: bool = False
    ) -> None:
        self._style = Style(spec, config, side_by_side, shown_ids(spec, config))

    def draw(
        self,
        picture: Picture,
        class_map: NDArray[np.uint8],
        in_view: AbstractSet[int] | None = None,
    ) -> Picture:
        """Return a painted copy of a picture; side by side, twice as wide.

        Args:
            picture: The picture.
            class_map: (H, W) ids.
            in_view: Ids of the classes that the legend may name; None allows all.
        """
        height, width = picture.size_hw
        left = self._style.left_of(width)
        canvas = Picture.empty((height, left + width), picture.space)
        parts = [p[:, left // s :] for p, s in zip(canvas.planes, PLANE_STEPS, strict=True)]
        self._blend(picture, class_map, parts)
        if self._style.config.outline:
            self._add_outline(parts[0], class_map, picture.space)
        _add_legend(parts, self._style.legend((height, width), picture.space, in_view))
        if left:
            original = picture.padded((height, left))
            for target, plane in zip(canvas.planes, original.planes, strict=True):
                target[:, : plane.shape[1]] = plane
        return canvas

    def draw_on_device(
        self, picture: OnDevice, labels: OnDevice, in_view: AbstractSet[int] | None = None
    ) -> OnDevice:
        """Return a painted copy of a picture that lies on a device, there, as `draw` does.

        Args:
            picture: `CudaPicture` to paint on.
            labels: `CudaClassMap` of it.
            in_view: Ids of the classes that the legend may name; None allows all.
        """
        return self._on_device.draw(picture, labels, in_view)

    def left_of(self, picture: AnyPicture) -> int:
        """Return the first column of the painted picture in what is returned."""
        return self._style.left_of(picture.size_hw[1])

    def legend(self, picture: AnyPicture, in_view: AbstractSet[int] | None) -> Legend | None:
        """Return the legend that a painted copy of a picture has; None if it has none."""
        return self._style.legend(picture.size_hw, picture.space, in_view)

    @cached_property
    def _on_device(self) -> "CudaOverlay":
        """What paints pictures on a device, made when there is one; it knows PyTorch."""
        from roadseg.paint.overlay_cuda import CudaOverlay

        return CudaOverlay(self._style)

    def _blend(
        self, picture: Picture, class_map: NDArray[np.uint8], targets: Sequence[Plane]
    ) -> None:
        """Mix the colours of the classes into the picture."""
        tables = color_tables(self._style.spec.palette, picture.space)
        grounds = dimmed(picture) if self._style.config.only else picture.planes
        alpha = self._style.config.alpha
        for rows in _bands(len(class_map)):
            ids, hidden = class_map[rows], self._hidden(class_map[rows])
            of_chroma = _every_other(ids), None if hidden is None else _every_other(hidden)
            maps = (ids, hidden), of_chroma, of_chroma
            for plane, ground, (classes, left_out), table, target, step in zip(
                picture.planes, grounds, maps, tables, targets, PLANE_STEPS, strict=True
            ):
                band = slice(rows.start // step, -(-rows.stop // step))
                colors = cv2.LUT(classes, table)
                cv2.addWeighted(plane[band], 1 - alpha, colors, alpha, 0, dst=target[band])
                if left_out is not None:
                    cv2.copyTo(ground[band], left_out, target[band])

    def _hidden(self, class_map: NDArray[np.uint8]) -> NDArray[np.uint8] | None:
        """Return 255 where a class map is not painted (H, W), else 0; None if all of it is."""
        if not self._shows_all:
            return np.asarray(cv2.LUT(class_map, self._hidden_table), np.uint8)
        if cv2.minMaxLoc(class_map)[1] < UNSURE:
            return None
        return np.asarray(cv2.inRange(class_map, UNSURE, IGNORE_INDEX), np.uint8)

    @cached_property
    def _shows_all(self) -> bool:
        """Whether every class is painted."""
        return len(self._style.shown) == len(self._style.spec.class_names)

    @cached_property
    def _hidden_table(self) -> NDArray[np.uint8]:
        """Map each class that is not shown to 255 and the rest to 0."""
        table = np.full(256, 255, np.uint8)
        table[list(self._style.shown)] = 0
        return table

    @cached_property
    def _region_table(self) -> NDArray[np.uint8]:
        """Map each shown class to itself and the rest to one id."""
        table = np.full(256, HIDDEN, np.uint8)
        table[list(self._style.shown)] = self._style.shown
        return table

    def _add_outline(self, luma: Plane, class_map: NDArray[np.uint8], space: ColorSpace) -> None:
        """Lighten the pixels that differ from their left or upper neighbour, in place.

        Specks have no outline, and neither has what is too unsure to be painted: where that ends is
        no edge of anything.
        """
        sample = cv2.LUT(np.ascontiguousarray(on_grid(class_map)), self._region_table)
        specks = speck_grid(np.asarray(sample, np.uint8), self._style.config.min_region)
        level = space.yuv(np.full((1, 3), OUTLINE_LEVEL, np.uint8))[0, 0]
        for rows in _bands(len(class_map)):
            above = max(rows.start - 1, 0)
            ids = class_map[above : rows.stop]
            regions = ids
            if not self._shows_all:
                regions = np.asarray(cv2.LUT(ids, self._region_table), np.uint8)
            edges = _edges(regions)
            masks = (specks_among(regions, specks, above), _unsure(ids))
            unlined = [mask for mask in masks if mask is not None]
            if unlined:
                both = reduce(np.bitwise_or, unlined)
                beside = cv2.dilate(both, np.ones((2, 2), np.uint8), anchor=(1, 1))
                cv2.subtract(edges, beside, edges)
            edges = edges[rows.start - above :]
            cv2.copyTo(np.full_like(edges, level), edges, luma[rows])


def _add_legend(planes: Sequence[Plane], legend: Legend | None) -> None:
    """Draw a legend, in place."""
    if legend is None:
        return
    for corner, layer in zip(legend.corners(planes), legend.layers, strict=True):
        corner[:] = np.rint(corner * layer.kept + layer.added)


def _bands(height: int) -> Iterator[slice]:
    """Yield the rows of a picture's bands from top to bottom."""
    for top in range(0, height, BAND_PX):
        yield slice(top, min(top + BAND_PX, height))


def _every_other(class_map: NDArray[np.uint8]) -> NDArray[np.uint8]:
    """Return every other row and column of a map, (H/2, W/2): one for each sample of chroma."""
    return np.ascontiguousarray(class_map[::2, ::2])


def _edges(regions: NDArray[np.uint8]) -> NDArray[np.uint8]:
    """Return 255 where ids (H, W) differ from those to the left or above, and 0 elsewhere."""
    edges = np.zeros_like(regions)
    rows, columns = regions.shape
    if columns > 1:  # OpenCV takes no empty arrays
        edges[:, 1:] = cv2.compare(regions[:, 1:], regions[:, :-1], cv2.CMP_NE)
    if rows > 1:
        below = cv2.compare(regions[1:], regions[:-1], cv2.CMP_NE)
        cv2.bitwise_or(edges[1:], below, edges[1:])
    return edges


def _unsure(class_map: NDArray[np.uint8]) -> NDArray[np.uint8] | None:
    """Return 255 where a class map (H, W) is too unsure, and 0 elsewhere; None if it is nowhere."""
    if cv2.minMaxLoc(class_map)[1] < UNSURE:
        return None
    return np.asarray(cv2.inRange(class_map, UNSURE, UNSURE), np.uint8)


def shown_ids(spec: ModelSpec, config: OverlayConfig) -> tuple[int, ...]:
    """Return the ids to paint, in order.

    Raises:
        ConfigError: The model does not know a class.
    """
    shown = class_ids(config.only, spec, "--only") & class_ids(config.classes, spec)
    return tuple(sorted(shown))


@lru_cache(maxsize=16)  # a run has one
def color_tables(
    palette: tuple[tuple[int, int, int], ...], space: ColorSpace
) -> tuple[Plane, Plane, Plane]:
    """Return tables (256,) from class id to Y, to U and to V."""
    tables = np.zeros((3, 256), np.uint8)
    tables[:, : len(palette)] = space.yuv(np.array(palette, np.uint8)).T
    y, u, v = tables
    return y, u, v


def dimmed(picture: Picture) -> tuple[Plane, Plane, Plane]:
    """Return the planes of a picture turned to dark grey."""
    y, u, v = picture.planes
    black, no_blue, no_red = picture.space.black
    dark = cv2.convertScaleAbs(y, alpha=DIMMED, beta=black * (1 - DIMMED))
    return np.asarray(dark, np.uint8), np.full_like(u, no_blue), np.full_like(v, no_red)
