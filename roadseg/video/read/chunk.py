"""A video in chunks: where they begin, and the frames of one with those around it."""

from collections.abc import Iterator
from dataclasses import dataclass, replace

import av

from roadseg.errors import NoFrames
from roadseg.video.errors import read_errors
from roadseg.video.frame import Frame
from roadseg.video.read.clock import has_straight_clock, unit_of
from roadseg.video.read.read_log import ReadLog
from roadseg.video.read.source import Decode, VideoInfo, decode, open_input


@dataclass(frozen=True)
class Around:
    """How much of a video goes with a chunk, for the sake of the chunk's labels."""

    before_s: float
    """Seconds before it."""
    after_s: float
    """Seconds after it, to the first frame that is as far away."""


def decode_chunk(
    info: VideoInfo,
    log: ReadLog,
    start_s: float,
    end_s: float | None,
    around: Around,
    decode: Decode = decode,
) -> Iterator[Frame]:
    """Yield the frames of a chunk, and those around it marked `leads_in`.

    The chunks of a video share each frame of it out to one of them.

    Args:
        info: The video.
        log: Filled while reading.
        start_s: Where the chunk begins, counted from the video's first frame.
        end_s: Where it ends; None is the video's end.
        around: What goes with it.
        decode: Reads the frames.

    Raises:
        NoFrames: The chunk has none.
    """
    first_s = info.start_s + start_s - info.half_unit_s
    last_s = float("inf") if end_s is None else info.start_s + end_s - info.half_unit_s
    is_empty = True
    for frame in decode(info, log, max(start_s - around.before_s, 0.0), None):
        if first_s <= frame.time_s < last_s:
            is_empty = False
            yield frame
        elif frame.time_s < first_s or around.after_s:
            yield replace(frame, leads_in=True)
        if frame.time_s >= last_s + around.after_s:
            break
    if is_empty:
        raise NoFrames(f"{info.path} has no frame from {start_s:.3f} s to {end_s or 'its end'}")


def chunk_starts(
    info: VideoInfo, start_s: float, end_s: float | None, least_s: float
) -> list[float]:
    """Return where chunks of a video begin: at its key frames, and none shorter than asked for.

    A video that cannot be read from its middle, or whose clock jumps, is one chunk.

    Args:
        info: The video.
        start_s: Where the first chunk begins, counted from the video's first frame.
        end_s: Where the last one ends; None is the video's end.
        least_s: Least length of a chunk.
    """
    starts = [start_s]
    stated_s = float("inf") if info.end_s is None else info.end_s - info.start_s
    until_s = stated_s if end_s is None else min(end_s, stated_s)
    for key_s in _key_frames(info):
        if key_s - starts[-1] >= least_s and until_s - key_s >= least_s:
            starts.append(key_s)
    return starts if info.end_s is not None else [start_s]


def _key_frames(info: VideoInfo) -> list[float]:
    """Return the times of a video's key frames as its index has them, from the first frame on."""
    if not info.reopens:
        return []
    with read_errors(info.path), open_input(info.path) as container:
        stream = container.streams[info.stream_index]
        try:
            container.seek(int(info.start_s / unit_of(stream)), stream=stream)  # reads the index
        except av.FFmpegError:
            return []
        if not has_straight_clock(container, stream):
            return []
        unit_s = unit_of(stream)
        return [e.timestamp * unit_s - info.start_s for e in stream.index_entries if e.is_keyframe]
