"""What a film has besides its pictures: sound, subtitles, chapters and tags, copied as they are."""

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from fractions import Fraction
from math import inf
from types import TracebackType
from typing import TYPE_CHECKING, Any, Self

import av
from av.bitstream import BitStreamFilterContext

from roadseg.errors import VideoError
from roadseg.video.errors import read_errors
from roadseg.video.origin import Origin
from roadseg.video.pyav import exact, legible
from roadseg.video.source import VideoInfo, open_input, read_from

if TYPE_CHECKING:
    from av.container.core import Chapter

KINDS = ("audio", "subtitle")
"""Types of streams that are copied."""
OWN_TAGS = ("major_brand", "minor_version", "compatible_brands", "encoder", "timecode", "duration")
"""Tags that say how a file was made, which are the new file's own business."""
STATISTICS = ("bps", "number_of_", "_statistics")
"""Beginnings of tags in which Matroska files count what was in them."""


@dataclass(frozen=True, kw_only=True)
class Tags:
    """What a film says of itself in words."""

    film: Mapping[str, str] = field(default_factory=dict)
    """Tags of the whole film: time of recording, place, title."""
    pictures: Mapping[str, str] = field(default_factory=dict)
    """Tags of its video stream: language, camera."""
    chapters: "Sequence[Chapter]" = ()
    """Chapters as PyAV gives them."""


def read_tags(info: VideoInfo) -> Tags:
    """Return a film's tags.

    Raises:
        VideoError: It cannot be read.
    """
    if not info.reopens:
        return Tags()
    with read_errors(info.path), open_input(info.path) as container:
        return Tags(
            film=_lasting(container.metadata),
            pictures=_lasting(container.streams[info.stream_index].metadata),
            chapters=tuple(
                {**chapter, "metadata": _legible(chapter["metadata"])}
                for chapter in container.chapters()
            ),
        )


def shifted_chapters(
    chapters: "Sequence[Chapter]", first_s: float, last_s: float, zero_s: float
) -> "list[Chapter]":
    """Return the chapters that lie in a cut, as long as they are in it.

    Args:
        chapters: Chapters of the whole film.
        first_s: Where the cut begins.
        last_s: Where it ends.
        zero_s: Time that becomes zero.
    """
    kept: list[Chapter] = []
    for chapter in chapters:
        unit_s = exact(chapter["time_base"])
        assert unit_s is not None
        start_s = max(float(chapter["start"] * unit_s), first_s)
        end_s = min(float(chapter["end"] * unit_s), last_s)
        if start_s < end_s:
            start, end = (round((time_s - zero_s) / unit_s) for time_s in (start_s, end_s))
            kept.append({**chapter, "start": start, "end": end})
    return kept


def copy_stream(
    stream: av.stream.Stream, target: av.container.OutputContainer, source_name: object
) -> av.stream.Stream:
    """Add a stream of the same kind, tags and role to a file.

    Raises:
        VideoError: The file's format cannot hold it.
    """
    context = stream.codec_context
    kind = {"audio": "sound", "subtitle": "subtitles"}.get(stream.type, stream.type)
    name = context.name if context else "unknown"
    try:
        copy = target.add_stream_from_template(stream, opaque=True)
    except ValueError as error:
        raise VideoError(
            f"{source_name} has {name} {kind}, which {target.format.name} cannot hold; "
            "choose an --out that ends in .mkv"
        ) from error
    copy.metadata.update(_lasting(stream.metadata))
    copy.disposition = stream.disposition
    return copy


class Companions:
    """The sound and the subtitles of a source, copied packet by packet into another file.

    Args:
        origin: Film, or cut of it, that they belong to.
        target: File to copy them into.
    """

    def __init__(self, origin: Origin, target: av.container.OutputContainer) -> None:
        self._source = origin.source
        self._target = target
        self._seek_s = origin.first_s
        self._first_s = -inf
        self._last_s = origin.last_s
        self._pending: av.Packet[Any] | None = None
        self._offset_s = 0.0
        self._container: av.container.InputContainer | None = None
        self._streams: dict[int, av.stream.Stream] = {}
        self._filters: dict[int, BitStreamFilterContext] = {}
        self._packets: Iterator[av.Packet[Any]] = iter(())

    def __enter__(self) -> Self:
        if self._source.reopens:
            with read_errors(self._source.path):
                self._container = open_input(self._source.path)
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        traceback: TracebackType | None,
    ) -> None:
        if self._container is not None:
            self._container.close()

    def begin_at(self, time_s: float) -> None:
        """Leave out what begins before a time, and let that time be zero."""
        self._first_s = self._offset_s = time_s

    def open_streams(self) -> None:
        """Add the source's streams to the target, before its first packet is written.

        Raises:
            VideoError: The target's format cannot hold them.
        """
        if self._container is None:
            return
        hides_lead = self._target.format.name in ("mp4", "mov")
        inputs = [s for kind in KINDS for s in self._container.streams if s.type == kind]
        for stream in inputs:
            self._streams[stream.index] = copy_stream(stream, self._target, self._source.path)
            # Broadcasts repeat a header before each packet, which MP4 has once for all.
            if _is_broadcast_aac(stream) and hides_lead:
                self._filters[stream.index] = BitStreamFilterContext("aac_adtstoasc", stream)
        if inputs:
            self._packets = _heard(self._demux(self._container, inputs), hides_lead=hides_lead)

    def copy_until(self, time_s: float) -> None:
        """Copy the packets that start before a time, so that all lie side by side in the file."""
        while (packet := self._pending or self._next()) is not None:
            start_s = _start_s(packet)
            if start_s > time_s:
                self._pending = packet
                return
            self._pending = None
            if self._first_s <= start_s < self._last_s:
                self._mux(packet)

    def _demux(
        self, container: av.container.InputContainer, inputs: list[av.stream.Stream]
    ) -> Iterator["av.Packet[Any]"]:
        """Return the packets from the beginning of the cut on, and perhaps some before it."""
        if self._seek_s > -inf:
            packets = _timed(container.demux(inputs))
            sought = read_from(container, inputs[0], self._seek_s, packets, _start_s)
            if sought is not None:
                return sought
            container.seek(0)
        return _timed(container.demux(inputs))

    def _next(self) -> "av.Packet[Any] | None":
        with read_errors(self._source.path):
            return next(self._packets, None)

    def _mux(self, packet: "av.Packet[Any]") -> None:
        if self._offset_s:
            assert packet.time_base and packet.dts is not None
            units = int(Fraction(self._offset_s) / packet.time_base)
            packet.dts -= units
            packet.pts = packet.dts if packet.pts is None else packet.pts - units
        index = packet.stream.index
        bare = self._filters[index].filter(packet) if index in self._filters else [packet]
        for copy in bare:
            copy.stream = self._streams[index]
            self._target.mux(copy)


def _is_broadcast_aac(stream: av.stream.Stream) -> bool:
    context = stream.codec_context
    return context is not None and context.name == "aac" and not context.extradata


def _timed(packets: Iterator["av.Packet[Any]"]) -> Iterator["av.Packet[Any]"]:
    """Leave out packets without a time: the empty one at a stream's end is such."""
    return (packet for packet in packets if packet.dts is not None)


def _heard(packets: "Iterator[av.Packet[Any]]", *, hides_lead: bool) -> "Iterator[av.Packet[Any]]":
    """Leave out what the source's edit list hides.

    Decoders start with what lies before the first sound to be heard: a format with edit lists of
    its own keeps all of it hidden, any other gets the last packet.
    """
    begun: set[int] = set()
    lead: dict[int, av.Packet[Any]] = {}
    for packet in packets:
        index = packet.stream.index
        if not packet.is_discard:
            begun.add(index)
            if index in lead:
                yield lead.pop(index)
            yield packet
        elif index not in begun and hides_lead:
            yield packet
        elif index not in begun:
            lead[index] = packet


def _start_s(packet: "av.Packet[Any]") -> float:
    assert packet.dts is not None and packet.time_base
    return float(packet.dts * packet.time_base)


def _lasting(tags: Mapping[str, str]) -> dict[str, str]:
    """Leave out the tags that are true of one file only."""
    return {
        name: text
        for name, text in _legible(tags).items()
        if name.lower() not in OWN_TAGS and not name.lower().startswith(STATISTICS)
    }


def _legible(tags: Mapping[str, str]) -> dict[str, str]:
    return {legible(name): legible(text) for name, text in tags.items()}
