"""Build the network of each architecture."""

from collections.abc import Callable

from torch import nn

from roadseg.errors import ConfigError
from roadseg.models.deeplabv3plus import DeepLabV3Plus
from roadseg.models.unet import UNet
from roadseg.models.unet_lite import UNetLite
from roadseg.spec import ARCHITECTURES, ModelSpec, choose


def _unet(spec: ModelSpec, _pretrained: bool) -> nn.Module:
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


NETWORKS: dict[str, Callable[[ModelSpec, bool], nn.Module]] = {
    "unet": _unet,
    "unet-lite": _unet_lite,
    "deeplabv3plus": _deeplabv3plus,
}
"""Functions that build an architecture, by its name in `ARCHITECTURES`."""


def build_model(spec: ModelSpec, *, pretrained: bool = False) -> nn.Module:
    """Build the network that a record describes.

    Args:
        spec: Architecture, width, encoder and classes.
        pretrained: Start the encoder from ImageNet.

    Raises:
        ConfigError: A name is unknown, or the architecture has no pretrained weights.
        BackendUnavailable: The package with the ImageNet weights is not installed.
    """
    if pretrained and not choose(ARCHITECTURES, spec.arch, "--arch").has_encoder:
        raise ConfigError(
            f"--arch {spec.arch} has no pretrained weights; leave out --pretrained, or use "
            "--arch unet-lite"
        )
    return choose(NETWORKS, spec.arch, "--arch")(spec, pretrained)
