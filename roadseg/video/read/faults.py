"""Warnings about faults of a video that was read."""

from collections.abc import Iterator
from pathlib import Path

from roadseg.video.picture import BITS
from roadseg.video.read.read_log import ReadLog
from roadseg.video.read.source import VideoInfo
from roadseg.video.read.streams import ANOTHER
from roadseg.video.strung import has_another_flv

LOST_TAIL_S = 0.5
"""A video that ends this long before its stated end counts as truncated."""


def reading_faults(log: ReadLog, info: VideoInfo) -> Iterator[str]:
    """Yield a sentence for each fault in the input."""
    for faults in (_of_reading, _of_times, _of_streams, _of_pictures, _of_end):
        yield from faults(log, info)


def _of_reading(log: ReadLog, info: VideoInfo) -> Iterator[str]:
    """Yield what could not be read, or not as it was meant to be."""
    if log.damaged_packets or log.damaged_frames:
        yield (
            f"{info.path} is damaged: {log.damaged_packets} of its packets did not decode and "
            f"{log.damaged_frames} of its frames were patched up, the first"
            f"{at_time(log.first_damage_s)}"
        )
    if log.off_gpu:
        yield f"{info.path} was decoded on the CPU, not on the GPU: {log.off_gpu}"
    yield from image_faults(log, info.path)
    if not info.images and not info.reopens:
        yield f"{info.path} is live; its sound was not copied"


def _of_times(log: ReadLog, info: VideoInfo) -> Iterator[str]:
    """Yield what is wrong with the times of frames."""
    if log.retimed_frames:
        yield (
            f"{info.path} gives {log.retimed_frames} frames no time, or one before the frame "
            "before; they were put right behind it"
        )
    if log.hidden_frames:
        yield (
            f"{info.path} has an edit list that hides {log.hidden_frames} frames between others; "
            "they are not in the output"
        )
    if log.jumps_s:
        times = "once" if len(log.jumps_s) == 1 else f"{len(log.jumps_s)} times"
        yield (
            f"{info.path} has a clock that restarts or jumps {times}, first"
            f"{at_time(log.jumps_s[0] - info.start_s)}; its parts follow each other at their own "
            "pace, with their sound"
        )


def _of_streams(log: ReadLog, info: VideoInfo) -> Iterator[str]:
    """Yield what the output lacks beside the pictures."""
    for what in (*info.left_out, *log.left_behind):
        yield f"{info.path}: {what}"
    if log.reached_end and _is_flv_and_more(info.path, log.last_packet):
        yield f"{info.path}: {ANOTHER}"
    if log.has_late_stream:
        yield (
            f"{info.path} has a stream that begins late, such as a camera's GPS; it stays behind"
        )


def _of_pictures(log: ReadLog, info: VideoInfo) -> Iterator[str]:
    """Yield what is unusual about the pictures, and what became of it."""
    if log.resized_frames:
        height, width = info.size_hw
        yield (
            f"{info.path} changes its size; {log.resized_frames} frames were brought to "
            f"{width}x{height}"
        )
    if log.interlaced_frames:
        yield (
            f"{info.path} is interlaced; its frames were labelled as they are, two fields in "
            "one picture; deinterlace it first for better labels"
        )
    if info.bits > BITS:
        yield f"{info.path} has {info.bits} bits a sample; the output has {BITS}"


def _of_end(log: ReadLog, info: VideoInfo) -> Iterator[str]:
    """Yield that the video ends early, if it says when it should end."""
    if not log.reached_end or info.end_s is None or log.read_until_s is None or log.jumps_s:
        return
    if info.end_s - log.read_until_s >= LOST_TAIL_S:
        yield (
            f"{info.path} ends early: it says {info.end_s - info.start_s:.2f} s and holds "
            f"{log.read_until_s - info.start_s:.2f} s; what is there is in the output"
        )


def image_faults(log: ReadLog, path: Path | str) -> Iterator[str]:
    """Yield a sentence about the images that cannot be read, and about those that lack a part.

    Args:
        log: Filled while they were read.
        path: The one image, or the series.
    """
    if log.unreadable:
        yield (
            f"{len(log.unreadable)} of the images of {path} cannot be read, the first "
            f"is {log.unreadable[0].name}; they were left out"
        )
    if log.torn == [path]:
        yield f"{path} is damaged; a part of the picture is missing"
    elif log.torn:
        yield (
            f"{len(log.torn)} of the images of {path} could be read only in part, the first "
            f"is {log.torn[0].name}"
        )


def _is_flv_and_more(path: Path | str, last_packet: int) -> bool:
    return isinstance(path, Path) and path.is_file() and has_another_flv(path, last_packet)


def at_time(time_s: float | None) -> str:
    """Return a time as the end of a sentence."""
    return " at an unknown time" if time_s is None else f" at {time_s:.2f} s"
