"""Hide parts of a picture: black, in blocks, or blurred."""

from collections.abc import Set as AbstractSet

import cv2
import numpy as np
from numpy.typing import NDArray

from roadseg.paint.config import Redaction
from roadseg.spec import IGNORE_INDEX
from roadseg.video.picture import OnDevice, Picture, Plane

BLOCKS = 24
"""Blocks from top to bottom of a picture; blurred ones are mixed with those beside them."""


class Cover:
    """Hides what a class map names.

    Args:
        redaction: How.
    """

    def __init__(self, redaction: Redaction) -> None:
        self._cover = redaction.cover

    def draw(
        self,
        picture: Picture,
        class_map: NDArray[np.uint8],
        in_view: AbstractSet[int] | None = None,  # noqa: ARG002
    ) -> Picture:
        """Return a copy of a picture, and nothing of it where the class map (H, W) has an id."""
        canvas = Picture.empty(picture.size_hw, picture.space)
        hidden = np.asarray(class_map != IGNORE_INDEX, np.float32)
        levels = picture.space.black
        for plane, target, level in zip(picture.planes, canvas.planes, levels, strict=True):
            # A sample of colour is hidden if any of the pixels that share it is.
            share = cv2.resize(hidden, plane.shape[::-1], interpolation=cv2.INTER_AREA)
            target[:] = np.where(share > 0, self._hidden(plane, level), plane)
        return canvas

    def draw_on_device(
        self, picture: OnDevice, labels: OnDevice, in_view: AbstractSet[int] | None = None
    ) -> Picture:
        """Return the same of a picture on a device: on the CPU, where encoders take it."""
        return self.draw(picture.on_host, labels.on_host, in_view)

    def _hidden(self, plane: Plane, black: int) -> Plane:
        """Return a plane that is hidden all over."""
        if self._cover == "black":
            return np.full_like(plane, black)
        height, width = plane.shape
        blocks_wh = max(round(BLOCKS * width / height), 1), BLOCKS
        blocks = cv2.resize(plane, blocks_wh, interpolation=cv2.INTER_AREA)
        is_blurred = self._cover == "blur"
        how = cv2.INTER_LINEAR if is_blurred else cv2.INTER_NEAREST
        blocks = cv2.GaussianBlur(blocks, (3, 3), 0) if is_blurred else blocks
        return np.asarray(cv2.resize(blocks, (width, height), interpolation=how), np.uint8)
