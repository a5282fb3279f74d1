from typing import Any

import pytest

pytest.importorskip("torch")

import torch
from conftest import CHECKPOINT, WEIGHTS

from roadseg.measure.roofline import work_of
from roadseg.models.checkpoint import load_model
from roadseg.models.segmenter import Segmenter

SIZE_HW = (64, 96)


def test_operations_are_those_that_pytorch_would_count() -> None:
    network, _ = load_model(CHECKPOINT)
    counted = 0

    def count(module: torch.nn.Conv2d, _inputs: Any, output: torch.Tensor) -> None:
        nonlocal counted
        counted += 2 * output.numel() * module.weight[0].numel()

    for module in network.modules():
        if isinstance(module, torch.nn.Conv2d):
            module.register_forward_hook(count)
    with torch.inference_mode():
        Segmenter(network)(torch.zeros(1, *SIZE_HW, 3, dtype=torch.uint8))
    work = work_of(WEIGHTS, (1, *SIZE_HW, 3))
    assert work.flops == counted
    weights_bytes = sum(4 * p.numel() for p in network.parameters() if p.ndim > 1)
    assert work.moved_bytes > weights_bytes
    assert work.limit_s(1e9, 1e12) == pytest.approx(work.flops / 1e9)
