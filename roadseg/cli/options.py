"""Options that several commands share."""

from pathlib import Path
from typing import Annotated

import typer

Weights = Annotated[
    Path | None, typer.Option(help="Model file.", show_default="the model that comes along")
]
Backend = Annotated[
    str,
    typer.Option(help="Runtime: auto, onnxruntime, openvino, torch, torch-compiled, tensorrt."),
]
Size = Annotated[
    str | None,
    typer.Option(
        metavar="WxH",
        help="Network input; sides are multiples of 32.",
        show_default="by the film's aspect ratio",
    ),
]
Steady = Annotated[
    float,
    typer.Option(
        metavar="0..1",
        help="Weight of the past in a film's labels, moved along: less flicker. 0 takes each frame "
        "alone.",
    ),
]
Every = Annotated[
    int,
    typer.Option(
        metavar="N",
        help="Let the network look at every Nth frame only, and move labels along in between.",
    ),
]
FpsTarget = Annotated[
    float | None,
    typer.Option(
        metavar="FPS",
        help="Let the network look as often as leaves this many frames a second.",
        show_default="at every frame",
    ),
]
Realtime = Annotated[
    bool,
    typer.Option(
        "--realtime", help="Let the network look as often as keeps up with the film's own rate."
    ),
]
Alpha = Annotated[float, typer.Option(help="Share of the colour in the overlay, 0..1.")]
Classes = Annotated[
    str | None,
    typer.Option(
        metavar="NAME,...", help="Classes to paint, such as road,car.", show_default="all"
    ),
]
Only = Annotated[
    str | None,
    typer.Option(
        metavar="NAME,...",
        help="Classes to paint while all else turns to dark grey, such as pedestrian,bicyclist.",
        show_default="none",
    ),
]
Palette = Annotated[str, typer.Option(help="Colours of the classes: camvid, colorblind.")]
Outline = Annotated[
    bool, typer.Option("--outline/--no-outline", help="Draw a light line where a class ends.")
]
Legend = Annotated[bool, typer.Option("--legend/--no-legend", help="Name the classes in a corner.")]
Overwrite = Annotated[bool, typer.Option("--overwrite", help="Replace output that exists.")]
Quiet = Annotated[bool, typer.Option("--quiet", "-q", help="Say nothing but errors and warnings.")]
AsJson = Annotated[
    bool, typer.Option("--json", help="Print the summary as JSON on standard output.")
]


def class_names(text: str | None) -> tuple[str, ...]:
    """Return the names in a list as users write it, "road,car"."""
    return tuple(name.strip() for name in text.split(",")) if text else ()
