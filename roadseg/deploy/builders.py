"""Builders, which compile exported models for a runtime, behind one protocol."""

from collections import Counter
from collections.abc import Sequence
from importlib import import_module
from pathlib import Path
from typing import NamedTuple, Protocol, cast

import numpy as np
from numpy.typing import NDArray

from roadseg.errors import BackendUnavailable, ConfigError
from roadseg.spec import ModelSpec, choose


class Source(NamedTuple):
    """Input of a build."""

    model: Path
    """The user's model file; some builders need a checkpoint."""
    exported: Path
    """The same as an ONNX file in FP32."""
    spec: ModelSpec
    """Record for the file that is built."""
    frames: Sequence[NDArray[np.uint8]]
    """Typical network inputs, each (N, H, W, 3) RGB, to calibrate the ranges of 8 bits."""


def checkpoint_of(source: Source) -> Path:
    """Return the model file of training that a build is of.

    Raises:
        ConfigError: The model is an exported one, in which the types are set already.
    """
    if source.model.suffix != ".safetensors":
        raise ConfigError(
            f"{source.model} is an exported model, whose types are set; half precision is made of "
            "a model file of training; give its .safetensors"
        )
    return source.model


class Builder(Protocol):
    """A module that builds model files for one runtime."""

    PRECISIONS: tuple[str, ...]
    """Precisions that it builds, the default first."""
    SUFFIX: str
    """Suffix of its files."""
    FIXED_SHAPE: bool
    """Whether its files take only the shape that they are built for."""

    def version(self) -> str:
        """Return the version of the runtime."""
        ...

    def device(self) -> str:
        """Return the device that a file is built for."""
        ...

    def build(self, source: Source, out: Path) -> None:
        """Write a model file in the precision, and for the shape, of the record's build."""
        ...

    def census(self, path: Path, frames: NDArray[np.uint8]) -> "Counter[str]":
        """Count the convolutions that the runtime executes in each precision."""
        ...


BUILDERS = {
    "onnxruntime": ("roadseg.deploy.build_onnxruntime", "pip install onnxruntime onnx"),
    "onnxruntime-rtx": (
        "roadseg.deploy.build_onnxruntime_rtx",
        "pip install '.[train,rtx-lite]' in a checkout of roadseg",
    ),
    "openvino": (
        "roadseg.deploy.build_openvino",
        "pip install '.[openvino]' in a checkout of roadseg",
    ),
    "tensorrt": (
        "roadseg.deploy.build_tensorrt",
        "pip install '.[tensorrt]' in a checkout of roadseg",
    ),
}
"""By runtime: module of the builder, and command that installs its packages."""


def open_builder(runtime: str) -> Builder:
    """Return the builder for a runtime.

    Raises:
        ConfigError: There is none of that name.
        BackendUnavailable: What it needs is not installed.
    """
    module, install = choose(BUILDERS, runtime, "--backend")
    try:
        return cast(Builder, import_module(module))
    except ImportError as error:
        raise BackendUnavailable(
            f"models for {runtime} cannot be built here ({error}); run: {install}"
        ) from error
