"""One suite that every runtime passes: the same decisions as PyTorch, on real frames."""

import json
import os
import shutil
import subprocess
import sys
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import ExitStack, closing
from pathlib import Path

import pytest

pytest.importorskip("torch")

import numpy as np
import onnx
import torch
from conftest import CHECKPOINT, WEIGHTS, both, patience, sample_frames
from numpy.typing import NDArray

from roadseg.backends.onnx_record import read_metadata
from roadseg.backends.runtimes import (
    BACKENDS,
    CLASS_MAP,
    LOGITS,
    Backend,
    Runtime,
    open_backend,
    replicas_for,
    suited,
)
from roadseg.backends.torch import open_reference
from roadseg.backends.torch_compiled import COMPILERS
from roadseg.backends.weights import shipped_model
from roadseg.deploy.export import LEAST_AGREEMENT, export_onnx
from roadseg.errors import BackendUnavailable, ExportError, ModelFileError, OutputError
from roadseg.models.architectures import build_model
from roadseg.models.checkpoint import save_model
from roadseg.models.half import HalfSegmenter
from roadseg.models.segmenter import enlarge
from roadseg.spec import ModelSpec


@pytest.fixture(scope="module")
def frames() -> NDArray[np.uint8]:
    return sample_frames((320, 576), 3)


@pytest.fixture(scope="module")
def reference() -> Iterator[Backend]:
    """PyTorch on the CPU, where it computes in FP32 whatever else the machine has."""
    with closing(open_reference(CHECKPOINT)) as backend:
        yield backend


# What runs on a GPU alone has tests of its own: test_tensorrt*.py and test_onnxruntime_rtx.py.
ON_GPU = ("tensorrt", "onnxruntime-rtx")


@pytest.fixture(scope="module")
def exported(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The checkpoint as ONNX in single precision; the one that is included is rounded once more."""
    path = tmp_path_factory.mktemp("exported") / "single.onnx"
    export_onnx(CHECKPOINT, path)
    return path


@pytest.fixture(params=[name for name in BACKENDS if name not in ON_GPU], scope="module")
def backend(request: pytest.FixtureRequest, exported: Path) -> Iterator[Backend]:
    files = {file.suffix: file for file in (exported, CHECKPOINT)}
    readable = [files[s] for s in BACKENDS[request.param].suffixes if s in files]
    pytest.importorskip(BACKENDS[request.param].module)
    if request.param == "torch-compiled" and not any(map(shutil.which, COMPILERS)):
        pytest.skip("there is no C++ compiler")
    with closing(open_backend(readable[0], request.param)) as opened:
        yield opened


def is_half(backend: Backend) -> bool:
    """Whether a backend computes in half precision, as PyTorch does on a GPU."""
    return isinstance(getattr(backend, "segmenter", None), HalfSegmenter)


def test_reference_is_in_single_precision_on_the_cpu(reference) -> None:
    kinds = {(p.device.type, p.dtype) for p in reference.segmenter.parameters()}
    assert kinds == {("cpu", torch.float32)}


def test_decides_as_pytorch_does(backend, reference, frames) -> None:
    expected = reference.run(frames).class_map
    found = backend.run(frames).class_map
    assert found.dtype == np.uint8 and found.shape == frames.shape[:3]
    least = 0.998 if is_half(backend) else 0.9995  # rounding flips a few pixels along edges
    assert (found == expected).mean() > least


def test_logits_are_those_of_pytorch(backend, reference, frames) -> None:
    class_map, logits = both(backend, frames)
    expected = reference.run(frames, LOGITS).logits
    assert logits.dtype == np.float32 and logits.flags.c_contiguous
    assert logits.shape == (3, 11, *(s // backend.spec.output_stride for s in frames.shape[1:3]))
    tolerance = 0.1 if is_half(backend) else 2e-3  # of some 20; sums are in another order
    np.testing.assert_allclose(logits, expected, atol=tolerance)
    decided = enlarge(torch.from_numpy(logits), frames.shape[1:3]).argmax(dim=1).numpy()
    assert (class_map == decided).mean() > 0.9995


@pytest.mark.parametrize("name", ["onnxruntime", "openvino"])
def test_copies_with_a_thread_each_decide_as_one_with_all_cores(name, frames) -> None:
    pytest.importorskip(BACKENDS[name].module)
    with (
        closing(open_backend(WEIGHTS, name)) as whole,
        closing(open_backend(WEIGHTS, name, threads=1)) as first,
        closing(open_backend(WEIGHTS, name, threads=1)) as second,
        ThreadPoolExecutor(2) as pool,
    ):
        maps = pool.map(lambda backend: backend.run(frames).class_map, (first, second))
        assert all((m == whole.run(frames).class_map).mean() > 0.9995 for m in maps)


def test_runtime_that_is_not_divisible_takes_no_notice_of_threads(frames) -> None:
    with closing(open_backend(CHECKPOINT, "torch", threads=1)) as backend:
        assert backend.run(frames[:1]).class_map.shape == (1, 320, 576)


@pytest.mark.parametrize(
    ("cores", "name", "replicas"),
    [
        (1, "onnxruntime", (1, 1)),
        (2, "onnxruntime", (2, 1)),
        (2, "openvino", (2, 1)),
        (16, "auto", (8, 2)),
        (6, "onnxruntime", (6, 1)),
        (8, "torch", (1, None)),
    ],
)
def test_replicas_share_the_cores_where_the_runtime_can(monkeypatch, cores, name, replicas) -> None:
    monkeypatch.setattr("roadseg.backends.runtimes.core_count", lambda _most: cores)
    monkeypatch.setattr("roadseg.backends.runtimes.memory_bytes", lambda: 64 << 30)
    assert replicas_for(CHECKPOINT if name == "torch" else WEIGHTS, name) == replicas


@pytest.mark.parametrize(("memory_gib", "replicas"), [(0.25, (1, None)), (2, (3, 3)), (64, (8, 1))])
def test_little_memory_holds_few_replicas(monkeypatch, memory_gib, replicas) -> None:
    monkeypatch.setattr("roadseg.backends.runtimes.core_count", lambda _most: 8)
    monkeypatch.setattr(
        "roadseg.backends.runtimes.memory_bytes", lambda: int(memory_gib * (1 << 30))
    )
    assert replicas_for(WEIGHTS, "onnxruntime") == replicas


@pytest.mark.parametrize("size", [(32, 32), (96, 160), (384, 512)])
@pytest.mark.parametrize("batch", [1, 3])
def test_takes_any_batch_and_size(backend, reference, size, batch, request) -> None:
    if "torch-compiled" in request.node.callspec.id:
        pytest.skip("each shape is compiled for half a minute, and PyTorch's tests do that")
    noise = np.random.default_rng(0).integers(0, 256, (batch, *size, 3), np.uint8)
    agreement = (backend.run(noise).class_map == reference.run(noise).class_map).mean()
    assert agreement > (0.99 if is_half(backend) else 0.999)  # noise is undecided everywhere


def test_carries_its_record(backend) -> None:
    assert backend.spec.arch == "unet-lite"
    assert len(backend.spec.class_names) == len(backend.spec.palette) == 11
    assert backend.spec.metrics["val"]["miou"] >= 0.65
    assert backend.spec.training["mean_of"][1]["seed"] == 11  # experiment 31


def test_sees_road_and_sky_where_they_are(backend, frames) -> None:
    class_maps = backend.run(frames).class_map
    assert (class_maps[:, 290:310, 200:380] == 3).mean() > 0.9
    assert (class_maps[:, 20:60, 200:380] == 0).mean() > 0.9


@pytest.mark.parametrize("content", [b"", b"hello"])
def test_file_that_is_no_model_is_refused(tmp_path, content) -> None:
    for suffix in (".onnx", ".safetensors"):
        path = tmp_path / f"bad{suffix}"
        path.write_bytes(content)
        with pytest.raises(ModelFileError, match=f"bad{suffix}"):
            open_backend(path)


@pytest.mark.skipif(sys.platform != "linux", reason="needs a file that the system does not give")
def test_model_file_that_the_system_does_not_give_is_refused(tmp_path) -> None:
    path = tmp_path / "held.safetensors"
    path.symlink_to("/proc/self/mem")
    with pytest.raises(ModelFileError, match=r"held\.safetensors cannot be read"):
        open_backend(path)


@pytest.mark.skipif(sys.platform != "linux", reason="others have no such names")
def test_model_whose_name_is_not_utf8_is_to_be_renamed(tmp_path) -> None:
    path = tmp_path / os.fsdecode(b"roads\xff.onnx")
    path.write_bytes(WEIGHTS.read_bytes())
    with pytest.raises(ModelFileError, match=r"has a name that is not UTF-8, .*; rename the file"):
        open_backend(path, "onnxruntime")


def test_foreign_onnx_model_is_refused(tmp_path) -> None:
    node = onnx.helper.make_node("Identity", ["x"], ["y"])
    x, y = (onnx.helper.make_tensor_value_info(n, onnx.TensorProto.FLOAT, [1]) for n in "xy")
    graph = onnx.helper.make_graph([node], "g", [x], [y])
    path = tmp_path / "foreign.onnx"
    onnx.save(onnx.helper.make_model(graph, opset_imports=[onnx.helper.make_opsetid("", 18)]), path)
    with pytest.raises(ModelFileError, match=r"was not made by roadseg; .* adopt"):
        open_backend(path)


def test_missing_file_unknown_suffix_and_unknown_runtime_are_refused(tmp_path) -> None:
    with pytest.raises(ModelFileError, match="does not exist"):
        open_backend(tmp_path / "none.onnx")
    with pytest.raises(ModelFileError, match="no known suffix"):
        open_backend(tmp_path / "model.pth")
    with pytest.raises(BackendUnavailable, match="onnxruntime, onnxruntime-rtx, openvino, torch"):
        open_backend(WEIGHTS, "tpu")
    with pytest.raises(ModelFileError, match=r"reads \.safetensors"):
        open_backend(WEIGHTS, "torch")


def test_runtime_that_is_not_installed_says_how_to_get_it(monkeypatch) -> None:
    entry = Runtime((".onnx",), "roadseg.backends.absent_backend", "pip install absent")
    monkeypatch.setitem(BACKENDS, "absent", entry)
    with pytest.raises(BackendUnavailable, match="run: pip install absent"):
        open_backend(WEIGHTS, "absent")


def test_exported_file_is_self_contained_and_says_what_it_is() -> None:
    model = onnx.load(WEIGHTS)
    onnx.checker.check_model(model)
    assert [i.name for i in model.graph.input] == ["frames"]
    assert [o.name for o in model.graph.output] == ["class_map", "logits"]
    element_types = [
        v.type.tensor_type.elem_type for v in (*model.graph.input, *model.graph.output)
    ]
    assert element_types == [onnx.TensorProto.UINT8, onnx.TensorProto.UINT8, onnx.TensorProto.FLOAT]
    assert not any(tensor.external_data for tensor in model.graph.initializer)
    record = {p.key: p.value for p in model.metadata_props}["roadseg"]
    assert json.loads(record)["class_names"][3] == "road"
    assert WEIGHTS.stat().st_size < 25e6


def test_committed_export_is_that_of_the_committed_checkpoint(tmp_path) -> None:
    spec = export_onnx(CHECKPOINT, tmp_path / "again.onnx", "half")
    assert isinstance(spec, ModelSpec)
    again, committed = onnx.load(tmp_path / "again.onnx"), onnx.load(WEIGHTS)
    assert again.metadata_props == committed.metadata_props
    weights, expected = (
        sorted(onnx.numpy_helper.to_array(t).tobytes() for t in model.graph.initializer)
        for model in (again, committed)
    )
    assert weights == expected


def test_unwritable_export_is_refused(tmp_path) -> None:
    with pytest.raises(OutputError, match="cannot be written"):
        export_onnx(CHECKPOINT, tmp_path / "no" / "folder.onnx")


def test_export_that_decides_otherwise_is_refused(tmp_path, monkeypatch) -> None:
    model = tmp_path / "tiny.safetensors"
    spec = ModelSpec(arch="unet", width=4, size_hw=(32, 64), output_stride=1)
    save_model(model, build_model(spec), spec)
    export_onnx(model, tmp_path / "fine.onnx")
    monkeypatch.setitem(LEAST_AGREEMENT, "single", 1.1)
    with pytest.raises(ExportError, match="agrees with PyTorch on"):
        export_onnx(model, tmp_path / "wrong.onnx")
    assert sorted(p.name for p in tmp_path.iterdir()) == ["fine.onnx", "tiny.safetensors"]


def test_shipped_files_stay_small() -> None:
    assert all(Path(f).stat().st_size < 25e6 for f in (WEIGHTS, CHECKPOINT))


def test_metadata_are_those_that_onnx_reads(tmp_path) -> None:
    expected = {p.key: p.value for p in onnx.load(WEIGHTS).metadata_props}
    assert read_metadata(WEIGHTS) == expected
    assert read_metadata(tmp_path / "none.onnx") == {}
    for content in (b"", b"hello", WEIGHTS.read_bytes()[:1000], bytes(range(256))):
        (tmp_path / "bad.onnx").write_bytes(content)
        assert read_metadata(tmp_path / "bad.onnx") == {}


def test_metadata_without_a_value_hide_no_others(tmp_path) -> None:
    model = onnx.load(WEIGHTS)
    expected = {"empty": "", "roadseg": model.metadata_props[0].value}
    onnx.helper.set_model_props(model, expected)
    onnx.save(model, tmp_path / "model.onnx")
    assert read_metadata(tmp_path / "model.onnx") == expected


def test_limit_on_cpu_time_is_kept_by_runtimes_that_know_nothing_of_it(monkeypatch) -> None:
    for limit, asked, taken in ((None, None, 0), (3, None, 3), (3, 2, 2)):
        monkeypatch.setattr("roadseg.backends.runtimes.limited_cores", lambda n=limit: n)
        with closing(open_backend(WEIGHTS, "onnxruntime", asked)) as backend:
            assert backend._threads == taken


def test_model_in_8_bits_goes_to_openvino_where_it_is_installed(monkeypatch) -> None:
    pytest.importorskip("roadseg.backends.openvino")
    assert suited(shipped_model("fp32")) == "onnxruntime"
    assert suited(shipped_model("int8")) == "openvino"
    monkeypatch.setattr("roadseg.backends.runtimes.find_spec", lambda _name: None)
    assert suited(shipped_model("int8")) == "onnxruntime"


SIGNAL_STACK = """
import ctypes, sys
from pathlib import Path
import numpy as np
from roadseg.backends.runtimes import open_backend

def signal_stack():
    words = (ctypes.c_size_t * 3)()  # stack_t: base, flags, size
    ctypes.CDLL(None).sigaltstack(None, words)
    return list(words)

before = signal_stack()
frames = np.zeros((1, 32, 32, 3), np.uint8)
first, second = (open_backend(Path(sys.argv[1]), "openvino") for _ in range(2))
first.run(frames), second.run(frames)
assert signal_stack() == before
first.close(), second.close()
assert signal_stack() == before
"""


@pytest.mark.parametrize(
    "code",
    [
        f"import roadseg; roadseg.load('{WEIGHTS}')",
        "from roadseg.measure import roofline",
        "from roadseg.measure.plain_loop import plain_loop; plain_loop()",
        "from roadseg.deploy import build_onnxruntime",
        "from roadseg.deploy import adopt_onnx",
    ],
)
def test_onnxruntime_keeps_and_reports_nothing(code, tmp_path) -> None:
    """What it is to report it queues in the user's cache folder, beside an identifier."""
    reporting = ("CI", "ORT_", "XDG_", "PYTEST_", "GITHUB_", "BUILD_")  # as on a user's machine
    env = {name: value for name, value in os.environ.items() if not name.startswith(reporting)}
    home = {"HOME": str(tmp_path)}
    subprocess.run([sys.executable, "-c", code], check=True, env={**env, **home})
    assert list(tmp_path.iterdir()) == []


def test_model_of_openvino_without_its_weights_says_where_they_belong(tmp_path) -> None:
    ov = pytest.importorskip("roadseg.backends.openvino_silent").ov
    path = tmp_path / "alone.xml"
    ov.save_model(ov.Core().read_model(WEIGHTS), path)
    path.with_suffix(".bin").unlink()
    with pytest.raises(ModelFileError, match=r"put its weights beside it as alone\.bin"):
        open_backend(path)


def test_openvino_keeps_few_of_the_shapes_that_come() -> None:
    openvino = pytest.importorskip("roadseg.backends.openvino")
    kept = openvino.REQUESTS_KEPT
    with closing(open_backend(WEIGHTS, "openvino", 1)) as backend:
        shapes = [(1, 32, 32 * count, 3) for count in range(1, kept + 3)]
        runs = [backend.run(np.full(shape, 90, np.uint8)).class_map for shape in shapes]
        assert backend._ready.cache_info().currsize == kept
        again = backend.run(np.full(shapes[0], 90, np.uint8)).class_map
    assert np.array_equal(again, runs[0])


def test_copies_of_a_model_are_compiled_once_by_openvino(monkeypatch) -> None:
    openvino = pytest.importorskip("roadseg.backends.openvino")
    compiled, compile_model = [], openvino.ov.Core.compile_model

    def counted(*args) -> object:
        compiled.append(args)
        return compile_model(*args)

    monkeypatch.setattr(openvino.ov.Core, "compile_model", counted)
    frames = np.full((1, 64, 96, 3), 90, np.uint8)
    with ThreadPoolExecutor(3) as threads, ExitStack() as stack:
        copies = [
            stack.enter_context(closing(open_backend(WEIGHTS, "openvino", 1))) for _ in range(3)
        ]
        answers = list(threads.map(lambda copy: copy.run(frames, LOGITS).logits, copies))
        assert len(compiled) == 1
        assert all((answer == answers[0]).all() for answer in answers)
        copies[0].run(frames, CLASS_MAP)  # the same shape, but another output
        assert len(compiled) == 2
    with closing(open_backend(WEIGHTS, "openvino", 1)) as backend:
        backend.run(frames, LOGITS)
        assert len(compiled) == 3  # with the copies, what was compiled is gone


@pytest.mark.skipif(sys.platform != "linux", reason="it is a matter of Linux's C library")
def test_openvino_leaves_no_freed_stack_to_signal_handlers() -> None:
    pytest.importorskip("roadseg.backends.openvino")
    command = [sys.executable, "-X", "faulthandler", "-c", SIGNAL_STACK, str(WEIGHTS)]
    done = subprocess.run(command, capture_output=True, text=True, timeout=patience(60))
    assert done.returncode == 0, done.stderr


CALLS = """
import sys
from pathlib import Path

calls = []
sys.addaudithook(lambda event, _: calls.append(event) if event in (
    "os.fork", "os.posix_spawn", "subprocess.Popen", "socket.connect", "socket.getaddrinfo") else 0)

from roadseg.backends.openvino_silent import ov
from roadseg.backends.runtimes import open_backend

open_backend(Path(sys.argv[1]), "openvino").close()
from openvino.tools.ovc import telemetry  # would have been made by the import

telemetry.send_event("ov", "import", "general_import")
assert "openvino_telemetry" not in sys.modules
assert not calls, calls
"""


def test_openvino_reports_nothing_and_forks_no_process(tmp_path) -> None:
    pytest.importorskip("roadseg.backends.openvino")
    done = subprocess.run(
        [sys.executable, "-c", CALLS, str(WEIGHTS)],
        env=os.environ | {"HOME": str(tmp_path), "CI": "false"},  # it is silent in CI anyway
        capture_output=True,
        text=True,
        timeout=patience(60),
    )
    assert done.returncode == 0, done.stderr
    assert not (tmp_path / "intel").exists()  # where it keeps who has consented
