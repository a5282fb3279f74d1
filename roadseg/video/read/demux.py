"""Read a file's packets, and go on where it is damaged."""

from collections.abc import Callable, Iterator, Sequence
from heapq import heappop, heappush
from itertools import chain
from typing import TypeAlias

import av

from roadseg.video.pyav import Packet
from roadseg.video.read.clock import unit_of
from roadseg.video.read.read_log import ReadLog

Packets: TypeAlias = Iterator[Packet]

MOST_FAILURES = 32
"""Consecutive read errors after which a video counts as ended."""
MOST_AHEAD = 2000
"""Packets that are kept while searching for a keyframe."""
MOST_UNTIMED = 100
"""Packets among which the first with a time is sought."""
MOST_REORDERED = 16
"""Frames after which the next one to be shown may be decoded."""
NETWORK_LOST = (av.error.ExitError, ConnectionError)
"""Errors of a source that is gone rather than damaged."""


def demux(
    container: av.container.InputContainer,
    streams: Sequence[av.stream.Stream],
    on_late: Callable[[], None] = lambda: None,
) -> Packets:
    """Yield the packets of some streams, without the empty ones that PyAV adds at their ends.

    PyAV may raise an `IndexError` if a stream appeared after the file was opened. At the end it is
    ignored, as such a stream is not among those wanted.

    Args:
        container: The file.
        streams: The streams wanted.
        on_late: Called if another stream appeared late.
    """
    ended = False
    try:
        for packet in container.demux(*streams):
            if packet.size or packet.dts is not None:
                yield packet
            else:
                ended = True
    except IndexError:
        if not ended:
            raise
        on_late()


def intact_packets(
    container: av.container.InputContainer, streams: Sequence[av.stream.Stream], log: ReadLog
) -> Packets:
    """Yield the packets that can be read; each run of read errors counts as one damaged packet.

    Raises:
        FFmpegError: The network connection is lost.
    """
    failures, time_s = 0, None
    while failures < MOST_FAILURES:
        try:
            for packet in demux(container, streams, log.note_late_stream):
                failures = 0
                time_s = time_of(packet, time_s)
                log.last_packet = packet.pos or 0
                yield packet
        except NETWORK_LOST:
            raise
        except IndexError:  # PyAV's, at a packet of a stream that appeared late
            log.note_late_stream()
            failures += 1
        except Exception:  # PyAV raises errors of its own on damaged files
            if not failures:
                log.damaged_packets += 1
                log.note_damage(time_s)
            failures += 1
        else:
            return


def time_of(packet: Packet, default: float | None = None) -> float | None:
    """Return the presentation time of a packet in seconds, or its decoding time if it has none."""
    units = packet.dts if packet.pts is None else packet.pts
    return default if units is None else units * unit_of(packet)


def from_keyframe(packets: Packets, time_s: float) -> Packets:
    """Yield the packets from the last keyframe at or before a time on."""
    kept: list[Packet] = []
    for packet in packets:
        begin_s = time_of(packet, time_s)
        assert begin_s is not None
        if packet.is_keyframe and begin_s <= time_s:
            kept.clear()
        kept.append(packet)
        if begin_s > time_s or len(kept) == MOST_AHEAD:
            break
    yield from kept
    yield from packets


def hidden_counted(packets: Packets, log: ReadLog) -> Packets:
    """Yield the packets; count those that an edit list hides between others."""
    hidden: list[int] = []
    begin: int | None = None
    for packet in packets:
        if packet.pts is not None and packet.is_discard and begin is not None:
            hidden.append(packet.pts)
        elif packet.pts is not None and not packet.is_discard:
            begin = packet.pts if begin is None else min(begin, packet.pts)
            log.hidden_frames += sum(begin < pts < packet.pts for pts in hidden)
            hidden.clear()
        yield packet


def untimed_lead(packets: Packets) -> tuple[int, int, Packets]:
    """Return how many packets at the beginning have no time, the first time after them, and all.

    A Matroska file cannot hold times below zero.
    """
    read: list[Packet] = []
    times: list[int] = []
    for packet in packets:
        read.append(packet)
        if packet.pts is not None:
            times.append(packet.pts)
        if len(times) == MOST_REORDERED or len(read) == MOST_UNTIMED or len(read) == len(times):
            break
    untimed = len(read) - len(times) if times else 0
    return untimed, min(times, default=0), chain(read, packets)


def lead_timed(
    frames: Iterator[av.VideoFrame], untimed: int, first: int, step: int
) -> Iterator[av.VideoFrame]:
    """Give the first frames, which have no time, times that lead up to the others'.

    Args:
        frames: All frames.
        untimed: Number of those.
        first: Time of the frame after them.
        step: Time from frame to frame.
    """
    for number, frame in enumerate(frames):
        if frame.pts is None and number < untimed:
            frame.pts = first - (untimed - number) * step
        yield frame


class ShowingOrder:
    """Presentation times for the frames of AVI, which stores decoding times only.

    The n-th frame in presentation order gets the n-th of the packets' times.
    """

    def __init__(self) -> None:
        self._waiting: list[int] = []

    def take(self, packets: Packets) -> Packets:
        """Collect the times of packets before they are decoded."""
        for packet in packets:
            if packet.dts is not None and packet.size:
                heappush(self._waiting, packet.dts)
            packet.pts = packet.dts
            yield packet

    def give(self, frames: Iterator[av.VideoFrame]) -> Iterator[av.VideoFrame]:
        """Yield decoded frames with their presentation times."""
        for frame in frames:
            if frame.key_frame and frame.pts is not None:  # earlier frames are out, or lost
                while self._waiting and self._waiting[0] < frame.pts:
                    heappop(self._waiting)
            frame.pts = heappop(self._waiting) if self._waiting else None
            yield frame
