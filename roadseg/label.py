"""Label a film along its motion: steadily, and with the network looking at some of its frames.

That takes three steps, one after the other in `label`, or each a stage of a pipeline:

- `survey` finds the flow from every frame to the one before, and decides where the network looks:
  at the first frame of a scene, at key frames, and where nothing else could be moved along.
- `look` has it look. What it sees in one frame does not depend on any other, so several copies of
  the network can look at once.
- `settle` gives every frame its labels. The logits of key frames are filtered along the flow since
  the last one (`roadseg.steady`). In between, class maps are moved: from the last key frame, and
  where the reader can wait, from the next one too, each pixel from the one that explains the
  picture better there. A cut, and a jump within a scene, let go of all that was before.

A film whose frames are strangers to each other needs the network alone: `look_alone`.

Who begins in the middle of a film gives the frames of the last `warm_up_s` before it too, marked
`leads_in`: they are labelled and not given on, and those after them have the labels that they would
have had with the whole film before them.
"""

import math
import time
from collections.abc import Iterator
from dataclasses import dataclass, replace
from fractions import Fraction

import cv2
import numpy as np
from numpy.typing import NDArray

from roadseg.backends import LOGITS, Backend
from roadseg.config import ModelConfig, ModelSpec
from roadseg.frame import Frame, SegmentedFrame
from roadseg.imaging import Placement, network_size
from roadseg.keyframes import Situation, chooser_for, need_of
from roadseg.motion import (
    Luma,
    Motion,
    Passage,
    extend,
    is_cut,
    is_torn,
    move_class_map,
    single_step,
    small_luma,
    torn_cells,
)
from roadseg.steady import REFERENCE_S, Logits, SteadyFilter

NEARER_LEVELS = 2.0
"""Grey levels by which a key frame may explain a place worse for each frame that it is nearer."""
BLUR_PX = 5
"""Side of the square over which two key frames' residuals are compared."""
FORGOTTEN = 5e-4
"""Weight of the past that no labels depend on any more."""
LEAST_WARM_UP_S = 1.0
"""Longer than there is from one look to the next but one."""


@dataclass(frozen=True)
class Surveyed:
    """A frame and the way to it."""

    frame: Frame
    luma: Luma
    passage: Passage | None
    """Back to the key frame before; None begins a scene."""
    is_key: bool
    """Whether the network is to look at it."""


@dataclass(frozen=True)
class Looked:
    """A frame and, if it is a key frame, what the network sees in it."""

    surveyed: Surveyed
    spec: ModelSpec
    """The model's record, in the colours wanted."""
    placement: Placement | None = None
    """Where a key frame lies in the network's input."""
    logits: Logits | None = None
    """(C, h, w) of it, where they are to be filtered."""
    class_map: NDArray[np.uint8] | None = None
    """(H, W) of it at the frame's size, where they are not."""


@dataclass
class Known:
    """What `settle` lets `survey` know, where the two take turns."""

    key_map: NDArray[np.uint8] | None = None
    """(h, w) labels of the last key frame, at the size of its luma."""
    class_names: tuple[str, ...] = ()
    """Names of the classes by id."""


def label(
    frames: Iterator[Frame], backend: Backend, config: ModelConfig, *, can_wait: bool = True
) -> Iterator[SegmentedFrame]:
    """Yield every frame with its class map.

    Args:
        frames: Frames of one film.
        backend: Model.
        config: Settings.
        can_wait: Whether frames may be kept until a later one has its labels.
    """
    if not config.goes_by_motion:
        return look_alone(frames, backend, config)
    known = Known()
    surveyed = survey(frames, config, can_wait=can_wait, known=known)
    return settle(look(surveyed, backend, config), config, can_wait=can_wait, known=known)


def look_alone(
    frames: Iterator[Frame], backend: Backend, config: ModelConfig
) -> Iterator[SegmentedFrame]:
    """Yield every frame with the class map that the network has for it alone."""
    spec = backend.spec.recolored(config.palette)
    for frame in frames:
        placement, pictures = _placed(frame, backend, config)
        class_map = backend.run(pictures).class_map[0]
        yield SegmentedFrame(frame, placement.restore(class_map), spec)


def warm_up_s(config: ModelConfig) -> float:
    """Return how long a film must be labelled before what was earlier makes no difference."""
    if not config.goes_by_motion:
        return 0.0
    if not config.steady:
        return LEAST_WARM_UP_S
    return max(REFERENCE_S * math.log(FORGOTTEN) / math.log(config.steady), LEAST_WARM_UP_S)


def survey(
    frames: Iterator[Frame],
    config: ModelConfig,
    *,
    can_wait: bool = True,
    known: Known | None = None,
) -> Iterator[Surveyed]:
    """Yield every frame with the way to it, and with whether it is a key frame.

    Args:
        frames: Frames of one film.
        config: Settings.
        can_wait: Whether a frame may be kept until it is known if it is the last of its scene,
            which then is a key frame too.
        known: What `settle` knows by then; must be given if the choice goes by the time.
    """
    surveyor = _Surveyor(config, known or Known())
    held: Surveyed | None = None
    for frame in frames:
        item = surveyor.take(frame)
        if held:
            yield replace(held, is_key=True) if item.passage is None else held
        held = item if can_wait and not item.is_key else None
        if not held:
            yield item
    if held:
        yield replace(held, is_key=True)


def look(items: Iterator[Surveyed], backend: Backend, config: ModelConfig) -> Iterator[Looked]:
    """Yield every frame; have the network look at key frames."""
    spec = backend.spec.recolored(config.palette)
    for item in items:
        if not item.is_key:
            yield Looked(item, spec)
            continue
        placement, pictures = _placed(item.frame, backend, config)
        if config.steady:
            yield Looked(item, spec, placement, logits=backend.run(pictures, LOGITS).logits[0])
        else:
            class_map = placement.restore(backend.run(pictures).class_map[0])
            yield Looked(item, spec, placement, class_map=class_map)


def settle(
    items: Iterator[Looked],
    config: ModelConfig,
    *,
    can_wait: bool = True,
    known: Known | None = None,
) -> Iterator[SegmentedFrame]:
    """Yield every frame but those that lead in with its class map, in order.

    Args:
        items: Frames of one film, the first of them a key frame.
        config: Settings.
        can_wait: Whether frames between key frames are labelled when both of them are.
        known: Told the labels of each key frame.
    """
    settler = _Settler(config, known, can_wait=can_wait)
    for item in items:
        yield from (done for done in settler.take(item) if not done.frame.leads_in)


def _placed(
    frame: Frame, backend: Backend, config: ModelConfig
) -> tuple[Placement, NDArray[np.uint8]]:
    """Return where a frame lies in the network's input, and that input, (1, H, W, 3)."""
    frame_hw = frame.picture.size_hw
    network_hw = input_size(frame_hw, frame.pixel_aspect, backend.spec, config)
    placement = Placement.fit(frame_hw, network_hw, frame.pixel_aspect)
    return placement, placement.pad(frame.rgb(placement.content_hw))[None]


def input_size(
    frame_hw: tuple[int, int], pixel_aspect: Fraction, spec: ModelSpec, config: ModelConfig
) -> tuple[int, int]:
    """Return the network's input for a frame: the one asked for, or one of a fitting shape."""
    shown_hw = (frame_hw[0], round(frame_hw[1] * pixel_aspect))
    return config.size_hw or spec.fixed_hw or network_size(shown_hw, spec.size_hw)


class _Surveyor:
    """Finds the way to one frame after the other."""

    def __init__(self, config: ModelConfig, known: Known) -> None:
        self._known = known
        self._motion = Motion()
        self._chooser = chooser_for(config)
        self._key: Surveyed | None = None
        self._last: Surveyed | None = None
        self._gap = 0

    def take(self, frame: Frame) -> Surveyed:
        """Return a frame with the way to it."""
        luma = small_luma(frame.picture)
        passage = self._passage(frame, luma)
        self._gap += 1
        is_key = passage is None or self._is_due(frame, luma, passage)
        self._last = Surveyed(frame, luma, passage, is_key)
        if is_key:
            self._key, self._gap = self._last, 0
        return self._last

    def _passage(self, frame: Frame, luma: Luma) -> Passage | None:
        """Return the way back to the last key frame, or None where the scene is a new one."""
        key, last = self._key, self._last
        if key is None or last is None or last.frame.picture.size_hw != frame.picture.size_hw:
            return None
        flow = self._motion.between(luma, last.luma)
        torn = torn_cells(flow)
        step = single_step(luma, last.luma, flow, torn, frame.time_s - last.frame.time_s)
        if is_torn(torn) or is_cut(luma, step.unexplained):
            return None
        if last is key or last.passage is None:
            return step
        return extend(step, last.passage, luma, key.luma)

    def _is_due(self, frame: Frame, luma: Luma, passage: Passage) -> bool:
        """Decide whether the network looks at a frame."""
        assert self._last is not None
        last = self._last.frame
        lost = frame.arrival.number - last.arrival.number if frame.arrival and last.arrival else 1
        situation = Situation(
            gap=self._gap,
            elapsed_s=passage.elapsed_s,
            interval_s=(frame.time_s - last.time_s) / max(lost, 1),
            age_s=time.monotonic() - frame.arrival.time_s if frame.arrival else math.inf,
            need=lambda: self._need(luma, passage),
            places=(last.place, frame.place) if last.place and frame.place else None,
        )
        return self._chooser.due(situation)

    def _need(self, luma: Luma, passage: Passage) -> float:
        """Return how much a frame asks for a look, by the labels that would be moved to it."""
        assert self._known.key_map is not None  # `settle` has had the key frame before
        moved = move_class_map(self._known.key_map, passage.flow)
        return need_of(luma, passage.unexplained, moved, self._known.class_names)


@dataclass(frozen=True)
class _Key:
    """A key frame's labels."""

    luma: Luma
    class_map: NDArray[np.uint8]
    """(H, W) at the frame's size."""


class _Settler:
    """Labels one frame after the other."""

    def __init__(self, config: ModelConfig, known: Known | None, *, can_wait: bool) -> None:
        self._known = known
        self._can_wait = can_wait
        self._filter = SteadyFilter(config.steady)
        self._motion = Motion()
        self._key: _Key | None = None
        self._waiting: list[Surveyed] = []

    def take(self, item: Looked) -> Iterator[SegmentedFrame]:
        """Take a frame and yield those that have their labels now, in order."""
        surveyed = item.surveyed
        if item.placement is None:
            if self._can_wait:
                self._waiting.append(surveyed)
            else:
                yield self._moved(surveyed, item.spec)
            return
        before, waiting = self._key, self._waiting
        class_map = self._class_map(item, item.placement)
        self._key, self._waiting = _Key(surveyed.luma, class_map), []
        if self._known:
            self._tell(self._known, self._key, item.spec)
        if before and waiting:
            yield from self._fill(before, self._key, waiting, item.spec)
        # What the reader gets is its own from now on.
        yield SegmentedFrame(surveyed.frame, class_map.copy(), item.spec)

    def _class_map(self, item: Looked, placement: Placement) -> NDArray[np.uint8]:
        """Return a key frame's labels (H, W)."""
        if item.logits is None:
            assert item.class_map is not None
            return item.class_map
        return placement.class_map(
            self._filter.update(item.logits, placement, item.surveyed.passage)
        )

    def _tell(self, known: Known, key: _Key, spec: ModelSpec) -> None:
        """Let the survey know the key frame's labels."""
        size_wh = key.luma.shape[::-1]
        small = cv2.resize(key.class_map, size_wh, interpolation=cv2.INTER_NEAREST)
        known.key_map, known.class_names = np.asarray(small, np.uint8), spec.class_names

    def _moved(self, item: Surveyed, spec: ModelSpec) -> SegmentedFrame:
        """Label a frame by the key frame before it."""
        assert self._key is not None and item.passage is not None
        class_map = move_class_map(self._key.class_map, item.passage.flow)
        return SegmentedFrame(item.frame, class_map, spec, by_network=False)

    def _fill(
        self, before: _Key, after: _Key, waiting: list[Surveyed], spec: ModelSpec
    ) -> Iterator[SegmentedFrame]:
        """Label the frames between two key frames."""
        onward = self._onward(after.luma, waiting)
        for number, (item, passage) in enumerate(zip(waiting, onward, strict=True), 1):
            assert item.passage is not None
            nearer = (number - (len(waiting) + 1 - number)) * NEARER_LEVELS
            from_after = _blurred(passage) < _blurred(item.passage) + nearer
            class_map = move_class_map(before.class_map, item.passage.flow)
            chosen = cv2.resize(
                from_after.astype(np.uint8), class_map.shape[::-1], interpolation=cv2.INTER_NEAREST
            )
            cv2.copyTo(move_class_map(after.class_map, passage.flow), chosen, class_map)
            yield SegmentedFrame(item.frame, class_map, spec, by_network=False)

    def _onward(self, luma: Luma, waiting: list[Surveyed]) -> list[Passage]:
        """Return the ways of waiting frames to the key frame after them."""
        passages: list[Passage] = []
        following = luma
        for item in reversed(waiting):
            flow = self._motion.between(item.luma, following)
            step = single_step(item.luma, following, flow, torn_cells(flow), 0.0)
            passages.append(extend(step, passages[-1], item.luma, luma) if passages else step)
            following = item.luma
        return passages[::-1]


def _blurred(passage: Passage) -> NDArray[np.float32]:
    return np.asarray(cv2.blur(passage.unexplained, (BLUR_PX, BLUR_PX)), np.float32)
