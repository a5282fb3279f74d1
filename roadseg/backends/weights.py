"""The default model file."""

from pathlib import Path

from roadseg.backends.machine import has_int8_units


def shipped_model(precision: str = "fp32") -> Path:
    """Return a shipped model: installed as package data, or in a checkout's weights/."""
    package = Path(__file__).parent.parent
    name = "unet-lite.onnx" if precision == "fp32" else f"unet-lite.{precision}.onnx"
    installed = package / "weights" / name
    return installed if installed.is_file() else package.parent / "weights" / name


def default_weights() -> Path:
    """Return the shipped model in the precision that suits this machine."""
    return shipped_model("int8" if has_int8_units() else "fp32")
