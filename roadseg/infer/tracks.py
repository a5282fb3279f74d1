"""Follow objects from frame to frame, so that one car is one car and has one number.

An object of this frame, put back along the flow to where it was in the frame before, lies over the
same object there. The numbers depend on nothing but what `--stats` writes: the times, the boxes and
how these moved. So a resumed run reads what the first one wrote, and numbers as that would have;
and the statistics of several parts of a video can be numbered anew once they are joined.
"""

import math
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass, replace
from pathlib import Path

import numpy as np

from roadseg.infer.stats import DIGITS, read_stats
from roadseg.segmentation.flow import Flow
from roadseg.segmentation.neighbours import Follower
from roadseg.video.frame import FrameStats, Region, SegmentedFrame

LEAST_SIGHTINGS = 3
"""Frames in which an object was seen before it has a number: noise has none."""
LOST_S = 1.0
"""Seconds without a sighting after which an object is gone."""
LEAST_OVERLAP = 0.25
"""Overlap of two boxes, as intersection over union, from which they are of one object."""
SLACK_PX = 2
"""Pixels by which boxes are enlarged to compare them: those of far objects are small."""
MOVED_DIGITS = 2
"""Decimals of the pixels that an object has moved."""

Box = tuple[float, float, float, float]
"""Left, top, width, height."""


@dataclass
class _Track:
    """An object that is followed."""

    name: str
    box: Box
    seen_s: float
    speed: tuple[float, float] = (0.0, 0.0)
    """Columns and rows a second."""
    sightings: int = 1
    number: int | None = None

    def box_at(self, time_s: float) -> Box:
        """Return where it should be, if it went on as when it was seen last."""
        left, top, width, height = self.box
        gone_s = time_s - self.seen_s
        return left + self.speed[0] * gone_s, top + self.speed[1] * gone_s, width, height


class _Numbering:
    """Numbers the objects of one frame after the other."""

    def __init__(self) -> None:
        self._tracks: list[_Track] = []
        self._last_s = -math.inf
        self._next = 1

    def number(self, stats: FrameStats) -> FrameStats:
        """Return the next frame's statistics with the number of each object that has one yet."""
        numbers = self._numbers(stats.time_s, stats.objects)
        objects = zip(stats.objects, numbers, strict=True)
        return replace(stats, objects=tuple(replace(o, track=n) for o, n in objects))

    def _numbers(self, time_s: float, objects: Sequence[Region]) -> list[int | None]:
        is_cut = bool(objects) and not any(region.moved for region in objects)
        kept = () if is_cut else self._tracks
        self._tracks = [t for t in kept if time_s - t.seen_s <= LOST_S]
        matched = self._matched(objects)
        numbers = [
            self._seen(matched.get(index), region, time_s) for index, region in enumerate(objects)
        ]
        self._last_s = time_s
        return numbers

    def _matched(self, objects: Sequence[Region]) -> dict[int, _Track]:
        """Return the tracks of objects by their index, those that overlap most first."""
        overlaps = [
            (_overlap(_before(region), track.box_at(self._last_s)), index, number)
            for index, region in enumerate(objects)
            for number, track in enumerate(self._tracks)
            if region.moved and region.name == track.name
        ]
        matched: dict[int, _Track] = {}
        taken: set[int] = set()
        for overlap, index, number in sorted(overlaps, key=lambda o: (-o[0], o[1], o[2])):
            if overlap >= LEAST_OVERLAP and index not in matched and number not in taken:
                matched[index] = self._tracks[number]
                taken.add(number)
        return matched

    def _seen(self, track: _Track | None, region: Region, time_s: float) -> int | None:
        """Note a sighting of a track, or of a new one; return its number."""
        box = (region.left, region.top, region.width, region.height)
        if track is None:
            self._tracks.append(_Track(region.name, box, time_s))
            return None
        assert region.moved
        elapsed_s = max(time_s - self._last_s, 10**-DIGITS)
        track.speed = region.moved[0] / elapsed_s, region.moved[1] / elapsed_s
        track.box, track.seen_s = box, time_s
        track.sightings += 1
        if track.sightings == LEAST_SIGHTINGS:
            track.number, self._next = self._next, self._next + 1
        return track.number


def follow_objects(
    items: Iterator[SegmentedFrame], *, written: Path | None = None
) -> Iterator[SegmentedFrame]:
    """Stage: number the objects of every frame.

    Args:
        items: Measured frames; of those that only lead in, the motion is used.
        written: Statistics of the frames before, if an unfinished run left any.
    """
    numbering, follower = _Numbering(), Follower()
    for stats in read_stats(written) if written else ():
        numbering.number(stats)

    def followed(item: SegmentedFrame) -> SegmentedFrame:
        flow = follower.flow(item)
        if item.frame.leads_in:
            return item
        assert item.stats is not None  # `measured` comes before
        size_hw = item.frame.picture.size_hw
        found = tuple(replace(o, moved=_moved(o, flow, size_hw)) for o in item.stats.objects)
        return replace(item, stats=numbering.number(replace(item.stats, objects=found)))

    yield from map(followed, items)


def renumbered(stats: Iterable[FrameStats]) -> Iterator[FrameStats]:
    """Yield the statistics of a video's frames with their objects numbered anew, through all."""
    return map(_Numbering().number, stats)


def _moved(
    region: Region, flow: Flow | None, size_hw: tuple[int, int]
) -> tuple[float, float] | None:
    """Return how far an object has come: the median of the flow in its box, in pixels."""
    if flow is None:
        return None
    scale_y, scale_x = (small / side for small, side in zip(flow.shape[:2], size_hw, strict=True))
    top, left = int(region.top * scale_y), int(region.left * scale_x)
    bottom = math.ceil((region.top + region.height) * scale_y)
    right = math.ceil((region.left + region.width) * scale_x)
    back = np.median(flow[top:bottom, left:right].reshape(-1, 2), axis=0)
    across, down = -back[0] / scale_x, -back[1] / scale_y
    return round(float(across), MOVED_DIGITS), round(float(down), MOVED_DIGITS)


def _before(region: Region) -> Box:
    """Return where an object was in the frame before."""
    assert region.moved
    across, down = region.moved
    return region.left - across, region.top - down, region.width, region.height


def _overlap(one: Box, other: Box) -> float:
    """Return the intersection of two boxes over their union, with some slack."""
    common = 1.0
    areas = [(box[2] + 2 * SLACK_PX) * (box[3] + 2 * SLACK_PX) for box in (one, other)]
    for axis in (0, 1):
        begin = max(one[axis], other[axis]) - SLACK_PX
        end = min(one[axis] + one[axis + 2], other[axis] + other[axis + 2]) + SLACK_PX
        common *= max(end - begin, 0.0)
    return common / (sum(areas) - common)
