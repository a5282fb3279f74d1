"""What each use case can be told, and what a model file says about itself: frozen and validated."""

import json
import math
from collections.abc import Mapping
from dataclasses import asdict, dataclass, field, replace
from pathlib import Path
from typing import Any, Self

from roadseg.classes import CLASS_NAMES, NUM_CLASSES, PALETTE, PALETTES
from roadseg.errors import ConfigError, ModelFileError

MODEL_FORMAT = 1
DEFAULT_WIDTHS = {"unet": 64, "unet-lite": 48}
"""Channels of the finest level: the paper's for `unet`, the slim decoder's for `unet-lite`."""


@dataclass(frozen=True, kw_only=True)
class ModelSpec:
    """What a model is and where it comes from; stored in every model file as JSON."""

    arch: str
    """Name of the architecture."""
    width: int
    """Channels of the decoder's finest level."""
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
    format: int = MODEL_FORMAT
    """Version of this record."""

    def to_json(self) -> str:
        """Return the record as one JSON object."""
        return json.dumps(asdict(self), allow_nan=False)

    def recolored(self, palette: str) -> Self:
        """Return the record with the colours of a palette; classes unknown to it keep theirs."""
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
            values["size_hw"] = tuple(values["size_hw"])
            values["class_names"] = tuple(values["class_names"])
            values["palette"] = tuple(tuple(color) for color in values["palette"])
            return cls(**values)
        except (ValueError, KeyError, TypeError) as error:
            raise ModelFileError(
                f"{path} carries a damaged roadseg record ({error}); export the model again"
            ) from error


@dataclass(frozen=True, kw_only=True)
class AugmentConfig:
    """Random changes to training samples; a strength of 0 switches one off."""

    scale: tuple[float, float] = (0.7, 1.8)
    """Smallest and largest enlargement."""
    rotation_deg: float = 5.0
    """Largest rotation either way."""
    aspect: float = 0.1
    """Largest relative change of width against height."""
    flip: bool = True
    """Mirror half of the samples left to right."""
    rare_crop: float = 0.4
    """Share of crops that are centred on a pixel of a rare class."""
    color: float = 0.4
    """Strength of brightness, contrast, saturation, hue and gamma."""
    camera: float = 0.3
    """Share of samples given blur, noise or JPEG traces, as cheap cameras do."""


@dataclass(frozen=True, kw_only=True)
class TrainConfig:
    """Settings of one training run."""

    data: Path
    """Data set in the SegNet layout."""
    out: Path
    """Folder for checkpoints, log and curves."""
    arch: str = "unet-lite"
    """Architecture."""
    width: int | None = None
    """Channels of the decoder's finest level; None takes the architecture's usual one."""
    pretrained: bool = True
    """Start the encoder from ImageNet."""
    epochs: int = 60
    """Passes over the training split."""
    batch_size: int = 8
    """Samples a step."""
    crop_hw: tuple[int, int] = (320, 448)
    """Height and width of training crops."""
    lr: float = 2e-3
    """Peak learning rate of new layers."""
    encoder_lr_factor: float = 0.25
    """Learning rate of a pretrained encoder, relative to `lr`."""
    weight_decay: float = 1e-2
    """Decoupled weight decay of AdamW, for weights of convolutions."""
    warmup: float = 0.1
    """Share of all steps during which the learning rate rises."""
    ema_decay: float = 0.998
    """Decay a step of the exponential moving average of the weights."""
    augment: AugmentConfig = field(default_factory=AugmentConfig)
    """Random changes to samples."""
    size_hw: tuple[int, int] = (384, 512)
    """Network input for validation, and the default of the exported model."""
    holdout_sequence: str | None = None
    """Sequence of the training split to leave out, measure on, and choose the best weights by."""
    eval_every: int = 2
    """Epochs between validations."""
    checkpoint_every_s: float = 180.0
    """Seconds between checkpoints within an epoch."""
    workers: int = 0
    """Processes that prepare samples; 0 prepares them in the training process."""
    seed: int = 0
    """Seed of everything random."""

    def __post_init__(self) -> None:
        """Check each value, naming the flag at fault."""
        for name in ("epochs", "batch_size", "eval_every"):
            if getattr(self, name) < 1:
                flag = name.replace("_", "-")
                raise ConfigError(f"--{flag} is {getattr(self, name)}; it must be at least 1")
        if self.width is not None and self.width < 1:
            raise ConfigError(f"--width is {self.width}; it must be at least 1")
        if not (math.isfinite(self.lr) and self.lr > 0):
            raise ConfigError(f"--lr is {self.lr}; it must be above 0, such as --lr 2e-3")
        for name in ("workers", "seed", "weight_decay"):
            if not getattr(self, name) >= 0:
                flag = name.replace("_", "-")
                raise ConfigError(f"--{flag} is {getattr(self, name)}; it must be 0 or more")
        if not 0 <= self.ema_decay < 1:
            raise ConfigError(
                f"--ema-decay is {self.ema_decay}; it must be from 0 to below 1, such as 0.998"
            )

    @property
    def spec(self) -> ModelSpec:
        """The record of the model that this run trains."""
        width = self.width or DEFAULT_WIDTHS.get(self.arch, 0)
        return ModelSpec(arch=self.arch, width=width, size_hw=self.size_hw)

    def to_dict(self) -> dict[str, Any]:
        """Return all settings as JSON values."""
        return json.loads(json.dumps(asdict(self), default=str))  # type: ignore[no-any-return]


def default_weights() -> Path:
    """Return the model that comes along: installed as package data, or in a checkout's weights/."""
    package = Path(__file__).parent
    installed = package / "weights" / "unet-lite.onnx"
    return installed if installed.is_file() else package.parent / "weights" / "unet-lite.onnx"


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

    def __post_init__(self) -> None:
        """Check each value, naming the flag at fault."""
        if self.palette not in PALETTES:
            raise ConfigError(
                f"--palette is {self.palette!r}; it must be one of: {', '.join(PALETTES)}"
            )


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

    source: Path
    """Film to label."""
    out: Path
    """Film to write."""
    side_by_side: bool = False
    """Put the untouched picture beside the painted one."""
    masks: Path | None = None
    """Folder for class maps as PNG files."""
    stats: Path | None = None
    """File for what is in every frame, JSON lines or CSV by its suffix."""
    report: Path | None = None
    """Page about the drive."""
    start_s: float = 0.0
    """Seconds to leave out at the beginning."""
    end_s: float | None = None
    """Time to stop at, in seconds; None goes to the end."""
    overwrite: bool = False
    """Replace output that exists."""

    def __post_init__(self) -> None:
        """Check each value, naming the flag at fault."""
        ModelConfig.__post_init__(self)
        OverlayConfig.__post_init__(self)
        if not (math.isfinite(self.start_s) and self.start_s >= 0):
            raise ConfigError(f"--start is {self.start_s}; it must be 0 or more seconds")
        if self.end_s is not None and not math.isfinite(self.end_s):
            raise ConfigError(f"--end is {self.end_s}; give seconds, or leave it out")
        if self.end_s is not None and self.end_s <= self.start_s:
            raise ConfigError(
                f"--end is {self.end_s} and --start is {self.start_s}; --end must be later"
            )
        if self.out.exists() and self.source.exists() and self.out.samefile(self.source):
            raise ConfigError(f"--out is the input, {self.source}; choose another name")


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
        if self.segment_s is not None and not self.segment_s > 0:
            raise ConfigError(f"--segment is {self.segment_s}; it must be above 0 seconds")
        if self.segment_s is not None and self.out is None:
            raise ConfigError("--segment is given without --out; name the film to record to")
        if self.out is not None and self.out.resolve() == Path(self.source).resolve():
            raise ConfigError(f"--out is the input, {self.source}; choose another name")
