"""A network that others trained, as a file holds it, behind one protocol for ONNX and OpenVINO."""

from collections.abc import Mapping
from importlib import import_module
from pathlib import Path
from typing import Any, NamedTuple, Protocol, cast

from numpy.typing import NDArray

from roadseg.deploy.adopt_graph import Wrapping
from roadseg.errors import BackendUnavailable, ModelFileError
from roadseg.spec import ModelSpec

Outputs = Mapping[str, NDArray[Any]]
"""What a network gives, by the names of its outputs."""


class Port(NamedTuple):
    """What a network takes."""

    name: str
    """Name of the input."""
    kind: str
    """Type of its numbers as NumPy calls it."""
    shape: tuple[int | None, ...]
    """Its dimensions; None is any."""


class Network(Protocol):
    """A network that others trained, ready to run and to be wrapped."""

    inputs: tuple[Port, ...]
    """What it takes."""

    def run(self, batch: NDArray[Any]) -> Outputs:
        """Run it on its first input. Raises `ModelFileError` if it cannot."""
        ...

    def write(self, wrapping: Wrapping, spec: ModelSpec, out: Path) -> None:
        """Write it within a wrapping that makes it a model of ours, with its record."""
        ...


FORMATS = {
    ".onnx": ("roadseg.deploy.adopt_onnx", "pip install onnx"),
    ".xml": ("roadseg.deploy.adopt_openvino", "pip install '.[openvino]' in a checkout of roadseg"),
}
"""By suffix: module that reads such networks, command that installs what it needs."""


def open_network(path: Path) -> Network:
    """Open a network that others trained, of a suffix in `FORMATS`.

    Raises:
        ModelFileError: The file is missing, damaged, or one of ours already.
        BackendUnavailable: A package that is needed is not installed.
    """
    if not path.is_file():
        raise ModelFileError(f"{path} does not exist; check its name")
    module, install = FORMATS[path.suffix]
    try:
        reader = import_module(module)
    except ImportError as error:
        raise BackendUnavailable(
            f"networks from {path.suffix} files cannot be adopted here ({error}); run: {install}"
        ) from error
    return cast(Network, reader.read(path))


def refuse_ours(path: Path) -> ModelFileError:
    """Return what to raise for a file that has a record of ours."""
    return ModelFileError(f"{path} is a model of roadseg already; use it with --weights")


def refuse_run(path: Path, shape: tuple[int, ...], reason: str) -> ModelFileError:
    """Return what to raise where a network does not run on an input of a shape."""
    shown = "x".join(map(str, shape))
    return ModelFileError(
        f"{path} does not run on an input of {shown} ({reason}); check --size and --layout"
    )
