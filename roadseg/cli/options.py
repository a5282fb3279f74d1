"""Options that several commands share, and the parsing of their values."""

import contextlib
import re
from fractions import Fraction
from importlib.util import find_spec
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any, Literal

import typer

from roadseg.backends.weights import DEFAULT_MODEL, SHIPPED_MODELS, weights_named
from roadseg.cli import completion
from roadseg.cli.console import complain
from roadseg.cli.option_groups import OptionGroup
from roadseg.errors import BackendUnavailable, ConfigError, ModelFileError
from roadseg.paint.config import LEGENDS, OverlayConfig
from roadseg.segmentation.config import CPU, ModelConfig
from roadseg.spec import MOST_SIDE, PALETTES, SIDE_MULTIPLE
from roadseg.video.rates import image_rate

if TYPE_CHECKING:
    from roadseg.backends.tuned import Choice

Weights = Annotated[
    str | None,
    typer.Option(
        metavar="NAME|FILE",
        help=f"Model: {', '.join(SHIPPED_MODELS)}, or a file: exported, compiled or from training "
        "(.safetensors).",
        show_default=DEFAULT_MODEL,
        autocompletion=completion.models,
    ),
]
Backend = Annotated[
    str,
    typer.Option(
        metavar="NAME",
        help="Runtime: auto, onnxruntime, onnxruntime-rtx, openvino, torch, torch-compiled, "
        "tensorrt.",
        autocompletion=completion.backends,
    ),
]
Steady = Annotated[
    float,
    typer.Option(
        metavar="0..1",
        help="Weight of the past in a video's labels, moved along: less flicker. 0 takes each "
        "frame alone.",
    ),
]
Every = Annotated[
    str,
    typer.Option(
        metavar="N|auto",
        help="Run the network on every Nth frame only, and move labels along in between. auto runs "
        "it 12 to 15 times a second of video, and on every frame live or with --steady 0.",
    ),
]
Report = Annotated[
    Path | None,
    typer.Option(metavar="FILE.html", help="Also write a page with metrics and pictures."),
]
Overwrite = Annotated[bool, typer.Option("--overwrite", help="Replace output that exists.")]
OverwriteFilm = Annotated[
    bool,
    typer.Option("--overwrite", help="Replace output that exists or is unfinished."),
]
Resume = Annotated[
    bool,
    typer.Option(
        "--resume", help="Go on from where an unfinished run with the same settings stopped."
    ),
]
Start = Annotated[
    str, typer.Option(metavar="TIME", help="Where to begin: seconds, or as 1:30 or 1:02:30.")
]
End = Annotated[
    str | None,
    typer.Option(metavar="TIME", help="Where to stop, in the same form.", show_default="the end"),
]
Quiet = Annotated[bool, typer.Option("--quiet", "-q", help="Say nothing but errors and warnings.")]
AsJson = Annotated[bool, typer.Option("--json", help="Print JSON on standard output instead.")]


def out_option(ending: str) -> Any:
    """Return the option `--out` of a command, given the end of the names that it gives unasked."""
    return typer.Option(
        "--out",
        "-o",
        metavar="FILE",
        help="Video to write (.mp4, .mov, .mkv, .webm), or the folder for it, or for those of "
        "several videos; frames/%06d.png (or .jpg) for images; - for standard output.",
        show_default=f"VIDEO.{ending}.mp4 here; .mkv if VIDEO is one, an image if it is one",
    )


class ModelOptions(OptionGroup):
    """The model and its runtime."""

    panel = "Model"
    weights: Weights = None
    backend: Backend = ModelConfig.backend
    device: Annotated[
        str,
        typer.Option(
            metavar="NAME",
            help="Where frames are on their way: cpu, cuda or cuda:N. auto takes a GPU where "
            "there is one and the model is for it (.safetensors, .engine).",
            autocompletion=completion.one_of(("auto", CPU, "cuda")),
        ),
    ] = ModelConfig.device
    size: Annotated[
        str | None,
        typer.Option(
            metavar="WxH",
            help="Network input; sides are multiples of 32.",
            show_default="by the video's aspect ratio",
        ),
    ] = None

    @property
    def is_left_open(self) -> bool:
        """Whether neither a model nor a runtime nor a GPU is named."""
        unnamed = self.weights is None and self.backend == ModelConfig.backend
        return unnamed and not self.device.startswith("cuda")

    def settings(self) -> dict[str, Any]:
        """Return the fields of a `ModelConfig` that they set.

        Where they leave model and runtime open, it is as `roadseg doctor --tune` chose.

        Raises:
            ConfigError: The size is not valid.
        """
        weights, backend = weights_named(self.weights, self.device), self.backend
        if self.is_left_open and (choice := _tuned()):
            weights, backend = choice.weights, choice.backend
        return {
            "weights": weights,
            "backend": backend,
            "device": self.device,
            "size_hw": parse_size(self.size) if self.size else None,
        }


def _tuned() -> "Choice | None":
    """Return what `roadseg doctor --tune` chose; of a choice that does not hold any more, warn."""
    from roadseg.backends.tuned import kept_choice

    try:
        return kept_choice()
    except ModelFileError as error:
        complain(f"warning: {error}")
        return None


class MotionOptions(OptionGroup):
    """How labels follow the motion in a video."""

    panel = "Steadiness and speed"
    steady: Steady = ModelConfig.steady
    every: Every = str(ModelConfig.every)
    fps_target: Annotated[
        float | None,
        typer.Option(
            metavar="FPS", help="Run the network as often as this many frames a second allow."
        ),
    ] = ModelConfig.fps_target
    realtime: Annotated[
        bool,
        typer.Option(
            "--realtime",
            help="Run the network as often as the video's own frame rate allows.",
        ),
    ] = ModelConfig.realtime

    def settings(self) -> dict[str, Any]:
        """Return the fields of a `ModelConfig` that they set.

        Raises:
            ConfigError: What `--every` says is no number.
        """
        return {**super().settings(), "every": parse_every(self.every)}


class PositionOptions(OptionGroup):
    """Where the positions of a drive come from."""

    panel = "Positions"
    gpx: Annotated[
        Path | None,
        typer.Option(
            metavar="FILE",
            help="Track of the drive, for --report and --geojson.",
            show_default="the video's own telemetry",
        ),
    ] = None
    gpx_offset: Annotated[
        str | None,
        typer.Option(
            metavar="TIME",
            help="Time in the track at which the video begins, from the first point on: 90, 1:30.",
            show_default="by the video's time of recording",
        ),
    ] = None
    no_map: Annotated[bool, typer.Option("--no-map", help="Leave the way out of --report.")] = False

    def settings(self) -> dict[str, Any]:
        """Return the fields of an `InferConfig` that they set.

        Raises:
            ConfigError: The offset is no time.
        """
        offset = self.gpx_offset
        return {
            "gpx": self.gpx,
            "gpx_offset_s": None if offset is None else parse_time(offset, "--gpx-offset"),
            "no_map": self.no_map,
        }


class OverlayOptions(OptionGroup):
    """Settings of the overlay."""

    panel = "Overlay"
    alpha: Annotated[
        float, typer.Option(metavar="0..1", help="Share of the colour in a painted pixel.")
    ] = OverlayConfig.alpha
    classes: Annotated[
        str | None,
        typer.Option(
            metavar="NAME,...", help="Classes to paint, such as road,car.", show_default="all"
        ),
    ] = None
    only: Annotated[
        str | None,
        typer.Option(
            metavar="NAME,...",
            help="Classes to paint while all else turns to dark grey, such as "
            "pedestrian,bicyclist.",
        ),
    ] = None
    palette: Annotated[
        str,
        typer.Option(
            metavar="NAME|FILE",
            help="Colours of the classes: roadseg, camvid, cityscapes, colorblind, or a file with "
            "lines such as road,128,64,128 or road,#804080.",
            autocompletion=completion.one_of(PALETTES),
        ),
    ] = ModelConfig.palette
    outline: Annotated[
        bool, typer.Option("--outline/--no-outline", help="Draw a light line where a class ends.")
    ] = OverlayConfig.outline
    min_region: Annotated[
        float,
        typer.Option(
            metavar="SHARE",
            help="Share of the picture; a smaller region has no outline and is no object.",
        ),
    ] = OverlayConfig.min_region
    min_confidence: Annotated[
        float,
        typer.Option(
            metavar="0..1",
            help="Leave unpainted, and count as unlabelled, what is less sure than this. 0 paints "
            "all.",
        ),
    ] = ModelConfig.min_confidence
    legend: Annotated[
        str,
        typer.Option(
            metavar="CORNER",
            help="Where to name the classes in view: top-left, top-right, bottom-left, "
            "bottom-right, none.",
            autocompletion=completion.one_of(LEGENDS),
        ),
    ] = OverlayConfig.legend

    def settings(self) -> dict[str, Any]:
        """Return the fields of an `OverlayConfig`, and of a `ModelConfig` what is shown and how."""
        names = {"classes": class_names(self.classes), "only": class_names(self.only)}
        return {**super().settings(), **names}


def class_names(text: str | None) -> tuple[str, ...]:
    """Return the names in a list as users write it, "road,car"; a comma may follow the last."""
    if not text:
        return ()
    names = tuple(filter(None, map(str.strip, text.split(","))))
    return names or (text,)  # which is no name, and told as such


def parse_size(text: str, flag: str = "--size", multiple: int = SIDE_MULTIPLE) -> tuple[int, int]:
    """Return (height, width) of a size as users write it behind a flag, "WIDTHxHEIGHT".

    Raises:
        ConfigError: The text is no size, a side is not a multiple of `multiple`, or too long.
    """
    width_text, _, height_text = text.lower().partition("x")
    if not all(side.isdecimal() and len(side) <= 9 for side in (width_text, height_text)):
        raise ConfigError(f"{flag} is {text!r}; give WIDTHxHEIGHT, such as {flag} 512x384")
    width, height = int(width_text), int(height_text)
    if width % multiple or height % multiple or not width or not height:
        near_w, near_h = (max(round(s / multiple), 1) * multiple for s in (width, height))
        raise ConfigError(
            f"{flag} is {width}x{height}; both sides must be multiples of {multiple}; "
            f"use {flag} {near_w}x{near_h}"
        )
    if max(width, height) > MOST_SIDE:
        raise ConfigError(f"{flag} is {width}x{height}; a side has at most {MOST_SIDE} pixels")
    return height, width


def parse_every(text: str) -> int | Literal["auto"]:
    """Return the distance between key frames, as users write it.

    Raises:
        ConfigError: It is no number, and not auto.
    """
    if text == "auto":
        return "auto"
    if not (text.isdecimal() and len(text) <= 9):
        raise ConfigError(f"--every is {text!r}; give a number of frames, such as 2, or auto")
    return int(text)


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
            f"not installed: {', '.join(missing)}; this command needs the train extra; "
            "run: pip install '.[train]' in a checkout of roadseg"
        )


def require_onnx() -> None:
    """Raise `BackendUnavailable` with the pip command unless ONNX is installed."""
    if not find_spec("onnx"):
        raise BackendUnavailable(
            "onnx is not installed, which this command needs; run: pip install onnx"
        )
