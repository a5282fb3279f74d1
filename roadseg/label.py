"""Label a film along its motion: steadily, and with the network looking at some of its frames.

Every frame gets flow to the one before. Where the network looks, at key frames, its logits are
filtered along the flow since the last key frame (`roadseg.steady`). In between, class maps are
moved: from the last key frame, and where the reader can wait, from the next one too, each pixel
from the one that explains the picture better there. A cut lets go of all that was before it.
"""

import math
import time
from collections.abc import Iterator
from dataclasses import dataclass
from fractions import Fraction

import cv2
import numpy as np
from numpy.typing import NDArray

from roadseg.backends import Backend
from roadseg.config import ModelConfig, ModelSpec
from roadseg.frame import Frame, SegmentedFrame
from roadseg.imaging import Placement, network_size
from roadseg.keyframes import Situation, chooser_for, need_of
from roadseg.motion import (
    Luma,
    Motion,
    Passage,
    compose,
    is_cut,
    move_class_map,
    residual,
    small_luma,
)
from roadseg.steady import SteadyFilter

NEARER_LEVELS = 2.0
"""Grey levels by which a key frame may explain a place worse for each frame that it is nearer."""
BLUR_PX = 5
"""Side of the square over which two key frames' residuals are compared."""


def label(
    frames: Iterator[Frame], backend: Backend, config: ModelConfig, *, can_wait: bool
) -> Iterator[SegmentedFrame]:
    """Yield every frame with its class map.

    Args:
        frames: Frames of one film.
        backend: Model.
        config: Settings.
        can_wait: Whether frames may be kept until a later one has its labels.
    """
    if not config.goes_by_motion:
        yield from label_each(frames, backend, config)
        return
    labeller = _Labeller(backend, config, can_wait=can_wait)
    for frame in frames:
        yield from labeller.take(frame)
    yield from labeller.finish()


def label_each(
    frames: Iterator[Frame], backend: Backend, config: ModelConfig
) -> Iterator[SegmentedFrame]:
    """Yield every frame with the class map that the network has for it alone."""
    spec = backend.spec.recolored(config.palette)
    for frame in frames:
        placement = placed(frame, backend, config)
        class_maps = backend.segment(placement.pad(frame.rgb(placement.content_hw))[None])
        yield SegmentedFrame(frame, placement.restore(class_maps[0]), spec)


def placed(frame: Frame, backend: Backend, config: ModelConfig) -> Placement:
    """Return where a frame lies in the network's input."""
    frame_hw = frame.picture.size_hw
    network_hw = input_size(frame_hw, frame.pixel_aspect, backend.spec, config)
    return Placement.fit(frame_hw, network_hw, frame.pixel_aspect)


def input_size(
    frame_hw: tuple[int, int], pixel_aspect: Fraction, spec: ModelSpec, config: ModelConfig
) -> tuple[int, int]:
    """Return the network's input for a frame: the one asked for, or one of a fitting shape."""
    shown_hw = (frame_hw[0], round(frame_hw[1] * pixel_aspect))
    return config.size_hw or spec.fixed_hw or network_size(shown_hw, spec.size_hw)


@dataclass(frozen=True)
class _Key:
    """A frame that the network has looked at."""

    frame: Frame
    luma: Luma
    class_map: NDArray[np.uint8]
    """(H, W) at the frame's size."""
    small_map: NDArray[np.uint8]
    """(h, w) at that of the luma."""


@dataclass(frozen=True)
class _Between:
    """A frame that it has not."""

    frame: Frame
    luma: Luma
    passage: Passage
    """Back to the key frame before."""


class _Labeller:
    """Labels one frame after the other.

    Args:
        backend: Model.
        config: Settings.
        can_wait: Whether frames may be kept until the next key frame.
    """

    def __init__(self, backend: Backend, config: ModelConfig, *, can_wait: bool) -> None:
        self._backend = backend
        self._config = config
        self._can_wait = can_wait
        self._spec = backend.spec.recolored(config.palette)
        self._motion = Motion()
        self._chooser = chooser_for(config)
        self._filter = SteadyFilter(config.steady)
        self._key: _Key | None = None
        self._between: list[_Between] = []

    def take(self, frame: Frame) -> Iterator[SegmentedFrame]:
        """Take a frame and yield those that have their labels now, in order."""
        luma = small_luma(frame.picture)
        passage = self._passage(frame, luma)
        if passage is None:
            yield from self.finish()
            yield self._look(frame, luma, None)
        elif self._is_due(frame, luma, passage):
            waiting, before = self._between, self._key
            item = self._look(frame, luma, passage)
            if self._can_wait and before:
                yield from self._fill(before, waiting)
            yield item
        else:
            self._between.append(_Between(frame, luma, passage))
            if not self._can_wait:
                yield self._moved(self._between[-1])

    def finish(self) -> Iterator[SegmentedFrame]:
        """Yield the frames that wait when no key frame follows: the last one becomes one."""
        if not (self._can_wait and self._between and self._key):
            return
        before, (*waiting, last) = self._key, self._between
        item = self._look(last.frame, last.luma, last.passage)
        yield from self._fill(before, waiting)
        yield item

    def _passage(self, frame: Frame, luma: Luma) -> Passage | None:
        """Return the way back to the last key frame, or None where the scene is a new one."""
        key = self._key
        if key is None or key.frame.picture.size_hw != frame.picture.size_hw:
            return None
        last = self._between[-1] if self._between else key
        step = self._motion.between(luma, last.luma)
        unexplained = residual(luma, last.luma, step)
        if is_cut(luma, unexplained):
            return None
        elapsed_s = frame.time_s - key.frame.time_s
        if isinstance(last, _Between):
            step = compose(step, last.passage.flow)
            unexplained = residual(luma, key.luma, step)
        return Passage(step, unexplained, elapsed_s)

    def _is_due(self, frame: Frame, luma: Luma, passage: Passage) -> bool:
        """Decide whether the network looks at a frame."""
        assert self._key is not None
        key, last = self._key, self._between[-1].frame if self._between else self._key.frame
        lost = frame.arrival.number - last.arrival.number if frame.arrival and last.arrival else 1
        situation = Situation(
            gap=len(self._between) + 1,
            elapsed_s=passage.elapsed_s,
            interval_s=(frame.time_s - last.time_s) / max(lost, 1),
            age_s=time.monotonic() - frame.arrival.time_s if frame.arrival else math.inf,
            need=lambda: need_of(
                luma,
                passage.unexplained,
                move_class_map(key.small_map, passage.flow),
                self._spec.class_names,
            ),
        )
        return self._chooser.due(situation)

    def _look(self, frame: Frame, luma: Luma, passage: Passage | None) -> SegmentedFrame:
        """Make a frame the key frame."""
        placement = placed(frame, self._backend, self._config)
        pictures = placement.pad(frame.rgb(placement.content_hw))[None]
        if self._config.steady:
            _, logits = self._backend.segment_with_logits(pictures)
            class_map = placement.class_map(self._filter.update(logits[0], placement, passage))
        else:
            class_map = placement.restore(self._backend.segment(pictures)[0])
        small = cv2.resize(class_map, luma.shape[::-1], interpolation=cv2.INTER_NEAREST)
        self._key = _Key(frame, luma, class_map, np.asarray(small, np.uint8))
        self._between = []
        return SegmentedFrame(frame, class_map.copy(), self._spec)  # it is the reader's from now on

    def _moved(self, between: _Between) -> SegmentedFrame:
        """Label a frame by the key frame before it."""
        assert self._key is not None
        class_map = move_class_map(self._key.class_map, between.passage.flow)
        return SegmentedFrame(between.frame, class_map, self._spec, by_network=False)

    def _fill(self, before: _Key, waiting: list[_Between]) -> Iterator[SegmentedFrame]:
        """Label the frames between two key frames, the later of which is the present one."""
        after = self._key
        assert after is not None
        onward = self._onward(after.luma, waiting)
        for number, (between, passage) in enumerate(zip(waiting, onward, strict=True), 1):
            nearer = (number - (len(waiting) + 1 - number)) * NEARER_LEVELS
            class_map = move_class_map(before.class_map, between.passage.flow)
            from_after = _blurred(passage) < _blurred(between.passage) + nearer
            chosen = cv2.resize(
                from_after.astype(np.uint8), class_map.shape[::-1], interpolation=cv2.INTER_NEAREST
            )
            cv2.copyTo(move_class_map(after.class_map, passage.flow), chosen, class_map)
            yield SegmentedFrame(between.frame, class_map, self._spec, by_network=False)

    def _onward(self, luma: Luma, waiting: list[_Between]) -> list[Passage]:
        """Return the ways of waiting frames to the key frame after them."""
        passages: list[Passage] = []
        following = luma
        for between in reversed(waiting):
            flow = self._motion.between(between.luma, following)
            if passages:
                flow = compose(flow, passages[-1].flow)
            passages.append(Passage(flow, residual(between.luma, luma, flow), 0.0))
            following = between.luma
        return passages[::-1]


def _blurred(passage: Passage) -> NDArray[np.float32]:
    return np.asarray(cv2.blur(passage.unexplained, (BLUR_PX, BLUR_PX)), np.float32)
