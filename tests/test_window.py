"""The window's parts that need no screen."""

import cv2
import numpy as np
import pytest

from roadseg.infer.window import draw_hud, has_window

LINES = ("12.5 frames a second", "age 40 ms", "3 dropped")


def test_no_window_is_promised_where_opencv_has_none(monkeypatch) -> None:
    monkeypatch.setenv("DISPLAY", ":0")
    with_windows = "GUI:                           NONE" not in cv2.getBuildInformation()
    assert has_window() == with_windows
    monkeypatch.delenv("DISPLAY")
    monkeypatch.delenv("WAYLAND_DISPLAY", raising=False)
    monkeypatch.setattr("sys.platform", "linux")
    assert not has_window()


@pytest.mark.parametrize("size_hw", [(120, 200), (540, 960), (2160, 3840)])
def test_hud_is_bright_on_dark_in_the_lower_left_corner(size_hw) -> None:
    picture = np.full((*size_hw, 3), 200, np.uint8)
    draw_hud(picture, LINES)
    height, width = size_hw
    assert (picture[: height // 8] == 200).all()
    assert (picture[:, width * 3 // 4 :] == 200).all()
    corner = picture[height * 9 // 10 :, : width // 10]
    assert corner.min() == 50 and (picture == 245).any()
