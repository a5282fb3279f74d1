"""Encode and mux pictures at their own times, with the other streams of their source."""

import contextlib
from collections.abc import Iterable
from fractions import Fraction
from math import floor
from pathlib import Path
from types import TracebackType

import av

from roadseg.video.errors import write_errors
from roadseg.video.frame import Frame
from roadseg.video.picture import PIXEL_FORMAT
from roadseg.video.pyav import Packet
from roadseg.video.write.companions import Companions, Origin, read_tags, shifted_chapters
from roadseg.video.write.copies import AS_FFMPEG_WOULD
from roadseg.video.write.encoder import PeriodEncoder
from roadseg.video.write.encoding import Codec, Encoding
from roadseg.video.write.priority import kept_priority

FAR_START_S = 1.0
"""Start time above which a video is moved to zero, as is one that starts before zero."""
LONGEST_LEAD_S = 10.0
"""Longest time by which sound may begin before the pictures of a video that is moved to zero."""
IN_PIECES = {"movflags": "frag_keyframe+delay_moov+default_base_moof", **AS_FFMPEG_WOULD}
"""Options with which an MP4 file plays wherever it is cut off."""
TIMES_AS_THEY_ARE = {"avoid_negative_ts": "disabled", **AS_FFMPEG_WOULD}
"""Options with which Matroska keeps times when sound begins a little before the pictures."""
PIECE_MS = 200
"""Milliseconds of video in one fragment of a file, which is written as a whole."""
AT_ONCE = {
    "flush_packets": "1",
    # FFmpeg would wait ten seconds for the next packet of a stream that has ended or is sparse.
    "max_interleave_delta": str(1000 * PIECE_MS),
}
"""Options with which every format writes its packets at once."""
SMALL_PIECES = {"frag_duration": str(1000 * PIECE_MS)}, {"cluster_time_limit": str(PIECE_MS)}
"""The same for the fragments of MP4, and the clusters of Matroska."""


def unbroken(*, is_mp4: bool) -> dict[str, str]:
    """Return options for a file that plays wherever it is cut off, but for its last fragment."""
    pieces, clusters = SMALL_PIECES
    return AT_ONCE | (IN_PIECES | pieces if is_mp4 else TIMES_AS_THEY_ARE | clusters)


class Muxing:
    """A video being written, for as long as the block lasts; it is finished if that ends well.

    After an error only the pictures in the encoder are still written. Errors of that are dropped:
    the first one counts.

    Args:
        name: Name of the video in errors.
        opened: Opens the file to write to.
        origin: Source of the pictures and of all other streams.
        encoding: Codec, quality and preset.
        codec: The codec that `encoding` chooses.
    """

    def __init__(
        self,
        name: Path,
        opened: contextlib.AbstractContextManager[av.container.OutputContainer],
        origin: Origin,
        encoding: Encoding,
        codec: Codec,
    ) -> None:
        self._name = name
        self._opened = opened
        self._origin = origin
        self._encoding = encoding
        self._codec = codec

    def __enter__(self) -> "Muxer":
        with contextlib.ExitStack() as stack, write_errors(self._name):
            container = stack.enter_context(self._opened)
            companions = stack.enter_context(Companions(self._origin, container))
            self._muxer = Muxer(container, self._origin, companions, self._encoding, self._codec)
            self._exits = stack.pop_all()
        return self._muxer

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        traceback: TracebackType | None,
    ) -> None:
        if kind is None:
            with write_errors(self._name), self._exits:
                self._muxer.finish()
            return
        with contextlib.suppress(av.FFmpegError, OSError), self._exits:
            self._muxer.flush()


class Muxer:
    """The streams of a video being written.

    Args:
        container: File to write to, open and empty.
        origin: Source of the pictures.
        companions: Its sound and subtitles.
        encoding: Quality and preset.
        codec: Codec of the pictures.
    """

    def __init__(
        self,
        container: av.container.OutputContainer,
        origin: Origin,
        companions: Companions,
        encoding: Encoding,
        codec: Codec,
    ) -> None:
        self.container = container
        self._origin = origin
        self._companions = companions
        self._encoding = encoding
        self._codec = codec
        self._offset = Fraction(0)
        self._stream: av.VideoStream | None = None
        self._encoder: PeriodEncoder | None = None
        self._last_dts: Fraction | None = None
        self._held: Packet | None = None

    @property
    def has_begun(self) -> bool:
        """Whether the streams were added."""
        return self._stream is not None

    @kept_priority()
    def begin(self, frame: Frame) -> None:
        """Add all streams to the file, given the first frame to be written."""
        encoded = self._encodable(frame)
        options = self._options(encoded)
        self._stream = self._add_stream(frame, encoded, options)
        self._encoder = PeriodEncoder(self._stream, options, self._origin.source.start_s)
        self._companions.open_streams()
        if not self._origin.is_chunk:
            self._begin_at_zero(frame)

    def _begin_at_zero(self, frame: Frame) -> None:
        """Move a cut, and a video that begins far from zero, to zero."""
        first_pts = self._origin.log.first_pts
        first = (frame.pts if first_pts is None else first_pts) * frame.time_base
        if self._origin.start_s <= 0:
            if 0 <= first <= FAR_START_S:
                return
            first = self._with_lead(first)
        self._offset = first
        self._companions.begin_at(first)

    def _with_lead(self, first: Fraction) -> Fraction:
        """Return when a video begins: with its sound, if that comes not too long before.

        Args:
            first: Time of its first frame.
        """
        sound = self._companions.sound_begin
        if sound is None or sound >= first:
            return first
        if first - sound <= LONGEST_LEAD_S:
            return sound
        self._origin.log.left_behind.append(
            f"its sound begins {float(first - sound):.1f} s before its pictures; that beginning "
            "was left out"
        )
        return first

    @kept_priority()
    def write(self, frame: Frame) -> None:
        """Encode a frame at its own time."""
        assert self._encoder is not None
        encoded = self._encodable(frame)
        units = int(self._offset / frame.time_base)
        encoded.pts, encoded.time_base = frame.pts - units, frame.time_base
        self._companions.copy_until(frame.time_s)
        self._mux(self._encoder.encode(encoded, frame.time_s))

    def copy(self, packets: Iterable[Packet]) -> None:
        """Copy pictures that an unfinished run encoded, before any frame is written."""
        for packet in packets:
            assert packet.pts is not None and packet.time_base
            packet.stream = self._stream
            self._companions.copy_until(float(packet.pts * packet.time_base + self._offset))
            self._mux([packet])

    def copy_from_source_times(self, packets: Iterable[Packet]) -> None:
        """Add pictures that were encoded for this video and have the times of its source."""
        for packet in packets:
            assert packet.pts is not None and packet.dts is not None and packet.time_base
            units = int(self._offset / packet.time_base)
            packet.pts, packet.dts = packet.pts - units, packet.dts - units
            self.copy([packet])

    def flush(self) -> None:
        """Write the pictures that the encoder still holds."""
        if self._encoder is None:
            return
        self._mux(self._encoder.flush())
        if self._held is not None:
            self.container.mux(self._held)
            self._held = None

    @kept_priority()
    def finish(self) -> None:
        """Write the remaining pictures, sound and subtitles."""
        self.flush()
        self._companions.finish()

    def describe(self, film: av.container.OutputContainer, pictures: av.stream.Stream) -> None:
        """Put tags and chapters into a video, this or a copy of it, before its first packet."""
        if not self._origin.keep_tags:
            return
        tags = read_tags(self._origin.source)
        film.metadata.update(tags.film)
        pictures.metadata.update(tags.pictures)
        first_s, last_s = self._origin.first_s, self._origin.last_s
        film.set_chapters(shifted_chapters(tags.chapters, first_s, last_s, float(self._offset)))

    def _encodable(self, frame: Frame) -> av.VideoFrame:
        """Return a picture as the encoder takes it, on its GPU where both are there."""
        there = frame.picture.gpu_frame() if self._codec.on_gpu else None
        return frame.picture.encodable() if there is None else there

    def _options(self, encoded: av.VideoFrame) -> dict[str, str]:
        source = self._origin.source
        pixels = encoded.height * encoded.width
        scale = pixels / (source.size_hw[0] * source.size_hw[1])
        bit_rate = source.bit_rate and source.bit_rate * scale
        return self._encoding.options(self._codec, source.fps, pixels, bit_rate)

    def _add_stream(
        self, frame: Frame, encoded: av.VideoFrame, options: dict[str, str]
    ) -> av.VideoStream:
        source = self._origin.source
        stream = self.container.add_stream(self._codec.encoder, rate=source.fps, options=options)
        assert isinstance(stream, av.VideoStream)
        set_up_pictures(stream, frame, encoded)
        stream.pix_fmt = self._codec.pixel_format
        context = stream.codec_context
        context.color_primaries, context.color_trc = source.primaries, source.transfer
        if self._codec.mp4_tag and self.container.format.name in ("mp4", "mov"):
            context.codec_tag = self._codec.mp4_tag
        return stream

    def _mux(self, packets: list[Packet]) -> None:
        """Write packets of the video stream, with increasing times where encoders change.

        Each is held until the next one, which gives its duration: a fragment of MP4 begins where
        the last packet of the fragment before it ends.
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
                self.container.mux(self._held)
            self._last_dts, self._held = dts, packet


def set_up_pictures(stream: av.VideoStream, frame: Frame, picture: av.VideoFrame) -> None:
    """Give a new video stream the size, time base and colours of its first frame.

    Args:
        stream: The stream, before its encoder is opened.
        frame: The first frame.
        picture: What is encoded of it.
    """
    context = stream.codec_context
    stream.width, stream.height, stream.pix_fmt = picture.width, picture.height, PIXEL_FORMAT
    stream.time_base = context.time_base = frame.time_base
    context.sample_aspect_ratio = frame.pixel_aspect
    context.colorspace, context.color_range = picture.colorspace, picture.color_range
