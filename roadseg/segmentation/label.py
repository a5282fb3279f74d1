"""Label a film along its motion: steadily, and with the network looking at some of its frames.

That takes four steps, one after the other in `label`, or each a stage of a pipeline:

- `survey` finds the flow from every frame to the one before, and decides where the network looks:
  at the first frame of a scene, at key frames, and where nothing else could be moved along.
- `look` has it look. What it sees in one frame does not depend on any other, so several copies of
  the network can look at once.
- `settle` gives every frame its labels, on the network's grid. The logits of key frames are
  filtered along the flow since the last one (`roadseg.steady`). In between, labels are moved: from
  the last key frame, and where the reader can wait, from the next one too, each cell from the one
  that explains the picture better there. A cut, and a jump within a scene, let go of all that was
  before.
- `enlarged` brings them to the frame's size. That is most of the work, and no frame depends on
  another, so several threads can share it.

A film whose frames are strangers to each other needs the network alone: `look_alone`.

Who begins in the middle of a film gives the frames of the last `warm_up_s` before it too, marked
`leads_in`: they are labelled and not given on, and those after them have the labels that they would
have had with the whole film before them.
"""

import math
import time
from collections.abc import Iterator
from dataclasses import dataclass, replace

import cv2
import numpy as np
from numpy.typing import NDArray

from roadseg.backends.runtimes import LOGITS, Backend
from roadseg.segmentation.config import ModelConfig
from roadseg.segmentation.enlarge import Levels, levels_of
from roadseg.segmentation.flow import (
    Flow,
    Luma,
    Motion,
    Passage,
    compose,
    extend,
    is_cut,
    is_torn,
    move_class_map,
    move_planes,
    residual,
    single_step,
    torn_cells,
)
from roadseg.segmentation.keyframes import Situation, chooser_for, need_of
from roadseg.segmentation.placement import Placement, placed
from roadseg.segmentation.temporal_filter import REFERENCE_S, Logits, SteadyFilter, flow_on_grid
from roadseg.spec import ModelSpec
from roadseg.video.frame import Frame, SegmentedFrame

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
    seen: "Seen | None" = None
    """None between key frames."""


@dataclass(frozen=True)
class Seen:
    """What the network sees in a frame."""

    placement: Placement
    """Where the frame lies in the network's input."""
    logits: Logits
    """(C, h, w)."""


@dataclass(frozen=True)
class Settled:
    """A frame and its labels on the network's grid, at which all that is sequential is done."""

    frame: Frame
    spec: ModelSpec
    """The model's record, in the colours wanted."""
    placement: Placement
    """Where the frame lies on the grid."""
    levels: Levels
    """(C, h, w), not to be changed."""
    by_network: bool = True
    """Whether the network looked at this frame, or its labels were moved here from others."""


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
    return enlarged(label_on_grid(frames, backend, config, can_wait=can_wait))


def label_on_grid(
    frames: Iterator[Frame], backend: Backend, config: ModelConfig, *, can_wait: bool = True
) -> Iterator[Settled]:
    """Yield every frame with its labels on the network's grid, as `label` does at full size."""
    known = Known()
    surveyed = survey(frames, config, can_wait=can_wait, known=known)
    return settle(look(surveyed, backend, config), config, can_wait=can_wait, known=known)


def look_alone(
    frames: Iterator[Frame], backend: Backend, config: ModelConfig
) -> Iterator[SegmentedFrame]:
    """Yield every frame with the class map that the network has for it alone."""
    spec = backend.spec.recolored(config.palette)
    for frame in frames:
        placement, pictures = placed(frame, backend.spec, config.size_hw)
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
        placement, pictures = placed(item.frame, backend.spec, config.size_hw)
        yield Looked(item, spec, Seen(placement, backend.run(pictures, LOGITS).logits[0]))


def settle(
    items: Iterator[Looked],
    config: ModelConfig,
    *,
    can_wait: bool = True,
    known: Known | None = None,
) -> Iterator[Settled]:
    """Yield every frame but those that lead in with its labels, in order.

    Args:
        items: Frames of one film, the first of them a key frame.
        config: Settings.
        can_wait: Whether frames between key frames are labelled when both of them are.
        known: Told the labels of each key frame.
    """
    settler = _Settler(config, known, can_wait=can_wait)
    for item in items:
        yield from (done for done in settler.take(item) if not done.frame.leads_in)


def enlarged(items: Iterator[Settled]) -> Iterator[SegmentedFrame]:
    """Yield every frame with its class map at its own size; no frame depends on another."""
    for item in items:
        class_map = item.placement.enlarge(item.levels)
        yield SegmentedFrame(item.frame, class_map, item.spec, by_network=item.by_network)


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
        luma = frame.picture.small_luma()
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
    placement: Placement
    levels: Levels

    @property
    def small_map(self) -> NDArray[np.uint8]:
        """Class map (h, w) at the size of the luma."""
        height, width = self.luma.shape
        return replace(self.placement, frame_hw=(height, width)).enlarge(self.levels)

    def moved(self, flow: Flow) -> Levels:
        """Return the labels where things are in another frame, given its flow back to this one."""
        grid_hw = self.levels.shape[1], self.levels.shape[2]
        return move_planes(self.levels, flow_on_grid(flow, self.placement, grid_hw))


class _Settler:
    """Labels one frame after the other."""

    def __init__(self, config: ModelConfig, known: Known | None, *, can_wait: bool) -> None:
        self._known = known
        self._can_wait = can_wait
        self._filter = SteadyFilter(config.steady) if config.steady else None
        self._motion = Motion()
        self._key: _Key | None = None
        self._waiting: list[Surveyed] = []

    def take(self, item: Looked) -> Iterator[Settled]:
        """Take a frame and yield those that have their labels now, in order."""
        if item.seen is not None:
            yield from self._take_key(item.surveyed, item.seen, item.spec)
        elif self._can_wait:
            self._waiting.append(item.surveyed)
        else:
            assert self._key is not None and item.surveyed.passage is not None
            levels = self._key.moved(item.surveyed.passage.flow)
            yield self._between(item.surveyed, levels, item.spec)

    def _take_key(self, item: Surveyed, seen: Seen, spec: ModelSpec) -> Iterator[Settled]:
        before, waiting = self._key, self._waiting
        self._key, self._waiting = self._labelled(item, seen), []
        if self._known:
            self._known.key_map, self._known.class_names = self._key.small_map, spec.class_names
        if before and waiting:
            yield from self._fill(before, self._key, waiting, spec)
        yield Settled(item.frame, spec, seen.placement, self._key.levels)

    def _labelled(self, item: Surveyed, seen: Seen) -> _Key:
        logits = seen.logits
        if self._filter:
            logits = self._filter.update(logits, seen.placement, item.passage)
        return _Key(item.luma, seen.placement, levels_of(logits))

    def _between(self, item: Surveyed, levels: Levels, spec: ModelSpec) -> Settled:
        """Return a frame between key frames, which lies on the grid as they do."""
        assert self._key is not None
        return Settled(item.frame, spec, self._key.placement, levels, by_network=False)

    def _fill(
        self, before: _Key, after: _Key, waiting: list[Surveyed], spec: ModelSpec
    ) -> Iterator[Settled]:
        """Label the frames between two key frames."""
        onward = self._onward(after.luma, waiting)
        for number, (item, forth) in enumerate(zip(waiting, onward, strict=True), 1):
            assert item.passage is not None
            nearer = (number - (len(waiting) + 1 - number)) * NEARER_LEVELS
            # Where both ways are torn, brightness alone still tells which one fits better.
            past = _blurred(residual(item.luma, before.luma, item.passage.flow))
            from_after = _blurred(residual(item.luma, after.luma, forth)) < past + nearer
            levels = before.moved(item.passage.flow)
            grid_hw = levels.shape[1], levels.shape[2]
            chosen = after.placement.spread(from_after.astype(np.float32), grid_hw) > 0.5
            np.copyto(levels, after.moved(forth), where=chosen)
            yield self._between(item, levels, spec)

    def _onward(self, luma: Luma, waiting: list[Surveyed]) -> list[Flow]:
        """Return the flows from waiting frames to the key frame after them."""
        flows: list[Flow] = []
        following = luma
        for item in reversed(waiting):
            flow = self._motion.between(item.luma, following)
            flows.append(compose(flow, flows[-1]) if flows else flow)
            following = item.luma
        return flows[::-1]


def _blurred(unexplained: NDArray[np.float32]) -> NDArray[np.float32]:
    return np.asarray(cv2.blur(unexplained, (BLUR_PX, BLUR_PX)), np.float32)
