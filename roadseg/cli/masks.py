"""`roadseg masks convert`."""

from pathlib import Path
from typing import Annotated

import typer

from roadseg.cli.command import Command, Group
from roadseg.cli.completion import mask_formats
from roadseg.cli.console import counted, echo
from roadseg.cli.options import Overwrite, Quiet

app = typer.Typer(cls=Group, no_args_is_help=True, help="Convert class maps for other programs.")


@app.callback()
def _masks() -> None:
    """Keep `convert` a command of its own: Typer would merge the only one with its group."""


@app.command(
    cls=Command, epilog="Example: roadseg masks convert masks --to coco-rle --out drive.json"
)
def convert(
    masks: Annotated[
        Path, typer.Argument(metavar="DIR", help="Masks, as roadseg infer --masks writes them.")
    ],
    to: Annotated[
        str,
        typer.Option(
            metavar="FORMAT",
            help="coco-rle, yolo-polygons, cityscapes, label-studio or cvat.",
            autocompletion=mask_formats,
        ),
    ],
    out: Annotated[
        Path,
        typer.Option(
            "--out",
            "-o",
            metavar="PATH",
            help="File to write (.json; for cvat .xml), or a new folder (yolo-polygons, "
            "cityscapes).",
        ),
    ],
    pictures: Annotated[
        str,
        typer.Option(
            metavar="NAME",
            help="Names or addresses of the pictures; {} stands for a mask's name without .png.",
        ),
    ] = "{}.png",
    classes: Annotated[
        Path | None,
        typer.Option(
            metavar="FILE",
            help="Names of the classes, such as classes.csv with the columns name, id.",
            show_default="the twelve of roadseg's own models",
        ),
    ] = None,
    overwrite: Overwrite = False,
    quiet: Quiet = False,
) -> None:
    """Convert class maps into annotations for training and labelling programs."""
    from roadseg.data import convert as forms

    forms.check_target(to, out, overwrite=overwrite)
    names = forms.class_names_in(classes) if classes else forms.DEFAULT_NAMES
    paths = forms.find_masks(masks)
    forms.convert(forms.read_masks(paths, pictures), to, out, names)
    if not quiet:
        echo(f"{out}: {counted(len(paths), 'mask')} as {to}")
