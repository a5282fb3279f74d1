"""The default model file."""

from importlib.util import find_spec
from pathlib import Path

from roadseg.backends.machine import has_int8_units
from roadseg.files import shipped


def shipped_model(precision: str = "fp32") -> Path:
    """Return the shipped model in a precision."""
    name = "unet-lite.onnx" if precision == "fp32" else f"unet-lite.{precision}.onnx"
    return shipped("weights", name)


def default_weights(device: str = "cpu") -> Path:
    """Return the shipped model in the form and precision that suit this machine.

    Args:
        device: Where pictures are to lie; the form for a GPU is in a checkout alone.
    """
    on_gpu = shipped_model().with_suffix(".safetensors")
    if device.startswith("cuda") and on_gpu.is_file() and find_spec("torch"):
        return on_gpu
    return shipped_model("int8" if has_int8_units() else "fp32")
