"""When the network looks: by the count, and by the time with a clock that the test turns."""

import math
from dataclasses import replace
from itertools import pairwise

import numpy as np
import pytest
from conftest import SAMPLE, WEIGHTS
from moving import panning, texture

from roadseg.errors import ConfigError
from roadseg.segmentation.config import MOST_BETWEEN, ModelConfig
from roadseg.segmentation.flow import UNSEEN, Warp, unseen_share
from roadseg.segmentation.keyframes import (
    MOST_UNSEEN,
    BySecond,
    Chooser,
    EveryNth,
    InTime,
    Situation,
    chooser_for,
    need_of,
)
from roadseg.segmentation.neighbours import paired, stepped
from roadseg.segmentation.track import track
from roadseg.spec import CLASS_NAMES
from roadseg.video.frame import FilmTime, Frame
from roadseg.video.read.read_log import ReadLog
from roadseg.video.read.source import decode, probe

NAMES = CLASS_NAMES[:11]
FRAME_S = 0.04


def at(
    gap: int, need: float = 0.1, age_s: float = math.inf, elapsed_s: float | None = None
) -> Situation:
    elapsed_s = gap * FRAME_S if elapsed_s is None else elapsed_s
    return Situation(
        gap=gap, elapsed_s=elapsed_s, interval_s=FRAME_S, age_s=age_s, need=lambda: need
    )


class Run:
    """A machine whose looks and moves take a known time, and a source with a rate.

    Args:
        look_s: Seconds that a look takes.
        move_s: Seconds that a frame without one takes.
        need: What every frame needs.
    """

    def __init__(self, look_s: float, move_s: float = 0.005, need: float = 0.1) -> None:
        self.now_s = 0.0
        self.looks: list[int] = [0]
        self._costs, self._need = (look_s, move_s), need
        self.chooser = InTime(None, clock=lambda: self.now_s)

    def frames(self, count: int, need: float | None = None) -> "Run":
        for number in range(1, count):
            arrives_s = number * FRAME_S
            self.now_s = max(self.now_s, arrives_s)
            wanted = self._need if need is None else need
            gap = number - self.looks[-1]
            if self.chooser.due(at(gap, need=wanted)):
                self.looks.append(number)
            self.now_s += self._costs[number != self.looks[-1]]
        return self

    @property
    def late_s(self) -> float:
        return self.now_s - 199 * FRAME_S


def test_every_nth_frame_is_looked_at() -> None:
    chooser = EveryNth(3)
    assert [chooser.due(at(gap)) for gap in (1, 2, 3)] == [False, False, True]


def looks(chooser: Chooser, times_s: list[float], usual_s: float = FRAME_S) -> list[float]:
    """Times of a film's frames that the network looks at, the first taken for granted."""
    film_times = [FilmTime(time_s, usual_s) for time_s in times_s]
    return [
        after.since_s
        for before, after in pairwise(film_times)
        if chooser.due(replace(at(1), film_times=(before, after)))
    ]


@pytest.mark.parametrize("rate", [24000 / 1001, 25, 30000 / 1001, 60])
def test_looks_lie_on_a_grid_that_a_later_start_does_not_shift(rate) -> None:
    times_s = [round(number / rate, 3) for number in range(400)]  # as Matroska rounds them
    whole = looks(EveryNth(3), times_s, 1 / rate)
    assert whole == times_s[3::3]
    for first in (50, 51, 52):
        part = looks(EveryNth(3), times_s[first:], 1 / rate)
        assert part == [time_s for time_s in whole if time_s > times_s[first]]


def test_frames_of_a_film_far_apart_are_all_looked_at() -> None:
    for chooser in (EveryNth(4), BySecond()):
        assert looks(chooser, [0.0, 0.5, 1.0, 4.0]) == [0.5, 1.0, 4.0]
    assert looks(EveryNth(1), [0.0, 0.001, 0.002]) == [0.001, 0.002]


@pytest.mark.parametrize("film_times", [None, (FilmTime(0.0, FRAME_S), FilmTime(FRAME_S, FRAME_S))])
@pytest.mark.parametrize("chooser", [EveryNth(12), BySecond()])
def test_what_motion_has_lost_sight_of_is_looked_at_anew(chooser, film_times) -> None:
    there = replace(at(1), film_times=film_times)
    assert not chooser.due(replace(there, unseen=lambda: MOST_UNSEEN))
    assert chooser.due(replace(there, unseen=lambda: MOST_UNSEEN + 0.01))


def test_only_where_a_picture_shows_something_can_motion_lose_sight_of_it() -> None:
    noise = np.random.default_rng(0).integers(-4, 4, (216, 384))
    luma = (texture(0, (216, 384))[..., 0] // 2 + 60 + noise).astype(np.uint8)
    luma[120:] = 90 + noise[120:]  # the road
    residual = np.zeros(luma.shape, np.float32)
    residual[130:] = UNSEEN
    warp = Warp(np.zeros((*luma.shape, 2), np.float32), residual, 0.1)
    assert unseen_share(warp, luma) == 0.0
    residual[:50] = UNSEEN
    assert unseen_share(warp, luma) == pytest.approx(50 / 216, rel=0.1)


def test_an_even_road_brings_a_drive_few_further_looks() -> None:
    items = track(
        stepped(paired(decode(probe(SAMPLE), ReadLog()))), ModelConfig(weights=WEIGHTS, every=4)
    )
    looks = [number for number, item in enumerate(items) if item.is_key]
    between = [number for number in looks[:-1] if number % 4]
    assert len(between) <= 6  # 19 if the road counted


def test_time_that_is_not_there_is_not_spent_on_what_is_unseen() -> None:
    run = Run(look_s=1.0).frames(4)
    assert not run.chooser.due(replace(at(1), unseen=lambda: 1.0))


def key_frames(frames: list[Frame], every: int) -> list[int]:
    """Numbers of the key frames but for the last, which always is one."""
    found = track(stepped(paired(iter(frames))), ModelConfig(every=every))
    return [item.frame.pts for item in found if item.is_key][:-1]


def test_fast_motion_has_more_key_frames_and_a_part_of_it_the_same() -> None:
    slow, fast = 1, 24  # columns a frame, of 384
    steps = [0, *[slow] * 23, *[fast] * 12, *[slow] * 24]
    panned = panning(steps, seed=3)
    frames = [replace(frame, film_time=FilmTime(frame.pts / 30, 1 / 30)) for frame in panned]
    found = key_frames(frames, 4)
    assert found == [*range(0, 24, 4), *range(24, 36, 2), *range(36, 60, 4)]
    for first in (9, 22, 27):
        part = key_frames(frames[first:], 4)
        assert [n for n in part if n >= first + 4] == [n for n in found if n >= first + 4]


RATES = {5: 1, 15: 1, 16: 1, 24000 / 1001: 2, 25: 2, 30000 / 1001: 2, 30: 2, 50: 4, 60: 4, 120: 9}
"""Frames from a look to the next by the second, by frame rate."""


@pytest.mark.parametrize(("rate", "every"), RATES.items())
def test_looks_by_the_second_are_at_every_nth_frame_of_an_even_film(rate, every) -> None:
    times_s = [round(number / rate, 3) for number in range(400)]
    whole = looks(BySecond(), times_s, 1 / rate)
    assert whole == times_s[every::every]
    for first in (50, 51, 53):
        part = looks(BySecond(), times_s[first:], 1 / rate)
        assert part == [time_s for time_s in whole if time_s > times_s[first]]


@pytest.mark.parametrize(("rate", "every"), RATES.items())
def test_looks_by_the_second_need_no_time_in_a_film(rate, every) -> None:
    def is_due(gap: int) -> bool:
        there = replace(at(gap, elapsed_s=gap / rate), interval_s=1 / rate)
        return BySecond().due(there)

    assert [gap for gap in range(1, every + 1) if is_due(gap)] == [every]


def test_looks_by_the_second_go_by_time_and_not_by_count_where_the_rate_changes() -> None:
    rates = [60.0] * 120 + [10.0] * 20 + [30.0] * 60  # two seconds at each
    times_s = [0.0, *np.cumsum([1 / rate for rate in rates]).tolist()]
    found = np.array(looks(BySecond(), times_s, usual_s=6 / 200))
    counts = [int(((found > start) & (found <= start + 2)).sum()) for start in (0, 2, 4)]
    assert counts[1] == 20  # all that there are
    assert all(20 <= count <= 35 for count in (counts[0], counts[2]))


def test_film_that_pauses_for_long_is_looked_at_as_often_as_ever_when_it_runs() -> None:
    times_s = [start + number / 30 for start in (0, 600) for number in range(60)]
    usual_s = times_s[-1] / len(times_s)  # what its header says of its rate
    assert len(looks(BySecond(), times_s, usual_s)) == 39  # and the first: ten a second


def test_film_of_more_frames_a_second_than_can_wait_is_looked_at_more_often() -> None:
    times_s = [number / 1000 for number in range(400)]
    assert looks(BySecond(), times_s, 1 / 1000) == times_s[MOST_BETWEEN::MOST_BETWEEN]


def test_live_views_have_key_frames_twice_as_close_where_they_are_far_apart_in_time() -> None:
    def gaps(rate: float, *, can_wait: bool) -> list[int]:
        chooser = chooser_for(ModelConfig(every=12), can_wait=can_wait)
        there = [replace(at(n, elapsed_s=n / rate), interval_s=1 / rate) for n in range(1, 13)]
        return [situation.gap for situation in there if chooser.due(situation)][:1]

    assert [gaps(rate, can_wait=True) for rate in (15, 25, 60)] == [[3], [5], [12]]
    assert [gaps(rate, can_wait=False) for rate in (15, 25, 60)] == [[1], [2], [6]]


def test_looks_come_by_the_second_where_a_later_one_can_be_waited_for() -> None:
    assert isinstance(chooser_for(ModelConfig()), BySecond)
    assert chooser_for(ModelConfig(), can_wait=False).due(at(1))
    assert not ModelConfig(steady=0).goes_by_motion  # each frame alone, as before
    assert ModelConfig(steady=0, every=2).goes_by_motion
    for given in (0, 13, "often", 2.5):
        with pytest.raises(ConfigError, match=f"--every is {given}; it must be auto"):
            ModelConfig(every=given)  # type: ignore[arg-type]


def test_frames_far_apart_in_time_are_not_bridged() -> None:
    chooser = EveryNth(4)
    assert [chooser.due(at(gap, elapsed_s=gap / 9)) for gap in (1, 2)] == [False, True]


def test_fast_machine_looks_at_every_frame() -> None:
    assert Run(look_s=0.03).frames(200).looks == list(range(200))


@pytest.mark.parametrize("look_s", [0.06, 0.1, 0.3])
def test_slow_machine_keeps_up_and_looks_as_often_as_it_can(look_s) -> None:
    run = Run(look_s=look_s).frames(200)
    assert run.late_s < look_s + FRAME_S
    possible = 200 * (FRAME_S - 0.005) / (look_s - 0.005)
    assert 0.7 * possible <= len(run.looks) <= possible + 2  # it waits for a frame to be there


def test_lost_frames_are_forgiven_as_soon_as_a_frame_is_fresh() -> None:
    now_s = 0.0
    chooser = InTime(None, clock=lambda: now_s)
    assert chooser.due(at(1, age_s=0.0))
    now_s = 3.0  # a stall: the source has dropped all frames but the newest
    assert not chooser.due(at(1, age_s=0.03))
    now_s += 0.01
    assert chooser.due(at(2, age_s=0.001))


def test_still_camera_is_hardly_looked_at() -> None:
    run = Run(look_s=0.03, need=0.0).frames(200)
    assert run.looks == list(range(0, 200, MOST_BETWEEN))


def test_great_need_is_heard_before_its_time() -> None:
    calm, urgent = (Run(look_s=0.09, need=need).frames(20).looks[1:3] for need in (0.1, 0.6))
    assert urgent < calm


def test_machine_that_never_keeps_up_still_looks_now_and_then() -> None:
    run = Run(look_s=1.0, move_s=0.1).frames(200)
    assert max(b - a for a, b in zip(run.looks, run.looks[1:], strict=False)) <= MOST_BETWEEN


def test_settings_choose_the_chooser_and_exclude_each_other() -> None:
    assert isinstance(chooser_for(ModelConfig(every=3)), EveryNth)
    assert isinstance(chooser_for(ModelConfig(fps_target=25)), InTime)
    assert isinstance(chooser_for(ModelConfig(realtime=True)), InTime)
    with pytest.raises(ConfigError, match="choose one"):
        ModelConfig(every=2, realtime=True)
    for bad in ({"every": 0}, {"every": 99}, {"steady": 1.0}, {"fps_target": 0.0}):
        with pytest.raises(ConfigError, match=f"--{next(iter(bad)).replace('_', '-')} is"):
            ModelConfig(**bad)


def test_people_weigh_more_than_road_in_the_need() -> None:
    luma = np.tile(np.array([60, 180], np.uint8), (60, 50))
    class_map = np.full((60, 100), NAMES.index("road"), np.uint8)
    class_map[20:40, 40:50] = NAMES.index("pedestrian")
    at_them, at_the_road = np.zeros((60, 100), np.float32), np.zeros((60, 100), np.float32)
    at_them[20:40, 40:50] = at_the_road[20:40, 80:90] = 50
    assert need_of(luma, at_them, class_map, NAMES) > 5 * need_of(
        luma, at_the_road, class_map, NAMES
    )
    assert need_of(luma, np.zeros_like(at_them), class_map, NAMES) == 0
    assert need_of(luma, np.full_like(at_them, UNSEEN), class_map, NAMES) == pytest.approx(1)
