"""A U-Net whose contracting path is a pretrained EfficientNet-Lite.

The expansive path is kept slim: one convolution a level, from stride 32 up to stride 4, where the
logits stay or are refined once more at stride 2. That keeps the network fast on a CPU: the two
finest levels of the paper's U-Net take most of its time.
"""

from collections.abc import Sequence

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from roadseg.errors import ConfigError
from roadseg.models.efficientnet_lite import EfficientNetLite

REFINE_CHANNELS = 16
"""Channels at stride 2, where each costs as much as four at stride 4."""


class UpLite(nn.Module):
    """Upsample to the skip's size, concatenate, one 3x3 convolution."""

    def __init__(self, in_channels: int, skip_channels: int, out_channels: int) -> None:
        super().__init__()
        self.conv = nn.Conv2d(in_channels + skip_channels, out_channels, 3, padding=1, bias=False)
        self.norm = nn.BatchNorm2d(out_channels)

    def forward(self, x: Tensor, skip: Tensor) -> Tensor:
        x = F.interpolate(x, size=skip.shape[-2:], mode="bilinear")  # (N, C, skip H, skip W)
        x = self.conv(torch.cat([x, skip], dim=1))  # (N, out_channels, skip H, skip W)
        return F.relu(self.norm(x), inplace=True)


class Refine(nn.Module):
    """Correct upsampled logits with the encoder's features of stride 2.

    The last convolution is initialised to zero, so that training starts from the coarse logits.
    """

    def __init__(self, in_channels: int, skip_channels: int, num_classes: int) -> None:
        super().__init__()
        self.reduce = nn.Conv2d(in_channels, skip_channels, 1)
        self.up = UpLite(skip_channels, skip_channels, REFINE_CHANNELS)
        self.head = nn.Conv2d(REFINE_CHANNELS, num_classes, 1)
        nn.init.zeros_(self.head.weight)
        nn.init.zeros_(self.head.bias)  # type: ignore[arg-type]

    def forward(self, logits: Tensor, x: Tensor, skip: Tensor) -> Tensor:
        logits = F.interpolate(logits, size=skip.shape[-2:], mode="bilinear")  # (N, C, H/2, W/2)
        x = self.up(self.reduce(x), skip)  # (N, REFINE_CHANNELS, H/2, W/2)
        change: Tensor = self.head(x)  # (N, num_classes, H/2, W/2)
        return logits + change


class UNetLite(nn.Module):
    """EfficientNet-Lite encoder, slim U-Net decoder.

    Args:
        num_classes: Channels of the logits.
        widths: Channels of the decoder at strides 16, 8 and 4.
        encoder: Variant of EfficientNet-Lite.
        output_stride: 4, or 2 to refine the logits by one level more.
        pretrained: Start the encoder from ImageNet.
        dropout: Dropout of whole channels before the head.

    Raises:
        ConfigError: There is no such encoder or output stride.
    """

    def __init__(
        self,
        num_classes: int,
        widths: Sequence[int] = (96, 64, 48),
        *,
        encoder: str = "lite0",
        output_stride: int = 4,
        pretrained: bool = False,
        dropout: float = 0.1,
    ) -> None:
        super().__init__()
        if output_stride not in (2, 4):
            raise ConfigError(f"--output-stride is {output_stride}; unet-lite has 2 and 4")
        self.encoder = EfficientNetLite(encoder, pretrained=pretrained)
        finest, *skips, bottleneck = self.encoder.channels
        inputs = (bottleneck, *widths[:-1])
        self.up = nn.ModuleList(
            UpLite(cin, skip, cout)
            for cin, skip, cout in zip(inputs, reversed(skips), widths, strict=True)
        )
        self.dropout = nn.Dropout2d(dropout)
        self.head = nn.Conv2d(widths[-1], num_classes, 1)
        self.refine = Refine(widths[-1], finest, num_classes) if output_stride == 2 else None

    def forward(self, x: Tensor) -> Tensor:
        """Return logits (N, num_classes, H/s, W/s) for pictures (N, 3, H, W), normalised."""
        finest, *skips, x = self.encoder(x)  # strides 2, then 4, 8, 16; (N, C, H/32, W/32)
        for up in self.up:
            x = up(x, skips.pop())  # (N, widths[i], H/16..4, W/16..4)
        logits: Tensor = self.head(self.dropout(x))  # (N, num_classes, H/4, W/4)
        if self.refine is not None:
            logits = self.refine(logits, x, finest)  # (N, num_classes, H/2, W/2)
        return logits
