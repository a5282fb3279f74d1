"""The graph in half precision: what it decides, and which types it has."""

import warnings
from collections import Counter
from math import sqrt

import pytest

pytest.importorskip("torch")

import numpy as np
import torch
from conftest import CHECKPOINT, both, sample_frames
from torch import nn

from roadseg.backends.runtimes import LOGITS
from roadseg.backends.torch import TorchBackend, full_precision
from roadseg.backends.torch_pointwise import Pointwise, use_products
from roadseg.deploy.build_tensorrt import export_half
from roadseg.models.architectures import build_model
from roadseg.models.checkpoint import load_model
from roadseg.models.half import HalfSegmenter, fold_batch_norm
from roadseg.models.segmenter import Segmenter, enlarge
from roadseg.spec import ModelSpec

SPECS = {
    "unet": ModelSpec(arch="unet", width=8, output_stride=1),
    "unet-lite": ModelSpec(arch="unet-lite", width=24, output_stride=2),
    "deeplabv3plus": ModelSpec(arch="deeplabv3plus", width=32),
}


def network_of(spec: ModelSpec) -> nn.Module:
    """A network whose normalisations do something, as those of a trained one."""
    network = build_model(spec).eval()
    for module in network.modules():
        if isinstance(module, nn.BatchNorm2d):
            nn.init.normal_(module.running_mean, std=0.1)
            nn.init.uniform_(module.running_var, 0.5, 1.5)
            nn.init.uniform_(module.weight, 0.5, 1.5)
            nn.init.normal_(module.bias, std=0.1)
    return network


def test_half_precision_decides_as_single_does_on_real_frames() -> None:
    network, _ = load_model(CHECKPOINT)
    frames = torch.from_numpy(sample_frames((128, 224), 2))
    with torch.inference_mode():
        expected, logits = Segmenter(network)(frames)
        found, half_logits = HalfSegmenter(network)(frames)
    assert found.dtype == torch.int32 and half_logits.dtype == torch.float16
    standard_error = rounding_error(network, logits)
    assert (half_logits - logits).square().mean().sqrt() < standard_error
    # A margin is the difference of two logits; six of its standard errors are never reached.
    decided = margins(logits, frames.shape[1:3]) > 6 * sqrt(2) * standard_error
    assert decided.double().mean() > 0.95
    assert torch.equal(found[decided], expected[decided].int())


def rounding_error(network: nn.Module, logits: torch.Tensor) -> float:
    """The standard error of logits in half precision, whichever CPU adds them up in what order.

    Every convolution rounds its weights and its result, each by 2**-11 of it at most, and such
    roundings add up as independent ones do (Higham and Mary 2019, probabilistic analysis).
    """
    roundings = 2 * sum(isinstance(m, nn.Conv2d) for m in network.modules())
    return sqrt(roundings) * 2**-11 * float(logits.square().mean().sqrt())


def margins(logits: torch.Tensor, size_hw: tuple[int, int]) -> torch.Tensor:
    """By how much the strongest class of each pixel leads: (N, H, W)."""
    first, second = enlarge(logits, size_hw).topk(2, dim=1).values.unbind(dim=1)
    return first - second


@pytest.mark.parametrize("spec", SPECS.values(), ids=SPECS)
def test_folding_leaves_no_normalisation_and_the_same_logits(spec) -> None:
    network = network_of(spec)
    before = {name: tensor.clone() for name, tensor in network.state_dict().items()}
    folded = fold_batch_norm(network)
    assert not any(isinstance(m, nn.BatchNorm2d) for m in folded.modules())
    x = torch.rand(1, 3, 64, 96) * 2 - 1
    with torch.inference_mode():
        expected, found = network(x), folded(x)
    scale = expected.abs().max()
    torch.testing.assert_close(found / scale, expected / scale, atol=1e-5, rtol=0)  # other order
    assert all(torch.equal(tensor, before[name]) for name, tensor in network.state_dict().items())


def convolution_types(program: torch.export.ExportedProgram) -> Counter[torch.dtype]:
    """The types that the graph's convolutions compute in."""
    return Counter(
        node.meta["val"].dtype
        for node in program.graph.nodes
        if node.op == "call_function" and "conv" in str(node.target)
    )


@pytest.mark.parametrize("spec", SPECS.values(), ids=SPECS)
def test_exported_graph_convolves_in_half_precision_alone(spec) -> None:
    network = network_of(spec)
    program = export_half(network, (2, 64, 96))
    kinds = (nn.Conv2d, nn.ConvTranspose2d)
    convolutions = sum(isinstance(m, kinds) for m in network.modules())
    assert convolution_types(program) == {torch.float16: convolutions}
    frames = torch.from_numpy(np.random.default_rng(0).integers(0, 256, (2, 64, 96, 3), np.uint8))
    class_map, logits = program.module()(frames)
    assert class_map.dtype == torch.int32 and class_map.shape == (2, 64, 96)
    assert logits.dtype == torch.float16


def test_graph_in_single_precision_is_told_apart() -> None:
    frames = torch.zeros(1, 64, 96, 3, dtype=torch.uint8)
    segmenter = Segmenter(network_of(SPECS["unet-lite"])).eval()
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # the exporter's notes on its own deprecations
        program = torch.export.export(segmenter, (frames,), strict=False)
    assert set(convolution_types(program)) == {torch.float32}


def test_mean_over_a_whole_picture_is_taken_in_single_precision() -> None:
    # In half precision the sum of 2560 values of 40 is infinite; GPUs need not add in more.
    program = export_half(network_of(SPECS["deeplabv3plus"]), (1, 64, 96))
    means = [node for node in program.graph.nodes if "mean" in str(node.target)]
    assert [node.meta["val"].dtype for node in means] == [torch.float32]


def test_backend_in_half_precision_answers_as_others_do() -> None:
    frames = sample_frames((64, 96), 2)
    backend = TorchBackend(*load_model(CHECKPOINT), half=True)
    class_map, logits = both(backend, frames)
    assert class_map.dtype == np.uint8 and logits.dtype == np.float32
    found = backend.run(torch.from_numpy(frames), LOGITS).outputs
    assert set(found) == {"logits"}
    np.testing.assert_array_equal(found["logits"].numpy(), logits)


def test_convolutions_of_a_reference_are_in_full_precision_and_no_others() -> None:
    before = torch.backends.cudnn.allow_tf32
    torch.backends.cudnn.allow_tf32 = True
    try:
        with full_precision():
            assert not torch.backends.cudnn.allow_tf32
        assert torch.backends.cudnn.allow_tf32
    finally:
        torch.backends.cudnn.allow_tf32 = before


@pytest.mark.parametrize("arch", SPECS)
def test_products_compute_what_convolutions_of_one_pixel_do(arch) -> None:
    network = fold_batch_norm(network_of(SPECS[arch])).to(memory_format=torch.channels_last)
    frames = torch.rand(2, 3, 64, 96).to(memory_format=torch.channels_last)
    with torch.inference_mode():
        expected = network(frames)
        use_products(network)
        found = network(frames)
    assert any(isinstance(module, Pointwise) for module in network.modules())
    sides = {m.kernel_size for m in network.modules() if isinstance(m, nn.Conv2d) and m.groups == 1}
    assert (1, 1) not in sides
    torch.testing.assert_close(found, expected, rtol=1e-4, atol=1e-4)
