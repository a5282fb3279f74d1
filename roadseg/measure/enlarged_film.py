"""A video at another size: what a larger camera's asks of the pipeline, from the sample."""

from fractions import Fraction
from pathlib import Path

import av

from roadseg.video.errors import write_errors
from roadseg.video.picture import PIXEL_FORMAT
from roadseg.video.read.read_log import ReadLog
from roadseg.video.read.source import decode, probe

ENCODER = "libx264"
OPTIONS = {"preset": "veryfast", "crf": "20"}
"""A camera's video is much like this to decode."""


def enlarge_film(film: Path, out: Path, size_hw: tuple[int, int], seconds: float | None) -> None:
    """Write the pictures of a video at another size, at their own times, and nothing else of it.

    Args:
        film: The film.
        out: File to write.
        size_hw: Height and width, both even.
        seconds: How much of the film; None is all of it.

    Raises:
        VideoError: The film cannot be read, or this size cannot be encoded.
    """
    info = probe(film)
    with write_errors(out), av.open(out, "w") as target:
        stream = target.add_stream(ENCODER, rate=Fraction(info.fps), options=OPTIONS)
        assert isinstance(stream, av.VideoStream)
        stream.height, stream.width = size_hw
        stream.pix_fmt = PIXEL_FORMAT
        stream.codec_context.time_base = info.time_base
        for frame in decode(info, ReadLog(), end_s=seconds):
            picture = frame.picture.resized(size_hw).encodable()
            picture.pts, picture.time_base = frame.pts, frame.time_base
            target.mux(stream.encode(picture))
        target.mux(stream.encode(None))
