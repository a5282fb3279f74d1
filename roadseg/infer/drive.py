"""Collect what happens on a drive and write the report: one page without other files.

A moment is a stretch of time during which a pedestrian or a bicyclist is on the road, away from its
edges; a speck, or a sighting of an instant, is none. Memory is bounded by what a page shows: curves
have a limited number of points, and the drive a limited number of thumbnails and of moments, those
with most to see.
"""

import math
import os
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any
from urllib.parse import quote

import cv2
import numpy as np
from numpy.typing import NDArray

from roadseg.files import create, output_errors
from roadseg.infer.depth import DepthLog, Stretch
from roadseg.infer.stats import measure, measured_map
from roadseg.pages.data_url import data_url
from roadseg.paint.config import OverlayConfig
from roadseg.paint.overlay import Overlay
from roadseg.spec import css_color
from roadseg.video.encoded import JpegQuality, encoded
from roadseg.video.frame import FrameStats, Region, SegmentedFrame
from roadseg.video.gps.track import DEGREE_DIGITS, Track

PEOPLE = ("pedestrian", "bicyclist")
"""Classes that make a moment."""
MIDDLE = (0.2, 0.8)
"""Bounds of the middle of the road, whose edges are 0 and 1."""
GAP_S = 1.0
"""Longest time between two sightings of one moment."""
LEAST_SIGHTINGS = 3
"""Frames below which a moment is noise."""
LEAST_MOMENT_S = 0.5
"""Time from the first sighting to the last, below which a moment is noise."""
LEAST_SIZE = 0.0005
"""Share of the picture that somebody must once have in a moment: some 16 x 16 pixels of 960x540."""
MOST_MOMENTS = 200
"""Most moments that are kept, those with most to see: a day in a town has thousands."""
MOST_THUMBNAILS = 24
FIRST_INTERVAL_S = 1.0
"""Time between two thumbnails; it doubles whenever there are too many."""
THUMBNAIL_WIDTH, MOST_THUMBNAIL_HEIGHT = 240, 960
MOST_POINTS = 1000
"""Most points of a curve; in a longer drive, each is a mean."""
MOST_POSITIONS = 5000
"""Most positions of a way."""
EMBED_LIMIT_BYTES = 8_000_000
"""Size up to which a video is embedded in the page; a larger one is linked."""


@dataclass(kw_only=True)
class Moment:
    """A stretch of time with somebody on the road."""

    start_s: float
    """First sighting."""
    end_s: float
    """Last sighting."""
    peak_s: float
    """The sighting with most pixels."""
    pixels: int
    """Number of these."""
    least_pixels: float
    """Number below which it is a speck."""
    thumbnail: bytes
    """The picture then, as JPEG."""
    names: set[str]
    """Classes seen."""
    sightings: int = 1
    """Frames in which somebody was there."""

    @property
    def is_noise(self) -> bool:
        """Whether it is too short or too small to count."""
        is_short = self.end_s - self.start_s < LEAST_MOMENT_S
        return is_short or self.sightings < LEAST_SIGHTINGS or self.pixels < self.least_pixels


class SharesCurve:
    """The share of each class over time, in as many points as a page needs.

    A point is the mean of as many frames as all others but the last. Whenever there are too many,
    neighbours become one.
    """

    def __init__(self) -> None:
        self._frames_a_point = 1
        self._sums: list[NDArray[np.float64]] = []
        """(2 + C,) of each point: frames, and the sums of their times and of each class's share."""

    def add(self, time_s: float, shares: Iterable[float]) -> None:
        """Add a frame."""
        frame = np.array([1, time_s, *shares])
        if self._sums and self._sums[-1][0] < self._frames_a_point:
            self._sums[-1] += frame
            return
        self._sums.append(frame)
        if len(self._sums) > MOST_POINTS:
            pairs = range(0, len(self._sums), 2)
            self._sums = list(np.add.reduceat(np.stack(self._sums), pairs, axis=0))
            self._frames_a_point *= 2

    def points(self) -> tuple[NDArray[np.float64], NDArray[np.float64]]:
        """Return times (N,) and shares (N, C)."""
        sums = np.stack(self._sums)
        means = sums[:, 1:] / sums[:, :1]
        return means[:, 0], means[:, 1:]


@dataclass(frozen=True, kw_only=True)
class ShownFilm:
    """The video on a page."""

    file: Path
    """Its complete file, before it is published."""
    path: Path
    """Its path once it is published."""
    page: Path
    """The page's path once it is published."""

    def url(self) -> str:
        """Return a data URL if the video is small, or else its place, relative to the page's."""
        if self.file.stat().st_size <= EMBED_LIMIT_BYTES:
            return data_url("video/mp4", self.file.read_bytes())
        place = self.path.resolve()
        try:
            relative = os.path.relpath(place, self.page.resolve().parent)
        except ValueError:  # it is on another drive of Windows
            return place.as_uri()
        return quote(os.fsencode(relative.replace(os.sep, "/")))


@dataclass
class DriveLog:
    """What a report shows; times are seconds since the first frame.

    Args:
        config: How thumbnails are painted.
    """

    config: OverlayConfig
    classes: list[tuple[str, str]] = field(default_factory=list)
    """Name and CSS colour of each class."""
    curve: SharesCurve = field(default_factory=SharesCurve)
    """Share of each class over the drive."""
    moments: list[Moment] = field(default_factory=list)
    """Times with somebody on the road; the last may still be noise."""
    left_out: int = 0
    """Number of moments beyond the most that are kept."""
    depth: DepthLog = field(default_factory=DepthLog)
    """Stretches in which the network is unsure of much."""
    thumbnails: list[tuple[float, bytes]] = field(default_factory=list)
    """Time and JPEG of pictures over the drive."""
    track: Track | None = None
    """Where the camera went, on the video's clock."""
    _first_s: float | None = None
    _last_s: float = 0.0
    _interval_s: float = FIRST_INTERVAL_S

    def add(self, item: SegmentedFrame) -> None:
        """Note a frame."""
        if self._first_s is None:
            self._first_s = item.frame.time_s
            spec = item.spec
            colors = map(css_color, spec.palette)
            self.classes = list(zip(spec.class_names, colors, strict=True))
        time_s = self._last_s = item.frame.time_s - self._first_s
        stats = item.stats or measure(item, self.config.min_region)
        self.curve.add(time_s, stats.shares.values())
        self._note_people(time_s, stats, item)
        self.depth.add(time_s, stats.unsure, lambda: self._thumbnail(item))
        self._keep_thumbnail(time_s, item)

    def _note_people(self, time_s: float, stats: FrameStats, item: SegmentedFrame) -> None:
        seen = people_on_road(stats)
        if not seen:
            return
        names, pixels = {o.name for o in seen}, sum(o.pixels for o in seen)
        last = self.moments[-1] if self.moments else None
        if last is None or time_s - last.end_s > GAP_S:
            if last is not None and last.is_noise:
                self.moments.pop()
            if len(self.moments) == MOST_MOMENTS:
                self.moments.remove(min(self.moments, key=lambda moment: moment.pixels))
                self.left_out += 1
            self.moments.append(
                Moment(
                    start_s=time_s,
                    end_s=time_s,
                    peak_s=time_s,
                    pixels=pixels,
                    least_pixels=LEAST_SIZE * math.prod(item.frame.picture.size_hw),
                    thumbnail=self._thumbnail(item),
                    names=names,
                )
            )
            return
        last.end_s = time_s
        last.names |= names
        last.sightings += 1
        if pixels > last.pixels:
            last.peak_s, last.pixels, last.thumbnail = time_s, pixels, self._thumbnail(item)

    def _keep_thumbnail(self, time_s: float, item: SegmentedFrame) -> None:
        if self.thumbnails and time_s < self.thumbnails[-1][0] + self._interval_s:
            return
        self.thumbnails.append((time_s, self._thumbnail(item)))
        if len(self.thumbnails) > MOST_THUMBNAILS:
            self.thumbnails = self.thumbnails[::2]
            self._interval_s *= 2

    def _thumbnail(self, item: SegmentedFrame) -> bytes:
        """Return the painted picture, small, as JPEG."""
        height, width = item.frame.picture.size_hw
        shown_height = round(height * THUMBNAIL_WIDTH / width)
        size_wh = THUMBNAIL_WIDTH, min(max(shown_height, 1), MOST_THUMBNAIL_HEIGHT)
        picture = item.frame.picture.resized(size_wh[::-1])
        class_map = cv2.resize(measured_map(item), size_wh, interpolation=cv2.INTER_NEAREST)
        overlay = Overlay(item.spec, self.config)
        painted = picture.paint(overlay, np.asarray(class_map, np.uint8)).rgb()
        return encoded(painted, JpegQuality.THUMBNAIL)

    @property
    def way(self) -> Track | None:
        """Where the camera went during the drive, and not before it or after it."""
        if self.track is None or self._first_s is None:
            return None
        way = self.track.between(self._first_s, self._first_s + self._last_s)
        return way and way.thinned(MOST_POSITIONS)

    def record(self) -> dict[str, Any]:
        """Return the log as JSON values."""
        times_s, shares = self.curve.points()
        return {
            "classes": self.classes,
            "people": [name for name, _ in self.classes if name in PEOPLE],
            "times_s": times_s.round(3).tolist(),
            "shares": shares.T.round(5).tolist(),
            "moments": [_moment_record(moment) for moment in self.moments if not moment.is_noise],
            "moments_left_out": self.left_out,
            "out_of_depth": list(map(_stretch_record, self.depth.stretches())),
            "thumbnails": [
                {"time_s": round(time_s, 3), "image": data_url("image/jpeg", data)}
                for time_s, data in self.thumbnails
            ],
            "way": _way_record(self.way),
        }


def log_drive(items: Iterator[SegmentedFrame], *, log: DriveLog) -> Iterator[SegmentedFrame]:
    """Stage: add every frame to the report."""
    for item in items:
        log.add(item)
        yield item
        del item


def write_report(
    place: Path, record: Mapping[str, Any], film: ShownFilm, facts: Mapping[str, str]
) -> None:
    """Write the report of a drive.

    Args:
        place: Part to write.
        record: The drive, as `DriveLog.record` has it.
        film: The video with the overlay.
        facts: Facts about the run.

    Raises:
        OutputError: The page cannot be written.
    """
    # Plotly takes a fifth of a second to import, and few runs want a report.
    from roadseg.infer.drive_page import drive_page

    page = drive_page({**record, "film": film.url()}, facts, f"{film.path.name}: report")
    with output_errors(place), create(place) as file:
        file.write(page.encode())


def _moment_record(moment: Moment) -> dict[str, Any]:
    """Return a moment as JSON values."""
    return {
        "start_s": round(moment.start_s, 2),
        "end_s": round(moment.end_s, 2),
        "peak_s": round(moment.peak_s, 3),
        "names": sorted(moment.names),
        "image": data_url("image/jpeg", moment.thumbnail),
    }


def _stretch_record(stretch: Stretch) -> dict[str, Any]:
    """Return a stretch out of depth as JSON values."""
    return {
        "start_s": round(stretch.start_s, 2),
        "end_s": round(stretch.end_s, 2),
        "unsure": round(stretch.unsure, 4),
        "image": data_url("image/jpeg", stretch.thumbnail),
    }


def _way_record(way: Track | None) -> dict[str, Any] | None:
    """Return a way as JSON values: time, latitude and longitude of the positions of each part."""
    if way is None:
        return None
    parts = [
        [[round(value, DEGREE_DIGITS) for value in position] for position in p] for p in way.parts()
    ]
    return {"source": way.source, "parts": parts}


def people_on_road(stats: FrameStats) -> list[Region]:
    """Return the pedestrians and bicyclists of a frame that are on the road, off its edges."""
    return [o for o in stats.objects if o.name in PEOPLE and _in_the_middle(o.across_road)]


def _in_the_middle(across_road: float | None) -> bool:
    return across_road is not None and MIDDLE[0] <= across_road <= MIDDLE[1]
