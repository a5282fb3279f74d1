"""`roadseg infer`."""

import json
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from roadseg.cli.options import (
    Alpha,
    AsJson,
    Backend,
    Classes,
    Legend,
    Only,
    Outline,
    Palette,
    Quiet,
    Size,
    Weights,
    class_names,
)
from roadseg.config import InferConfig, default_weights

if TYPE_CHECKING:
    from roadseg.infer import InferResult

LEAST_SHOWN_SHARE = 0.0005
"""Classes with less of the picture than this are left out of the summary's table."""


def infer(
    source: Annotated[Path, typer.Argument(metavar="VIDEO", help="Film to label.")],
    out: Annotated[
        Path | None,
        typer.Option(help="Film to write.", show_default="VIDEO.overlay.mp4 in the current folder"),
    ] = None,
    weights: Weights = None,
    backend: Backend = InferConfig.backend,
    size: Size = None,
    alpha: Alpha = InferConfig.alpha,
    classes: Classes = None,
    only: Only = None,
    palette: Palette = InferConfig.palette,
    outline: Outline = InferConfig.outline,
    legend: Legend = InferConfig.legend,
    side_by_side: Annotated[
        bool, typer.Option("--side-by-side", help="Put the original to the left.")
    ] = InferConfig.side_by_side,
    masks: Annotated[
        Path | None,
        typer.Option(metavar="DIR", help="Also write each class map as a PNG of class ids."),
    ] = None,
    stats: Annotated[
        Path | None,
        typer.Option(
            metavar="FILE",
            help="Also write what is in every frame (.jsonl or .csv): time, share of each class, "
            "boxes of poles, signs, cars and people.",
        ),
    ] = None,
    report: Annotated[
        Path | None,
        typer.Option(
            metavar="FILE.html",
            help="Also write a page about the drive: the film, class shares over time, moments "
            "with people on the road.",
        ),
    ] = None,
    start: Annotated[
        float, typer.Option(metavar="SECONDS", help="Where to begin.")
    ] = InferConfig.start_s,
    end: Annotated[
        float | None,
        typer.Option(metavar="SECONDS", help="Where to stop.", show_default="the end"),
    ] = None,
    overwrite: Annotated[
        bool, typer.Option("--overwrite", help="Replace output that exists.")
    ] = InferConfig.overwrite,
    quiet: Quiet = False,
    as_json: AsJson = False,
) -> None:
    """Write a film's overlay: every frame with its classes in colour, sound and timing kept."""
    from roadseg.imaging import parse_size

    config = InferConfig(
        source=source,
        out=out or Path(f"{source.stem}.overlay.mp4"),
        weights=weights or default_weights(),
        backend=backend,
        size_hw=parse_size(size) if size else None,
        alpha=alpha,
        classes=class_names(classes),
        only=class_names(only),
        palette=palette,
        outline=outline,
        legend=legend,
        side_by_side=side_by_side,
        masks=masks,
        stats=stats,
        report=report,
        start_s=start,
        end_s=end,
        overwrite=overwrite,
    )
    result = _run(config, quiet=quiet or as_json)
    if as_json:
        typer.echo(json.dumps(_as_json(result), indent=2))
    elif not quiet:
        _show(result, palette)
    for warning in result.warnings:
        typer.echo(f"roadseg: warning: {warning}", err=True)


def _run(config: InferConfig, *, quiet: bool) -> "InferResult":
    from rich.console import Console
    from rich.progress import (
        BarColumn,
        MofNCompleteColumn,
        Progress,
        TextColumn,
        TimeRemainingColumn,
    )

    from roadseg.infer import infer as label

    columns = (
        TextColumn("{task.description}"),
        BarColumn(),
        MofNCompleteColumn(),
        TextColumn("frames"),
        TextColumn("{task.fields[fps]:5.1f} fps"),
        TimeRemainingColumn(),
    )
    console = Console(stderr=True)
    hidden = quiet or not console.is_terminal
    with Progress(*columns, console=console, disable=hidden, transient=True) as progress:
        task = progress.add_task(config.source.name, total=None, fps=0.0)

        def on_frame(done: int, total: int | None) -> None:
            elapsed_s = progress.tasks[task].elapsed or 0
            fps = done / elapsed_s if elapsed_s else 0.0
            progress.update(task, completed=done, total=total, fps=fps)

        try:
            return label(config, on_frame)
        except KeyboardInterrupt:
            console.print("stopped; nothing was written", style="bold")
            raise


def _show(result: "InferResult", palette: str) -> None:
    from rich.console import Console

    from roadseg.cli.tables import class_share_table, stage_table

    console = Console()
    height, width = result.network_hw
    console.print(
        f"{result.out}: {result.frames} frames in {result.wall_s:.1f} s, {result.fps:.1f} fps, "
        f"network input {width}x{height}",
        highlight=False,
        soft_wrap=True,
    )
    shares = {n: s for n, s in result.class_shares.items() if s >= LEAST_SHOWN_SHARE}
    console.print(class_share_table(shares, palette))
    console.print(stage_table(result.stages, result.bottleneck))


def _as_json(result: "InferResult") -> dict[str, object]:
    from dataclasses import asdict

    return {
        "out": str(result.out),
        "frames": result.frames,
        "wall_s": round(result.wall_s, 3),
        "fps": round(result.fps, 3),
        "network_size": {"height": result.network_hw[0], "width": result.network_hw[1]},
        "bottleneck": result.bottleneck,
        "stages": [asdict(stats) for stats in result.stages],
        "class_shares": result.class_shares,
        "warnings": list(result.warnings),
    }
