"""What a CPU cannot tell of videos and networks on a GPU; PyTorch is enough for all of it."""

from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import closing
from dataclasses import replace
from itertools import islice
from pathlib import Path

import pytest

pytest.importorskip("torch")

import numpy as np
import torch
from conftest import CHECKPOINT, SAMPLE, both, sample_frames
from films import frame_times, pictures

from roadseg.backends.torch import TorchBackend, open_model
from roadseg.infer.config import InferConfig
from roadseg.infer.offline import infer
from roadseg.models.checkpoint import load_model
from roadseg.video.graph_cuda import MOST_GRAPHS, Graphed
from roadseg.video.picture_cuda import CudaPicture
from roadseg.video.read import source
from roadseg.video.read.decode_cuda import decode
from roadseg.video.read.read_log import ReadLog
from roadseg.video.read.source import probe
from roadseg.video.write.encoder_cuda import encodes_there

pytestmark = [pytest.mark.gpu, pytest.mark.timeout(900)]

HW = (320, 576)


@pytest.fixture(scope="module")
def reference() -> Iterator[TorchBackend]:
    """In FP32, without TF32."""
    network, spec = load_model(CHECKPOINT)
    with closing(TorchBackend(network.cuda(), spec)) as opened:
        yield opened


def test_reference_is_that_of_the_cpu(reference) -> None:
    frames = sample_frames(HW, 2)
    with closing(TorchBackend(*load_model(CHECKPOINT))) as on_cpu:
        class_map, logits = both(on_cpu, frames)
    found, found_logits = both(reference, frames)
    assert (found == class_map).mean() > 0.9995
    np.testing.assert_allclose(found_logits, logits, atol=2e-3)  # TF32 would be ten times off


def test_a_graph_computes_what_its_function_does() -> None:
    calls = 0

    @Graphed
    def total(x: torch.Tensor, y: torch.Tensor, *, times: int) -> torch.Tensor:
        nonlocal calls
        calls += 1
        return (x + y) * times

    x, y = torch.arange(4.0).cuda(), torch.ones(4).cuda()
    first = total(x, constants=(y,), times=2)
    recorded = calls
    for number in range(20):
        assert torch.equal(total(x + number, constants=(y,), times=2), (x + number + y) * 2)
    assert calls == recorded  # the function itself was not called again
    assert torch.equal(first, (x + y) * 2)  # the caller's own
    assert torch.equal(total(x, y, times=3), (x + y) * 3)
    for size in range(1, 2 * MOST_GRAPHS):  # those beyond are called
        part = x.repeat(size)
        assert torch.equal(total(part, constants=(part,), times=1), part + part)


def test_a_graph_serves_several_threads() -> None:
    double = Graphed(lambda x: x * 2)
    given = [torch.full((1 << 18,), float(number)).cuda() for number in range(64)]
    with ThreadPoolExecutor(8) as pool:
        for number, found in enumerate(pool.map(double, given)):
            assert bool((found == 2 * number).all())


@pytest.mark.parametrize("cuda_graph", [False, True])
@pytest.mark.parametrize("batch", [1, 8])
def test_half_precision_decides_as_the_reference(reference, cuda_graph, batch) -> None:
    frames = sample_frames(HW, batch)
    expected = reference.run(frames).class_map
    with closing(open_model(CHECKPOINT, cuda_graph=cuda_graph)) as backend:
        first = backend.run(frames).class_map
        assert (first == expected).mean() > 0.998
        backend.run(frames[:, ::-1].copy())
        np.testing.assert_array_equal(backend.run(frames).class_map, first)
        there = backend.run(torch.from_numpy(frames).cuda()).outputs["class_map"]
        assert there.is_cuda and np.array_equal(there.cpu().numpy(), first)


def test_film_is_decoded_on_the_gpu_to_the_bit() -> None:
    info, log = probe(SAMPLE), ReadLog()
    found = islice(decode(info, log, device=torch.device("cuda", 0)), 20)
    for mine, expected in zip(found, islice(source.decode(info, ReadLog()), 20), strict=True):
        assert isinstance(mine.picture, CudaPicture) and mine.picture.y.is_cuda
        if log.off_gpu:
            pytest.skip(f"the video is decoded on the CPU: {log.off_gpu}")
        assert mine.pts == expected.pts
        for one, other in zip(mine.picture.on_host.planes, expected.picture.planes, strict=True):
            np.testing.assert_array_equal(one, other)


@pytest.mark.parametrize("change", [{}, {"every": 3}, {"steady": 0}], ids=["steady", "3", "alone"])
def test_film_is_labelled_as_on_the_cpu(tmp_path, record_property, change) -> None:
    runs = {}
    for device in ("cpu", "cuda"):
        folder = tmp_path / device
        folder.mkdir()
        outputs = {"out": folder / "out.mp4", "masks": folder / "masks"}
        runs[device] = InferConfig(
            source=SAMPLE, weights=CHECKPOINT, device=device, end_s=2.0, **outputs, **change
        )
        result = infer(runs[device])
        record_property(f"{device}_fps", round(result.fps, 1))
        record_property(f"{device}_decoder", result.decoder)
    assert result.device == "cuda:0"
    here, there = runs.values()
    assert frame_times(here.out) == frame_times(there.out)
    equal = [
        (pictures(file)[0] == pictures(there.masks / file.name)[0]).mean()
        for file in sorted(here.masks.iterdir())
    ]
    assert np.mean(equal) > 0.998


def test_memory_of_the_gpu_stays_flat(tmp_path) -> None:
    held: list[int] = []

    def note(_done: int, _total: int | None) -> None:
        held.append(torch.cuda.memory_reserved())

    out: Path = tmp_path / "out.mp4"
    infer(InferConfig(source=SAMPLE, out=out, weights=CHECKPOINT, device="cuda"), note)
    assert max(held) <= max(held[: len(held) // 3]) * 1.05


def test_gpu_encodes_what_it_painted(tmp_path) -> None:
    if not encodes_there("h264", torch.device("cuda", 0)):
        pytest.skip("this GPU has no encoder, as H100 and A100")
    config = InferConfig(
        source=SAMPLE, out=tmp_path / "there.mp4", weights=CHECKPOINT, device="cuda", end_s=2.5
    )
    there = infer(config)
    here = infer(replace(config, out=tmp_path / "here.mp4", codec="h264"))
    assert (there.encoder, here.encoder) == ("h264_nvenc", "libx264")
    assert frame_times(there.out) == frame_times(here.out)
    for mine, other in zip(pictures(there.out), pictures(here.out), strict=True):
        assert np.abs(mine.astype(int) - other).mean() < 4
