"""Statistics of frames: the share of each class, and the objects.

An object is a connected region of one of `OBJECT_CLASSES`. Two cars that overlap in the picture are
one object, and a car behind a pole may be two. Frames larger than the network's input are measured
at the input's size: the labels hold nothing finer, and boxes are right to within a pixel of it.
"""

import contextlib
import csv
import json
from collections.abc import Callable, Iterable, Iterator, Mapping
from dataclasses import asdict, replace
from pathlib import Path
from typing import TextIO

import cv2
import numpy as np
from numpy.typing import NDArray

from roadseg.errors import VideoError
from roadseg.files import create, output_errors
from roadseg.infer.stats_parquet import PARQUET_SUFFIX, is_parquet, read_parquet
from roadseg.paint.config import OverlayConfig
from roadseg.spec import UNSURE, ModelSpec
from roadseg.video.frame import FrameStats, Labels, Region, SegmentedFrame, on_host

OBJECT_CLASSES = ("pole", "sign", "car", "pedestrian", "bicyclist")
"""Classes whose regions are objects."""
ROAD_EDGE_PERCENTILES = (2, 98)
"""Percentiles of the road's columns in a row that count as its edges, without stray pixels."""
LEAST_ROAD_WIDTH = 0.2
"""Least width of the road, as a share of the picture's, at which positions across it are given."""
CSV_SUFFIX = ".csv"
STATS_SUFFIXES = (".jsonl", CSV_SUFFIX, PARQUET_SUFFIX)
SAMPLE_COLUMNS = 320
"""Least columns that are counted where no statistics are wanted: enough for legend and sums."""
UNSURE_COLUMN = "unsure"
"""Column of CSV for the share that is too unsure to be counted."""
OBJECT_COLUMNS = ("objects", "tracks", "moves")
"""Columns of CSV about objects, which have them in one order."""
UNKNOWN = "-"
"""Stands in CSV for a number that is not known."""
DIGITS = 6
"""Decimals of shares and seconds."""


def measured(items: Iterator[SegmentedFrame], *, min_region: float) -> Iterator[SegmentedFrame]:
    """Stage: count the pixels of every frame and measure it; no frame depends on another."""

    def counted(item: SegmentedFrame) -> SegmentedFrame:
        found = replace(item, pixels=count_pixels(item))
        return replace(found, stats=measure(found, min_region))

    yield from map(counted, items)


def measure(item: SegmentedFrame, min_region: float = OverlayConfig.min_region) -> FrameStats:
    """Count a frame's pixels and find its objects, on its coarse map if it has one.

    Args:
        item: The frame.
        min_region: Share of the picture; a smaller region is noise.
    """
    ids, spec, pixels = measured_map(item), item.spec, count_pixels(item)
    names = spec.class_names
    present = [i for i, name in enumerate(names) if name in OBJECT_CLASSES and pixels[i]]
    size_hw = item.frame.picture.size_hw
    scales = [side / of for side, of in zip(size_hw, ids.shape, strict=True)]
    regions = (region for i in present for region in _regions(ids, i, spec, min_region))
    return FrameStats(
        pts=item.frame.pts,
        time_s=round(item.frame.time_s, DIGITS),
        shares={n: round(share, DIGITS) for n, share in shares_of(pixels, spec).items()},
        objects=tuple(_scaled(region, *scales) for region in regions),
        unsure=round(unsure_share(pixels), DIGITS),
    )


def measured_map(item: SegmentedFrame) -> NDArray[np.uint8]:
    """Return the class map on which a frame is measured, on the CPU."""
    return on_host(_measured_labels(item))


def sample_pixels(item: SegmentedFrame) -> NDArray[np.int64]:
    """Return the pixels of each id, (256,), of the coarse map, or of a sample of the frame's."""
    if item.coarse_map is not None:
        return count_ids(item.coarse_map)
    step = max(item.shown.shape[1] // SAMPLE_COLUMNS, 1)
    return count_ids(item.sample(step))


def count_pixels(item: SegmentedFrame) -> NDArray[np.int64]:
    """Return the pixels of each id, (256,): as they were counted, or all that are measured."""
    return count_ids(_measured_labels(item)) if item.pixels is None else item.pixels


def count_ids(labels: Labels) -> NDArray[np.int64]:
    """Return the pixels of each id, (256,), counted where they lie."""
    if not isinstance(labels, np.ndarray):
        return labels.pixels()
    counts = cv2.calcHist([labels], [0], None, [256], [0, 256])
    return counts.ravel().astype(np.int64)


def _measured_labels(item: SegmentedFrame) -> Labels:
    return item.shown if item.coarse_map is None else item.coarse_map


def shares_of(pixels: NDArray[np.int64], spec: ModelSpec) -> dict[str, float]:
    """Return the share of each class, given the pixels of each id."""
    total = pixels.sum()
    return {name: float(pixels[i] / total) for i, name in enumerate(spec.class_names)}


def unsure_share(pixels: NDArray[np.int64]) -> float:
    """Return the share of what is too unsure to be counted, given the pixels of each id."""
    return float(pixels[UNSURE] / pixels.sum())


def _regions(
    ids: NDArray[np.uint8], class_id: int, spec: ModelSpec, min_region: float
) -> Iterator[Region]:
    """Yield the objects of a class in a class map, at its size."""
    least = min_region * ids.size
    for left, top, width, height, pixels in _boxes(ids, class_id):
        if pixels >= least:
            yield Region(
                name=spec.class_names[class_id],
                left=left,
                top=top,
                width=width,
                height=height,
                pixels=pixels,
                across_road=_across_road(ids, spec, top + height, left + (width - 1) / 2),
            )


def _scaled(region: Region, scale_y: float, scale_x: float) -> Region:
    """Return an object at another size of the picture."""
    left, right = (round(x * scale_x) for x in (region.left, region.left + region.width))
    top, bottom = (round(y * scale_y) for y in (region.top, region.top + region.height))
    return replace(
        region,
        left=left,
        top=top,
        width=right - left,
        height=bottom - top,
        pixels=round(region.pixels * scale_y * scale_x),
    )


def _boxes(class_map: NDArray[np.uint8], class_id: int) -> Iterator[list[int]]:
    """Yield left, top, width, height and pixels of each connected region of a class.

    Only the part of the picture that has the class is searched.
    """
    member = np.asarray(cv2.inRange(class_map, class_id, class_id), np.uint8)
    part_left, part_top, part_width, part_height = cv2.boundingRect(member)
    if not part_width:  # OpenCV crashes on an empty picture
        return
    part = member[part_top : part_top + part_height, part_left : part_left + part_width]
    for left, top, width, height, pixels in _components(part)[1:].tolist():  # the first is the rest
        yield [part_left + left, part_top + top, width, height, pixels]


def _components(member: NDArray[np.uint8]) -> NDArray[np.int32]:
    """Return OpenCV's statistics (n, 5) of the background and of each region.

    Labels of 16 bits save memory traffic, which is most of the time. OpenCV raises an error where
    there are too many regions for them.
    """
    try:
        found = cv2.connectedComponentsWithStats(member, connectivity=8, ltype=cv2.CV_16U)
    except cv2.error:
        found = cv2.connectedComponentsWithStats(member, connectivity=8, ltype=cv2.CV_32S)
    return np.asarray(found[2], np.int32)


def _across_road(
    class_map: NDArray[np.uint8], spec: ModelSpec, row: int, column: float
) -> float | None:
    """Return the position of a column across the road in a row, or in the last row."""
    if "road" not in spec.class_names:
        return None
    ids = class_map[min(row, class_map.shape[0] - 1)]
    road = np.flatnonzero(ids == spec.class_names.index("road"))
    if not road.size:
        return None
    first, last = np.percentile(road, ROAD_EDGE_PERCENTILES)
    if last - first < LEAST_ROAD_WIDTH * len(ids):
        return None
    return round(float((column - first) / (last - first)), DIGITS)


def save_stats(
    items: Iterator[SegmentedFrame], *, place: Path, kept: int
) -> Iterator[SegmentedFrame]:
    """Stage: write the statistics of every frame, as JSON lines or CSV by the suffix.

    Args:
        items: Measured frames.
        place: Part to write; each line is written before its frame is passed on.
        kept: Frames that the part has already.
    """
    with contextlib.ExitStack() as stack:
        write = None
        for item in items:
            write = write or stack.enter_context(_writing(place, kept))
            assert item.stats is not None  # `measured` sees to it
            write(item.stats)
            yield item
            del item


@contextlib.contextmanager
def _writing(place: Path, kept: int) -> Iterator[Callable[[FrameStats], object]]:
    """Give a function that writes a frame's line, after those of `kept` frames."""
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
            rows.writerow(["pts", "time_s", *stats.shares, *OBJECT_COLUMNS, UNSURE_COLUMN])
            with_head = False
        boxes = (f"{o.name}:{o.left}:{o.top}:{o.width}:{o.height}" for o in stats.objects)
        tracks = (UNKNOWN if o.track is None else str(o.track) for o in stats.objects)
        moves = ("{}:{}".format(*o.moved) if o.moved else UNKNOWN for o in stats.objects)
        of_objects = map(" ".join, (boxes, tracks, moves))
        shares = stats.shares.values()
        rows.writerow([stats.pts, stats.time_s, *shares, *of_objects, stats.unsure])

    return write


def write_stats(place: Path, stats: Iterable[FrameStats]) -> None:
    """Write the statistics of a video's frames, as `save_stats` does."""
    with _writing(place, kept=0) as write:
        for frame in stats:
            write(frame)


def keep_stats(place: Path, kept: int) -> None:
    """Truncate an unfinished run's statistics to the frames that are kept.

    Raises:
        VideoError: Lines are missing.
        OutputError: The file cannot be cut.
    """
    lines = kept + (place.suffix.lower() == CSV_SUFFIX)
    if place.exists():
        with output_errors(place), place.open("r+b") as file:
            if all(file.readline().endswith(b"\n") for _ in range(lines)):
                file.truncate(file.tell())
                return
    raise VideoError(
        f"the unfinished run left no {place} with all its frames; leave out --stats, or begin anew "
        "with --overwrite instead of --resume"
    )


def read_stats(place: Path) -> Iterator[FrameStats]:
    """Yield the statistics in a file of ours.

    CSV does not hold the pixels of an object, nor its position across the road.
    """
    if is_parquet(place):
        yield from read_parquet(place)
        return
    with place.open(newline="", encoding="utf-8") as file:
        if place.suffix.lower() == CSV_SUFFIX:
            yield from map(_stats_of_row, csv.DictReader(file))
        else:
            yield from map(_stats_of_line, file)


def _stats_of_line(line: str) -> FrameStats:
    return FrameStats.of_record(json.loads(line))


def _stats_of_row(row: Mapping[str, str]) -> FrameStats:
    apart = ("pts", "time_s", UNSURE_COLUMN, *OBJECT_COLUMNS)
    return FrameStats(
        pts=int(row["pts"]),
        time_s=float(row["time_s"]),
        shares={name: float(share) for name, share in row.items() if name not in apart},
        objects=_objects_of(row),
        unsure=float(row.get(UNSURE_COLUMN, 0)),
    )


def _objects_of(row: Mapping[str, str]) -> tuple[Region, ...]:
    texts = (row[name].split() for name in OBJECT_COLUMNS)
    return tuple(_object_of(*parts) for parts in zip(*texts, strict=True))


def _object_of(text: str, track: str, moved: str) -> Region:
    name, *box = text.rsplit(":", 4)
    left, top, width, height = map(int, box)
    across, down = (None, None) if moved == UNKNOWN else map(float, moved.split(":"))
    return Region(
        name=name,
        left=left,
        top=top,
        width=width,
        height=height,
        pixels=0,
        across_road=None,
        moved=None if across is None or down is None else (across, down),
        track=None if track == UNKNOWN else int(track),
    )
