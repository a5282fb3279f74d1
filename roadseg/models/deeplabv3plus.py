"""DeepLabv3+ on an EfficientNet-Lite encoder.

Chen et al., arXiv 1802.02611: an encoder that stops at stride 16, atrous spatial pyramid pooling,
and a decoder that joins the result with features of stride 4. All its 3x3 convolutions are
depthwise separable, as in section 3.2.
"""

from collections.abc import Sequence

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from roadseg.models.efficientnet_lite import EfficientNetLite

LOW_LEVEL_CHANNELS = 48
"""To which the features of stride 4 are reduced (section 4.1, table 1)."""
RATES = (6, 12, 18)
"""Dilations of the pyramid's 3x3 convolutions at stride 16 (section 4)."""


def _conv(cin: int, cout: int) -> nn.Sequential:
    """Return a 1x1 convolution with its normalisation and activation."""
    return nn.Sequential(
        nn.Conv2d(cin, cout, 1, bias=False), nn.BatchNorm2d(cout), nn.ReLU(inplace=True)
    )


def _separable(cin: int, cout: int, dilation: int = 1) -> nn.Sequential:
    """Return a depthwise 3x3 convolution, then a pointwise one (figure 3c)."""
    depthwise = nn.Conv2d(cin, cin, 3, padding=dilation, dilation=dilation, groups=cin, bias=False)
    return nn.Sequential(depthwise, nn.BatchNorm2d(cin), nn.ReLU(inplace=True), *_conv(cin, cout))


class Aspp(nn.Module):
    """Atrous spatial pyramid pooling: views of several widths, joined by a convolution."""

    def __init__(self, cin: int, cout: int, rates: Sequence[int]) -> None:
        super().__init__()
        self.views = nn.ModuleList([_conv(cin, cout), *(_separable(cin, cout, r) for r in rates)])
        # No normalisation of the picture's mean: it would be over as few values as a batch has.
        self.whole = nn.Sequential(nn.Conv2d(cin, cout, 1), nn.ReLU(inplace=True))
        self.join = _conv(cout * (len(rates) + 2), cout)

    def forward(self, x: Tensor) -> Tensor:
        mean = x.float().mean(dim=(2, 3), keepdim=True)  # (N, cin, 1, 1); half sums overflow
        whole = self.whole(mean.to(x.dtype))  # (N, cout, 1, 1)
        views = [view(x) for view in self.views]  # (N, cout, H, W) each
        x = torch.cat([*views, whole.expand_as(views[0])], dim=1)  # (N, cout * views, H, W)
        return self.join(x)  # type: ignore[no-any-return]


class DeepLabV3Plus(nn.Module):
    """EfficientNet-Lite at output stride 16, ASPP, and the decoder of DeepLabv3+.

    Args:
        num_classes: Channels of the logits.
        width: Channels of the pyramid and the decoder; 256 in the paper.
        encoder: Variant of EfficientNet-Lite.
        pretrained: Start the encoder from ImageNet.
        dropout: Dropout of whole channels before the head.
    """

    def __init__(
        self,
        num_classes: int,
        width: int = 256,
        *,
        encoder: str = "lite0",
        pretrained: bool = False,
        dropout: float = 0.1,
    ) -> None:
        super().__init__()
        self.encoder = EfficientNetLite(encoder, pretrained=pretrained, output_stride=16)
        _, low, *_, high = self.encoder.channels
        self.aspp = Aspp(high, width, RATES)
        self.reduce = _conv(low, LOW_LEVEL_CHANNELS)
        self.refine = nn.Sequential(
            _separable(width + LOW_LEVEL_CHANNELS, width), _separable(width, width)
        )
        self.dropout = nn.Dropout2d(dropout)
        self.head = nn.Conv2d(width, num_classes, 1)

    def forward(self, x: Tensor) -> Tensor:
        """Return logits (N, num_classes, H/4, W/4) for pictures (N, 3, H, W), normalised."""
        _, low, *_, high = self.encoder(x)  # (N, C, H/4, W/4), (N, C, H/16, W/16)
        low = self.reduce(low)  # (N, 48, H/4, W/4)
        x = F.interpolate(self.aspp(high), size=low.shape[-2:], mode="bilinear")  # (.., H/4, W/4)
        x = self.refine(torch.cat([x, low], dim=1))  # (N, width, H/4, W/4)
        x = self.head(self.dropout(x))  # (N, num_classes, H/4, W/4)
        return x
