"""The classes, their colours, and what a model file says about itself.

A class id is a position in `CLASSES`. Ids follow the SegNet copy of CamVid (Badrinarayanan et al.,
arXiv 1511.00561); colours follow the CamVid and SegNet palettes. The palette for the colour-blind
was searched for: the colours of any two classes stay apart to whoever lacks one kind of cone.
"""

import json
from collections.abc import Iterator, Mapping
from dataclasses import asdict, dataclass, field, fields, replace
from fractions import Fraction
from pathlib import Path
from typing import Any, Self, TypeVar

from roadseg.errors import ConfigError, ModelFileError
from roadseg.settings import build_settings

T = TypeVar("T")

MODEL_FORMAT = 1
SIDE_MULTIPLE = 32
"""Sides of the network's input are multiples of this, its coarsest stride."""
MOST_SIDE, MOST_WIDTH = 16_384, 4_096
"""Sides of an input and channels that no model's record is believed beyond."""
LONGEST_S = 1e9
"""Seconds that no film has."""
LEAST_FPS, MOST_FPS = Fraction(1, 3600), 1000
"""Rates of images."""
FINEST_FPS = 1_000_000
"""Largest denominator of one; containers count in 32 bits."""
SOUNDS = ("auto", "copy", "aac", "none")
"""What can be done with sound: copied if it fits and else encoded, one of the two, or left out."""

PADDING_VALUE = 127
"""Grey that the networks see as zero."""


@dataclass(frozen=True, kw_only=True)
class SegClass:
    """One class of the data set."""

    name: str
    """Lower-case English name, as users type it."""
    color: tuple[int, int, int]
    """RGB, 0..255."""
    colorblind: tuple[int, int, int]
    """The same for people who tell fewer colours apart."""


CLASSES: tuple[SegClass, ...] = (
    SegClass(name="sky", color=(128, 128, 128), colorblind=(150, 205, 255)),
    SegClass(name="building", color=(128, 0, 0), colorblind=(122, 30, 0)),
    SegClass(name="pole", color=(192, 192, 128), colorblind=(255, 211, 131)),
    SegClass(name="road", color=(128, 64, 128), colorblind=(23, 11, 57)),
    SegClass(name="pavement", color=(60, 40, 222), colorblind=(0, 108, 232)),
    SegClass(name="tree", color=(128, 128, 0), colorblind=(0, 74, 68)),
    SegClass(name="sign", color=(192, 128, 128), colorblind=(255, 162, 0)),
    SegClass(name="fence", color=(64, 64, 128), colorblind=(172, 119, 156)),
    SegClass(name="car", color=(64, 0, 128), colorblind=(206, 77, 0)),
    SegClass(name="pedestrian", color=(64, 64, 0), colorblind=(248, 255, 255)),
    SegClass(name="bicyclist", color=(0, 128, 192), colorblind=(91, 0, 139)),
    SegClass(name="unlabelled", color=(0, 0, 0), colorblind=(0, 0, 0)),
)

CLASS_NAMES: tuple[str, ...] = tuple(c.name for c in CLASSES)
PALETTE: tuple[tuple[int, int, int], ...] = tuple(c.color for c in CLASSES)
PALETTES: dict[str, dict[str, tuple[int, int, int]]] = {
    "camvid": {c.name: c.color for c in CLASSES},
    "colorblind": {c.name: c.colorblind for c in CLASSES},
}
"""Colour of each class by the name of the palette."""

UNLABELLED = "unlabelled"
"""Name of what is not counted."""

NUM_CLASSES = CLASS_NAMES.index(UNLABELLED)
"""Classes that a model predicts: all but unlabelled."""

IGNORE_INDEX = 255
"""Id in a target of pixels that neither the loss nor a metric counts, whatever its files say."""


def css_color(color: tuple[int, int, int]) -> str:
    """Return a colour as CSS writes it."""
    return "rgb({}, {}, {})".format(*color)


@dataclass(frozen=True, kw_only=True)
class BuildRecord:
    """The key of a compiled model: two builds with the same key are the same."""

    source_sha256: str
    """Digest of the file it was made of."""
    runtime: str
    """Runtime it was made for, a key of `roadseg.backends.runtimes.BACKENDS`."""
    runtime_version: str | None
    """Version of that runtime; None in a portable file, which any version and device may run."""
    device: str | None
    """Device it was made and checked on; None in a portable file."""
    precision: str
    """Precision of its convolutions, such as int8."""
    shape: tuple[int, int, int]
    """Batch, height and width it was made and measured for."""
    fixed_shape: bool = False
    """Whether it takes no other shape."""
    frames_sha256: str | None = None
    """Digest of the film or data that it was calibrated and compared on; older records lack it."""

    @classmethod
    def from_dict(cls, values: Mapping[str, Any]) -> Self:
        """Read a record back from JSON values. Raises `TypeError` and `KeyError`."""
        batch, height, width = values["shape"]
        return cls(**{**values, "shape": (batch, height, width)})

    def difference(self, other: "BuildRecord") -> str | None:
        """Return in words what the other record has otherwise, or None where they are the same."""
        changed = [
            f"{f.name.replace('_', ' ')} was {_short(mine)} and is {_short(theirs)}"
            for f in fields(self)
            if (mine := getattr(self, f.name)) != (theirs := getattr(other, f.name))
        ]
        return "; ".join(changed) or None

    def misfit(self, runtime: str, version: str, device: str) -> str | None:
        """Return in words why it must not be run by a runtime on a device, or None if it may."""
        made_for = (self.runtime, self.runtime_version, self.device)
        if self.runtime_version is None or made_for == (runtime, version, device):
            return None
        return (
            f"it was compiled for {self.runtime} {self.runtime_version} on {self.device}, and this "
            f"is {runtime} {version} on {device}"
        )


def _short(value: object) -> str:
    """Return a value as text; of a digest the beginning."""
    text = "x".join(map(str, value)) if isinstance(value, tuple) else str(value)
    return f"{text[:12]}..." if len(text) == 64 else text


@dataclass(frozen=True, kw_only=True)
class Architecture:
    """What is known of an architecture before its network is built."""

    has_encoder: bool
    """Whether its encoder is an EfficientNet-Lite, for which there are weights of ImageNet."""
    widths: Mapping[int, int]
    """Usual width by output stride, that of the usual stride first."""


ARCHITECTURES = {
    "unet": Architecture(has_encoder=False, widths={1: 64}),  # the paper's
    "unet-lite": Architecture(has_encoder=True, widths={2: 48, 4: 48}),
    "deeplabv3plus": Architecture(has_encoder=True, widths={4: 128}),  # half of the paper's
}
"""The architectures by name; `roadseg.models.architectures` builds them."""


def choose(table: Mapping[str, T], name: str, flag: str) -> T:
    """Return what a table holds under the name that a user gave behind a flag.

    Raises:
        ConfigError: There is no such name; the known ones are listed.
    """
    if name not in table:
        raise ConfigError(f"{flag} is {name!r}; use one of: {', '.join(table)}")
    return table[name]


@dataclass(frozen=True, kw_only=True)
class ModelSpec:
    """What a model is and where it comes from; stored in every model file as JSON."""

    arch: str
    """Name of the architecture."""
    width: int
    """Channels of the decoder's finest level, of stride 4 in `unet-lite`."""
    encoder: str = "lite0"
    """Variant of EfficientNet-Lite, where the architecture has such an encoder."""
    output_stride: int = 4
    """Pixels of the input along a side for one of the logits."""
    size_hw: tuple[int, int] = (384, 512)
    """Network input, height and width, that the model was trained and measured for."""
    class_names: tuple[str, ...] = CLASS_NAMES[:NUM_CLASSES]
    """Names of the classes by id."""
    palette: tuple[tuple[int, int, int], ...] = PALETTE[:NUM_CLASSES]
    """RGB colours of the classes by id."""
    training: Mapping[str, Any] = field(default_factory=dict)
    """How it was trained: settings and step."""
    metrics: Mapping[str, Any] = field(default_factory=dict)
    """What it reached, each figure named by split and metric."""
    build: BuildRecord | None = None
    """What it was compiled from and for, if it was."""
    format: int = MODEL_FORMAT
    """Version of this record."""

    @property
    def architecture(self) -> str:
        """What the shapes of its weights depend on, the classes apart, in words."""
        known = ARCHITECTURES.get(self.arch)
        encoder = "" if known and not known.has_encoder else f", encoder {self.encoder}"
        return f"{self.arch}{encoder}, width {self.width}, output stride {self.output_stride}"

    @property
    def num_classes(self) -> int:
        """Channels of the logits."""
        return len(self.class_names)

    @property
    def fixed_hw(self) -> tuple[int, int] | None:
        """The only height and width that it takes, if it was compiled for one."""
        return self.build.shape[1:] if self.build and self.build.fixed_shape else None

    def to_json(self) -> str:
        """Return the record as one JSON object."""
        values = asdict(self)
        if self.build is None:
            del values["build"]  # as records were before there were builds
        return json.dumps(values, allow_nan=False)

    def recolored(self, palette: str) -> Self:
        """Return the record with the colours of a palette; classes unknown to it keep theirs.

        "camvid" stands for the model's own colours, which other data may have chosen otherwise.
        """
        if palette == "camvid":
            return self
        colors = zip(self.class_names, self.palette, strict=True)
        by_name = PALETTES[palette]
        return replace(self, palette=tuple(by_name.get(name, own) for name, own in colors))

    @classmethod
    def from_json(cls, text: str, path: Path) -> Self:
        """Read a record back.

        Raises:
            ModelFileError: It is no record of ours, or one of a later version; `path` is named.
        """
        try:
            values = json.loads(text)
            if values["format"] != MODEL_FORMAT:
                raise ModelFileError(
                    f"{path} has model format {values['format']}; this roadseg reads format "
                    f"{MODEL_FORMAT}; update roadseg or export the model again"
                )
            spec = build_settings(cls, values)
        except (ValueError, KeyError, TypeError, RecursionError, ConfigError) as error:
            raise ModelFileError(
                f"{path} carries a damaged roadseg record ({error}); export the model again"
            ) from error
        if fault := next(spec._faults(), None):
            raise ModelFileError(
                f"{path} carries a roadseg record in which {fault}; export the model again"
            )
        return spec

    def _faults(self) -> Iterator[str]:
        """Yield in words what no model can have."""
        if not 1 <= self.num_classes <= IGNORE_INDEX:
            yield f"there are {self.num_classes} classes; 1 to {IGNORE_INDEX} are possible"
        if len(set(self.class_names) - {""}) != self.num_classes:
            yield "a class has no name, or two have the same"
        if len(self.palette) != self.num_classes:
            yield f"{self.num_classes} classes have {len(self.palette)} colours"
        if not all(0 <= level <= 255 for color in self.palette for level in color):
            yield "a colour is not from 0 to 255"
        if not all(0 < side <= MOST_SIDE and side % SIDE_MULTIPLE == 0 for side in self.size_hw):
            yield (
                f"the input is {self.size_hw[1]}x{self.size_hw[0]}; sides are multiples of "
                f"{SIDE_MULTIPLE}, at most {MOST_SIDE}"
            )
        if not (0 < self.width <= MOST_WIDTH and 0 < self.output_stride <= SIDE_MULTIPLE):
            yield f"width {self.width} or output stride {self.output_stride} is out of its range"
        if self.build and not all(0 < side <= MOST_SIDE for side in self.build.shape):
            yield f"it was compiled for the shape {self.build.shape}"


def image_rate(fps: Fraction | float) -> Fraction:
    """Return a rate of images as containers can hold it.

    Raises:
        ConfigError: It is none, or out of range.
    """
    if not LEAST_FPS <= fps <= MOST_FPS:
        raise ConfigError(
            f"--fps is {fps}; it must be from {LEAST_FPS} to {MOST_FPS} images a second, such as 25"
        )
    return Fraction(fps).limit_denominator(FINEST_FPS)
