"""TensorRT or TensorRT-RTX in half precision on an NVIDIA GPU, from engines that were built for it.

An engine needs only that library and PyTorch to run; torch-tensorrt builds it. It computes on a
stream of the backend's own. Frames and class maps on the CPU are copied through page-locked memory;
for frames on the GPU the outputs stay there.
"""

from collections.abc import Collection
from pathlib import Path
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from roadseg.backends.runtimes import CLASS_MAP, Answer, Frames, Output
from roadseg.backends.tensorrt_engine import (
    NAMES,
    Computes,
    import_nvidia,
    installed_library,
    open_engine,
)
from roadseg.backends.tensorrt_rtx import LIBRARY
from roadseg.errors import ConfigError
from roadseg.spec import ModelSpec

DIVISIBLE = False


class TensorRtBackend:
    """An engine with a fixed input size; frames are divided into batches of its size.

    Args:
        engine: Engine.
        spec: Its record.
        stream: Stream on which it computes; None without a GPU.
    """

    def __init__(self, engine: Computes, spec: ModelSpec, stream: torch.cuda.Stream | None) -> None:
        self.spec = spec
        self._engine = engine
        self._stream = stream
        # Waiting must not spin: decoding and encoding need the cores.
        self._done = torch.cuda.Event(blocking=True) if stream else None  # type: ignore[no-untyped-call]
        locked = stream is not None  # page-locked memory is copied without the CPU
        self._frames = torch.zeros(engine.frames.shape, dtype=torch.uint8, pin_memory=locked)
        self._class_map = torch.zeros(engine.class_map.shape, dtype=torch.uint8, pin_memory=locked)

    def run(self, frames: Frames, wants: Collection[Output] = CLASS_MAP) -> Answer:
        if isinstance(frames, np.ndarray):
            parts = [self._run(batch, wants) for batch in self._batches(frames)]
            return Answer({o: np.concatenate([part[o] for part in parts]) for o in wants})
        there = [self._run_there(batch, wants) for batch in self._batches(frames)]
        return Answer({o: torch.cat([part[o] for part in there]) for o in wants})

    def close(self) -> None:
        self._engine.close()
        del self._engine, self._frames, self._class_map

    def _batches(self, frames: Frames) -> list[Any]:
        """Return the frames in batches that the engine takes.

        Raises:
            ConfigError: They are of another size than the engine.
        """
        most, height, width = self._engine.frames.shape[:3]
        if frames.shape[1:3] != (height, width):
            raise ConfigError(
                f"the network's input is {frames.shape[2]}x{frames.shape[1]}; this engine was "
                f"built for {width}x{height}; use --size {width}x{height}, or build one for it"
            )
        return [frames[start : start + most] for start in range(0, len(frames), most)]

    def _run(
        self, frames: NDArray[np.uint8], wants: Collection[Output]
    ) -> dict[Output, NDArray[Any]]:
        """Return the outputs of at most one batch, once the GPU has finished."""
        count = len(frames)
        self._frames.numpy()[:count] = frames
        with torch.cuda.stream(self._stream):
            self._engine.frames.copy_(self._frames, non_blocking=True)
            self._engine.run()
            if "class_map" in wants:
                # Converted on the GPU: a quarter of the bytes to copy.
                self._class_map.copy_(self._engine.class_map.to(torch.uint8), non_blocking=True)
            if self._done is not None:
                self._done.record()
                self._done.synchronize()
        found: dict[Output, NDArray[Any]] = {}
        if "class_map" in wants:
            found["class_map"] = self._class_map.numpy()[:count].copy()
        if "logits" in wants:
            found["logits"] = self._engine.logits[:count].float().cpu().numpy()
        return found

    def _run_there(self, frames: Tensor, wants: Collection[Output]) -> dict[Output, Tensor]:
        """Return the outputs of at most one batch on its device, in order with the work there."""
        count, device = len(frames), frames.device
        caller = torch.cuda.current_stream(device) if self._stream else None
        if self._stream and caller:
            self._stream.wait_stream(caller)
        with torch.cuda.stream(self._stream):
            self._engine.frames[:count] = frames
            self._engine.run()
        if self._stream and caller:
            caller.wait_stream(self._stream)
        outputs: dict[Output, tuple[Tensor, torch.dtype]] = {
            "class_map": (self._engine.class_map, torch.uint8),
            "logits": (self._engine.logits, torch.float32),
        }
        return {o: outputs[o][0][:count].to(device, outputs[o][1], copy=True) for o in wants}


def open_model(path: Path, *, cuda_graph: bool = False) -> TensorRtBackend:
    """Open an engine that was built for this machine.

    Args:
        path: Engine file.
        cuda_graph: Launch the engine as a CUDA graph; TensorRT-RTX does so anyway.

    Raises:
        ModelFileError: The file is no engine of ours, or one for another GPU or TensorRT.
        BackendUnavailable: There is no TensorRT or no GPU.
    """
    engine, spec = open_engine(path)
    stream = torch.cuda.Stream()  # type: ignore[no-untyped-call]
    stream.wait_stream(torch.cuda.current_stream())  # which initialises the engine's tensors
    if cuda_graph:
        with torch.cuda.stream(stream):
            engine.capture()
    return TensorRtBackend(engine, spec, stream)


def version() -> str:
    """Return the version of TensorRT or TensorRT-RTX. Raises `BackendUnavailable`."""
    library = installed_library()
    version = import_nvidia(library).__version__
    return f"{NAMES[library]} {version}" if library == LIBRARY else str(version)
