"""Letterbox pictures to the network's input size, and resize class maps back.

A picture is scaled by one factor, so that its aspect ratio is kept, and centred in the network's
input; the rest is grey. On the way back, its part is cut out of the class map and resized to the
picture's size with smooth edges.
"""

from dataclasses import dataclass, replace
from fractions import Fraction
from functools import lru_cache

import cv2
import numpy as np
from numpy.typing import NDArray

from roadseg.errors import ConfigError
from roadseg.segmentation.enlarge import Axis, Levels, enlarge, unsure
from roadseg.spec import SIDE_MULTIPLE, ModelSpec
from roadseg.video.frame import Frame

MAX_PADDED_SHARE = 0.02
"""Share of the input that may be padding when its size is chosen freely."""


@lru_cache(maxsize=64)  # takes longer than a frame may; a folder of pictures has many sizes
def network_size(
    shown_hw: tuple[int, int], budget_hw: tuple[int, int], multiple: int = SIDE_MULTIPLE
) -> tuple[int, int]:
    """Choose a network input for a frame: the largest within an area that needs little padding.

    Args:
        shown_hw: Height and width of the frame as it is shown, with square pixels.
        budget_hw: Height and width whose area is not exceeded.
        multiple: What both sides are to be multiples of.
    """
    pixels = budget_hw[0] * budget_hw[1]
    best, best_key = (multiple, multiple), (False, 0.0)
    for height in range(multiple, pixels // multiple + 1, multiple):
        for width in range(multiple, pixels // height + 1, multiple):
            placement = Placement.fit(shown_hw, (height, width))
            filled = placement.content_hw[0] * placement.content_hw[1]
            well_filled = 1 - filled / (height * width) <= MAX_PADDED_SHARE
            key = (well_filled, float(filled))
            if key > best_key:
                best, best_key = (height, width), key
    return best


@dataclass(frozen=True, kw_only=True)
class Placement:
    """Where a frame lies in the network's input."""

    frame_hw: tuple[int, int]
    """Height and width of the frame."""
    network_hw: tuple[int, int]
    """Height and width of the network's input."""
    content_hw: tuple[int, int]
    """Height and width of the frame within the input."""
    top: int
    """Grey rows above the frame."""
    left: int
    """Grey columns to its left."""

    @classmethod
    def fit(
        cls,
        frame_hw: tuple[int, int],
        network_hw: tuple[int, int],
        pixel_aspect: Fraction = Fraction(1),
    ) -> "Placement":
        """Centre a frame as large as it fits, at the aspect ratio it is shown at.

        Args:
            frame_hw: Height and width of the frame.
            network_hw: Height and width of the network's input.
            pixel_aspect: Width of one of the frame's pixels over its height.
        """
        shown_hw = (frame_hw[0], float(frame_hw[1] * pixel_aspect))
        scale = min(network_hw[0] / shown_hw[0], network_hw[1] / shown_hw[1])
        height, width = (
            min(max(round(side * scale), 1), limit)
            for side, limit in zip(shown_hw, network_hw, strict=True)
        )
        return cls(
            frame_hw=frame_hw,
            network_hw=network_hw,
            content_hw=(height, width),
            top=(network_hw[0] - height) // 2,
            left=(network_hw[1] - width) // 2,
        )

    @property
    def coarse(self) -> "Placement":
        """The placement of the frame shrunk to its size in the input, if it is larger than that.

        A class map of that size has all that the network can tell; a larger one only adds pixels.
        """
        height, width = map(min, self.frame_hw, self.content_hw)
        return replace(self, frame_hw=(height, width))

    def restore(self, class_map: NDArray[np.uint8]) -> NDArray[np.uint8]:
        """Return the frame's class map, `frame_hw`, from the network's, `network_hw`."""
        return resize_class_map(class_map[self._window], self.frame_hw)

    def restore_logits(self, logits: NDArray[np.float32]) -> NDArray[np.float32]:
        """Return the frame's logits (C, *frame_hw) from the network's (C, h, w) at any stride.

        Stride and placement are undone in one interpolation.
        """
        rows = _source_positions(self.frame_hw[0], self.content_hw[0], self.top)
        columns = _source_positions(self.frame_hw[1], self.content_hw[1], self.left)
        map_y = (rows + 0.5) * (logits.shape[1] / self.network_hw[0]) - 0.5
        map_x = (columns + 0.5) * (logits.shape[2] / self.network_hw[1]) - 0.5
        grid_x, grid_y = np.meshgrid(map_x.astype(np.float32), map_y.astype(np.float32))
        remapped = (
            cv2.remap(c, grid_x, grid_y, cv2.INTER_LINEAR, borderMode=cv2.BORDER_REPLICATE)
            for c in logits
        )
        return np.stack(list(remapped)).astype(np.float32, copy=False)

    def enlarge(self, levels: Levels) -> NDArray[np.uint8]:
        """Return the frame's class map from the classes' levels on the network's grid (C, h, w).

        The grid, of any stride, is aligned to whole pixels of the frame: an edge moves by less than
        one.
        """
        height, width = levels.shape[1:]
        return enlarge(levels, *self.frame_on_grid((height, width)))

    def enlarge_sure(self, levels: Levels, confidence: Levels, least: int) -> NDArray[np.uint8]:
        """Return the same with `UNSURE` where a confidence (1, h, w) is below the least."""
        height, width = levels.shape[1:]
        return enlarge(levels, *self.frame_on_grid((height, width)), confidence[0], least)

    def unsure(self, confidence: Levels, least: int) -> NDArray[np.bool_]:
        """Return where that has `UNSURE`, (H, W)."""
        height, width = confidence.shape[1:]
        return unsure(confidence[0], least, *self.frame_on_grid((height, width)))

    def resize(self, plane: Levels) -> NDArray[np.uint8]:
        """Return a plane of the network's grid (1, h, w) at the frame's size, aligned alike."""
        (height, top), (width, left) = self._in_frame_pixels()
        whole = cv2.resize(plane[0], (width, height), interpolation=cv2.INTER_LINEAR)
        return _u8(whole[top : top + self.frame_hw[0], left : left + self.frame_hw[1]])

    def frame_on_grid(self, grid_hw: tuple[int, int]) -> tuple[Axis, Axis]:
        """Return where the rows and the columns of the frame lie on the grid, at any stride."""
        rows, columns = (
            Axis.window(cells, *whole, side)
            for cells, whole, side in zip(
                grid_hw, self._in_frame_pixels(), self.frame_hw, strict=True
            )
        )
        return rows, columns

    def _in_frame_pixels(self) -> tuple[tuple[int, int], tuple[int, int]]:
        """Return the network's rows and columns, and where the frame's begin among each."""
        rows, columns = (
            (round(network * f / c), round(offset * f / c))
            for network, offset, f, c in zip(
                self.network_hw, (self.top, self.left), self.frame_hw, self.content_hw, strict=True
            )
        )
        return rows, columns

    def spread(self, values: NDArray[np.float32], grid_hw: tuple[int, int]) -> NDArray[np.float32]:
        """Resize values over the frame, (h, w) or (h, w, n), to the network's grid at any stride.

        The frame covers whole cells of the grid; around it, its edge is repeated.
        """
        rows, columns = (
            _cells(offset, content, network, grid)
            for offset, content, network, grid in zip(
                (self.top, self.left), self.content_hw, self.network_hw, grid_hw, strict=True
            )
        )
        resized = cv2.resize(values, (columns[1], rows[1]), interpolation=cv2.INTER_LINEAR)
        return np.asarray(
            cv2.copyMakeBorder(
                resized,
                rows[0],
                grid_hw[0] - sum(rows),
                columns[0],
                grid_hw[1] - sum(columns),
                cv2.BORDER_REPLICATE,
            ),
            np.float32,
        )

    @property
    def _window(self) -> tuple[slice, slice]:
        height, width = self.content_hw
        return slice(self.top, self.top + height), slice(self.left, self.left + width)


def resize_class_map(class_map: NDArray[np.uint8], size_hw: tuple[int, int]) -> NDArray[np.uint8]:
    """Resize a class map with smooth edges.

    Each class present is resized as a mask of its own, and each pixel takes the strongest.

    Args:
        class_map: (h, w) ids.
        size_hw: Height and width wanted.

    Returns:
        (H, W) ids, all of which occur in `class_map`.
    """
    if class_map.shape == size_hw:
        return class_map
    ids = np.flatnonzero(np.bincount(class_map.ravel(), minlength=1)).astype(np.uint8)
    levels = np.stack([_u8(cv2.inRange(class_map, i, i)) for i in ids.tolist()])
    rows, columns = (
        Axis.window(cells, pixels, 0, pixels)
        for cells, pixels in zip(class_map.shape, size_hw, strict=True)
    )
    return ids[enlarge(levels, rows, columns)]


def _cells(offset: int, content: int, network: int, grid: int) -> tuple[int, int]:
    """Return the first cell that a frame covers along one side of a grid, and their number."""
    first = round(offset * grid / network)
    return first, min(max(round(content * grid / network), 1), grid - first)


def _source_positions(frame_side: int, content_side: int, offset: int) -> NDArray[np.float64]:
    """Return the positions of a frame's pixel centres in the network's input, along one side."""
    centers = np.arange(frame_side, dtype=np.float64) + 0.5
    return centers * (content_side / frame_side) - 0.5 + offset


def _u8(picture: object) -> NDArray[np.uint8]:
    """Tell the type checker what OpenCV returns for uint8 pictures."""
    return np.asarray(picture, np.uint8)


def placed(
    frame: Frame, spec: ModelSpec, size_hw: tuple[int, int] | None = None
) -> tuple[Placement, NDArray[np.uint8]]:
    """Return where a frame lies in a model's input, and that input, (1, H, W, 3) RGB.

    All pictures reach a network through this function, so a picture always gives the same input.

    Args:
        frame: The frame.
        spec: The model's record.
        size_hw: Height and width asked for; None chooses by the model and the frame's shape.

    Raises:
        ConfigError: The model does not take the size asked for.
    """
    return laid(frame, input_size(frame.picture.size_hw, frame.pixel_aspect, spec, size_hw))


def laid(frame: Frame, network_hw: tuple[int, int]) -> tuple[Placement, NDArray[np.uint8]]:
    """Return the same as `placed` for an input of a known size."""
    placement = Placement.fit(frame.picture.size_hw, network_hw, frame.pixel_aspect)
    return placement, frame.picture.network_input(placement)


def input_size(
    frame_hw: tuple[int, int],
    pixel_aspect: Fraction,
    spec: ModelSpec,
    size_hw: tuple[int, int] | None = None,
) -> tuple[int, int]:
    """Return the network's input for a frame: the one asked for, or one of a fitting shape.

    Raises:
        ConfigError: The model does not take the one asked for.
    """
    if size_hw and spec.adopted:
        _refuse_other_size(size_hw, spec)
    shown_hw = (frame_hw[0], round(frame_hw[1] * pixel_aspect))
    return size_hw or spec.fixed_hw or network_size(shown_hw, spec.size_hw, spec.side_multiple)


def _refuse_other_size(size_hw: tuple[int, int], spec: ModelSpec) -> None:
    """Raise `ConfigError` if the adopted network in a model does not take a size."""
    takes = f"sides that are multiples of {spec.side_multiple}"
    fits = not any(side % spec.side_multiple for side in size_hw)
    if spec.fixed_hw:
        takes = f"{spec.fixed_hw[1]}x{spec.fixed_hw[0]} alone"
        fits = size_hw == spec.fixed_hw
    if not fits:
        raise ConfigError(
            f"--size is {size_hw[1]}x{size_hw[0]}, and the model takes {takes}; leave --size out"
        )
