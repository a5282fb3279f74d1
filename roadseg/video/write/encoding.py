"""Codecs, presets and qualities, and the codecs that each file format takes."""

import os
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field, replace
from fractions import Fraction
from pathlib import Path
from types import MappingProxyType
from typing import NamedTuple

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
LARGE_PIXELS = 1920 * 1080
"""Least pixels of a large picture: encoding it costs more than all else."""
LEAST_BITS_A_PIXEL = 0.05
"""Least bits a pixel of that limit: with fewer, outlines turn into blocks."""


class Effort(NamedTuple):
    """How much work an encoder makes of a picture."""

    preset: str
    crf: int
    options: Mapping[str, str] = MappingProxyType({})
    """Options that differ from the preset's."""


@dataclass(frozen=True, kw_only=True)
class Codec:
    """A codec and its settings."""

    encoder: str
    """Name of FFmpeg's encoder."""
    crf: int = 20
    """Default quality, with hardly any visible loss; less is better and larger."""
    worst_crf: int = 51
    """Largest value that the encoder takes."""
    preset: str = ""
    """Default of `presets`."""
    large: Effort | None = None
    """Default for large pictures, with the quality that looks alike with it."""
    presets: tuple[str, ...] = ()
    """Presets that trade time for size; none where the encoder has none."""
    quality: Callable[[int], Mapping[str, str]] = lambda crf: {"crf": str(crf)}
    """Returns the options of a quality."""
    preset_option: str = "preset"
    """The encoder's option for them."""
    options: Mapping[str, str] = field(default_factory=dict)
    """Further options, among them those for keyframes at even distances."""
    mp4_tag: str | None = None
    """Codec tag in MP4 where FFmpeg's choice does not play everywhere."""
    pixel_format: str = "yuv420p"
    """Layout of 8-bit 4:2:0 that the encoder takes."""
    holds_limit: bool = True
    """Whether it can limit the bit rate of a quality."""
    on_gpu: bool = False
    """Whether it takes pictures that lie on an NVIDIA GPU."""

    def effort(self, pixels: int) -> Effort:
        """Return the default for pictures of so many pixels."""
        if self.large and pixels >= LARGE_PIXELS:
            return self.large
        return Effort(self.preset, self.crf)

    def given(self, crf: int, preset: str) -> dict[str, str]:
        """Return the encoder's options for a quality and a preset."""
        presets = {self.preset_option: preset} if self.presets else {}
        return {**self.options, **self.quality(crf), **presets}


CODECS = {
    "h264": Codec(
        encoder="libx264",
        crf=20,
        worst_crf=51,
        preset="veryfast",
        # As good as the default of smaller pictures, in files of about the same size, in a
        # third of the time. B-frames keep pictures waiting, 190 MB of them in 4K.
        large=Effort("superfast", 22, {"bf": "0", "partitions": "i8x8", "aq-mode": "none"}),
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
HARDWARE_KINDS = (
    Codec(
        encoder="nvenc",
        preset="p4",
        presets=tuple(f"p{number}" for number in range(1, 8)),
        quality=lambda crf: {"cq": str(crf)},
        options={"rc": "vbr", "b": "0"},
        on_gpu=True,
    ),
    Codec(
        encoder="qsv",
        preset="veryfast",
        presets=X26X_PRESETS[2:],
        quality=lambda crf: {"global_quality": str(crf)},
        pixel_format="nv12",
        holds_limit=False,
    ),
    Codec(
        encoder="vaapi",
        quality=lambda crf: {"rc_mode": "CQP", "qp": str(crf)},
        pixel_format="nv12",
        holds_limit=False,
    ),
    Codec(
        encoder="videotoolbox",
        # Its quality is from 0 to 100 (best), in FFmpeg's units of lambda.
        quality=lambda crf: {
            "flags": "+qscale",
            "global_quality": str(118 * max(100 - 2 * crf, 1)),
        },
        pixel_format="nv12",
        holds_limit=False,
    ),
    Codec(
        encoder="amf",
        preset="balanced",
        presets=("speed", "balanced", "quality"),
        preset_option="quality",
        quality=lambda crf: {"rc": "cqp", "qp_i": str(crf), "qp_p": str(crf)},
        pixel_format="nv12",
        holds_limit=False,
    ),
)
"""Encoders in hardware, the first choice first, without what they have of the codec."""
HARDWARE = {
    name: tuple(
        replace(
            kind,
            encoder=f"{name}_{kind.encoder}",
            crf=CODECS[name].crf,
            mp4_tag=CODECS[name].mp4_tag,
        )
        for kind in HARDWARE_KINDS
    )
    for name in ("h264", "hevc")
}
"""Codecs in hardware by the name that users give before `IN_HARDWARE`."""
IN_HARDWARE = ":hw"
"""What users put behind a codec's name for an encoder in hardware."""
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
SOUNDS = ("auto", "copy", "aac", "none")
"""Ways to write sound: copied if possible and else encoded, only copied, encoded, or left out."""
STDOUT = Path("-")
"""Name that stands for standard output."""
FRAGMENTED = (".mp4", ".mov")
"""Formats that are written in fragments, so that an unfinished file plays."""


@dataclass(frozen=True, kw_only=True)
class Encoding:
    """A codec and its settings; None takes the default."""

    codec: str | None = None
    """Key of `CODECS`, or of `HARDWARE` with `IN_HARDWARE` behind it; the default goes by the
    file's suffix."""
    crf: int | None = None
    """Quality; the default is also limited to about the source's bit rate."""
    preset: str | None = None
    """Preset of the encoder."""
    threads: int | None = None
    """Threads of the encoder."""

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
        codec = self._codec_among(FORMATS[path.suffix.lower()], path.suffix)
        name = self.codec or FORMATS[path.suffix.lower()][0]
        if self.crf is not None and not 0 <= self.crf <= codec.worst_crf:
            raise ConfigError(
                f"--crf is {self.crf}; for {name} it must be from 0 (best) to {codec.worst_crf}"
            )
        if self.preset is not None and self.preset not in codec.presets:
            raise ConfigError(
                f"--preset is {self.preset!r}; {name} has: {', '.join(codec.presets) or 'none'}"
            )
        return codec

    def _codec_among(self, names: tuple[str, ...], suffix: str) -> Codec:
        """Return the codec that is asked for, of those that go into a file, or the first of them.

        Raises:
            ConfigError: It does not go there, or none in hardware works here.
        """
        name = (self.codec or names[0]).removesuffix(IN_HARDWARE)
        if not self.in_hardware and name in names:
            return CODECS[name]
        if name not in names or name not in HARDWARE:
            fitting = [*names, *(n + IN_HARDWARE for n in names if n in HARDWARE)]
            raise ConfigError(
                f"--codec is {self.codec!r}; {suffix} takes one of: {', '.join(fitting)}"
            )
        # It loads FFmpeg, and this module is read for `--help`.
        from roadseg.video.write.hardware import hardware_codec

        return hardware_codec(name)

    @property
    def in_hardware(self) -> bool:
        """Whether an encoder in hardware is asked for."""
        return self.codec is not None and self.codec.endswith(IN_HARDWARE)

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
        effort = Effort(self.preset, codec.crf) if self.preset else codec.effort(pixels)
        crf = effort.crf if self.crf is None else self.crf
        options = {**codec.given(crf, effort.preset), **effort.options}
        if self.threads:
            options |= {"threads": str(self.threads)}
        if self.crf is None and source_bit_rate and codec.holds_limit:
            least = LEAST_BITS_A_PIXEL * pixels * float(fps)
            limit = round(max(SIZE_LIMIT * source_bit_rate, least))
            if codec.encoder == "libvpx-vp9":
                return options | {"b": str(limit)}
            held = str(round(limit / FIRST_SECOND))
            return options | {"maxrate": held, "bufsize": held}
        return options
