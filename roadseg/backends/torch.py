"""PyTorch in eager mode: the reference that every other runtime is compared with."""

from collections.abc import Collection
from pathlib import Path

import numpy as np
import torch
from numpy.typing import NDArray
from torch import nn

from roadseg.backends.runtimes import CLASS_MAP, Answer, Output
from roadseg.models.checkpoint import load_model
from roadseg.models.segmenter import Segmenter
from roadseg.spec import ModelSpec

DIVISIBLE = False


class TorchBackend:
    """A network on the device of its weights.

    Args:
        network: Network in evaluation mode.
        spec: Its record.
    """

    def __init__(self, network: nn.Module, spec: ModelSpec) -> None:
        self.spec = spec
        self.segmenter = Segmenter(network)
        self._device = next(network.parameters()).device

    def run(self, frames: NDArray[np.uint8], wants: Collection[Output] = CLASS_MAP) -> Answer:
        with torch.inference_mode():
            class_map, logits = self.segmenter(torch.from_numpy(frames).to(self._device))
        found: dict[Output, torch.Tensor] = {"class_map": class_map, "logits": logits.float()}
        return Answer({output: found[output].contiguous().cpu().numpy() for output in wants})

    def close(self) -> None:
        del self.segmenter


def open_model(path: Path) -> TorchBackend:
    """Open a `.safetensors` model file on the GPU, or on the CPU where there is none."""
    network, spec = load_model(path)
    network = network.to("cuda" if torch.cuda.is_available() else "cpu")
    return TorchBackend(network.to(memory_format=torch.channels_last), spec)  # type: ignore[call-overload]


def version() -> str:
    """Return PyTorch's version."""
    return str(torch.__version__)
