"""What TensorRT-RTX has beside TensorRT: engines for many GPUs, and kernels made at run time.

An engine of TensorRT-RTX holds no kernels. They are compiled for the GPU when the engine runs for
the first time, and kept in the user's cache folder.
"""

import contextlib
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any

from roadseg.backends.nvidia import Capability, Gpu, shown
from roadseg.backends.tuned import kept_folder
from roadseg.errors import BackendUnavailable, OutputError
from roadseg.files import replacing

LIBRARY = "tensorrt_rtx"
"""Its module; TensorRT's own is `tensorrt`."""
PORTABLE: tuple[Capability, ...] = ((8, 0), (8, 6), (8, 9), (12, 0), (12, 1))
"""Compute capabilities that share an engine: Ampere, Ada and Blackwell."""
TURING: tuple[Capability, ...] = ((7, 5),)
"""Turing has one of its own, nearly three times as large."""


def targets_for(gpu: Gpu) -> tuple[Capability, ...]:
    """Return the compute capabilities that an engine built on a GPU is for, its own included.

    Raises:
        BackendUnavailable: TensorRT-RTX does not know the GPU.
    """
    for targets in (PORTABLE, TURING):
        if gpu.capability in targets:
            return targets
    raise BackendUnavailable(
        f"TensorRT-RTX runs on compute capability {listed((*TURING, *PORTABLE))}, and here is "
        f"{gpu}; use the extra tensorrt in its place, or --device cuda with a .safetensors model"
    )


def listed(capabilities: Sequence[Capability]) -> str:
    """Return compute capabilities as text."""
    return ", ".join(map(shown, capabilities))


@contextlib.contextmanager
def built_for(trt: Any, interpreter: Any, targets: Sequence[Capability]) -> Iterator[None]:
    """Have torch-tensorrt build for compute capabilities, for which it has no setting.

    Args:
        trt: Module of TensorRT-RTX.
        interpreter: torch-tensorrt's class that configures the builder.
        targets: The compute capabilities.
    """
    configure = interpreter._populate_trt_builder_config

    def configure_for(self: Any, *arguments: Any) -> Any:
        config = configure(self, *arguments)
        config.num_compute_capabilities = len(targets)
        for index, (major, minor) in enumerate(targets):
            target = getattr(trt.ComputeCapability, f"SM{major}{minor}")
            config.set_compute_capability(target, index)
        return config

    interpreter._populate_trt_builder_config = configure_for
    try:
        yield
    finally:
        interpreter._populate_trt_builder_config = configure


class KernelCache:
    """The kernels that were compiled for an engine on this GPU, kept from run to run.

    TensorRT-RTX itself refuses a file of another version, driver or GPU.

    Args:
        config: The engine's run-time settings, which it is put into.
        path: Its file; None keeps nothing.
    """

    def __init__(self, config: Any, path: Path | None) -> None:
        self._path = path
        self._cache = config.create_runtime_cache()
        self._kept = b""
        with contextlib.suppress(OSError):
            self._kept = path.read_bytes() if path else b""
        if self._kept:
            self._cache.deserialize(self._kept)
        config.set_runtime_cache(self._cache)

    def save(self) -> None:
        """Write the file, if there is anything new; a folder that takes none is no error."""
        compiled = bytes(self._cache.serialize() or b"")
        if self._path is None or not compiled or compiled == self._kept:
            return
        with contextlib.suppress(OutputError), replacing(self._path) as temporary:
            temporary.write_bytes(compiled)


def cache_file(engine_sha256: str) -> Path | None:
    """Return where the kernels of an engine are kept; None where no folder can be made."""
    folder = kept_folder("tensorrt-rtx")
    return folder / f"{engine_sha256[:32]}.bin" if folder else None
