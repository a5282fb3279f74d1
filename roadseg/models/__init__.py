"""The architectures by name, and the graph that turns any of them into a segmenter of frames."""

from collections.abc import Callable

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from roadseg.config import ModelSpec, choose
from roadseg.errors import ConfigError
from roadseg.models.deeplabv3plus import DeepLabV3Plus
from roadseg.models.unet import UNet
from roadseg.models.unet_lite import UNetLite

PIXEL_MEAN = 127.0
PIXEL_SCALE = 1 / 128
"""Normalisation of 0..255 RGB that the EfficientNet-Lite weights were trained with."""


def _unet(spec: ModelSpec, pretrained: bool) -> nn.Module:
    if pretrained:
        raise ConfigError(
            "--arch unet has no pretrained weights; leave out --pretrained, or use --arch unet-lite"
        )
    return UNet(3, spec.num_classes, widths=tuple(spec.width * 2**level for level in range(5)))


def _unet_lite(spec: ModelSpec, pretrained: bool) -> nn.Module:
    return UNetLite(
        spec.num_classes,
        (spec.width * 2, spec.width * 4 // 3, spec.width),
        encoder=spec.encoder,
        output_stride=spec.output_stride,
        pretrained=pretrained,
    )


def _deeplabv3plus(spec: ModelSpec, pretrained: bool) -> nn.Module:
    return DeepLabV3Plus(spec.num_classes, spec.width, encoder=spec.encoder, pretrained=pretrained)


ARCHITECTURES: dict[str, Callable[[ModelSpec, bool], nn.Module]] = {
    "unet": _unet,
    "unet-lite": _unet_lite,
    "deeplabv3plus": _deeplabv3plus,
}


def build_model(spec: ModelSpec, *, pretrained: bool = False) -> nn.Module:
    """Build the network that a record describes.

    Args:
        spec: Architecture, width, encoder and classes.
        pretrained: Start the encoder from ImageNet.

    Raises:
        ConfigError: A name is unknown, or the architecture has no pretrained weights.
        BackendUnavailable: The package with the ImageNet weights is not installed.
    """
    return choose(ARCHITECTURES, spec.arch, "--arch")(spec, pretrained)


def normalise(frames: Tensor) -> Tensor:
    """Return network input (N, 3, H, W) float32 for frames (N, H, W, 3) uint8 RGB."""
    return (frames.permute(0, 3, 1, 2).float() - PIXEL_MEAN) * PIXEL_SCALE


def enlarge(logits: Tensor, size_hw: tuple[int, int] | torch.Size) -> Tensor:
    """Return logits (N, C, *size_hw), enlarged bilinearly from the network's own stride."""
    return F.interpolate(logits, size=size_hw, mode="bilinear")


class Segmenter(nn.Module):
    """A network with everything around it: uint8 RGB frames in, uint8 class map out.

    This is the graph that is exported, so no runtime can normalise or decide differently.
    """

    def __init__(self, network: nn.Module) -> None:
        super().__init__()
        self.network = network

    def forward(self, frames: Tensor) -> tuple[Tensor, Tensor]:
        """Segment frames.

        Args:
            frames: (N, H, W, 3) uint8 RGB.

        Returns:
            The class map (N, H, W) uint8, and the logits (N, C, H/s, W/s) float32 at the network's
            own stride s.
        """
        logits = self.network(normalise(frames))  # (N, C, H/s, W/s)
        class_map = enlarge(logits, frames.shape[1:3]).argmax(dim=1)  # (N, H, W)
        return class_map.to(torch.uint8), logits
