from dataclasses import replace

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from roadseg.errors import ConfigError
from roadseg.paint import overlay
from roadseg.paint.config import CORNERS, OverlayConfig
from roadseg.paint.in_view import InView
from roadseg.paint.legend import LEGENDS_KEPT, legend_at, render_legend
from roadseg.paint.overlay import Overlay, class_ids
from roadseg.spec import UNSURE, ModelSpec
from roadseg.video.picture import ColorSpace, Picture

SPEC = ModelSpec(arch="unet", width=4)

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
    drawn = Overlay(SPEC, OverlayConfig(alpha=0, outline=False, legend="none")).draw(
        picture, class_map
    )
    assert_same(drawn, picture)


@pytest.mark.parametrize("space", SPACES)
def test_alpha_one_shows_the_palette(space) -> None:
    class_map = np.repeat(np.arange(11, dtype=np.uint8), 4)[None].repeat(8, axis=0)
    picture = random_picture((8, 44), space, 0)
    drawn = Overlay(SPEC, OverlayConfig(alpha=1, outline=False, legend="none")).draw(
        picture, class_map
    )
    difference = drawn.rgb()[4, 1::4].astype(int) - np.array(SPEC.palette)
    assert np.abs(difference).max() <= 2  # YUV has fewer colours than RGB


@given(scenes(), st.floats(0, 1))
def test_painted_samples_are_the_weighted_mean(scene, alpha) -> None:
    picture, class_map = scene
    drawn = Overlay(SPEC, OverlayConfig(alpha=alpha, outline=False, legend="none")).draw(
        picture, class_map
    )
    palette = picture.space.yuv(np.array(SPEC.palette, np.uint8)).astype(np.float64)
    for i, ids in enumerate(maps_of_planes(class_map)):
        expected = (1 - alpha) * picture.planes[i] + alpha * palette[ids, i]
        assert np.abs(drawn.planes[i] - expected).max() <= 0.501  # rounding to whole levels


@given(scenes())
def test_classes_not_shown_keep_their_samples_to_the_bit(scene) -> None:
    picture, class_map = scene
    drawn = Overlay(
        SPEC, OverlayConfig(classes=("road",), alpha=0.7, outline=False, legend="none")
    ).draw(picture, class_map)
    for i, ids in enumerate(maps_of_planes(class_map)):
        others = ids != SPEC.class_names.index("road")
        np.testing.assert_array_equal(drawn.planes[i][others], picture.planes[i][others])


@given(scenes())
def test_input_picture_is_left_alone(scene) -> None:
    picture, class_map = scene
    before = [plane.copy() for plane in picture.planes]
    Overlay(SPEC, OverlayConfig(alpha=0.5), side_by_side=True).draw(picture, class_map)
    for plane, was in zip(picture.planes, before, strict=True):
        np.testing.assert_array_equal(plane, was)


@given(scenes())
def test_side_by_side_has_the_untouched_picture_on_the_left(scene) -> None:
    picture, class_map = scene
    height, width = picture.size_hw
    drawn = Overlay(SPEC, OverlayConfig(alpha=0.5), side_by_side=True).draw(picture, class_map)
    alone = Overlay(SPEC, OverlayConfig(alpha=0.5)).draw(picture, class_map)
    assert drawn.size_hw == (height, width + width % 2 + width)
    for plane, left, right in zip(drawn.planes, picture.planes, alone.planes, strict=True):
        np.testing.assert_array_equal(plane[:, : left.shape[1]], left)
        np.testing.assert_array_equal(plane[:, -right.shape[1] :], right)


def legend_area(size_hw: tuple[int, int], config: OverlayConfig, **view) -> np.ndarray:
    """Where the legend of a picture lies, as (row, column) of its first and its last pixel."""
    picture = random_picture(size_hw, SPACES[0], 0)
    nothing = np.zeros(size_hw, np.uint8)
    drawn = Overlay(SPEC, config).draw(picture, nothing, **view)
    assert drawn.size_hw == size_hw
    changed = np.argwhere(drawn.planes[0] != picture.planes[0])
    return np.array([changed.min(axis=0), changed.max(axis=0)]) if len(changed) else np.empty((0,))


@pytest.mark.parametrize("corner", CORNERS)
@pytest.mark.parametrize("size", [(180, 320), (541, 961), (960, 540), (2160, 3840)])
def test_legend_keeps_to_its_corner_and_a_tenth_of_the_picture(size, corner) -> None:
    first, last = legend_area(size, OverlayConfig(alpha=0, legend=corner))
    rows, columns = last - first + 1
    assert rows * columns <= size[0] * size[1] / 10
    assert ((first + last) / 2 < np.array(size) / 2).tolist() == [
        corner.startswith("top"),
        corner.endswith("left"),
    ]


@pytest.mark.parametrize("size", [(16, 16), (40, 2000), (91, 161)])
def test_legend_for_which_there_is_no_room_is_left_out(size) -> None:
    area = legend_area(size, OverlayConfig(alpha=0), in_view=frozenset(range(11)))
    assert not len(area) or np.prod(area[1] - area[0] + 1) <= size[0] * size[1] / 10


def test_legend_names_what_is_in_view_in_letters_that_stay_as_they_are() -> None:
    few, all_ = (
        legend_area((960, 540), OverlayConfig(alpha=0), in_view=frozenset(ids))
        for ids in ((3, 9), range(11))
    )
    rows = [last[0] - first[0] + 1 for first, last in (few, all_)]
    height = (rows[1] - rows[0]) / 9  # of a name
    assert height == pytest.approx(round(height), abs=0.3)  # the panel's sides are even
    assert not len(legend_area((960, 540), OverlayConfig(alpha=0), in_view=frozenset()))
    assert not len(legend_area((960, 540), OverlayConfig(alpha=0, legend="none")))


def test_unknown_corner_is_named() -> None:
    with pytest.raises(ConfigError, match="--legend is 'left'; use one of: top-left, top-right"):
        OverlayConfig(legend="left")


@pytest.mark.parametrize("space", SPACES)
def test_legend_in_the_film_has_the_colours_of_the_classes(space) -> None:
    picture = random_picture((540, 960), space, 0)
    nothing = np.zeros((540, 960), np.uint8)
    drawn = Overlay(SPEC, OverlayConfig(alpha=0)).draw(picture, nothing).rgb()
    for color in SPEC.palette:
        near = np.abs(drawn.astype(int) - color).max(axis=2) <= 2
        assert near.sum() > 100


def test_legend_shows_each_colour_once() -> None:
    panel = render_legend(list(zip(SPEC.class_names, SPEC.palette, strict=True)), 15)
    for color in SPEC.palette:
        assert (panel == color).all(axis=2).sum() > 100


def counts(class_map: np.ndarray) -> np.ndarray:
    return np.bincount(class_map.ravel())


def seen_at(times_s: list[float], first_s: float, last_s: float) -> list[float]:
    """When a class is in view that has a part of the picture from one time to another."""
    view = InView()
    class_map = np.zeros((40, 80), np.uint8)
    with_car = class_map.copy()
    with_car[8:24, 8:24] = 8
    return [
        time_s
        for time_s in times_s
        if 8 in view.update(counts(with_car if first_s <= time_s <= last_s else class_map), time_s)
    ]


def test_class_comes_into_view_at_once_and_stays_for_two_seconds_more() -> None:
    times_s = [n / 4 for n in range(40)]
    assert seen_at(times_s, 2, 3) == [n / 4 for n in range(8, 21)]


def test_what_is_in_view_is_the_same_two_seconds_after_a_later_start() -> None:
    times_s = [n / 4 for n in range(40)]
    assert seen_at(times_s[10:], 2, 3) == seen_at(times_s, 2, 3)[2:]


def test_clock_that_jumps_back_holds_nothing_for_ever() -> None:
    assert seen_at([1000, 0, 1, 2, 3], 1000, 1000) == [1000]


def test_class_of_a_few_pixels_is_not_in_view() -> None:
    class_map = np.zeros((400, 400), np.uint8)
    class_map[:8, :8] = 9
    assert InView().update(counts(class_map), 0) == {0}


@given(scenes())
def test_outline_lies_where_a_shown_class_begins_and_nowhere_else(scene) -> None:
    picture, class_map = scene
    picture.planes[0][:] //= 2  # so that no pixel has the line's level
    road = SPEC.class_names.index("road")
    overlay = Overlay(SPEC, OverlayConfig(classes=("road",), alpha=0, outline=True, legend="none"))
    lined = overlay.draw(picture, class_map).planes[0] >= 215
    member = np.pad(class_map == road, ((1, 0), (1, 0)), mode="edge")
    here, above, left = member[1:, 1:], member[:-1, 1:], member[1:, :-1]
    np.testing.assert_array_equal(lined, (here != above) | (here != left))


@pytest.mark.parametrize("scale", [1, 4])
def test_specks_have_no_outline_and_all_else_keeps_its_own(scale) -> None:
    class_map = np.zeros((270, 480), np.uint8)
    class_map[100:] = 3
    class_map[20:40, 50:90] = 8  # large enough
    with_specks = class_map.copy()
    with_specks[60:65, 200:206] = 9  # 30 of 129,600 pixels
    with_specks[98:102, 300:304] = 6  # on a border
    with_specks[30:33, 60:63] = 9  # in the car
    config = OverlayConfig(alpha=0, legend="none", min_region=0.0005)
    plain, specked = (
        Overlay(SPEC, config).draw(dark(m), m).planes[0] >= 215
        for m in (np.kron(m, np.ones((scale, scale), np.uint8)) for m in (class_map, with_specks))
    )
    assert not (specked & ~plain).any()
    lost = np.argwhere(plain & ~specked)
    assert 0 < len(lost) <= 6 * scale and (abs(lost[:, 0] - 100 * scale) <= scale).all()
    every = Overlay(SPEC, replace(config, min_region=0)).draw(dark(with_specks), with_specks)
    assert (every.planes[0] >= 215)[60, 200:206].all()


@pytest.mark.parametrize("height", [129, 131])
def test_bands_leave_no_trace(monkeypatch, height) -> None:
    rng = np.random.default_rng(0)
    class_map = rng.choice(np.array([0, 3, 8, UNSURE], np.uint8), (height // 8 + 1, 90))
    class_map = class_map.repeat(8, axis=0)[:height].repeat(2, axis=1)
    class_map[::7, ::5] = 5
    picture = Picture.from_rgb(rng.integers(0, 255, (height, 180, 3), np.uint8))
    painter = Overlay(ModelSpec(arch="unet", width=4), OverlayConfig(min_region=0.01))
    whole = painter.draw(picture, class_map)
    monkeypatch.setattr(overlay, "BAND_PX", 10)
    for plane, other in zip(painter.draw(picture, class_map).planes, whole.planes, strict=True):
        np.testing.assert_array_equal(plane, other)


def test_what_is_too_unsure_is_as_it_was_and_has_no_outline() -> None:
    class_map = np.full((60, 80), 3, np.uint8)
    class_map[:30] = 5
    class_map[20:50, 30:60] = UNSURE
    picture = Picture.from_rgb(np.full((60, 80, 3), 40, np.uint8))
    drawn = Overlay(SPEC, OverlayConfig(legend="none")).draw(picture, class_map)
    unsure = class_map == UNSURE
    np.testing.assert_array_equal(drawn.planes[0][unsure], picture.planes[0][unsure])
    lined = drawn.planes[0] > 150
    beside = unsure | np.roll(unsure, 1, axis=0) | np.roll(unsure, 1, axis=1)
    assert lined[30, :30].all() and not lined[beside].any()


def dark(class_map: np.ndarray) -> Picture:
    return Picture.from_rgb(np.zeros((*class_map.shape, 3), np.uint8))


def test_share_of_a_region_that_cannot_be_is_named() -> None:
    with pytest.raises(ConfigError, match="--min-region is 2; it must be a share of the picture"):
        OverlayConfig(min_region=2)


def test_unknown_class_is_named() -> None:
    with pytest.raises(ConfigError, match=r"cat.*knows sky"):
        class_ids(("road", "cat"), SPEC)


@given(scenes())
def test_only_turns_the_rest_to_dark_grey(scene) -> None:
    picture, class_map = scene
    config = OverlayConfig(only=("road",), alpha=0.7, outline=False, legend="none")
    drawn = Overlay(SPEC, config).draw(picture, class_map)
    everything = Overlay(SPEC, OverlayConfig(alpha=0.7, outline=False, legend="none"))
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
        Overlay(SPEC, OverlayConfig(only=("cat",)))


def test_pictures_of_many_sizes_leave_few_legends_in_memory() -> None:
    entries = (("road", (128, 64, 128)),)
    for height in range(180, 280):
        assert legend_at("top-left", entries, ("road",), (height, 320), ColorSpace())
    assert legend_at.cache_info().currsize <= LEGENDS_KEPT
