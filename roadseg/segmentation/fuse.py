"""Fuse what the network predicts in key frames into the labels of every frame."""

from collections.abc import Callable, Iterator
from dataclasses import dataclass, replace
from functools import cached_property, partial
from typing import Any

import cv2
import numpy as np
from numpy.typing import NDArray

from roadseg.segmentation.confidence import (
    STEADY,
    Confidence,
    confidence_of,
    level_of,
    without_unsure,
)
from roadseg.segmentation.config import ModelConfig
from roadseg.segmentation.flow import Flow, Luma, Motion, compose, residual_of
from roadseg.segmentation.grid import Planes, grid_of
from roadseg.segmentation.maps import Maps
from roadseg.segmentation.placement import Placement
from roadseg.segmentation.predict import Predicted, Prediction
from roadseg.segmentation.temporal_filter import SteadyFilter, flow_on_grid
from roadseg.segmentation.track import KeyLabels, Tracked
from roadseg.spec import ModelSpec
from roadseg.video.frame import Frame, Link, SegmentedFrame, on_host

NEARER_LEVELS = 2.0
"""Handicap of the farther key frame, in grey levels a frame of difference in distance."""
ALIKE_LEVELS = 5.0
"""Difference of residuals, in grey levels, at which the better key frame has most of the weight."""
BLUR_PX = 5
"""Side of the square over which residuals are averaged before they are compared."""


@dataclass(frozen=True)
class Fused:
    """A frame and its labels on the network's grid."""

    frame: Frame
    spec: ModelSpec
    """The model's record, in the colours wanted."""
    placement: Placement
    """Where the frame lies on the grid."""
    planes: Callable[[], Planes]
    """Gives the levels (C, h, w), and one more plane for the confidence where that is wanted; not
    to be changed. Between key frames, that is the work of moving and mixing them, which needs no
    other frame's result."""
    by_network: bool = True
    """Whether the network predicted these labels; if not, they are warped from other frames."""
    link: Link | None = None
    """How it follows the frame before; None if that is not known."""

    def labels(self) -> tuple[Planes, Confidence | None]:
        """Return the levels (C, h, w), and how sure they are where that is known and wanted."""
        planes, count = self.planes(), self.spec.num_classes
        confidence = Confidence(self.placement, planes[count:]) if len(planes) > count else None
        return planes[:count], confidence

    @property
    def nbytes(self) -> int:
        """Bytes that it takes; small parts are not counted."""
        return self.frame.nbytes + (self.link.nbytes if self.link else 0)


def fuse(
    items: Iterator[Predicted], config: ModelConfig, *, can_wait: bool = True
) -> Iterator[Fused]:
    """Yield every frame with what makes its labels, in order.

    Args:
        items: Frames of one video, the first of them a key frame.
        config: Settings.
        can_wait: Whether frames between key frames may wait for the second of them.
    """
    return Fuser(config, can_wait=can_wait).fuse(items)


def enlarged(
    items: Iterator[Fused], config: ModelConfig, maps: Maps = Maps.FULL
) -> Iterator[SegmentedFrame]:
    """Yield every frame with the class maps that are wanted; no frame depends on another."""
    least = level_of(config.min_confidence)

    def at_full_size(item: Fused) -> SegmentedFrame:
        levels, confidence = item.labels()
        grid = grid_of(levels)
        at_once = Maps.SHOWN in maps and confidence is not None and least > 0

        def enlarge(placement: Placement, levels: Planes) -> Any:
            if confidence is None or not at_once:
                return grid.enlarged(placement, levels)
            return grid.enlarged_sure(placement, levels, confidence.plane, least)

        labels, coarse_map = maps.make(item.placement, enlarge, levels)
        found = SegmentedFrame(
            item.frame,
            labels,
            item.spec,
            item.by_network,
            coarse_map,
            confidence,
            link=item.link,
        )
        return found if at_once else without_unsure(found, config.min_confidence, maps)

    yield from map(at_full_size, items)


@dataclass(frozen=True)
class _Key:
    """A key frame's labels."""

    luma: Luma
    placement: Placement
    planes: Planes
    """(C, h, w) levels, and one more plane for the confidence where that is wanted."""
    class_names: tuple[str, ...]

    @cached_property
    def small(self) -> KeyLabels:
        """The labels at the size of the luma."""
        height, width = self.luma.shape
        placement = replace(self.placement, frame_hw=(height, width))
        levels = self.planes[: len(self.class_names)]
        labels = grid_of(levels).enlarged(placement, levels)
        return KeyLabels(on_host(labels), self.class_names)

    def moved(self, flow: Flow) -> Planes:
        """Return the planes warped to another frame, given its flow back to this one."""
        grid = grid_of(self.planes)
        return grid.moved(self.planes, grid.beside(self.on_grid(flow), self.planes))

    def on_grid(self, flow: Flow) -> Flow:
        """Return another frame's flow back to this one on the grid of the labels, in its cells."""
        return flow_on_grid(flow, self.placement, self._grid_hw)

    def spread(self, values: NDArray[np.float32]) -> NDArray[np.float32]:
        """Return values (h, w) of the luma's size, resized to the grid of the labels."""
        return self.placement.spread(values, self._grid_hw)

    @property
    def _grid_hw(self) -> tuple[int, int]:
        return self.planes.shape[1], self.planes.shape[2]


@dataclass(frozen=True)
class _Between:
    """A frame between two key frames."""

    before: _Key
    after: _Key
    luma: Luma
    back: Flow
    """To the key frame before."""
    forth: Flow
    """To the one after."""
    nearer: int
    """Frames by which the one after is nearer."""

    def planes(self) -> Planes:
        """Return the planes of both, moved here and mixed."""
        # Torn flow counts here too: the smaller residual is still the better fit.
        past = _blurred(residual_of(self.luma, self.before.luma, self.back))
        coming = _blurred(residual_of(self.luma, self.after.luma, self.forth))
        better = (past + self.nearer * NEARER_LEVELS - coming) / ALIKE_LEVELS
        share = self.after.spread(_logistic(better))
        back, forth = self.before.on_grid(self.back), self.after.on_grid(self.forth)
        between = grid_of(self.before.planes).between
        mixed: Planes = between(self.before.planes, back, self.after.planes, forth, share)
        return mixed


class Fuser:
    """Labels one frame after the other; the arguments are those of `fuse`."""

    def __init__(self, config: ModelConfig, *, can_wait: bool) -> None:
        self._can_wait = can_wait
        self._config = config
        self._filter = SteadyFilter(config.steady) if config.steady else None
        self._confidence_filter = SteadyFilter(STEADY) if config.steady else None
        self._motion = Motion()
        self._key: _Key | None = None
        self._waiting: list[Tracked] = []

    def key_labels(self) -> KeyLabels | None:
        """Return the labels of the last key frame, or None before the first."""
        return self._key.small if self._key else None

    def fuse(self, items: Iterator[Predicted]) -> Iterator[Fused]:
        """Yield every frame with its labels, in order."""
        for item in items:
            yield from self._take(item)
            del item

    def _take(self, item: Predicted) -> Iterator[Fused]:
        """Take a frame and yield all frames that can be labelled now, in order."""
        if item.prediction is not None:
            yield from self._take_key(item.tracked, item.prediction, item.spec)
        elif self._can_wait:
            self._waiting.append(item.tracked)
        else:
            assert self._key is not None and item.tracked.warp is not None
            planes = partial(self._key.moved, item.tracked.warp.flow)
            yield self._fused(item.tracked, planes, item.spec, by_network=False)

    def _take_key(self, item: Tracked, prediction: Prediction, spec: ModelSpec) -> Iterator[Fused]:
        before, waiting = self._key, self._waiting
        after = self._labelled(item, prediction, spec)
        self._key, self._waiting = after, []
        if before and waiting:
            yield from self._fill(before, after, waiting, spec)
        yield self._fused(item, lambda: after.planes, spec)

    def _labelled(self, item: Tracked, prediction: Prediction, spec: ModelSpec) -> _Key:
        logits, placement, warp = prediction.logits, prediction.placement, prediction.warp
        if self._filter:
            logits = self._filter.update(logits, warp)
        grid = grid_of(logits)
        planes = grid.levels_of(logits)
        if self._config.wants_confidence_of(spec):
            space = item.frame.picture.space
            confidence = confidence_of(logits, placement, item.luma, space)
            if self._confidence_filter:
                confidence = self._confidence_filter.update(confidence, warp)
            planes = grid.joined(planes, grid.rounded(confidence))
        return _Key(item.luma, placement, planes, spec.class_names)

    def _fused(
        self,
        item: Tracked,
        planes: Callable[[], Planes],
        spec: ModelSpec,
        *,
        by_network: bool = True,
    ) -> Fused:
        """Return a frame with its planes, which lies on the grid as the last key frame does."""
        assert self._key is not None
        return Fused(item.frame, spec, self._key.placement, planes, by_network, item.link)

    def _fill(
        self, before: _Key, after: _Key, waiting: list[Tracked], spec: ModelSpec
    ) -> Iterator[Fused]:
        """Label the frames between two key frames."""
        onward = self._onward(after.luma, waiting)
        for number, (item, forth) in enumerate(zip(waiting, onward, strict=True), 1):
            assert item.warp is not None
            nearer = number - (len(waiting) + 1 - number)
            between = _Between(before, after, item.luma, item.warp.flow, forth, nearer)
            yield self._fused(item, between.planes, spec, by_network=False)

    def _onward(self, luma: Luma, waiting: list[Tracked]) -> list[Flow]:
        """Return the flows from waiting frames to the key frame after them."""
        flows: list[Flow] = []
        following = luma
        for item in reversed(waiting):
            flow = self._motion.between(item.luma, following)
            flows.append(compose(flow, flows[-1]) if flows else flow)
            following = item.luma
        return flows[::-1]


def _blurred(residual: NDArray[np.float32]) -> NDArray[np.float32]:
    return np.asarray(cv2.blur(residual, (BLUR_PX, BLUR_PX)), np.float32)


def _logistic(values: NDArray[np.float32]) -> NDArray[np.float32]:
    """Return 1 / (1 + exp(-x)), in a form that cannot overflow."""
    return np.asarray((1 + np.tanh(values / 2)) / 2, np.float32)
