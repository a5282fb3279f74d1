"""The options of `roadseg train`, each a setting of `TrainConfig` unless None."""

from pathlib import Path
from typing import Annotated, Any

import typer

from roadseg.cli.completion import models, one_of
from roadseg.cli.option_groups import OptionGroup
from roadseg.spec import ARCHITECTURES
from roadseg.train.config import AugmentConfig, TrainConfig

NO_AUGMENTATION = "none"
"""What switches all augmentation off."""
DEFAULT_OUT = "runs/train"
"""Folder of a run that is given none."""


def _option(help_text: str, default: str | bool = True, **more: Any) -> Any:
    """Describe an option whose default is the configuration's."""
    return typer.Option(help=help_text, show_default=default, **more)


def _setting(name: str, help_text: str, **more: Any) -> Any:
    """Describe an option that is a setting of `TrainConfig`, with the default it has there."""
    return _option(help_text, str(getattr(TrainConfig, name)), **more)


class RunOptions(OptionGroup):
    """What is trained on, where it goes, and how the run is made."""

    panel = "Run"
    data: Annotated[
        list[str] | None,
        _option(
            "Labelled data: train/, trainannot/, val/, valannot/; may be repeated. DIR:CLASSES "
            "names a class file that lies elsewhere or is included (idd_lite, idd, comma10k, "
            "cityscapes, bdd100k); DIR=SHARE, or DIR:CLASSES=SHARE, sets the share of each batch.",
            "required, here or in --config",
            metavar="DIR",
        ),
    ] = None
    unlabelled: Annotated[
        list[str] | None,
        _option(
            "Video, or folder of pictures, to label by --teacher first, as roadseg label does, in "
            "OUT.labels/; may be repeated. SOURCE=SHARE sets the share of each batch.",
            "none",
            metavar="SOURCE",
        ),
    ] = None
    teacher: Annotated[
        list[str] | None,
        _option(
            "Model that labels it, as --weights takes it; may be repeated.",
            "none",
            metavar="NAME|FILE",
            autocompletion=models,
        ),
    ] = None
    out: Annotated[
        str | None,
        typer.Option(
            "--out",
            "-o",
            metavar="DIR",
            help="Folder of the run; an unfinished run found there is resumed.",
            show_default=DEFAULT_OUT,
        ),
    ] = None
    config: Annotated[
        Path | None,
        _option(
            "Settings as .toml or .json, such as a run's config.json; a flag overrides it.",
            metavar="FILE",
        ),
    ] = None
    devices: Annotated[
        int | None,
        _option(
            "Train with this many processes, each with a GPU or its share of the cores; torchrun "
            "does so on several machines. The result is that of --accumulate N.",
            "1",
            metavar="N",
        ),
    ] = None
    dry_run: Annotated[
        bool,
        typer.Option(
            "--dry-run",
            help="Check the data and take two steps, without writing anything.",
        ),
    ] = False
    quiet: Annotated[
        bool,
        typer.Option("--quiet", "-q", help="Say nothing but errors."),
    ] = False


class ModelOptions(OptionGroup):
    """Which network is trained, and what it starts from."""

    panel = "Model"
    arch: Annotated[
        str | None,
        _setting(
            "arch",
            "Architecture: unet (the paper's), unet-lite, deeplabv3plus.",
            metavar="NAME",
            autocompletion=one_of(ARCHITECTURES),
        ),
    ] = None
    encoder: Annotated[
        str | None,
        _setting("encoder", "Encoder of the last two: lite0, lite1, lite2.", metavar="NAME"),
    ] = None
    width: Annotated[
        int | None,
        _option("Channels of the decoder's finest level.", "the architecture's usual", metavar="N"),
    ] = None
    output_stride: Annotated[
        int | None,
        _option(
            "Stride of the logits of unet-lite: 2 or 4.", "the architecture's usual", metavar="N"
        ),
    ] = None
    pretrained: Annotated[
        bool | None,
        _option(
            "Start the encoder from ImageNet.",
            "pretrained where the architecture can be, and without --start-from",
        ),
    ] = None
    start_from: Annotated[
        Path | None,
        _option(
            "Start from this model (.safetensors) instead, such as the one that is included; "
            "classes that it knows by name keep what it learnt.",
            metavar="FILE",
        ),
    ] = None
    size: Annotated[
        str | None,
        _option("Network input for validation and by default.", "512x384", metavar="WxH"),
    ] = None


class DataOptions(OptionGroup):
    """How samples are made."""

    panel = "Data"
    crop: Annotated[
        str | None,
        _option("Training crops; sides are multiples of 32.", "448x320", metavar="WxH"),
    ] = None
    augment: Annotated[
        list[str] | None,
        _option(
            "Change one strength of augmentation (of "
            + ", ".join(AugmentConfig.__dataclass_fields__)
            + f"), or switch all off with {NO_AUGMENTATION!r}; may be repeated.",
            metavar="NAME=VALUE",
        ),
    ] = None
    holdout_sequence: Annotated[
        str | None,
        _option(
            "Leave this drive out of the training split, such as 0001TP, and choose the best "
            "weights by it.",
            "none; the best weights are chosen by val",
            metavar="NAME",
        ),
    ] = None


class OptimisationOptions(OptionGroup):
    """How the network learns."""

    panel = "Optimisation"
    epochs: Annotated[int | None, _setting("epochs", "Passes over the data.", metavar="N")] = None
    batch_size: Annotated[int | None, _setting("batch_size", "Samples a step.", metavar="N")] = None
    lr: Annotated[float | None, _setting("lr", "Peak learning rate.", metavar="X")] = None
    warmup: Annotated[
        float | None,
        _setting("warmup", "Share of the steps in which it rises to that.", metavar="X"),
    ] = None
    encoder_lr_factor: Annotated[
        float | None,
        _setting("encoder_lr_factor", "A pretrained encoder's rate, relative to it.", metavar="X"),
    ] = None
    weight_decay: Annotated[
        float | None, _setting("weight_decay", "Weight decay of AdamW.", metavar="X")
    ] = None
    clip_norm: Annotated[
        float | None,
        _option("Largest norm of the gradient.", "no limit", metavar="X"),
    ] = None
    ema_decay: Annotated[
        float | None, _setting("ema_decay", "Decay of the averaged weights.", metavar="X")
    ] = None
    loss: Annotated[
        str | None,
        _setting(
            "loss",
            "Loss: cross-entropy alone, or with ohem, dice, lovasz, boundary.",
            metavar="NAME",
        ),
    ] = None
    class_weights: Annotated[
        str | None,
        _setting(
            "class_weights", "Weights of classes by frequency: log, median, none.", metavar="NAME"
        ),
    ] = None


class ComputingOptions(OptionGroup):
    """How it is computed."""

    panel = "Computing"
    workers: Annotated[
        int | None,
        _option(
            "Processes that prepare samples; 0 prepares them in the training process.",
            "0, with a GPU by the number of cores",
            metavar="N",
        ),
    ] = None
    accumulate: Annotated[
        int | None,
        _setting(
            "accumulate",
            "Compute a step in this many parts, to save memory; with --devices they are shared.",
            metavar="N",
        ),
    ] = None
    amp: Annotated[
        bool | None,
        _option(
            "Compute in bfloat16 where that is safe.",
            "amp where the GPU or CPU has it",
        ),
    ] = None
    deterministic: Annotated[
        bool | None,
        _option(
            "Ask for deterministic algorithms; a CPU's are anyway.",
        ),
    ] = None
    seed: Annotated[int | None, _setting("seed", "Seed of everything random.", metavar="N")] = None


class MeasuringOptions(OptionGroup):
    """What is measured on the way."""

    panel = "Measuring"
    eval_every: Annotated[
        int | None, _setting("eval_every", "Epochs between validations.", metavar="N")
    ] = None
    patience: Annotated[
        int | None,
        _option(
            "Stop after this many validations without a better mIoU.",
            "never before the last epoch",
            metavar="N",
        ),
    ] = None
    pictures: Annotated[
        int | None,
        _setting("pictures", "Validation pictures whose labels the page shows.", metavar="N"),
    ] = None
    tracker: Annotated[
        list[str] | None,
        _option(
            "Also log to neptune, tensorboard or mlflow; may be repeated.",
            metavar="NAME",
        ),
    ] = None
