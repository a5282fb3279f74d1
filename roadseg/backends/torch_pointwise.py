"""1x1 convolutions as the matrix products that they are.

cuBLAS adds the bias as it computes them. After a convolution of cuDNN's, PyTorch adds it in a pass
over all of the output, which in an expanded block takes as long as the product.
"""

import torch.nn.functional as F
from torch import Tensor, nn


class Pointwise(nn.Module):
    """A 1x1 convolution of pictures whose channels lie side by side in memory.

    Args:
        conv: The convolution, whose weights are shared.
    """

    def __init__(self, conv: nn.Conv2d) -> None:
        super().__init__()
        self.weight = conv.weight
        self.bias = conv.bias

    def forward(self, x: Tensor) -> Tensor:
        """Return pictures (N, Cout, H, W) for pictures (N, Cin, H, W)."""
        return F.linear(x.permute(0, 2, 3, 1), self.weight.flatten(1), self.bias).permute(
            0, 3, 1, 2
        )


def use_products(network: nn.Module) -> None:
    """Replace the 1x1 convolutions of a network that are products, in place."""
    for parent in list(network.modules()):
        for name, child in parent.named_children():
            if isinstance(child, nn.Conv2d) and _is_product(child):
                setattr(parent, name, Pointwise(child))


def _is_product(conv: nn.Conv2d) -> bool:
    sides = {*conv.kernel_size, *conv.stride, conv.groups}
    return sides == {1} and not any(conv.padding)
