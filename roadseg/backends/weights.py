"""The default model file."""

from pathlib import Path

from roadseg.backends.machine import has_int8_units
from roadseg.files import shipped


def shipped_model(precision: str = "fp32") -> Path:
    """Return the shipped model in a precision."""
    name = "unet-lite.onnx" if precision == "fp32" else f"unet-lite.{precision}.onnx"
    return shipped("weights", name)


def default_weights() -> Path:
    """Return the shipped model in the precision that suits this machine."""
    return shipped_model("int8" if has_int8_units() else "fp32")
