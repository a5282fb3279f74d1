"""Take a film's packets out of its file, and pictures out of packets, whatever is damaged there."""

import contextlib
from collections.abc import Callable, Iterator, Sequence
from heapq import heappop, heappush
from typing import Any, TypeAlias

import av

from roadseg.video.read.read_log import ReadLog
from roadseg.video.read.timeline import unit_of

Packets: TypeAlias = "Iterator[av.Packet[Any]]"

MOST_FAILURES = 32
"""Failures to read, one right after the other, after which a film counts as ended."""
MOST_AHEAD = 2000
"""Packets that are kept while looking for the keyframe of a time."""
NETWORK_LOST = (av.error.ExitError, ConnectionError)
"""What says that a source is gone rather than damaged."""


def demux(
    container: av.container.InputContainer,
    streams: Sequence[av.stream.Stream],
    on_late: Callable[[], None] = lambda: None,
) -> Packets:
    """Yield the packets of some streams, without the empty ones that PyAV puts at their ends.

    PyAV stumbles at the end over a stream that appeared after the file was opened, which is none of
    those wanted.

    Args:
        container: The file.
        streams: Its streams that are wanted.
        on_late: Called if there was such a stream.
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
    """Yield the packets that can be read; a place where they cannot is counted as damaged.

    Raises:
        FFmpegError: An address does not answer any more.
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
        except Exception:  # not only FFmpeg's: PyAV has its own troubles with damaged files
            if not failures:
                log.damaged_packets += 1
                log.note_damage(time_s)
            failures += 1
        else:
            return


def time_of(packet: "av.Packet[Any]", default: float | None = None) -> float | None:
    """Return when a packet's content begins to be shown or heard, in seconds."""
    units = packet.dts if packet.pts is None else packet.pts
    return default if units is None else units * unit_of(packet)


def from_keyframe(packets: Packets, time_s: float) -> Packets:
    """Yield the packets of pictures from the last keyframe at or before a time on."""
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
        note: Told each packet that does not decode.
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
    """Times for the frames of a container that tells only when a packet is to be decoded (AVI).

    The frame that is shown as the n-th has the n-th of the packets' times.
    """

    def __init__(self) -> None:
        self._waiting: list[int] = []

    def take(self, packets: Packets) -> Packets:
        """Note the times of packets on their way to the decoder; a frame gets its packet's."""
        for packet in packets:
            if packet.dts is not None and packet.size:
                heappush(self._waiting, packet.dts)
            packet.pts = packet.dts
            yield packet

    def give(self, frames: Iterator[av.VideoFrame]) -> Iterator[av.VideoFrame]:
        """Yield decoded frames with the times at which they are shown."""
        for frame in frames:
            if frame.key_frame and frame.pts is not None:  # what came before is shown, or lost
                while self._waiting and self._waiting[0] < frame.pts:
                    heappop(self._waiting)
            frame.pts = heappop(self._waiting) if self._waiting else None
            yield frame
