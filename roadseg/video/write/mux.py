"""Put pictures into an open file at their own times, and beside them what their source has."""

from collections.abc import Iterable
from fractions import Fraction
from math import floor
from typing import Any

import av

from roadseg.video.frame import Frame
from roadseg.video.write.companions import Companions, Origin, read_tags, shifted_chapters
from roadseg.video.write.copies import AS_FFMPEG_WOULD
from roadseg.video.write.encoder import PeriodEncoder
from roadseg.video.write.encoding import Codec, Encoding

FAR_START_S = 1.0
"""A film whose clock starts later than this, or below zero, is moved to zero: recorders start
anywhere."""
IN_PIECES = {"movflags": "frag_keyframe+delay_moov+default_base_moof", **AS_FFMPEG_WOULD}
"""What makes MP4 play wherever it is cut off."""
TIMES_AS_THEY_ARE = {"avoid_negative_ts": "disabled", **AS_FFMPEG_WOULD}
"""What keeps Matroska from moving a film whose sound begins a little before it."""
PIECE_MS = 200
"""Milliseconds of film in one piece of a file, which is written when it is whole."""
AT_ONCE = {
    "flush_packets": "1",
    # FFmpeg waits ten seconds for the next packet of a stream that has ended or is rare.
    "max_interleave_delta": str(1000 * PIECE_MS),
}
"""What has every format write what it has."""
SMALL_PIECES = {"frag_duration": str(1000 * PIECE_MS)}, {"cluster_time_limit": str(PIECE_MS)}
"""The same for the pieces of MP4, and of Matroska."""


def unbroken(*, is_mp4: bool) -> dict[str, str]:
    """Return options for a file that plays wherever it is cut off, with all but the last moment."""
    pieces, clusters = SMALL_PIECES
    return AT_ONCE | (IN_PIECES | pieces if is_mp4 else TIMES_AS_THEY_ARE | clusters)


class Muxer:
    """The streams of a film being written.

    Args:
        container: File to write to, open and empty.
        origin: What the pictures come from.
        companions: Sound and subtitles of it.
        encoding: Quality and preset.
        codec: What to compress the pictures with.
    """

    def __init__(
        self,
        container: av.container.OutputContainer,
        origin: Origin,
        companions: Companions,
        encoding: Encoding,
        codec: Codec,
    ) -> None:
        self._container = container
        self._origin = origin
        self._companions = companions
        self._encoding = encoding
        self._codec = codec
        self._offset = Fraction(0)
        self._stream: av.VideoStream | None = None
        self._encoder: PeriodEncoder | None = None
        self._last_dts: Fraction | None = None
        self._held: av.Packet[Any] | None = None

    @property
    def has_begun(self) -> bool:
        """Whether the streams are there."""
        return self._stream is not None

    def begin(self, frame: Frame) -> None:
        """Add all streams to the file, given the first frame that will be written."""
        first_pts = self._origin.log.first_pts
        first = (frame.pts if first_pts is None else first_pts) * frame.time_base
        if self._origin.start_s > 0 or not 0 <= first <= FAR_START_S:
            self._offset = first  # a cut begins at zero, and so does its sound
            self._companions.begin_at(float(first))
        options = self._options(frame)
        self._stream = self._add_stream(frame, options)
        self._encoder = PeriodEncoder(self._stream, options, self._origin.source.start_s)
        self._companions.open_streams()

    def write(self, frame: Frame) -> None:
        """Encode a frame at its own time."""
        assert self._encoder is not None
        encoded = frame.picture.encodable()
        units = int(self._offset / frame.time_base)
        encoded.pts, encoded.time_base = frame.pts - units, frame.time_base
        self._companions.copy_until(frame.time_s)
        self._mux(self._encoder.encode(encoded, frame.time_s))

    def copy(self, packets: "Iterable[av.Packet[Any]]") -> None:
        """Add pictures that another run encoded, before any is written."""
        for packet in packets:
            assert packet.pts is not None and packet.time_base
            packet.stream = self._stream
            self._companions.copy_until(float(packet.pts * packet.time_base + self._offset))
            self._mux([packet])

    def flush(self) -> None:
        """Write the pictures that the encoder still holds."""
        if self._encoder is None:
            return
        self._mux(self._encoder.flush())
        if self._held is not None:
            self._container.mux(self._held)
            self._held = None

    def finish(self) -> None:
        """Write what is left of pictures, sound and subtitles."""
        self.flush()
        self._companions.finish()

    def describe(self, film: av.container.OutputContainer, pictures: av.stream.Stream) -> None:
        """Put tags and chapters into a film, this or a copy of it, before its first packet."""
        tags = read_tags(self._origin.source)
        film.metadata.update(tags.film)
        pictures.metadata.update(tags.pictures)
        first_s, last_s = self._origin.first_s, self._origin.last_s
        film.set_chapters(shifted_chapters(tags.chapters, first_s, last_s, float(self._offset)))

    def _options(self, frame: Frame) -> dict[str, str]:
        source = self._origin.source
        encoded = frame.picture.encodable()
        pixels = encoded.height * encoded.width
        scale = pixels / (source.size_hw[0] * source.size_hw[1])
        bit_rate = source.bit_rate and source.bit_rate * scale
        return self._encoding.options(self._codec, source.fps, pixels, bit_rate)

    def _add_stream(self, frame: Frame, options: dict[str, str]) -> av.VideoStream:
        picture, source = frame.picture.encodable(), self._origin.source
        stream = self._container.add_stream(self._codec.encoder, rate=source.fps, options=options)
        assert isinstance(stream, av.VideoStream)
        stream.width, stream.height = picture.width, picture.height
        stream.pix_fmt = self._codec.pixel_format
        stream.time_base = stream.codec_context.time_base = frame.time_base
        context = stream.codec_context
        context.sample_aspect_ratio = frame.pixel_aspect
        context.colorspace, context.color_range = picture.colorspace, picture.color_range
        context.color_primaries, context.color_trc = source.primaries, source.transfer
        if self._codec.mp4_tag and self._container.format.name in ("mp4", "mov"):
            context.codec_tag = self._codec.mp4_tag
        return stream

    def _mux(self, packets: "list[av.Packet[Any]]") -> None:
        """Write packets of the video stream, those of two encoders' joint in order.

        Each waits for the one behind it: a piece of MP4 goes on where the last packet of the piece
        before says that it ends.
        """
        for packet in packets:
            assert packet.dts is not None and packet.time_base
            dts = packet.dts * packet.time_base
            if self._last_dts is not None and dts <= self._last_dts:
                packet.dts = floor(self._last_dts / packet.time_base) + 1
                dts = packet.dts * packet.time_base
            if self._held is not None:
                assert self._last_dts is not None and self._held.time_base is not None
                self._held.duration = round((dts - self._last_dts) / self._held.time_base)
                self._container.mux(self._held)
            self._last_dts, self._held = dts, packet
