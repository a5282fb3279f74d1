"""Arrays to a device and tensors back, without a wait for all that the device is doing.

Everything on a card runs on its default stream, in the order in which the threads of a pipeline ask
for it. So a tensor can be handed from thread to thread like an array; only who wants its numbers on
the CPU waits, and for that copy alone. A device may be the CPU: then nothing is copied.
"""

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor


def to_device(array: NDArray[np.generic], device: torch.device) -> Tensor:
    """Return an array as a tensor on a device; the copy goes on after the return."""
    array = np.ascontiguousarray(array)
    tensor = torch.from_numpy(array if array.flags.writeable else array.copy())
    if device.type == "cuda":
        tensor = tensor.pin_memory()  # or the copy would wait until the card is done with the rest
    return tensor.to(device, non_blocking=True)


def to_host(tensor: Tensor) -> NDArray[np.generic]:
    """Return a tensor as an array, once its copy has arrived; on the CPU they share their memory.

    The thread sleeps until then: one that spins takes a core from decoding and encoding.
    """
    if not tensor.is_cuda:
        return np.asarray(tensor.numpy())
    held = torch.empty(tensor.shape, dtype=tensor.dtype, pin_memory=True)
    held.copy_(tensor, non_blocking=True)
    arrived = torch.cuda.Event(blocking=True)  # type: ignore[no-untyped-call]
    arrived.record(torch.cuda.current_stream(tensor.device))
    arrived.synchronize()
    return np.asarray(held.numpy())
