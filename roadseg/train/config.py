"""Settings of a training run: frozen and validated."""

import json
import math
from collections.abc import Callable, Mapping
from dataclasses import asdict, dataclass, field, replace
from pathlib import Path
from typing import Any, Self

from roadseg.errors import ConfigError
from roadseg.settings import build_settings
from roadseg.spec import (
    ARCHITECTURES,
    MOST_SIDE,
    MOST_WIDTH,
    SIDE_MULTIPLE,
    ModelSpec,
    choose,
)


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
    weather: float = 0.2
    """Share of samples given cast shadow, haze, or drops on the windscreen."""
    mix: float = 0.3
    """Share of samples on which classes of another one are pasted, rare ones first."""
    fourier: float = 0.0
    """Share of the first data set's samples that take the light of a picture of another one."""
    night: float = 0.0
    """Share of samples darkened to a night with headlights and lamps."""
    rain: float = 0.0
    """Share of samples with streaks of rain."""
    bonnet: float = 0.0
    """Share of samples with the bonnet of one's own car, unlabelled."""
    letterbox: float = 0.0
    """Share of samples with black bars, unlabelled."""

    def __post_init__(self) -> None:
        """Check each strength, naming it."""
        for name in self._strengths():
            most = 180 if name == "rotation_deg" else 1
            if not 0 <= getattr(self, name) <= most:
                raise ConfigError(
                    f"--augment {name} is {getattr(self, name)}; it must be from 0 to {most}"
                )
        smallest, largest = self.scale
        if not 0 < smallest <= largest < math.inf:
            raise ConfigError(
                f"--augment scale is {smallest:g},{largest:g}; it must be two numbers above 0, the "
                "smaller first, such as 0.7,1.8"
            )

    @classmethod
    def none(cls) -> Self:
        """Return settings that change nothing but where a crop lies."""
        return cls(scale=(1.0, 1.0), flip=False, **dict.fromkeys(cls._strengths(), 0.0))

    @classmethod
    def _strengths(cls) -> set[str]:
        """Return the names of the strengths that are one number."""
        return set(cls.__dataclass_fields__) - {"scale", "flip"}


@dataclass(frozen=True, kw_only=True)
class TrainConfig:
    """Settings of one training run."""

    data: tuple[str, ...]
    """Data sets in the SegNet layout, as `DIR`, or `DIR:CLASSES=SHARE`; see `DataSource`.

    The first names the classes, and counts the epochs.
    """
    out: Path
    """Folder for checkpoints, log and curves."""
    arch: str = "unet-lite"
    """Architecture."""
    width: int | None = None
    """Channels of the decoder's finest level; None takes the architecture's usual one."""
    encoder: str = "lite0"
    """Variant of EfficientNet-Lite, where the architecture has such an encoder."""
    output_stride: int | None = None
    """Pixels along a side for one of the logits; None takes the architecture's usual stride."""
    pretrained: bool | None = None
    """Start the encoder from ImageNet; None does so where there is one and no `start_from`."""
    start_from: Path | None = None
    """Model file to go on from, instead of ImageNet; classes are matched by their names."""
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
    loss: str = "dice"
    """Loss, a key of `roadseg.train.losses.LOSSES`."""
    class_weights: str = "log"
    """How rare classes weigh in it, a key of `roadseg.train.losses.CLASS_WEIGHTS`."""
    augment: AugmentConfig = field(default_factory=AugmentConfig)
    """Random changes to samples."""
    size_hw: tuple[int, int] = (384, 512)
    """Network input for validation, and the default of the exported model."""
    accumulate: int = 1
    """Parts in which a step is computed: one after the other, to save memory, or by processes.

    A step's loss is the mean of its parts', however much of each is labelled.
    """
    clip_norm: float | None = None
    """Largest norm of the gradient; None leaves it as it is."""
    amp: bool | None = None
    """Compute in bfloat16 where that is safe; None does so where the GPU or CPU has it."""
    deterministic: bool = False
    """Ask PyTorch for deterministic algorithms; a CPU's are so anyway."""
    patience: int | None = None
    """Validations without a better mIoU after which to stop; None goes to the last epoch."""
    holdout_sequence: str | None = None
    """Sequence of the training split to leave out, measure on, and choose the best weights by."""
    eval_every: int = 2
    """Epochs between validations."""
    pictures: int = 4
    """Validation pictures whose labels the report shows."""
    trackers: tuple[str, ...] = ()
    """Experiment trackers that get the metrics too, keys of `roadseg.train.trackers.TRACKERS`."""
    checkpoint_every_s: float = 180.0
    """Seconds between checkpoints within an epoch."""
    workers: int | None = None
    """Processes that prepare samples, 0 for the training process itself; None goes by the machine.
    """
    seed: int = 0
    """Seed of everything random."""

    def __post_init__(self) -> None:
        """Check each value, naming the flag at fault."""
        self._check_ranges()
        self._check_network()
        self._demand("data", bool, "at least one folder that holds train/ and trainannot/")
        self._demand("ema_decay", lambda value: 0 <= value < 1, "from 0 to below 1, such as 0.998")
        for name in ("crop_hw", "size_hw"):
            self._demand(
                name,
                lambda sides: all(
                    0 < side <= MOST_SIDE and side % SIDE_MULTIPLE == 0 for side in sides
                ),
                f"height and width, multiples of {SIDE_MULTIPLE} up to {MOST_SIDE}",
            )
        self._demand(
            "accumulate",
            lambda parts: self.batch_size % parts == 0,
            f"a divisor of --batch-size, which is {self.batch_size}",
        )
        self._demand(
            "crop_hw",
            lambda sides: self.batch_size > self.accumulate or max(sides) > SIDE_MULTIPLE,
            "larger where each part of a step has one sample, or the coarsest features have one "
            "value to normalise by",
        )

    def _check_ranges(self) -> None:
        """Refuse numbers that are out of their range."""
        for name in (
            "epochs",
            "batch_size",
            "accumulate",
            "eval_every",
            "patience",
            "output_stride",
        ):
            self._demand(name, lambda value: value >= 1, "at least 1")
        self._demand("width", lambda value: 1 <= value <= MOST_WIDTH, f"from 1 to {MOST_WIDTH}")
        for name in ("lr", "encoder_lr_factor", "clip_norm"):
            self._demand(name, lambda value: value > 0 and math.isfinite(value), "above 0")
        for name in ("workers", "weight_decay", "pictures", "checkpoint_every_s"):
            self._demand(name, lambda value: 0 <= value < math.inf, "0 or more")
        self._demand("warmup", lambda value: 0 <= value <= 1, "from 0 to 1")
        self._demand("seed", lambda value: 0 <= value < 2**32, "from 0 to below 2**32")

    def _check_network(self) -> None:
        """Refuse what the architecture does not have, and two beginnings of the weights."""
        if self.pretrained and self.start_from is not None:
            raise ConfigError(
                "--pretrained and --start-from each say where the weights come from; choose one"
            )
        architecture = choose(ARCHITECTURES, self.arch, "--arch")
        self._demand(
            "encoder",
            lambda value: architecture.has_encoder or value == type(self).encoder,
            f"left out with --arch {self.arch}, which has none of these",
        )
        self._demand(
            "output_stride",
            lambda value: value in architecture.widths,
            f"{' or '.join(map(str, sorted(architecture.widths)))} for {self.arch}",
        )

    def _demand(self, name: str, fits: Callable[[Any], bool], need: str) -> None:
        value = getattr(self, name)
        if value is not None and not fits(value):
            flag = name.removesuffix("_hw").replace("_", "-")
            raise ConfigError(f"--{flag} is {value}; it must be {need}")

    def shared_by(self, processes: int) -> Self:
        """Return the settings with as many parts of a step as processes share: one each, or more.

        Raises:
            ConfigError: They cannot share a batch, or the parts asked for.
        """
        if self.batch_size % processes:
            raise ConfigError(
                f"{processes} processes cannot share a batch of {self.batch_size}; choose a "
                f"--batch-size that is a multiple of {processes}, or another number of them"
            )
        if self.accumulate > 1 and self.accumulate % processes:
            raise ConfigError(
                f"--accumulate is {self.accumulate}; {processes} processes can share multiples of "
                f"{processes} parts"
            )
        return replace(self, accumulate=max(self.accumulate, processes))

    @property
    def spec(self) -> ModelSpec:
        """The record of the model that this run trains."""
        usual = ARCHITECTURES[self.arch].widths
        stride = self.output_stride or next(iter(usual))
        return ModelSpec(
            arch=self.arch,
            width=self.width or usual[stride],
            encoder=self.encoder,
            output_stride=stride,
            size_hw=self.size_hw,
        )

    @property
    def starts_from_imagenet(self) -> bool:
        """Whether the encoder gets ImageNet's weights."""
        can = ARCHITECTURES[self.arch].has_encoder and self.start_from is None
        return can if self.pretrained is None else self.pretrained

    @property
    def starts_with_encoder(self) -> bool:
        """Whether the encoder knows something, wherever from."""
        return self.starts_from_imagenet or self.start_from is not None

    def to_dict(self) -> dict[str, Any]:
        """Return all settings as JSON values, the architecture's usual ones written out."""
        usual = {
            "width": self.spec.width,
            "output_stride": self.spec.output_stride,
            "pretrained": self.starts_from_imagenet,
        }
        values = {**asdict(self), **usual}
        return json.loads(json.dumps(values, default=str))  # type: ignore[no-any-return]

    @classmethod
    def from_dict(cls, values: Mapping[str, Any]) -> Self:
        """Build settings from JSON or TOML values; what is left out keeps its default.

        Raises:
            ConfigError: A name is unknown, or a value of another type or not fit; it is named.
        """
        if isinstance(values.get("data"), str):  # as files had it when there was one data set
            values = {**values, "data": [values["data"]]}
        return build_settings(cls, values)
