"""A network with normalisation before it and argmax after it."""

import torch
import torch.nn.functional as F
from torch import Tensor, nn

PIXEL_MEAN = 127.0
PIXEL_SCALE = 1 / 128
"""Normalisation of 0..255 RGB that the EfficientNet-Lite weights were trained with."""


def normalise(frames: Tensor) -> Tensor:
    """Return network input (N, 3, H, W) float32 for frames (N, H, W, 3) uint8 RGB."""
    return (frames.permute(0, 3, 1, 2).float() - PIXEL_MEAN) * PIXEL_SCALE


def enlarge(logits: Tensor, size_hw: tuple[int, int] | torch.Size) -> Tensor:
    """Return logits (N, C, *size_hw), enlarged bilinearly from the network's own stride."""
    return F.interpolate(logits, size=size_hw, mode="bilinear")


class Segmenter(nn.Module):
    """A network with normalisation and argmax: uint8 RGB frames in, uint8 class map out.

    This graph is exported as a whole, so every runtime normalises and decides in the same way.
    """

    def __init__(self, network: nn.Module) -> None:
        super().__init__()
        self.network = network

    def forward(self, frames: Tensor, *, decides: bool = True) -> tuple[Tensor | None, Tensor]:
        """Segment frames.

        Args:
            frames: (N, H, W, 3) uint8 RGB.
            decides: Make the class map; None is in its place if not.

        Returns:
            The class map (N, H, W) uint8, and the logits (N, C, H/s, W/s) float32 at the network's
            own stride s.
        """
        logits = self.network(normalise(frames))  # (N, C, H/s, W/s)
        if not decides:
            return None, logits
        class_map = enlarge(logits, frames.shape[1:3]).argmax(dim=1)  # (N, H, W)
        return class_map.to(torch.uint8), logits
