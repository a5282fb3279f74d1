"""Flow on pictures whose motion is known, and what is moved along it."""

import numpy as np
import pytest
from moving import panning, texture

from roadseg.motion import (
    UNSEEN,
    Motion,
    compose,
    is_cut,
    move_class_map,
    move_planes,
    residual,
    small_luma,
)
from roadseg.picture import Picture


def lumas(steps: list[int], seed: int = 0) -> list[np.ndarray]:
    return [small_luma(frame.picture) for frame in panning(steps, seed)]


def shifted(columns: float, rows: float, size_hw: tuple[int, int] = (40, 60)) -> np.ndarray:
    return np.full((*size_hw, 2), (columns, rows), np.float32)


def test_warp_along_a_known_translation_is_exact() -> None:
    earlier = np.random.default_rng(0).integers(0, 11, (40, 60), np.uint8)
    later = move_class_map(earlier, shifted(7, -3))
    np.testing.assert_array_equal(later[3:, :-7], earlier[:-3, 7:])
    planes = np.random.default_rng(1).normal(size=(5, 40, 60)).astype(np.float32)
    moved = move_planes(planes, shifted(-2, 4))
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
    unexplained = residual(second, first, flow)
    assert unexplained[20:-20, 20:-20].mean() < 2
    assert (unexplained == UNSEEN).any() == (step != 0)  # what has just come into view


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
        assert is_cut(later, residual(later, first, flow)) == expected


def test_noise_in_the_dark_is_no_cut() -> None:
    rng = np.random.default_rng(0)
    first, second = (
        small_luma(Picture.from_rgb(rng.integers(0, 6, (216, 384, 3), np.uint8))) for _ in range(2)
    )
    assert not is_cut(second, residual(second, first, Motion().between(second, first)))


@pytest.mark.parametrize("size_hw", [(2, 2), (4, 900), (900, 4), (33, 65), (720, 1280)])
def test_pictures_of_every_shape_have_flow(size_hw) -> None:
    picture = np.ascontiguousarray(texture(0, size_hw))
    luma = small_luma(Picture.from_rgb(picture))
    assert max(luma.shape) == 384
    assert np.abs(Motion().between(luma, luma)).max() < 0.01
