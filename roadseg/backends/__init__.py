"""Runtimes behind one protocol, chosen by the suffix of the model file."""

from collections.abc import Callable
from importlib import import_module
from pathlib import Path
from typing import Protocol, cast

import numpy as np
from numpy.typing import NDArray

from roadseg.config import ModelSpec
from roadseg.errors import BackendUnavailable, ModelFileError


class Backend(Protocol):
    """A loaded model on some runtime. One thread uses it at a time."""

    @property
    def spec(self) -> ModelSpec:
        """Classes, palette and default input size."""
        ...

    def segment(self, frames: NDArray[np.uint8]) -> NDArray[np.uint8]:
        """Return class maps (N, H, W) for frames (N, H, W, 3) RGB, sides multiples of 32."""
        ...

    def segment_with_logits(
        self, frames: NDArray[np.uint8]
    ) -> tuple[NDArray[np.uint8], NDArray[np.float32]]:
        """Return class maps as `segment` does, and logits (N, C, H/s, W/s) at its stride."""
        ...

    def close(self) -> None:
        """Free what the runtime holds."""
        ...


BACKENDS = {
    "onnxruntime": (".onnx", "roadseg.backends.onnxruntime_backend", "pip install onnxruntime"),
    "torch": (
        ".safetensors",
        "roadseg.backends.torch_backend",
        "pip install '.[train]' in a checkout of roadseg",
    ),
    "tensorrt": (
        ".engine",
        "roadseg.backends.tensorrt_backend",
        "pip install '.[tensorrt]' in a checkout of roadseg",
    ),
}
"""Name: suffix of its model files, module with `open_model`, command that installs it."""


def open_backend(path: Path, name: str = "auto") -> Backend:
    """Open a model file with the runtime that reads it.

    Args:
        path: Model file.
        name: A key of `BACKENDS`, or "auto" to go by the suffix.

    Raises:
        ModelFileError: The file is missing, not ours, or of a kind that the runtime does not read.
        BackendUnavailable: The runtime is unknown or not installed.
    """
    suffixes = {suffix: key for key, (suffix, _, _) in BACKENDS.items()}
    if name == "auto":
        if path.suffix not in suffixes:
            raise ModelFileError(
                f"{path} has no known suffix; give a model that ends in {' or '.join(suffixes)}"
            )
        name = suffixes[path.suffix]
    if name not in BACKENDS:
        raise BackendUnavailable(
            f"--backend is {name!r}; use auto or one of: {', '.join(BACKENDS)}"
        )
    suffix, module_name, install = BACKENDS[name]
    if path.suffix != suffix:
        raise ModelFileError(
            f"{path} is not for the {name} backend, which reads {suffix} files; "
            "give one with --weights"
        )
    if not path.is_file():
        raise ModelFileError(f"{path} does not exist; check --weights")
    try:
        module = import_module(module_name)
    except ImportError as error:
        raise BackendUnavailable(
            f"the {name} backend does not load here ({error}); run: {install}"
        ) from error
    open_model = cast(Callable[[Path], Backend], module.open_model)
    return open_model(path)
