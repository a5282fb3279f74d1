"""`roadseg train`."""

import os
import platform
import sys
from collections.abc import Mapping
from dataclasses import asdict, replace
from pathlib import Path
from typing import TYPE_CHECKING, Any

from roadseg.cli.console import echo
from roadseg.cli.option_groups import grouped
from roadseg.cli.options import parse_size, require_train
from roadseg.cli.pseudo_labels import labelled_for
from roadseg.cli.train_options import (
    DEFAULT_OUT,
    NO_AUGMENTATION,
    ComputingOptions,
    DataOptions,
    MeasuringOptions,
    ModelOptions,
    OptimisationOptions,
    RunOptions,
)
from roadseg.errors import ConfigError, PeerLost
from roadseg.files import check_named
from roadseg.measure.shown import shown
from roadseg.settings import read_settings
from roadseg.train.config import AugmentConfig, TrainConfig
from roadseg.train.launch import end_with_launcher, is_rank, launch, own_rank, rank_count

if TYPE_CHECKING:
    from rich.console import Console
    from rich.progress import Progress

    from roadseg.train.loop import TrainResult

TRAINING_ALLOCATOR = {
    "MALLOC_MMAP_MAX_": "0",
    "MALLOC_TRIM_THRESHOLD_": str(2**35),
    "MALLOC_TOP_PAD_": str(2**28),
    "GLIBC_TUNABLES": "glibc.malloc.hugetlb=1",
}
METRICS = {"miou": "mIoU", "pixel_accuracy": "pixel accuracy"}
"""What the metrics are called by which weights are compared."""
SWITCH = {"true": True, "1": True, "false": False, "0": False}
OVERRULED = {
    "start_from": ("pretrained",),
    "pretrained": ("start_from",),
    "arch": ("pretrained", "encoder", "width", "output_stride"),
}
"""Settings of a file that a flag overrides besides its own."""


@grouped
def train(
    run: RunOptions,
    model: ModelOptions,
    data: DataOptions,
    optimisation: OptimisationOptions,
    computing: ComputingOptions,
    measuring: MeasuringOptions,
) -> None:
    """Train a model; stop it when you like, and the same command goes on from its checkpoint."""
    flags = {"data": run.data, "out": run.out}
    for group in (model, data, optimisation, computing, measuring):
        flags |= vars(group)
    try:
        settings = _settings(run, flags)
    except ConfigError:
        if own_rank() > 0:
            sys.exit(1)  # the first process says it
        raise
    _run(settings, run)


def _settings(run: RunOptions, flags: Mapping[str, Any]) -> TrainConfig:
    """Return the settings of a file, if there is one, overridden by flags.

    Raises:
        ConfigError: One does not fit.
    """
    given = {name: value for name, value in flags.items() if value is not None}
    merged = _merged(read_settings(run.config) if run.config else {}, given)
    try:
        config = TrainConfig.from_dict(merged)
    except ConfigError as error:
        if run.config is None:
            raise
        raise ConfigError(f"{error} (settings of {run.config} and flags)") from error
    return replace(config, data=(*config.data, *_pseudo_labels(run, config.out)))


def _merged(file: Mapping[str, Any], flags: dict[str, Any]) -> dict[str, Any]:
    """Return the settings of the file with those of the flags put over them."""
    stale = {name for flag in flags for name in OVERRULED.get(flag, ())}
    settings = {"out": DEFAULT_OUT, **{k: v for k, v in file.items() if k not in stale}}
    for flag, name in (("crop", "crop_hw"), ("size", "size_hw")):
        if flag in flags:
            settings[name] = parse_size(flags.pop(flag), f"--{flag}")
    if "augment" in flags:
        changes, own = flags.pop("augment"), settings.get("augment", {})
        if isinstance(own, Mapping):  # anything else is refused with the other settings
            settings["augment"] = _strengths(own, changes)
    if "tracker" in flags:
        settings["trackers"] = flags.pop("tracker")
    settings.update((name, str(v) if isinstance(v, Path) else v) for name, v in flags.items())
    if "data" not in settings:
        raise ConfigError("there is no --data; give the folder with train/ and trainannot/")
    check_named(settings["out"], "--out")
    return settings


def _pseudo_labels(run: RunOptions, out: Path) -> list[str]:
    """Label what --unlabelled names, and return the data sets that this gives."""
    if run.unlabelled and run.dry_run:
        raise ConfigError(
            "--dry-run writes nothing, and --unlabelled labels; label first (roadseg label) and "
            "give that folder as --data"
        )
    return labelled_for(out, run.unlabelled or (), run.teacher or (), quiet=run.quiet)


def _strengths(file: Mapping[str, Any], flags: list[str]) -> dict[str, Any]:
    """Return strengths of augmentation: the file's, then what each --augment changes."""
    strengths = dict(file)
    for text in flags:
        if text == NO_AUGMENTATION:
            strengths = asdict(AugmentConfig.none())
        else:
            name, _, value = text.partition("=")
            strengths[name] = _strength(name, value, text)
    return strengths


def _strength(name: str, value: str, text: str) -> Any:
    """Parse the value of an --augment."""
    try:
        if name == "flip":
            return SWITCH[value]
        numbers = [float(part) for part in value.split(",")]
        if name == "scale":
            low, high = numbers
            return [low, high]
        (number,) = numbers
    except (KeyError, ValueError) as error:
        raise ConfigError(
            f"--augment is {text!r}; give NAME=NUMBER, such as mix=0.5, scale=0.7,1.8, flip=false, "
            f"or {NO_AUGMENTATION}"
        ) from error
    return number


def _run(config: TrainConfig, run: RunOptions) -> None:
    _keep_freed_memory()
    end_with_launcher()
    from roadseg.cli.tables import plain_console

    require_train()
    if (count := _ranks_to_start(run.devices)) > 1:
        config.shared_by(count)
        sys.exit(launch(count))
    quiet = run.quiet or own_rank() > 0  # one process speaks for all
    try:
        if run.dry_run:
            _rehearse(config, plain_console(quiet=quiet))
        else:
            _train(config, plain_console(stderr=True, quiet=quiet))
    except PeerLost:
        if own_rank() == 0:
            raise
        sys.exit(1)


def _ranks_to_start(devices: int | None) -> int:
    """Return how many processes this one is to start; 0 or 1 where it trains itself.

    Raises:
        ConfigError: `--devices` is no number of them, or not that of torchrun.
    """
    if devices is not None and devices < 1:
        raise ConfigError(f"--devices is {devices}; it must be at least 1")
    if not is_rank():
        return devices or 1
    if devices not in (None, rank_count()):
        raise ConfigError(
            f"--devices is {devices}, and torchrun started {rank_count()} processes; leave out one "
            "of the two"
        )
    return 0


def _train(config: TrainConfig, console: "Console") -> None:
    from roadseg.train.loop import train as run
    from roadseg.train.run import STATE_FILE

    with _progress(console) as progress:
        task = progress.add_task(f"training {config.arch}", total=None, loss="reading the data")

        def on_log(record: dict[str, Any]) -> None:
            if "epoch" in record:
                console.print(_epoch_line(record))
            else:
                if progress.tasks[task].total is None and record["step"] > 1:
                    console.print(f"going on with step {record['step']} of {record['total_steps']}")
                progress.update(
                    task,
                    completed=record["step"],
                    total=record["total_steps"],
                    loss=f"loss {record['loss']:.3f}",
                )

        try:
            result = run(config, on_log)
        except KeyboardInterrupt:
            has_checkpoint = (config.out / STATE_FILE).is_file()
            console.print(_farewell(config, has_checkpoint=has_checkpoint))
            raise
        if progress.tasks[task].total is None:  # no step was taken
            console.print("nothing was left to do; a longer run needs another --out")
    _show(result, config, console)


def _progress(console: "Console") -> "Progress":
    """Return the progress of the steps, which is shown on terminals only."""
    from rich.progress import (
        BarColumn,
        MofNCompleteColumn,
        Progress,
        TextColumn,
        TimeRemainingColumn,
    )

    columns = (
        TextColumn("{task.description}"),
        BarColumn(),
        MofNCompleteColumn(),
        TextColumn("steps  {task.fields[loss]}"),
        TimeRemainingColumn(),
    )
    hidden = console.quiet or not console.is_terminal
    return Progress(*columns, console=console, disable=hidden)


def _show(result: "TrainResult", config: TrainConfig, console: "Console") -> None:
    metric = METRICS[result.metric]
    if result.epochs < config.epochs:
        console.print(
            f"stopped after epoch {result.epochs}: {config.patience} validations without a better "
            f"{metric}"
        )
    if not console.quiet:
        echo(
            f"best {metric} on {config.holdout_sequence or 'val'} {result.best_miou:.1%}: "
            f"{result.model_path}\n"
            f"curves: {result.page_path}\n"
            f"next: roadseg export {result.model_path} --out mine.onnx"
        )


def _farewell(config: TrainConfig, *, has_checkpoint: bool) -> str:
    """Return the message for a user who interrupts a run."""
    minutes = config.checkpoint_every_s / 60
    often = f"there is one an epoch, and one every {minutes:.0f} minutes"
    if not has_checkpoint:
        return f"stopped before the first checkpoint ({often}); the same command begins anew"
    return f"stopped; the same command goes on from the last checkpoint in {config.out}: {often}"


def _rehearse(config: TrainConfig, console: "Console") -> None:
    """Print the result of a dry run."""
    from roadseg.cli.tables import class_count_table
    from roadseg.train.loop import rehearse

    found = rehearse(config)
    console.print(class_count_table("train", found.data.space.classes, found.data.counts))
    sizes = {"train": found.data.mixture.datasets[0], **found.data.measured}
    minutes = found.steps * found.step_s / 60
    length = f"about {minutes:.0f} minutes" if minutes > 1 else "under a minute"
    console.print(
        f"pictures: {', '.join(f'{name} {len(dataset)}' for name, dataset in sizes.items())}\n"
        f"{config.arch}: {found.parameters / 1e6:.2f} million parameters; loss of the last step "
        f"{found.loss:.3f}\n"
        f"{found.steps} steps of {found.step_s:.2f} s: {length}, validations apart\n"
        "nothing was written",
        soft_wrap=True,
    )


def _keep_freed_memory() -> None:
    """Start this process again with settings of glibc that keep freed memory, if there is glibc.

    Otherwise each step returns gigabytes to the system and faults them in again, page by page.
    glibc reads these variables only when a process starts. Variables that are set are kept.
    """
    already_set = any(name in os.environ for name in TRAINING_ALLOCATOR)
    if already_set or platform.libc_ver()[0] != "glibc":
        return
    sys.stdout.flush()
    sys.stderr.flush()
    os.execve(sys.executable, sys.orig_argv, {**os.environ, **TRAINING_ALLOCATOR})  # noqa: S606


def _epoch_line(record: dict[str, Any]) -> str:
    parts = [f"epoch {record['epoch']:3d}", f"train loss {record['train']['loss']:.3f}"]
    for split, metrics in record.items():
        if split != "train" and isinstance(metrics, Mapping):
            miou, right = (shown(metrics[key], ".1%") for key in ("miou", "pixel_accuracy"))
            cross_entropy = shown(metrics["cross_entropy"], ".3f")
            parts.append(f"{split} mIoU {miou} accuracy {right} cross entropy {cross_entropy}")
    return "  ".join(parts)
