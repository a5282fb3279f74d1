"""Track the motion from frame to frame, and choose the key frames.

That takes three steps. `paired` puts the small luma of the frame before beside each frame's, so
that `stepped` needs no other frame to find the motion between the two: several threads share that
search. `track` joins these steps into the motion since the last key frame, one after the other.

The flow back to the frame before goes along with each frame, for whoever follows something later.
"""

import math
import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass, replace

import numpy as np
from numpy.typing import NDArray

from roadseg.segmentation.config import ModelConfig
from roadseg.segmentation.flow import (
    Flow,
    Luma,
    Motion,
    Warp,
    extend,
    move_class_map,
    unseen_share,
)
from roadseg.segmentation.keyframes import Chooser, Situation, chooser_for, need_of
from roadseg.video.frame import Frame, Link, SegmentedFrame


@dataclass(frozen=True)
class Paired:
    """A frame beside the one before it."""

    frame: Frame
    luma: Luma
    before: Luma | None
    """That of the frame before; None where that is of another size, or there is none."""
    elapsed_s: float
    """Time between the two."""

    @property
    def nbytes(self) -> int:
        """Bytes that it takes; small parts are not counted."""
        return self.frame.nbytes


@dataclass(frozen=True)
class Stepped:
    """A frame and its motion since the one before it."""

    frame: Frame
    luma: Luma
    step: Warp | None
    """Back to the frame before; None at the beginning of a scene."""

    @property
    def nbytes(self) -> int:
        """Bytes that it takes; small parts are not counted."""
        return self.frame.nbytes + (self.step.flow.nbytes if self.step else 0)


@dataclass(frozen=True)
class Tracked:
    """A frame and its motion since the last key frame."""

    frame: Frame
    luma: Luma
    warp: Warp | None
    """Back to the last key frame; None at the beginning of a scene."""
    is_key: bool
    """Whether the network predicts it."""
    link: Link
    """How it follows the frame before."""

    @property
    def nbytes(self) -> int:
        """Bytes that it takes; small parts are not counted."""
        return self.frame.nbytes + self.link.nbytes


@dataclass(frozen=True)
class KeyLabels:
    """Labels of a key frame at the size of its small luma."""

    class_map: NDArray[np.uint8]
    """(h, w) ids."""
    class_names: tuple[str, ...]
    """Names of the classes by id."""


def paired(frames: Iterator[Frame]) -> Iterator[Paired]:
    """Yield every frame of one video beside the one before it."""
    pairing = _Pairing()
    yield from map(pairing.take, frames)


def stepped(pairs: Iterator[Paired]) -> Iterator[Stepped]:
    """Yield every frame with the motion since the one before it; no pair depends on another."""
    motion = Motion()

    def step(pair: Paired) -> Stepped:
        if pair.before is None:
            return Stepped(pair.frame, pair.luma, None)
        return Stepped(pair.frame, pair.luma, motion.step(pair.luma, pair.before, pair.elapsed_s))

    yield from map(step, pairs)


def track(
    items: Iterator[Stepped],
    config: ModelConfig,
    *,
    can_wait: bool = True,
    key_labels: Callable[[], KeyLabels | None] = lambda: None,
) -> Iterator[Tracked]:
    """Yield every frame with its warp, and with whether it is a key frame.

    Args:
        items: Frames of one video.
        config: Settings.
        can_wait: Whether a frame may be held until the next one shows if it is the last of its
            scene, which is a key frame too.
        key_labels: Returns the labels of the last key frame, if it is fused by then. Only a choice
            by time calls it.
    """
    tracker = _Tracker(chooser_for(config, can_wait=can_wait), key_labels)
    held: Tracked | None = None
    for tracked in map(tracker.take, items):
        if held:
            yield replace(held, is_key=True) if tracked.warp is None else held
        held = tracked if can_wait and not tracked.is_key else None
        if not held:
            yield tracked
    if held:
        yield replace(held, is_key=True)


class Follower:
    """Finds the flow from each labelled frame to the one before, where it does not bring its link.

    One video's frames either all bring theirs or none does.
    """

    def __init__(self) -> None:
        self._motion = Motion()
        self._last: Luma | None = None

    def flow(self, item: SegmentedFrame) -> Flow | None:
        """Return the flow back to the frame before; None where no way leads there."""
        if item.link:
            return item.link.flow
        luma = item.frame.picture.small_luma()
        last, self._last = self._last, luma
        if last is None or last.shape != luma.shape:
            return None
        step = self._motion.step(luma, last, 0.0)
        return step.flow if step else None


class _Pairing:
    """Keeps what the next frame is paired with, and no picture."""

    def __init__(self) -> None:
        self._luma: Luma | None = None
        self._size_hw = (0, 0)
        self._time_s = 0.0

    def take(self, frame: Frame) -> Paired:
        """Return a frame beside the one of the last call."""
        luma = frame.picture.small_luma()
        before = self._luma if frame.picture.size_hw == self._size_hw else None
        pair = Paired(frame, luma, before, frame.time_s - self._time_s)
        self._luma, self._size_hw, self._time_s = luma, frame.picture.size_hw, frame.time_s
        return pair


class _Tracker:
    """Tracks one frame after the other."""

    def __init__(self, chooser: Chooser, key_labels: Callable[[], KeyLabels | None]) -> None:
        self._chooser = chooser
        self._key_labels = key_labels
        self._key_luma: Luma | None = None
        self._last: Tracked | None = None
        self._gap = 0

    def take(self, item: Stepped) -> Tracked:
        """Return a frame with its warp."""
        frame, luma, step = item.frame, item.luma, item.step
        warp = self._warp(step, luma)
        self._gap += 1
        is_key = warp is None or self._is_due(frame, luma, warp)
        self._last = Tracked(frame, luma, warp, is_key, Link(step.flow if step else None))
        if is_key:
            self._key_luma, self._gap = luma, 0
        return self._last

    def _warp(self, step: Warp | None, luma: Luma) -> Warp | None:
        """Return the warp back to the last key frame, given that to the frame before."""
        last, key_luma = self._last, self._key_luma
        if step is None or last is None or last.is_key or last.warp is None or key_luma is None:
            return step
        return extend(step, last.warp, luma, key_luma)

    def _is_due(self, frame: Frame, luma: Luma, warp: Warp) -> bool:
        """Decide whether a frame is a key frame."""
        assert self._last is not None
        last = self._last.frame
        lost = frame.arrival.number - last.arrival.number if frame.arrival and last.arrival else 1
        situation = Situation(
            gap=self._gap,
            elapsed_s=warp.elapsed_s,
            interval_s=(frame.time_s - last.time_s) / max(lost, 1),
            age_s=time.monotonic() - frame.arrival.time_s if frame.arrival else math.inf,
            need=lambda: self._need(luma, warp),
            unseen=lambda: unseen_share(warp, luma),
            film_times=(last.film_time, frame.film_time)
            if last.film_time and frame.film_time
            else None,
        )
        return self._chooser.due(situation)

    def _need(self, luma: Luma, warp: Warp) -> float:
        """Return the frame's need, given the labels that would be warped to it."""
        labels = self._key_labels()
        if labels is None:
            return math.inf
        moved = move_class_map(labels.class_map, warp.flow)
        return need_of(luma, warp.residual, moved, labels.class_names)
