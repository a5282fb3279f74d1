"""Seek in a video, where what follows can be trusted to begin there."""

from collections.abc import Callable, Iterator
from itertools import chain
from typing import TypeVar

import av

from roadseg.video.read.clock import has_straight_clock, unit_of

Item = TypeVar("Item")


def read_from(
    container: av.container.InputContainer,
    stream: av.stream.Stream,
    time_s: float,
    items: Iterator[Item],
    begin_s: Callable[[Item], float],
) -> Iterator[Item] | None:
    """Seek to a keyframe at or before a time; return the items from there on.

    Args:
        container: An open file, of which nothing has been read.
        stream: Stream whose keyframes count.
        time_s: The time.
        items: Iterator that reads from the file's position.
        begin_s: Returns the time at which an item begins.

    Returns:
        The items; None if the format cannot seek, seeks past the time, or may have a clock that
        jumps.
    """
    try:
        container.seek(int(time_s / unit_of(stream)), stream=stream)
    except av.FFmpegError:
        return None
    if not has_straight_clock(container, stream):
        return None
    first = next(items, None)
    if first is None or begin_s(first) > time_s:
        return None
    return chain([first], items)
