"""Draw class maps over pictures on a GPU, as `roadseg.paint.overlay` does on the CPU."""

from collections.abc import Sequence
from collections.abc import Set as AbstractSet
from dataclasses import dataclass
from functools import lru_cache
from typing import NamedTuple

import numpy as np
import torch
from torch import Tensor

from roadseg.paint.config import NO_LEGEND
from roadseg.paint.legend import LEGENDS_KEPT, Entry, legend_at
from roadseg.paint.overlay import (
    DIMMED,
    OUTLINE_LEVEL,
    Style,
    color_tables,
)
from roadseg.paint.specks import HIDDEN, on_grid, speck_grid, speck_step
from roadseg.spec import UNSURE
from roadseg.video.class_map_cuda import CudaClassMap
from roadseg.video.picture import ColorSpace
from roadseg.video.picture_cuda import CudaPicture
from roadseg.video.transfer_cuda import to_device, to_host

Palette = tuple[tuple[int, int, int], ...]


class CudaOverlay:
    """Paints class maps; all is as for `roadseg.paint.overlay.Overlay`.

    Args:
        style: What to paint, and how.
    """

    def __init__(self, style: Style) -> None:
        self._style = style

    def draw(
        self, picture: CudaPicture, class_map: CudaClassMap, in_view: AbstractSet[int] | None = None
    ) -> CudaPicture:
        """Return a painted copy of a picture, where it lies; side by side, twice as wide.

        Args:
            picture: What to paint on.
            class_map: Its class map.
            in_view: Ids of the classes that the legend may name; None allows all.
        """
        height, width = picture.size_hw
        style, left = self._style, self._style.left_of(width)
        canvas = CudaPicture.empty((height, left + width), picture.space, picture.device)
        part = CudaPicture(canvas.y[:, left:], canvas.uv[:, left // 2 :], canvas.space)
        ids = class_map.ids.int()
        paints = paints_for(style.spec.palette, style.shown, picture.space, picture.device)
        self._blend(picture, ids, part, paints)
        if style.config.outline:
            add_outline(part.y, ids, paints, style.config.min_region)
        if style.config.legend != NO_LEGEND:
            add_legend((part.y, part.uv), self._legend(part, in_view))
        if left:
            canvas.y[:, :width], canvas.y[:, width:left] = picture.y, picture.y[:, -1:]
            canvas.uv[:, : left // 2] = picture.uv
        return canvas

    def _blend(
        self, picture: CudaPicture, ids: Tensor, target: CudaPicture, paints: "Paints"
    ) -> None:
        """Mix the colours of the classes (H, W) into a copy of a picture."""
        ground = dimmed(picture, paints) if self._style.config.only else picture
        half_ids = ids[::2, ::2]
        for plane, under, colors, of_plane, filled in (
            (picture.y, ground.y, paints.y, ids, target.y),
            (picture.uv, ground.uv, paints.uv, half_ids, target.uv),
        ):
            painted = torch.lerp(plane.float(), colors[of_plane], self._style.config.alpha).round()
            shown = paints.shown[of_plane].view(*of_plane.shape, *(1,) * (plane.dim() - 2))
            filled.copy_(torch.where(shown, painted, under.float()))

    def _legend(
        self, picture: CudaPicture, in_view: AbstractSet[int] | None
    ) -> "tuple[LegendLayer, ...]":
        style, place = self._style, (picture.size_hw, picture.space)
        entries = style.entries(in_view)
        return legend_layers(entries, style.names, style.config.legend, place, picture.device)


@dataclass(frozen=True)
class Paints:
    """What is painted with, on a device, in a colour space."""

    y: Tensor
    """(256,) float32, by class id."""
    uv: Tensor
    """(256, 2) float32, by class id."""
    shown: Tensor
    """(256,) bool, by class id: whether it is painted."""
    black: int
    """Level of Y."""
    grey: int
    """Level of U and V."""
    light: int
    """Level of Y of outlines."""


@lru_cache(maxsize=4)  # a run has one
def paints_for(
    palette: Palette, shown: tuple[int, ...], space: ColorSpace, device: torch.device
) -> Paints:
    """Return what to paint the shown classes of a palette with."""
    y, u, v = (torch.from_numpy(table).float() for table in color_tables(palette, space))
    member = torch.zeros(256, dtype=torch.bool)
    member[list(shown)] = True
    levels = space.yuv(np.array([[0] * 3, [OUTLINE_LEVEL] * 3], np.uint8)).tolist()
    return Paints(
        y=y.to(device),
        uv=torch.stack([u, v], dim=-1).to(device),
        shown=member.to(device),
        black=levels[0][0],
        grey=levels[0][1],
        light=levels[1][0],
    )


def dimmed(picture: CudaPicture, paints: Paints) -> CudaPicture:
    """Return a picture turned to dark grey."""
    dark = (picture.y * DIMMED + paints.black * (1 - DIMMED)).round().to(torch.uint8)
    return CudaPicture(dark, torch.full_like(picture.uv, paints.grey), picture.space)


def add_outline(y: Tensor, ids: Tensor, paints: Paints, min_region: float) -> None:
    """Lighten the pixels that differ from their left or upper neighbour, in place.

    Where either is of a speck, or too unsure, they stay as they are.
    """
    regions = torch.where(paints.shown[ids], ids, HIDDEN).to(torch.uint8)
    edges = torch.zeros_like(regions, dtype=torch.bool)
    edges[:, 1:] = regions[:, 1:] != regions[:, :-1]
    edges[1:] |= regions[1:] != regions[:-1]
    unlined, specks = ids == UNSURE, _find_specks(regions, min_region)
    if specks is not None:
        unlined |= specks
    beside = unlined.clone()
    beside[:, 1:] |= unlined[:, :-1]
    beside[1:] |= beside[:-1].clone()
    edges &= ~beside
    y.masked_fill_(edges, paints.light)


def _find_specks(regions: Tensor, least_share: float) -> Tensor | None:
    """Return where (H, W) specks are, as `roadseg.paint.specks` finds them; None if there is none.

    Regions are told apart on the CPU, on the small grid on which that is done there too.
    """
    if not least_share:
        return None
    small = np.asarray(to_host(on_grid(regions).contiguous()), np.uint8)
    found = speck_grid(small, least_share)
    if found is None:
        return None
    ids, step = to_device(found, regions.device), speck_step(regions.shape[1])
    ids = ids.repeat_interleave(step, dim=0).repeat_interleave(step, dim=1)
    ids = ids[: regions.shape[0], : regions.shape[1]]
    return regions == ids


class LegendLayer(NamedTuple):
    """What is laid over Y, or over U and V: what is there times `kept`, plus `added`."""

    kept: Tensor
    added: Tensor
    top: int
    left: int


def add_legend(planes: Sequence[Tensor], layers: Sequence[LegendLayer]) -> None:
    """Lay a legend over a corner, in place."""
    for plane, layer in zip(planes, layers, strict=False):  # without room there is no layer
        rows, columns = layer.kept.shape[:2]
        corner = plane[layer.top : layer.top + rows, layer.left : layer.left + columns]
        corner.copy_((corner * layer.kept + layer.added).round())


@lru_cache(maxsize=LEGENDS_KEPT)
def legend_layers(
    entries: tuple[Entry, ...],
    names: tuple[str, ...],
    corner: str,
    picture: tuple[tuple[int, int], ColorSpace],
    device: torch.device,
) -> tuple[LegendLayer, ...]:
    """Return the layers for Y and for U and V; none where there is no room for a legend.

    Args:
        entries: What it names.
        names: All that it may name, for its width.
        corner: Where it is.
        picture: Size and space of the picture.
        device: Where that lies.
    """
    size_hw, space = picture
    legend = legend_at(corner, entries, names, size_hw, space)
    if legend is None:
        return ()
    y, u, v = legend.layers
    kept, added = (np.stack(pair, axis=-1) for pair in zip(u, v, strict=True))
    return tuple(
        LegendLayer(
            kept=torch.from_numpy(kept).to(device),
            added=torch.from_numpy(added).to(device),
            top=legend.top // step,
            left=legend.left // step,
        )
        for kept, added, step in ((y.kept, y.added, 1), (kept, added, 2))
    )
