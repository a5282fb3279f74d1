"""Encoders in hardware: which of them works on this machine."""

from collections.abc import Callable
from fractions import Fraction
from functools import lru_cache

import av

from roadseg.errors import ConfigError
from roadseg.video.picture import PIXEL_FORMAT
from roadseg.video.write.encoding import HARDWARE, Codec
from roadseg.video.write.priority import kept_priority

TRIED_HW = (256, 256)
"""Height and width of the picture that is tried; some encoders take none that is much smaller."""


@lru_cache(maxsize=4)
def hardware_codec(name: str) -> Codec:
    """Return the first way to compress video in hardware that works here.

    Args:
        name: Key of `HARDWARE`.

    Raises:
        ConfigError: None works.
    """
    return first_that(encodes, name)


def first_that(works: Callable[[Codec], bool], name: str) -> Codec:
    """Return the first way to compress video in hardware that works, by what a function says.

    Raises:
        ConfigError: None does.
    """
    for codec in HARDWARE[name]:
        if works(codec):
            return codec
    tried = ", ".join(codec.encoder for codec in HARDWARE[name])
    raise ConfigError(
        f"--codec is {name}:hw, and no encoder in hardware works here (tried {tried}); use "
        f"--codec {name}, or see roadseg doctor"
    )


def encodes(codec: Codec) -> bool:
    """Return whether an encoder takes a picture; that it is there or opens says too little."""
    height, width = TRIED_HW
    return takes(codec, av.VideoFrame(width, height, PIXEL_FORMAT), codec.pixel_format)


@kept_priority()
def takes(codec: Codec, picture: av.VideoFrame, pixel_format: str) -> bool:
    """Return whether an encoder takes a picture, given the layout that it is told to expect."""
    try:
        encoder = av.CodecContext.create(codec.encoder, "w")
        assert isinstance(encoder, av.VideoCodecContext)
        encoder.width, encoder.height = picture.width, picture.height
        encoder.pix_fmt = pixel_format
        encoder.time_base, encoder.framerate = Fraction(1, 25), Fraction(25)
        encoder.options = codec.given(codec.crf, codec.preset)
        picture.pts, picture.time_base = 0, Fraction(1, 25)
        return bool([*encoder.encode(picture), *encoder.encode(None)])
    except (av.FFmpegError, ValueError):  # drivers that are missing, and names FFmpeg lacks
        return False
