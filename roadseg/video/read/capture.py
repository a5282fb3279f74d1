"""Read a live source: a camera, a network stream, or a video file played as a camera would.

Frames are passed on as they come, each marked with its arrival, so that none are buffered here. A
source that is lost is opened again, after ever longer waits; one that cannot be opened at first is
an error.
"""

import re
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
from roadseg.video.read.cameras import Camera, named_camera, numbered_camera, system
from roadseg.video.read.decode import decode_packets
from roadseg.video.read.demux import demux
from roadseg.video.read.read_log import ReadLog
from roadseg.video.read.source import VideoInfo, decode, probe
from roadseg.video.read.upright import pixel_aspect_of, upright_picture
from roadseg.video.url import Url


class Stop(Protocol):
    """Waits for a time, and is woken by the end of the run."""

    def wait(self, seconds: float) -> None:
        """Wait. Raises as soon as the run ends."""
        ...


OPEN_TIMEOUT_S = 5.0
"""Time within which a source must answer when it is opened."""
READ_TIMEOUT_S = 5.0
"""Time without data after which a source counts as lost."""
FIRST_WAIT_S, LONGEST_WAIT_S = 0.5, 30.0
"""First and longest wait before a lost source is opened again; each doubles the last."""
CLOCK = Fraction(1, 1_000_000)
"""Time base of frames that are timed by their arrival."""
LOW_DELAY = {"fflags": "nobuffer", "flags": "low_delay", "analyzeduration": "1000000"}
"""FFmpeg's options for streams: short analysis, no buffering."""


@dataclass(frozen=True)
class LiveSource:
    """A source of frames."""

    uri: str
    """File, device or address that FFmpeg opens."""
    format: str | None = None
    """FFmpeg's input format; None lets FFmpeg detect it."""
    options: dict[str, str] = field(default_factory=dict)
    """FFmpeg's options."""
    is_film: bool = False
    """Whether it is a video file, whose end is no loss."""
    name: str = ""
    """What it is called where its address says little."""

    @property
    def label(self) -> str:
        """The source without secrets, for display."""
        return self.name or str(self.uri)


def parse_source(text: str) -> LiveSource:
    """Return the source that a text names: a camera, a stream or a file.

    A camera is named by its number, its device or a part of its name.

    Raises:
        VideoError: There is no such source.
    """
    if camera := re.fullmatch(r"(?:/dev/video)?(\d+)", text):
        return _of(numbered_camera(int(camera[1])))
    if url := Url.if_one(text):
        transport = {"rtsp_transport": "tcp"} if url.startswith("rtsp") else {}
        return LiveSource(url, options=LOW_DELAY | transport)
    if not Path(text).exists():
        return _of(named_camera(text))
    return LiveSource(text, is_film=True)


def _of(camera: Camera) -> LiveSource:
    here = system()
    return LiveSource(
        here.address.format(camera.device),
        format=here.format,
        options=dict(here.options),
        name=camera.name,
    )


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
        source: The source.
        stop: Ends a wait when the run ends.
        notify: Called with a sentence when the source is lost and when it is back.
        at_its_own_rate: Play a video file at the rate of its frames, not as fast as it can be read.
        loops: Begin a video file again at its end, for ever.

    Raises:
        VideoError: The source cannot be opened, or is a damaged video file.
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
    """Yield the frames of a video file again and again, as one video without an end.

    Raises:
        VideoError: The file cannot be opened.
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
    """Return a frame some units of time later, and its time in the video too."""
    film_time = frame.film_time
    if film_time:
        film_time = replace(film_time, since_s=film_time.since_s + float(units * frame.time_base))
    return replace(frame, pts=frame.pts + units, film_time=film_time)


def paced(frames: Iterator[Frame], stop: Stop) -> Iterator[Frame]:
    """Yield every frame at its time, counted from the first frame."""
    lead_s: float | None = None
    for frame in frames:
        if lead_s is None:
            lead_s = time.monotonic() - frame.time_s
        stop.wait(lead_s + frame.time_s - time.monotonic())
        yield frame


def _reconnecting(source: LiveSource, stop: Stop, notify: Callable[[str], None]) -> Iterator[Frame]:
    """Yield the frames of successive connections."""
    started_s = time.monotonic()
    wait_s: float | None = None
    while True:
        failure: av.FFmpegError | None = None
        try:
            for frame in _connection(source, started_s):
                if wait_s is not None and wait_s > FIRST_WAIT_S:
                    notify(f"{source.label} is back")
                wait_s = FIRST_WAIT_S
                yield frame
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


def _connection(source: LiveSource, started_s: float) -> Iterator[Frame]:
    """Open a source and yield its frames until it ends or fails.

    They are timed by their arrival, as a source's own clock restarts with each connection.

    Args:
        source: The source.
        started_s: Time zero on the clock of `time.monotonic`.
    """
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
        stream.thread_type = "SLICE"  # frame threads would delay frames
        # Packets before the first keyframe, or after a loss, do not decode; the next keyframe does.
        packets = demux(container, [stream])
        for decoded in decode_packets(packets, stream, lambda _packet: None):
            pts = int((time.monotonic() - started_s) / CLOCK)
            yield Frame(upright_picture(decoded), pts, CLOCK, pixel_aspect_of(decoded, stream))


def _reason(failure: av.FFmpegError | None) -> str:
    if failure is None:
        return "it ended"
    if isinstance(failure, av.error.ExitError):  # raised on our timeout
        return "nothing came in time"
    return str(failure.strerror)
