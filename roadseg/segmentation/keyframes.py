"""On which frames the network looks, where it does not look at all of them.

In between, labels move along the flow. A `Chooser` is asked at every frame; the first frame of a
scene is always looked at and is not asked about. In a film, looks lie on a grid of its time, which
cuts add looks to and never shift: a part of the film is looked at where the whole is. What the
choice can go by is `need`: how much of the picture the labels' motion leaves unexplained, where
small things that move count most, since they are what moved labels lose first.
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
from roadseg.video.frame import Place

LONGEST_S = 0.35
"""Time of the film after which a near thing has moved too far to be followed."""
LOOKS_A_SECOND = 13.5
"""What a look by the second comes near to, at whole numbers of frames: 12 to 15 at usual rates."""
SHORTEST_FRAME_S = 1 / (LOOKS_A_SECOND * MOST_BETWEEN)
"""Time of a frame below which looks come more often, for no more frames wait for a look."""
LONGEST_LOOK_S = 0.1
"""Most time of the film from such a look to the next, which leaves all frames to slow films."""
SMALL_CLASSES = ("car", "pedestrian", "bicyclist")
"""Classes of things that move and can be small."""
SMALL_WEIGHT = 8.0
"""How much more a pixel of theirs counts than another."""
SMALL_MARGIN_PX = 2
"""Pixels around them that count as theirs."""
STILL_NEED = 0.01
"""Below this need the picture has not changed: the network would say the same again."""
USUAL_NEED = 0.15
"""Need from which the network may look before its time has come."""
MOST_CREDIT = 2.0
"""Frames' time that can be saved up."""
MOST_ADVANCE = 2.0
"""Frames' time that an urgent look may take in advance."""
SLACK = 0.1
"""Share of a frame's time that a frame may be late by, as the world is never quite on time."""


@dataclass(frozen=True, kw_only=True)
class Situation:
    """What is known of a frame that the network might look at."""

    gap: int
    """Frames since the last one that the network looked at, this one included."""
    elapsed_s: float
    """Time of the film since that one."""
    interval_s: float
    """Time that the source takes for a frame."""
    age_s: float
    """Time since the frame arrived, if its source is live; infinite if not."""
    need: Callable[[], float]
    """Returns the frame's need; only called where it matters."""
    places: tuple[Place, Place] | None = None
    """Where the frame before and this one lie in their film, if they are of one."""


class Chooser(Protocol):
    """Decides whether the network looks at a frame."""

    def due(self, situation: Situation) -> bool:
        """Decide."""
        ...


class EveryNth:
    """Looks at every `n`th frame, or sooner where frames are far apart in time.

    In a film, at the first frame of every `n` frames' time, counted from the film's start.
    """

    def __init__(self, n: int) -> None:
        self._n = n

    def due(self, situation: Situation) -> bool:
        """Decide by the time of the film, or by the count where there is none."""
        if self._n == 1:
            return True
        if situation.places is None:
            return situation.gap >= self._n or situation.elapsed_s >= LONGEST_S
        return _reached(situation.places, min(self._n * situation.places[1].usual_s, LONGEST_S))


class BySecond:
    """Looks about `LOOKS_A_SECOND` times a second of a video, whatever its frame rate.

    That is at every `n`th frame at an even rate, and at as many a second at an uneven one.
    """

    def due(self, situation: Situation) -> bool:
        """Decide by the time of the film, or since the last look where there is none."""
        if situation.places is None:
            step_s = self._step_s(situation.interval_s)
            return situation.elapsed_s + situation.interval_s / 2 >= step_s
        return _reached(situation.places, self._step_s(situation.places[1].usual_s))

    def _step_s(self, frame_s: float) -> float:
        """Return the time from a look to the next, given that of a frame."""
        frames = round(1 / (LOOKS_A_SECOND * max(frame_s, SHORTEST_FRAME_S)))
        return min(max(frames, 1) * frame_s, LONGEST_LOOK_S)


def _reached(places: tuple[Place, Place], step_s: float) -> bool:
    """Return whether a look of a film's grid lies behind one place and not behind the next."""
    # Files round times, and a grid through the middle of frames does not notice.
    before, here = (floor((place.since_s + place.usual_s / 2) / step_s) for place in places)
    return here > before


class InTime:
    """Looks whenever there is time, so that a slow machine keeps up and a fast one loses nothing.

    Every frame brings the time that it is to take and costs the time that passed since the one
    before, all work and waiting of the program included. While more was spent than came in, labels
    move along; where the need is great, the network looks up to `MOST_ADVANCE` frames' time early,
    and where nothing has changed it does not look.

    Args:
        interval_s: Seconds that a frame may take; None goes by the source's own clock.
        clock: Tells the time in seconds.
    """

    def __init__(
        self, interval_s: float | None, clock: Callable[[], float] = time.perf_counter
    ) -> None:
        self._interval_s = interval_s
        self._clock = clock
        self._credit_s = 0.0
        self._last_s: float | None = None

    def due(self, situation: Situation) -> bool:
        """Decide by the time that is left, and by the need."""
        frame_s = situation.interval_s if self._interval_s is None else self._interval_s
        self._settle(frame_s, situation.age_s)
        if situation.gap >= MOST_BETWEEN:
            return True
        if self._credit_s < -MOST_ADVANCE * frame_s:
            return False
        wanted = situation.need()
        early = min(max(wanted / USUAL_NEED - 1, SLACK), MOST_ADVANCE)
        return wanted > STILL_NEED and self._credit_s >= -early * frame_s

    def _settle(self, frame_s: float, age_s: float) -> None:
        """Add a frame's time to the credit and take off what has passed.

        Who has just received a frame has caught up, whatever was lost on the way.
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
        can_wait: Whether labels in between are moved from two looks. From one alone, so much is
            lost that only who asks for it gets it.
    """
    if config.realtime:
        return InTime(None)
    if config.fps_target is not None:
        return InTime(1 / config.fps_target)
    if config.every == "auto":
        return BySecond() if can_wait else EveryNth(1)
    return EveryNth(config.every)


def need_of(
    luma: Luma,
    residual: NDArray[np.float32],
    class_map: NDArray[np.uint8],
    class_names: tuple[str, ...],
) -> float:
    """Return how much a frame's labels ask for a look: 0 if its picture is wholly explained.

    The mean residual over the picture, in units of its contrast; a pixel of `SMALL_CLASSES` counts
    `SMALL_WEIGHT` times more than another, and places that have just come into view count as much
    as contrast goes.

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
