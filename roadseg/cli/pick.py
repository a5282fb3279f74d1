"""`roadseg pick`."""

from pathlib import Path
from typing import Annotated

import typer

from roadseg.backends.weights import weights_named
from roadseg.cli.console import counted, echo
from roadseg.cli.options import Backend, Quiet, Weights


def pick(
    source: Annotated[
        Path,
        typer.Argument(metavar="VIDEO|DIR", help="Video, or folder or pattern of pictures."),
    ],
    out: Annotated[Path, typer.Option("--out", "-o", metavar="DIR", help="Folder to create.")],
    count: Annotated[int, typer.Option(metavar="N", help="Frames to pick.")] = 50,
    weights: Weights = None,
    backend: Backend = "auto",
    quiet: Quiet = False,
) -> None:
    """Pick the frames most worth labelling by hand: unsure, unsteady and unlike one another."""
    from roadseg.cli.tables import plain_console
    from roadseg.infer.pick import PickConfig, pick

    config = PickConfig(
        source=source, out=out, count=count, weights=weights_named(weights), backend=backend
    )
    with plain_console(stderr=True, quiet=quiet).status("looking at every frame"):
        found = pick(config)
    if quiet:
        return
    pictures = counted(len(found), "picture")
    echo(f"{out}: {pictures} with labels to correct, unlabelled where the model is unsure")
    if len(found) < count:
        echo(f"there are no more to pick from; --count is {count}")
