"""What each use case can be told, and what a model file says about itself: frozen and validated.

Training has its settings in `roadseg.train_config`.
"""

import json
import math
from collections.abc import Iterator, Mapping
from dataclasses import asdict, dataclass, field, fields, replace
from fractions import Fraction
from pathlib import Path
from typing import Any, Self, TypeVar

from roadseg.build import BuildRecord
from roadseg.classes import CLASS_NAMES, IGNORE_INDEX, NUM_CLASSES, PALETTE, PALETTES
from roadseg.errors import ConfigError, ModelFileError
from roadseg.files import check_not_input
from roadseg.machine import has_int8_units
from roadseg.settings import build_settings
from roadseg.url import Url

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
MOST_BETWEEN = 12
"""Most frames of a film from one that the network looks at to the next."""
SOUNDS = ("auto", "copy", "aac", "none")
"""What can be done with sound: copied if it fits and else encoded, one of the two, or left out."""


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
        encoder = "" if self.arch == "unet" else f", encoder {self.encoder}"
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


def shipped_model(precision: str = "fp32") -> Path:
    """Return a model that comes along: installed as package data, or in a checkout's weights/."""
    package = Path(__file__).parent
    name = "unet-lite.onnx" if precision == "fp32" else f"unet-lite.{precision}.onnx"
    installed = package / "weights" / name
    return installed if installed.is_file() else package.parent / "weights" / name


def default_weights() -> Path:
    """Return the model that comes along, in the precision that suits this machine."""
    return shipped_model("int8" if has_int8_units() else "fp32")


@dataclass(frozen=True, kw_only=True)
class ModelConfig:
    """Which model labels, on what, at which size, and in which colours."""

    weights: Path = field(default_factory=default_weights)
    """Model file."""
    backend: str = "auto"
    """Runtime, or "auto" to go by the model file."""
    size_hw: tuple[int, int] | None = None
    """Network input; None chooses by the model and the film's aspect ratio."""
    palette: str = "camvid"
    """Colours of the classes, a key of `PALETTES`."""
    steady: float = 0.6
    """Weight of the past in a film's labels after a fifteenth of a second; 0 has no past."""
    every: int = 1
    """Frames of a film from one that the network looks at to the next."""
    fps_target: float | None = None
    """Frames a second to reach by letting the network look at fewer of them."""
    realtime: bool = False
    """Reach the film's own rate that way."""

    def __post_init__(self) -> None:
        """Check each value, naming the flag at fault."""
        if self.palette not in PALETTES:
            raise ConfigError(
                f"--palette is {self.palette!r}; it must be one of: {', '.join(PALETTES)}"
            )
        if not 0 <= self.steady < 1:
            raise ConfigError(
                f"--steady is {self.steady}; it must be from 0 to below 1, such as 0.7"
            )
        if not 1 <= self.every <= MOST_BETWEEN:
            raise ConfigError(f"--every is {self.every}; it must be from 1 to {MOST_BETWEEN}")
        if self.fps_target is not None and not (
            self.fps_target > 0 and math.isfinite(self.fps_target)
        ):
            raise ConfigError(f"--fps-target is {self.fps_target}; it must be above 0, such as 25")
        ways = (self.every > 1, self.fps_target is not None, self.realtime)
        if sum(ways) > 1:
            raise ConfigError(
                "--every, --fps-target and --realtime each say how often the network looks; "
                "choose one"
            )

    @property
    def goes_by_motion(self) -> bool:
        """Whether labels follow the motion in a film, rather than each frame being a stranger."""
        return bool(self.steady or self.every > 1 or self.goes_by_time)

    @property
    def goes_by_time(self) -> bool:
        """Whether the frames that the network looks at are chosen by the time that is left."""
        return bool(self.fps_target or self.realtime)


@dataclass(frozen=True, kw_only=True)
class OverlayConfig:
    """How class maps are painted over pictures."""

    alpha: float = 0.5
    """Share of the colour in a painted pixel."""
    classes: tuple[str, ...] = ()
    """Names of the classes to paint; none means all."""
    only: tuple[str, ...] = ()
    """Names of the classes to paint while the rest of the picture turns to dark grey."""
    outline: bool = True
    """Draw a light line where one class ends."""
    legend: bool = True
    """Write the painted classes in a corner."""

    def __post_init__(self) -> None:
        """Check each value, naming the flag at fault."""
        if not 0 <= self.alpha <= 1:
            raise ConfigError(f"--alpha is {self.alpha}; it must be from 0 to 1, such as 0.5")
        if self.classes and self.only:
            raise ConfigError(
                "--classes and --only are both given; --only darkens what it does not name, "
                "--classes leaves it as it is; choose one"
            )


@dataclass(frozen=True, kw_only=True)
class InferConfig(ModelConfig, OverlayConfig):
    """Settings of one inference run."""

    source: Path | str
    """Film to label: a file, a folder or pattern of images, or as text an address."""
    out: Path | None
    """Film to write, images by a name with their number in it, or - for standard output; None
    writes none."""
    side_by_side: bool = False
    """Put the untouched picture beside the painted one."""
    masks: Path | None = None
    """Folder for class maps as PNG files."""
    image_fps: Fraction = Fraction(25)
    """Images a second, where the source is a series of images."""
    stream: int | None = None
    """Number of the stream to label; None takes the default one, or else the largest."""
    sound: str = "auto"
    """What becomes of the sound, one of `SOUNDS`."""
    codec: str | None = None
    """Codec of the film; None goes by its suffix."""
    crf: int | None = None
    """Quality of the film; None takes the codec's default, limited to about the source's size."""
    preset: str | None = None
    """Trade of encoding time for size; None takes the codec's default."""
    stats: Path | None = None
    """File for what is in every frame, JSON lines or CSV by its suffix."""
    report: Path | None = None
    """Page about the drive."""
    start_s: float = 0.0
    """Seconds to leave out at the beginning."""
    end_s: float | None = None
    """Time to stop at, in seconds; None goes to the end."""
    strict: bool = False
    """Stop at the first damage in the film."""
    resume: bool = False
    """Go on from where an unfinished run with the same settings stopped."""
    overwrite: bool = False
    """Replace output that exists."""
    spared: tuple[Path | str, ...] = ()
    """Films that are labelled beside this one, and what came of them: never replaced."""

    def __post_init__(self) -> None:
        """Check each value, naming the flag at fault."""
        ModelConfig.__post_init__(self)
        OverlayConfig.__post_init__(self)
        if isinstance(self.source, str):
            object.__setattr__(self, "source", Url.if_one(self.source) or self.source)
        if self.resume and self.report:
            raise ConfigError(
                "--resume is given with --report, which needs the whole film; leave it out, or "
                "leave out --resume to begin anew"
            )
        if self.sound not in SOUNDS:
            raise ConfigError(f"--sound is {self.sound!r}; use one of: {', '.join(SOUNDS)}")
        object.__setattr__(self, "image_fps", image_rate(self.image_fps))
        if not 0 <= self.start_s <= LONGEST_S:
            raise ConfigError(
                f"--start is {self.start_s}; it must be 0 or more seconds of the film"
            )
        if self.end_s is not None and not math.isfinite(self.end_s):
            raise ConfigError(f"--end is {self.end_s}; give seconds, or leave it out")
        if self.end_s is not None and self.end_s <= self.start_s:
            raise ConfigError(
                f"--end is {self.end_s} and --start is {self.start_s}; --end must be later"
            )
        if self.out is None and not (self.stats or self.masks):
            raise ConfigError("--no-film leaves nothing to write; add --stats or --masks")
        if self.out and isinstance(self.source, Path):
            check_not_input(self.out, "--out", self.source)

    def to_record(self) -> dict[str, str]:
        """Return all that the frames of the output depend on, by name, as text."""
        apart = ("out", "masks", "stats", "report", "strict", "resume", "overwrite", "spared")
        return {f.name: str(getattr(self, f.name)) for f in fields(self) if f.name not in apart}


@dataclass(frozen=True, kw_only=True)
class LiveConfig(ModelConfig, OverlayConfig):
    """Settings of one live run."""

    source: str
    """Camera, address of a stream, or film."""
    as_camera: bool = False
    """Play a film at its own rate and drop what comes too late."""
    out: Path | None = None
    """Film to record to; None records nothing."""
    segment_s: float | None = None
    """Length of the films recorded; None records one."""
    overwrite: bool = False
    """Replace a recording that exists."""

    def __post_init__(self) -> None:
        """Check each value, naming the flag at fault."""
        ModelConfig.__post_init__(self)
        OverlayConfig.__post_init__(self)
        if isinstance(self.source, str):
            object.__setattr__(self, "source", Url.if_one(self.source) or self.source)
        if self.segment_s is not None and not self.segment_s > 0:
            raise ConfigError(f"--segment is {self.segment_s}; it must be above 0 seconds")
        if self.segment_s is not None and self.out is None:
            raise ConfigError("--segment is given without --out; name the film to record to")
        if self.out is not None:
            check_not_input(self.out, "--out", Path(self.source))


@dataclass(frozen=True, kw_only=True)
class BenchConfig:
    """Settings of one run of measurements."""

    film: Path
    """Film to measure on."""
    weights: tuple[Path, ...] = ()
    """Model files, the reference in FP32 first; none means those that come along."""
    backends: tuple[str, ...] = ()
    """Runtimes; none means all that are installed and read the files."""
    sizes_hw: tuple[tuple[int, int], ...] = ()
    """Network inputs; none means the one that `roadseg infer` would choose."""
    batches: tuple[int, ...] = (1,)
    """Frames a call, where the model is measured alone."""
    peer: Path | None = None
    """Road segmentation of the Open Model Zoo to measure beside."""
    rate: float | None = None
    """Frames a second of the camera in live mode; None takes the film's."""
    rounds: int = 5
    """Times that everything is measured, in turns."""
    film_s: float | None = 4.0
    """Seconds of the film to label; None labels it whole."""
    call_s: float = 1.5
    """Seconds for which a model is called, once it is warm."""
    live_s: float = 3.0
    """Seconds of live mode."""

    def __post_init__(self) -> None:
        """Check each value, naming the flag at fault."""
        if self.weights and self.weights[0].suffix != ".onnx":
            raise ConfigError(
                f"--weights {self.weights[0]} comes first; the reference, which the plain loop "
                "runs too, must be an exported model (.onnx); name it before the others"
            )
        if self.peer is not None and not self.peer.is_file():
            raise ConfigError(f"--peer {self.peer} does not exist; give the model's .xml file")
        if self.rounds < 1:
            raise ConfigError(f"--rounds is {self.rounds}; it must be at least 1")
        if any(batch < 1 for batch in self.batches):
            raise ConfigError(f"--batch is {min(self.batches)}; it must be at least 1")
        if self.rate is not None and not (self.rate > 0 and math.isfinite(self.rate)):
            raise ConfigError(f"--rate is {self.rate}; it must be above 0, such as 30")
        if self.film_s is not None and not 0 < self.film_s <= LONGEST_S:
            raise ConfigError(f"--seconds is {self.film_s}; it must be above 0, such as 4")

    def shortened(self) -> Self:
        """Return settings for a look at everything in some 20 seconds; too short for claims."""
        return replace(
            self,
            weights=self.weights or (default_weights(),),
            backends=self.backends or (ModelConfig.backend,),
            rounds=2,
            film_s=1.0,
            call_s=0.3,
            live_s=1.0,
        )
