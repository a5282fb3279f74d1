"""Choose the key frames: those that the network predicts, where it does not predict all of them.

Between key frames, labels move along the flow. A `Chooser` decides on every frame but the first of
a scene, which is always a key frame. In a video file, key frames lie on a grid of its time. A cut,
and motion that has lost sight of too much since the last key frame, add one and do not shift the
grid, so a part of a video has the key frames that the whole has.

A choice by time also weighs the frame's `need`: the residual of the motion along which its labels
would be moved. Small moving objects weigh most, as moved labels lose them first.
"""

import time
from collections.abc import Callable
from dataclasses import dataclass
from math import floor
from typing import Protocol

import cv2
import numpy as np
from numpy.typing import NDArray

from roadseg.segmentation.config import MOST_BETWEEN, ModelConfig
from roadseg.segmentation.flow import UNSEEN, Luma, contrast
from roadseg.video.frame import FilmTime

LONGEST_S = 0.2
"""Longest time between key frames: over more, labels that are moved lose what steadiness gains."""
KEY_FRAMES_A_SECOND = 13.5
"""Rate of key frames by the second, rounded to whole frames: 12 to 15 at usual frame rates."""
SHORTEST_FRAME_S = 1 / (KEY_FRAMES_A_SECOND * MOST_BETWEEN)
"""Interval of frames below which key frames come more often, as at most `MOST_BETWEEN` can wait."""
LONGEST_STEP_S = 0.1
"""Longest time between such key frames, and between any key frames where labels are moved from the
one before only. In videos of few frames a second, every frame is a key frame."""
MOST_UNSEEN = 0.08
"""Share of the picture that shows something and has no way back to the last key frame, above which
there is a new one.

Drives stay below it for a fifth of a second and more; fast turns and shaking do not.
"""
SMALL_CLASSES = ("car", "pedestrian", "bicyclist")
"""Classes of small moving objects."""
SMALL_WEIGHT = 8.0
"""Weight of one of their pixels, relative to any other."""
SMALL_MARGIN_PX = 2
"""Width of the margin around them that has their weight."""
STILL_NEED = 0.01
"""Below this need the picture has not changed, and neither would the prediction."""
USUAL_NEED = 0.15
"""Need above which a prediction may be made ahead of its time."""
MOST_CREDIT = 2.0
"""Most time that can be saved, in frames."""
MOST_ADVANCE = 2.0
"""Most time that an urgent prediction may borrow, in frames."""
SLACK = 0.1
"""Share of a frame's time by which a frame may be late without being skipped."""


@dataclass(frozen=True, kw_only=True)
class Situation:
    """What is known of a frame before it is chosen as a key frame or not."""

    gap: int
    """Frames since the last key frame, this one included."""
    elapsed_s: float
    """Time in the video since that one."""
    interval_s: float
    """Time between two frames of the source."""
    age_s: float
    """Time since the frame arrived; infinite if its source is not live."""
    need: Callable[[], float]
    """Computes the frame's need; only called where the choice depends on it."""
    unseen: Callable[[], float] = lambda: 0.0
    """Computes the share of the picture, 0..1, that shows something and that no motion links to the
    last key frame."""
    film_times: tuple[FilmTime, FilmTime] | None = None
    """Times of the last frame and of this one in their video file; None without one."""

    @property
    def has_lost_sight(self) -> bool:
        """Whether too much of the picture is not linked to the last key frame."""
        return self.unseen() > MOST_UNSEEN


class Chooser(Protocol):
    """Decides whether a frame is a key frame."""

    def due(self, situation: Situation) -> bool:
        """Return whether it is one."""
        ...


class EveryNth:
    """Chooses every `n`th frame, or more of them where frames are far apart in time or in motion.

    In a video file: the first frame in each period of `n` frames, counted from the video's start.

    Args:
        n: Frames from a key frame to the next.
        longest_s: Longest time between them.
    """

    def __init__(self, n: int, longest_s: float = LONGEST_S) -> None:
        self._n = n
        self._longest_s = longest_s

    def due(self, situation: Situation) -> bool:
        """Decide by the times in the video file, or else by the count."""
        if self._n == 1 or situation.has_lost_sight:
            return True
        if situation.film_times is None:
            late_s = situation.elapsed_s + situation.interval_s * 3 / 4  # of the next frame, nearly
            return situation.gap >= self._n or late_s >= self._longest_s
        step_s = min(self._n * situation.film_times[1].usual_s, self._longest_s)
        return _reached(situation.film_times, step_s)


class BySecond:
    """Chooses about `KEY_FRAMES_A_SECOND` key frames a second of a video, whatever its frame rate.

    That is every `n`th frame at an even rate, and as many a second at an uneven one; and more of
    them where the motion leads far.
    """

    def due(self, situation: Situation) -> bool:
        """Decide by the time in the video, or the time since the last key frame if live."""
        if situation.has_lost_sight:
            return True
        if situation.film_times is None:
            step_s = self._step_s(situation.interval_s)
            return situation.elapsed_s + situation.interval_s / 2 >= step_s
        return _reached(situation.film_times, self._step_s(situation.film_times[1].usual_s))

    def _step_s(self, frame_s: float) -> float:
        """Return the time from a key frame to the next, given that of a frame."""
        frames = round(1 / (KEY_FRAMES_A_SECOND * max(frame_s, SHORTEST_FRAME_S)))
        return min(max(frames, 1) * frame_s, LONGEST_STEP_S)


def longest_step_s(config: ModelConfig) -> float:
    """Return the longest time from a key frame of a video file to the next."""
    by_second = config.every == "auto" and not config.goes_by_time
    return LONGEST_STEP_S if by_second else LONGEST_S


def _reached(film_times: tuple[FilmTime, FilmTime], step_s: float) -> bool:
    """Return whether a key frame of the grid lies between two times of a video."""
    # Half a frame is added because files round their times.
    before, here = (floor((at.since_s + at.usual_s / 2) / step_s) for at in film_times)
    return here > before


class InTime:
    """Chooses a frame whenever there is time for a prediction, and so keeps to a frame rate.

    A credit of time grows by one interval with every frame, and falls by the time that has passed
    since the frame before, whatever the program spent it on. While the credit is negative, labels
    move along; a great need may borrow up to `MOST_ADVANCE` intervals, and a frame that has not
    changed is left out. No two key frames are more than `MOST_BETWEEN` frames apart.

    Args:
        interval_s: Seconds a frame; None takes the source's own interval.
        clock: Returns the time in seconds.
    """

    def __init__(
        self, interval_s: float | None, clock: Callable[[], float] = time.perf_counter
    ) -> None:
        self._interval_s = interval_s
        self._clock = clock
        self._credit_s = 0.0
        self._last_s: float | None = None

    def due(self, situation: Situation) -> bool:
        """Decide by the credit and the need."""
        frame_s = situation.interval_s if self._interval_s is None else self._interval_s
        self._update_credit(frame_s, situation.age_s)
        if situation.gap >= MOST_BETWEEN:
            return True
        if self._credit_s < -MOST_ADVANCE * frame_s:
            return False
        wanted = situation.need()
        early = min(max(wanted / USUAL_NEED - 1, SLACK), MOST_ADVANCE)
        return wanted > STILL_NEED and self._credit_s >= -early * frame_s

    def _update_credit(self, frame_s: float, age_s: float) -> None:
        """Add a frame's interval to the credit and subtract the time that has passed.

        The debt is never longer than the frame's age: with a new frame, a live view has caught up.
        """
        now_s = self._clock()
        if self._last_s is not None:
            credit_s = self._credit_s + frame_s - (now_s - self._last_s)
            least_s = max(-age_s, -MOST_BETWEEN * frame_s)
            self._credit_s = min(max(credit_s, least_s), MOST_CREDIT * frame_s)
        self._last_s = now_s


def chooser_for(config: ModelConfig, *, can_wait: bool = True) -> Chooser:
    """Return the chooser that the settings ask for.

    Args:
        config: Settings.
        can_wait: Whether frames can wait for the next key frame. Where they cannot, labels move
            from the one before alone, which loses too much to be done unasked.
    """
    if config.realtime:
        return InTime(None)
    if config.fps_target is not None:
        return InTime(1 / config.fps_target)
    if config.every == "auto":
        return BySecond() if can_wait else EveryNth(1)
    return EveryNth(config.every, LONGEST_S if can_wait else LONGEST_STEP_S)


def need_of(
    luma: Luma,
    residual: NDArray[np.float32],
    class_map: NDArray[np.uint8],
    class_names: tuple[str, ...],
) -> float:
    """Return how much a frame needs a prediction, 0..1; 0 if the motion explains its picture.

    The need is the mean residual over the picture, in units of its contrast. A pixel of
    `SMALL_CLASSES` weighs `SMALL_WEIGHT`, any other 1; where the residual is not known, it is 1.

    Args:
        luma: The frame.
        residual: Its residual (h, w).
        class_map: Its labels (h, w), moved along.
        class_names: Names of the classes by id.
    """
    scale = contrast(luma)
    size = 2 * SMALL_MARGIN_PX + 1
    ids = [i for i, name in enumerate(class_names) if name in SMALL_CLASSES]
    member = np.isin(class_map, ids).astype(np.uint8)
    weights = 1 + (SMALL_WEIGHT - 1) * cv2.dilate(member, np.ones((size, size), np.uint8))
    change = np.where(residual < UNSEEN, np.minimum(residual / scale, 1), 1)
    return float((weights * change).sum() / weights.sum())
