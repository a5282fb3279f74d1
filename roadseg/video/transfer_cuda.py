"""Arrays to a device and tensors back, without a wait for all that the device is doing.

Everything on a GPU runs on its default stream, in the order in which the threads of a pipeline ask
for it. So a tensor can be handed from thread to thread like an array; only who wants its numbers on
the CPU waits, and for that copy alone. A device may be the CPU: then nothing is copied.
"""

import contextlib
from collections.abc import Iterator

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from roadseg.errors import BackendUnavailable


def to_device(array: NDArray[np.generic], device: torch.device) -> Tensor:
    """Return an array as a tensor on a device; the copy goes on after the return."""
    array = np.ascontiguousarray(array)
    tensor = torch.from_numpy(array if array.flags.writeable else array.copy())
    if device.type != "cuda":
        return tensor
    # Page-locked, or the copy would wait until the GPU is done with the rest; filled by NumPy, as
    # PyTorch would wake a thread for each core, and these spin when they are done.
    locked = torch.empty(tensor.shape, dtype=tensor.dtype, pin_memory=True)
    np.copyto(locked.numpy(), array, casting="no")
    return locked.to(device, non_blocking=True)


class HostCopy:
    """A copy of a tensor to the CPU, under way; on the CPU they share their memory.

    Its memory is page-locked. PyTorch hands the same few blocks out again and again, each when its
    copy has arrived and its array is gone.

    Args:
        tensor: What is copied, in order with the work on its device.
    """

    def __init__(self, tensor: Tensor) -> None:
        self._held, self._arrived = tensor, None
        if tensor.is_cuda:
            self._held = torch.empty(tensor.shape, dtype=tensor.dtype, pin_memory=True)
            self._held.copy_(tensor, non_blocking=True)
            self._arrived = torch.cuda.Event(blocking=True)  # type: ignore[no-untyped-call]
            self._arrived.record(torch.cuda.current_stream(tensor.device))

    def wait(self) -> NDArray[np.generic]:
        """Return the array, once it has arrived.

        The thread sleeps until then: one that spins takes a core from decoding and encoding.
        """
        if self._arrived is not None:
            self._arrived.synchronize()
        return np.asarray(self._held.numpy())


def to_host(tensor: Tensor) -> NDArray[np.generic]:
    """Return a tensor as an array, once its copy has arrived, as `HostCopy` does."""
    return HostCopy(tensor).wait()


@contextlib.contextmanager
def memory_errors() -> Iterator[None]:
    """Translate the error of a GPU whose memory is full.

    Raises:
        BackendUnavailable: It is.
    """
    try:
        yield
    except torch.OutOfMemoryError as error:
        raise BackendUnavailable(
            f"the GPU's memory is full ({str(error).partition('.')[0]}); close other programs "
            "that use it, give a smaller --size, or use --device cpu"
        ) from error
