"""ONNX Runtime's RTX provider as far as a machine without a GPU can tell.

Sessions run on ONNX Runtime's CPU in place of the GPU, by the same calls; the driver is a library
that answers as NVIDIA's does; the provider's own library is NVIDIA's.
"""

import json
import os
import re
import shutil
import subprocess
import sys
from collections.abc import Iterator
from contextlib import closing
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest

pytest.importorskip("torch")

import numpy as np
import onnx
import rtx
import torch
from conftest import ROOT, WEIGHTS, both, patience, sample_frames
from test_half import network_of
from test_tensorrt import demand_half, run_rtx

from roadseg.backends import nvidia
from roadseg.backends.nvidia import Driver, Gpu, read_driver
from roadseg.backends.runtimes import BACKENDS, Backend, open_backend
from roadseg.deploy.builders import Source
from roadseg.deploy.export import LEAST_AGREEMENT, export_onnx
from roadseg.errors import BackendUnavailable, ConfigError, ExportError, ModelFileError
from roadseg.models.checkpoint import save_model
from roadseg.models.half import HalfSegmenter
from roadseg.spec import BuildRecord, ModelSpec

SPEC = ModelSpec(arch="unet", width=4, output_stride=1, size_hw=(64, 96))
ADA = Gpu("NVIDIA GeForce RTX 4070", (8, 9))


@pytest.fixture(scope="module")
def checkpoint(tmp_path_factory: pytest.TempPathFactory) -> Path:
    path = tmp_path_factory.mktemp("model") / "tiny.safetensors"
    save_model(path, network_of(SPEC), SPEC)
    return path


@pytest.fixture(scope="module")
def half(checkpoint: Path) -> Path:
    """A model in half precision."""
    path = checkpoint.with_suffix(".half.onnx")
    assert export_onnx(checkpoint, path, half=True) == SPEC
    return path


def test_half_export_computes_in_half_precision_alone(half) -> None:
    graph = onnx.load(half).graph
    types = {tensor.name: tensor.data_type for tensor in graph.initializer}
    convolutions = [node for node in graph.node if node.op_type == "Conv"]
    assert {types[n.input[1]] for n in convolutions} == {onnx.TensorProto.FLOAT16}
    assert [end.type.tensor_type.elem_type for end in (*graph.input, *graph.output)] == [
        onnx.TensorProto.UINT8,
        onnx.TensorProto.INT32,
        onnx.TensorProto.FLOAT16,
    ]


@pytest.mark.parametrize("runtime", ["onnxruntime", "openvino"])
def test_half_export_runs_on_a_cpu_at_any_size(half, checkpoint, runtime) -> None:
    pytest.importorskip(BACKENDS[runtime].module)
    with closing(open_backend(half, runtime)) as found, closing(open_backend(checkpoint)) as single:
        for size_hw, count in (((64, 96), 1), ((96, 160), 2)):
            frames = sample_frames(size_hw, count)
            class_map, logits = both(found, frames)
            expected, expected_logits = both(single, frames)
            assert class_map.dtype == np.uint8 and logits.dtype == np.float32
            assert (class_map == expected).mean() > 0.97
            np.testing.assert_allclose(logits, expected_logits, atol=0.05)


def test_half_export_that_decides_otherwise_is_refused(
    checkpoint, half, tmp_path, monkeypatch
) -> None:
    monkeypatch.setattr("roadseg.deploy.export.graph_of", lambda *_: onnx.load(half))
    monkeypatch.setitem(LEAST_AGREEMENT, "half", 1.1)
    with pytest.raises(ExportError, match="agrees with PyTorch on"):
        export_onnx(checkpoint, tmp_path / "wrong.onnx", half=True)
    assert not list(tmp_path.iterdir())


# The driver.


def built_driver(folder: Path, **facts: int) -> Path:
    """Compile a library that answers as a driver does."""
    compiler = shutil.which("gcc") or shutil.which("cc")
    if compiler is None:
        pytest.skip("there is no C compiler to make a driver with")
    known = {"GPUS": 1, "MAJOR": 8, "MINOR": 9, "CUDA": 13000, "STATUS": 0, **facts}
    path = folder / "libcuda.so.1"
    defines = [f"-D{name}={value}" for name, value in known.items()]
    source = ROOT / "tests" / "driver.c"
    command = [compiler, "-shared", "-fPIC", *defines, f"-Wl,-soname,{path.name}", str(source)]
    subprocess.run([*command, "-o", str(path)], check=True)
    return path


@pytest.mark.skipif(sys.platform != "linux", reason="the driver is made for Linux")
@pytest.mark.parametrize(
    ("facts", "expected"),
    [
        ({}, Driver((13, 0), (Gpu("NVIDIA Test", (8, 9)),))),
        ({"GPUS": 2, "MAJOR": 12, "MINOR": 0, "CUDA": 13010}, None),
        ({"STATUS": 100}, Driver((13, 0), ())),
    ],
)
def test_driver_names_its_gpus(tmp_path, monkeypatch, facts, expected) -> None:
    monkeypatch.setattr(nvidia, "LIBRARY", str(built_driver(tmp_path, **facts)))
    two = Driver((13, 1), (Gpu("NVIDIA Test", (12, 0)),) * 2)
    assert read_driver() == (expected or two)


@pytest.mark.skipif(sys.platform != "linux", reason="the driver is made for Linux")
def test_driver_that_is_missing_or_does_not_start_is_named(tmp_path, monkeypatch) -> None:
    monkeypatch.setattr(nvidia, "LIBRARY", str(tmp_path / "none.so"))
    with pytest.raises(BackendUnavailable, match=r"no NVIDIA driver .*none\.so.*nvidia-smi"):
        read_driver()
    monkeypatch.setattr(nvidia, "LIBRARY", str(built_driver(tmp_path, STATUS=803)))
    with pytest.raises(BackendUnavailable, match=r"does not start \(CUDA error 803\).*nvidia-smi"):
        read_driver()


# From here on with the provider's package.


@pytest.fixture
def module() -> Any:
    """The backend's module, which needs the provider's package."""
    from roadseg.backends import onnxruntime_rtx

    return onnxruntime_rtx


@pytest.fixture
def in_place_of_gpu() -> Any:
    """ONNX Runtime's CPU, as a device of the kind that the GPU is."""
    import onnxruntime as ort

    return next(d for d in ort.get_ep_devices() if d.ep_name == "CPUExecutionProvider")


@pytest.fixture
def backend(module, in_place_of_gpu, half) -> Iterator[Backend]:
    with closing(module.RtxBackend(half, SPEC, in_place_of_gpu, {}, {})) as opened:
        yield opened


@pytest.mark.rtx
def test_backend_binds_each_shape_once_and_answers_as_onnx_runtime(backend, half) -> None:
    with closing(open_backend(half, "onnxruntime")) as plain:
        for size_hw, count in (((64, 96), 1), ((64, 96), 1), ((96, 160), 2), ((64, 96), 1)):
            frames = sample_frames(size_hw, count)
            for mine, expected in zip(both(backend, frames), both(plain, frames), strict=True):
                assert mine.dtype == expected.dtype
                np.testing.assert_allclose(mine, expected, atol=0.02)
    assert backend._session.cache_info().currsize == 2


@pytest.mark.rtx
def test_answers_are_the_callers_to_keep(backend) -> None:
    frames = sample_frames((64, 96), 3)
    first = backend.run(frames[:1]).class_map
    kept = first.copy()
    backend.run(frames[2:])
    np.testing.assert_array_equal(first, kept)


@pytest.mark.rtx
def test_what_the_runtime_refuses_is_said_in_a_line(backend) -> None:
    with pytest.raises(ModelFileError, match="cannot be run on 1 frames of 96x64") as caught:
        backend.run(np.zeros((1, 64, 96, 4), np.uint8))
    assert "\n" not in str(caught.value)


@pytest.mark.rtx
@pytest.mark.parametrize(
    ("driver", "said"),
    [
        (Driver((13, 0), (ADA,)), None),
        (Driver((13, 2), (Gpu("NVIDIA H100", (9, 0)), ADA)), None),
        (Driver((12, 8), (ADA,)), r"knows CUDA 12\.8, and onnxruntime-rtx needs 13\.0; install"),
        (Driver((13, 0), ()), "finds no GPU"),
        (
            Driver((13, 0), (Gpu("NVIDIA H100", (9, 0)),)),
            r"is for compute capability 8\.6, 8\.9, 12\.0, 12\.1 .* here is NVIDIA H100 "
            r"\(compute capability 9\.0\); use --device cuda",
        ),
        (Driver((13, 0), (Gpu("Tesla T4", (7, 5)),)), r"here is Tesla T4 .*7\.5\)"),
    ],
)
def test_driver_and_gpu_are_judged_before_anything_is_loaded(module, driver, said) -> None:
    fault = module.unfit(driver)
    if said is None:
        assert fault is None
    else:
        assert "\n" not in fault
        assert re.search(said, fault)


@pytest.mark.rtx
def test_model_in_single_precision_is_refused_with_the_command_to_use(module) -> None:
    with pytest.raises(ModelFileError, match=r"single precision.*roadseg export --half"):
        module.open_model(WEIGHTS)


@pytest.mark.rtx
def test_kernels_are_kept_in_the_users_cache_folder(module, tmp_path, monkeypatch) -> None:
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path))
    monkeypatch.setattr(sys, "platform", "linux")
    place = tmp_path / "roadseg" / "tensorrt-rtx"
    assert module.provider_options(cuda_graph=True) == {
        "enable_cuda_graph": "1",
        "nv_runtime_cache_path": str(place),
    }
    assert place.is_dir()
    shutil.rmtree(tmp_path / "roadseg")
    (tmp_path / "roadseg").write_text("a file where the folder would be")
    assert module.provider_options(cuda_graph=False) == {"enable_cuda_graph": "0"}


@pytest.mark.rtx
def test_build_is_of_a_checkpoint_and_says_what_it_is_for(
    module, in_place_of_gpu, checkpoint, half, tmp_path
) -> None:
    from roadseg.deploy import build_onnxruntime_rtx as builder

    record = BuildRecord(
        source_sha256="0" * 64,
        runtime=module.NAME,
        runtime_version="0.5.0",
        device=module.ANY_GPU,
        precision="fp16",
        shape=(1, 64, 96),
    )
    out = tmp_path / "built.onnx"
    source = Source(checkpoint, half, replace(SPEC, build=record), [])
    builder.build(source, out)
    with pytest.raises(ConfigError, match=r"exported model.*give its \.safetensors"):
        builder.build(source._replace(model=half), tmp_path / "no.onnx")
    with pytest.raises(ModelFileError, match=r"compiled for onnxruntime-rtx 0\.5\.0 on compute"):
        open_backend(out, "onnxruntime")
    found = builder.convolutions_on(in_place_of_gpu, out, (1, 64, 96, 3), {})
    convolutions = sum(isinstance(m, torch.nn.Conv2d) for m in network_of(SPEC).modules())
    assert found == {"fp16": convolutions}


REGISTER = """
import ctypes, json, sys
from pathlib import Path
driver, model = sys.argv[1:]
ctypes.CDLL(driver, mode=ctypes.RTLD_GLOBAL)
import onnxruntime_ep_nv_tensorrt_rtx as provider
from roadseg.backends import onnxruntime_rtx
from roadseg.errors import BackendUnavailable
try:
    onnxruntime_rtx.open_model(Path(model))
except BackendUnavailable as error:
    print(json.dumps(str(error)))
"""


@pytest.mark.rtx
@pytest.mark.skipif(sys.platform != "linux", reason="the driver is made for Linux")
@pytest.mark.parametrize("has_nvml", [True, False])
def test_nvidias_library_registers_and_finds_no_gpu_or_says_what_it_lacks(
    tmp_path, half, has_nvml
) -> None:
    driver = built_driver(tmp_path)
    if has_nvml:
        shutil.copy(driver, tmp_path / "libnvidia-ml.so.1")
    done = subprocess.run(
        [sys.executable, "-c", REGISTER, str(driver), str(half)],
        env={
            **os.environ,
            "PYTHONPATH": os.pathsep.join([str(ROOT), *sys.path]),
            "LD_LIBRARY_PATH": os.pathsep.join([str(tmp_path), *provider_folder()]),
        },
        capture_output=True,
        text=True,
        timeout=patience(60),
    )
    assert done.returncode == 0, done.stderr[-3000:]
    said = json.loads(done.stdout.splitlines()[-1])
    if has_nvml:
        assert "takes none of the GPUs that the driver names (NVIDIA Test (compute" in said
    else:
        assert "does not load" in said and "libnvidia-ml.so.1" in said


def provider_folder() -> list[str]:
    import onnxruntime_ep_nv_tensorrt_rtx as provider

    return [str(Path(provider.get_library_path()).parent)]


@pytest.mark.rtx
def test_rtx_takes_the_exported_graph_for_every_generation(half) -> None:
    found = run_rtx("parse", half)
    assert found["errors"] == []
    assert found["outputs"][0] == ["INT32", list(rtx.SHAPE)]
    demand_half(found, HalfSegmenter(network_of(SPEC)))
    assert set(found["engine_bytes"]) == set(rtx.GENERATIONS)
    assert all(found["engine_bytes"].values())


@pytest.mark.gpu
@pytest.mark.rtx
@pytest.mark.parametrize("cuda_graph", [False, True])
def test_gpu_decides_as_the_cpu(module, half, cuda_graph) -> None:
    if fault := module.unfit(read_driver()):
        pytest.skip(fault)
    with (
        closing(open_backend(half, "onnxruntime")) as on_cpu,
        closing(module.open_model(half, cuda_graph=cuda_graph)) as on_gpu,
    ):
        for start in range(3):  # a graph is captured after some runs, and must read new frames
            frames = sample_frames((96, 160), 3)[start : start + 1]
            expected = on_cpu.run(frames).class_map
            assert (on_gpu.run(frames).class_map == expected).mean() > 0.98
