"""Flow on pictures whose motion is known, and what is moved along it."""

import cv2
import numpy as np
import pytest
from conftest import CAMVID
from moving import panning, roads, texture

from roadseg.segmentation.flow import (
    CELL_PX,
    UNSEEN,
    Motion,
    compose,
    extend,
    is_cut,
    is_torn,
    move_class_map,
    move_planes,
    positions,
    residual_of,
    single_step,
    torn_cells,
)
from roadseg.video.picture import Picture


def lumas(steps: list[int], seed: int = 0) -> list[np.ndarray]:
    return [frame.picture.small_luma() for frame in panning(steps, seed)]


def shifted(columns: float, rows: float, size_hw: tuple[int, int] = (40, 60)) -> np.ndarray:
    return np.full((*size_hw, 2), (columns, rows), np.float32)


def test_warp_along_a_known_translation_is_exact() -> None:
    earlier = np.random.default_rng(0).integers(0, 11, (40, 60), np.uint8)
    later = move_class_map(earlier, shifted(7, -3))
    np.testing.assert_array_equal(later[3:, :-7], earlier[:-3, 7:])
    planes = np.random.default_rng(1).normal(size=(5, 40, 60)).astype(np.float32)
    moved = move_planes(planes, positions(shifted(-2, 4)))
    np.testing.assert_array_equal(moved[:, :-4, 2:], planes[:, 4:, :-2])


def test_flow_is_scaled_to_the_size_of_what_it_moves() -> None:
    earlier = np.random.default_rng(0).integers(0, 11, (80, 120), np.uint8)
    later = move_class_map(earlier, shifted(3, 1))
    np.testing.assert_array_equal(later[:-2, :-6], earlier[2:, 6:])
    earlier = np.random.default_rng(0).integers(0, 11, (80, 180), np.uint8)
    later = move_class_map(earlier, shifted(3, 1))
    np.testing.assert_array_equal(later[1:-2, 1:-9], earlier[3:, 10:])  # the edge is repeated


@pytest.mark.parametrize("step", [0, 3, 8, -5])
def test_flow_of_a_panning_camera_is_its_step(step) -> None:
    first, second = lumas([100, step])
    flow = Motion().between(second, first)
    inner = flow[20:-20, 20:-20]
    assert np.abs(inner - (step, 0)).max() < 0.5
    residual = residual_of(second, first, flow)
    assert residual[20:-20, 20:-20].mean() < 2
    assert (residual == UNSEEN).any() == (step != 0)  # what has just come into view


def test_flows_add_up_along_the_way() -> None:
    first, second, third = lumas([100, 4, 6])
    motion = Motion()
    whole = compose(motion.between(third, second), motion.between(second, first))
    assert np.abs(whole[20:-20, 20:-20] - (10, 0)).max() < 0.6
    composed = compose(shifted(2, 1), shifted(-5, 3))
    np.testing.assert_array_equal(composed, shifted(-3, 4))


def test_another_scene_is_a_cut_and_motion_is_none() -> None:
    first, near, far = lumas([100, 5, 30])
    (other,) = lumas([100], seed=1)
    motion = Motion()
    for later, expected in ((near, False), (far, False), (other, True)):
        flow = motion.between(later, first)
        assert is_cut(later, residual_of(later, first, flow)) == expected


def test_noise_in_the_dark_is_no_cut() -> None:
    rng = np.random.default_rng(0)
    first, second = (
        Picture.from_rgb(rng.integers(0, 6, (216, 384, 3), np.uint8)).small_luma() for _ in range(2)
    )
    assert not is_cut(second, residual_of(second, first, Motion().between(second, first)))


def test_another_place_laid_out_alike_is_no_cut_but_tears_the_flow() -> None:
    first, other = (frame.picture.small_luma() for frame in roads([0, 1]))
    flow = Motion().between(other, first)
    assert not is_cut(other, residual_of(other, first, flow))
    assert is_torn(torn_cells(flow))


@pytest.mark.parametrize("step", [0, 3, 8, -20])
def test_flow_of_a_panning_camera_is_whole(step) -> None:
    first, second = lumas([100, step])
    assert not is_torn(torn_cells(Motion().between(second, first)))


def test_flow_is_torn_where_it_goes_by_chance_and_not_where_the_camera_goes_ahead() -> None:
    rows, columns = np.mgrid[:160, :240].astype(np.float32)
    ahead = 0.2 * np.stack([columns - 120, rows - 80], axis=2)
    assert not torn_cells(ahead).any()
    ahead[:, 120:] = np.random.default_rng(0).normal(0, 10, (160, 120, 2))
    torn = torn_cells(ahead)
    assert torn[:, : 120 // CELL_PX - 1].sum() == 0
    assert torn[:, 120 // CELL_PX + 1 :].all()


@pytest.mark.parametrize("light", [1.0, 0.1])
def test_noise_on_a_still_picture_tears_nothing(light) -> None:
    rng = np.random.default_rng(0)
    noisy = (light * texture(0, (216, 384)) + rng.normal(0, 8, (216, 384, 3)) for _ in range(2))
    first, second = (
        Picture.from_rgb(np.clip(picture, 0, 255).astype(np.uint8)).small_luma()
        for picture in noisy
    )
    assert torn_cells(Motion().between(second, first)).mean() < 0.05


def test_what_one_step_does_not_see_is_not_seen_on_the_whole_way() -> None:
    luma = np.full((40, 64), 90, np.uint8)
    whole, torn = np.zeros((5, 8), np.bool_), np.zeros((5, 8), np.bool_)
    torn[2, 3] = True
    still = np.zeros((40, 64, 2), np.float32)
    steps = [single_step(luma, luma, still, cells, 0.25) for cells in (whole, torn)]
    for step, further in (steps, steps[::-1]):
        way = extend(step, further, luma, luma)
        expected = np.zeros((40, 64), np.bool_)
        expected[16:24, 24:32] = True
        np.testing.assert_array_equal(way.residual == UNSEEN, expected)
        assert way.elapsed_s == 0.5


@pytest.mark.skipif(not CAMVID.is_dir(), reason="CamVid is not beside the project")
def test_flow_of_a_real_drive_is_whole_and_from_another_place_of_it_torn() -> None:
    paths = sorted((CAMVID / "val").glob("*.png"))
    drive = [cv2.imread(str(path), cv2.IMREAD_GRAYSCALE) for path in paths]
    flows = Motion()
    small = [cv2.resize(luma, (384, 288), interpolation=cv2.INTER_AREA) for luma in drive]
    for number in range(0, len(small) - 30, 10):
        near, far = (flows.between(small[number + gap], small[number]) for gap in (1, 30))
        assert not is_torn(torn_cells(near)) and is_torn(torn_cells(far))


@pytest.mark.parametrize("size_hw", [(2, 2), (4, 900), (900, 4), (33, 65), (720, 1280)])
def test_pictures_of_every_shape_have_flow(size_hw) -> None:
    picture = np.ascontiguousarray(texture(0, size_hw))
    luma = Picture.from_rgb(picture).small_luma()
    assert max(luma.shape) == 384
    assert np.abs(Motion().between(luma, luma)).max() < 0.01
