"""Copy streams without encoding them, as far as the file's format takes them."""

import contextlib
import io
from collections.abc import Mapping

import av
from av.bitstream import BitStreamFilterContext

from roadseg.video.pyav import Packet, all_legible
from roadseg.video.read.clock import unit_of

OWN_TAGS = ("major_brand", "minor_version", "compatible_brands", "encoder", "timecode", "duration")
"""Tags about how a file was made, which the new file sets itself."""
STATISTICS = ("bps", "number_of_", "_statistics")
"""Prefixes of the statistics tags in Matroska files."""
AS_FFMPEG_WOULD = {"strict": "experimental"}
"""Option with which a format takes everything that FFmpeg can write to it."""
WITH_EDIT_LISTS = ("mp4", "mov")
"""Formats that can hide the beginning of a stream."""
EQUAL_TIMES = ("matroska", "webm")
"""Formats in which two packets of a stream may have the same time."""
NO_TAG = "\0\0\0\0"
"""Lets a format choose its own codec tag."""
LONGEST_PACKET_S = 600.0
"""Longest duration of a packet that is believed."""


def lasting(tags: Mapping[str, str]) -> dict[str, str]:
    """Return the tags that stay true in another file."""
    return {
        name: text
        for name, text in all_legible(tags).items()
        if name.lower() not in OWN_TAGS and not name.lower().startswith(STATISTICS)
    }


def copy_stream(stream: av.stream.Stream, target: av.container.OutputContainer) -> av.stream.Stream:
    """Add a stream with the same codec, tags and disposition to a file.

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
    """Add sound of a codec that FFmpeg can put into Matroska and PyAV refuses.

    PyAV takes only codecs for which the format has an ID of its own; telephone codecs and others
    are stored under their WAV tags. A PCM stream is added and gets the codec's parameters.
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
    """A file object that discards what is written."""

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


class CopiedStream:
    """A stream copied packet by packet; packets that the format refuses are skipped and counted.

    Every packet is first written to a trial file that is discarded. A refusal there costs only that
    packet; in the real file, where FFmpeg interleaves all streams, it would fail the run.

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
        # Broadcast AAC has a header in each packet, where MP4 has one for the stream.
        is_bare = form in WITH_EDIT_LISTS and _is_broadcast_aac(stream)
        self._filter = BitStreamFilterContext("aac_adtstoasc", stream) if is_bare else None
        self._least_step = 0 if form in EQUAL_TIMES else 1
        self._last_dts: int | None = None
        self.refused = 0

    def write(self, packet: Packet) -> None:
        """Copy a packet that has a decoding time."""
        for copy in self._accepted(packet):
            copy.stream = self._stream
            self._target.mux(copy)

    def _accepted(self, packet: Packet) -> list[Packet]:
        """Return a packet as the format takes it; nothing if it is refused."""
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
        """Close the trial file; nothing is buffered."""
        with contextlib.suppress(av.FFmpegError):
            self._trial.close()

    def _mend_times(self, packet: Packet) -> None:
        """Convert times to the file's units, increasing as the format demands."""
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
