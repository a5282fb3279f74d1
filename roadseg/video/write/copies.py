"""Copies of streams as they are, in files that may be particular about what they take."""

import contextlib
import io
from collections.abc import Mapping
from typing import Any

import av
from av.bitstream import BitStreamFilterContext

from roadseg.video.pyav import all_legible
from roadseg.video.read.timeline import unit_of

OWN_TAGS = ("major_brand", "minor_version", "compatible_brands", "encoder", "timecode", "duration")
"""Tags that say how a file was made, which are the new file's own business."""
STATISTICS = ("bps", "number_of_", "_statistics")
"""Beginnings of tags in which Matroska files count what was in them."""
AS_FFMPEG_WOULD = {"strict": "experimental"}
"""Option with which a format takes all that FFmpeg can put there."""
WITH_EDIT_LISTS = ("mp4", "mov")
"""Formats that can hide the beginning of a stream."""
EQUAL_TIMES = ("matroska", "webm")
"""Formats in which packets of a stream may have the same time."""
NO_TAG = "\0\0\0\0"
"""Lets a format choose its own name of a codec."""
LONGEST_PACKET_S = 600.0
"""A packet that says it lasts longer is not believed."""


def lasting(tags: Mapping[str, str]) -> dict[str, str]:
    """Leave out the tags that are true of one file only."""
    return {
        name: text
        for name, text in all_legible(tags).items()
        if name.lower() not in OWN_TAGS and not name.lower().startswith(STATISTICS)
    }


def copy_stream(stream: av.stream.Stream, target: av.container.OutputContainer) -> av.stream.Stream:
    """Add a stream of the same kind, tags and role to a file.

    Raises:
        ValueError: The file's format cannot hold it.
    """
    try:
        copy = target.add_stream_from_template(stream, opaque=True)
    except ValueError:
        if stream.type != "audio" or target.format.name != "matroska":
            raise
        copy = _dressed(stream, target)
    copy.metadata.update(lasting(stream.metadata))
    copy.disposition = stream.disposition
    return copy


def _dressed(stream: av.stream.Stream, target: av.container.OutputContainer) -> av.stream.Stream:
    """Add a stream of sound of a codec that Matroska takes from FFmpeg, but not from PyAV.

    PyAV asks for what the format has a name of its own for; telephone codecs and the like lie in
    Matroska under their names in WAV. A stream of another codec is added and then made the same.
    """
    with io.BytesIO() as file:
        with av.open(file, "w", format="wav") as wave:
            wave.add_stream("pcm_s16le", rate=8000)
            wave.start_encoding()
        file.seek(0)
        with av.open(file) as wave:
            copy = target.add_stream_from_template(wave.streams.audio[0], opaque=True)
    BitStreamFilterContext("null", stream, copy)  # gives its parameters to the copy
    assert copy.codec_context is not None
    copy.codec_context.codec_tag = NO_TAG
    copy.time_base = stream.time_base
    return copy


class _Nowhere:
    """A file that keeps nothing."""

    def __init__(self) -> None:
        self._place = self._end = 0

    def write(self, data: bytes) -> int:
        self._place += len(data)
        self._end = max(self._end, self._place)
        return len(data)

    def seek(self, offset: int, whence: int = io.SEEK_SET) -> int:
        self._place = offset + (0, self._place, self._end)[whence]
        return self._place

    def tell(self) -> int:
        return self._place


class CopiedTrack:
    """A stream copied packet by packet; what the format refuses is left out and counted.

    Every packet is written to a file that goes nowhere first. There a refusal costs that packet;
    in the real file, where FFmpeg puts packets of all streams in order, it would cost the film.

    Args:
        stream: What to copy.
        target: File to copy it into, whose header is not written yet.

    Raises:
        ValueError: The format cannot hold it.
        FFmpegError: Nor can it.
    """

    def __init__(self, stream: av.stream.Stream, target: av.container.OutputContainer) -> None:
        form = target.format.name
        self._trial = av.open(_Nowhere(), "w", format=form, container_options=dict(AS_FFMPEG_WOULD))
        self._trial_stream = copy_stream(stream, self._trial)
        self._trial.start_encoding()
        self._stream = copy_stream(stream, target)
        self._target = target
        # Broadcasts repeat a header before each packet, which MP4 has once for all.
        is_bare = form in WITH_EDIT_LISTS and _is_broadcast_aac(stream)
        self._filter = BitStreamFilterContext("aac_adtstoasc", stream) if is_bare else None
        self._least_step = 0 if form in EQUAL_TIMES else 1
        self._last_dts: int | None = None
        self.refused = 0

    def write(self, packet: "av.Packet[Any]") -> None:
        """Copy a packet, which has a time at which it is to be decoded."""
        for copy in self._accepted(packet):
            copy.stream = self._stream
            self._target.mux(copy)

    def _accepted(self, packet: "av.Packet[Any]") -> "list[av.Packet[Any]]":
        """Return what the format takes of a packet."""
        try:
            bare = self._filter.filter(packet) if self._filter else [packet]
            for copy in bare:
                self._mend_times(copy)
                copy.stream = self._trial_stream
                self._trial.mux(copy)
        except av.FFmpegError:
            self.refused += 1
            return []
        return bare

    def finish(self) -> None:
        """End the trial; there is nothing left to copy."""
        with contextlib.suppress(av.FFmpegError):
            self._trial.close()

    def _mend_times(self, packet: "av.Packet[Any]") -> None:
        """Bring times to the units of the file, none before that of the packet before."""
        assert packet.dts is not None and self._trial_stream.time_base is not None
        ratio = packet.time_base / self._trial_stream.time_base
        dts = round(packet.dts * ratio)
        pts = dts if packet.pts is None else round(packet.pts * ratio)
        if self._last_dts is not None:
            dts = max(dts, self._last_dts + self._least_step)
        lasts_s = (packet.duration or 0) * unit_of(packet)
        duration = round(lasts_s / unit_of(self._trial_stream))
        packet.time_base = self._trial_stream.time_base
        packet.dts, packet.pts = dts, max(pts, dts)
        packet.duration = duration if 0 < lasts_s < LONGEST_PACKET_S else 0
        self._last_dts = dts


def _is_broadcast_aac(stream: av.stream.Stream) -> bool:
    context = stream.codec_context
    return context is not None and context.name == "aac" and not context.extradata
