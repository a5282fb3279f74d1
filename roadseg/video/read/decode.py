"""Decode packets, and notice each of which no frame comes."""

import contextlib
from collections import deque
from collections.abc import Callable, Iterator

import av

from roadseg.video.pyav import Packet
from roadseg.video.read.demux import MOST_REORDERED, Packets

ONE_FRAME_EACH = ("h264", "hevc")
"""Codecs whose packets are a frame each, and whose decoders drop frames without an error."""
MOST_KEPT, MOST_KEPT_BYTES = 600, 16 << 20
"""Most packets, and bytes of them, that are kept to be decoded again; of longer groups none are."""


def decode_packets(
    packets: Packets,
    stream: av.VideoStream,
    note: Callable[[Packet], None],
    *,
    after_others: bool = False,
    misses: bool = True,
) -> Iterator[av.VideoFrame]:
    """Yield the frames of the packets that decode.

    Args:
        packets: Packets of the stream.
        stream: The stream.
        note: Called with each packet that gives no frame, by an error or without one.
        after_others: Whether earlier packets were left out. Frames that need them are not missed.
        misses: Whether to note packets without an error too, which is some frames later; where
            another decoder would take over, that is too late.
    """
    awaited = _Awaited(stream, note, after_others=after_others, misses=misses)
    for packet in packets:
        try:
            frames = packet.decode()
        except av.FFmpegError:  # with several threads, the error of an earlier packet
            awaited.add(packet, has_failed=True)
            continue
        awaited.add(packet)
        for frame in frames:
            awaited.take(frame)
            yield frame
    for frame in _rest(stream.codec_context, awaited):
        awaited.take(frame)
        yield frame
    awaited.finish()


def _rest(decoder: av.VideoCodecContext, awaited: "_Awaited") -> Iterator[av.VideoFrame]:
    """Yield the frames that a decoder still holds.

    Where one of them fails, PyAV gives none. They are decoded again then, by a single thread, which
    holds none back.
    """
    try:
        yield from decoder.decode(None)
    except av.FFmpegError:
        awaited.fail()
    else:
        return
    again = _like(decoder)
    for packet in (*awaited.kept, None):
        with contextlib.suppress(av.FFmpegError):
            yield from filter(awaited.lacks, again.decode(packet))


def _like(decoder: av.VideoCodecContext) -> av.VideoCodecContext:
    fresh = av.CodecContext.create(decoder.name, "r")
    assert isinstance(fresh, av.VideoCodecContext)
    fresh.extradata, fresh.codec_tag = decoder.extradata, decoder.codec_tag
    fresh.width, fresh.height = decoder.width, decoder.height
    fresh.thread_count = 1
    return fresh


class _Awaited:
    """The packets whose frames have not come out of the decoder.

    A decoder drops without an error what it cannot show: all before the first keyframe, and in HEVC
    all from a damaged frame on to the next keyframe.
    """

    def __init__(
        self,
        stream: av.VideoStream,
        note: Callable[[Packet], None],
        *,
        after_others: bool,
        misses: bool,
    ) -> None:
        decoder = stream.codec_context
        self._note = note
        self._counts = misses and decoder.name in ONE_FRAME_EACH
        self._most = MOST_REORDERED + (decoder.thread_count or 1)
        self._skips_lead = after_others
        self._packets: deque[Packet] = deque()
        self.kept: deque[Packet] = deque()
        """What the awaited frames are decoded from, from a keyframe on."""
        self._kept_bytes = 0
        self._last: Packet | None = None

    def add(self, packet: Packet, *, has_failed: bool = False) -> None:
        """Await the frame of a packet that was given to the decoder.

        Args:
            packet: The packet.
            has_failed: Whether the decoder had an error; where every packet is a frame, that is
                noticed by the frame that does not come.
        """
        self._keep(packet)
        self._last = packet
        is_shown = packet.pts is not None and not packet.is_discard
        if has_failed and not (self._counts and is_shown):
            self._note(packet)
        elif is_shown:
            self._packets.append(packet)
            if len(self._packets) > self._most:
                self._miss(self._packets.popleft())

    def take(self, frame: av.VideoFrame) -> None:
        """Note that a frame came."""
        if frame.interlaced_frame:  # a packet may hold half of it
            self._counts = False
        if self._skips_lead and frame.pts is not None:
            self._skips_lead = False
            there = [p for p in self._packets if p.pts is not None and p.pts >= frame.pts]
            self._packets = deque(there)
        for packet in self._packets:
            if packet.pts == frame.pts:
                self._packets.remove(packet)
                return

    def lacks(self, frame: av.VideoFrame) -> bool:
        """Return whether a frame is one that has not come."""
        return any(packet.pts == frame.pts for packet in self._packets)

    def fail(self) -> None:
        """Note that frames of the last packets failed, where they are not counted."""
        if self._last and not self._counts:
            self._note(self._last)

    def finish(self) -> None:
        """Note the packets whose frames will not come."""
        while self._packets:
            self._miss(self._packets.popleft())

    def _miss(self, packet: Packet) -> None:
        if self._counts:
            self._note(packet)

    def _keep(self, packet: Packet) -> None:
        """Keep a packet, if those that it needs are kept, and if it does not become too much."""
        if packet.is_keyframe:
            self._forget()
        if packet.is_keyframe or self.kept:
            self.kept.append(packet)
            self._kept_bytes += packet.size
        if len(self.kept) > MOST_KEPT or self._kept_bytes > MOST_KEPT_BYTES:
            self._drop(len(self.kept))

    def _forget(self) -> None:
        """Before a keyframe, keep no more packets than the awaited frames need."""
        first = min((p.pts for p in self._packets if p.pts is not None), default=None)
        if first is None:
            self._drop(len(self.kept))
            return
        numbered = enumerate(self.kept)
        begins = [n for n, p in numbered if p.is_keyframe and p.pts is not None and p.pts <= first]
        self._drop(max(begins, default=0))

    def _drop(self, count: int) -> None:
        for _ in range(count):
            self._kept_bytes -= self.kept.popleft().size
