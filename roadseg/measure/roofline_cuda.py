"""The least time of each layer of a network on a GPU: the roofline, layer by layer.

Layers follow each other, and each is limited by what is scarce for it, operations or bytes. So the
sum of their limits is nearer to what can be reached than the limit of the whole network's sums.
"""

from pathlib import Path

import torch
from torch import Tensor, nn

from roadseg.models.checkpoint import load_model
from roadseg.models.half import HalfSegmenter


def layers_of(model: Path, size_hw: tuple[int, int]) -> list[dict[str, int]]:
    """Return the work of each convolution of a network in half precision, for one frame.

    The others, a few percent of the operations, are left out: a limit may be too low, never too
    high. No numbers are computed, only shapes.

    Args:
        model: Checkpoint.
        size_hw: Height and width of the network's input.

    Returns:
        For each layer its "flops", the bytes of its input and output, "frame_bytes", and those of
        its weights, "weight_bytes", which a call moves once whatever the batch.

    Raises:
        ModelFileError: The file is no model file of ours.
    """
    network, _ = load_model(model)
    segmenter = HalfSegmenter(network).to("meta")
    layers: list[dict[str, int]] = []

    def note(layer: nn.Module, inputs: tuple[Tensor, ...], output: Tensor) -> None:
        assert isinstance(layer, nn.Conv2d | nn.ConvTranspose2d)
        layers.append(_work(layer, inputs[0], output))

    for layer in segmenter.modules():
        if isinstance(layer, nn.Conv2d | nn.ConvTranspose2d):
            layer.register_forward_hook(note)
    with torch.inference_mode():
        segmenter(torch.empty(1, *size_hw, 3, dtype=torch.uint8, device="meta"))
    return layers


def _work(layer: nn.Conv2d | nn.ConvTranspose2d, given: Tensor, made: Tensor) -> dict[str, int]:
    # Each weight meets each pixel of the output, in a transposed convolution of the input, once.
    pixels = (made if isinstance(layer, nn.Conv2d) else given).shape[2:].numel()
    return {
        "flops": 2 * layer.weight.numel() * pixels,
        "frame_bytes": given.nbytes + made.nbytes,
        "weight_bytes": layer.weight.nbytes,
    }
