"""Codecs, presets and qualities, and the codecs that each file format takes."""

import os
from collections.abc import Mapping
from dataclasses import dataclass, field
from fractions import Fraction
from pathlib import Path

from roadseg.errors import ConfigError, VideoError

X26X_PRESETS = (
    "ultrafast",
    "superfast",
    "veryfast",
    "faster",
    "fast",
    "medium",
    "slow",
    "slower",
    "veryslow",
)
FIRST_SECOND = 1.9
"""Seconds' worth of its bit rate that an encoder may spend in its first second: its buffer holds
one second's and starts nine tenths full. Each second has an encoder of its own."""
SIZE_LIMIT = 1.5
"""Highest bit rate, relative to the source's, unless the user asks for a quality."""
LEAST_BITS_A_PIXEL = 0.05
"""Least bits a pixel of that limit: with fewer, outlines turn into blocks."""


@dataclass(frozen=True, kw_only=True)
class Codec:
    """A codec and its settings."""

    encoder: str
    """Name of FFmpeg's encoder."""
    crf: int
    """Default quality, with hardly any visible loss; less is better and larger."""
    worst_crf: int
    """Largest value that the encoder takes."""
    preset: str
    """Default of `presets`."""
    presets: tuple[str, ...]
    """Presets that trade time for size."""
    preset_option: str = "preset"
    """The encoder's option for them."""
    options: Mapping[str, str] = field(default_factory=dict)
    """Further options, among them those for keyframes at even distances."""
    mp4_tag: str | None = None
    """Codec tag in MP4 where FFmpeg's choice does not play everywhere."""


CODECS = {
    "h264": Codec(
        encoder="libx264",
        crf=20,
        worst_crf=51,
        preset="veryfast",
        presets=X26X_PRESETS,
        options={"sc_threshold": "0"},
    ),
    "hevc": Codec(
        encoder="libx265",
        crf=23,
        worst_crf=51,
        preset="superfast",
        presets=X26X_PRESETS,
        options={"x265-params": "log-level=none:open-gop=0:scenecut=0"},
        mp4_tag="hvc1",
    ),
    "vp9": Codec(
        encoder="libvpx-vp9",
        crf=31,
        worst_crf=63,
        preset="7",
        presets=tuple("012345678"),
        preset_option="cpu-used",
        options={"deadline": "realtime", "row-mt": "1"},
    ),
    "av1": Codec(
        encoder="libsvtav1",
        crf=32,
        worst_crf=63,
        preset="8",
        presets=tuple(map(str, range(14))),
    ),
}
"""Codecs by the name that users give."""
# The encoder of AV1 writes its settings to the terminal unless the environment says "errors only".
# That belongs to the whole process, so it is set here, once, before any thread of a run encodes.
os.environ.setdefault("SVT_LOG", "1")
FORMATS = {
    ".mp4": ("h264", "hevc", "vp9", "av1"),
    ".mov": ("h264", "hevc"),
    ".mkv": ("h264", "hevc", "vp9", "av1"),
    ".webm": ("vp9", "av1"),
}
"""Codecs by the suffix of the file that holds them, the default first."""
STILL_SUFFIXES = (".png", ".jpg", ".jpeg")
"""Suffixes of images, in contrast to videos."""
STDOUT = Path("-")
"""Name that stands for standard output."""
FRAGMENTED = (".mp4", ".mov")
"""Formats that are written in fragments, so that an unfinished file plays."""


@dataclass(frozen=True, kw_only=True)
class Encoding:
    """A codec and its settings; None takes the default."""

    codec: str | None = None
    """Key of `CODECS`; the default goes by the file's suffix."""
    crf: int | None = None
    """Quality; the default is also limited to about the source's bit rate."""
    preset: str | None = None
    """Preset of the encoder."""

    def codec_for(self, path: Path) -> Codec:
        """Return the codec to write a file with.

        Raises:
            VideoError: Its suffix is none of ours.
            ConfigError: The codec does not go into the file, or has no such quality or preset.
        """
        if path.suffix.lower() not in FORMATS:
            raise VideoError(
                f"{path} has the suffix {path.suffix!r}; use one of: {', '.join(FORMATS)}"
            )
        names = FORMATS[path.suffix.lower()]
        name = self.codec or names[0]
        if name not in names:
            raise ConfigError(
                f"--codec is {name!r}; {path.suffix} takes one of: {', '.join(names)}"
            )
        codec = CODECS[name]
        if self.crf is not None and not 0 <= self.crf <= codec.worst_crf:
            raise ConfigError(
                f"--crf is {self.crf}; for {name} it must be from 0 (best) to {codec.worst_crf}"
            )
        if self.preset is not None and self.preset not in codec.presets:
            raise ConfigError(
                f"--preset is {self.preset!r}; {name} has: {', '.join(codec.presets)}"
            )
        return codec

    def options(
        self, codec: Codec, fps: Fraction, pixels: int, source_bit_rate: float | None
    ) -> dict[str, str]:
        """Return the encoder's options.

        Args:
            codec: The codec that `codec_for` gave.
            fps: Frames a second.
            pixels: Pixels a frame.
            source_bit_rate: Bits a second of as many pixels in the source, if known.
        """
        options = {
            **codec.options,
            "crf": str(codec.crf if self.crf is None else self.crf),
            codec.preset_option: self.preset or codec.preset,
        }
        if self.crf is None and source_bit_rate:
            least = LEAST_BITS_A_PIXEL * pixels * float(fps)
            limit = round(max(SIZE_LIMIT * source_bit_rate, least))
            if codec.encoder == "libvpx-vp9":
                return options | {"b": str(limit)}
            held = str(round(limit / FIRST_SECOND))
            return options | {"maxrate": held, "bufsize": held}
        return options
