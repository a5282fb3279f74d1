"""The recursive filter: what it keeps, and what it lets go of."""

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from roadseg.segmentation.flow import UNSEEN, Warp
from roadseg.segmentation.placement import Placement
from roadseg.segmentation.temporal_filter import REFERENCE_S, GridWarp, SteadyFilter

FRAME_HW, NETWORK_HW, GRID_HW = (64, 96), (64, 96), (32, 48)
PLACEMENT = Placement.fit(FRAME_HW, NETWORK_HW)


def logits(seed: int) -> np.ndarray:
    return np.random.default_rng(seed).normal(size=(11, *GRID_HW)).astype(np.float32)


def warp(columns: float = 0, residual: float = 0, elapsed_s: float = REFERENCE_S) -> Warp:
    flow = np.full((*FRAME_HW, 2), (columns, 0), np.float32)
    return Warp(flow, np.full(FRAME_HW, residual, np.float32), elapsed_s)


def on_grid(way: Warp, placement: Placement = PLACEMENT) -> GridWarp:
    return GridWarp.of(way, placement, logits(0))


def test_past_has_the_weight_asked_for_after_a_fifteenth_of_a_second() -> None:
    steady = SteadyFilter(0.6)
    steady.update(logits(0), None)
    found = steady.update(logits(1), on_grid(warp()))
    np.testing.assert_allclose(found, 0.6 * logits(0) + 0.4 * logits(1), atol=1e-5)


def test_memory_in_seconds_is_the_same_at_every_frame_rate() -> None:
    quick, slow = SteadyFilter(0.6), SteadyFilter(0.6)
    for steady, steps in ((quick, 4), (slow, 1)):
        steady.update(logits(0), None)
        for _ in range(steps):
            found = steady.update(logits(1), on_grid(warp(elapsed_s=REFERENCE_S / steps)))
        np.testing.assert_allclose(found, 0.6 * logits(0) + 0.4 * logits(1), atol=1e-5)


def test_past_is_moved_along() -> None:
    steady = SteadyFilter(0.5)
    steady.update(logits(0), None)
    found = steady.update(logits(1), on_grid(warp(columns=4)))  # two cells of the grid
    expected = 0.5 * logits(0)[:, :, 2:] + 0.5 * logits(1)[:, :, :-2]
    np.testing.assert_allclose(found[:, :, :-2], expected, atol=1e-5)


@pytest.mark.parametrize("residual", [100.0, UNSEEN])
def test_past_is_dropped_where_motion_does_not_explain_the_picture(residual) -> None:
    steady = SteadyFilter(0.9)
    steady.update(logits(0), None)
    found = steady.update(logits(1), on_grid(warp(residual=residual)))
    np.testing.assert_allclose(found, logits(1), atol=1e-4)


def test_a_cut_and_another_size_forget_everything() -> None:
    steady = SteadyFilter(0.9)
    steady.update(logits(0), None)
    np.testing.assert_array_equal(steady.update(logits(1), None), logits(1))
    wider = np.zeros((11, 32, 64), np.float32)
    np.testing.assert_array_equal(steady.update(wider, on_grid(warp())), wider)


@given(
    st.lists(
        st.tuples(st.floats(-30, 30), st.floats(0, 255), st.floats(0, 3)), min_size=1, max_size=6
    ),
    st.floats(0, 0.999),
)
def test_state_stays_within_what_the_network_has_said(steps, strength) -> None:
    steady = SteadyFilter(strength)
    said = [logits(0)]
    steady.update(said[0], None)
    for seed, (columns, residual, elapsed_s) in enumerate(steps, 1):
        said.append(logits(seed))
        found = steady.update(said[-1], on_grid(warp(columns, residual, elapsed_s)))
    assert found.min() >= np.min(said) - 1e-4 and found.max() <= np.max(said) + 1e-4


def test_frame_beside_padding_is_moved_by_its_own_pixels() -> None:
    # The frame takes the middle half of the input: its flow must not be that of the whole width.
    placement = Placement.fit((64, 48), (64, 96))
    assert (placement.content_hw, placement.left) == ((64, 48), 24)
    steady = SteadyFilter(0.5)
    steady.update(logits(0), None)
    flow = np.full((32, 24, 2), (2, 0), np.float32)  # made at half the frame's size
    way = Warp(flow, np.zeros((32, 24), np.float32), REFERENCE_S)
    found = steady.update(np.zeros((11, *GRID_HW), np.float32), on_grid(way, placement))
    np.testing.assert_allclose(found[:, :, 12:34], 0.5 * logits(0)[:, :, 14:36], atol=1e-5)
