"""The U-Net of Ronneberger, Fischer and Brox (arXiv 1505.04597), with a width parameter.

Two things differ from the paper, as in most implementations since: convolutions are padded, so the
class map is as large as the picture, and each convolution is followed by batch normalisation. Sides
that do not divide by two four times are handled by padding on the way up.
"""

from collections.abc import Sequence
from itertools import pairwise

import torch
import torch.nn.functional as F
from torch import Tensor, nn


class DoubleConv(nn.Sequential):
    """Two 3x3 convolutions, each with batch normalisation and ReLU (section 2 of the paper)."""

    def __init__(self, in_channels: int, out_channels: int) -> None:
        super().__init__(
            nn.Conv2d(in_channels, out_channels, 3, padding=1, bias=False),
            nn.BatchNorm2d(out_channels),
            nn.ReLU(inplace=True),
            nn.Conv2d(out_channels, out_channels, 3, padding=1, bias=False),
            nn.BatchNorm2d(out_channels),
            nn.ReLU(inplace=True),
        )


class Up(nn.Module):
    """One step of the expansive path: 2x2 up-convolution, concatenation, two convolutions."""

    def __init__(self, in_channels: int, out_channels: int) -> None:
        super().__init__()
        self.up = nn.ConvTranspose2d(in_channels, out_channels, 2, stride=2)
        self.conv = DoubleConv(2 * out_channels, out_channels)

    def forward(self, x: Tensor, skip: Tensor) -> Tensor:
        x = self.up(x)  # (N, C/2, 2H, 2W)
        missing_h = skip.shape[-2] - x.shape[-2]
        missing_w = skip.shape[-1] - x.shape[-1]
        x = F.pad(x, (0, missing_w, 0, missing_h))  # (N, C/2, skip H, skip W)
        x = self.conv(torch.cat([skip, x], dim=1))  # (N, out_channels, skip H, skip W)
        return x


class UNet(nn.Module):
    """The paper's network.

    Args:
        in_channels: Channels of the picture.
        num_classes: Channels of the logits.
        widths: Channels of each level, finest first; the paper has (64, 128, 256, 512, 1024).
        dropout: Dropout at the bottleneck (the paper drops "at the end of the contracting path").
    """

    def __init__(
        self,
        in_channels: int,
        num_classes: int,
        widths: Sequence[int] = (64, 128, 256, 512, 1024),
        dropout: float = 0.1,
    ) -> None:
        super().__init__()
        self.stem = DoubleConv(in_channels, widths[0])
        self.down = nn.ModuleList(DoubleConv(fine, coarse) for fine, coarse in pairwise(widths))
        self.dropout = nn.Dropout2d(dropout)
        self.up = nn.ModuleList(
            Up(coarse, fine) for coarse, fine in zip(widths[:0:-1], widths[-2::-1], strict=True)
        )
        self.head = nn.Conv2d(widths[0], num_classes, 1)
        self.apply(_initialise)

    def forward(self, x: Tensor) -> Tensor:
        """Return logits (N, num_classes, H, W) for pictures (N, in_channels, H, W), normalised."""
        skips = [self.stem(x)]  # [(N, widths[0], H, W)]
        for down in self.down:
            skips.append(down(F.max_pool2d(skips[-1], 2)))  # [..., (N, widths[i], H/2^i, W/2^i)]
        x = self.dropout(skips.pop())
        for up in self.up:
            x = up(x, skips.pop())  # back up to (N, widths[0], H, W)
        x = self.head(x)  # (N, num_classes, H, W)
        return x


def _initialise(module: nn.Module) -> None:
    """Draw weights with standard deviation sqrt(2 / fan-in) (He et al.; section 3 of the paper)."""
    if isinstance(module, nn.Conv2d | nn.ConvTranspose2d):
        nn.init.kaiming_normal_(module.weight, nonlinearity="relu")
        if module.bias is not None:
            nn.init.zeros_(module.bias)
