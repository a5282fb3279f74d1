"""Image files: their suffixes, and pictures encoded as such, with one JPEG quality for each use."""

from enum import IntEnum
from pathlib import Path

import cv2
import numpy as np
from numpy.typing import NDArray

JPEG_SUFFIXES = (".jpg", ".jpeg")
IMAGE_SUFFIXES = (*JPEG_SUFFIXES, ".png", ".bmp", ".tif", ".tiff", ".webp")
"""Suffixes of the files of a folder that count as images."""


def has_image_suffix(path: Path) -> bool:
    """Return whether a file has the name of an image."""
    return path.suffix.lower() in IMAGE_SUFFIXES


class JpegQuality(IntEnum):
    """OpenCV's JPEG quality, 0..100, by use."""

    OUTPUT = 92
    """Output of a run."""
    PANEL = 85
    """Picture beside its class maps on a page."""
    LIVE = 80
    """Frame of the live view."""
    THUMBNAIL = 75
    """Thumbnail on a page."""


def encoded(rgb: NDArray[np.uint8], quality: JpegQuality, suffix: str = ".jpg") -> bytes:
    """Return a picture as an image file.

    Args:
        rgb: (H, W, 3).
        quality: Quality of a JPEG file; other formats are lossless.
        suffix: Format, as the suffix of a file's name.
    """
    bgr = cv2.cvtColor(rgb, cv2.COLOR_RGB2BGR)
    is_jpeg = suffix.lower() in JPEG_SUFFIXES  # OpenCV warns where another format is given one
    _, data = cv2.imencode(suffix, bgr, [cv2.IMWRITE_JPEG_QUALITY, quality] if is_jpeg else [])
    return data.tobytes()
