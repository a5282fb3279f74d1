"""A class map that lies where its picture does; what is asked for, and only that, is copied."""

from functools import cached_property
from typing import Self

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from roadseg.spec import IGNORE_INDEX
from roadseg.video.transfer_cuda import to_device, to_host

IDS = 256
"""Ids that there can be."""
MOST_COUNTED = 1 << 24
"""Pixels that are counted in single precision, which has all whole numbers up to this."""


class CudaClassMap:
    """A class map on a device.

    Args:
        ids: (H, W) uint8, not to be changed.
    """

    def __init__(self, ids: Tensor) -> None:
        self.ids = ids

    @property
    def shape(self) -> tuple[int, int]:
        """Height and width."""
        height, width = self.ids.shape
        return height, width

    @property
    def nbytes(self) -> int:
        """Bytes that it takes there."""
        return self.ids.nbytes

    @cached_property
    def on_host(self) -> NDArray[np.uint8]:
        """The ids (H, W) on the CPU; copied once."""
        return np.asarray(to_host(self.ids), np.uint8)

    def sample(self, step: int) -> NDArray[np.uint8]:
        """Return every so many rows and columns of it."""
        return np.asarray(to_host(self.ids[::step, ::step].contiguous()), np.uint8)

    def pixels(self) -> NDArray[np.int64]:
        """Return the pixels of each id, (256,)."""
        # `bincount` would wait for all that the GPU was given.
        parts = torch.split(self.ids.flatten(), MOST_COUNTED)
        counts = torch.stack([torch.histc(part.float(), IDS, 0, IDS) for part in parts])
        return np.asarray(to_host(counts.long().sum(dim=0)), np.int64)

    def upload(self, mask: NDArray[np.bool_]) -> Tensor:
        """Return a mask (H, W) on the same device."""
        return to_device(mask, self.ids.device)

    def without(self, mask: Tensor, instead: int = IGNORE_INDEX) -> Self:
        """Return the class map with another id where a mask is true that lies there too."""
        return type(self)(self.ids.masked_fill(mask, instead))
