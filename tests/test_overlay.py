import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from roadseg.config import ModelSpec, OverlayConfig
from roadseg.errors import ConfigError
from roadseg.overlay import Overlay, class_ids, overlay_for, render_legend

SPEC = ModelSpec(arch="unet", width=4)
ALL = class_ids((), SPEC)

scenes = st.integers(0, 2**32 - 1).map(
    lambda seed: (
        np.random.default_rng(seed).integers(0, 256, (24, 30, 3), np.uint8),
        np.random.default_rng(seed + 1).integers(0, 11, (24, 30), np.uint8),
    )
)


@given(scenes)
def test_alpha_zero_changes_nothing(scene) -> None:
    picture, class_map = scene
    drawn = Overlay(SPEC, shown=ALL, alpha=0, outline=False, legend=False).draw(picture, class_map)
    np.testing.assert_array_equal(drawn, picture)


@given(scenes)
def test_alpha_one_shows_the_palette(scene) -> None:
    picture, class_map = scene
    drawn = Overlay(SPEC, shown=ALL, alpha=1, outline=False, legend=False).draw(picture, class_map)
    np.testing.assert_array_equal(drawn, np.array(SPEC.palette, np.uint8)[class_map])


@given(scenes, st.floats(0, 1))
def test_painted_pixels_are_the_weighted_mean(scene, alpha) -> None:
    picture, class_map = scene
    drawn = Overlay(SPEC, shown=ALL, alpha=alpha, outline=False, legend=False).draw(
        picture, class_map
    )
    colors = np.array(SPEC.palette, np.float64)[class_map]
    expected = (1 - alpha) * picture + alpha * colors
    assert np.abs(drawn - expected).max() <= 0.501  # rounding to whole levels


@given(scenes)
def test_classes_not_shown_keep_their_pixels(scene) -> None:
    picture, class_map = scene
    road = class_ids(("road",), SPEC)
    drawn = Overlay(SPEC, shown=road, alpha=0.7, outline=False, legend=False).draw(
        picture, class_map
    )
    others = class_map != SPEC.class_names.index("road")
    np.testing.assert_array_equal(drawn[others], picture[others])


def test_input_picture_is_left_alone() -> None:
    picture = np.full((200, 300, 3), 90, np.uint8)
    Overlay(SPEC, shown=ALL, alpha=0.5).draw(picture, np.zeros((200, 300), np.uint8))
    assert (picture == 90).all()


def test_side_by_side_has_the_untouched_picture_on_the_left() -> None:
    picture = np.random.default_rng(0).integers(0, 256, (64, 80, 3), np.uint8)
    overlay = Overlay(SPEC, shown=ALL, alpha=0.5, side_by_side=True)
    drawn = overlay.draw(picture, np.zeros((64, 80), np.uint8))
    assert drawn.shape == (64, 160, 3)
    np.testing.assert_array_equal(drawn[:, :80], picture)


@pytest.mark.parametrize("size", [(16, 16), (90, 160), (540, 960), (2160, 3840)])
def test_legend_fits_any_picture(size) -> None:
    picture = np.full((*size, 3), 90, np.uint8)
    drawn = Overlay(SPEC, shown=ALL, alpha=0.0).draw(picture, np.zeros(size, np.uint8))
    assert drawn.shape == picture.shape
    assert (drawn != picture).any()


def test_legend_shows_each_colour_once() -> None:
    panel = render_legend(list(zip(SPEC.class_names, SPEC.palette, strict=True)), (540, 960))
    for color in SPEC.palette:
        assert (panel == color).all(axis=2).sum() > 100


@given(scenes)
def test_outline_lies_where_a_shown_class_begins_and_nowhere_else(scene) -> None:
    picture, class_map = scene
    road = SPEC.class_names.index("road")
    overlay = Overlay(SPEC, shown=frozenset({road}), alpha=0, outline=True, legend=False)
    drawn = overlay.draw(picture // 2, class_map)  # halved, so that no pixel has the line's level
    lined = (drawn == 235).all(axis=2)
    member = np.pad(class_map == road, ((1, 0), (1, 0)), mode="edge")
    here, above, left = member[1:, 1:], member[:-1, 1:], member[1:, :-1]
    np.testing.assert_array_equal(lined, (here != above) | (here != left))


def test_unknown_class_is_named() -> None:
    with pytest.raises(ConfigError, match=r"cat.*knows sky"):
        class_ids(("road", "cat"), SPEC)


@given(scenes)
def test_only_turns_the_rest_to_dark_grey(scene) -> None:
    picture, class_map = scene
    config = OverlayConfig(only=("road",), alpha=0.7, outline=False, legend=False)
    drawn = overlay_for(SPEC, config).draw(picture, class_map)
    road = class_map == SPEC.class_names.index("road")
    painted = Overlay(SPEC, shown=ALL, alpha=0.7, outline=False, legend=False)
    np.testing.assert_array_equal(drawn[road], painted.draw(picture, class_map)[road])
    grey = picture[~road] @ (0.299, 0.587, 0.114)  # luma of BT.601
    assert (drawn[~road] == drawn[~road][:, :1]).all()
    assert np.abs(drawn[~road][:, 0] - 0.35 * grey).max() <= 1


def test_only_and_classes_exclude_each_other() -> None:
    with pytest.raises(ConfigError, match="--classes and --only"):
        OverlayConfig(only=("road",), classes=("car",))
    with pytest.raises(ConfigError, match="--only names cat"):
        overlay_for(SPEC, OverlayConfig(only=("cat",)))
