"""TensorRT as far as a machine without a GPU can tell; `test_tensorrt_gpu.py` holds the rest."""

import json
import os
import re
import subprocess
import sys
import warnings
from collections import Counter
from collections.abc import Iterator
from contextlib import closing
from dataclasses import asdict, replace
from pathlib import Path
from typing import Any

import pytest

pytest.importorskip("torch")

import numpy as np
import onnx
import rtx
import torch
import torch.nn.functional as F
from conftest import CHECKPOINT, ROOT, both, patience, sample_frames
from safetensors.numpy import save
from test_half import SPECS, network_of
from torch import Tensor, nn

from roadseg.backends import tensorrt_rtx as rtx_parts
from roadseg.backends.runtimes import CLASS_MAP, LOGITS, Backend, open_backend
from roadseg.backends.tensorrt import TensorRtBackend
from roadseg.backends.tensorrt_engine import EngineRecord, import_nvidia, load_engine, save_engine
from roadseg.backends.torch import open_model as open_torch
from roadseg.deploy.build_tensorrt import build_engine, census, count_precisions
from roadseg.deploy.export import OPSET
from roadseg.errors import BackendUnavailable, ConfigError, ModelFileError, OutputError
from roadseg.models.checkpoint import load_model, save_model
from roadseg.models.half import HalfSegmenter
from roadseg.models.segmenter import Segmenter, normalise
from roadseg.spec import ModelSpec

RECORD = EngineRecord(shape=(2, 96, 160), gpu="NVIDIA L4", capability=(8, 9), tensorrt="11.0.0.114")
SPEC = ModelSpec(arch="unet-lite", width=48, output_stride=2)


class Stub:
    """What an engine is to the backend, computed by PyTorch on the CPU in single precision."""

    def __init__(self, network: nn.Module, shape: tuple[int, int, int]) -> None:
        self._segmenter = Segmenter(network)
        self.frames = torch.zeros(*shape, 3, dtype=torch.uint8)
        self.run()

    def run(self) -> None:
        with torch.inference_mode():
            class_map, self.logits = self._segmenter(self.frames)
        self.class_map = class_map.to(torch.int32)

    def close(self) -> None:
        pass


@pytest.fixture(scope="module")
def backend() -> Iterator[TensorRtBackend]:
    network, spec = load_model(CHECKPOINT)
    with closing(TensorRtBackend(Stub(network, (2, 96, 160)), spec, None)) as opened:
        yield opened


@pytest.fixture(scope="module")
def reference() -> Iterator[Backend]:
    with closing(open_torch(CHECKPOINT)) as opened:
        yield opened


@pytest.mark.parametrize("count", [1, 2, 5])
def test_any_number_of_frames_goes_through_an_engine_of_two(backend, reference, count) -> None:
    frames = sample_frames((96, 160), count)
    class_map, logits = both(backend, frames)
    expected, expected_logits = both(reference, frames)
    assert class_map.dtype == np.uint8 and logits.dtype == np.float32
    np.testing.assert_array_equal(backend.run(frames).class_map, class_map)
    assert (class_map == expected).mean() > 0.9995  # another batch, other sums
    np.testing.assert_allclose(logits, expected_logits, atol=2e-3)


def test_tensors_are_answered_with_tensors(backend) -> None:
    frames = sample_frames((96, 160), 3)
    expected = backend.run(frames, (*CLASS_MAP, *LOGITS))
    found = backend.run(torch.from_numpy(frames), (*CLASS_MAP, *LOGITS)).outputs
    backend.run(frames[::-1])  # what was given stays as it is
    assert found["class_map"].dtype == torch.uint8 and found["logits"].dtype == torch.float32
    np.testing.assert_array_equal(found["class_map"].numpy(), expected.class_map)
    np.testing.assert_array_equal(found["logits"].numpy(), expected.logits)


def test_results_are_the_callers_to_keep(backend) -> None:
    frames = sample_frames((96, 160), 3)
    first = backend.run(frames[:1]).class_map
    kept = first.copy()
    backend.run(frames[2:])
    np.testing.assert_array_equal(first, kept)


def test_frames_need_not_be_contiguous(backend) -> None:
    frames = sample_frames((96, 160), 1)
    mirrored = frames[:, :, ::-1]
    np.testing.assert_array_equal(
        backend.run(mirrored).class_map, backend.run(np.ascontiguousarray(mirrored)).class_map
    )


def test_frames_of_another_size_are_refused_with_the_size_to_use(backend) -> None:
    with pytest.raises(ConfigError, match=r"160x128; .*built for 160x96; use --size 160x96"):
        backend.run(np.zeros((1, 128, 160, 3), np.uint8))


@pytest.fixture
def engine_file(tmp_path: Path) -> Path:
    path = tmp_path / "some.engine"
    save_engine(path, b"not really an engine", RECORD, SPEC)
    return path


def test_engine_file_gives_back_what_went_in_and_nothing_is_run(engine_file) -> None:
    data, record, spec = load_engine(engine_file)
    assert (data.tobytes(), record, spec) == (b"not really an engine", RECORD, SPEC)
    header = json.loads(engine_file.read_bytes()[8:].split(b"}}", 1)[0] + b"}}")
    assert set(header) == {"__metadata__", "engine"}  # text and bytes: no pickle


@pytest.mark.parametrize(
    ("change", "said"),
    [
        ({"gpu": "NVIDIA T4"}, r"built for NVIDIA L4 .* this machine has NVIDIA T4"),
        ({"capability": (9, 0)}, r"capability 8\.9\).* this machine has .* capability 9\.0\)"),
        ({"tensorrt": "11.1.0.7"}, r"TensorRT 11\.0\.0\.114; this machine has .* 11\.1\.0\.7"),
        ({"library": "tensorrt_rtx"}, r"this machine has .* and TensorRT-RTX 11"),
    ],
)
def test_engine_of_another_machine_is_refused_untouched(
    engine_file, monkeypatch, change, said
) -> None:
    def here(shape: tuple[int, int, int]) -> EngineRecord:
        return replace(RECORD, shape=shape, **change)

    monkeypatch.setattr(EngineRecord, "here", here)
    # Had TensorRT been asked to read it, the error would be that there is none.
    for reads in (lambda: open_backend(engine_file), lambda: census(engine_file)):
        with pytest.raises(ModelFileError, match=said):
            reads()


@pytest.mark.parametrize(
    ("header", "said"),
    [
        ({}, "not built by roadseg"),
        ({"engine": "{}"}, "not built by roadseg"),
        ({"roadseg": SPEC.to_json(), "engine": "{"}, "damaged engine record"),
        ({"roadseg": SPEC.to_json(), "engine": '{"format": 1}'}, "damaged engine record"),
        ({"roadseg": SPEC.to_json(), "engine": '{"format": 9}'}, "engine format 9"),
        ({"roadseg": "[]", "engine": json.dumps(asdict(RECORD))}, "damaged roadseg record"),
    ],
)
def test_foreign_and_damaged_engine_files_are_refused(tmp_path, header, said) -> None:
    path = tmp_path / "foreign.engine"
    path.write_bytes(save({"engine": np.zeros(4, np.uint8)}, header))
    with pytest.raises(ModelFileError, match=said):
        load_engine(path)


@pytest.mark.parametrize("content", [b"", b"ftrt" * 100])
def test_bare_engine_is_refused(tmp_path, content) -> None:
    path = tmp_path / "bare.engine"
    path.write_bytes(content)
    with pytest.raises(ModelFileError, match="no engine file"):
        open_backend(path)


def test_machine_without_a_gpu_is_told_what_is_missing(engine_file, tmp_path) -> None:
    if torch.cuda.is_available():
        pytest.skip("there is a GPU here")
    out = tmp_path / "new.engine"
    made_for = rf"made for CUDA {torch.version.cuda}" if torch.version.cuda else "build for the CPU"
    for reads in (
        lambda: open_backend(engine_file),
        lambda: census(engine_file),
        lambda: build_engine(network_of(SPECS["unet"]), SPECS["unet"], (1, 64, 96), out),
    ):
        with pytest.raises(BackendUnavailable, match=rf"no NVIDIA GPU.*{made_for}.*install"):
            reads()
    assert not out.exists()


# What it raised without its libraries, without a driver, with PyTorch's CPU build, without CUDA.
FAILURES = [
    "Exception('import error when try to import _TensorRTProxyModule, got error no libnvinfer')",
    "RuntimeError('Found no NVIDIA driver on your system.\\nPlease check')",
    "AssertionError('Torch not compiled with CUDA enabled')",
    "ImportError('libcudart.so.13: cannot open shared object file')",
]


@pytest.mark.parametrize("failure", FAILURES)
def test_whatever_the_import_raises_becomes_ours(tmp_path, monkeypatch, failure) -> None:
    (tmp_path / "torch_tensorrt.py").write_text(f"raise {failure}\n")
    monkeypatch.syspath_prepend(tmp_path)
    monkeypatch.delitem(sys.modules, "torch_tensorrt", raising=False)
    monkeypatch.setattr(torch.cuda, "is_available", lambda: True)
    kind, text = failure.split("(", 1)
    said = rf"torch_tensorrt does not load here \({kind}: {text[1:12]}.*pip install.*nvidia-smi"
    with pytest.raises(BackendUnavailable, match=said) as caught:
        import_nvidia("torch_tensorrt")
    assert "\n" not in str(caught.value)


# As in NVIDIA's notes on moving from TensorRT 10 to 11: the type has got a field of its own.
LAYERS: list[dict[str, Any]] = [
    {"Outputs": [{"DataType": "Half", "Format": "Channel major FP16 format"}]},
    {"Outputs": [{"DataType": "Float", "Format": "Row major linear FP32 format (kLINEAR)"}]},
    {"Outputs": [{"Format/Datatype": "Channel major FP16 format where channel % 8 == 0"}]},
    {"Outputs": [{"Format/Datatype": "Thirty-two wide channel vectorized row major Int8 format."}]},
    {"Outputs": [{"Format/Datatype": "N/A due to dynamic shapes"}]},
    {"Outputs": [{"DataType": "Int32"}, {"DataType": "Half"}]},
    {"Outputs": []},
]


def test_layers_are_counted_by_precision_in_the_words_of_either_version() -> None:
    assert count_precisions(LAYERS) == {
        "fp16": 2,
        "fp32": 1,
        "int8": 1,
        "int32": 1,
        "unknown": 1,
    }


# From here on: NVIDIA's TensorRT-RTX, which parses and builds without a GPU.


def run_rtx(*arguments: str | Path) -> dict[str, Any]:
    done = subprocess.run(
        [sys.executable, str(ROOT / "tests" / "rtx.py"), *map(str, arguments)],
        cwd=ROOT,
        env={**os.environ, "PYTHONPATH": os.pathsep.join([str(ROOT), *sys.path])},
        capture_output=True,
        text=True,
        timeout=patience(110),
    )
    assert done.returncode == 0, done.stderr[-3000:]
    return {**json.loads(done.stdout.splitlines()[-1]), "stderr": done.stderr}


def parse(segmenter: nn.Module, tmp_path: Path) -> dict[str, Any]:
    """What TensorRT-RTX makes of a module, given as ONNX."""
    frames = torch.zeros(*rtx.SHAPE, 3, dtype=torch.uint8)
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # the exporter's notes on its own deprecations
        program = torch.onnx.export(
            segmenter.eval(), (frames,), opset_version=OPSET, dynamo=True, verbose=False
        )
    path = tmp_path / "graph.onnx"
    onnx.save(program.model_proto, path)
    return run_rtx("parse", path)


def types_of(kinds: tuple[str, ...], found: dict[str, Any]) -> set[str]:
    return {type_ for kind, type_ in found["layers"] if kind in kinds}


def demand_half(found: dict[str, Any], network: nn.Module) -> None:
    """Assert that every convolution is there and in half precision, like what joins them."""
    counts = Counter(kind for kind, _ in found["layers"])
    for kind, module in (("CONVOLUTION", nn.Conv2d), ("DECONVOLUTION", nn.ConvTranspose2d)):
        assert counts[kind] == sum(isinstance(m, module) for m in network.modules())
    heavy = ("CONVOLUTION", "DECONVOLUTION", "ACTIVATION", "POOLING", "RESIZE", "CONCATENATION")
    assert types_of(heavy[:2], found) == {"HALF"}
    assert types_of(heavy, found) <= {"HALF", "INT32", "INT64"}  # shapes are joined as integers
    singles = Counter(kind for kind, type_ in found["layers"] if type_ == "FLOAT")
    most = {"CAST": 2, "ELEMENTWISE": 2, "SHUFFLE": 3, "CONSTANT": 2, "SLICE": 2, "REDUCE": 1}
    assert singles <= Counter(most)  # the frames, and DeepLab's mean over the picture


@pytest.mark.rtx
@pytest.mark.parametrize("spec", SPECS.values(), ids=SPECS)
def test_rtx_takes_the_half_graph_for_every_generation(tmp_path, spec) -> None:
    network = network_of(spec)
    found = parse(HalfSegmenter(network), tmp_path)
    assert found["errors"] == []
    stride = spec.output_stride
    batch, height, width = rtx.SHAPE
    assert found["inputs"] == [["UINT8", [batch, height, width, 3]]]
    assert found["outputs"] == [
        ["INT32", [batch, height, width]],
        ["HALF", [batch, 11, height // stride, width // stride]],
    ]
    demand_half(found, network)
    assert set(found["engine_bytes"]) == set(rtx.GENERATIONS)
    assert all(found["engine_bytes"].values())


class Single(nn.Module):
    """The graph as it would be without care for types: what `enabled_precisions` leaves in FP32."""

    def __init__(self, network: nn.Module) -> None:
        super().__init__()
        self.network = network

    def forward(self, frames: Tensor) -> Tensor:
        x = (frames.float() - 127) / 128
        logits = self.network(x.permute(0, 3, 1, 2))
        return F.interpolate(logits, size=frames.shape[1:3], mode="bilinear").argmax(dim=1)


@pytest.mark.rtx
def test_census_finds_a_graph_in_single_precision_out(tmp_path) -> None:
    network = network_of(SPECS["unet"])
    found = parse(Single(network), tmp_path)
    assert found["errors"] == [] and types_of(("CONVOLUTION",), found) == {"FLOAT"}
    with pytest.raises(AssertionError, match="FLOAT"):
        demand_half(found, network)


class Antialiased(HalfSegmenter):
    def forward(self, frames: Tensor) -> Tensor:
        x = frames.float().permute(0, 3, 1, 2)
        small = F.interpolate(x, size=(64, 96), mode="bilinear", antialias=True)
        return self.network(small.half())


class PermutedFirst(HalfSegmenter):
    def forward(self, frames: Tensor) -> Tensor:
        return self.network(normalise(frames).half())


@pytest.mark.rtx
@pytest.mark.parametrize(
    ("wrapper", "said"),
    [(Antialiased, "Antialiasing is not supported"), (PermutedFirst, "input has type UInt8")],
)
def test_rtx_refuses_what_tensorrt_cannot_do(tmp_path, wrapper, said) -> None:
    found = parse(wrapper(network_of(SPECS["unet"])), tmp_path)
    assert said in " ".join(found["errors"])


@pytest.mark.rtx
@pytest.mark.parametrize("spec", SPECS.values(), ids=SPECS)
def test_builder_goes_through_torch_tensorrt_to_an_engine(tmp_path, spec) -> None:
    network = network_of(spec)
    model, out = tmp_path / "model.safetensors", tmp_path / "out.engine"
    save_model(model, network, spec)
    found = run_rtx("convert", model, out)
    assert found["torch_tensorrt"].startswith("2.13.")
    assert [type_ for type_, _ in found["inputs"]] == ["UINT8"]
    assert [type_ for type_, _ in found["outputs"]] == ["INT32", "HALF"]
    demand_half(found, network)
    assert found["verbosity"] == "DETAILED"  # or the census would have names of layers alone
    assert found["root_logger_kept"]
    data, record, stored = load_engine(out)
    weights = sum(p.numel() for p in network.parameters())
    assert len(data) > weights  # two bytes each, less what is compressed
    assert (record.shape, record.capability) == (rtx.SHAPE, (8, 9))
    assert record.library == "tensorrt_rtx"
    assert found["targets"] == [f"SM{major}{minor}" for major, minor in record.capabilities]
    assert record.capabilities == rtx_parts.PORTABLE
    assert stored == replace(spec, size_hw=rtx.SHAPE[1:])
    assert "out.engine is refused by TensorRT-RTX 1.7.1" in found["refusal"]  # it has no driver


@pytest.mark.rtx
def test_what_does_not_convert_is_refused_in_a_line_and_nothing_is_left(tmp_path) -> None:
    model, out = tmp_path / "model.safetensors", tmp_path / "out.engine"
    save_model(model, network_of(SPECS["unet"]), SPECS["unet"])
    found = run_rtx("refuse", model, out)
    assert re.search(r"refuses the network \(.*_upsample_bilinear2d_aa", found["error"])
    assert "\n" not in found["error"] and "Traceback" not in found["stderr"]
    assert [p.name for p in tmp_path.iterdir()] == ["model.safetensors"]


@pytest.mark.rtx
def test_the_real_import_fails_as_expected_and_becomes_ours(monkeypatch) -> None:
    if torch.cuda.is_available():
        pytest.skip("there is a GPU here")
    monkeypatch.setattr(torch.cuda, "is_available", lambda: True)
    with pytest.raises(BackendUnavailable, match=r"torch_tensorrt does not load here \("):
        import_nvidia("torch_tensorrt")


@pytest.mark.parametrize("required", [False, True])
def test_want_of_a_gpu_skips_with_the_reason_or_fails_on_demand(required) -> None:
    if torch.cuda.is_available():
        pytest.skip("there is a GPU here")
    done = subprocess.run(
        [sys.executable, "-m", "pytest", "-p", "no:cacheprovider", "tests/test_tensorrt_gpu.py"],
        cwd=ROOT,
        env={**os.environ, "ROADSEG_REQUIRE_TENSORRT": str(int(required)), "PYTHONPATH": str(ROOT)},
        capture_output=True,
        text=True,
        timeout=patience(100),
    )
    assert ("passed" not in done.stdout) and ("skipped" in done.stdout) == (not required)
    assert ("failed" in done.stdout or "error" in done.stdout) == required
    assert "PyTorch finds no NVIDIA GPU here" in done.stdout
    assert done.returncode == int(required)


def test_engine_that_cannot_be_written_is_refused(tmp_path) -> None:
    with pytest.raises(OutputError, match="cannot be written"):
        save_engine(tmp_path / "no" / "folder.engine", b"", RECORD, SPEC)
