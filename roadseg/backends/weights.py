"""Which model file is taken where none is named."""

from importlib.util import find_spec
from pathlib import Path

from roadseg.backends.machine import has_int8_units


def shipped_model(precision: str = "fp32") -> Path:
    """Return a model that comes along: installed as package data, or in a checkout's weights/."""
    package = Path(__file__).parent.parent
    name = "unet-lite.onnx" if precision == "fp32" else f"unet-lite.{precision}.onnx"
    installed = package / "weights" / name
    return installed if installed.is_file() else package.parent / "weights" / name


def default_weights(device: str = "cpu") -> Path:
    """Return the model that comes along, in the form that suits this machine.

    Args:
        device: Where frames are to be; the form for a card is in a checkout alone.
    """
    on_card = shipped_model().with_suffix(".safetensors")
    if device.startswith("cuda") and on_card.is_file() and find_spec("torch"):
        return on_card
    return shipped_model("int8" if has_int8_units() else "fp32")
