"""Options that several commands share, and how their texts are read."""

import contextlib
import re
from fractions import Fraction
from importlib.util import find_spec
from pathlib import Path
from typing import Annotated

import typer

from roadseg.errors import BackendUnavailable, ConfigError
from roadseg.spec import MOST_SIDE, SIDE_MULTIPLE, image_rate

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


def parse_size(text: str, flag: str = "--size") -> tuple[int, int]:
    """Return (height, width) of a size as users write it behind a flag, "WIDTHxHEIGHT".

    Raises:
        ConfigError: The text is no size, a side is not a multiple of `SIDE_MULTIPLE`, or too long.
    """
    width_text, _, height_text = text.lower().partition("x")
    if not all(side.isdecimal() and len(side) <= 9 for side in (width_text, height_text)):
        raise ConfigError(f"{flag} is {text!r}; give WIDTHxHEIGHT, such as {flag} 512x384")
    width, height = int(width_text), int(height_text)
    if width % SIDE_MULTIPLE or height % SIDE_MULTIPLE or not width or not height:
        near_w, near_h = (max(round(s / SIDE_MULTIPLE), 1) * SIDE_MULTIPLE for s in (width, height))
        raise ConfigError(
            f"{flag} is {width}x{height}; both sides must be multiples of {SIDE_MULTIPLE}; "
            f"use {flag} {near_w}x{near_h}"
        )
    if max(width, height) > MOST_SIDE:
        raise ConfigError(f"{flag} is {width}x{height}; a side has at most {MOST_SIDE} pixels")
    return height, width


def parse_time(text: str, flag: str) -> float:
    """Return seconds as users write times: 90, 1:30 or 0:01:30.5.

    Raises:
        ConfigError: It is none.
    """
    parts = text.split(":")
    if len(parts) <= 3 and all(re.fullmatch(r"\d+", part) for part in parts[:-1]):
        with contextlib.suppress(ValueError, OverflowError):
            seconds = float(parts[-1])
            if len(parts) == 1 or 0 <= seconds < 60:
                return sum((60**n * int(part) for n, part in enumerate(parts[-2::-1], 1)), seconds)
    raise ConfigError(f"{flag} is {text!r}; give seconds, or a time such as 1:30 or 1:02:30")


def parse_rate(text: str) -> Fraction:
    """Return a frame rate as users write it.

    Raises:
        ConfigError: It is none, or out of range.
    """
    try:
        return image_rate(Fraction(text))
    except (ValueError, ZeroDivisionError) as error:
        raise ConfigError(f"--fps is {text!r}; give a number, such as 25 or 30000/1001") from error


def require_train() -> None:
    """Raise `BackendUnavailable` with the pip command unless the train extra is installed."""
    missing = [
        name for name in ("torch", "safetensors", "onnx", "onnxscript") if not find_spec(name)
    ]
    if missing:
        raise BackendUnavailable(
            f"{', '.join(missing)} not installed; this command needs the train extra; "
            "run: pip install '.[train]' in a checkout of roadseg"
        )
