import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from roadseg.errors import ConfigError
from roadseg.paint.config import OverlayConfig
from roadseg.paint.legend import legend_layers, render_legend
from roadseg.paint.overlay import Overlay, class_ids, overlay_for
from roadseg.spec import ModelSpec
from roadseg.video.picture import ColorSpace, Picture

SPEC = ModelSpec(arch="unet", width=4)
ALL = class_ids((), SPEC)

SPACES = (ColorSpace(1, False), ColorSpace(6, False), ColorSpace(6, True), ColorSpace(9, False))


def random_picture(size_hw: tuple[int, int], space: ColorSpace, seed: int) -> Picture:
    rng = np.random.default_rng(seed)
    picture = Picture.empty(size_hw, space)
    for plane in picture.planes:
        plane[:] = rng.integers(0, 256, plane.shape, np.uint8)
    return picture


@st.composite
def scenes(draw) -> tuple[Picture, np.ndarray]:
    """A picture of any size and space, and a class map."""
    size = draw(st.tuples(st.integers(2, 31), st.integers(2, 31)))
    seed = draw(st.integers(0, 2**32 - 1))
    class_map = np.random.default_rng(seed).integers(0, 11, size, np.uint8)
    return random_picture(size, draw(st.sampled_from(SPACES)), seed), class_map


def maps_of_planes(class_map: np.ndarray) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """The class that each sample of Y, U and V goes by."""
    return class_map, class_map[::2, ::2], class_map[::2, ::2]


def assert_same(one: Picture, other: Picture) -> None:
    assert one.space == other.space
    for a, b in zip(one.planes, other.planes, strict=True):
        np.testing.assert_array_equal(a, b)


@given(scenes())
def test_alpha_zero_changes_nothing(scene) -> None:
    picture, class_map = scene
    drawn = Overlay(SPEC, shown=ALL, alpha=0, outline=False, legend=False).draw(picture, class_map)
    assert_same(drawn, picture)


@pytest.mark.parametrize("space", SPACES)
def test_alpha_one_shows_the_palette(space) -> None:
    class_map = np.repeat(np.arange(11, dtype=np.uint8), 4)[None].repeat(8, axis=0)
    picture = random_picture((8, 44), space, 0)
    drawn = Overlay(SPEC, shown=ALL, alpha=1, outline=False, legend=False).draw(picture, class_map)
    difference = drawn.rgb()[4, 1::4].astype(int) - np.array(SPEC.palette)
    assert np.abs(difference).max() <= 2  # YUV has fewer colours than RGB


@given(scenes(), st.floats(0, 1))
def test_painted_samples_are_the_weighted_mean(scene, alpha) -> None:
    picture, class_map = scene
    drawn = Overlay(SPEC, shown=ALL, alpha=alpha, outline=False, legend=False).draw(
        picture, class_map
    )
    palette = picture.space.yuv(np.array(SPEC.palette, np.uint8)).astype(np.float64)
    for i, ids in enumerate(maps_of_planes(class_map)):
        expected = (1 - alpha) * picture.planes[i] + alpha * palette[ids, i]
        assert np.abs(drawn.planes[i] - expected).max() <= 0.501  # rounding to whole levels


@given(scenes())
def test_classes_not_shown_keep_their_samples_to_the_bit(scene) -> None:
    picture, class_map = scene
    road = class_ids(("road",), SPEC)
    drawn = Overlay(SPEC, shown=road, alpha=0.7, outline=False, legend=False).draw(
        picture, class_map
    )
    for i, ids in enumerate(maps_of_planes(class_map)):
        others = ids != SPEC.class_names.index("road")
        np.testing.assert_array_equal(drawn.planes[i][others], picture.planes[i][others])


@given(scenes())
def test_input_picture_is_left_alone(scene) -> None:
    picture, class_map = scene
    before = [plane.copy() for plane in picture.planes]
    Overlay(SPEC, shown=ALL, alpha=0.5, side_by_side=True).draw(picture, class_map)
    for plane, was in zip(picture.planes, before, strict=True):
        np.testing.assert_array_equal(plane, was)


@given(scenes())
def test_side_by_side_has_the_untouched_picture_on_the_left(scene) -> None:
    picture, class_map = scene
    height, width = picture.size_hw
    drawn = Overlay(SPEC, shown=ALL, alpha=0.5, side_by_side=True).draw(picture, class_map)
    alone = Overlay(SPEC, shown=ALL, alpha=0.5).draw(picture, class_map)
    assert drawn.size_hw == (height, width + width % 2 + width)
    for plane, left, right in zip(drawn.planes, picture.planes, alone.planes, strict=True):
        np.testing.assert_array_equal(plane[:, : left.shape[1]], left)
        np.testing.assert_array_equal(plane[:, -right.shape[1] :], right)


@pytest.mark.parametrize("size", [(16, 16), (91, 161), (540, 960), (2160, 3840)])
def test_legend_fits_any_picture(size) -> None:
    picture = random_picture(size, SPACES[0], 0)
    drawn = Overlay(SPEC, shown=ALL, alpha=0.0).draw(picture, np.zeros(size, np.uint8))
    assert drawn.size_hw == size
    assert (drawn.planes[0] != picture.planes[0]).any()


@pytest.mark.parametrize("space", SPACES)
def test_legend_in_the_film_has_the_colours_of_the_classes(space) -> None:
    picture = random_picture((540, 960), space, 0)
    drawn = Overlay(SPEC, shown=ALL, alpha=0.0).draw(picture, np.zeros((540, 960), np.uint8)).rgb()
    for color in SPEC.palette:
        near = np.abs(drawn.astype(int) - color).max(axis=2) <= 2
        assert near.sum() > 100


def test_legend_shows_each_colour_once() -> None:
    panel = render_legend(list(zip(SPEC.class_names, SPEC.palette, strict=True)), (540, 960))
    for color in SPEC.palette:
        assert (panel == color).all(axis=2).sum() > 100


@given(scenes())
def test_outline_lies_where_a_shown_class_begins_and_nowhere_else(scene) -> None:
    picture, class_map = scene
    picture.planes[0][:] //= 2  # so that no pixel has the line's level
    road = SPEC.class_names.index("road")
    overlay = Overlay(SPEC, shown=frozenset({road}), alpha=0, outline=True, legend=False)
    lined = overlay.draw(picture, class_map).planes[0] >= 215
    member = np.pad(class_map == road, ((1, 0), (1, 0)), mode="edge")
    here, above, left = member[1:, 1:], member[:-1, 1:], member[1:, :-1]
    np.testing.assert_array_equal(lined, (here != above) | (here != left))


def test_unknown_class_is_named() -> None:
    with pytest.raises(ConfigError, match=r"cat.*knows sky"):
        class_ids(("road", "cat"), SPEC)


@given(scenes())
def test_only_turns_the_rest_to_dark_grey(scene) -> None:
    picture, class_map = scene
    config = OverlayConfig(only=("road",), alpha=0.7, outline=False, legend=False)
    drawn = overlay_for(SPEC, config).draw(picture, class_map)
    everything = Overlay(SPEC, shown=ALL, alpha=0.7, outline=False, legend=False)
    painted = everything.draw(picture, class_map)
    for i, ids in enumerate(maps_of_planes(class_map)):
        road = ids == SPEC.class_names.index("road")
        np.testing.assert_array_equal(drawn.planes[i][road], painted.planes[i][road])
        black = 0 if picture.space.full_range else 16
        rest = picture.planes[i][~road].astype(float)
        expected = black + 0.35 * (rest - black) if i == 0 else 128.0
        assert np.abs(drawn.planes[i][~road] - expected).max(initial=0) <= 0.501


def test_only_and_classes_exclude_each_other() -> None:
    with pytest.raises(ConfigError, match="--classes and --only"):
        OverlayConfig(only=("road",), classes=("car",))
    with pytest.raises(ConfigError, match="--only names cat"):
        overlay_for(SPEC, OverlayConfig(only=("cat",)))


def test_pictures_of_many_sizes_leave_few_legends_in_memory() -> None:
    entries = (("road", (128, 64, 128)),)
    for height in range(64, 164):
        legend_layers(entries, (height, 96), ColorSpace())
    assert legend_layers.cache_info().currsize <= 4
