"""Show the live view in OpenCV's window, where OpenCV was built with one."""

import os
import sys
from collections.abc import Sequence
from types import TracebackType
from typing import Self

import cv2
import numpy as np
from numpy.typing import NDArray

from roadseg.infer.live import Reading
from roadseg.paint.config import OverlayConfig
from roadseg.paint.legend import letter_px
from roadseg.paint.overlay import Overlay
from roadseg.video.frame import SegmentedFrame

TITLE = "roadseg"
QUIT_KEYS = (ord("q"), 27)
"""q and Escape."""


def has_window() -> bool:
    """Return whether OpenCV can open a window here."""
    interfaces = [
        line.split()[-1] for line in cv2.getBuildInformation().splitlines() if " GUI:" in line
    ]
    has_screen = sys.platform != "linux" or {"DISPLAY", "WAYLAND_DISPLAY"} & os.environ.keys()
    return bool(has_screen) and interfaces != ["NONE"]


class Window:
    """The window, for as long as the block lasts. Only the main thread may use it.

    Args:
        config: How class maps are painted.
    """

    def __init__(self, config: OverlayConfig) -> None:
        self._config = config
        self._overlay: Overlay | None = None

    def __enter__(self) -> Self:
        cv2.namedWindow(TITLE, cv2.WINDOW_NORMAL)
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        traceback: TracebackType | None,
    ) -> None:
        cv2.destroyAllWindows()

    def show(self, item: SegmentedFrame, reading: Reading) -> bool:
        """Show a frame; return whether the window stays open."""
        self._overlay = self._overlay or Overlay(item.spec, self._config)
        painted = item.frame.picture.paint(self._overlay, item.shown, item.in_view)
        picture = painted.rgb(item.frame.shown_hw)
        draw_hud(picture, reading.lines)
        cv2.imshow(TITLE, cv2.cvtColor(picture, cv2.COLOR_RGB2BGR))
        key = cv2.waitKey(1)
        is_open = cv2.getWindowProperty(TITLE, cv2.WND_PROP_VISIBLE) >= 1
        return is_open and key not in QUIT_KEYS


def draw_hud(picture: NDArray[np.uint8], lines: Sequence[str]) -> None:
    """Draw lines of text in the lower left corner of a picture, in place, on a dark background."""
    text_px = letter_px(picture.shape[0])
    row, pad = round(text_px * 1.5), text_px // 2
    top = picture.shape[0] - row * len(lines) - pad
    ground = picture[top:, : text_px * 12]
    ground[:] = ground // 4
    font = cv2.FontFace("sans")
    for number, line in enumerate(lines, start=1):
        baseline = (pad, top + row * number - pad // 2)
        cv2.putText(picture, line, baseline, (245, 245, 245), font, text_px, 500)
