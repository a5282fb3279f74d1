"""The streams of a video besides its pictures: sound, subtitles, telemetry; chapters and tags."""

import contextlib
from collections.abc import Collection, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from fractions import Fraction
from itertools import chain
from math import inf
from types import TracebackType
from typing import TYPE_CHECKING, Self

import av

from roadseg.video.errors import read_errors
from roadseg.video.pyav import Packet, all_legible, exact
from roadseg.video.read.beside import continuous_packets
from roadseg.video.read.demux import Packets
from roadseg.video.read.read_log import ReadLog
from roadseg.video.read.seek import read_from
from roadseg.video.read.source import VideoInfo, open_input
from roadseg.video.write.copies import WITH_EDIT_LISTS, lasting
from roadseg.video.write.forms import WrittenStream, forms_of

if TYPE_CHECKING:
    from av.container.core import Chapter


KINDS = ("audio", "subtitle", "data")
"""Types of streams that are copied."""
SOUND_WITHIN_S = 60.0
"""How far into the video its sound is waited for; it may still begin later."""


@dataclass(frozen=True, kw_only=True)
class Tags:
    """Tags and chapters of a video."""

    film: Mapping[str, str] = field(default_factory=dict)
    """Tags of the whole video: time of recording, place, title."""
    pictures: Mapping[str, str] = field(default_factory=dict)
    """Tags of its video stream: language, camera."""
    chapters: "Sequence[Chapter]" = ()
    """Chapters as PyAV gives them."""


def read_tags(info: VideoInfo) -> Tags:
    """Return a video's tags.

    Raises:
        VideoError: It cannot be read.
    """
    if not info.reopens:
        return Tags()
    with read_errors(info.path), open_input(info.path) as container:
        return Tags(
            film=lasting(container.metadata),
            pictures=lasting(container.streams[info.stream_index].metadata),
            chapters=tuple(
                {**chapter, "metadata": all_legible(chapter["metadata"])}
                for chapter in container.chapters()
            ),
        )


def shifted_chapters(
    chapters: "Sequence[Chapter]", first_s: float, last_s: float, zero_s: float
) -> "list[Chapter]":
    """Return the chapters of a cut, shortened to it.

    Args:
        chapters: Chapters of the whole video.
        first_s: Beginning of the cut.
        last_s: Its end.
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


@dataclass(frozen=True, kw_only=True)
class Origin:
    """The source of the pictures of a video being written."""

    source: VideoInfo
    """The video."""
    log: ReadLog
    """Log in which its reader notes the time of the first frame."""
    start_s: float = 0.0
    """Beginning of a cut, in seconds from the video's first frame."""
    end_s: float | None = None
    """Its end; None is the video's end."""
    sound: str = "auto"
    """What becomes of its sound: auto, copy, aac or none."""
    keep_tags: bool = True
    """Let tags, chapters, subtitles and telemetry go along."""
    is_chunk: bool = False
    """Whether the pictures alone are written, at the times that they have in the source."""

    @property
    def first_s(self) -> float:
        """Beginning in the video; of a whole video, everything before its pictures is included."""
        return self.source.start_s + self.start_s if self.start_s > 0 else -inf

    @property
    def last_s(self) -> float:
        """End in the video."""
        return inf if self.end_s is None else self.source.start_s + self.end_s


class Companions:
    """The sound, subtitles and telemetry of a source, copied packet by packet into another file.

    What the file's format cannot hold is encoded anew or left out, and noted in the log. No fault
    of theirs fails the run.

    Args:
        origin: Video, or cut of it, that they belong to.
        target: File to write them to.
    """

    def __init__(self, origin: Origin, target: av.container.OutputContainer) -> None:
        self._source = origin.source
        self._wanted = origin.source.reopens and not origin.is_chunk
        self._sound = origin.sound
        self._keeps_tags = origin.keep_tags
        self._log = origin.log
        self._target = target
        self._seek_s = origin.first_s
        self._first_s = -inf
        self._last_s = origin.last_s
        self._pending: Packet | None = None
        self._offset = Fraction(0)
        self.sound_begin: Fraction | None = None
        """Time of the first sound, once the streams are open; None if there is none."""
        self._container: av.container.InputContainer | None = None
        self._streams: dict[int, WrittenStream] = {}
        """What is written, by the number of the source's stream."""
        self._packets: Packets = iter(())

    def __enter__(self) -> Self:
        self._open()
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        traceback: TracebackType | None,
    ) -> None:
        if self._container is not None:
            self._container.close()

    def begin_at(self, time: Fraction) -> None:
        """Leave out packets that begin before a time in seconds, which becomes zero."""
        self._first_s, self._offset = float(time), time

    def open_streams(self) -> None:
        """Add the source's streams to the target, before its first packet is written."""
        if self._container is None:
            return
        kinds = [kind for kind in KINDS if self._goes_along(kind)]
        indices = [s.index for kind in kinds for s in self._container.streams if s.type == kind]
        if not indices:
            return
        hides_lead = self._target.format.name in WITH_EDIT_LISTS
        packets = _heard(self._demux(indices), hides_lead=hides_lead)
        wanted = [self._container.streams[index] for index in indices]  # it may be opened anew
        absent, self.sound_begin, self._packets = _absent(wanted, packets)
        for stream in wanted:
            if stream.index in absent:
                self._note(stream, "is announced and never comes")
            else:
                self._add(stream)
        if not self._keeps_tags:
            for added in self._target.streams:
                added.metadata.clear()

    def _goes_along(self, kind: str) -> bool:
        return self._sound != "none" if kind == "audio" else self._keeps_tags

    def copy_until(self, time_s: float) -> None:
        """Copy the packets up to a time, so that streams are interleaved in the file."""
        while (packet := self._pending or self._next()) is not None:
            start_s = _start_s(packet)
            if start_s > time_s:
                self._pending = packet
                return
            self._pending = None
            if self._first_s <= start_s < self._last_s:
                self._write(packet)

    def finish(self) -> None:
        """Copy the remaining packets."""
        self.copy_until(inf)
        for stream in self._streams.values():
            stream.finish()
        if refused := sum(stream.refused for stream in self._streams.values()):
            self._log.left_behind.append(
                f"{refused} packets of sound, subtitles or data are damaged; they were left out"
            )

    def _open(self) -> None:
        if self._container is not None:
            self._container.close()
        if self._wanted:
            with read_errors(self._source.path):
                self._container = open_input(self._source.path)

    def _add(self, stream: av.stream.Stream) -> None:
        """Add a stream in the first form that the target takes."""
        for form in forms_of(stream, self._sound):
            with contextlib.suppress(ValueError, av.FFmpegError):
                self._streams[stream.index] = form(stream, self._target)
                return
        self._note(stream, f"cannot go into {self._target.format.name}")

    def _note(self, stream: av.stream.Stream, why: str) -> None:
        context = stream.codec_context
        kind = {"audio": "sound", "subtitle": "subtitles"}.get(stream.type, stream.type)
        self._log.left_behind.append(
            f"stream {stream.index}, {context.name if context else 'unknown'} {kind}, {why}; "
            "it was left out"
        )

    def _demux(self, wanted: Collection[int]) -> Packets:
        """Return the packets from the beginning of the cut on, and perhaps some earlier ones."""
        if self._seek_s > -inf:
            assert self._container is not None
            pictures = self._container.streams[self._source.stream_index]
            packets = self._read(wanted)
            sought = read_from(self._container, pictures, self._seek_s, packets, _start_s)
            if sought is not None:
                return sought
            self._open()
        return self._read(wanted)

    def _read(self, wanted: Collection[int]) -> Packets:
        assert self._container is not None
        return continuous_packets(self._container, self._source.stream_index, wanted)

    def _next(self) -> Packet | None:
        with read_errors(self._source.path):
            return next(self._packets, None)

    def _write(self, packet: Packet) -> None:
        stream = self._streams.get(packet.stream.index)
        if stream is None:
            return
        if self._offset:
            assert packet.time_base and packet.dts is not None
            units = int(self._offset / packet.time_base)
            packet.dts -= units
            packet.pts = packet.dts if packet.pts is None else packet.pts - units
        stream.write(packet)


def _absent(
    wanted: "Sequence[av.stream.Stream]", packets: Packets
) -> tuple[set[int], Fraction | None, Packets]:
    """Return the streams of sound without packets, the time of the first sound, and all packets."""
    sounds = {s.index for s in wanted if s.type == "audio"}
    missing = set(sounds)
    begin: Fraction | None = None
    read: list[Packet] = []
    for packet in packets:
        read.append(packet)
        missing.discard(packet.stream.index)
        if packet.stream.index in sounds and not packet.is_discard:
            begin = _start(packet) if begin is None else min(begin, _start(packet))
        if not missing or _start_s(packet) > _start_s(read[0]) + SOUND_WITHIN_S:
            return set(), begin, chain(read, packets)
    return missing, begin, iter(read)


def _heard(packets: Iterator[Packet], *, hides_lead: bool) -> Iterator[Packet]:
    """Leave out what the source's edit list hides.

    A decoder needs hidden packets before the first audible one. A format with edit lists keeps all
    of them hidden; any other gets only the last.
    """
    begun: set[int] = set()
    lead: dict[int, Packet] = {}
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


def _start(packet: Packet) -> Fraction:
    """Return the decoding time of a packet in seconds."""
    assert packet.dts is not None and packet.time_base
    return packet.dts * packet.time_base


def _start_s(packet: Packet) -> float:
    return float(_start(packet))
