"""The included models, by name, the form of one that suits this machine, and its files."""

from importlib.util import find_spec
from pathlib import Path

from roadseg.backends.machine import has_int8_units
from roadseg.files import sha256_of, shipped

SHIPPED_MODELS = {
    "roads": "trained on CamVid, IDD Lite and pseudo-labels",
    "unet-lite": "trained on CamVid alone",
    "unet": "the paper's network, trained on CamVid and IDD Lite",
}
"""What each included model was trained on, by name."""
DEFAULT_MODEL = "roads"
"""The one that is taken where none is named."""


def shipped_model(precision: str = "fp32", name: str = DEFAULT_MODEL) -> Path:
    """Return a shipped model in a precision."""
    return shipped("weights", f"{name}.onnx" if precision == "fp32" else f"{name}.{precision}.onnx")


def shipped_checkpoint(name: str = DEFAULT_MODEL) -> Path:
    """Return where a model is in the form for PyTorch; the default alone is, in a checkout."""
    return shipped_model(name=name).with_suffix(".safetensors")


def default_weights(device: str = "cpu", name: str = DEFAULT_MODEL) -> Path:
    """Return a shipped model in the form and precision that suit this machine.

    Args:
        device: Where pictures are to lie.
        name: A key of `SHIPPED_MODELS`.
    """
    on_gpu, in_8_bits = shipped_checkpoint(name), shipped_model("int8", name)
    if device.startswith("cuda") and on_gpu.is_file() and find_spec("torch"):
        return on_gpu
    return in_8_bits if has_int8_units() and in_8_bits.is_file() else shipped_model(name=name)


def weights_named(weights: Path | str | None, device: str = "cpu") -> Path:
    """Return the model file that a user means.

    Args:
        weights: Name of a shipped model, or else a file: `./roads` is one, `roads` is not. A name
            such as `roads.int8.onnx` is a shipped file, unless there is one here. None is the
            default.
        device: Where pictures are to lie.
    """
    if weights is None:
        return default_weights(device)
    if isinstance(weights, str) and weights in SHIPPED_MODELS:
        return default_weights(device, weights)
    if weights == Path(weights).name and not Path(weights).exists() and is_shipped(weights):
        return shipped("weights", weights)
    return Path(weights)


def is_shipped(name: str) -> bool:
    """Return whether a model file of this name is included."""
    return any(name.startswith(f"{model}.") for model in SHIPPED_MODELS) and (
        shipped("weights", name).is_file()
    )


def files_of(model: Path) -> tuple[Path, ...]:
    """Return the files that a model consists of: OpenVINO's has its weights in a second one."""
    return (model, model.with_suffix(".bin")) if model.suffix == ".xml" else (model,)


def digest_of(model: Path) -> str:
    """Return the checksums of a model's files. Raises `OSError` if one is missing."""
    return " ".join(map(sha256_of, files_of(model)))
