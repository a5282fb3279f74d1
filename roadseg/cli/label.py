"""`roadseg label`."""

from pathlib import Path
from typing import Annotated

import typer

from roadseg.backends.weights import weights_named
from roadseg.cli.completion import models
from roadseg.cli.console import counted, echo, shares_said
from roadseg.cli.options import Backend, Quiet


def label(
    sources: Annotated[
        list[Path],
        typer.Argument(
            metavar="VIDEO|DIR", help="Videos, and folders or patterns of pictures, to label."
        ),
    ],
    teacher: Annotated[
        list[str],
        typer.Option(
            metavar="NAME|FILE",
            help="Model that labels, as --weights takes it; may be repeated. The first names the "
            "classes; of others, such as adopted ones, classes are matched by name.",
            autocompletion=models,
        ),
    ],
    out: Annotated[Path, typer.Option("--out", "-o", metavar="DIR", help="Folder to create.")],
    backend: Backend = "auto",
    min_confidence: Annotated[
        float,
        typer.Option(metavar="0..1", help="Label what a teacher is at least this sure of."),
    ] = 0.8,
    step: Annotated[
        float, typer.Option(metavar="SECONDS", help="Label a frame of a video this often.")
    ] = 1.0,
    steady_for: Annotated[
        float,
        typer.Option(
            metavar="SECONDS",
            help="Label what has had its label for this long in a video, moving along.",
        ),
    ] = 0.3,
    quiet: Quiet = False,
) -> None:
    """Label footage by models that agree, for --data of roadseg train and to look at."""
    from roadseg.cli.tables import plain_console
    from roadseg.infer.pseudo_labels import LabelConfig, label_footage

    config = LabelConfig(
        sources=tuple(sources),
        teachers=tuple(map(weights_named, teacher)),
        out=out,
        backend=backend,
        min_confidence=min_confidence,
        step_s=step,
        steady_s=steady_for,
    )
    with plain_console(stderr=True, quiet=quiet).status("looking at every frame"):
        result = label_footage(config)
    if quiet:
        return
    pictures = counted(result.pictures, "picture")
    echo(f"{out}: {pictures}, {result.labelled:.0%} of all pixels labelled")
    echo(f"labels: {', '.join(shares_said(result.shares))}")
