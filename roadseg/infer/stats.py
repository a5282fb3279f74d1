"""What is in a frame, in numbers: the share of each class, and where the small objects are.

An object is a connected region of one of `OBJECT_CLASSES`. Two cars that overlap in the picture are
one region, and a car behind a pole may be two.
"""

import contextlib
import csv
import json
from collections.abc import Callable, Iterator
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import TextIO

import cv2
import numpy as np
from numpy.typing import NDArray

from roadseg.files import create, output_errors
from roadseg.paint.config import OverlayConfig
from roadseg.spec import ModelSpec
from roadseg.video.frame import SegmentedFrame

OBJECT_CLASSES = ("pole", "sign", "car", "pedestrian", "bicyclist")
"""Classes whose regions are things that can be counted."""
ROAD_EDGE_PERCENTILES = (2, 98)
"""Where the road begins and ends in a row, single stray pixels left out."""
LEAST_ROAD_WIDTH = 0.2
"""Share of the picture's width that the road has where its edges mean something; further away,
where it runs out to a point, whoever is beside it would seem to be on it."""
CSV_SUFFIX = ".csv"
STATS_SUFFIXES = (".jsonl", CSV_SUFFIX)
DIGITS = 6
"""Decimals of shares and seconds."""


@dataclass(frozen=True, kw_only=True)
class Region:
    """An object as it lies in the picture."""

    name: str
    """Its class."""
    left: int
    """First column."""
    top: int
    """First row."""
    width: int
    """Columns."""
    height: int
    """Rows."""
    pixels: int
    """Pixels of its own in that box."""
    across_road: float | None
    """Where its foot stands between the edges of the road there: 0 is the left edge, 1 the right
    one, less or more is beside it. None where there is no road, or it is far away."""


@dataclass(frozen=True, kw_only=True)
class FrameStats:
    """What is in one frame."""

    pts: int
    """The frame's time in the source, in the source's units."""
    time_s: float
    """The same in seconds."""
    shares: dict[str, float]
    """Share of each class in all pixels."""
    objects: tuple[Region, ...]
    """Objects, class by class."""


def measure(item: SegmentedFrame, min_region: float = OverlayConfig.min_region) -> FrameStats:
    """Count a frame's pixels and find its objects.

    Args:
        item: The frame.
        min_region: Share of the picture; a smaller region is taken for noise.
    """
    pixels = count_pixels(item)
    names = item.spec.class_names
    present = [i for i, name in enumerate(names) if name in OBJECT_CLASSES and pixels[i]]
    regions = (region for i in present for region in _regions(item, i, min_region))
    return FrameStats(
        pts=item.frame.pts,
        time_s=round(item.frame.time_s, DIGITS),
        shares={n: round(share, DIGITS) for n, share in shares_of(pixels, item.spec).items()},
        objects=tuple(regions),
    )


def count_pixels(item: SegmentedFrame) -> np.ndarray:
    """Return the pixels of each id, (256,)."""
    if not isinstance(item.labels, np.ndarray):
        return item.labels.pixels()
    counts = cv2.calcHist([item.class_map], [0], None, [256], [0, 256])
    return counts.ravel().astype(np.int64)


def shares_of(pixels: np.ndarray, spec: ModelSpec) -> dict[str, float]:
    """Return the share of each class, given the pixels of each id."""
    total = pixels.sum()
    return {name: float(pixels[i] / total) for i, name in enumerate(spec.class_names)}


def _regions(item: SegmentedFrame, class_id: int, min_region: float) -> Iterator[Region]:
    """Yield the objects of a class."""
    least = min_region * item.class_map.size
    for left, top, width, height, pixels in _boxes(item.class_map, class_id):
        if pixels >= least:
            yield Region(
                name=item.spec.class_names[class_id],
                left=left,
                top=top,
                width=width,
                height=height,
                pixels=pixels,
                across_road=_across_road(item, top + height, left + (width - 1) / 2),
            )


def _boxes(class_map: NDArray[np.uint8], class_id: int) -> Iterator[list[int]]:
    """Yield left, top, width, height and pixels of each connected region of a class.

    Only the part of the picture that has the class is searched.
    """
    member = np.asarray(cv2.inRange(class_map, class_id, class_id), np.uint8)
    part_left, part_top, part_width, part_height = cv2.boundingRect(member)
    part = member[part_top : part_top + part_height, part_left : part_left + part_width]
    for left, top, width, height, pixels in _components(part)[1:].tolist():  # the first is the rest
        yield [part_left + left, part_top + top, width, height, pixels]


def _components(member: NDArray[np.uint8]) -> NDArray[np.int32]:
    """Return OpenCV's statistics (n, 5) of what is not a region, and of each region.

    Numbers of 16 bits take half the memory, which is most of the time. OpenCV refuses where there
    are too many regions for them.
    """
    try:
        found = cv2.connectedComponentsWithStats(member, connectivity=8, ltype=cv2.CV_16U)
    except cv2.error:
        found = cv2.connectedComponentsWithStats(member, connectivity=8, ltype=cv2.CV_32S)
    return np.asarray(found[2], np.int32)


def _across_road(item: SegmentedFrame, row: int, column: float) -> float | None:
    """Place a column between the edges of the road in a row, or in the last one there is."""
    if "road" not in item.spec.class_names:
        return None
    ids = item.class_map[min(row, item.class_map.shape[0] - 1)]
    road = np.flatnonzero(ids == item.spec.class_names.index("road"))
    if not road.size:
        return None
    first, last = np.percentile(road, ROAD_EDGE_PERCENTILES)
    if last - first < LEAST_ROAD_WIDTH * len(ids):
        return None
    return round(float((column - first) / (last - first)), DIGITS)


def save_stats(
    items: Iterator[SegmentedFrame], *, place: Path, kept: int, min_region: float
) -> Iterator[SegmentedFrame]:
    """Stage: write what is in every frame, as JSON lines or CSV by the suffix.

    Args:
        items: Frames with their class maps.
        place: File of ours to write; each line is in it before its frame goes on.
        kept: Frames that the file has already.
        min_region: Share of the picture; a smaller region is no object.
    """
    with contextlib.ExitStack() as stack:
        write = None
        for item in items:
            write = write or stack.enter_context(_writing(place, kept))
            write(measure(item, min_region))
            yield item


@contextlib.contextmanager
def _writing(place: Path, kept: int) -> Iterator[Callable[[FrameStats], object]]:
    """Give a function that writes a frame's line, behind those of `kept` frames or anew."""
    with output_errors(place):
        if not kept:
            create(place).close()
        with place.open("a", buffering=1, newline="", encoding="utf-8") as file:
            if place.suffix.lower() == CSV_SUFFIX:
                yield _csv_writer(file, with_head=not kept)
            else:
                yield _json_writer(file)


def _json_writer(file: TextIO) -> Callable[[FrameStats], object]:
    return lambda stats: file.write(json.dumps(asdict(stats)) + "\n")


def _csv_writer(file: TextIO, *, with_head: bool) -> Callable[[FrameStats], object]:
    """Return a function that writes a row: a column a class, and the objects in the last."""
    rows = csv.writer(file)

    def write(stats: FrameStats) -> None:
        nonlocal with_head
        if with_head:
            rows.writerow(["pts", "time_s", *stats.shares, "objects"])
            with_head = False
        boxes = (f"{o.name}:{o.left}:{o.top}:{o.width}:{o.height}" for o in stats.objects)
        rows.writerow([stats.pts, stats.time_s, *stats.shares.values(), " ".join(boxes)])

    return write
