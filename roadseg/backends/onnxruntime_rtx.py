"""ONNX Runtime on a GeForce RTX, through NVIDIA's provider for it, which holds TensorRT-RTX.

The provider is a package of its own, of 0.15 GB, and needs no PyTorch. It computes in the types of
the graph, so it takes models of `roadseg export --half`. For each shape of frames the graph is
compiled once, in seconds; what that gives for the GPU is kept in the user's cache folder.
"""

from collections.abc import Callable, Collection, Mapping
from functools import lru_cache, partial
from pathlib import Path
from typing import Any

import numpy as np
import onnxruntime_ep_nv_tensorrt_rtx as provider
from numpy.typing import NDArray

from roadseg.backends.nvidia import Driver, read_driver, shown
from roadseg.backends.onnxruntime import open_graph, session_options, signature
from roadseg.backends.onnxruntime_silent import ort
from roadseg.backends.runtimes import (
    CLASS_MAP,
    HALF,
    Answer,
    Output,
    answer_of,
    refuse_misfit,
    run_errors,
)
from roadseg.backends.tuned import kept_folder
from roadseg.errors import BackendUnavailable, ModelFileError
from roadseg.spec import ModelSpec

DIVISIBLE = False
NAME = "onnxruntime-rtx"
CAPABILITIES = ((8, 6), (8, 9), (12, 0), (12, 1))
"""Compute capabilities that it is for: RTX 30, 40 and 50, and DGX Spark."""
LEAST_CUDA = (13, 0)
"""Oldest CUDA that the driver must know: the provider is built with it."""
ANY_GPU = "compute capability " + ", ".join(map(shown, CAPABILITIES))
"""What a model is made for: the graph is the same for all of them."""
SESSIONS_KEPT = 8
"""Shapes whose sessions are kept: the pictures of a folder may have many."""
ALL_ON_GPU = {"session.disable_cpu_ep_fallback": "1"}
"""Refuses a graph of which a part would run on the CPU: it would be slow, and no CUDA graph."""


class BoundSession:
    """A session for one shape of frames, which lie at a fixed place on the GPU, as outputs do.

    A CUDA graph reads and writes where it did when it was captured.

    Args:
        session: Session whose shapes are fixed.
        device: What it runs on.
    """

    def __init__(self, session: ort.InferenceSession, device: "ort.OrtEpDevice") -> None:
        self._session = session
        self._binding = session.io_binding()
        place = partial(
            ort.OrtValue.ortvalue_from_shape_and_type,
            memory_info=device.memory_info(ort.OrtDeviceMemoryType.DEFAULT),
        )
        (frames,) = session.get_inputs()
        self._frames = place(frames.shape, np.uint8)
        self._binding.bind_ortvalue_input(frames.name, self._frames)
        self._outputs = {}
        for end in session.get_outputs():
            self._outputs[end.name] = place(end.shape, np.dtype(signature(end).kind))
            self._binding.bind_ortvalue_output(end.name, self._outputs[end.name])

    def run(self, frames: NDArray[np.uint8], wants: Collection[Output]) -> list[NDArray[Any]]:
        """Return some outputs for frames of its shape."""
        self._frames.update_inplace(np.ascontiguousarray(frames))
        self._session.run_with_iobinding(self._binding)
        return [self._outputs[name].numpy() for name in wants]


class RtxBackend:
    """An exported model, compiled for each shape of frames on first use.

    Args:
        path: Its file.
        spec: Its record.
        device: What it runs on.
        options: The provider's options.
        entries: Further settings of its sessions.
    """

    def __init__(
        self,
        path: Path,
        spec: ModelSpec,
        device: "ort.OrtEpDevice",
        options: Mapping[str, str],
        entries: Mapping[str, str],
    ) -> None:
        self.spec = spec
        self._path = path

        def open_for(shape: tuple[int, ...]) -> BoundSession:
            return BoundSession(open_session(path, shape, device, options, entries), device)

        self._session: Callable[[tuple[int, ...]], BoundSession]
        self._session = lru_cache(SESSIONS_KEPT)(open_for)

    def run(self, frames: NDArray[np.uint8], wants: Collection[Output] = CLASS_MAP) -> Answer:
        with run_errors(self._path, frames, Exception):  # the errors share no base class but this
            found = self._session(frames.shape).run(frames, wants)
        return answer_of(self._path, self.spec, wants, found)

    def close(self) -> None:
        del self._session


def open_session(
    path: Path,
    shape: tuple[int, ...],
    device: "ort.OrtEpDevice",
    options: Mapping[str, str],
    entries: Mapping[str, str],
) -> ort.InferenceSession:
    """Open a session for one shape of frames on a device.

    Without fixed sides the provider would compile for any from 0 to 32767.
    """
    settings = session_options()
    for side, name in zip(shape, sides_of(path), strict=True):
        if isinstance(name, str):
            settings.add_free_dimension_override_by_name(name, side)
    for key, value in entries.items():
        settings.add_session_config_entry(key, value)
    settings.add_provider_for_devices([device], dict(options))
    return ort.InferenceSession(path, settings)


@lru_cache(maxsize=4)  # a run has one
def sides_of(path: Path) -> tuple[int | str, ...]:
    """Return the sides of a model's frames, by name where they are free."""
    return tuple(open_graph(path)[0].get_inputs()[0].shape)


def open_model(path: Path, *, cuda_graph: bool = True) -> RtxBackend:
    """Open a model in half precision on the first GPU that the provider knows.

    Args:
        path: File of `roadseg export --half`, or compiled for this runtime.
        cuda_graph: Start the network's work as one CUDA graph.

    Raises:
        ModelFileError: The file is no such model, or compiled for something else.
        BackendUnavailable: There is no driver, or no GPU that the provider knows.
    """
    session, spec = open_graph(path)
    if {signature(end).kind for end in session.get_outputs()} != {
        HALF["class_map"],
        HALF["logits"],
    }:
        raise ModelFileError(
            f"{path} is in single precision; {NAME} computes in the types of a model; write one "
            "with roadseg export --half"
        )
    device = find_device()
    refuse_misfit(path, spec, NAME, provider.__version__, ANY_GPU)
    return RtxBackend(path, spec, device, provider_options(cuda_graph=cuda_graph), ALL_ON_GPU)


def provider_options(*, cuda_graph: bool) -> dict[str, str]:
    """Return the provider's options, all of them texts."""
    cache = kept_folder("tensorrt-rtx")
    options = {"enable_cuda_graph": str(int(cuda_graph))}
    return options if cache is None else options | {"nv_runtime_cache_path": str(cache)}


def find_device() -> "ort.OrtEpDevice":
    """Return the first GPU that the provider knows.

    Raises:
        BackendUnavailable: There is none, or its driver does not work or is too old.
    """
    driver = read_driver()
    if fault := unfit(driver):
        raise BackendUnavailable(fault)
    register()
    name = provider.get_ep_name()
    device = next((d for d in ort.get_ep_devices() if d.ep_name == name), None)
    if device is None:
        found = ", ".join(map(str, driver.gpus))
        raise BackendUnavailable(
            f"NVIDIA's provider takes none of the GPUs that the driver names ({found}); check "
            "nvidia-smi, or use --device cuda with a .safetensors model"
        )
    return device


def unfit(driver: Driver) -> str | None:
    """Return why the provider does not run with a driver and its GPUs; None if it does."""
    if driver.cuda < LEAST_CUDA:
        return (
            f"the NVIDIA driver knows CUDA {shown(driver.cuda)}, and {NAME} needs "
            f"{shown(LEAST_CUDA)}; install a newer driver"
        )
    if not driver.gpus:
        return f"the NVIDIA driver finds no GPU, and {NAME} needs one; check nvidia-smi"
    if not any(gpu.capability in CAPABILITIES for gpu in driver.gpus):
        return (
            f"{NAME} is for {ANY_GPU} (GeForce RTX 30, 40 and 50 and their kin), and here is "
            f"{', '.join(map(str, driver.gpus))}; use --device cuda with a .safetensors model"
        )
    return None


@lru_cache(maxsize=1)  # a second time is refused
def register() -> None:
    """Tell ONNX Runtime of the provider's library.

    Raises:
        BackendUnavailable: It does not load.
    """
    try:
        ort.register_execution_provider_library(provider.get_ep_name(), provider.get_library_path())
    except Exception as error:  # the errors share no base class but this
        reason = " ".join(str(error).split())
        raise BackendUnavailable(
            f"NVIDIA's provider does not load ({reason}); check with nvidia-smi that the driver "
            "works, and install the extra rtx-lite again"
        ) from error


def version() -> str:
    """Return the provider's version. Raises `BackendUnavailable` where it has no GPU."""
    find_device()
    return str(provider.__version__)
