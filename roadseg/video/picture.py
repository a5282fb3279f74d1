"""Pictures as decoders return them and encoders take them.

`AnyPicture` is what the stages of a pipeline need of a picture. `Picture` is the implementation in
CPU memory: planes of 8-bit YUV 4:2:0. It is never converted to full-size RGB between decoder and
encoder, so pixels that nothing is painted over keep their exact values. Samples have a colour only
together with the `ColorSpace`.
"""

from collections.abc import Sequence
from collections.abc import Set as AbstractSet
from dataclasses import dataclass
from functools import cached_property
from typing import Any, Protocol, Self, TypeAlias

import av
import cv2
import numpy as np
from av.video.reformatter import ColorRange, Interpolation
from numpy.typing import NDArray

from roadseg.spec import PADDING_VALUE

BT709, FCC, BT470BG, BT601, SMPTE240M, BT2020 = 1, 4, 5, 6, 7, 9
"""Codes of colour matrices in ITU-T H.273."""
LUMA_WEIGHTS = {
    BT709: (0.2126, 0.0722),
    FCC: (0.30, 0.11),
    BT470BG: (0.299, 0.114),
    BT601: (0.299, 0.114),
    SMPTE240M: (0.212, 0.087),
    BT2020: (0.2627, 0.0593),
}
"""Weights of red and of blue in Y, by matrix (H.273, table 4)."""
PIXEL_FORMAT = "yuv420p"
BITS = 8
"""Bits a sample."""
TO_RGB = Interpolation.AREA | Interpolation.FULL_CHR_H_INT | Interpolation.ACCURATE_RND
"""Flags of an unbiased conversion; FFmpeg's default returns a video two levels darker."""
TO_YUV = Interpolation.BILINEAR | Interpolation.ACCURATE_RND
SMALL_LONG_SIDE_PX = 384
"""Longer side of the small pictures for motion; the cost grows with its square."""
SMALL_SHORT_SIDE_PX = 64
"""Least shorter side of them: OpenCV finds no flow in a narrow strip."""

Plane = NDArray[np.uint8]
PLANE_STEPS = (1, 2, 2)
"""Pixels a sample along either side, for Y, U and V."""
OnDevice: TypeAlias = Any
"""What lies beside a picture outside the CPU's memory, such as a PyTorch tensor on a GPU.

Only files named `*_cuda` look into it.
"""


@dataclass(frozen=True)
class ColorSpace:
    """Matrix and range of a picture's YUV samples."""

    matrix: int = BT709
    """Matrix from RGB to YUV, a key of `LUMA_WEIGHTS`."""
    full_range: bool = False
    """Whether black and white are 0 and 255, not 16 and 235."""

    @property
    def color_range(self) -> ColorRange:
        """The range as PyAV's constant."""
        return ColorRange.JPEG if self.full_range else ColorRange.MPEG

    @property
    def black(self) -> tuple[int, int, int]:
        """Levels of Y, U and V in black; U and V are those of every grey."""
        y, u, v = self.yuv(np.zeros((1, 3), np.uint8))[0].tolist()
        return y, u, v

    def yuv(self, colors: NDArray[np.uint8]) -> NDArray[np.uint8]:
        """Return colours (N, 3) RGB as (N, 3) YUV (H.273, section 8.3, rounded to 8 bits)."""
        red_weight, blue_weight = LUMA_WEIGHTS[self.matrix]
        red, green, blue = (colors.T / 255.0).astype(np.float64)
        luma = red_weight * red + (1 - red_weight - blue_weight) * green + blue_weight * blue
        chroma_u = (blue - luma) / (2 * (1 - blue_weight))
        chroma_v = (red - luma) / (2 * (1 - red_weight))
        floor, luma_span, chroma_span = (0, 255, 255) if self.full_range else (16, 219, 224)
        planes = (
            floor + luma_span * luma,
            128 + chroma_span * chroma_u,
            128 + chroma_span * chroma_v,
        )
        return np.stack(planes, axis=1).round().clip(0, 255).astype(np.uint8)


class InputPlacement(Protocol):
    """Position of a picture in a network's input; see `roadseg.segmentation.placement`."""

    @property
    def network_hw(self) -> tuple[int, int]:
        """Height and width of the input."""
        ...

    @property
    def content_hw(self) -> tuple[int, int]:
        """Height and width of the picture in it."""
        ...

    @property
    def top(self) -> int:
        """Grey rows above the picture."""
        ...

    @property
    def left(self) -> int:
        """Grey columns to its left."""
        ...


class Painter(Protocol):
    """Paints pictures; see `roadseg.paint.overlay`."""

    def draw(
        self,
        picture: "Picture",
        class_map: NDArray[np.uint8],
        in_view: AbstractSet[int] | None = None,
    ) -> "Picture":
        """Return a painted copy of a picture, given its class map (H, W) and the ids in view."""
        ...

    def draw_on_device(
        self, picture: OnDevice, labels: OnDevice, in_view: AbstractSet[int] | None = None
    ) -> OnDevice:
        """Do the same with a picture on a device."""
        ...


class AnyPicture(Protocol):
    """What the stages of a pipeline need of a picture, in whichever memory it is."""

    @property
    def size_hw(self) -> tuple[int, int]:
        """Height and width."""
        ...

    @property
    def nbytes(self) -> int:
        """Bytes that its planes take."""
        ...

    @property
    def space(self) -> ColorSpace:
        """Matrix and range of its samples."""
        ...

    def luma(self) -> Plane:
        """Return the brightness (H, W), not to be written to."""
        ...

    def small_luma(self) -> Plane:
        """Return the brightness (h, w) at the size on which motion is found."""
        ...

    def network_input(self, placement: InputPlacement) -> NDArray[np.uint8] | OnDevice:
        """Return a network's input, (1, H, W, 3) RGB, grey where the picture is not."""
        ...

    def paint(
        self,
        overlay: Painter,
        class_map: NDArray[np.uint8] | OnDevice,
        in_view: AbstractSet[int] | None = None,
    ) -> "AnyPicture":
        """Return a painted copy, given the class map (H, W) and the ids that a legend may name."""
        ...

    def encodable(self) -> av.VideoFrame:
        """Return a frame with even sides, as encoders take it; an edge is repeated."""
        ...

    def gpu_frame(self) -> av.VideoFrame | None:
        """Return a frame that lies on a GPU, as its encoder takes it; None where none does."""
        ...

    def resized(self, size_hw: tuple[int, int]) -> "AnyPicture":
        """Return the picture at another height and width, or itself where they are its own."""
        ...

    def rgb(self, size_hw: tuple[int, int] | None = None) -> NDArray[np.uint8]:
        """Return the picture as (H, W, 3) RGB, at its own size or the one wanted."""
        ...


class Picture:
    """A picture in CPU memory; chroma has half of each side, rounded up.

    Args:
        frame: Picture in 8-bit 4:2:0 whose matrix and range are tagged; it is not written to.
    """

    def __init__(self, frame: av.VideoFrame) -> None:
        self.frame = frame

    @classmethod
    def empty(cls, size_hw: tuple[int, int], space: ColorSpace) -> Self:
        """Return a new picture with uninitialised planes."""
        frame = av.VideoFrame(size_hw[1], size_hw[0], PIXEL_FORMAT)
        frame.colorspace, frame.color_range = space.matrix, space.color_range
        return cls(frame)

    def __reduce__(self) -> tuple[Any, ...]:
        return _filled, (self.size_hw, self.space, [plane.copy() for plane in self.planes])

    @classmethod
    def convert(
        cls, frame: av.VideoFrame, space: ColorSpace, size_hw: tuple[int, int] | None = None
    ) -> Self:
        """Return a picture of a frame in any format; one in 8-bit 4:2:0 is taken as it is.

        Args:
            frame: Frame whose samples are in `space`, whatever its tags.
            space: Space of the frame and of the picture; for RGB, of the picture.
            size_hw: Height and width wanted; None keeps the frame's.
        """
        height, width = size_hw or (frame.height, frame.width)
        is_rgb = frame.format.is_rgb or frame.format.has_palette
        frame.colorspace, frame.color_range = space.matrix, space.color_range
        converted = frame.reformat(
            width,
            height,
            PIXEL_FORMAT,
            interpolation=TO_YUV,
            src_color_range=ColorRange.JPEG if is_rgb else space.color_range,
            dst_color_range=space.color_range,
            threads=1,
        )
        converted.colorspace, converted.color_range = space.matrix, space.color_range
        return cls(converted)

    @classmethod
    def from_rgb(cls, rgb: NDArray[np.uint8], space: ColorSpace | None = None) -> Self:
        """Return a picture of (H, W, 3) RGB."""
        return cls.convert(av.VideoFrame.from_ndarray(rgb, "rgb24"), space or ColorSpace())

    @property
    def size_hw(self) -> tuple[int, int]:
        """Height and width."""
        return self.frame.height, self.frame.width

    @property
    def nbytes(self) -> int:
        """Bytes that its planes take."""
        return sum(plane.buffer_size for plane in self.frame.planes)

    @property
    def space(self) -> ColorSpace:
        """Matrix and range of its samples."""
        return ColorSpace(self.frame.colorspace, self.frame.color_range == ColorRange.JPEG)

    @cached_property
    def planes(self) -> tuple[Plane, Plane, Plane]:
        """Views of Y (H, W), U and V (H/2, W/2)."""
        y, u, v = map(_view, self.frame.planes)
        return y, u, v

    def luma(self) -> Plane:
        """Return the brightness (H, W), not to be written to."""
        return self.planes[0]

    def small_luma(self) -> Plane:
        """Return the brightness (h, w) at the size on which motion is found."""
        return small(self.planes[0])

    def network_input(self, placement: InputPlacement) -> NDArray[np.uint8]:
        """Return a network's input, (1, H, W, 3) RGB, grey where the picture is not."""
        content = self.rgb(placement.content_hw)
        if placement.content_hw == placement.network_hw:
            return content[None]
        canvas = np.full((1, *placement.network_hw, 3), PADDING_VALUE, np.uint8)
        (height, width), top, left = placement.content_hw, placement.top, placement.left
        canvas[0, top : top + height, left : left + width] = content
        return canvas

    def paint(
        self,
        overlay: Painter,
        class_map: NDArray[np.uint8],
        in_view: AbstractSet[int] | None = None,
    ) -> "Picture":
        """Return a painted copy, given the class map (H, W) and the ids that a legend may name."""
        return overlay.draw(self, class_map, in_view)

    def encodable(self) -> av.VideoFrame:
        """Return a frame with even sides, as encoders take it; an edge is repeated."""
        height, width = self.size_hw
        return self.padded((height + height % 2, width + width % 2)).frame

    def gpu_frame(self) -> None:
        """Return None: the picture is on no GPU."""

    def rgb(self, size_hw: tuple[int, int] | None = None) -> NDArray[np.uint8]:
        """Return the picture as (H, W, 3) RGB.

        Args:
            size_hw: Height and width wanted; None keeps the picture's.
        """
        height, width = size_hw or self.size_hw
        converted = self.frame.reformat(
            width,
            height,
            "rgb24",
            interpolation=TO_RGB,
            src_color_range=self.frame.color_range,
            dst_color_range=ColorRange.JPEG,
            threads=1,
        )
        return np.asarray(converted.to_ndarray(), np.uint8)

    def resized(self, size_hw: tuple[int, int]) -> "Picture":
        """Return the picture at another height and width, or itself where they are its own."""
        if size_hw == self.size_hw:
            return self
        return Picture.convert(self.frame, self.space, size_hw)

    def turned(self, matrix: tuple[int, int, int, int]) -> "Picture":
        """Return the picture rotated or mirrored, or itself where the matrix is the identity.

        Args:
            matrix: (a, b, c, d), each -1, 0 or 1: the step to the right, (1, 0), becomes (a, b),
                and the step down, (0, 1), becomes (c, d).
        """
        if matrix == (1, 0, 0, 1):
            return self
        a, b, c, d = matrix
        height, width = self.size_hw
        turned = Picture.empty((height, width) if a else (width, height), self.space)
        step_x, step_y = a + c, b + d
        for source, target in zip(self.planes, turned.planes, strict=True):
            target[:] = (source if a else source.T)[::step_y, ::step_x]
        return turned

    def padded(self, size_hw: tuple[int, int]) -> "Picture":
        """Return the picture enlarged to the right and below by repeating its edge."""
        if size_hw == self.size_hw:
            return self
        padded = Picture.empty(size_hw, self.space)
        for source, target in zip(self.planes, padded.planes, strict=True):
            below, right = (t - s for t, s in zip(target.shape, source.shape, strict=True))
            cv2.copyMakeBorder(source, 0, below, 0, right, cv2.BORDER_REPLICATE, dst=target)
        return padded


def _filled(size_hw: tuple[int, int], space: ColorSpace, planes: Sequence[Plane]) -> Picture:
    """Return the picture of some planes, as pickles hold them."""
    picture = Picture.empty(size_hw, space)
    for source, target in zip(planes, picture.planes, strict=True):
        target[:] = source
    return picture


def has_chroma_left(frame: av.VideoFrame) -> bool:
    """Return whether a frame's samples of colour lie in the left column of their four pixels.

    Else they lie in the middle. FFmpeg goes by the frame's tag, which PyAV does not show, so it is
    asked for the colour of a few pixels with the same tag. Where red begins with the third of four
    samples in the middle, the two pixels at that border have as much of it as the outermost two.
    """
    tiny = Picture(frame.reformat(8, 2, PIXEL_FORMAT))
    for plane in tiny.planes:
        plane[:] = 128
    tiny.planes[2][:, 2:] = 160
    first, *_, before, behind, _, _, last = tiny.rgb()[0, :, 0].tolist()
    return bool(before + behind - first - last > (last - first) / 4)


def small_hw(size_hw: tuple[int, int]) -> tuple[int, int]:
    """Return the height and width at which motion is found in pictures of a size."""
    scale = SMALL_LONG_SIDE_PX / max(size_hw)
    height, width = (max(round(side * scale), SMALL_SHORT_SIDE_PX) for side in size_hw)
    return height, width


def small(luma: Plane) -> Plane:
    """Return a picture's brightness (h, w) at the size on which motion is found."""
    height, width = small_hw((luma.shape[0], luma.shape[1]))
    return np.asarray(cv2.resize(luma, (width, height), interpolation=cv2.INTER_AREA), np.uint8)


def _view(plane: av.video.plane.VideoPlane) -> Plane:
    """Return a plane as an array; a negative line size means that rows run from bottom to top."""
    rows: Plane = np.frombuffer(memoryview(plane), np.uint8)
    rows = rows.reshape(plane.height, abs(plane.line_size))
    return rows[:: -1 if plane.line_size < 0 else 1, : plane.width]
