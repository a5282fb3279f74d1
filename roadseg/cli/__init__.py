"""The command line: one file a command, and the one place where errors become exit codes.

Modules here import nothing heavy at their top, so that help and errors appear at once.
"""

import errno
import os
import sys
from collections.abc import Callable
from typing import Annotated, NoReturn

import typer
from typer._click.exceptions import (  # Typer itself exports but one of their kinds
    BadParameter,
    ClickException,
    NoArgsIsHelpError,
)

from roadseg import __version__
from roadseg.cli.adopt import adopt
from roadseg.cli.batch import app as batch_app
from roadseg.cli.bench import bench
from roadseg.cli.command import SETTINGS, Command, Group
from roadseg.cli.compile import compile_
from roadseg.cli.console import complain, echo
from roadseg.cli.data import app as data_app
from roadseg.cli.doctor import doctor
from roadseg.cli.evaluate import evaluate
from roadseg.cli.export import export
from roadseg.cli.infer import infer
from roadseg.cli.label import label
from roadseg.cli.live import live
from roadseg.cli.masks import app as masks_app
from roadseg.cli.pick import pick
from roadseg.cli.redact import redact
from roadseg.cli.signals import ending_on_signals
from roadseg.cli.train import train
from roadseg.errors import RoadsegError

app = typer.Typer(
    name="roadseg",
    cls=Group,
    help="Label road scenes in video: sky, building, pole, road, pavement, tree, sign, fence, car, "
    "pedestrian and bicyclist.",
    epilog="Example: roadseg infer drive.mp4 --out overlay.mp4",
    context_settings=SETTINGS,
    no_args_is_help=True,
    pretty_exceptions_enable=False,
)
EXAMPLES: dict[Callable[..., None], str] = {
    infer: "infer drive.mp4 --out overlay.mp4 --side-by-side",
    live: "live rtsp://camera.local/street --out street.mp4",
    redact: "redact drive.mp4 --out shared.mp4 --sound none",
    train: "train --data CamVid --out runs/first --epochs 60",
    label: "label drive.mp4 --teacher mine.onnx --out labelled",
    pick: "pick drive.mp4 --count 50 --out to-label",
    evaluate: "evaluate --data CamVid --split val --report val.html",
    bench: "bench drive.mp4 --record run.json --report run.html",
    export: "export runs/first/best.safetensors --out mine.onnx",
    adopt: "adopt pidnet.onnx --classes cityscapes --bgr --out mine.onnx",
    compile_: "compile --data CamVid --backend openvino",
    doctor: "doctor",
}
"""The commands in the order of the help, each with an example that it shows."""
for command, example in EXAMPLES.items():
    app.command(name=example.split()[0], cls=Command, epilog=f"Example: roadseg {example}")(command)
app.add_typer(data_app, name="data")
app.add_typer(batch_app, name="batch")
app.add_typer(masks_app, name="masks")


def _show_version(wanted: bool) -> None:
    if wanted:
        echo(f"roadseg {__version__}")
        raise typer.Exit


@app.callback()
def _root(
    version: Annotated[
        bool,
        typer.Option(
            "--version", "-V", callback=_show_version, is_eager=True, help="Show the version."
        ),
    ] = False,
) -> None:
    pass


OF_NAMES = {
    errno.EACCES: "may not be looked at; change the permissions of its folder, or give another",
    errno.ENAMETOOLONG: "is a longer name than the system takes; give a shorter one",
}
"""What is wrong where Python is not even told whether there is a file of a name."""


def main() -> NoReturn:
    """Run the command line; a mistake that the user can mend is one line and exit code 1."""
    # Read when OpenCV is imported: roadseg reports in its own words what OpenCV would log.
    os.environ.setdefault("OPENCV_LOG_LEVEL", "ERROR")
    try:
        with ending_on_signals():
            sys.exit(app(standalone_mode=False, prog_name="roadseg"))
    except NoArgsIsHelpError as error:
        if help_ := error.format_message():  # else Rich has printed it
            echo(help_, err=True)
        sys.exit(error.exit_code)
    except ClickException as error:
        complain(_in_one_line(error))
        sys.exit(error.exit_code)
    except RoadsegError as error:
        complain(error)
        sys.exit(1)
    except OSError as error:  # files' other errors are translated: this is standard output's
        if error.filename is not None and error.errno in OF_NAMES:
            complain(f"{error.filename} {OF_NAMES[error.errno]}")
            sys.exit(1)
        if error.errno != errno.ENOSPC:
            raise
        complain(f"standard output cannot be written ({error.strerror})")
        sys.stdout = None  # Python would try once more
        sys.exit(1)


NUMBERS = {"float_parsing": "a number", "int_parsing": "a whole number"}
"""What a value was to be, by Pydantic's name of the error."""


def _of_number(error: ClickException) -> str | None:
    """Return what is wrong with a value that is to be a number; None if it is something else."""
    for told in getattr(error.__cause__, "errors", list)():
        if isinstance(error, BadParameter) and error.param and told["type"] in NUMBERS:
            return f"{error.param.opts[0]} is {told['input']!r}; give {NUMBERS[told['type']]}"
    return None


def _in_one_line(error: ClickException) -> str:
    """Return Click's message on a wrong command line, in the style of ours."""
    message = _of_number(error) or " ".join(error.format_message().split()).removesuffix(".")
    context = getattr(error, "ctx", None)
    command = context.command_path if context else "roadseg"
    pause = " " if message.endswith("?") else "; "
    return f"{message[:1].lower()}{message[1:]}{pause}see {command} --help"
