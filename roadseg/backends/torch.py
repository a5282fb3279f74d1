"""PyTorch in eager mode, the reference that every other runtime is compared with; fast on a GPU.

On the CPU it computes in FP32. On a GPU it computes in half precision, with the launches of a
whole network as one CUDA graph; `TorchBackend` itself, given a network, stays in FP32 there too.
"""

import contextlib
from collections.abc import Callable, Collection, Iterator
from pathlib import Path

import numpy as np
import torch
from torch import nn

from roadseg.backends.runtimes import CLASS_MAP, Answer, Frames, Output
from roadseg.backends.torch_pointwise import use_products
from roadseg.models.checkpoint import load_model
from roadseg.models.half import HalfSegmenter
from roadseg.models.segmenter import Segmenter
from roadseg.spec import ModelSpec
from roadseg.video.graph_cuda import Graphed, Tensors
from roadseg.video.transfer_cuda import memory_errors

DIVISIBLE = False


class TorchBackend:
    """A network on the device of its weights.

    Args:
        network: Network in evaluation mode.
        spec: Its record.
        half: Compute in half precision.
    """

    def __init__(self, network: nn.Module, spec: ModelSpec, *, half: bool = False) -> None:
        self.spec = spec
        self._device = next(network.parameters()).device
        self.segmenter: nn.Module = HalfSegmenter(network) if half else Segmenter(network)
        self._compute: Callable[..., Tensors] = self._answer

    def run(self, frames: Frames, wants: Collection[Output] = CLASS_MAP) -> Answer:
        given = torch.from_numpy(frames) if isinstance(frames, np.ndarray) else frames
        if given.is_cuda and given.device != self._device:
            self.move(given.device)
        with torch.inference_mode(), full_precision(), memory_errors():
            found = self._compute(given.to(self._device), wants=tuple(wants))
            answer = {o: t.to(given.device) for o, t in zip(wants, found, strict=True)}
        if isinstance(frames, np.ndarray):
            return Answer({output: tensor.numpy() for output, tensor in answer.items()})
        return Answer(answer)

    def close(self) -> None:
        del self.segmenter, self._compute

    def move(self, device: torch.device) -> None:
        """Compute on a device from now on."""
        self._device = device
        self.segmenter.to(device, memory_format=torch.channels_last)  # type: ignore[call-overload]
        if isinstance(self._compute, Graphed):
            self.capture()

    def capture(self) -> None:
        """Start the network's work as one CUDA graph from now on; it must be on a GPU."""
        self._compute = Graphed(self._answer)

    def _answer(self, frames: torch.Tensor, *, wants: tuple[Output, ...]) -> Tensors:
        """Return the outputs wanted of frames on the network's device."""
        class_map, logits = self.segmenter(frames, decides="class_map" in wants)
        outputs = {"class_map": (class_map, torch.uint8), "logits": (logits, torch.float32)}
        return tuple(outputs[o][0].to(outputs[o][1]).contiguous() for o in wants)


def open_model(path: Path, *, cuda_graph: bool = True) -> TorchBackend:
    """Open a `.safetensors` model file on the best device there is.

    Args:
        path: Model file.
        cuda_graph: Where that is a GPU, start the network's work as one CUDA graph.

    Raises:
        ModelFileError: The file is missing, or no model file of ours.
    """
    has_gpu = torch.cuda.is_available()
    backend = TorchBackend(*load_model(path), half=has_gpu)
    if has_gpu:
        use_products(backend.segmenter)
    backend.move(torch.device("cuda", 0) if has_gpu else torch.device("cpu"))
    if has_gpu and cuda_graph:
        backend.capture()
    return backend


def open_reference(path: Path) -> TorchBackend:
    """Open a `.safetensors` model file in FP32 on the CPU, as what others are compared with.

    Raises:
        ModelFileError: The file is missing, or no model file of ours.
    """
    return TorchBackend(*load_model(path))


@contextlib.contextmanager
def full_precision() -> Iterator[None]:
    """Have convolutions in FP32 computed in FP32, where PyTorch would take TF32 on a GPU."""
    before = torch.backends.cudnn.allow_tf32
    torch.backends.cudnn.allow_tf32 = False
    try:
        yield
    finally:
        torch.backends.cudnn.allow_tf32 = before


def version() -> str:
    """Return PyTorch's version."""
    return str(torch.__version__)
