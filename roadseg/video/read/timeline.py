"""One clock for a whole film, whatever the clocks of its parts do.

A clock restarts where recordings were joined, jumps where a camera was set, wraps where its bits
run out. A stretch of film between two such places is a part; all times of a part are moved by one
offset, for pictures and sound alike, so that it follows the part before it at its own pace.

The offsets depend on the packets of pictures and sound in the order of the file, and on nothing
else: whoever reads the same file from its beginning finds the same ones.
"""

from collections.abc import Iterator
from dataclasses import dataclass, field
from itertools import pairwise
from typing import Any

import av

BACK_S = 0.5
"""A clock that goes back by more than this within a stream has begun anew."""
NEAR_S = 1.0
"""A packet belongs to a part if that puts it within this time of where it is expected."""
DELAY_S = 60.0
"""Nothing is decoded so long before it is shown."""
MOST_HELD = 256
"""Packets of sound that wait for the pictures to say where a new part begins."""
MOST_PARTS = 16
"""Latest parts that a packet may still belong to."""
BROADCAST_GAP_S, FILE_GAP_S = 10.0, 600.0
"""A step forward by more than this is a jump: in formats for broadcast, whose clocks do jump, and
in others, where a long gap may be meant."""
CLOCKS_JUMP = 0x0200
"""FFmpeg's flag (AVFMT_TS_DISCONT) of formats whose clocks may jump."""


def clocks_jump(container: av.container.InputContainer) -> bool:
    """Return whether a file is of a format for broadcast, such as MPEG-TS."""
    return bool(container.format.flags & CLOCKS_JUMP)


def has_straight_clock(container: av.container.InputContainer, stream: av.stream.Stream) -> bool:
    """Return whether a file's index shows that time and place in the file grow together."""
    entries = list(stream.index_entries)
    if clocks_jump(container) or not entries:
        return False
    longest = FILE_GAP_S / unit_of(stream)
    return all(
        a.pos <= b.pos and b.timestamp - a.timestamp <= longest for a, b in pairwise(entries)
    )


def unit_of(item: "av.stream.Stream | av.Packet[Any]") -> float:
    """Return how many seconds a unit of time has in a stream or packet."""
    unit = item.time_base
    assert unit is not None  # streams of a file that is read have one
    return unit.numerator / unit.denominator


@dataclass
class _Track:
    """Where one stream has come to on the film's clock."""

    part: int = 0
    """Number of the part that it is in."""
    end_s: float | None = None
    """When its last packet ends, by the order of decoding."""
    shown_end_s: float | None = None
    """When the last of its pictures ends, by the order of showing."""
    held: "list[av.Packet[Any]]" = field(default_factory=list)
    """Packets of a part that is not known yet."""


class Timeline:
    """Puts the packets of one reading of a file on the film's clock.

    Args:
        container: The file, of which nothing has been read.
        pictures: Number of the stream that the film is; where there is sound too, the pictures say
            where a part begins, so that they are evenly spaced across it.
    """

    def __init__(self, container: av.container.InputContainer, pictures: int) -> None:
        self._pictures = pictures
        self._gap_s = BROADCAST_GAP_S if clocks_jump(container) else FILE_GAP_S
        self._offsets_s = [0.0]
        self._tracks: dict[int, _Track] = {}
        self._reached_s: float | None = None
        self.jumps_s: list[float] = []
        """Times on the film's clock at which the pictures' own clock jumped."""

    def bridge(self, packets: "Iterator[av.Packet[Any]]") -> "Iterator[av.Packet[Any]]":
        """Yield the packets with their times on the film's clock.

        Args:
            packets: Of pictures, sound and perhaps more, in the order of the file.
        """
        for packet in packets:
            yield from self._take(packet)
        for track in self._tracks.values():
            yield from self._release(track)

    def _take(self, packet: "av.Packet[Any]") -> "Iterator[av.Packet[Any]]":
        track = self._tracks.setdefault(packet.stream.index, _Track())
        if packet.dts is None:
            yield self._moved(packet, track)
            return
        if packet.pts is not None and abs(packet.pts - packet.dts) * unit_of(packet) > DELAY_S:
            packet.dts = packet.pts  # one of them is damaged, and this is the one that is shown
        time_s = packet.dts * unit_of(packet)
        if packet.stream.type not in ("video", "audio"):
            yield from self._take_sparse(packet, track, time_s)
        elif (part := self._part_of(track, time_s)) is not None:
            yield from self._take_known(packet, track, part)
        elif packet.stream.index == self._pictures:
            self._begin_part(packet, track, time_s)
            yield from self._take_known(packet, track, len(self._offsets_s) - 1)
        else:
            track.held.append(packet)
            if len(track.held) == MOST_HELD:
                yield from self._release(track)

    def _take_sparse(
        self, packet: "av.Packet[Any]", track: _Track, time_s: float
    ) -> "Iterator[av.Packet[Any]]":
        """Place a subtitle or the like, whose gaps may be long, by where the film has come to."""
        now_s, parts = self._reached_s or 0.0, self._latest_parts()
        track.part = min(parts, key=lambda part: abs(time_s + self._offsets_s[part] - now_s))
        yield self._moved(packet, track)

    def _take_known(
        self, packet: "av.Packet[Any]", track: _Track, part: int
    ) -> "Iterator[av.Packet[Any]]":
        """Place a packet of a part that is known, and those that waited for it."""
        has_changed, track.part = part != track.part, part
        held, track.held = track.held, []
        for waiting in held:
            yield self._placed_if_near(waiting, track)
        yield self._placed(packet, track)
        if packet.stream.index == self._pictures and has_changed:
            yield from self._take_held()

    def _placed_if_near(self, packet: "av.Packet[Any]", track: _Track) -> "av.Packet[Any]":
        """Place a packet where it belongs, or right behind the one before if it is a stray."""
        self._moved(packet, track)
        unit_s, end_s = unit_of(packet), track.end_s
        assert packet.dts is not None and end_s is not None  # only such packets wait
        if abs(packet.dts * unit_s - end_s) > NEAR_S:
            packet.pts = packet.dts = round(end_s / unit_s)
        self._note(packet, track)
        return packet

    def _take_held(self) -> "Iterator[av.Packet[Any]]":
        """Try again to place what waited for the pictures."""
        for track in self._tracks.values():
            held, track.held = track.held, []
            for packet in held:
                yield from self._take(packet)

    def _release(self, track: _Track) -> "Iterator[av.Packet[Any]]":
        """Place what waits: the pictures do not say where it belongs."""
        held, track.held = track.held, []
        for number, packet in enumerate(held):
            if not number:
                assert packet.dts is not None  # others do not wait
                self._begin_part(packet, track, packet.dts * unit_of(packet))
                track.part = len(self._offsets_s) - 1
            yield self._placed(packet, track)

    def _part_of(self, track: _Track, time_s: float) -> int | None:
        """Return the part that a time belongs to; None if it is that of no part so far."""
        if self._reached_s is None:
            return track.part
        if track.end_s is None:  # streams of one part may begin and lie far apart in the file
            pictures = self._tracks.get(self._pictures, track).part
            near = abs(time_s + self._offsets_s[pictures] - self._reached_s) <= self._gap_s
            return pictures if near else 0
        ahead_s = max(track.end_s, self._reached_s)
        placed_s = time_s + self._offsets_s[track.part]
        if track.end_s - BACK_S <= placed_s <= ahead_s + self._gap_s:
            return track.part
        for part in reversed(self._latest_parts()):
            placed_s = time_s + self._offsets_s[part]
            if track.end_s - NEAR_S <= placed_s <= ahead_s + NEAR_S:
                return part
        return None

    def _latest_parts(self) -> range:
        return range(max(len(self._offsets_s) - MOST_PARTS, 0), len(self._offsets_s))

    def _begin_part(self, packet: "av.Packet[Any]", track: _Track, time_s: float) -> None:
        """Let a packet begin a part right where its stream has come to."""
        assert track.end_s is not None  # a stream's first packet is always placed
        begin_s = track.end_s
        if packet.is_keyframe and packet.pts is not None and track.shown_end_s is not None:
            time_s, begin_s = packet.pts * unit_of(packet), track.shown_end_s
        self._offsets_s.append(begin_s - time_s)
        if packet.stream.index == self._pictures:
            self.jumps_s.append(begin_s)

    def _placed(self, packet: "av.Packet[Any]", track: _Track) -> "av.Packet[Any]":
        self._moved(packet, track)
        self._note(packet, track)
        return packet

    def _moved(self, packet: "av.Packet[Any]", track: _Track) -> "av.Packet[Any]":
        """Move a packet's times by the offset of its part."""
        if offset_s := self._offsets_s[track.part]:
            units = round(offset_s / unit_of(packet))
            packet.dts = None if packet.dts is None else packet.dts + units
            packet.pts = None if packet.pts is None else packet.pts + units
        return packet

    def _note(self, packet: "av.Packet[Any]", track: _Track) -> None:
        """Keep where a placed packet ends."""
        unit_s = unit_of(packet)
        assert packet.dts is not None  # those without are not placed
        begin_s = packet.dts * unit_s
        step_s = (packet.duration or 0) * unit_s
        if step_s <= 0 and track.end_s is not None:
            step_s = min(max(begin_s - track.end_s, 0.0), NEAR_S)
        track.end_s = begin_s + step_s
        shown = packet.dts if packet.pts is None else packet.pts
        shown_end_s = shown * unit_s + step_s
        track.shown_end_s = max(shown_end_s, track.shown_end_s or shown_end_s)
        self._reached_s = max(track.end_s, self._reached_s or track.end_s)
