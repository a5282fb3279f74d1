"""A short run of measurements for real: its record hangs together. No test asks how fast it was."""

import contextlib
import hashlib
import json
import os
import subprocess
import sys
from copy import copy
from itertools import pairwise
from pathlib import Path
from typing import Any

import av
import numpy as np
import pytest
from browser import CHROMIUM, browser
from conftest import ROOT, SAMPLE, WEIGHTS, patience
from films import Film
from foreign import KINDS

from roadseg.backends.runtimes import open_backend
from roadseg.backends.weights import weights_named
from roadseg.errors import BenchError, ConfigError
from roadseg.measure import bench, jobs
from roadseg.measure import record as types
from roadseg.measure import testbed as beds
from roadseg.measure.bench import film_record
from roadseg.measure.bench_page import bench_page
from roadseg.measure.config import BenchConfig
from roadseg.measure.meters import ModelMeter, model_result
from roadseg.measure.plain_loop import plain_loop
from roadseg.measure.results import rounds_of
from roadseg.measure.targets import GOALS, ceilings, scores_of
from roadseg.measure.testbed import LEAST_EQUAL, Case

PEER = ROOT.parent / "shared" / "peers" / "road-segmentation-adas-0001.xml"
SIZE_HW = (64, 96)


def roadseg_bench(*args: object, cwd: Path, columns: int = 80) -> subprocess.CompletedProcess[str]:
    return subprocess.run(
        [sys.executable, "-m", "roadseg", "bench", *map(str, args)],
        cwd=cwd,
        env={**os.environ, "COLUMNS": str(columns), "NO_COLOR": "1", "TERM": "dumb"},
        capture_output=True,
        text=True,
        timeout=patience(110),
    )


@pytest.fixture(scope="module")
def desk(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder with a short run's record, page and words in it."""
    desk = tmp_path_factory.mktemp("bench")
    files = ("--record", "run.json", "--report", "run.html")
    done = roadseg_bench(SAMPLE, "--quick", "--size", "96x64", *files, cwd=desk)
    assert done.returncode == 0, done.stderr
    (desk / "words.txt").write_text(done.stdout)
    return desk


@pytest.fixture(scope="module")
def record(desk) -> dict[str, Any]:
    return json.loads((desk / "run.json").read_text())


def test_record_has_the_keys_that_its_types_name(record) -> None:
    of_job = {
        **dict.fromkeys(("model", "plain"), types.ModelResult),
        **{"film": types.FilmResult, "loop": types.LoopResult, "stages": types.StagesResult},
        **{"live": types.LiveResult, "command": types.CommandResult},
        "machine": types.MachineResult,
    }
    held = [(types.Record, record)]
    held += [(types.Check, check) for check in record["checks"].values()]
    for measured in record["rounds"]:
        held.append((types.RoundRecord, measured))
        for name, result in measured["results"].items():
            held.append((of_job[record["contenders"][name]["job"]], result))
    held += [
        (types.StageResult, stage)
        for kind, result in held
        if kind is types.StagesResult
        for stage in result["stages_alone"].values()
    ]
    for kind, values in held:
        keys = kind.__required_keys__ | kind.__optional_keys__
        assert kind.__required_keys__ <= values.keys() <= keys, kind


def test_every_case_is_in_every_round_and_what_it_did_adds_up(record) -> None:
    first, second = (measured["results"] for measured in record["rounds"])
    assert set(first) == set(record["contenders"]) == set(second) | {"live"}
    for results in (first, second):
        # By default every second frame.
        for name, calls in (("plain loop", 25), ("roadseg --every 1", 25), ("roadseg", 13)):
            run = results[name]
            assert run["frames"] == len(run["frames_at_s"]) == 25
            assert len(run["model_calls_s"]) == calls
            assert all(a < b for a, b in pairwise([*run["frames_at_s"], run["wall_s"]]))
            assert all(a <= b for a, b in pairwise([*run["cpu_at_s"], run["cpu_s"]]))
        film = results["roadseg"]
        assert film["network_hw"] == list(SIZE_HW)
        threads_s = sum(stage["cpu_s"] for stage in film["stages"])
        assert 0 < threads_s <= film["cpu_s"]  # libraries have threads beside the stages'
        assert results["first frame"]["frames"] == 1


def test_metrics_obey_the_arithmetic_of_cores(record) -> None:
    cores = record["machine"]["cores"]
    for measured in rounds_of(record):
        for name in ("plain loop", "roadseg"):
            metrics = measured[name]
            assert metrics["efficiency"] <= 1.05  # nobody has more CPU seconds than there are
            assert metrics["bound_fps"] * metrics["cpu"] == pytest.approx(1000 * cores)
            assert 0 < metrics["model_cpu"] < metrics["cpu"]
        alone = measured["stages"]
        assert alone["slowest_fps"] == min(
            alone[f"{stage} fps"]
            for stage in record["rounds"][0]["results"]["stages"]["stages_alone"]
        )
    assert all(score.interval is not None for score in scores_of(record))
    assert {"CPU time and cores", "slowest stage alone"} <= {c.name for c in ceilings(record)}


def test_outputs_were_verified_and_the_input_is_named(record) -> None:
    shares = [check["equal_share"] for check in record["checks"].values()]
    assert max(shares) == 1.0 and min(shares) >= LEAST_EQUAL["model"]  # 8 bits move edges
    assert record["film"]["sha256"] == hashlib.sha256(SAMPLE.read_bytes()).hexdigest()


def test_record_tells_what_many_cores_would_allow(record) -> None:
    assert set(record["many_cores"]) == {
        name for name, case in record["contenders"].items() if case["job"] == "film"
    }
    for told in record["many_cores"].values():
        assert told["stage"] in ("decode", "luma", "keyframes", "labels", "view", "encode")
        assert 0 < told["sequential_share"] < 1
        limits = list(told["fps"].values())
        assert limits == sorted(limits)


def test_film_is_measured_at_the_size_asked_for(tmp_path) -> None:
    config = BenchConfig(film=SAMPLE, film_hw=(128, 192), film_s=0.2, live_s=0.2)
    at_size = bench._at_its_size(config, tmp_path, lambda _: None)
    assert film_record(at_size.film)["size_hw"] == (128, 192)
    told = film_record(SAMPLE, config.film_hw)
    assert (told["size_hw"], told["enlarged_from_hw"]) == ((128, 192), (540, 960))


@pytest.mark.parametrize("size", ["1081x720", "32x64", "large"])
def test_size_that_no_film_can_have_is_refused(tmp_path, size) -> None:
    done = roadseg_bench(SAMPLE, "--video-size", size, cwd=tmp_path)
    assert done.returncode == 1 and "--video-size is" in done.stderr


def test_models_that_results_could_not_tell_apart_are_refused(tmp_path) -> None:
    for weights in ((WEIGHTS, WEIGHTS), (tmp_path / "a" / "best.onnx", tmp_path / "best.onnx")):
        with pytest.raises(
            ConfigError, match=r"--weights names .*onnx twice; .* a name of its own"
        ):
            BenchConfig(film=SAMPLE, weights=weights)


@pytest.mark.parametrize(
    ("times", "film_s", "said"),
    [
        ((0,), None, "has a single frame; .* give a longer video"),
        ((0,), 4.0, "has a single frame within --seconds 4"),
        (range(10), 0.05, "has a single frame within --seconds 0.05"),
        ((0, 90), 4.0, "has a single frame within --seconds 4"),
    ],
)
def test_single_frame_has_no_rate_and_is_refused_at_once(tmp_path, times, film_s, said) -> None:
    film = Film(times=tuple(times)).write(tmp_path / "film.mp4")
    with pytest.raises(BenchError, match=said):
        beds.Testbed(BenchConfig(film=film, film_s=film_s), tmp_path, lambda _: None)


def test_record_tells_nothing_of_this_machines_folders(desk) -> None:
    text = (desk / "run.json").read_text()
    assert str(ROOT) not in text and "/tmp" not in text


@pytest.mark.parametrize(
    ("given", "kept"),
    [
        (Path("runs/best/mine.onnx"), "runs/best/mine.onnx"),
        (Path("/home/me/mine.onnx"), "FOLDER/mine.onnx"),
        (WEIGHTS, WEIGHTS.name),
    ],
)
def test_record_names_models_as_they_are_typed(given, kept) -> None:
    assert bench._typed(given) == kept and weights_named(kept) in (given, Path(kept))


def test_words_hold_the_target_table_within_80_columns(desk) -> None:
    words = (desk / "words.txt").read_text()
    assert max(map(len, words.splitlines())) <= 80
    for word in (
        "wanted",
        "Many cores",
        "met",
        "Ceilings",
        "Each stage alone",
        "Live",
        "plain loop",
        "On this machine take",
        "  roadseg infer VIDEO",
    ):
        assert word in words
    assert sum(
        line.lstrip().startswith(("≥", "≤")) or " ≥ " in line or " ≤ " in line
        for line in words.splitlines()
    ) == len(GOALS)


def test_page_needs_no_network_and_has_every_target(desk, record) -> None:
    page = (desk / "run.html").read_text()
    assert page == bench_page(record)
    for goal in GOALS:
        assert goal.name in page.replace("&#x27;", "'")
    assert "<script src" not in page and "<link" not in page


@pytest.mark.skipif(CHROMIUM is None, reason="chromium is not installed")
def test_page_draws_without_error_light_and_dark_wide_and_narrow(desk, tmp_path) -> None:
    with browser(tmp_path) as tab:
        for width, scheme in ((1300, "light"), (390, "dark")):
            tab.open((desk / "run.html").as_uri(), (width, 900), scheme)
            tab.wait_for("document.querySelectorAll('.plot > .plot-container').length >= 8")
            assert tab.run("document.documentElement.scrollWidth") <= width
            ink = tab.run("getComputedStyle(document.body).getPropertyValue('--ink')")
            assert tab.run("document.querySelector('.plot').layout.font.color") == ink
        assert tab.errors == []


def test_a_short_run_compared_with_itself_shows_no_difference_for_sure(desk) -> None:
    done = roadseg_bench("--compare", "run.json", "run.json", cwd=desk)
    assert done.returncode == 0, done.stderr
    assert "too few rounds" in done.stdout
    assert "better" not in done.stdout and "worse" not in done.stdout
    told = roadseg_bench("--compare", "run.json", "run.json", "--json", cwd=desk)
    found = json.loads(told.stdout)
    assert found["differences"] == []
    assert {change["verdict"] for change in found["changes"]} == {"too few rounds"}
    refused = roadseg_bench("--compare", "run.json", "run.json", "--record", "c.json", cwd=desk)
    assert refused.returncode == 1 and "--record is c.json, and --compare" in refused.stderr


def test_record_of_another_version_is_refused(desk, tmp_path) -> None:
    (tmp_path / "new.json").write_text('{"format": 99}')
    done = roadseg_bench("--compare", desk / "run.json", "new.json", cwd=tmp_path)
    assert done.returncode == 1 and "new.json has format 99" in done.stderr


@pytest.fixture(scope="module")
def testbed(tmp_path_factory: pytest.TempPathFactory) -> beds.Testbed:
    config = BenchConfig(film=SAMPLE, weights=(WEIGHTS,), sizes_hw=(SIZE_HW,), film_s=0.4)
    return beds.Testbed(config, tmp_path_factory.mktemp("testbed"), lambda _: None)


def settings(testbed: beds.Testbed) -> dict[str, Any]:
    files = {"inputs": testbed.inputs(SIZE_HW), "answers": testbed.answers(SIZE_HW)}
    return {"weights": str(WEIGHTS), "backend": "onnxruntime", **files}


def test_work_is_counted_of_models_that_are_measured_at_the_size(testbed, tmp_path) -> None:
    foreign = KINDS["odd size"].write(tmp_path / "foreign.onnx")
    bed = copy(testbed)
    bed.weights = (WEIGHTS, foreign)
    given = settings(testbed) | {"size_hw": SIZE_HW}
    others = [{"size_hw": (65, 97), "weights": str(foreign)}]
    cases = [
        Case(name=str(n), job="model", settings=given | o) for n, o in enumerate([{}, *others])
    ]
    assert list(bed.work(cases)) == [WEIGHTS.name]


def test_reference_is_what_the_backend_says(testbed) -> None:
    with contextlib.closing(open_backend(WEIGHTS)) as model:
        expected = model.run(np.load(testbed.inputs(SIZE_HW))).class_map
    assert (
        np.load(testbed.answers(SIZE_HW)) == expected
    ).mean() > 0.999  # a batch rounds otherwise


def test_case_that_decides_otherwise_is_refused(testbed, tmp_path) -> None:
    wrong = tmp_path / "wrong.npy"
    np.save(wrong, np.full_like(np.load(testbed.answers(SIZE_HW)), 7))
    given = settings(testbed) | {"answers": str(wrong)}
    check = testbed.verify(Case(name="m", job="model", settings=given))
    assert "it was not timed" in check["error"]
    assert "error" not in testbed.verify(Case(name="m", job="model", settings=settings(testbed)))


def test_mistake_comes_back_as_an_error_and_a_bug_with_its_last_words(testbed) -> None:
    given = settings(testbed) | {"weights": "none.onnx", "batch": 1, "seconds": 0.1}
    result = testbed.run("model", given)
    assert result["kind"] == "ModelFileError" and "model, does not exist" in result["error"]
    with pytest.raises(BenchError, match=r"broke down with exit code 1(.|\n)*TypeError"):
        testbed.run("model", {"nonsense": 1})


@pytest.mark.skipif(not PEER.is_file(), reason="the peer's model is not there")
def test_peer_sees_the_road_where_roadseg_does(testbed, tmp_path) -> None:
    pytest.importorskip("roadseg.backends.openvino_silent")
    frames = np.load(testbed.inputs(SIZE_HW))
    large = np.stack([np.kron(f, np.ones((8, 8, 1), np.uint8)) for f in frames])[:, :, :768]
    padded = np.pad(large, ((0, 0), (0, 0), (64, 64), (0, 0)), mode="edge")
    np.save(tmp_path / "frames.npy", padded)
    given = {"weights": str(PEER), "inputs": str(tmp_path / "frames.npy")}
    check = testbed.verify(
        Case(name="p", job="peer", settings={**given, "answers": testbed.answers(SIZE_HW)})
    )
    assert check["equal_share"] > 0.8


def test_loop_labels_as_many_frames_as_asked_for(tmp_path) -> None:
    loop = plain_loop()
    model, palette = loop.open_model(str(WEIGHTS))
    steps: list[str] = []
    out = tmp_path / "loop.mp4"
    loop.label(str(SAMPLE), str(out), model, palette, (96, 64), limit=3, on_step=steps.append)
    assert steps == ["read", "resize", "model", "blend", "encode"] * 3
    with av.open(out) as film:
        (stream,) = film.streams.video
        assert (stream.width, stream.height, stream.average_rate) == (960, 540, 25)
        assert len(list(film.decode(stream))) == 3


def test_film_plays_at_the_cameras_rate(tmp_path) -> None:
    jobs.retime(SAMPLE, tmp_path / "fast.mkv", factor=2)
    times = []
    for path in (SAMPLE, tmp_path / "fast.mkv"):
        with av.open(path) as film:
            times.append([frame.time for frame in film.decode(video=0)])
    slow, fast = times
    assert len(fast) == len(slow)
    assert fast == pytest.approx([time_s / 2 for time_s in slow], abs=0.001)  # Matroska's unit


def test_meter_counts_the_runtimes_threads_with_the_caller() -> None:
    meter = ModelMeter()
    model = meter.open(lambda: open_backend(WEIGHTS))
    frames = np.zeros((1, 128, 192, 3), np.uint8)
    for _ in range(12):
        meter.call(model.run, frames)
    meter.note_pool()
    model.close()
    result = model_result([meter])
    assert len(result["model_calls_s"]) == 12
    caller_s = sum(meter._caller_cpu_s[3:]) / 9
    if Path("/proc/self").exists():
        assert result["model_cpu_s_a_frame"] >= caller_s * 0.999  # rounded to a microsecond
