"""What is computed with labels on the network's grid, on a device: `grid` for PyTorch's tensors.

Positions among levels are rounded as OpenCV rounds them, and so are levels, to 8 bits: the classes
are those that the CPU finds.
"""

from functools import lru_cache

import numpy as np
import torch
import torch.nn.functional as F
from numpy.typing import NDArray
from torch import Tensor

from roadseg.segmentation.enlarge import FAR_BEHIND, STRONGEST, Axis
from roadseg.segmentation.flow import Flow, positions
from roadseg.segmentation.grid import Grid, surroundings
from roadseg.segmentation.placement import Placement
from roadseg.spec import UNSURE
from roadseg.video.class_map_cuda import CudaClassMap
from roadseg.video.graph_cuda import Graphed
from roadseg.video.transfer_cuda import to_device, to_host

PARTS = 32
"""Parts of a cell that OpenCV tells apart when it interpolates."""


@Graphed
def _levels_of(logits: Tensor) -> Tensor:
    behind = (logits - logits.amax(dim=0)).clamp_(min=-FAR_BEHIND)
    return behind.mul_(STRONGEST / FAR_BEHIND).add_(STRONGEST).round_().to(torch.uint8)


def _confidence_of(logits: Tensor) -> Tensor:
    height, width = logits.shape[1:]
    return _averaged(logits, constants=_mirrored((height, width), logits.device))


@Graphed
def _averaged(logits: Tensor, rows: Tensor, columns: Tensor) -> Tensor:
    certain, ids = logits.softmax(dim=0).max(dim=0)  # (h, w) each
    members = F.one_hot(ids, len(logits)).permute(2, 0, 1).float()  # (C, h, w)
    around = torch.stack([members, members * certain])[..., rows[:, None], columns]
    side = 2 * surroundings(len(certain)) + 1
    averages = F.avg_pool2d(around, side, stride=1)  # (2, C, h, w)
    share, among = averages.gather(1, ids.expand(2, 1, -1, -1))
    mean: Tensor = 255 * among / share  # (1, h, w)
    return mean


@lru_cache(maxsize=4)  # a run has one
def _mirrored(grid_hw: tuple[int, int], device: torch.device) -> tuple[Tensor, Tensor]:
    """Return the rows and the columns of a grid with its surroundings, mirrored at its edges.

    A grid narrower than those is mirrored again and again, which PyTorch's own padding refuses.
    """
    reach = surroundings(grid_hw[0])
    rows, columns = (
        torch.from_numpy(np.pad(np.arange(cells), reach, mode="reflect")) for cells in grid_hw
    )
    return rows.to(device), columns.to(device)


def _joined(planes: Tensor, others: Tensor) -> Tensor:
    return torch.cat([planes, others])


def _beside(values: NDArray[np.float32], planes: Tensor) -> Tensor:
    return to_device(values, planes.device)


def _moved(planes: Tensor, flow: Tensor) -> Tensor:
    return _moved_along(planes, flow, constants=_coordinates_of(planes))


def _filtered(logits: Tensor, past: Tensor, flow: Tensor, weight: Tensor) -> Tensor:
    return _filtered_along(logits, past, flow, weight, constants=_coordinates_of(logits))


def _between(
    levels: Tensor, flow: Flow, others: Tensor, other_flow: Flow, share: NDArray[np.float32]
) -> Tensor:
    back, forth, weight = (to_device(a, levels.device) for a in (flow, other_flow, share))
    return _mixed(levels, back, others, forth, weight, constants=_coordinates_of(levels))


@Graphed
def _filtered_along(
    logits: Tensor, past: Tensor, flow: Tensor, weight: Tensor, *coordinates: Tensor
) -> Tensor:
    return torch.lerp(logits, _fetched(past, flow, *coordinates), weight)


@Graphed
def _mixed(
    levels: Tensor,
    flow: Tensor,
    others: Tensor,
    other_flow: Tensor,
    share: Tensor,
    *coordinates: Tensor,
) -> Tensor:
    moved, coming = _fetched(levels, flow, *coordinates), _fetched(others, other_flow, *coordinates)
    return _rounded(torch.lerp(moved.float(), coming.float(), share))


def _fetched(planes: Tensor, flow: Tensor, cells: Tensor, scale: Tensor, offset: Tensor) -> Tensor:
    """Return what planes have at the end points of a flow, given their `_coordinates`."""
    ends = flow + cells
    if not planes.is_floating_point():
        ends = (ends * PARTS).round_() / PARTS
    places = torch.addcmul(offset, ends, scale)[None]
    (found,) = F.grid_sample(
        planes[None].float(), places, padding_mode="border", align_corners=False
    )
    return found if planes.is_floating_point() else _rounded(found)


_moved_along = Graphed(_fetched)


def _coordinates_of(planes: Tensor) -> tuple[Tensor, Tensor, Tensor]:
    height, width = planes.shape[1:]
    return _coordinates((height, width), planes.device)


@lru_cache(maxsize=4)  # a run has one
def _coordinates(grid_hw: tuple[int, int], device: torch.device) -> tuple[Tensor, Tensor, Tensor]:
    """Return the cells of a grid (h, w, 2), and what makes places in a picture of them, (2,) each.

    Its edges lie at -1 and 1, as `grid_sample` counts.
    """
    height, width = grid_hw
    scale = torch.tensor([2 / width, 2 / height])
    cells = torch.from_numpy(positions(np.zeros((height, width, 2), np.float32)))
    return cells.to(device), scale.to(device), (scale / 2 - 1).to(device)


def _enlarged(placement: Placement, levels: Tensor) -> CudaClassMap:
    return CudaClassMap(_decided(levels, constants=_shares_for(placement, levels)))


def _enlarged_sure(
    placement: Placement, levels: Tensor, confidence: Tensor, least: int
) -> CudaClassMap:
    shares = _shares_for(placement, levels)
    return CudaClassMap(_decided_sure(levels, confidence, constants=shares, least=least))


@Graphed
def _decided_sure(
    levels: Tensor, confidence: Tensor, down: Tensor, across: Tensor, *, least: int
) -> Tensor:
    unsure = _at_full_size(confidence[0], down, across) < least
    return _strongest(levels, down, across).masked_fill(unsure, UNSURE)


def _unsure(placement: Placement, confidence: Tensor, least: int) -> Tensor:
    return _resized(placement, confidence) < least


def _resized(placement: Placement, plane: Tensor) -> Tensor:
    return _at_full_size(plane[0], *_shares_for(placement, plane))


def _at_full_size(plane: Tensor, down: Tensor, across: Tensor) -> Tensor:
    return _rounded(down @ plane.float() @ across.T)


def _restored(placement: Placement, class_map: Tensor) -> CudaClassMap:
    (height, width), top, left = placement.content_hw, placement.top, placement.left
    ids = class_map[top : top + height, left : left + width]
    members = F.one_hot(ids.long()).permute(2, 0, 1) * STRONGEST  # (C, h, w)
    return CudaClassMap(_strongest(members, *_content_shares(placement, ids.device)))


def _strongest(strengths: Tensor, down: Tensor, across: Tensor) -> Tensor:
    """Return the strongest class (H, W) of each pixel, the lowest id where some are equal.

    Args:
        strengths: (C, h, w), whole numbers from 0 to `STRONGEST`.
        down: (H, h) share of each row in those of the pixels.
        across: (W, w) alike, of columns.
    """
    levels = (down @ strengths.float() @ across.T + 0.5).floor()  # (C, H, W)
    return levels.argmax(dim=0).to(torch.uint8)


_decided = Graphed(_strongest)


def _shares_for(placement: Placement, planes: Tensor) -> tuple[Tensor, Tensor]:
    height, width = planes.shape[1:]
    return _frame_shares(placement, (height, width), planes.device)


@lru_cache(maxsize=4)  # a run has three: full, coarse, and at the size of the luma
def _frame_shares(
    placement: Placement, grid_hw: tuple[int, int], device: torch.device
) -> tuple[Tensor, Tensor]:
    """Return how much of each row and column of the grid goes into those of the frame."""
    rows, columns = placement.frame_on_grid(grid_hw)
    return _shares(rows, grid_hw[0]).to(device), _shares(columns, grid_hw[1]).to(device)


@lru_cache(maxsize=4)
def _content_shares(placement: Placement, device: torch.device) -> tuple[Tensor, Tensor]:
    """Return the same of the rows and columns that the frame takes in the network's input."""
    down, across = (
        _shares(Axis.window(cells, pixels, 0, pixels), cells)
        for cells, pixels in zip(placement.content_hw, placement.frame_hw, strict=True)
    )
    return down.to(device), across.to(device)


def _shares(axis: Axis, cells: int) -> Tensor:
    """Return how much of each cell goes into each pixel (pixels, cells), along one side."""
    places = torch.from_numpy(_fixed(axis.positions))[:, None].clamp(0, cells - 1)
    return (1 - (places - torch.arange(cells)).abs()).clamp(min=0)


def _fixed(positions: NDArray[np.float32]) -> NDArray[np.float32]:
    """Return positions as OpenCV takes them, in whole parts of a cell."""
    return (np.rint(positions * PARTS) / PARTS).astype(np.float32)


def _rounded(levels: Tensor) -> Tensor:
    return levels.round().clamp(0, STRONGEST).to(torch.uint8)


ON_DEVICE = Grid(
    levels_of=_levels_of,
    confidence_of=_confidence_of,
    rounded=_rounded,
    joined=_joined,
    beside=_beside,
    moved=_moved,
    filtered=_filtered,
    between=_between,
    enlarged=_enlarged,
    enlarged_sure=_enlarged_sure,
    unsure=_unsure,
    resized=_resized,
    restored=_restored,
    on_host=to_host,
)
"""For tensors."""
