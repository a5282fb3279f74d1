"""Read a file's packets and decode its frames, and go on where either is damaged."""

import contextlib
from collections.abc import Callable, Iterator, Sequence
from heapq import heappop, heappush
from typing import Any, TypeAlias

import av

from roadseg.video.read.read_log import ReadLog
from roadseg.video.read.timeline import unit_of

Packets: TypeAlias = "Iterator[av.Packet[Any]]"

MOST_FAILURES = 32
"""Consecutive read errors after which a video counts as ended."""
MOST_AHEAD = 2000
"""Packets that are kept while searching for a keyframe."""
NETWORK_LOST = (av.error.ExitError, ConnectionError)
"""Errors of a source that is gone rather than damaged."""


def demux(
    container: av.container.InputContainer,
    streams: Sequence[av.stream.Stream],
    on_late: Callable[[], None] = lambda: None,
) -> Packets:
    """Yield the packets of some streams, without the empty ones that PyAV adds at their ends.

    PyAV raises an `IndexError` at the end if a stream appeared after the file was opened. It is
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
                yield packet
        except NETWORK_LOST:
            raise
        except Exception:  # PyAV raises errors of its own on damaged files
            if not failures:
                log.damaged_packets += 1
                log.note_damage(time_s)
            failures += 1
        else:
            return


def time_of(packet: "av.Packet[Any]", default: float | None = None) -> float | None:
    """Return the presentation time of a packet in seconds, or its decoding time if it has none."""
    units = packet.dts if packet.pts is None else packet.pts
    return default if units is None else units * unit_of(packet)


def from_keyframe(packets: Packets, time_s: float) -> Packets:
    """Yield the packets from the last keyframe at or before a time on."""
    kept: list[av.Packet[Any]] = []
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


def decode_packets(
    packets: Packets, stream: av.VideoStream, note: "Callable[[av.Packet[Any]], None]"
) -> Iterator[av.VideoFrame]:
    """Yield the frames of the packets that decode.

    Args:
        packets: Packets of the stream.
        stream: The stream.
        note: Called with each packet that does not decode.
    """
    for packet in packets:
        try:
            frames = packet.decode()
        except av.FFmpegError:
            note(packet)
            continue
        yield from frames
    with contextlib.suppress(av.FFmpegError):
        yield from stream.codec_context.decode(None)


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
