"""What measures GPUs, on CPU tensors, with a stand-in where CUDA and its driver begin."""

import contextlib
import re
import sys
from dataclasses import replace
from io import StringIO
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest

pytest.importorskip("torch")

import numpy as np
import torch
from browser import CHROMIUM, browser
from conftest import CHECKPOINT, SAMPLE, WEIGHTS, sample_frames
from gpus import FACTS, TICK_MS, HostGpu, Nvml, gpu_case, gpu_record
from rich.console import Console
from typer.testing import CliRunner

from roadseg.backends.runtimes import BACKENDS, open_backend
from roadseg.backends.torch import open_reference
from roadseg.cli import app
from roadseg.cli.bench_tables import tables
from roadseg.errors import BackendUnavailable
from roadseg.measure import cases, jobs
from roadseg.measure import testbed as beds
from roadseg.measure.advice import advice_on
from roadseg.measure.bench_page import bench_page
from roadseg.measure.config import BenchConfig, Scenario
from roadseg.measure.gpu_cuda import TIMES, Cuda, ceilings
from roadseg.measure.gpu_meter import GpuMeter, gpu_meter
from roadseg.measure.model_cuda import IN_FLIGHT, PARTS, Lanes, Queries, time_on_gpu
from roadseg.measure.results import metrics_of
from roadseg.measure.roofline import work_of
from roadseg.measure.roofline_cuda import layers_of
from roadseg.measure.targets import ceilings as bounds
from roadseg.measure.targets import changes, differences

SIZE_HW = (64, 96)


@pytest.fixture
def lanes() -> Lanes:
    return Lanes(open_reference(CHECKPOINT), HostGpu(), (2, *SIZE_HW), depth=3)


def test_calls_under_way_come_back_in_order_with_their_own_answers(lanes) -> None:
    frames = sample_frames(SIZE_HW, 6)
    reference = open_reference(CHECKPOINT)
    for start in (0, 2, 4):
        lanes.send(frames[start : start + 2])
    assert lanes.under_way == 3
    for start in (0, 2, 4):
        taken, class_map = lanes.wait()
        assert taken == dict.fromkeys(PARTS, TICK_MS)  # each between its own two events
        expected = reference.run(frames[start : start + 2]).class_map
        np.testing.assert_array_equal(class_map, expected)


def test_runtime_that_takes_frames_from_the_cpu_alone_is_timed_too() -> None:
    frames = sample_frames(SIZE_HW, 2)
    with contextlib.closing(open_backend(WEIGHTS, "onnxruntime")) as backend:
        lanes = Lanes(backend, HostGpu(), (2, *SIZE_HW), depth=1, on_device=False)
        lanes.send(frames)
        taken, class_map = lanes.wait()
        assert set(taken) == set(PARTS)
        np.testing.assert_array_equal(class_map, backend.run(frames).class_map)


def test_each_part_of_a_call_waits_for_the_one_before_it(lanes) -> None:
    lanes.send(sample_frames(SIZE_HW, 2))
    (slot,) = lanes._sent
    waited = {part: stream.waited_for for part, stream in lanes._streams.items()}
    ends = {part: done for part, (_, done) in slot.events.items()}
    assert waited == {"copy_in": [], "compute": [ends["copy_in"]], "copy_out": [ends["compute"]]}


@pytest.mark.parametrize(
    ("scenario", "calls", "left"), [("single", 1, 0), ("streams=6", 3, 0), ("offline", 1, 3)]
)
def test_scenarios_send_as_mlperf_says(scenario, calls, left) -> None:
    lanes = Lanes(open_reference(CHECKPOINT), HostGpu(), (2, *SIZE_HW), depth=IN_FLIGHT)
    queries = Queries(lanes, Scenario.parse(scenario), [sample_frames(SIZE_HW, 2)])
    for _ in range(5):
        queries.ask()
    assert (queries.calls, lanes.under_way) == (calls, left)
    assert len(queries.parts) == 5 * calls - left


def timed(scenario: str, meter: GpuMeter | None, inputs: Path) -> dict[str, Any]:
    np.save(inputs, sample_frames(SIZE_HW, 3))
    return time_on_gpu(
        HostGpu(),
        meter,
        weights=str(CHECKPOINT),
        backend="torch",
        cuda_graph=None,
        inputs=str(inputs),
        batch=2,
        scenario=scenario,
        seconds=0.0,
    )


def test_a_query_of_several_streams_counts_all_its_frames(tmp_path) -> None:
    result = timed("streams=4", GpuMeter(Nvml(), "the GPU"), tmp_path / "frames.npy")
    assert result["batch"] == 4 and len(result["calls_s"]) == 5
    assert all(len(result["parts_ms"][part]) == 10 for part in PARTS)  # two calls a query
    metrics = metrics_of("gpu", result)
    assert metrics["fps"] == pytest.approx(20 / sum(result["calls_s"]))
    assert metrics["compute"] == TICK_MS
    assert metrics["watts"] == 250 and metrics["gpu_joules"] == pytest.approx(2 / 20)


def test_without_a_meter_power_is_unknown_and_speed_is_not(tmp_path) -> None:
    metrics = metrics_of("gpu", timed("offline", None, tmp_path / "frames.npy"))
    assert metrics["fps"] > 0
    assert [metrics[name] for name in ("watts", "gpu_joules", "throttled")] == [None] * 3


def test_ceilings_are_work_over_time() -> None:
    found = ceilings(HostGpu(), side=64, copied_bytes=1 << 12)
    second = TICK_MS / 1000
    assert found["half_flops_a_s"] == found["single_flops_a_s"] == pytest.approx(2 * 64**3 / second)
    assert found["bytes_a_s"] == pytest.approx(2 * 4096 / second)
    assert found["in_bytes_a_s"] == found["out_bytes_a_s"] == pytest.approx(4096 / second)
    assert metrics_of("gpu machine", found)["gbytes"] == pytest.approx(8192 / second / 1e9)
    assert TIMES % 2 == 0


def test_layers_have_the_operations_that_the_runtime_counts_and_half_its_bytes() -> None:
    layers = layers_of(CHECKPOINT, SIZE_HW)
    assert sum(layer["flops"] for layer in layers) == work_of(WEIGHTS, (1, *SIZE_HW, 3)).flops
    network = open_reference(CHECKPOINT).segmenter.network
    weights = sum(m.weight.numel() for m in network.modules() if isinstance(m, torch.nn.Conv2d))
    assert sum(layer["weight_bytes"] for layer in layers) == 2 * weights


def test_meter_reports_what_the_driver_does_and_leaves_out_what_it_does_not() -> None:
    nvml = Nvml(silent=("nvmlDeviceGetPowerUsage",))
    with gpu_meter(Nvml.UUID.decode(), lambda _name: nvml) as meter:
        assert meter is not None and nvml.open == 1
        for _ in range(3):
            meter.sample()  # too soon after the first
        result = meter.result()
    assert nvml.open == 0
    assert result["samples"] == 1
    assert (result["utilisation"], result["sm_mhz"], result["memory_bytes"]) == (0.8, 1500, 3 << 30)
    assert "watts" not in result and result["joules"] == 2
    assert result["throttled"] == {"power limit": 1.0}  # that it is idle too is no reason


def test_meter_of_an_unknown_gpu_or_without_its_package_is_none() -> None:
    def missing(_name: str) -> None:
        raise ImportError

    with gpu_meter("GPU-0", lambda _name: Nvml()) as unknown:
        assert unknown is None
    with gpu_meter(Nvml.UUID.decode(), missing) as without_package:
        assert without_package is None


def test_gpu_is_known_to_the_driver_by_the_name_that_pytorch_has(monkeypatch) -> None:
    uuid = Nvml.UUID.decode().removeprefix("GPU-")
    monkeypatch.setattr(
        torch.cuda, "get_device_properties", lambda _device: SimpleNamespace(uuid=uuid)
    )
    monkeypatch.setitem(sys.modules, "pynvml", Nvml())
    with Cuda(torch.device("cuda", 0)).meter() as meter:
        assert meter is not None


def test_a_driver_that_is_missing_is_no_error() -> None:
    pytest.importorskip("pynvml")
    with gpu_meter("GPU-0") as meter:
        assert meter is None or torch.cuda.is_available()


@pytest.mark.parametrize(
    ("seen", "device", "visible"),
    [
        (None, "cpu", "-1"),
        (None, "cuda:1", "1"),
        ("2,3", "cuda:1", "3"),
        ("GPU-5a,GPU-7b", "cuda:0", "GPU-5a"),
        ("2", "cuda:1", "-1"),
    ],
)
def test_a_process_sees_the_gpu_that_is_measured_and_no_other(
    monkeypatch, seen, device, visible
) -> None:
    monkeypatch.delenv(beds.VISIBLE, raising=False)
    if seen is not None:
        monkeypatch.setenv(beds.VISIBLE, seen)
    assert beds.visible_gpus(device) == visible


@pytest.fixture(scope="module")
def bed(tmp_path_factory: pytest.TempPathFactory) -> beds.Testbed:
    """A testbed whose first model is a checkpoint, in a machine that gets its GPUs later."""
    config = BenchConfig(film=SAMPLE, weights=(CHECKPOINT,), sizes_hw=(SIZE_HW,), film_s=0.4)
    return beds.Testbed(config, tmp_path_factory.mktemp("bed"), lambda _: None)


@pytest.fixture(autouse=True)
def all_are_right(monkeypatch: pytest.MonkeyPatch) -> None:
    """Have no process started to verify a case."""
    monkeypatch.setattr(beds.Testbed, "verify", lambda _bed, _case: {"equal_share": 1.0})


def with_gpus(bed: beds.Testbed, monkeypatch: pytest.MonkeyPatch, **settings: Any) -> beds.Testbed:
    monkeypatch.setattr(bed, "gpus", {"cuda:0": FACTS, "cuda:1": FACTS})
    monkeypatch.setattr(bed, "config", replace(bed.config, **settings))
    return bed


def test_reference_may_be_a_checkpoint_alone_and_the_plain_loop_is_left_out(bed) -> None:
    assert bed.reference == f"{CHECKPOINT.name} torch"
    assert bed.exported is None
    films, _ = cases.films_of(bed, {})
    assert {case.job for case in [*films, *cases.models_of(bed)]} == {
        *("film", "command", "stages", "live", "machine", "model")
    }


def test_models_are_measured_on_each_gpu_in_each_scenario_batch_and_start(bed, monkeypatch) -> None:
    scenarios = tuple(map(Scenario.parse, ("single", "streams=4")))
    bed = with_gpus(
        bed, monkeypatch, scenarios=scenarios, batches=(1, 8), cuda_graphs=(True, False)
    )
    found = [case for case in cases.models_of(bed) if case.job == "gpu"]
    ways = ("single", ""), ("single", " x8"), ("streams=4", "")  # eight are more than four
    assert [case.name for case in found] == [
        f"{CHECKPOINT.name} torch {device} {scenario} {graph}{batch or ' x1'}"
        for device in ("cuda:0", "cuda:1")
        for scenario, batch in ways
        for graph in ("graph", "no graph")
    ]
    assert found[0].record()["device"] == "cuda:0" and found[0].record()["cuda_graph"] is True


def test_video_is_measured_on_a_gpu_with_a_model_that_is_right_there(bed, monkeypatch) -> None:
    bed = with_gpus(bed, monkeypatch)
    name = f"{CHECKPOINT.name} torch cuda:1 single"
    films, _ = cases.films_of(bed, {name: {"equal_share": 1.0}})
    on_gpus = {case.name: case for case in films if case.settings.get("device")}
    assert set(on_gpus) == {
        *("roadseg cuda:1", "roadseg --every 1 cuda:1", "stages cuda:1", "machine cuda:1")
    }
    assert on_gpus["roadseg cuda:1"].settings["weights"] == str(CHECKPOINT)


def test_runtimes_for_gpus_alone_are_not_measured_on_the_cpu(bed, monkeypatch) -> None:
    bed = with_gpus(bed, monkeypatch, backends=("onnxruntime-rtx", "tensorrt"))
    monkeypatch.setattr(bed, "weights", (WEIGHTS,))
    assert bed._usual() == (CHECKPOINT, "auto")
    found = [case for case in cases.models_of(bed) if case.job != "plain"]
    assert {(case.job, case.settings["backend"]) for case in found} == {("gpu", "onnxruntime-rtx")}


def test_engines_join_where_they_were_built_for_the_batch(bed, monkeypatch) -> None:
    bed = with_gpus(bed, monkeypatch, batches=(1, 8))
    monkeypatch.setattr(bed, "engines", {("cuda:0", 8): Path("m.engine")})
    found = [case for case in cases.models_of(bed) if "m.engine" in case.name]
    assert [case.name for case in found] == [
        f"m.engine tensorrt cuda:0 {scenario} x8" for scenario in ("single", "offline")
    ]


def test_model_that_is_fastest_alone_labels_the_video_too(bed, monkeypatch) -> None:
    bed = with_gpus(bed, monkeypatch)
    films, _ = cases.films_of(bed, {})
    slow = cases._model(bed, CHECKPOINT, "torch", SIZE_HW, 1)
    fast = cases._model(bed, WEIGHTS, "onnxruntime", SIZE_HW, 1)
    alone = {
        "open_s": 0.0,
        "first_call_s": 0.1,
        "warmup_calls_s": [0.1],
        "batch": 1,
        **{"cpu_s": 1.0, "peak_rss_bytes": None, "joules": None},
    }
    results = {slow.name: {**alone, "calls_s": [0.2]}, fast.name: {**alone, "calls_s": [0.1]}}
    (joining,) = cases.fastest_films(bed, [*films, slow, fast], results)
    assert joining.name == cases.FASTEST and joining.settings["weights"] == str(WEIGHTS)
    results[fast.name] = {"error": "broken"}
    assert cases.fastest_films(bed, [*films, slow, fast], results) == []


@pytest.fixture
def gpu(monkeypatch: pytest.MonkeyPatch) -> None:
    """Have a GPU, which is the CPU."""
    monkeypatch.setattr("roadseg.infer.device_cuda.refusal", lambda _name: None)
    monkeypatch.setattr("roadseg.infer.device_cuda.device_of", lambda _name: torch.device("cpu"))
    meter = GpuMeter(Nvml(), "the GPU")
    monkeypatch.setattr("roadseg.measure.gpu_cuda.first", lambda: HostGpu(meter))


@pytest.mark.usefixtures("gpu")
def test_video_and_stages_are_measured_with_their_pictures_on_the_gpu(tmp_path) -> None:
    chosen = {"film": str(SAMPLE), "out": str(tmp_path / "out.mp4"), "size_hw": SIZE_HW}
    chosen |= {"weights": str(CHECKPOINT), "backend": "torch", "device": "cuda:1"}
    film = jobs.label_film(spawned_s=0.0, limit_s=0.4, mode={}, **chosen)
    assert film["device"] == "cuda:0"  # as the process sees it
    assert film["gpu"]["watts"] == 250 and metrics_of("film", film)["gpu_mb"] > 3000
    stages = jobs.run_stages_alone(spawned_s=0.0, frames=4, **chosen)
    assert next(iter(stages["stages_alone"])) == "decode" and stages["decoder"] == "the CPU"


def test_gpu_that_is_not_there_is_refused_in_a_sentence() -> None:
    if torch.cuda.is_available():
        pytest.skip("there is a GPU here")
    done = CliRunner().invoke(app, ["bench", str(SAMPLE), "--device", "cuda:0", "--quick"])
    assert isinstance(done.exception, BackendUnavailable)
    assert str(done.exception).startswith("--device is cuda:0, and PyTorch")


def test_a_runtime_is_told_of_cuda_graphs_only_if_it_has_them() -> None:
    assert {name for name, runtime in BACKENDS.items() if runtime.has_cuda_graphs} >= {"torch"}
    with contextlib.closing(open_backend(WEIGHTS, "onnxruntime", cuda_graph=True)) as backend:
        assert backend.spec.num_classes == 11
    with contextlib.closing(open_backend(CHECKPOINT, "torch", cuda_graph=False)) as backend:
        assert backend.spec.num_classes == 11


def test_advice_is_the_fastest_video_with_the_options_that_it_needs() -> None:
    advice = advice_on(gpu_record())
    assert advice is not None
    assert (advice.case, advice.runtime) == ("roadseg cuda:0", "torch")
    assert (advice.fps.median, advice.realtime) == pytest.approx((360, 360 / 25))
    assert advice.command == (
        "roadseg infer VIDEO --device cuda:0 --weights m.safetensors --backend torch"
    )


def test_advice_names_the_model_file_as_it_was_typed() -> None:
    record = gpu_record()
    record["settings"] |= {"weights": ["FOLDER/other.onnx", "runs/best/m.safetensors"]}
    advice = advice_on(record)
    assert advice is not None and "--weights runs/best/m.safetensors" in advice.command


def test_advice_names_no_option_where_the_defaults_are_fastest() -> None:
    record = gpu_record()
    record |= {"gpus": {}, "defaults": {"weights": "m.onnx"}}
    del record["contenders"]["roadseg cuda:0"]
    for measured in record["rounds"]:
        del measured["results"]["roadseg cuda:0"]
    record["checks"]["roadseg"] = {"equal_share": 1.0, "runtime": "onnxruntime"}
    advice = advice_on(record)
    assert advice is not None
    assert (advice.runtime, advice.device, advice.command) == (
        *("onnxruntime", "cpu", "roadseg infer VIDEO"),
    )


def test_roofline_of_the_layers_counts_the_weights_once_a_call() -> None:
    found = {(c.name, c.by): c for c in bounds(gpu_record())}
    for batch in (1, 8):
        # The first layer waits for its operations or bytes, the second for its bytes.
        first_s = max(batch * 4e9 / 700e12, (batch * 4e6 + 1e6) / 2e12)
        limit_fps = batch / (first_s + batch * 40e6 / 2e12)
        roof = found["roofline of the layers, FP16", gpu_case("offline", batch)]
        assert roof.limit_fps.median == pytest.approx(limit_fps)
        assert roof.reached.median == pytest.approx(10_000 * batch / limit_fps)
    slowest = found["slowest stage alone", "roadseg cuda:0"]
    assert (slowest.limit_fps.median, slowest.reached.median) == pytest.approx((400, 0.9))


def test_tables_hold_what_gpus_did_within_80_columns() -> None:
    console = Console(width=80, file=StringIO(), color_system=None)
    for table in tables(gpu_record()):
        console.print(table)
    words = console.file.getvalue()
    for word in ("The model on a GPU", "The GPU meanwhile", "GPUs by themselves", "on cuda:0"):
        assert word in words
    assert "80%" in words and "1500" in words and "FP16" in words and "…" not in words


def test_page_answers_first_what_to_take_and_what_to_expect() -> None:
    page = bench_page(gpu_record())
    body = page[page.index("<body>") :]
    assert body.index("<h2>On this machine</h2>") < body.index("<h2>Targets</h2>")
    answer = re.sub(r"<[^>]+>", "", body[: body.index("<h2>Targets</h2>")])
    assert "Take m.safetensors with torch on NVIDIA H100 80GB HBM3 (cuda:0)." in answer
    assert "Expect 360.0 frames a second" in answer
    assert "roadseg infer VIDEO --device cuda:0 --weights m.safetensors" in answer


@pytest.mark.skipif(CHROMIUM is None, reason="chromium is not installed")
def test_page_with_a_gpu_draws_light_and_dark_wide_and_narrow(tmp_path) -> None:
    page = tmp_path / "run.html"
    page.write_text(bench_page(gpu_record()))
    with browser(tmp_path) as tab:
        for width, scheme in ((1300, "light"), (390, "dark")):
            tab.open(page.as_uri(), (width, 900), scheme)
            tab.wait_for("document.querySelectorAll('.plot > .plot-container').length >= 12")
            assert tab.run("document.documentElement.scrollWidth") <= width
            place = "document.querySelector('.answer').getBoundingClientRect()"
            assert tab.run(f"{place}.bottom") <= 900  # seen without scrolling
        assert tab.errors == []


def test_records_of_two_gpus_are_compared_case_by_case() -> None:
    before, after = gpu_record(5), gpu_record(5)
    after["gpus"]["cuda:0"] = {**FACTS, "name": "NVIDIA L4"}
    for measured in after["rounds"]:
        result = measured["results"][gpu_case("offline", 8)]
        result["calls_s"] = [2 * s for s in result["calls_s"]]
    found = {change.name: change for change in changes(before, after)}
    slower = found[f"{gpu_case('offline', 8)}: frames a second"]
    assert slower.ratio.median == pytest.approx(0.5) and slower.verdict == "worse"
    assert differences(before, after) == [f"cuda:0, name: {FACTS['name']} before, NVIDIA L4 after"]
