"""Pictures as the bytes of an image file, with one quality of JPEG for each use."""

from enum import IntEnum

import cv2
import numpy as np
from numpy.typing import NDArray

JPEG_SUFFIXES = (".jpg", ".jpeg")


class JpegQuality(IntEnum):
    """OpenCV's quality of a JPEG file, 0..100, by what becomes of it."""

    OUTPUT = 92
    """The result of a run, which is kept and worked on."""
    PANEL = 85
    """A picture beside its class maps on a page, looked at closely."""
    LIVE = 80
    """A frame sent to viewers, replaced by the next."""
    THUMBNAIL = 75
    """A small picture of many on a page."""


def encoded(rgb: NDArray[np.uint8], quality: JpegQuality, suffix: str = ".jpg") -> bytes:
    """Return a picture as an image file.

    Args:
        rgb: (H, W, 3).
        quality: Quality of a JPEG file; other formats lose nothing.
        suffix: Format, as the suffix of a file's name.
    """
    bgr = cv2.cvtColor(rgb, cv2.COLOR_RGB2BGR)
    is_jpeg = suffix.lower() in JPEG_SUFFIXES  # OpenCV warns where another format is given one
    _, data = cv2.imencode(suffix, bgr, [cv2.IMWRITE_JPEG_QUALITY, quality] if is_jpeg else [])
    return data.tobytes()
