"""The classes, their colours, and what a model file says about itself.

A class id is a position in `CLASSES`. Ids follow the SegNet copy of CamVid (Badrinarayanan et al.,
arXiv 1511.00561). Model files hold the colours of the CamVid and SegNet palettes, or those of the
data that a model was trained on; they are shown in those of the chosen palette. The default one is
made for overlays: near Cityscapes' colours, with people warm and light. It and the one for
colour-blind viewers were optimised so that any two classes stay distinct, also without one kind of
cone.
"""

import json
import re
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import asdict, dataclass, field, fields, replace
from pathlib import Path
from typing import Any, Self, TypeVar

from roadseg.errors import ConfigError, DatasetError, ModelFileError
from roadseg.settings import Color, build_settings, read_class_file

T = TypeVar("T")

MODEL_FORMAT = 1
SIDE_MULTIPLE = 32
"""Sides of the network's input are multiples of this, its coarsest stride."""
MOST_SIDE, MOST_WIDTH = 16_384, 4_096
"""Largest side of an input, and most channels, that a model's record may state."""
NO_TEXT = re.compile("[\x00-\x1f\x7f-\x9f\ud800-\udfff]")
"""Control characters, and halves of characters, which no file can hold."""

PADDING_VALUE = 127
"""Grey level that is zero after normalisation."""


@dataclass(frozen=True, kw_only=True)
class SegClass:
    """One class of the data set."""

    name: str
    """Lower-case English name, as users type it."""
    color: Color
    """RGB, 0..255."""


DEFAULT_PALETTE = "roadseg"
_PALETTE_NAMES = (DEFAULT_PALETTE, "camvid", "cityscapes", "colorblind")
_CLASS_COLORS: tuple[tuple[str, Color, Color, Color, Color], ...] = (
    ("sky", (71, 144, 179), (128, 128, 128), (70, 130, 180), (150, 205, 255)),
    ("building", (77, 74, 75), (128, 0, 0), (70, 70, 70), (122, 30, 0)),
    ("pole", (182, 193, 163), (192, 192, 128), (153, 153, 153), (255, 211, 131)),
    ("road", (128, 66, 127), (128, 64, 128), (128, 64, 128), (23, 11, 57)),
    ("pavement", (237, 99, 231), (60, 40, 222), (244, 35, 232), (0, 108, 232)),
    ("tree", (98, 133, 39), (128, 128, 0), (107, 142, 35), (0, 74, 68)),
    ("sign", (237, 232, 31), (192, 128, 128), (220, 220, 0), (255, 162, 0)),
    ("fence", (186, 161, 170), (64, 64, 128), (190, 153, 153), (172, 119, 156)),
    ("car", (22, 71, 237), (64, 0, 128), (0, 0, 142), (206, 77, 0)),
    ("pedestrian", (255, 90, 103), (64, 64, 0), (220, 20, 60), (248, 255, 255)),
    ("bicyclist", (248, 163, 69), (0, 128, 192), (255, 0, 0), (91, 0, 139)),
    ("unlabelled", (0, 0, 0), (0, 0, 0), (0, 0, 0), (0, 0, 0)),
)  # a name, and its colour in each of the palettes
PALETTES: dict[str, dict[str, Color]] = {
    palette: {name: colors[number] for name, *colors in _CLASS_COLORS}
    for number, palette in enumerate(_PALETTE_NAMES)
}
"""Colour of each class by the name of the palette."""

CLASSES: tuple[SegClass, ...] = tuple(
    SegClass(name=name, color=color) for name, color in PALETTES["camvid"].items()
)
CLASS_NAMES: tuple[str, ...] = tuple(c.name for c in CLASSES)
PALETTE: tuple[Color, ...] = tuple(c.color for c in CLASSES)
"""CamVid's colours by id, as model files hold them."""

UNLABELLED = "unlabelled"
"""Name of the class that is not counted."""

NUM_CLASSES = CLASS_NAMES.index(UNLABELLED)
"""Classes that a model predicts: all but unlabelled."""

IGNORE_INDEX = 255
"""Id in a target of pixels that neither the loss nor a metric counts."""

UNSURE = 254
"""Id in a class map of pixels that are too unsure to be shown and counted."""


def as_shown(classes: Iterable[SegClass]) -> tuple[SegClass, ...]:
    """Return classes in the default palette, as pages and tables show them."""
    colors = in_palette({c.name: c.color for c in classes})
    return tuple(SegClass(name=name, color=color) for name, color in colors.items())


def in_palette(own: Mapping[str, Color], palette: str = DEFAULT_PALETTE) -> dict[str, Color]:
    """Return the colours of classes in a palette, given their own colours by name.

    "camvid" means their own colours, which differ from CamVid's for other data. The default palette
    replaces CamVid's colours only. Classes that a palette does not know keep theirs.

    Raises:
        ConfigError: It is neither a palette nor a file with a colour for one of the classes.
    """
    if palette == "camvid" or (palette == DEFAULT_PALETTE and not _are_of_camvid(own)):
        return dict(own)
    colors = palette_colors(palette)
    if palette not in PALETTES and not colors.keys() & own.keys():
        raise ConfigError(
            f"--palette {palette} has no colour for any of {', '.join(own)}; give lines such as "
            "road,128,64,128 or road,#804080"
        )
    return {name: colors.get(name, color) for name, color in own.items()}


def _are_of_camvid(colors: Mapping[str, Color]) -> bool:
    """Return whether every class of CamVid has CamVid's colour."""
    camvid = PALETTES["camvid"]
    return all(camvid.get(name, color) == color for name, color in colors.items())


def palette_colors(palette: str) -> dict[str, Color]:
    """Return the colours by class of a palette, given its name or a file of names and colours.

    Raises:
        ConfigError: It is neither, or the file is not valid.
    """
    if palette in PALETTES:
        return PALETTES[palette]
    if not Path(palette).is_file():
        raise ConfigError(
            f"--palette is {palette!r}, and no palette or file has that name; use one of: "
            f"{', '.join(PALETTES)}, or a file with lines such as road,128,64,128 or road,#804080"
        )
    try:
        colors = {
            name: color for name, _, color in reversed(read_class_file(Path(palette))) if color
        }
    except DatasetError as error:
        raise ConfigError(f"--palette: {error}") from error
    return colors


def css_color(color: Color) -> str:
    """Return a colour in CSS."""
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
    """Digest of the video or data that it was calibrated and compared on; older records lack it."""

    def difference(self, other: "BuildRecord") -> str | None:
        """Return the differences from another record as text, or None if there are none."""
        changed = [
            f"{f.name.replace('_', ' ')} was {_short(mine)} and is {_short(theirs)}"
            for f in fields(self)
            if (mine := getattr(self, f.name)) != (theirs := getattr(other, f.name))
        ]
        return "; ".join(changed) or None

    def misfit(self, runtime: str, version: str, device: str) -> str | None:
        """Return why a runtime on a device must not run it, or None if it may."""
        made_for = (self.runtime, self.runtime_version, self.device)
        if self.runtime_version is None or made_for == (runtime, version, device):
            return None
        return (
            f"it was compiled for {self.runtime} {self.runtime_version} on {self.device}, and this "
            f"is {runtime} {version} on {device}"
        )


def _short(value: object) -> str:
    """Return a value as text, digests shortened."""
    text = "x".join(map(str, value)) if isinstance(value, tuple) else str(value)
    return f"{text[:12]}..." if len(text) == 64 else text


@dataclass(frozen=True, kw_only=True)
class Architecture:
    """What is known of an architecture before its network is built."""

    has_encoder: bool
    """Whether it has an EfficientNet-Lite encoder, which can start from ImageNet's weights."""
    widths: Mapping[int, int]
    """Default width by output stride, the default stride first."""


ARCHITECTURES = {
    "unet": Architecture(has_encoder=False, widths={1: 64}),  # the paper's
    "unet-lite": Architecture(has_encoder=True, widths={2: 48, 4: 48}),
    "deeplabv3plus": Architecture(has_encoder=True, widths={4: 128}),  # half of the paper's
}
"""The architectures by name; `roadseg.models.architectures` builds them."""


@dataclass(frozen=True, kw_only=True)
class AdoptionRecord:
    """Properties of an adopted network, and of the wrapping that `roadseg adopt` added to it."""

    source: str
    """Name of its original file."""
    source_sha256: str
    """Digest of that file."""
    layout: str
    """Order of the network's input: nchw or nhwc."""
    channels: str
    """Order of its channels: rgb or bgr."""
    mean: tuple[float, float, float]
    """Subtracted from the levels, 0..255, of each channel."""
    std: tuple[float, float, float]
    """Divisor of each channel after that."""
    output: str
    """Name of the output that the labels come from."""
    output_kind: str
    """Kind of that output: logits, probabilities or ids, whose logits are one-hot."""
    side_multiple: int
    """Sides of its input are multiples of this."""
    fixed_size: bool
    """Whether it takes only the record's size."""


def choose(table: Mapping[str, T], name: str, flag: str) -> T:
    """Return the entry of a table for the value of an option.

    Raises:
        ConfigError: There is no such name; the known ones are listed.
    """
    if name not in table:
        raise ConfigError(f"{flag} is {name!r}; use one of: {', '.join(table)}")
    return table[name]


@dataclass(frozen=True, kw_only=True)
class ModelSpec:
    """The record of a model: its properties and origin; stored in every model file as JSON."""

    arch: str
    """Name of the architecture."""
    width: int
    """Channels of the decoder's finest level, of stride 4 in `unet-lite`; 0 if adopted."""
    encoder: str = "lite0"
    """Variant of EfficientNet-Lite, where the architecture has such an encoder."""
    output_stride: int = 4
    """Pixels of the input along a side for one of the logits, rounded if adopted."""
    size_hw: tuple[int, int] = (384, 512)
    """Network input, height and width, that the model was trained and measured for."""
    class_names: tuple[str, ...] = CLASS_NAMES[:NUM_CLASSES]
    """Names of the classes by id."""
    palette: tuple[Color, ...] = PALETTE[:NUM_CLASSES]
    """RGB colours of the classes by id."""
    training: Mapping[str, Any] = field(default_factory=dict)
    """How it was trained: settings and step."""
    metrics: Mapping[str, Any] = field(default_factory=dict)
    """Its metrics, by split and name."""
    build: BuildRecord | None = None
    """What it was compiled from and for, if it was."""
    adopted: AdoptionRecord | None = None
    """Its original network, if it was adopted."""
    format: int = MODEL_FORMAT
    """Version of this record."""

    @property
    def architecture(self) -> str:
        """The settings that the shapes of its weights depend on, besides the classes, as text."""
        known = ARCHITECTURES.get(self.arch)
        has_encoder = self.encoder and (known is None or known.has_encoder)
        encoder = f", encoder {self.encoder}" if has_encoder else ""
        return f"{self.arch}{encoder}, width {self.width}, output stride {self.output_stride}"

    @property
    def num_classes(self) -> int:
        """Channels of the logits."""
        return len(self.class_names)

    @property
    def gives_ids(self) -> bool:
        """Whether it says nothing but ids, so that nobody knows how sure it is."""
        return self.adopted is not None and self.adopted.output_kind == "ids"

    @property
    def fixed_hw(self) -> tuple[int, int] | None:
        """The only height and width that it takes, if it is fixed to one."""
        if self.build and self.build.fixed_shape:
            return self.build.shape[1:]
        return self.size_hw if self.adopted and self.adopted.fixed_size else None

    @property
    def side_multiple(self) -> int:
        """What the sides of its input are multiples of."""
        return self.adopted.side_multiple if self.adopted else SIDE_MULTIPLE

    def to_json(self) -> str:
        """Return the record as one JSON object."""
        values = asdict(self)
        for name in ("build", "adopted"):
            if values[name] is None:
                del values[name]  # as in records of older versions
        return json.dumps(values, allow_nan=False)

    def colors(self, palette: str = DEFAULT_PALETTE) -> dict[str, Color]:
        """Return the colour of each class by name in a palette, as `in_palette` does."""
        return in_palette(dict(zip(self.class_names, self.palette, strict=True)), palette)

    def recolored(self, palette: str) -> Self:
        """Return the record with the colours of a palette, as `in_palette` does."""
        return replace(self, palette=tuple(self.colors(palette).values()))

    @classmethod
    def from_json(cls, text: str, path: Path) -> Self:
        """Read a record back.

        Raises:
            ModelFileError: It is not a valid record, or of a later version; `path` is named.
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
        """Yield the impossible values of the record, as text."""
        if not 1 <= self.num_classes <= UNSURE:
            yield f"there are {self.num_classes} classes; 1 to {UNSURE} are possible"
        if len(set(self.class_names) - {""}) != self.num_classes:
            yield "a class has no name, or two have the same"
        if NO_TEXT.search("".join(self.class_names)):
            yield "the name of a class has characters that are no text"
        if len(self.palette) != self.num_classes:
            yield f"{self.num_classes} classes have {len(self.palette)} colours"
        if not all(0 <= level <= 255 for color in self.palette for level in color):
            yield "a colour is not from 0 to 255"
        multiple = self.side_multiple
        if not 0 < multiple <= MOST_SIDE:
            yield f"sides are multiples of {multiple}"
        elif not all(0 < side <= MOST_SIDE and side % multiple == 0 for side in self.size_hw):
            yield (
                f"the input is {self.size_hw[1]}x{self.size_hw[0]}; sides are multiples of "
                f"{multiple}, at most {MOST_SIDE}"
            )
        least_width = 0 if self.adopted else 1
        if not (
            least_width <= self.width <= MOST_WIDTH and 0 < self.output_stride <= SIDE_MULTIPLE
        ):
            yield f"width {self.width} or output stride {self.output_stride} is out of its range"
        if self.build and not all(0 < side <= MOST_SIDE for side in self.build.shape):
            yield f"it was compiled for the shape {self.build.shape}"
