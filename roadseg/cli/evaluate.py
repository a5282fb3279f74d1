"""`roadseg evaluate`."""

import json
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

if TYPE_CHECKING:
    from roadseg.metrics import Scores


def evaluate(
    data: Annotated[
        Path, typer.Option(metavar="DIR", help="Data in the SegNet layout: val/, valannot/.")
    ],
    weights: Annotated[
        Path | None,
        typer.Option(
            help="Exported model (.onnx) or model file from training (.safetensors).",
            show_default="the model that comes along",
        ),
    ] = None,
    split: Annotated[str, typer.Option(help="Split to measure on.")] = "val",
    backend: Annotated[str, typer.Option(help="Runtime: auto, onnxruntime, torch.")] = "auto",
    size: Annotated[
        str | None,
        typer.Option(
            metavar="WxH", help="Network input.", show_default="by the picture's aspect ratio"
        ),
    ] = None,
    page: Annotated[
        Path | None, typer.Option(metavar="FILE.html", help="Also write a page with figures.")
    ] = None,
    as_json: Annotated[
        bool, typer.Option("--json", help="Print the figures as JSON on standard output.")
    ] = False,
) -> None:
    """Measure a model: mIoU, the IoU of each class, accuracy, cross entropy, confusion."""
    from contextlib import closing

    from rich.console import Console
    from rich.progress import Progress

    from roadseg.backends import open_backend
    from roadseg.config import default_weights
    from roadseg.data.folder import FolderDataset
    from roadseg.errors import OutputError
    from roadseg.evaluate import evaluate as measure
    from roadseg.files import replacing
    from roadseg.imaging import parse_size
    from roadseg.report import evaluation_page

    size_hw = parse_size(size) if size else None
    if page and not page.parent.is_dir():
        raise OutputError(f"--page {page}: there is no folder {page.parent}; make it first")
    dataset = FolderDataset.open(data, split)
    path = weights or default_weights()
    console = Console(stderr=True)
    progress = Progress(console=console, transient=True, disable=not console.is_terminal)
    with closing(open_backend(path, backend)) as model, progress:
        task = progress.add_task(f"measuring on {split}", total=len(dataset))
        scores = measure(
            model, dataset, size_hw, on_picture=lambda done: progress.update(task, completed=done)
        )
    try:
        if page:
            with replacing(page) as temporary:
                temporary.write_text(evaluation_page(scores, f"{path.name} on {split}"))
    finally:  # whatever becomes of the page, the figures are not lost
        _show(scores, f"{path.name} on {split}, {len(dataset)} pictures", as_json=as_json)


def _show(scores: "Scores", title: str, *, as_json: bool) -> None:
    from rich.console import Console

    from roadseg.cli.tables import confusion_table, score_table

    if as_json:
        typer.echo(json.dumps({**scores.summary(), "confusion": scores.confusion.tolist()}))
        return
    console = Console()
    console.print(title, highlight=False)
    console.print(score_table(scores))
    console.print(confusion_table(scores))
