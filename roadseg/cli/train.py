"""`roadseg train`."""

import os
import platform
import sys
from pathlib import Path
from typing import Annotated, Any

import typer

from roadseg.config import TrainConfig

TRAINING_ALLOCATOR = {
    "MALLOC_MMAP_MAX_": "0",
    "MALLOC_TRIM_THRESHOLD_": str(2**35),
    "MALLOC_TOP_PAD_": str(2**28),
    "GLIBC_TUNABLES": "glibc.malloc.hugetlb=1",
}


def train(
    data: Annotated[
        Path,
        typer.Option(
            metavar="DIR", help="Data in the SegNet layout: train/, trainannot/, val/, valannot/."
        ),
    ],
    out: Annotated[
        Path,
        typer.Option(
            metavar="DIR", help="Folder of the run; an unfinished run found there is resumed."
        ),
    ] = Path("runs/train"),
    arch: Annotated[
        str,
        typer.Option(help="Architecture: unet (the paper's) or unet-lite (pretrained encoder)."),
    ] = TrainConfig.arch,
    width: Annotated[
        int | None,
        typer.Option(help="Channels of the finest level.", show_default="unet 64, unet-lite 48"),
    ] = TrainConfig.width,
    pretrained: Annotated[
        bool | None,
        typer.Option(
            "--pretrained/--no-pretrained",
            help="Start the encoder from ImageNet.",
            show_default="pretrained where the architecture can be",
        ),
    ] = None,
    epochs: Annotated[int, typer.Option(help="Passes over the data.")] = TrainConfig.epochs,
    batch_size: Annotated[int, typer.Option(help="Samples a step.")] = TrainConfig.batch_size,
    crop: Annotated[
        str, typer.Option(metavar="WxH", help="Training crops; sides are multiples of 32.")
    ] = "448x320",
    size: Annotated[
        str, typer.Option(metavar="WxH", help="Network input for validation and by default.")
    ] = "512x384",
    lr: Annotated[float, typer.Option(help="Peak learning rate.")] = TrainConfig.lr,
    weight_decay: Annotated[
        float, typer.Option(help="Weight decay of AdamW.")
    ] = TrainConfig.weight_decay,
    ema_decay: Annotated[
        float, typer.Option(help="Decay of the averaged weights.")
    ] = TrainConfig.ema_decay,
    holdout_sequence: Annotated[
        str | None,
        typer.Option(
            metavar="NAME",
            help="Leave this drive out of the training split, such as 0001TP, and choose the best "
            "weights by it.",
            show_default="none; the best weights are chosen by val",
        ),
    ] = TrainConfig.holdout_sequence,
    eval_every: Annotated[
        int, typer.Option(help="Epochs between validations.")
    ] = TrainConfig.eval_every,
    workers: Annotated[
        int, typer.Option(help="Processes that prepare samples; 2 or more suit a GPU.")
    ] = TrainConfig.workers,
    seed: Annotated[int, typer.Option(help="Seed of everything random.")] = TrainConfig.seed,
    quiet: Annotated[bool, typer.Option("--quiet", "-q", help="Say nothing but errors.")] = False,
) -> None:
    """Train a model; stop it when you like, and the same command goes on from its checkpoint."""
    from roadseg.imaging import parse_size

    config = TrainConfig(
        data=data,
        out=out,
        arch=arch,
        width=width,
        pretrained=arch != "unet" if pretrained is None else pretrained,
        epochs=epochs,
        batch_size=batch_size,
        crop_hw=parse_size(crop, "--crop"),
        lr=lr,
        weight_decay=weight_decay,
        ema_decay=ema_decay,
        size_hw=parse_size(size),
        holdout_sequence=holdout_sequence,
        eval_every=eval_every,
        workers=workers,
        seed=seed,
    )
    _run(config, quiet=quiet)


def _run(config: TrainConfig, *, quiet: bool) -> None:
    _keep_freed_memory()
    from rich.console import Console
    from rich.progress import (
        BarColumn,
        MofNCompleteColumn,
        Progress,
        TextColumn,
        TimeRemainingColumn,
    )

    from roadseg.cli.extras import require_train

    require_train()
    from roadseg.train import STATE_FILE
    from roadseg.train import train as run

    columns = (
        TextColumn("{task.description}"),
        BarColumn(),
        MofNCompleteColumn(),
        TextColumn("steps  {task.fields[loss]}"),
        TimeRemainingColumn(),
    )
    console = Console(stderr=True, quiet=quiet)
    hidden = quiet or not console.is_terminal
    with Progress(*columns, console=console, disable=hidden) as progress:
        task = progress.add_task(f"training {config.arch}", total=None, loss="reading the data")

        def on_log(record: dict[str, Any]) -> None:
            if "epoch" in record:
                console.print(_epoch_line(record), highlight=False)
            else:
                progress.update(
                    task,
                    completed=record["step"],
                    total=record["total_steps"],
                    loss=f"loss {record['loss']:.3f}",
                )

        if (config.out / STATE_FILE).is_file():
            console.print(f"going on where {config.out} stands")
        try:
            result = run(config, on_log)
        except KeyboardInterrupt:
            console.print(
                f"stopped; the same command goes on from the last checkpoint in {config.out}: "
                f"there is one an epoch, and one every {config.checkpoint_every_s / 60:.0f} minutes"
            )
            raise
    if not quiet:
        typer.echo(
            f"best mIoU {result.best_miou:.1%}: {result.model_path}\n"
            f"curves: {result.page_path}\n"
            f"next: roadseg export {result.model_path} --out mine.onnx"
        )


def _keep_freed_memory() -> None:
    """Start this process again with an allocator that keeps what is freed, where glibc has it.

    Otherwise each step gives gigabytes back to the system and faults them in again, page by page.
    glibc reads these variables only when a process starts. A user who has set one is left alone.
    """
    already_set = any(name in os.environ for name in TRAINING_ALLOCATOR)
    if already_set or platform.libc_ver()[0] != "glibc":
        return
    sys.stdout.flush()
    sys.stderr.flush()
    os.execve(sys.executable, sys.orig_argv, {**os.environ, **TRAINING_ALLOCATOR})  # noqa: S606


def _epoch_line(record: dict[str, Any]) -> str:
    parts = [f"epoch {record['epoch']:3d}", f"train loss {record['train']['loss']:.3f}"]
    for split in ("val", "holdout"):
        if split in record:
            figures = record[split]
            parts.append(
                f"{split} mIoU {figures['miou']:.1%} accuracy {figures['pixel_accuracy']:.1%} "
                f"cross entropy {figures['cross_entropy']:.3f}"
            )
    return "  ".join(parts)
