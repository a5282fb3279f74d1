"""A U-Net whose contracting path is a pretrained EfficientNet-Lite0.

The expansive path is kept slim: one convolution a level, from stride 32 up to stride 4, where the
logits stay. That keeps the network fast on a CPU: the two finest levels of the paper's U-Net take
most of its time.
"""

from collections.abc import Sequence

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from roadseg.models.efficientnet_lite import EfficientNetLite0


class UpLite(nn.Module):
    """Enlarge to the skip's size, concatenate, one 3x3 convolution."""

    def __init__(self, in_channels: int, skip_channels: int, out_channels: int) -> None:
        super().__init__()
        self.conv = nn.Conv2d(in_channels + skip_channels, out_channels, 3, padding=1, bias=False)
        self.norm = nn.BatchNorm2d(out_channels)

    def forward(self, x: Tensor, skip: Tensor) -> Tensor:
        x = F.interpolate(x, size=skip.shape[-2:], mode="bilinear")  # (N, C, skip H, skip W)
        x = self.conv(torch.cat([x, skip], dim=1))  # (N, out_channels, skip H, skip W)
        return F.relu(self.norm(x), inplace=True)


class UNetLite(nn.Module):
    """EfficientNet-Lite0 encoder, slim U-Net decoder.

    Args:
        num_classes: Channels of the logits.
        widths: Channels of the decoder at strides 16, 8 and 4.
        pretrained: Start the encoder from ImageNet.
        dropout: Dropout of whole channels before the head.
    """

    def __init__(
        self,
        num_classes: int,
        widths: Sequence[int] = (96, 64, 48),
        *,
        pretrained: bool = False,
        dropout: float = 0.1,
    ) -> None:
        super().__init__()
        self.encoder = EfficientNetLite0(pretrained=pretrained)
        _, *skips, bottleneck = self.encoder.channels
        inputs = (bottleneck, *widths[:-1])
        self.up = nn.ModuleList(
            UpLite(cin, skip, cout)
            for cin, skip, cout in zip(inputs, reversed(skips), widths, strict=True)
        )
        self.dropout = nn.Dropout2d(dropout)
        self.head = nn.Conv2d(widths[-1], num_classes, 1)

    def forward(self, x: Tensor) -> Tensor:
        """Return logits (N, num_classes, H/4, W/4) for pictures (N, 3, H, W), normalised."""
        _, *skips, x = self.encoder(x)  # strides 4, 8, 16; (N, 320, H/32, W/32)
        for up in self.up:
            x = up(x, skips.pop())  # (N, widths[i], H/16..4, W/16..4)
        x = self.head(self.dropout(x))  # (N, num_classes, H/4, W/4)
        return x
