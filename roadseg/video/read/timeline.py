"""One continuous clock for a video whose own clock restarts, jumps or wraps.

A clock restarts where recordings were joined, jumps where a camera's was set, and wraps where its
bits overflow. The video between two such points is a part. All times of a part, of pictures and
sound alike, are moved by one offset, so that it follows the part before it at its own pace.

Which part a packet is of, its time must tell, as streams are mixed in a file: sound of the old part
may come after the first pictures of the new one. A packet is of the part whose offset puts it right
behind what its stream had so far: of the current part, or else of another late one. A picture that
fits none begins a new part, where the pictures before it end. Sound that fits none waits for the
pictures to begin one, so that they are evenly spaced across it; if they do not, sound begins a part
itself. Subtitles and data, which may have gaps of any length, are of the nearest part.

The offsets depend only on the packets of pictures and sound in the order of the file, so every
reading of a file from its beginning finds the same ones.
"""

from collections.abc import Iterator
from dataclasses import dataclass, field

import av

from roadseg.video.pyav import Packet
from roadseg.video.read.clock import BROADCAST_GAP_S, FILE_GAP_S, clocks_jump, unit_of

BACK_S = 0.5
"""Step back within a stream above which its clock has restarted."""
NEAR_S = 1.0
"""Largest distance from its expected time at which a packet belongs to a part."""
DELAY_S = 60.0
"""Time between decoding and presentation that only damage can explain."""
MOST_HELD = 256
"""Packets of sound that may wait until the pictures begin a new part."""
MOST_PARTS = 16
"""Number of latest parts that a packet may belong to."""


@dataclass
class _Stream:
    """Where one stream is on the continuous clock."""

    part: int = 0
    """Number of its current part."""
    end_s: float | None = None
    """End of its last packet, in decoding order."""
    shown_end_s: float | None = None
    """End of its last picture, in presentation order."""
    step_s: float = 0.0
    """Duration of its last packet."""
    held: list[Packet] = field(default_factory=list)
    """Packets whose part is not known yet."""

    def release(self) -> list[Packet]:
        """Return the packets that are held, and hold them no longer."""
        held, self.held = self.held, []
        return held

    def note(self, packet: Packet, longest_s: float) -> float:
        """Note the end of a packet that has its place, and return it.

        Args:
            packet: The packet.
            longest_s: What no packet can last.
        """
        unit_s = unit_of(packet)
        assert packet.dts is not None  # those without are not placed
        begin_s = packet.dts * unit_s
        step_s = (packet.duration or 0) * unit_s
        if step_s > longest_s:  # in MP4, a packet lasts until the next one, beyond a jump
            step_s = self.step_s
        if step_s <= 0 and self.end_s is not None:
            step_s = min(max(begin_s - self.end_s, 0.0), NEAR_S)
        self.step_s = step_s
        self.end_s = begin_s + step_s
        shown = packet.dts if packet.pts is None else packet.pts
        shown_end_s = shown * unit_s + step_s
        self.shown_end_s = max(shown_end_s, self.shown_end_s or shown_end_s)
        return self.end_s


class Timeline:
    """Moves the packets of one reading of a file to the continuous clock.

    Args:
        container: The file, of which nothing has been read.
        pictures: Number of the stream that is labelled; where there is sound too, the pictures
            decide where a part begins, so that they are evenly spaced across it.
    """

    def __init__(self, container: av.container.InputContainer, pictures: int) -> None:
        self._pictures = pictures
        self._gap_s = BROADCAST_GAP_S if clocks_jump(container) else FILE_GAP_S
        self._offsets_s = [0.0]
        self._streams: dict[int, _Stream] = {}
        self._reached_s: float | None = None
        self.jumps_s: list[float] = []
        """Times on the continuous clock at which the pictures' own clock jumped."""

    def bridge(self, packets: Iterator[Packet]) -> Iterator[Packet]:
        """Yield the packets with their times on the continuous clock.

        Args:
            packets: Of pictures, sound and perhaps more, in the order of the file.
        """
        for packet in packets:
            yield from self._take(packet)
        for stream in self._streams.values():
            yield from self._place_alone(stream)

    def _take(self, packet: Packet) -> Iterator[Packet]:
        stream = self._streams.setdefault(packet.stream.index, _Stream())
        if packet.dts is None:
            yield self._moved(packet, stream)
            return
        if packet.pts is not None and abs(packet.pts - packet.dts) * unit_of(packet) > DELAY_S:
            packet.dts = packet.pts  # one of them is damaged; the presentation time counts
        time_s = packet.dts * unit_of(packet)
        if packet.stream.type not in ("video", "audio"):
            yield from self._take_sparse(packet, stream, time_s)
        elif (part := self._part_of(stream, time_s)) is not None:
            yield from self._place_with_held(packet, stream, part)
        elif packet.stream.index == self._pictures:
            begun = self._begin_part(packet, stream, time_s)
            yield from self._place_with_held(packet, stream, begun)
        else:
            stream.held.append(packet)
            if len(stream.held) == MOST_HELD:
                yield from self._place_alone(stream)

    def _take_sparse(self, packet: Packet, stream: _Stream, time_s: float) -> Iterator[Packet]:
        """Place a packet of subtitles or data, with gaps of any length, in the nearest part."""
        now_s, parts = self._reached_s or 0.0, self._latest_parts()
        stream.part = min(parts, key=lambda part: abs(time_s + self._offsets_s[part] - now_s))
        yield self._moved(packet, stream)

    def _place_with_held(self, packet: Packet, stream: _Stream, part: int) -> Iterator[Packet]:
        """Place a packet whose part is known, and those that waited for it."""
        has_changed, stream.part = part != stream.part, part
        for waiting in stream.release():
            yield self._placed_near(waiting, stream)
        yield self._placed(packet, stream)
        if packet.stream.index == self._pictures and has_changed:
            yield from self._take_again()

    def _placed_near(self, packet: Packet, stream: _Stream) -> Packet:
        """Place a packet by its part, or right after the one before if that is too far off."""
        self._moved(packet, stream)
        unit_s, end_s = unit_of(packet), stream.end_s
        assert packet.dts is not None and end_s is not None  # only such packets wait
        if abs(packet.dts * unit_s - end_s) > NEAR_S:
            packet.pts = packet.dts = round(end_s / unit_s)
        self._note(packet, stream)
        return packet

    def _take_again(self) -> Iterator[Packet]:
        """Take the packets again that waited for the pictures."""
        for stream in self._streams.values():
            for packet in stream.release():
                yield from self._take(packet)

    def _place_alone(self, stream: _Stream) -> Iterator[Packet]:
        """Place packets that waited in vain, as a part of their own."""
        for number, packet in enumerate(stream.release()):
            if not number:
                assert packet.dts is not None  # others do not wait
                stream.part = self._begin_part(packet, stream, packet.dts * unit_of(packet))
            yield self._placed(packet, stream)

    def _part_of(self, stream: _Stream, time_s: float) -> int | None:
        """Return the part that a time belongs to; None if it belongs to none so far."""
        if self._reached_s is None:
            return stream.part
        if stream.end_s is None:  # its first packet: streams of a part may begin far apart
            pictures = self._streams.get(self._pictures, stream).part
            near = abs(time_s + self._offsets_s[pictures] - self._reached_s) <= self._gap_s
            return pictures if near else 0
        ahead_s = max(stream.end_s, self._reached_s)
        placed_s = time_s + self._offsets_s[stream.part]
        if stream.end_s - BACK_S <= placed_s <= ahead_s + self._gap_s:
            return stream.part
        for part in reversed(self._latest_parts()):
            placed_s = time_s + self._offsets_s[part]
            if stream.end_s - NEAR_S <= placed_s <= ahead_s + NEAR_S:
                return part
        return None

    def _latest_parts(self) -> range:
        return range(max(len(self._offsets_s) - MOST_PARTS, 0), len(self._offsets_s))

    def _begin_part(self, packet: Packet, stream: _Stream, time_s: float) -> int:
        """Begin a part with a packet, at the end of its stream so far; return its number."""
        assert stream.end_s is not None  # a stream's first packet is always placed
        begin_s = stream.end_s
        if packet.is_keyframe and packet.pts is not None and stream.shown_end_s is not None:
            time_s, begin_s = packet.pts * unit_of(packet), stream.shown_end_s
        self._offsets_s.append(begin_s - time_s)
        if packet.stream.index == self._pictures:
            self.jumps_s.append(begin_s)
        return len(self._offsets_s) - 1

    def _placed(self, packet: Packet, stream: _Stream) -> Packet:
        """Place a packet by the part of its stream."""
        self._moved(packet, stream)
        self._note(packet, stream)
        return packet

    def _moved(self, packet: Packet, stream: _Stream) -> Packet:
        """Move a packet's times by the offset of its part."""
        if offset_s := self._offsets_s[stream.part]:
            units = round(offset_s / unit_of(packet))
            packet.dts = None if packet.dts is None else packet.dts + units
            packet.pts = None if packet.pts is None else packet.pts + units
        return packet

    def _note(self, packet: Packet, stream: _Stream) -> None:
        """Note the end of a placed packet."""
        end_s = stream.note(packet, self._gap_s)
        self._reached_s = max(end_s, self._reached_s or end_s)
