"""`roadseg export`."""

from pathlib import Path
from typing import Annotated

import typer

from roadseg.cli.console import echo
from roadseg.cli.options import Overwrite, Quiet, require_train
from roadseg.errors import ModelFileError


def export(
    model: Annotated[
        Path, typer.Argument(metavar="MODEL", help="Model file from training (.safetensors).")
    ],
    out: Annotated[
        Path | None,
        typer.Option(
            "--out",
            "-o",
            metavar="FILE",
            help="File to write.",
            show_default="MODEL.onnx beside it, MODEL.half.onnx with --half",
        ),
    ] = None,
    half: Annotated[
        bool,
        typer.Option("--half", help="Compute in half precision, for --backend onnxruntime-rtx."),
    ] = False,
    store: Annotated[
        str,
        typer.Option(
            metavar="PRECISION",
            help="How weights are stored: single, or half, which halves the file. They are "
            "computed with in single precision either way.",
        ),
    ] = "single",
    overwrite: Overwrite = False,
    quiet: Quiet = False,
) -> None:
    """Write a trained model as one ONNX file, normalisation and argmax inside."""
    from roadseg.files import check_new

    if not model.name:
        raise ModelFileError(f"{model} is a folder; give a model file from training (.safetensors)")
    target = out or model.with_suffix(".half.onnx" if half else ".onnx")
    check_new(target, "--out", (".onnx",), overwrite=overwrite)
    require_train()
    from roadseg.deploy.export import export_onnx

    spec = export_onnx(model, target, store, half=half)
    if quiet:
        return
    height, width = spec.size_hw
    parity = "equal to PyTorch" + " in half precision" * half
    if store == "half":
        parity = "weights rounded to half precision"
    echo(
        f"{target}: {spec.arch}, {len(spec.class_names)} classes, made for {width}x{height}, "
        f"{target.stat().st_size / 1e6:.1f} MB, {parity}"
    )
