"""NVIDIA's driver and the GPUs that it knows, asked without PyTorch."""

import ctypes
import sys
from dataclasses import dataclass
from typing import NamedTuple

from roadseg.errors import BackendUnavailable

LIBRARY = "nvcuda.dll" if sys.platform == "win32" else "libcuda.so.1"
"""The driver's library."""
MAJOR, MINOR = 75, 76
"""Numbers of the attributes that make up a compute capability (`CUdevice_attribute`)."""
NAME_BYTES = 256
NO_DEVICE = 100
"""What the driver answers where there is no GPU (`CUresult`)."""

Capability = tuple[int, int]
"""Compute capability, such as 8.9 of an RTX 40."""


class Gpu(NamedTuple):
    """A GPU as its driver describes it."""

    name: str
    capability: Capability

    def __str__(self) -> str:
        return f"{self.name} (compute capability {shown(self.capability)})"


@dataclass(frozen=True)
class Driver:
    """A driver that works."""

    cuda: tuple[int, int]
    """The newest CUDA that it runs programs of."""
    gpus: tuple[Gpu, ...]


def shown(capability: Capability) -> str:
    """Return a compute capability as NVIDIA writes it."""
    return "{}.{}".format(*capability)


def read_driver() -> Driver:
    """Return what the driver says.

    Raises:
        BackendUnavailable: There is none, or it does not start.
    """
    try:
        library = ctypes.CDLL(LIBRARY)
    except OSError as error:
        raise BackendUnavailable(
            f"there is no NVIDIA driver ({error}); install it and check it with nvidia-smi, or use "
            "a model for another backend"
        ) from error
    status = library.cuInit(0)
    if status not in (0, NO_DEVICE):
        raise BackendUnavailable(
            f"NVIDIA's driver does not start (CUDA error {status}); check it with nvidia-smi"
        )
    cuda = _number(library.cuDriverGetVersion)
    count = 0 if status else _number(library.cuDeviceGetCount)
    gpus = tuple(_gpu(library, index) for index in range(count))
    return Driver((cuda // 1000, cuda % 1000 // 10), gpus)


def _gpu(library: ctypes.CDLL, index: int) -> Gpu:
    device = _number(library.cuDeviceGet, index)
    name = ctypes.create_string_buffer(NAME_BYTES)
    library.cuDeviceGetName(name, NAME_BYTES, device)
    major, minor = (_number(library.cuDeviceGetAttribute, of, device) for of in (MAJOR, MINOR))
    return Gpu(name.value.decode(errors="replace"), (major, minor))


def _number(function: "ctypes._NamedFuncPointer", *arguments: int) -> int:
    """Return the number that a function of the driver gives by its first argument."""
    number = ctypes.c_int(0)
    function(ctypes.byref(number), *arguments)
    return number.value
