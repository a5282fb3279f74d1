"""Consistency, flips and flicker on films whose labels and motion are known."""

import math

import numpy as np
import pytest
from moving import panning

from roadseg.measure.steadiness import TemporalMeter, TemporalScores

NAMES = ("left", "right", "other")
HEIGHT, WIDTH = 216, 384


def nothing() -> TemporalScores:
    return TemporalScores(class_names=NAMES, moved=np.zeros((3, 3), np.int64))


def halves(edge: int) -> np.ndarray:
    class_map = np.zeros((HEIGHT, WIDTH), np.uint8)
    class_map[:, edge:] = 1
    return class_map


def measure(steps: list[int], maps: list[np.ndarray]) -> list[TemporalScores]:
    meter = TemporalMeter(NAMES)
    lumas = (frame.picture.planes[0] for frame in panning(steps))
    return [meter.add(luma, m) for luma, m in zip(lumas, maps, strict=True)]


def test_labels_that_move_with_the_picture_are_consistent_and_those_that_stay_are_not() -> None:
    steps = [0, 8, 8, 8]
    edges = [200, 192, 184, 176]  # the camera goes right, things go left
    along = sum(measure(steps, [halves(edge) for edge in edges]), nothing())
    staying = sum(measure(steps, [halves(200)] * 4), nothing())
    assert along.consistency > 0.995 and along.flip_rate < 0.002
    visible = WIDTH - 8
    assert staying.flip_rate == pytest.approx(8 / visible, rel=0.05)
    assert staying.consistency == pytest.approx(
        ((200 - 8) / 200 + (visible - 200) / (visible - 200 + 8)) / 2, abs=0.01
    )


def test_class_that_is_nowhere_does_not_enter_the_mean() -> None:
    total = sum(measure([0, 0], [halves(100)] * 2), nothing())
    assert total.consistency == 1 and math.isnan(total.by_class[2])
    assert total.summary()["consistency_by_class"] == {"left": 1, "right": 1, "other": None}


def test_flicker_is_there_and_back_again_and_needs_no_flow() -> None:
    calm, wrong = halves(100), halves(100)
    wrong[:54] = 2  # a quarter of the picture
    found = measure([0] * 5, [calm, calm, wrong, calm, calm])
    assert [scores.flickers for scores in found] == [0, 0, 0, wrong[:54].size, 0]
    assert sum(found, nothing()).flicker_rate == pytest.approx(0.25 / 3)
    for_good = sum(measure([0] * 4, [calm, calm, wrong, wrong]), nothing())
    assert for_good.flicker_rate == 0 and for_good.flip_rate == pytest.approx(0.25 / 3, abs=1e-3)


def test_first_frame_and_a_cut_count_for_nothing() -> None:
    meter = TemporalMeter(NAMES)
    frames = [*panning([0, 0]), *panning([0, 0], seed=1)]
    scores = [meter.add(frame.picture.planes[0], halves(100 + i)) for i, frame in enumerate(frames)]
    assert [int(s.moved.sum()) > 0 for s in scores] == [False, True, False, True]
    assert all(s.watched == 0 for s in scores)
    assert math.isnan(scores[0].consistency) and math.isnan(scores[2].flip_rate)


def test_a_constant_film_is_perfectly_consistent_whatever_it_shows() -> None:
    total = sum(measure([0, 8, -5], [halves(0)] * 3), nothing())
    assert (total.consistency, total.flip_rate, total.flicker_rate) == (1, 0, 0)
