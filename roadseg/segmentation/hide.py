"""Find what may be a person, a car or a sign, and keep it hidden along the motion.

A label says what is likely; this is about what cannot be ruled out. Where the probability of what
is to be hidden is not small, in any one frame, the place is hidden, with a margin. It stays hidden
for a while and was so a little before, moving along the flow: a frame in which the network misses
what it saw in another shows nothing. Where the flow is torn, nobody knows where things went: there
places stay hidden as they are, too.

What lies further away in time than `Redaction.hold_s` makes no difference to a frame. So a part of
a video is hidden as the whole is, if as much is read before it.
"""

import math
from collections import deque
from collections.abc import Iterator
from dataclasses import dataclass, replace
from itertools import pairwise

import cv2
import numpy as np
from numpy.typing import NDArray

from roadseg.backends.runtimes import LOGITS, Backend
from roadseg.paint.config import Redaction
from roadseg.segmentation.config import ModelConfig
from roadseg.segmentation.flow import Flow, Luma, Motion, fetch, is_torn, torn_cells, torn_pixels
from roadseg.segmentation.grid import grid_of
from roadseg.segmentation.placement import Placement, placed
from roadseg.spec import IGNORE_INDEX, ModelSpec
from roadseg.video.frame import Frame, SegmentedFrame

HIDDEN, NAME = 0, "hidden"
"""Id of what is hidden in the class maps that come of this, and its name."""
AHEAD = 0.5
"""How much of `Redaction.hold_s` a place is hidden before it is found."""
LEAD = 2.0
"""How many times `Redaction.hold_s` is read before a part of a video to hide it as in the whole."""

Mask = NDArray[np.bool_]


@dataclass(frozen=True)
class Suspected:
    """A frame and where something may be that is to be hidden."""

    frame: Frame
    spec: ModelSpec
    """The model's record, with `NAME` for its one class."""
    luma: Luma
    """(h, w), small."""
    mask: Mask
    """(h, w), with the margin."""


def suspect(
    frames: Iterator[Frame], backend: Backend, config: ModelConfig, *, redaction: Redaction
) -> Iterator[Suspected]:
    """Yield every frame with where it may show what is to be hidden; the network sees each.

    Raises:
        ConfigError: The model does not know something that is to be hidden.
    """
    ids = list(redaction.hidden_ids(backend.spec.class_names))
    least = math.inf if backend.spec.gives_ids else redaction.probability
    spec = replace(backend.spec, class_names=(NAME,), palette=((0, 0, 0),))

    def suspected(frame: Frame) -> Suspected:
        placement, pictures = placed(frame, backend.spec, config.size_hw)
        logits = backend.run(pictures, LOGITS).logits[0]
        found = not_ruled_out(grid_of(logits).on_host(logits), ids, least)
        luma = frame.picture.small_luma()
        mask = _on_picture(found, placement, (luma.shape[0], luma.shape[1]))
        return Suspected(frame, spec, luma, _grown(mask, redaction.margin))

    yield from map(suspected, frames)


def not_ruled_out(logits: NDArray[np.float32], ids: list[int], probability: float) -> Mask:
    """Return where (h, w) the classes of these ids may be, given logits (C, h, w).

    That is where they are likelier than `probability` together, or the likeliest. What is no number
    rules nothing out.
    """
    likelihood = np.exp(logits - logits.max(axis=0))
    share = likelihood[ids].sum(axis=0) / likelihood.sum(axis=0)
    return np.asarray(~(share < probability) | np.isin(logits.argmax(axis=0), ids), np.bool_)


def hold(items: Iterator[Suspected], *, redaction: Redaction) -> Iterator[Suspected]:
    """Yield every frame with all that is hidden in it, on account of those around it too."""
    holder = _Holder(redaction.hold_s)
    for item in items:
        yield from holder.take(item)
    yield from holder.rest()


def covered(items: Iterator[Suspected]) -> Iterator[SegmentedFrame]:
    """Yield every frame with a class map of what is hidden; no frame depends on another."""
    yield from map(_covered, items)


def _covered(item: Suspected) -> SegmentedFrame:
    levels = item.mask.astype(np.uint8) * 255
    size_wh = item.frame.picture.size_hw[::-1]
    hidden = cv2.resize(levels, size_wh, interpolation=cv2.INTER_LINEAR) > 0
    class_map = np.where(hidden, np.uint8(HIDDEN), np.uint8(IGNORE_INDEX))
    return SegmentedFrame(item.frame, class_map, item.spec)


@dataclass(frozen=True)
class _Way:
    """The way from one frame to its neighbour."""

    flow: Flow
    torn: Mask
    """(h, w), where it is not known."""

    @classmethod
    def between(cls, motion: Motion, luma: Luma, other: Luma) -> "_Way":
        """Return the way that leads from a picture to another one."""
        flow = motion.between(luma, other)
        cells = torn_cells(flow)
        return cls(flow, torn_pixels(cells, luma) | is_torn(cells))

    def age(self, ages: NDArray[np.float32]) -> NDArray[np.float32]:
        """Return the ages (h, w) of what was hidden in the other frame, where it is in this."""
        moved = fetch(ages, self.flow, cv2.INTER_NEAREST)
        return np.where(self.torn, np.minimum(moved, ages), moved)

    def carry(self, mask: Mask) -> Mask:
        """Return what is hidden in the other frame, where it is in this."""
        moved = fetch(mask.astype(np.uint8), self.flow, cv2.INTER_NEAREST) > 0
        return np.asarray(moved | (mask & self.torn), np.bool_)


@dataclass
class _Waiting:
    """A frame that waits for those after it."""

    item: Suspected
    hidden: Mask
    """What is hidden on account of those before."""
    onward: _Way | None = None
    """To the frame after it, once that is there."""


class _Holder:
    """Takes one frame after the other.

    Args:
        hold_s: Seconds for which a place stays hidden.
    """

    def __init__(self, hold_s: float) -> None:
        self._hold_s = hold_s
        self._motion = Motion()
        self._waiting: deque[_Waiting] = deque()
        self._last: Suspected | None = None
        self._ages = np.zeros((0, 0), np.float32)

    def take(self, item: Suspected) -> Iterator[Suspected]:
        """Take a frame and yield those that are decided by now."""
        self._ages = self._aged(item)
        self._ages[item.mask] = 0
        if self._waiting:
            last = self._waiting[-1]
            last.onward = _Way.between(self._motion, last.item.luma, item.luma)
        self._waiting.append(_Waiting(item, self._ages <= self._hold_s))
        self._last = item
        while self._waiting[0].item.frame.time_s < item.frame.time_s - AHEAD * self._hold_s:
            yield self._told()

    def rest(self) -> Iterator[Suspected]:
        """Yield the frames that still wait, as none comes any more."""
        while self._waiting:
            yield self._told()

    def _aged(self, item: Suspected) -> NDArray[np.float32]:
        """Return for how long each place of a frame has been hidden."""
        if self._last is None:
            return np.full(item.mask.shape, math.inf, np.float32)
        elapsed_s = item.frame.time_s - self._last.frame.time_s
        way = _Way.between(self._motion, item.luma, self._last.luma)
        return np.asarray(way.age(self._ages) + np.float32(elapsed_s), np.float32)

    def _told(self) -> Suspected:
        """Return the frame that has waited longest, with what is hidden for those after it too."""
        first = self._waiting[0]
        coming = np.zeros_like(first.hidden)
        limit_s = first.item.frame.time_s + AHEAD * self._hold_s
        for waiting, after in reversed(list(pairwise(self._waiting))):
            if after.item.frame.time_s <= limit_s:
                assert waiting.onward is not None
                coming = waiting.onward.carry(coming | after.item.mask)
        self._waiting.popleft()
        return replace(first.item, mask=first.hidden | coming)


def _on_picture(found: Mask, placement: Placement, size_hw: tuple[int, int]) -> Mask:
    """Return a mask on the network's grid as one of the picture at a small size; none is lost."""
    shrunk = max(grid / side for grid, side in zip(found.shape, size_hw, strict=True))
    reach = 2 * math.ceil(shrunk) + 1
    levels = cv2.dilate(found.astype(np.float32), np.ones((reach, reach), np.uint8))
    small = replace(placement, frame_hw=size_hw)
    return np.asarray(small.restore_logits(np.asarray(levels, np.float32)[None])[0] > 0, np.bool_)


def _grown(mask: Mask, margin: float) -> Mask:
    """Return a mask with a margin, a share of its height."""
    reach = math.ceil(margin * mask.shape[0])
    disc = cv2.getStructuringElement(cv2.MORPH_ELLIPSE, (2 * reach + 1, 2 * reach + 1))
    return np.asarray(cv2.dilate(mask.astype(np.uint8), disc) > 0, np.bool_)
