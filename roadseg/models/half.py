"""The graph for half precision: what runtimes that compute as the graph says are given.

TensorRT 11 is strongly typed: it computes in half precision what has that type in the graph, and
nothing else. So the types are set here, once, and can be checked without a GPU.
"""

import copy

import torch
from torch import Tensor, nn

from roadseg.models.segmenter import PIXEL_MEAN, PIXEL_SCALE, enlarge

EXAMPLE_HW = (64, 96)
"""Size at which a network is run to see what its normalisations follow."""


class HalfSegmenter(nn.Module):
    """A network in half precision with everything around it: uint8 frames in, int32 class map out.

    It decides as `roadseg.models.segmenter.Segmenter` does, but for rounding, and differs in what
    TensorRT wants: batch normalisation is folded into the convolutions, the first operator turns
    the frames to floating point, as uint8 is known at the border alone, and ids are int32, as uint8
    cannot be returned.

    Args:
        network: Network in single precision and evaluation mode; it is left alone.
    """

    def __init__(self, network: nn.Module) -> None:
        super().__init__()
        self.network = fold_batch_norm(network).half()
        self.eval()

    def forward(self, frames: Tensor) -> tuple[Tensor, Tensor]:
        """Segment frames.

        Args:
            frames: (N, H, W, 3) uint8 RGB.

        Returns:
            The class map (N, H, W) int32, and the logits (N, C, H/s, W/s) float16 at the network's
            own stride s.
        """
        x = (frames.float() - PIXEL_MEAN) * PIXEL_SCALE  # (N, H, W, 3)
        x = x.permute(0, 3, 1, 2).half()  # (N, 3, H, W), exact: no value has more than eight bits
        logits = self.network(x)  # (N, C, H/s, W/s)
        class_map = enlarge(logits, frames.shape[1:3]).argmax(dim=1)  # (N, H, W)
        return class_map.to(torch.int32), logits


def fold_batch_norm(network: nn.Module) -> nn.Module:
    """Return a copy of a network whose convolutions do their batch normalisation's work.

    The network is run once to see which convolution each normalisation follows. Half precision
    would round the product of two roundings otherwise.

    Args:
        network: Network in single precision and evaluation mode.
    """
    folded = copy.deepcopy(network)
    pairs = _observe_pairs(folded)
    for conv, norm in pairs:
        _fold(conv, norm)
    norms = {id(norm) for _, norm in pairs}
    for parent in list(folded.modules()):
        for name, child in parent.named_children():
            if id(child) in norms:
                setattr(parent, name, nn.Identity())
    return folded


def _observe_pairs(network: nn.Module) -> list[tuple[nn.Conv2d, nn.BatchNorm2d]]:
    """Return each batch normalisation with the convolution whose output it is given."""
    makers: dict[int, tuple[nn.Conv2d, Tensor]] = {}  # tensors are kept, so that ids stay theirs
    pairs: list[tuple[nn.Conv2d, nn.BatchNorm2d]] = []

    def made(conv: nn.Module, _inputs: tuple[Tensor], output: Tensor) -> None:
        assert isinstance(conv, nn.Conv2d)
        makers[id(output)] = (conv, output)

    def taken(norm: nn.Module, inputs: tuple[Tensor]) -> None:
        assert isinstance(norm, nn.BatchNorm2d)
        pairs.append((makers[id(inputs[0])][0], norm))

    hooks = [m.register_forward_hook(made) for m in network.modules() if isinstance(m, nn.Conv2d)]
    hooks += [
        m.register_forward_pre_hook(taken)
        for m in network.modules()
        if isinstance(m, nn.BatchNorm2d)
    ]
    with torch.inference_mode():
        network(torch.zeros(1, 3, *EXAMPLE_HW))
    for hook in hooks:
        hook.remove()
    return pairs


def _fold(conv: nn.Conv2d, norm: nn.BatchNorm2d) -> None:
    """Multiply a normalisation into the convolution before it, in place."""
    fused = nn.utils.fusion.fuse_conv_bn_eval(conv, norm)
    conv.weight, conv.bias = fused.weight, fused.bias
