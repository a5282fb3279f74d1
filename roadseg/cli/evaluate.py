"""`roadseg evaluate`."""

import json
from pathlib import Path
from typing import Annotated

import typer


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
    from roadseg.cli.infer import default_weights
    from roadseg.cli.tables import confusion_table, score_table
    from roadseg.data.folder import FolderDataset
    from roadseg.evaluate import evaluate as measure
    from roadseg.files import replacing
    from roadseg.imaging import parse_size
    from roadseg.report import evaluation_page

    size_hw = parse_size(size) if size else None
    dataset = FolderDataset.open(data, split)
    path = weights or default_weights()
    console = Console(stderr=True)
    progress = Progress(console=console, transient=True, disable=not console.is_terminal)
    with closing(open_backend(path, backend)) as model, progress:
        task = progress.add_task(f"measuring on {split}", total=len(dataset))
        scores = measure(
            model, dataset, size_hw, on_picture=lambda done: progress.update(task, completed=done)
        )
    if as_json:
        typer.echo(json.dumps({**scores.summary(), "confusion": scores.confusion.tolist()}))
    else:
        printed = Console()
        printed.print(score_table(scores, f"{path.name} on {split}, {len(dataset)} pictures"))
        printed.print(confusion_table(scores))
    if page:
        with replacing(page) as temporary:
            temporary.write_text(evaluation_page(scores, title=f"{path.name} on {split}"))
