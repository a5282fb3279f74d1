"""TensorRT on a GPU: engines are built, reloaded, compared with PyTorch, and timed.

Figures go to the report of `--junitxml` as properties.
"""

import gc
import os
import time
from collections.abc import Callable, Iterator
from contextlib import closing
from pathlib import Path

import pytest

pytest.importorskip("torch")

import numpy as np
import torch
from conftest import CHECKPOINT, both, sample_frames
from test_half import SPECS, network_of

from roadseg.backends.runtimes import LOGITS, open_backend
from roadseg.backends.tensorrt import open_model
from roadseg.backends.tensorrt_engine import load_engine
from roadseg.backends.torch import TorchBackend
from roadseg.deploy.build_tensorrt import build_engine, census
from roadseg.models.checkpoint import load_model

pytestmark = [pytest.mark.tensorrt, pytest.mark.timeout(900)]

SHAPE = (2, 320, 576)
LEAK_S = float(os.environ.get("ROADSEG_LEAK_S", "20"))
"""Seconds over which memory must not grow; an hour shows more than a test run can."""


@pytest.fixture(scope="module")
def engine_file(tmp_path_factory: pytest.TempPathFactory) -> Path:
    network, spec = load_model(CHECKPOINT)
    path = tmp_path_factory.mktemp("engines") / "unet-lite.engine"
    build_engine(network, spec, SHAPE, path)
    return path


@pytest.fixture(scope="module")
def reference() -> Iterator[TorchBackend]:
    network, spec = load_model(CHECKPOINT)
    with closing(TorchBackend(network.cuda(), spec)) as opened:
        yield opened


def median_ms(call: Callable[[], object], times: int = 200) -> tuple[float, float]:
    """Median and 95th percentile of a call that returns when the GPU is done."""
    for _ in range(20):
        call()
    spent = []
    for _ in range(times):
        started = time.perf_counter()
        call()
        spent.append((time.perf_counter() - started) * 1e3)
    return float(np.median(spent)), float(np.percentile(spent, 95))


@pytest.mark.parametrize("cuda_graph", [False, True])
def test_reloaded_engine_decides_as_pytorch_does(engine_file, reference, cuda_graph) -> None:
    frames = sample_frames(SHAPE[1:], 3)
    expected, logits = both(reference, frames)
    with closing(open_model(engine_file, cuda_graph=cuda_graph)) as backend:
        assert (backend.run(frames).class_map == expected).mean() > 0.998  # 0.9996 on the CPU
        found, half_logits = both(backend, frames)
        np.testing.assert_array_equal(found, backend.run(frames).class_map)
        assert np.abs(half_logits - logits).mean() < 0.01 * logits.std()


@pytest.mark.parametrize("spec", SPECS.values(), ids=SPECS)
def test_every_architecture_builds_and_agrees(tmp_path, spec) -> None:
    network = network_of(spec)
    build_engine(network, spec, (1, 96, 160), tmp_path / "some.engine")
    frames = sample_frames((96, 160), 1)
    with closing(TorchBackend(network.cuda(), spec)) as reference:
        expected = reference.run(frames, LOGITS).logits
    with closing(open_backend(tmp_path / "some.engine")) as backend:
        found = backend.run(frames, LOGITS).logits
    assert np.abs(found - expected).mean() < 0.02 * expected.std()


def test_engine_computes_in_half_precision(engine_file) -> None:
    counts = census(engine_file)
    assert counts["fp16"] > 20
    assert counts["fp32"] <= 4  # the frames become floating point before they are halved
    assert "unknown" not in counts


def test_engine_of_this_machine_is_recorded_as_such(engine_file) -> None:
    _, record, spec = load_engine(engine_file)
    assert record.gpu == torch.cuda.get_device_name()
    assert record.shape == SHAPE and spec.size_hw == SHAPE[1:]


@pytest.mark.parametrize("cuda_graph", [False, True])
def test_engine_is_faster_than_pytorch(engine_file, reference, cuda_graph, record_property) -> None:
    frames = sample_frames(SHAPE[1:], SHAPE[0])
    with closing(open_model(engine_file, cuda_graph=cuda_graph)) as backend:
        p50, p95 = median_ms(lambda: backend.run(frames).class_map)
    eager, _ = median_ms(lambda: reference.run(frames).class_map, times=50)
    figures = {"p50_ms": p50, "p95_ms": p95, "fps": SHAPE[0] / p50 * 1e3, "pytorch_p50_ms": eager}
    for name, value in figures.items():
        record_property(name, round(value, 3))
    assert p50 < eager, figures


def test_memory_does_not_grow(engine_file) -> None:
    frames = sample_frames(SHAPE[1:], SHAPE[0])

    def resident_bytes() -> int:
        pages = int(Path("/proc/self/statm").read_text().split()[1])
        return pages * os.sysconf("SC_PAGE_SIZE")

    with closing(open_model(engine_file)) as backend:
        for _ in range(100):
            backend.run(frames)
        gc.collect()
        free_before, _ = torch.cuda.mem_get_info()
        host_before = resident_bytes()
        until = time.monotonic() + LEAK_S
        while time.monotonic() < until:
            backend.run(frames)
        free_after, _ = torch.cuda.mem_get_info()
        assert free_before - free_after < 2 << 20
        assert resident_bytes() - host_before < 8 << 20


def test_opening_and_closing_gives_memory_back(engine_file) -> None:
    frames = sample_frames(SHAPE[1:], 1)

    def cycle() -> int:
        with closing(open_model(engine_file)) as backend:
            backend.run(frames)
        del backend
        gc.collect()
        torch.cuda.empty_cache()
        return torch.cuda.mem_get_info()[0]

    cycle()
    free_before = cycle()
    assert min(cycle() for _ in range(5)) > free_before - (8 << 20)
