"""`roadseg compile`."""

from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from roadseg.backends.weights import DEFAULT_MODEL, SHIPPED_MODELS, shipped_model
from roadseg.cli.completion import builders, models
from roadseg.cli.options import Quiet, parse_size

if TYPE_CHECKING:
    from rich.console import Console

    from roadseg.deploy.compile import CompileResult


def compile_(
    model: Annotated[
        str | None,
        typer.Argument(
            metavar="MODEL",
            help="Name of an included model, exported model (.onnx) or model file from "
            "training (.safetensors).",
            show_default=DEFAULT_MODEL,
            autocompletion=models,
        ),
    ] = None,
    backend: Annotated[
        str,
        typer.Option(
            metavar="NAME",
            help="Runtime to build for: auto, onnxruntime, onnxruntime-rtx, openvino, tensorrt.",
            autocompletion=builders,
        ),
    ] = "auto",
    precision: Annotated[
        str | None,
        typer.Option(
            metavar="NAME",
            help="int8; for openvino also bf16, fp32; for onnxruntime-rtx and tensorrt fp16.",
            show_default="int8, on GPUs fp16",
        ),
    ] = None,
    size: Annotated[
        str | None,
        typer.Option(
            metavar="WxH",
            help="Network input to calibrate, compare and measure at.",
            show_default="the one for such frames",
        ),
    ] = None,
    batch: Annotated[int, typer.Option(metavar="N", help="Frames a call.")] = 1,
    data: Annotated[
        Path | None,
        typer.Option(
            metavar="DIR",
            help="Labelled data: ranges are set on train/, the build is compared on val/.",
        ),
    ] = None,
    film: Annotated[
        Path | None,
        typer.Option(metavar="VIDEO", help="Video to do both on, where there are no labels."),
    ] = None,
    out: Annotated[
        Path | None,
        typer.Option(
            "--out",
            "-o",
            metavar="FILE",
            help="File to write.",
            show_default="MODEL.BACKEND-PRECISION.* here",
        ),
    ] = None,
    portable: Annotated[
        bool, typer.Option("--portable", help="Bind the file to no version and no device.")
    ] = False,
    rebuild: Annotated[
        bool, typer.Option("--rebuild", help="Build even if what is there still fits.")
    ] = False,
    quiet: Quiet = False,
) -> None:
    """Make a model fast on this machine, and prove that it is still the same model."""
    from roadseg.cli.tables import plain_console
    from roadseg.deploy.compile import CompileConfig, compile_model

    if model is None or model in SHIPPED_MODELS:
        source = shipped_model(name=model or DEFAULT_MODEL)
    else:
        source = Path(model)
    config = CompileConfig(
        model=source,
        runtime=backend,
        precision=precision,
        size_hw=parse_size(size) if size else None,
        batch=batch,
        data=data,
        film=film,
        out=out,
        portable=portable,
        rebuild=rebuild,
    )
    progress = plain_console(stderr=True, quiet=quiet)
    with progress.status("building and comparing; a minute or so"):
        result = compile_model(config)
    _show(result, plain_console(quiet=quiet))


def _show(result: "CompileResult", console: "Console") -> None:
    from rich.table import Table

    from roadseg.deploy.compile import report_path

    build, parity, timing = result.build, result.parity, result.timing
    table = Table(title=str(result.out), title_justify="left", show_header=False)
    because = result.rebuilt_because
    built = f"yes: {because}" if because else "no: the file that was there still fits"
    table.add_row("built now", built)
    table.add_row("runtime", f"{build.runtime} {build.runtime_version or '(any version)'}")
    table.add_row("device", build.device or "any")
    table.add_row("input", f"{build.shape[2]}x{build.shape[1]}, {build.shape[0]} a call")
    layers = ", ".join(f"{count} in {name}" for name, count in result.layers.items())
    table.add_row("convolutions", f"{layers}, as executed")
    table.add_row("pixels as before", f"{parity.agreement:.2%} of {parity.frames} frames")
    if parity.miou is not None and parity.source_miou is not None:
        table.add_row("mIoU", f"{parity.miou:.2%}, and {parity.source_miou:.2%} before")
    table.add_row(
        "speed",
        f"{timing.build_ms:.1f} ms, {timing.speedup:.2f} times as fast as FP32 on ONNX Runtime "
        f"({timing.source_ms:.1f} ms; {timing.rounds} rounds in turns)",
    )
    console.print(table)
    console.print(f"record: {report_path(result.out)}", soft_wrap=True)
