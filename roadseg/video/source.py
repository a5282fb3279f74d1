"""Read a film: what it is, and its frames one by one with their timestamps."""

from collections.abc import Iterator
from dataclasses import dataclass, field
from fractions import Fraction
from pathlib import Path

import av
import numpy as np
from av.video.reformatter import ColorRange, Interpolation
from numpy.typing import NDArray

from roadseg.errors import VideoError
from roadseg.frame import Frame
from roadseg.video.errors import read_errors

BT709, BT470BG, SMPTE170M = 1, 5, 6
"""Codes of colour matrices in ITU-T H.273; the last two are both BT.601."""
TO_RGB = Interpolation.BILINEAR | Interpolation.FULL_CHR_H_INT | Interpolation.ACCURATE_RND
"""Conversion without FFmpeg's usual bias: with less, a film comes back one level darker."""
HD_HEIGHT = 720
"""Untagged film from this height up is taken for BT.709, below it for BT.601, as players do."""
DAMAGE_LIMIT = 100
"""Packets in a row that may fail to decode before a film counts as unreadable."""


@dataclass(frozen=True, kw_only=True)
class VideoInfo:
    """What a film says about itself."""

    path: Path
    size_hw: tuple[int, int]
    """Height and width as shown, after rotation."""
    fps: Fraction
    """Average frame rate."""
    time_base: Fraction
    """Seconds a unit of `pts`."""
    start_s: float
    """Time of the first frame."""
    duration_s: float | None
    """Length, where the file tells."""
    frame_count: int | None
    """Frames, where the file tells."""
    matrix: int
    """Colour matrix, tagged or taken for granted, as a code of H.273."""
    primaries: int
    """Colour primaries as tagged, as a code of H.273."""
    transfer: int
    """Transfer characteristics as tagged, as a code of H.273."""


@dataclass
class ReadLog:
    """What was found wrong while reading."""

    damaged_packets: int = 0
    """Packets that did not decode."""
    first_damage_s: float | None = None
    """Time of the first of them, where known."""
    last_frame_s: float | None = None
    """Time of the last frame read."""
    reached_end: bool = False
    """Whether the file was read to its end."""
    warnings: list[str] = field(default_factory=list)
    """Sentences for the user."""


def probe(path: Path) -> VideoInfo:
    """Open a film far enough to know it.

    Raises:
        VideoError: There is no such file, it is no video, or it has no video stream.
    """
    if path.is_file() and path.stat().st_size == 0:
        raise VideoError(f"{path} is empty (0 bytes); give a video file")
    with read_errors(path), av.open(path) as container:
        if not container.streams.video:
            kinds = ", ".join(sorted({s.type for s in container.streams})) or "nothing"
            raise VideoError(f"{path} has no video stream, only {kinds}; give a video file")
        stream = container.streams.video[0]
        first = next(container.decode(stream), None)
        if first is None:
            raise VideoError(f"{path} holds no frame that decodes; give an intact video file")
        size_hw = (first.height, first.width)
        if first.rotation % 180:
            size_hw = size_hw[::-1]
        assert stream.time_base is not None  # every open stream has one
        return VideoInfo(
            path=path,
            size_hw=size_hw,
            fps=stream.average_rate or stream.guessed_rate or Fraction(25),
            time_base=stream.time_base,
            start_s=float((first.pts or 0) * stream.time_base),
            duration_s=float(stream.duration * stream.time_base) if stream.duration else None,
            frame_count=stream.frames or None,
            matrix=_matrix(first),
            primaries=int(first.color_primaries),
            transfer=int(first.color_trc),
        )


def decode(
    info: VideoInfo, log: ReadLog, start_s: float = 0.0, end_s: float | None = None
) -> Iterator[Frame]:
    """Yield the frames of a film, upright, in RGB.

    A packet that does not decode is counted in `log` and left out.

    Args:
        info: The film.
        log: Filled while reading.
        start_s: Leave out frames before this time, counted from the first frame.
        end_s: Stop at this time; None reads to the end.

    Raises:
        VideoError: The film cannot be opened, or nothing decodes any more.
    """
    first_s, last_s = info.start_s + start_s, None if end_s is None else info.start_s + end_s
    with read_errors(info.path), av.open(info.path) as container:
        stream = container.streams.video[0]
        stream.thread_type = "AUTO"
        if start_s > 0:
            container.seek(int(first_s / info.time_base), stream=stream)
        for decoded in _decode_all(container, stream, log):
            assert decoded.pts is not None  # those without were left out
            time_s = float(decoded.pts * info.time_base)
            if last_s is not None and time_s >= last_s:
                return
            if time_s < first_s - float(info.time_base) / 2:
                continue
            log.last_frame_s = time_s
            yield Frame(_upright_rgb(decoded, info), decoded.pts, info.time_base)
        log.reached_end = True


def _decode_all(
    container: av.container.InputContainer, stream: av.VideoStream, log: ReadLog
) -> Iterator[av.VideoFrame]:
    """Yield every frame that decodes and has a time."""
    failures = 0
    for packet in container.demux(stream):
        try:
            frames = packet.decode()
        except av.InvalidDataError as error:
            failures += 1
            log.damaged_packets += 1
            if log.first_damage_s is None and packet.pts is not None and packet.time_base:
                log.first_damage_s = float(packet.pts * packet.time_base)
            if failures > DAMAGE_LIMIT:
                raise error
            continue
        failures = 0
        yield from (frame for frame in frames if frame.pts is not None)


def _matrix(frame: av.VideoFrame) -> int:
    if frame.colorspace in (BT709, BT470BG, SMPTE170M):
        return int(frame.colorspace)
    return BT709 if frame.height >= HD_HEIGHT else SMPTE170M


def _upright_rgb(frame: av.VideoFrame, info: VideoInfo) -> NDArray[np.uint8]:
    full = frame.color_range == ColorRange.JPEG
    rgb = frame.reformat(
        format="rgb24",
        interpolation=TO_RGB,
        src_colorspace=info.matrix,
        src_color_range=ColorRange.JPEG if full else ColorRange.MPEG,
        dst_color_range=ColorRange.JPEG,
    )
    picture = rgb.to_ndarray()
    quarter_turns = round(frame.rotation / 90) % 4
    return np.ascontiguousarray(np.rot90(picture, quarter_turns)) if quarter_turns else picture  # type: ignore[return-value]
