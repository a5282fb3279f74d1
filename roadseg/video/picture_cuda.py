"""A picture on a GPU, as its hardware decodes: what `roadseg.video.picture` is on the CPU.

All of it is PyTorch, which computes the same on either: with the device "cpu" it is held against
the CPU's form. What comes back to the CPU is copied when it is asked for: the small picture on
which motion is found for every frame, the whole one for an encoder there.
"""

from collections.abc import Set as AbstractSet
from dataclasses import dataclass
from functools import cached_property, lru_cache
from typing import Self

import av
import numpy as np
import torch
import torch.nn.functional as F
from av.video.frame import CudaContext
from numpy.typing import NDArray
from torch import Tensor
from torch.utils.dlpack import from_dlpack

from roadseg.spec import PADDING_VALUE
from roadseg.video.class_map_cuda import CudaClassMap
from roadseg.video.graph_cuda import Graphed
from roadseg.video.picture import (
    LUMA_WEIGHTS,
    AnyPicture,
    ColorSpace,
    InputPlacement,
    Painter,
    Picture,
    Plane,
    small,
    small_hw,
)
from roadseg.video.transfer_cuda import HostCopy, to_device, to_host

PITCH = 256
"""Bytes that rows of new pictures begin at multiples of, as the encoder of a GPU wants it."""
CHROMA_LEFT = 0.25
"""Columns of U and V by which their samples lie further left than in the middle of their pixels."""


@dataclass(frozen=True)
class CudaPicture:
    """A picture in 8-bit 4:2:0 whose U and V take turns (NV12); not to be written to once filled.

    Where a side is odd, chroma has half of it, rounded up.
    """

    y: Tensor
    """(H, W) uint8."""
    uv: Tensor
    """(H/2, W/2, 2) uint8."""
    space: ColorSpace
    """What the numbers mean."""
    chroma_left: bool = False
    """Whether samples of U and V lie in the left column of their pixels, or in the middle."""
    source: Picture | None = None
    """The same on the CPU, if it came from there."""

    @classmethod
    def empty(cls, size_hw: tuple[int, int], space: ColorSpace, device: torch.device) -> Self:
        """Return a new picture whose planes are to be filled.

        They lie in one block of memory, U and V below Y. PyTorch hands the same few blocks out
        again and again, each when nothing holds its picture any more, be it an encoder.
        """
        height, width = size_hw
        half_hw = -(-height // 2), -(-width // 2)
        pitch = -(-2 * half_hw[1] // PITCH) * PITCH
        block = torch.empty(height + half_hw[0], pitch, dtype=torch.uint8, device=device)
        uv = block[height:, : 2 * half_hw[1]].view(*half_hw, 2)
        return cls(block[:height, :width], uv, space)

    @classmethod
    def upload(cls, picture: Picture, device: torch.device, *, chroma_left: bool = False) -> Self:
        """Return a picture of the CPU's on a device."""
        y, u, v = (to_device(plane, device) for plane in picture.planes)
        return cls(y, torch.stack([u, v], dim=-1), picture.space, chroma_left, picture)

    @classmethod
    def of_gpu(cls, frame: av.VideoFrame, space: ColorSpace, *, chroma_left: bool = False) -> Self:
        """Return a frame in NV12 that the decoder of a GPU left there.

        The planes are copied on the GPU, in microseconds: so the decoder has its memory back, and
        may be gone before the picture is.

        Args:
            frame: Frame of one layout in memory, "cuda", and another of its samples, "nv12".
            space: What its numbers mean.
            chroma_left: Where its samples of colour lie.
        """
        # PyTorch would ask planes on the GPU to wait for its stream, which PyAV refuses.
        y, uv = (from_dlpack(plane.__dlpack__()).clone() for plane in frame.planes)
        return cls(y, uv, space, chroma_left)

    @property
    def device(self) -> torch.device:
        """Where it lies."""
        return self.y.device

    @property
    def size_hw(self) -> tuple[int, int]:
        """Height and width."""
        height, width = self.y.shape
        return height, width

    @property
    def nbytes(self) -> int:
        """Bytes that its planes take, and those of its source."""
        return self.y.nbytes + self.uv.nbytes + (self.source.nbytes if self.source else 0)

    @cached_property
    def on_host(self) -> Picture:
        """The picture on the CPU; copied at most once."""
        if self.source is not None:
            return self.source
        picture = Picture.empty(self.size_hw, self.space)
        uv = self.uv.permute(2, 0, 1).contiguous()
        for source, target in zip((self.y, *uv), picture.planes, strict=True):
            np.copyto(target, to_host(source), casting="no")
        return picture

    def luma(self) -> Plane:
        """Return the brightness (H, W), not to be written to."""
        return self.source.luma() if self.source else np.asarray(to_host(self.y), np.uint8)

    def small_luma(self) -> Plane:
        """Return the brightness (h, w) at the size on which motion is found."""
        copy = self._small_copy
        return small(self.luma()) if copy is None else np.asarray(copy.wait(), np.uint8)

    def start_small_luma(self) -> None:
        """Start the copy that `small_luma` waits for, ahead of all that the device is given later.

        So the thread that finds the motion waits for this copy alone, and not for the network.
        """
        _ = self._small_copy

    @cached_property
    def _small_copy(self) -> HostCopy | None:
        """The copy of the small picture; None where that is larger than the picture itself."""
        size_hw = small_hw(self.size_hw)
        if size_hw[0] > self.size_hw[0] or size_hw[1] > self.size_hw[1]:
            return None
        weights = _weights_of(self.size_hw, size_hw, 0.0, self.device)
        return HostCopy(_shrunk(self.y, constants=weights))

    def network_input(self, placement: InputPlacement) -> Tensor:
        """Return a network's input, (1, H, W, 3) RGB, grey where the picture is not."""
        shift = CHROMA_LEFT if self.chroma_left else 0.0
        half_hw, content_hw = (self.uv.shape[0], self.uv.shape[1]), placement.content_hw
        y_weights = _weights_of(self.size_hw, content_hw, 0.0, self.device)
        uv_weights = _weights_of(half_hw, content_hw, shift, self.device)
        canvas = (placement.network_hw, placement.top, placement.left)
        weights = y_weights + uv_weights
        return _laid(self.y, self.uv, constants=weights, space=self.space, canvas=canvas)

    def paint(
        self,
        overlay: Painter,
        class_map: NDArray[np.uint8] | CudaClassMap,
        in_view: AbstractSet[int] | None = None,
    ) -> AnyPicture:
        """Return a painted copy, given the class map (H, W) and the ids that a legend may name."""
        if isinstance(class_map, np.ndarray):
            class_map = CudaClassMap(to_device(class_map, self.device))
        painted: AnyPicture = overlay.draw_on_device(self, class_map, in_view)
        return painted

    def encodable(self) -> av.VideoFrame:
        """Return a frame with even sides on the CPU, as its encoders take it."""
        return self.on_host.encodable()

    def gpu_frame(self) -> av.VideoFrame | None:
        """Return the picture as a frame of its GPU, without a copy, as the encoder there takes it.

        None on the CPU, and where a side is odd or its planes do not follow each other.
        """
        return self.shared_frame() if self.y.is_cuda else None

    def shared_frame(self) -> av.VideoFrame | None:
        """Return a frame that shares the picture's memory and keeps it; None as for a GPU's."""
        height, width = self.size_hw
        pitch = self.y.stride(0)
        below = self.uv.data_ptr() == self.y.data_ptr() + height * pitch
        if height % 2 or width % 2 or not below or self.uv.stride(0) != pitch:
            return None
        context = context_of(self.device) if self.y.is_cuda else None
        frame = av.VideoFrame.from_dlpack((self.y, self.uv), format="nv12", cuda_context=context)
        frame.colorspace, frame.color_range = self.space.matrix, self.space.color_range
        return frame

    def resized(self, size_hw: tuple[int, int]) -> AnyPicture:
        """Return the picture at another height and width, or itself where they are its own.

        A picture that is wanted at another size is wanted on the CPU, to be looked at.
        """
        return self if size_hw == self.size_hw else self.on_host.resized(size_hw)

    def rgb(self, size_hw: tuple[int, int] | None = None) -> NDArray[np.uint8]:
        """Return the picture as (H, W, 3) RGB on the CPU, at its own size or the one wanted."""
        return self.on_host.rgb(size_hw)


@lru_cache(maxsize=4)  # a run has one
def context_of(device: torch.device) -> CudaContext:
    """Return FFmpeg's context of a GPU: PyTorch's own, so that both use the same memory."""
    return CudaContext(device_id=device.index or 0, primary_ctx=True)


@Graphed
def _shrunk(y: Tensor, rows: Tensor, columns: Tensor) -> Tensor:
    """Return the brightness (h, w) at another size, given its `_weights_of`."""
    return _rounded(_resized(y, rows, columns))


@Graphed
def _laid(
    y: Tensor,
    uv: Tensor,
    y_rows: Tensor,
    y_columns: Tensor,
    uv_rows: Tensor,
    uv_columns: Tensor,
    *,
    space: ColorSpace,
    canvas: tuple[tuple[int, int], int, int],
) -> Tensor:
    """Return a network's input (1, H, W, 3) RGB, of a picture's planes.

    Args:
        y: (H, W).
        uv: (H/2, W/2, 2).
        y_rows: `_weights_of` Y.
        y_columns: And of its columns.
        uv_rows: Those of U and V.
        uv_columns: And of their columns.
        space: What the numbers mean.
        canvas: Height and width of the input, and the grey rows above and columns to the left.
    """
    u, v = _resized(uv.permute(2, 0, 1), uv_rows, uv_columns)
    content = _rgb(_resized(y, y_rows, y_columns), u, v, space)
    (height, width), top, left = canvas
    below, beside = height - top - content.shape[0], width - left - content.shape[1]
    edges = (0, 0, left, beside, top, below)
    return F.pad(content, edges, value=PADDING_VALUE)[None]


def _resized(planes: Tensor, rows: Tensor, columns: Tensor) -> Tensor:
    """Return planes (..., H, W) at another size, given its `_weights_of`, as float32."""
    return rows @ planes.float() @ columns.T  # (..., h, w)


def _weights_of(
    source_hw: tuple[int, int], target_hw: tuple[int, int], shift: float, device: torch.device
) -> tuple[Tensor, Tensor]:
    """Return what goes into each row (h, H) and each column (w, W) of planes at another size.

    Args:
        source_hw: Height and width of the planes.
        target_hw: Those wanted.
        shift: Columns by which all is to move to the left.
        device: Where the planes lie.
    """
    rows = _weights(source_hw[0], target_hw[0], 0.0, device)
    return rows, _weights(source_hw[1], target_hw[1], shift, device)


@lru_cache(maxsize=16)  # a run has six: of luma for two sizes, and of chroma
def _weights(source: int, target: int, shift: float, device: torch.device) -> Tensor:
    """Return how much of each sample of a line goes into each of the resized one: (target, source).

    As FFmpeg's area filter, a line is made shorter by averaging what lies under each new sample,
    and longer by joining the old ones with straight lines.
    """
    scale = source / target
    centers = (torch.arange(target, dtype=torch.float64)[:, None] + 0.5) * scale - 0.5 + shift
    if scale < 1:
        centers = centers.clamp(0, source - 1)
    distances = (centers - torch.arange(source, dtype=torch.float64)).abs()
    weights = (0.5 + max(scale, 1) / 2 - distances).clamp(0, 1)
    return (weights / weights.sum(dim=1, keepdim=True)).float().to(device)


def _rgb(y: Tensor, u: Tensor, v: Tensor, space: ColorSpace) -> Tensor:
    """Return planes (H, W) as (H, W, 3) RGB (H.273, section 8.3, the other way round)."""
    red_weight, blue_weight = LUMA_WEIGHTS[space.matrix]
    floor, luma_span, chroma_span = (0, 255, 255) if space.full_range else (16, 219, 224)
    luma = (y - floor) * (255 / luma_span)
    red = luma + (v - 128) * (510 / chroma_span * (1 - red_weight))
    blue = luma + (u - 128) * (510 / chroma_span * (1 - blue_weight))
    green = (luma - red_weight * red - blue_weight * blue) / (1 - red_weight - blue_weight)
    return _rounded(torch.stack([red, green, blue], dim=-1))


def _rounded(levels: Tensor) -> Tensor:
    return levels.round().clamp(0, 255).to(torch.uint8)
