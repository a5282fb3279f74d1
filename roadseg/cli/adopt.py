"""`roadseg adopt`."""

from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from roadseg.backends.weights import files_of
from roadseg.cli.console import complain, echo
from roadseg.cli.options import Overwrite, Quiet, parse_size, require_onnx

if TYPE_CHECKING:
    from roadseg.deploy.adopt import AdoptResult

ALMOST_ALL = 0.98
"""Share of one class in a frame above which the network's input is probably wrong."""
SHOWN_CLASSES = 5
"""Most classes of the frame in the message."""


def adopt(
    model: Annotated[
        Path,
        typer.Argument(
            metavar="MODEL", help="Network that others trained: ONNX, or OpenVINO IR (.xml)."
        ),
    ],
    classes: Annotated[
        str,
        typer.Option(
            metavar="NAME|FILE",
            help="What it knows: cityscapes, bdd100k, mapillary, ade20k, coco-stuff, or a file "
            "such as classes.csv, with the columns name, id, color.",
        ),
    ],
    out: Annotated[
        Path,
        typer.Option(
            "--out", "-o", metavar="FILE", help="File to write, with the network's suffix."
        ),
    ],
    mean: Annotated[
        str | None,
        typer.Option(
            metavar="A,B,C",
            help="What its training took from each channel, such as 0.485,0.456,0.406.",
            show_default="nothing",
        ),
    ] = None,
    std: Annotated[
        str | None,
        typer.Option(
            metavar="A,B,C",
            help="What it then divided by, such as 0.229,0.224,0.225.",
            show_default="1",
        ),
    ] = None,
    input_range: Annotated[
        str | None,
        typer.Option(
            metavar="RANGE",
            help="Range of the channels before that: 0..1 or 0..255.",
            show_default="by the size of --mean and --std",
        ),
    ] = None,
    bgr: Annotated[bool, typer.Option("--bgr", help="Its first channel is blue.")] = False,
    layout: Annotated[
        str | None,
        typer.Option(
            metavar="NAME", help="Order of its input: nchw or nhwc.", show_default="by its shape"
        ),
    ] = None,
    output: Annotated[
        str | None,
        typer.Option(
            metavar="NAME",
            help="Output that the labels come from.",
            show_default="the one that fits --classes",
        ),
    ] = None,
    size: Annotated[
        str | None,
        typer.Option(
            metavar="WxH",
            help="Input to go by, of a network that takes any.",
            show_default="1024x512",
        ),
    ] = None,
    frame: Annotated[
        Path | None,
        typer.Option(
            metavar="FILE", help="Picture or video to check it on.", show_default="made up"
        ),
    ] = None,
    overwrite: Overwrite = False,
    quiet: Quiet = False,
) -> None:
    """Turn a network that others trained into a model for --weights of every command."""
    require_onnx()
    from roadseg.deploy.adopt import adopt as adopt_network
    from roadseg.deploy.adopt_config import AdoptConfig
    from roadseg.files import check_new

    config = AdoptConfig(
        model=model,
        classes=classes,
        out=out,
        mean=_three(mean, "--mean"),
        std=_three(std, "--std"),
        input_range=input_range,
        bgr=bgr,
        layout=layout,
        output=output,
        size_hw=parse_size(size, multiple=1) if size else AdoptConfig.size_hw,
        frame=frame,
    )
    for path in files_of(out):
        check_new(path, "--out", (path.suffix,), overwrite=overwrite)
    result = adopt_network(config)
    if not quiet:
        _show(out, result)
    if frame and max(result.shares.values()) > ALMOST_ALL:
        complain(
            f"warning: {frame} is {next(iter(result.shares))} almost everywhere to it; check "
            "--mean, --std, --input-range and --bgr"
        )


def _show(out: Path, result: "AdoptResult") -> None:
    spec = result.spec
    assert spec.adopted is not None
    height, width = spec.size_hw
    takes = f"takes {width}x{height} alone" if spec.fixed_hw else f"goes by {width}x{height}"
    seen = list(result.shares.items())[:SHOWN_CLASSES]
    echo(
        f"{out}: {spec.num_classes} classes from {spec.adopted.output_kind}, {takes}, "
        f"{out.stat().st_size / 1e6:.1f} MB, decides as the network in {result.agreement:.2%} of "
        f"pixels; sees {', '.join(f'{name} {share:.0%}' for name, share in seen)}"
    )


def _three(text: str | None, flag: str) -> tuple[float, float, float] | None:
    """Return a number for each channel as users write them, "A,B,C"; one number counts for all."""
    from roadseg.errors import ConfigError

    if text is None:
        return None
    try:
        numbers = [float(part) for part in text.split(",")]
        first, second, third = numbers * 3 if len(numbers) == 1 else numbers
    except ValueError as error:
        raise ConfigError(
            f"{flag} is {text!r}; give a number for each channel, such as 0.485,0.456,0.406"
        ) from error
    return first, second, third
