"""PyTorch with the graph compiled by Inductor, which needs a C++ compiler."""

import shutil
import warnings
from pathlib import Path

from roadseg.backends.torch import DIVISIBLE, TorchBackend, version
from roadseg.backends.torch import open_model as open_eager
from roadseg.errors import BackendUnavailable

__all__ = ["DIVISIBLE", "open_model", "version"]

COMPILERS = ("g++", "clang++", "c++")


def open_model(path: Path) -> TorchBackend:
    """Open a `.safetensors` model file; the first frame takes a minute.

    Raises:
        ModelFileError: The file is missing, or no model file of ours.
        BackendUnavailable: There is no C++ compiler.
    """
    if not any(map(shutil.which, COMPILERS)):
        raise BackendUnavailable(
            f"the torch-compiled backend needs a C++ compiler, one of {', '.join(COMPILERS)}; "
            "install one, such as Debian's package g++, or use --backend torch"
        )
    backend = open_eager(path, cuda_graph=False)
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", DeprecationWarning)  # PyTorch's own use of its old parts
        backend.segmenter.compile(dynamic=True)  # what `torch.compile` does, in place
    return backend
