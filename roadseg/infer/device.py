"""Where the pictures of a run lie, on the CPU or on a GPU: decided here and nowhere else.

All that follows is done where its input lies: a picture gives the network's input there, a backend
answers there, and so do the steps of labelling and the painter.
"""

import contextlib
from collections.abc import Iterator
from dataclasses import dataclass
from functools import partial
from importlib.util import find_spec

from roadseg.backends.machine import core_count
from roadseg.backends.runtimes import BACKENDS, runtime_of
from roadseg.segmentation.config import AUTO_DEVICE, CPU, ModelConfig
from roadseg.video.frame import Frame
from roadseg.video.read import source
from roadseg.video.read.source import Decode


@dataclass(frozen=True)
class Device:
    """Where pictures lie."""

    name: str
    """The CPU, or a GPU as PyTorch calls it: cuda:0."""
    excuse: str | None = None
    """Why it is the CPU where a GPU was asked for."""
    threads: int | None = None
    """Cores that a run may take; None is all that the process has."""

    @property
    def decode(self) -> Decode:
        """What reads a video to there."""
        if self.name == CPU:
            return partial(source.decode, threads=core_count(self.threads))
        from roadseg.infer import device_cuda  # knows PyTorch, which the base install lacks
        from roadseg.video.read import decode_cuda

        return partial(decode_cuda.decode, device=device_cuda.device_of(self.name))

    def encodes(self, codec: str) -> bool:
        """Return whether the GPU compresses its own pictures with a codec of `HARDWARE`."""
        if self.name == CPU:
            return False
        from roadseg.infer import device_cuda
        from roadseg.video.write import encoder_cuda

        return encoder_cuda.encodes_there(codec, device_cuda.device_of(self.name))

    def errors(self) -> contextlib.AbstractContextManager[None]:
        """Translate the errors of a GPU whose memory is full, while the block runs."""
        if self.name == CPU:
            return contextlib.nullcontext()
        from roadseg.video.transfer_cuda import memory_errors

        return memory_errors()

    def take(self, frames: Iterator[Frame]) -> Iterator[Frame]:
        """Return frames that were read elsewhere, with their pictures there."""
        if self.name == CPU:
            return frames
        from roadseg.infer import device_cuda
        from roadseg.video.read import decode_cuda

        return decode_cuda.uploaded(frames, device_cuda.device_of(self.name))


def device_for(config: ModelConfig) -> Device:
    """Decide where the pictures of a run lie.

    Raises:
        ModelFileError, BackendUnavailable: As `runtime_of`.
    """
    if config.device == CPU:
        return Device(CPU)
    refusal = _refusal(config)
    if refusal is None:
        return Device("cuda:0" if config.device in (AUTO_DEVICE, "cuda") else config.device)
    asked = config.device != AUTO_DEVICE
    return Device(
        CPU, f"--device is {config.device}; frames stay on the CPU, as {refusal}" if asked else None
    )


def _refusal(config: ModelConfig) -> str | None:
    """Return why pictures cannot be on a GPU; None if they can."""
    runtime = runtime_of(config.weights, config.backend)
    if not BACKENDS[runtime].on_device:
        able = " or ".join(name for name, known in BACKENDS.items() if known.on_device)
        return (
            f"the {runtime} backend, which runs {config.weights.name}, takes none from a GPU; "
            f"give a model for {able} with --weights"
        )
    if find_spec("torch") is None:
        return f"PyTorch is not installed; run: {BACKENDS[runtime].install}"
    from roadseg.infer import device_cuda

    return device_cuda.refusal(config.device)
