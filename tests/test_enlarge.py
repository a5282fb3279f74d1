"""Class maps at full size, against every class interpolated everywhere."""

import cv2
import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from roadseg.segmentation.enlarge import FAR_BEHIND, Axis, enlarge, levels_of, unsure
from roadseg.spec import UNSURE

sides = st.integers(1, 40)
sizes = st.integers(1, 150)


def smooth_logits(seed: int, classes: int, height: int, width: int) -> np.ndarray:
    """Logits (C, h, w) whose classes form regions, as a road scene's do."""
    noise = np.random.default_rng(seed).normal(size=(classes, height, width)).astype(np.float32)
    return 30 * np.stack([cv2.GaussianBlur(plane, (0, 0), 3) for plane in noise])


def whole(extent: int, pixels: int) -> Axis:
    return Axis.window(extent, pixels, 0, pixels)


def around(axis: Axis, cells: int) -> list[np.ndarray]:
    """The cells before and behind each pixel."""
    low = np.floor(axis.positions).astype(int)
    return [low.clip(0, cells - 1), (low + 1).clip(0, cells - 1)]


def everywhere(levels: np.ndarray, rows: Axis, columns: Axis) -> np.ndarray:
    """How strong each class is in each pixel (C, H, W), by the definition and in double."""

    def taps(axis: Axis, cells: int) -> np.ndarray:
        share = axis.positions - np.floor(axis.positions)
        weights = np.zeros((len(share), cells))
        for corner, weight in zip(around(axis, cells), (1 - share, share), strict=True):
            np.add.at(weights, (np.arange(len(share)), corner), weight)
        return weights

    return np.einsum(
        "yh,chw,xw->cyx", taps(rows, levels.shape[1]), levels, taps(columns, levels.shape[2])
    )


@settings(max_examples=60, deadline=None)
@given(st.integers(0, 2**32 - 1), st.integers(1, 12), sides, sides, sizes, sizes)
def test_every_pixel_goes_to_a_class_that_is_strongest_there(
    seed, classes, height, width, rows_px, columns_px
) -> None:
    levels = levels_of(smooth_logits(seed, classes, height, width))
    rows, columns = whole(height, rows_px), whole(width, columns_px)
    class_map = enlarge(levels, rows, columns)
    strengths = everywhere(levels, rows, columns)
    chosen = np.take_along_axis(strengths, class_map[None].astype(int), axis=0)[0]
    # OpenCV takes places to 1/32 of a cell, over which a level changes by 255 / 32 along each side.
    assert (strengths.max(axis=0) - chosen).max() <= 2 * 255 / 32 + 1


@settings(max_examples=60, deadline=None)
@given(st.integers(0, 2**32 - 1), sides, sides, sizes, sizes)
def test_where_all_four_corners_agree_their_class_wins(
    seed, height, width, rows_px, columns_px
) -> None:
    levels = levels_of(smooth_logits(seed, 11, height, width))
    rows, columns = whole(height, rows_px), whole(width, columns_px)
    ids = levels.argmax(axis=0)
    corners = [ids[np.ix_(y, x)] for y in around(rows, height) for x in around(columns, width)]
    agree = np.all([corner == corners[0] for corner in corners], axis=0)
    np.testing.assert_array_equal(enlarge(levels, rows, columns)[agree], corners[0][agree])


@settings(max_examples=60, deadline=None)
@given(st.integers(0, 2**32 - 1), st.integers(1, 8), sides, sides, sizes, sizes)
def test_a_pixel_is_unsure_where_its_confidence_is_below_the_least(
    seed, classes, height, width, rows_px, columns_px
) -> None:
    levels = levels_of(smooth_logits(seed, classes, height, width))
    confidence = (128 + 40 * smooth_logits(seed + 1, 1, height, width)[0]).clip(0, 255)
    confidence, least = confidence.astype(np.uint8), 150
    rows, columns = whole(height, rows_px), whole(width, columns_px)
    class_map = enlarge(levels, rows, columns, confidence, least)
    left_out = class_map == UNSURE
    np.testing.assert_array_equal(left_out, unsure(confidence, least, rows, columns))
    np.testing.assert_array_equal(class_map[~left_out], enlarge(levels, rows, columns)[~left_out])
    interpolated = everywhere(confidence[None], rows, columns)[0]
    off = 2 * 255 / 32 + 1  # as far as places are rounded
    assert left_out[interpolated < least - off].all()
    assert not left_out[interpolated >= least + off].any()


@pytest.mark.parametrize("first", [0, 1, 57])
def test_a_window_is_cut_out_of_the_whole(first) -> None:
    levels = levels_of(smooth_logits(3, 11, 24, 32))
    full = enlarge(levels, whole(24, 180), whole(32, 200))
    part = enlarge(levels, Axis.window(24, 180, first, 100), Axis.window(32, 200, first, 90))
    np.testing.assert_array_equal(part, full[first : first + 100, first : first + 90])


def test_of_equal_classes_the_lower_id_wins() -> None:
    assert (enlarge(np.full((4, 5, 6), 255, np.uint8), whole(5, 50), whole(6, 60)) == 0).all()


def test_levels_keep_distances_and_end_far_behind() -> None:
    logits = np.array([[[5.0]], [[5.0 - FAR_BEHIND / 2]], [[5.0 - 3 * FAR_BEHIND]]], np.float32)
    assert levels_of(logits).ravel().tolist() == [255, 128, 0]
