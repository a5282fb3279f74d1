from fractions import Fraction

import cv2
import numpy as np
import pytest
from conftest import WEIGHTS
from hypothesis import given, settings
from hypothesis import strategies as st

from roadseg.backends.runtimes import stated_spec
from roadseg.cli.options import parse_size
from roadseg.errors import ConfigError
from roadseg.infer.steps import opencv_on_one_thread
from roadseg.segmentation.enlarge import levels_of
from roadseg.segmentation.placement import Placement, laid, network_size, resize_class_map
from roadseg.video.frame import Frame
from roadseg.video.read.upright import picture_of

sides = st.integers(20, 400)
network_sides = st.integers(1, 10).map(lambda n: 32 * n)


@given(frame=st.tuples(sides, sides), network=st.tuples(network_sides, network_sides))
def test_placement_keeps_the_aspect_ratio_and_lies_inside(frame, network) -> None:
    placement = Placement.fit(frame, network)
    for content, limit, first in zip(
        placement.content_hw, network, (placement.top, placement.left), strict=True
    ):
        assert first >= 0 and first + content <= limit
    scale = min(network[0] / frame[0], network[1] / frame[1])
    for content, side in zip(placement.content_hw, frame, strict=True):
        assert abs(content - side * scale) <= max(0.5, 1 - side * scale)


@settings(max_examples=40)
@given(
    frame=st.tuples(st.integers(60, 300), st.integers(60, 300)),
    row=st.floats(0.25, 0.75),
    column=st.floats(0.25, 0.75),
)
def test_restoring_a_placed_edge_puts_it_where_it_was(frame, row, column) -> None:
    height, width = frame
    class_map = np.zeros(frame, np.uint8)
    class_map[round(row * height) :, round(column * width) :] = 1
    picture = picture_of(np.repeat(class_map[..., None] * 255, 3, axis=2))
    placement, (shown,) = laid(Frame.still(picture), (192, 256))
    seen = (shown[..., 0] > 127).astype(np.uint8)
    restored = placement.restore(seen)
    assert restored.shape == frame
    # An edge moves by less than a pixel of the coarser of the two grids.
    slack = max(1.0, height / placement.content_hw[0], width / placement.content_hw[1])
    wrong = np.argwhere(restored != class_map)
    edge = np.array([round(row * height), round(column * width)])
    assert all(np.abs(place - edge + 0.5).min() <= slack + 0.5 for place in wrong)


@settings(max_examples=30)
@given(frame=st.tuples(st.integers(40, 200), st.integers(40, 200)))
def test_restored_logits_are_largest_where_the_class_map_says(frame) -> None:
    placement = Placement.fit(frame, (128, 160))
    rng = np.random.default_rng(0)
    coarse = rng.normal(size=(4, 32, 40)).astype(np.float32)
    fine = np.stack([cv2.resize(c, (160, 128), interpolation=cv2.INTER_LINEAR) for c in coarse])
    restored = placement.restore_logits(coarse)
    assert restored.shape == (4, *frame)
    by_logits = restored.argmax(axis=0)
    by_map = placement.restore(fine.argmax(axis=0).astype(np.uint8))
    assert (by_logits == by_map).mean() > 0.85  # they differ along edges, of which noise has many


def test_frame_of_wide_pixels_is_shown_at_its_true_aspect() -> None:
    # 720x576 with 16:11 pixels is a 16:9 film (with the usual overscan).
    placement = Placement.fit((576, 720), (320, 576), Fraction(64, 45))
    assert placement.content_hw == (320, 569)


def test_restored_logits_of_a_ramp_are_the_ramp() -> None:
    placement = Placement.fit((90, 160), (128, 160))  # 19 grey rows above, 19 below
    rows = (np.arange(32) + 0.5) * 4  # each coarse row's centre in the network's input
    coarse = np.broadcast_to(rows[:, None], (32, 40)).astype(np.float32)[None]
    restored = placement.restore_logits(coarse)[0]
    expected = np.arange(90) + 0.5 + 19
    np.testing.assert_allclose(restored[:, 80], expected, atol=0.13)  # OpenCV rounds to 1/32 pixel


@given(
    class_map=st.integers(0, 2**32 - 1).map(
        lambda seed: np.random.default_rng(seed).integers(0, 12, (13, 17), np.uint8)
    ),
    size=st.tuples(st.integers(1, 60), st.integers(1, 60)),
)
def test_resizing_invents_no_class(class_map, size) -> None:
    resized = resize_class_map(class_map, size)
    assert resized.shape == size
    assert set(np.unique(resized)) <= set(np.unique(class_map))


def test_resizing_smooths_a_slanted_edge() -> None:
    small = np.tril(np.ones((16, 16), np.uint8))
    large = resize_class_map(small, (128, 128))
    steps = np.diff((large == 1).sum(axis=1).astype(int))
    away_from_the_border = steps[8:-8]
    assert away_from_the_border.max() <= 2  # nearest neighbour would step by 8


@pytest.mark.parametrize(
    ("frame", "expected", "of_default"),
    [
        ((360, 480), (384, 512), (448, 608)),
        ((540, 960), (320, 576), (384, 672)),
        ((1080, 1920), (320, 576), (384, 672)),
    ],
)
def test_network_size_for_common_films(frame, expected, of_default) -> None:
    assert network_size(frame, (384, 512)) == expected
    spec = stated_spec(WEIGHTS)
    assert spec and network_size(frame, spec.size_hw) == of_default


@given(frame=st.tuples(st.integers(16, 4320), st.integers(16, 7680)))
@settings(max_examples=50)
def test_network_size_always_fits(frame) -> None:
    height, width = network_size(frame, (384, 512))
    assert height % 32 == width % 32 == 0
    assert 32 * 32 <= height * width <= 384 * 512


@pytest.mark.parametrize("text", ["500x333", "512", "x", "0x0", "axb", "-32x32", "512x384x3"])
def test_bad_sizes_are_refused_with_the_flag(text) -> None:
    with pytest.raises(ConfigError, match="--size"):
        parse_size(text)


def test_size_is_written_width_first() -> None:
    assert parse_size("512x384") == (384, 512)


# Logits that are nearer to each other than a network's are told apart less well in 8 bits.
@pytest.mark.parametrize(("scale", "wrong"), [(4, 0.002), (1, 0.005)])
@pytest.mark.parametrize("frame_hw", [(540, 960), (96, 96), (300, 70)])
def test_class_map_from_logits_is_that_of_the_exact_way_but_at_edges(
    frame_hw, scale, wrong
) -> None:
    placement = Placement.fit(frame_hw, (64, 96))
    rng = np.random.default_rng(0)
    coarse = rng.normal(scale=scale, size=(5, 4, 6)).astype(np.float32)
    logits = np.stack([cv2.resize(c, (48, 32), interpolation=cv2.INTER_CUBIC) for c in coarse])
    expected = placement.restore_logits(logits).argmax(axis=0)
    found = placement.enlarge(levels_of(logits))
    assert found.shape == frame_hw and found.dtype == np.uint8
    inside = cv2.erode(
        (
            cv2.morphologyEx(expected.astype(np.uint8), cv2.MORPH_GRADIENT, np.ones((3, 3))) == 0
        ).astype(np.uint8),
        np.ones((3, 3)),
    )
    assert (found != expected)[inside > 0].mean() < wrong


def test_class_that_is_second_on_both_sides_wins_between_them() -> None:
    logits = np.full((3, 1, 2), -9, np.float32)
    logits[0, 0, 0] = logits[1, 0, 1] = 2
    logits[2] = 1
    found = Placement.fit((60, 120), (32, 64)).enlarge(levels_of(logits))
    assert list(dict.fromkeys(found[30])) == [0, 2, 1]


def test_opencv_gets_its_threads_back_from_blocks_that_overlap() -> None:
    before = cv2.getNumThreads()
    first, second = opencv_on_one_thread(), opencv_on_one_thread()
    first.__enter__()
    second.__enter__()
    first.__exit__(None, None, None)
    assert cv2.getNumThreads() == 1
    second.__exit__(None, None, None)
    assert cv2.getNumThreads() == before


def test_values_are_spread_over_the_frames_part_of_the_grid() -> None:
    placement = Placement.fit((64, 48), (64, 96))  # the middle half of the input
    values = np.arange(48, dtype=np.float32)[None].repeat(64, axis=0)
    spread = placement.spread(values, (32, 48))
    assert spread.shape == (32, 48)
    np.testing.assert_allclose(spread[:, 12:36], values[:32, :24] * 2 + 0.5)
    assert (spread[:, :12] == 0.5).all() and (spread[:, 36:] == 46.5).all()
