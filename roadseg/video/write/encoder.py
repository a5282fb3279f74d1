"""Encode video second by second, each with a new encoder.

No picture stays in an encoder for longer, whatever its lookahead and threads. Each second has one
keyframe, its first frame, and depends on nothing before it: it is the same wherever a run began or
was resumed (not bit for bit, because of x264's threads).
"""

from collections.abc import Mapping
from math import floor

import av

from roadseg.video.pyav import Packet

ON_GPU = "cuda"
"""FFmpeg's name of the layout of pictures that lie on an NVIDIA GPU."""
PERIOD_S = 1
"""Seconds of video from one encoder to the next."""
NO_OTHER_KEYFRAME = {"g": "32767"}
"""Option against further keyframes within a period, besides those of `CODECS`."""
SETTINGS = (
    "width",
    "height",
    "pix_fmt",
    "time_base",
    "framerate",
    "sample_aspect_ratio",
    "colorspace",
    "color_range",
    "color_primaries",
    "color_trc",
    "codec_tag",
    "flags",
)
"""Attributes that a new encoder takes over."""


class PeriodEncoder:
    """The encoders of a stream, one after the other.

    Args:
        stream: Stream of the file, with a configured encoder. That encodes nothing itself, as it
            would hold its pictures for as long as the file is open.
        options: Options of that encoder.
        start_s: Time of the video's first frame, from which periods are counted.
    """

    def __init__(self, stream: av.VideoStream, options: Mapping[str, str], start_s: float) -> None:
        self._stream = stream
        self._options = {**options, **NO_OTHER_KEYFRAME}
        stream.codec_context.options = self._options
        self._template = self._like(stream.codec_context)
        self._start_s = start_s
        self._encoder: av.VideoCodecContext | None = None
        self._used_for: tuple[int, bool] | None = None

    def encode(self, picture: av.VideoFrame, time_s: float) -> list[Packet]:
        """Encode a picture; return the packets that are ready.

        Args:
            picture: The picture, with its time in the file; it may lie on a GPU whose encoder this
                is.
            time_s: Its time in the video.
        """
        packets: list[Packet] = []
        on_gpu = picture.format.name == ON_GPU
        used_for = floor((time_s - self._start_s) / PERIOD_S), on_gpu
        if self._encoder is None or used_for != self._used_for:
            packets = self.flush()
            self._encoder = self._like(self._template)
            if on_gpu:
                self._encoder.pix_fmt = ON_GPU
            self._used_for = used_for
        return packets + self._of_stream(self._encoder.encode(picture))

    def flush(self) -> list[Packet]:
        """Return the packets that the encoder still holds; it takes no more pictures."""
        return [] if self._encoder is None else self._of_stream(self._encoder.encode(None))

    def _like(self, encoder: av.VideoCodecContext) -> av.VideoCodecContext:
        fresh = av.CodecContext.create(encoder.codec.name, "w")
        assert isinstance(fresh, av.VideoCodecContext)
        for name in SETTINGS:
            setattr(fresh, name, getattr(encoder, name))
        fresh.options = self._options
        return fresh

    def _of_stream(self, packets: list[Packet]) -> list[Packet]:
        for packet in packets:
            packet.stream = self._stream
        return packets
