"""The command line: one file a command, and the one place where errors become exit codes.

Modules here import nothing heavy at their top, so that help and mistakes answer at once.
"""

import errno
import os
import sys
from typing import Annotated, NoReturn

import typer

from roadseg import __version__
from roadseg.cli.bench import bench
from roadseg.cli.compile import compile_
from roadseg.cli.console import complain, echo
from roadseg.cli.data import app as data_app
from roadseg.cli.doctor import doctor
from roadseg.cli.evaluate import evaluate
from roadseg.cli.export import export
from roadseg.cli.infer import infer
from roadseg.cli.live import live
from roadseg.cli.signals import ending_on_signals
from roadseg.cli.train import train
from roadseg.errors import RoadsegError

app = typer.Typer(
    name="roadseg",
    help="Label road scenes in video: sky, building, pole, road, pavement, tree, sign, fence, car, "
    "pedestrian and bicyclist.",
    epilog="Example: roadseg infer drive.mp4 --out overlay.mp4",
    no_args_is_help=True,
    add_completion=False,
    pretty_exceptions_enable=False,
)
app.command(epilog="Example: roadseg infer drive.mp4 --out overlay.mp4 --side-by-side")(infer)
app.command(epilog="Example: roadseg live rtsp://camera.local/street --out street.mp4")(live)
app.command(epilog="Example: roadseg train --data CamVid --out runs/first --epochs 60")(train)
app.command(epilog="Example: roadseg evaluate --data CamVid --split val --page val.html")(evaluate)
app.command(epilog="Example: roadseg bench drive.mp4 --json run.json --page run.html")(bench)
app.add_typer(data_app, name="data")
app.command(epilog="Example: roadseg export runs/first/best.safetensors --out mine.onnx")(export)
app.command(epilog="Example: roadseg doctor")(doctor)
app.command(name="compile", epilog="Example: roadseg compile --data CamVid --runtime openvino")(
    compile_
)


def _show_version(wanted: bool) -> None:
    if wanted:
        echo(f"roadseg {__version__}")
        raise typer.Exit


@app.callback()
def _root(
    version: Annotated[
        bool,
        typer.Option("--version", callback=_show_version, is_eager=True, help="Show the version."),
    ] = False,
) -> None:
    pass


def main() -> NoReturn:
    """Run the command line; a mistake that the user can mend is one line and exit code 1."""
    # Read when OpenCV is imported: what it warns of, roadseg says in a line of its own.
    os.environ.setdefault("OPENCV_LOG_LEVEL", "ERROR")
    try:
        with ending_on_signals():
            app()
    except RoadsegError as error:
        complain(error)
        sys.exit(1)
    except OSError as error:  # files' errors are translated: this is standard output's
        if error.errno != errno.ENOSPC:
            raise
        complain(f"standard output cannot be written ({error.strerror})")
        sys.stdout = None  # Python would try once more
        sys.exit(1)
    sys.exit(0)
