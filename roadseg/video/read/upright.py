"""Pictures as they are to be seen: upright, and in the colour space that their tags mean."""

from fractions import Fraction
from typing import cast

import av
import numpy as np
from av.video.reformatter import ColorRange
from numpy.typing import NDArray

from roadseg.video.picture import BT601, BT709, LUMA_WEIGHTS, ColorSpace, Picture
from roadseg.video.pyav import exact

HD_HEIGHT = 720
"""Height from which untagged video counts as BT.709, and below as BT.601, as in players."""
QUARTER_TURNS = ((1, 0, 0, 1), (0, -1, 1, 0), (-1, 0, 0, -1), (0, 1, -1, 0))
"""Orientations, as `Picture.turned` takes them, by anticlockwise quarter turns."""


def color_space(frame: av.VideoFrame) -> ColorSpace:
    """Return the space that a frame is tagged with, or the one that players assume."""
    usual = BT709 if frame.height >= HD_HEIGHT else BT601
    matrix = int(frame.colorspace) if frame.colorspace in LUMA_WEIGHTS else usual
    is_grey = len(frame.format.components) == 1
    is_full = frame.color_range == ColorRange.JPEG or frame.format.name.startswith("yuvj")
    return ColorSpace(matrix, is_full or (is_grey and not frame.color_range))


def orientation_of(frame: av.VideoFrame) -> tuple[int, int, int, int]:
    """Return a frame's orientation by its display matrix, in quarter turns and mirroring.

    An image file's frame has that of its own Exif record.
    """
    if frame.opaque is not None:
        return cast(tuple[int, int, int, int], frame.opaque)
    try:
        side_data = frame.side_data.get("DISPLAYMATRIX")
    except ValueError:  # PyAV fails on side data that it does not know, such as a photo's Exif
        return QUARTER_TURNS[round(frame.rotation / 90) % 4]
    if side_data is None:
        return QUARTER_TURNS[0]
    matrix = np.frombuffer(bytes(side_data), np.int32).reshape(3, 3)[:2, :2]  # type: ignore[call-overload]
    a, b, c, d = (matrix / max(np.abs(matrix).max(), 1)).round().astype(int).ravel().tolist()
    return (a, b, c, d) if abs(a * d - b * c) == 1 else QUARTER_TURNS[0]  # a tilt is ignored


def pixel_aspect_of(frame: av.VideoFrame, stream: av.VideoStream) -> Fraction:
    """Return the width of a pixel over its height in a stream's frame, once that is upright."""
    stated = exact(stream.sample_aspect_ratio) or Fraction(1)
    return stated if orientation_of(frame)[0] else 1 / stated


def upright_picture(frame: av.VideoFrame) -> Picture:
    """Return a frame as an upright picture, by its own tags."""
    return Picture.convert(frame, color_space(frame)).turned(orientation_of(frame))


def picture_of(rgb: NDArray[np.uint8]) -> Picture:
    """Return an array (H, W, 3) RGB as the picture that is read from a PNG file of it."""
    frame = av.VideoFrame.from_ndarray(rgb, "rgb24")
    frame.color_range = ColorRange.JPEG
    return upright_picture(frame)
