"""Track the motion since the last key frame, and choose the key frames.

The flow back to the frame before goes along with each frame, for whoever follows something later.
"""

import math
import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass, replace

import numpy as np
from numpy.typing import NDArray

from roadseg.segmentation.config import ModelConfig
from roadseg.segmentation.flow import Luma, Warp, extend, move_class_map, unseen_share
from roadseg.segmentation.keyframes import Chooser, Situation, chooser_for, need_of
from roadseg.segmentation.neighbours import Stepped
from roadseg.video.frame import Frame, Link


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
