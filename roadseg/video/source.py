"""Read a film: what it is, and its frames one by one with their timestamps."""

from collections.abc import Iterator
from dataclasses import dataclass
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
HD_HEIGHT = 720
"""Untagged film from this height up is taken for BT.709, below it for BT.601, as players do."""
TO_RGB = Interpolation.BILINEAR | Interpolation.FULL_CHR_H_INT | Interpolation.ACCURATE_RND
"""Conversion without FFmpeg's usual bias: with less, a film comes back one level darker."""
DAMAGE_LIMIT = 100
"""Packets in a row that may fail to decode before a film counts as unreadable."""


@dataclass(frozen=True, kw_only=True)
class VideoInfo:
    """What a film says about itself."""

    path: Path
    """Where it lies."""
    stream_index: int
    """Which of the file's streams is the film; a cover picture is none."""
    size_hw: tuple[int, int]
    """Height and width in pixels as shown, after rotation."""
    pixel_aspect: Fraction
    """Width of a pixel over its height, after rotation."""
    fps: Fraction
    """Average frame rate."""
    time_base: Fraction
    """Seconds a unit of `pts`."""
    start_s: float
    """Time of the first frame."""
    end_s: float | None
    """Time at which the last frame should end, where the file tells."""
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
    """What was found while reading."""

    damaged_packets: int = 0
    """Packets that did not decode."""
    first_damage_s: float | None = None
    """Time of the first of them, where known."""
    retimed_frames: int = 0
    """Frames without a time, or with one that does not increase."""
    read_until_s: float | None = None
    """Time at which the last frame read ends."""
    reached_end: bool = False
    """Whether the file was read to its end."""


def probe(path: Path) -> VideoInfo:
    """Open a film far enough to know it.

    Raises:
        VideoError: There is no such file, it is no video, or nothing in it decodes.
    """
    if path.is_file() and path.stat().st_size == 0:
        raise VideoError(f"{path} is empty (0 bytes); give a video file")
    with read_errors(path), av.open(path) as container:
        stream = _film_stream(container, path)
        first = next(_decode_all(container, stream, ReadLog()), None)
        if first is None:
            raise VideoError(f"{path} holds no frame that decodes; give an intact video file")
        assert stream.time_base is not None and first.pts is not None
        start_s = float(first.pts * stream.time_base)
        aspect = stream.codec_context.sample_aspect_ratio or Fraction(1)
        lies = first.rotation % 180 != 0
        return VideoInfo(
            path=path,
            stream_index=stream.index,
            size_hw=(first.width, first.height) if lies else (first.height, first.width),
            pixel_aspect=1 / aspect if lies else aspect,
            fps=_frame_rate(stream),
            time_base=stream.time_base,
            start_s=start_s,
            end_s=_stated_end_s(stream, start_s),
            frame_count=stream.frames or None,
            matrix=color_matrix(first),
            primaries=int(first.color_primaries),
            transfer=int(first.color_trc),
        )


def decode(
    info: VideoInfo, log: ReadLog, start_s: float = 0.0, end_s: float | None = None
) -> Iterator[Frame]:
    """Yield the frames of a film, upright, in RGB, each later than the one before.

    A packet that does not decode is left out and counted in `log`. A frame without a time, or with
    one that does not increase, is put right behind the one before it and counted too.

    Args:
        info: The film.
        log: Filled while reading.
        start_s: Leave out frames before this time, counted from the first frame.
        end_s: Stop at this time; None reads to the end.

    Raises:
        VideoError: The film cannot be opened, or nothing decodes any more.
    """
    first_s, last_s = info.start_s + start_s, None if end_s is None else info.start_s + end_s
    from_s = first_s if start_s > 0 else None
    half_unit_s = float(info.time_base) / 2
    with read_errors(info.path):
        for decoded in _decode_from(info, log, from_s):
            time_s = _time_s(decoded, info)
            if last_s is not None and time_s >= last_s - half_unit_s:
                return
            if time_s < first_s - half_unit_s:
                continue
            shown_s = float((decoded.duration or 0) * info.time_base) or float(1 / info.fps)
            log.read_until_s = time_s + shown_s
            assert decoded.pts is not None  # _decode_all sees to it
            picture = upright_rgb(decoded, info.matrix)
            yield Frame(picture, decoded.pts, info.time_base, info.pixel_aspect)
        log.reached_end = True


def _decode_from(info: VideoInfo, log: ReadLog, from_s: float | None) -> Iterator[av.VideoFrame]:
    """Yield the frames from a keyframe at or before a time on, or all of them."""
    with av.open(info.path) as container:
        stream = container.streams[info.stream_index]
        assert isinstance(stream, av.VideoStream)
        stream.thread_type = "AUTO"
        if from_s is None or seek(container, stream, from_s):
            frames = _decode_all(container, stream, log)
            first = next(frames, None)
            if from_s is None or (first is not None and _time_s(first, info) <= from_s):
                if first is not None:
                    yield first
                yield from frames
                return
    # Some formats cannot seek, or land behind the time: then only the long way is left.
    log.damaged_packets, log.first_damage_s, log.retimed_frames = 0, None, 0
    yield from _decode_from(info, log, None)


def seek(container: av.container.InputContainer, stream: av.stream.Stream, time_s: float) -> bool:
    """Go to a keyframe before a time; return whether the format can."""
    assert stream.time_base is not None
    try:
        container.seek(int(time_s / stream.time_base), stream=stream)
    except av.FFmpegError:
        return False
    return True


def _decode_all(
    container: av.container.InputContainer, stream: av.VideoStream, log: ReadLog
) -> Iterator[av.VideoFrame]:
    """Yield every frame that decodes, each with a time later than the one before."""
    assert stream.time_base is not None
    failures, last_pts = 0, None
    step = max(round(1 / _frame_rate(stream) / stream.time_base), 1)
    for packet in container.demux(stream):
        try:
            frames = packet.decode()
        except av.InvalidDataError as error:
            failures += 1
            log.damaged_packets += 1
            if log.first_damage_s is None and packet.pts is not None:
                log.first_damage_s = float(packet.pts * stream.time_base)
            if failures > DAMAGE_LIMIT:
                raise error
            continue
        failures = 0
        for frame in frames:
            if frame.pts is None:
                log.retimed_frames += 1
                frame.pts = 0 if last_pts is None else last_pts + step
            elif last_pts is not None and frame.pts <= last_pts:
                log.retimed_frames += 1
                frame.pts = last_pts + 1
            last_pts = frame.pts
            yield frame


def _film_stream(container: av.container.InputContainer, path: Path) -> av.VideoStream:
    """Return the first video stream that is no cover picture."""
    for stream in container.streams.video:
        if not stream.disposition & av.stream.Disposition.attached_pic:
            return stream
    kinds = ", ".join(sorted({s.type for s in container.streams if s.type != "video"}))
    raise VideoError(f"{path} has no video stream, only {kinds or 'nothing'}; give a video file")


def _frame_rate(stream: av.VideoStream) -> Fraction:
    """Return frames a second as the file tells or FFmpeg guesses, or a usual rate."""
    return stream.average_rate or stream.guessed_rate or Fraction(25)


def _stated_end_s(stream: av.VideoStream, start_s: float) -> float | None:
    """Return when the stream should end: by its index, or by the tag that Matroska files carry."""
    assert stream.time_base is not None
    if stream.duration:
        return start_s + float(stream.duration * stream.time_base)
    parts = stream.metadata.get("DURATION", "").split(":")
    try:
        hours, minutes, seconds = map(float, parts)
    except ValueError:  # there is no tag, or one in no format that we know
        return None
    return hours * 3600 + minutes * 60 + seconds


def _time_s(frame: av.VideoFrame, info: VideoInfo) -> float:
    assert frame.pts is not None  # _decode_all sees to it
    return float(frame.pts * info.time_base)


def color_matrix(frame: av.VideoFrame) -> int:
    """Return a frame's colour matrix, tagged or taken for granted, as a code of H.273."""
    if frame.colorspace in (BT709, BT470BG, SMPTE170M):
        return int(frame.colorspace)
    return BT709 if frame.height >= HD_HEIGHT else SMPTE170M


def upright_rgb(frame: av.VideoFrame, matrix: int) -> NDArray[np.uint8]:
    """Return a decoded frame as (H, W, 3) RGB, turned as it is to be shown."""
    full = frame.color_range == ColorRange.JPEG
    rgb = frame.reformat(
        format="rgb24",
        interpolation=TO_RGB,
        src_colorspace=matrix,
        src_color_range=ColorRange.JPEG if full else ColorRange.MPEG,
        dst_color_range=ColorRange.JPEG,
    )
    picture = rgb.to_ndarray()
    quarter_turns = round(frame.rotation / 90) % 4
    return np.ascontiguousarray(np.rot90(picture, quarter_turns))
