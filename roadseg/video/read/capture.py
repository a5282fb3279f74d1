"""Read a live source: a camera, a stream of the network, or a film played as a camera would.

Frames are handed on as fast as they come, each marked with its arrival, so that nothing piles up
before the one who reads. A source that is lost is opened again, ever more patiently; one that
cannot be opened in the first place is an error.
"""

import re
import sys
import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field, replace
from fractions import Fraction
from pathlib import Path
from typing import Protocol

import av

from roadseg.errors import VideoError
from roadseg.video.errors import naming
from roadseg.video.frame import Arrival, Frame
from roadseg.video.pyav import open_for_reading
from roadseg.video.read.cameras import find_camera
from roadseg.video.read.demux import decode_packets, demux
from roadseg.video.read.read_log import ReadLog
from roadseg.video.read.source import VideoInfo, decode, probe, upright_picture
from roadseg.video.url import Url


class Stop(Protocol):
    """What a reader waits with, so that the end of a run wakes it."""

    def wait(self, seconds: float) -> None:
        """Wait so many seconds. Raises as soon as the run ends."""
        ...


OPEN_TIMEOUT_S = 5.0
"""A source that does not answer within this time cannot be opened."""
READ_TIMEOUT_S = 5.0
"""A source that sends nothing for this time is lost."""
FIRST_WAIT_S, LONGEST_WAIT_S = 0.5, 30.0
"""Waits before a lost source is opened again: each is twice the one before."""
CLOCK = Fraction(1, 1_000_000)
"""Time base of frames that are timed by their arrival."""
LOW_DELAY = {"fflags": "nobuffer", "flags": "low_delay", "analyzeduration": "1000000"}
"""FFmpeg's settings for streams: begin at once, keep nothing back."""


@dataclass(frozen=True)
class LiveSource:
    """Where frames come from."""

    uri: str
    """What FFmpeg opens."""
    format: str | None = None
    """FFmpeg's input format, where the address alone does not tell."""
    options: dict[str, str] = field(default_factory=dict)
    """FFmpeg's options."""
    is_film: bool = False
    """Whether it is a file, which ends and is not lost."""

    @property
    def label(self) -> str:
        """The source as it may be shown: without a password."""
        return str(self.uri)


def parse_source(text: str) -> LiveSource:
    """Tell a camera ("0", "/dev/video0", a part of its name) from a stream and from a file.

    Raises:
        VideoError: There is nothing of that name, or it is a camera and this system's cameras are
            not supported.
    """
    camera = re.fullmatch(r"(?:/dev/video)?(\d+)", text)
    if camera and sys.platform != "linux":
        raise VideoError(
            f"{text} is a camera; roadseg opens cameras on Linux alone; give the address of a "
            "stream, such as rtsp://..., or a file"
        )
    if camera:
        return LiveSource(f"/dev/video{camera[1]}", format="v4l2")
    if url := Url.if_one(text):
        transport = {"rtsp_transport": "tcp"} if url.startswith("rtsp") else {}
        return LiveSource(url, options=LOW_DELAY | transport)
    if not Path(text).exists():
        return LiveSource(f"/dev/video{find_camera(text).number}", format="v4l2")
    return LiveSource(text, is_film=True)


def capture(
    source: LiveSource,
    *,
    stop: Stop,
    notify: Callable[[str], None],
    at_its_own_rate: bool,
    loops: bool = False,
) -> Iterator[Frame]:
    """Yield the frames of a source, each marked with its arrival.

    Args:
        source: Where they come from.
        stop: Wakes the reader while it waits.
        notify: Told in a sentence when the source is lost and when it is back.
        at_its_own_rate: Play a film as fast as it was recorded, not as fast as it can be read.
        loops: Begin a film again at its end, for ever.

    Raises:
        VideoError: The source cannot be opened, or is a film that is damaged.
    """
    if source.is_film:
        info = probe(Path(source.uri))
        frames = _looped(info) if loops else decode(info, ReadLog())
        if at_its_own_rate:
            frames = paced(frames, stop)
    else:
        frames = _reconnecting(source, stop, notify)
    for number, frame in enumerate(frames):
        yield replace(frame, arrival=Arrival(number, time.monotonic()))


def _looped(info: VideoInfo) -> Iterator[Frame]:
    """Yield the frames of a film again and again, as one film without an end.

    Raises:
        VideoError: The film cannot be opened.
    """
    step = max(round(1 / info.fps / info.time_base), 1)
    shift = 0
    while True:
        first: int | None = None
        for frame in decode(info, ReadLog()):
            first = frame.pts if first is None else first
            last = frame.pts
            yield _later(frame, shift)
        if first is None:
            return
        shift += last - first + step


def _later(frame: Frame, units: int) -> Frame:
    """Return a frame of a film some units of time later, in its place there too."""
    place = frame.place
    if place:
        place = replace(place, since_s=place.since_s + float(units * frame.time_base))
    return replace(frame, pts=frame.pts + units, place=place)


def paced(frames: Iterator[Frame], stop: Stop) -> Iterator[Frame]:
    """Hold every frame back until its time has come, counted from the first."""
    lead_s: float | None = None
    for frame in frames:
        if lead_s is None:
            lead_s = time.monotonic() - frame.time_s
        stop.wait(lead_s + frame.time_s - time.monotonic())
        yield frame


def _reconnecting(source: LiveSource, stop: Stop, notify: Callable[[str], None]) -> Iterator[Frame]:
    """Yield the frames of one connection after the other, timed by their arrival."""
    started_s = time.monotonic()
    wait_s: float | None = None
    while True:
        failure: av.FFmpegError | None = None
        try:
            for decoded in _connection(source):
                if wait_s is not None and wait_s > FIRST_WAIT_S:
                    notify(f"{source.label} is back")
                wait_s = FIRST_WAIT_S
                yield _timed_by_arrival(decoded, started_s)
        except av.FFmpegError as error:
            failure = error
        if wait_s is None:
            raise VideoError(
                f"{source.label} cannot be opened ({_reason(failure)}); check the address and that "
                "the source is on"
            ) from failure
        notify(f"{source.label} is lost ({_reason(failure)}); trying again in {wait_s:g} s")
        stop.wait(wait_s)
        wait_s = min(2 * wait_s, LONGEST_WAIT_S)


def _connection(source: LiveSource) -> Iterator[av.VideoFrame]:
    """Open a source and yield what decodes until it ends or fails."""
    timeout = (OPEN_TIMEOUT_S, READ_TIMEOUT_S)
    with (
        naming(source.uri),
        open_for_reading(
            source.uri, format=source.format, options=source.options, timeout=timeout
        ) as container,
    ):
        stream = container.streams.best("video")
        if not isinstance(stream, av.VideoStream):
            raise av.FFmpegError(0, "it has no video")
        stream.thread_type = "SLICE"  # threads that take a frame each would keep frames back
        # Without a keyframe yet, or with a part lost, a packet does not decode; the next keyframe
        # mends it.
        yield from decode_packets(demux(container, [stream]), stream, lambda _packet: None)


def _timed_by_arrival(decoded: av.VideoFrame, started_s: float) -> Frame:
    """Return a frame whose time is that of its arrival: a source's own clock starts anew each time.

    Args:
        decoded: Frame that has just come.
        started_s: Reading of `time.monotonic` that is time zero.
    """
    pts = int((time.monotonic() - started_s) / CLOCK)
    return Frame(upright_picture(decoded), pts, CLOCK)


def _reason(failure: av.FFmpegError | None) -> str:
    if failure is None:
        return "it ended"
    if isinstance(failure, av.error.ExitError):  # what FFmpeg says when our timeout stops it
        return "nothing came in time"
    return str(failure.strerror)
