"""The graph in half precision, for runtimes that take their types from it.

TensorRT 11 is strongly typed: it computes in half precision only what has that type in the graph.
The types are set here, and can be checked without a GPU.
"""

import copy

import torch
from torch import Tensor, nn

from roadseg.models.segmenter import PIXEL_MEAN, PIXEL_SCALE, enlarge

EXAMPLE_HW = (64, 96)
"""Input size of the run that finds which convolution each normalisation follows."""


class HalfSegmenter(nn.Module):
    """A network in half precision with everything around it: uint8 frames in, int32 class map out.

    Its class map is that of `roadseg.models.segmenter.Segmenter`, but for rounding. It differs
    where TensorRT requires it: batch normalisation is folded into the convolutions; the first
    operator converts the frames to floating point, as uint8 is only allowed as an input; ids are
    int32, as uint8 cannot be an output.

    Args:
        network: Network in single precision and evaluation mode; it is left alone.
    """

    def __init__(self, network: nn.Module) -> None:
        super().__init__()
        self.network = fold_batch_norm(network).half()
        self.eval()

    def forward(self, frames: Tensor, *, decides: bool = True) -> tuple[Tensor | None, Tensor]:
        """Segment frames.

        Args:
            frames: (N, H, W, 3) uint8 RGB.
            decides: Make the class map; None is in its place if not.

        Returns:
            The class map (N, H, W) int32, and the logits (N, C, H/s, W/s) float16 at the network's
            own stride s.
        """
        x = (frames.float() - PIXEL_MEAN) * PIXEL_SCALE  # (N, H, W, 3)
        x = x.permute(0, 3, 1, 2).half()  # (N, 3, H, W), exact: no value has more than eight bits
        logits = self.network(x)  # (N, C, H/s, W/s)
        if not decides:
            return None, logits
        class_map = enlarge(logits, frames.shape[1:3]).argmax(dim=1)  # (N, H, W)
        return class_map.to(torch.int32), logits


def fold_batch_norm(network: nn.Module) -> nn.Module:
    """Return a copy of a network with batch normalisation folded into its convolutions.

    Otherwise half precision would round twice. The network is run once to find which convolution
    each normalisation follows.

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
    """Return each batch normalisation with the convolution before it."""
    # It keeps the tensors, as ids of freed ones are reused.
    makers: dict[int, tuple[nn.Conv2d, Tensor]] = {}
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
    """Fold a normalisation into the convolution before it, in place."""
    fused = nn.utils.fusion.fuse_conv_bn_eval(conv, norm)
    conv.weight, conv.bias = fused.weight, fused.bias
