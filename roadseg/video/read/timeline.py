"""One continuous clock for a video whose own clock restarts, jumps or wraps.

A clock restarts where recordings were joined, jumps where a camera's was set, and wraps where its
bits overflow. The video between two such points is a part. All times of a part, of pictures and
sound alike, are moved by one offset, so that it follows the part before it at its own pace.

The offsets depend only on the packets of pictures and sound in the order of the file, so every
reading of a file from its beginning finds the same ones.
"""

from collections.abc import Iterator
from dataclasses import dataclass, field
from typing import Any

import av

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
class _Track:
    """State of one stream on the continuous clock."""

    part: int = 0
    """Number of its current part."""
    end_s: float | None = None
    """End of its last packet, in decoding order."""
    shown_end_s: float | None = None
    """End of its last picture, in presentation order."""
    step_s: float = 0.0
    """Duration of its last packet."""
    held: "list[av.Packet[Any]]" = field(default_factory=list)
    """Packets whose part is not known yet."""


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
        self._tracks: dict[int, _Track] = {}
        self._reached_s: float | None = None
        self.jumps_s: list[float] = []
        """Times on the continuous clock at which the pictures' own clock jumped."""

    def bridge(self, packets: "Iterator[av.Packet[Any]]") -> "Iterator[av.Packet[Any]]":
        """Yield the packets with their times on the continuous clock.

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
            packet.dts = packet.pts  # one of them is damaged; the presentation time counts
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
        """Place a packet of subtitles or data, with gaps of any length, in the nearest part."""
        now_s, parts = self._reached_s or 0.0, self._latest_parts()
        track.part = min(parts, key=lambda part: abs(time_s + self._offsets_s[part] - now_s))
        yield self._moved(packet, track)

    def _take_known(
        self, packet: "av.Packet[Any]", track: _Track, part: int
    ) -> "Iterator[av.Packet[Any]]":
        """Place a packet whose part is known, and those that waited for it."""
        has_changed, track.part = part != track.part, part
        held, track.held = track.held, []
        for waiting in held:
            yield self._placed_if_near(waiting, track)
        yield self._placed(packet, track)
        if packet.stream.index == self._pictures and has_changed:
            yield from self._take_held()

    def _placed_if_near(self, packet: "av.Packet[Any]", track: _Track) -> "av.Packet[Any]":
        """Place a packet by its part, or right after the one before if that is too far off."""
        self._moved(packet, track)
        unit_s, end_s = unit_of(packet), track.end_s
        assert packet.dts is not None and end_s is not None  # only such packets wait
        if abs(packet.dts * unit_s - end_s) > NEAR_S:
            packet.pts = packet.dts = round(end_s / unit_s)
        self._note(packet, track)
        return packet

    def _take_held(self) -> "Iterator[av.Packet[Any]]":
        """Place the packets that waited for the pictures."""
        for track in self._tracks.values():
            held, track.held = track.held, []
            for packet in held:
                yield from self._take(packet)

    def _release(self, track: _Track) -> "Iterator[av.Packet[Any]]":
        """Place packets that waited in vain, as a part of their own."""
        held, track.held = track.held, []
        for number, packet in enumerate(held):
            if not number:
                assert packet.dts is not None  # others do not wait
                self._begin_part(packet, track, packet.dts * unit_of(packet))
                track.part = len(self._offsets_s) - 1
            yield self._placed(packet, track)

    def _part_of(self, track: _Track, time_s: float) -> int | None:
        """Return the part that a time belongs to; None if it belongs to none so far."""
        if self._reached_s is None:
            return track.part
        if track.end_s is None:  # its first packet: streams of a part may begin far apart
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
        """Begin a part with a packet, at the end of its stream so far."""
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
        """Note the end of a placed packet."""
        unit_s = unit_of(packet)
        assert packet.dts is not None  # those without are not placed
        begin_s = packet.dts * unit_s
        step_s = (packet.duration or 0) * unit_s
        if step_s > self._gap_s:  # in MP4, a packet lasts until the next one, beyond a jump
            step_s = track.step_s
        if step_s <= 0 and track.end_s is not None:
            step_s = min(max(begin_s - track.end_s, 0.0), NEAR_S)
        track.step_s = step_s
        track.end_s = begin_s + step_s
        shown = packet.dts if packet.pts is None else packet.pts
        shown_end_s = shown * unit_s + step_s
        track.shown_end_s = max(shown_end_s, track.shown_end_s or shown_end_s)
        self._reached_s = max(track.end_s, self._reached_s or track.end_s)
