"""What a record means, on records whose metrics are known beforehand."""

import json
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from conftest import ROOT

from roadseg.errors import BenchError
from roadseg.measure.record_file import read_record
from roadseg.measure.results import KINDS, rounds_of, speeds_of, steady, value_of, values_of
from roadseg.measure.targets import Cast, ceilings, changes, differences, scores_of

CORES = 2


def film(fps: float, cpu_s: float, model_s: float, frames: int = 40) -> dict[str, Any]:
    """A film whose first ten frames are slow, as they are while all gets warm."""
    warmup = 10
    at_s = [1.0 + i for i in range(warmup)]
    at_s += [at_s[-1] + (i + 1) / fps for i in range(frames - warmup)]
    cpu_at_s = [0.5 + i for i in range(warmup)]
    cpu_at_s += [cpu_at_s[-1] + (i + 1) * cpu_s for i in range(frames - warmup)]
    return {
        "frames": frames,
        "warmup_frames": warmup,
        "frames_at_s": at_s,
        "cpu_at_s": cpu_at_s,
        "wall_s": at_s[-1] + 0.5,
        "cpu_s": cpu_at_s[-1] + 0.1,
        "peak_rss_bytes": 300_000_000,
        "joules": None,
        "model_cpu_s_a_frame": model_s,
        "out_bytes": 1_000_000,
    }


def calls(fps: float) -> dict[str, Any]:
    return {
        "open_s": 0.2,
        "first_call_s": 0.1,
        "warmup_calls_s": [0.05, 0.04, 0.04],
        "calls_s": [1 / fps] * 20,
        "batch": 1,
        "cpu_s": 20 * 0.06,
        "peak_rss_bytes": 200_000_000,
        "joules": None,
    }


def alone(fps: float, cpu_s: float) -> dict[str, Any]:
    return film(fps, cpu_s, 0) | {"grown_rss_bytes": 10_000_000}


def a_round(quiet: float = 1.0, gain: float = 1.0) -> dict[str, Any]:
    """A round in which all is as fast as the machine is quiet, and roadseg faster by a gain."""
    results = {
        "plain loop": film(12 * quiet, 0.10, 0.07) | {"steps": {}},
        "roadseg": film(24 * quiet * gain, 0.08, 0.06),
        "first frame": {"command_s": 1.0 / quiet, "frames": 1},
        "stages": {
            "stages_alone": {
                "decode": alone(400 * quiet, 0.004),
                "segment": alone(25 * quiet, 0.065),
                "overlay": alone(600 * quiet, 0.002),
                "encode": alone(90 * quiet, 0.012),
            },
            "model_cpu_s_a_frame": 0.06,
        },
        "live": {
            "warmup_frames": 2,
            "ages_s": [0.5, 0.4, 0.05, 0.05, 0.06],
            "dropped": [10, 12, 12, 13, 13],
            "shown_at_s": [0.0, 0.5, 0.6, 0.7, 0.8],
        },
        "machine": {"flops_a_s": 200e9 * quiet, "bytes_a_s": 20e9 * quiet},
        "m.onnx onnxruntime": calls(28 * quiet),
        "plain session": calls(20 * quiet),
    }
    return {"others_cpu_share": 0.01, "results": results}


def a_record(rounds: list[dict[str, Any]]) -> dict[str, Any]:
    size = {"size_hw": [320, 576], "weights": "m.onnx"}
    return {
        "machine": {"cores": CORES, "cpu": "a processor"},
        "film": {"name": "drive.mp4"},
        "settings": {"rounds": len(rounds)},
        "checks": {"m.onnx onnxruntime": {"equal_share": 1.0, "val_miou": 0.75}},
        "roles": {
            "loop": "plain loop",
            "plain": "plain session",
            "same": "roadseg",
            "defaults": "roadseg",
        },
        "contenders": {
            "plain loop": {"job": "loop", **size},
            "roadseg": {"job": "film", **size},
            "first frame": {"job": "command"},
            "stages": {"job": "stages"},
            "live": {"job": "live"},
            "machine": {"job": "machine"},
            "m.onnx onnxruntime": {"job": "model", "batch": 1, **size},
            "plain session": {"job": "plain", "batch": 1, **size},
        },
        "work": {"m.onnx": {"flops": 5_000_000_000, "moved_bytes": 400_000_000}},
        "rounds": rounds,
    }


QUIETNESS = (1.0, 0.98, 1.03, 0.99, 1.01)


def test_slow_beginning_of_a_film_is_not_in_its_steady_metrics() -> None:
    metrics = steady(film(24, 0.08, 0.06))
    assert metrics["fps"] == pytest.approx(24)
    assert metrics["cpu"] == pytest.approx(80)
    assert metrics["p50"] == pytest.approx(1000 / 24)


def test_targets_are_ratios_within_rounds_whatever_the_background_load() -> None:
    found = scores_of(a_record([a_round(quiet) for quiet in (1.0, 0.4, 2.0)]))
    assert [score.interval and score.interval.median for score in found] == pytest.approx(
        [24 / 12, 24 / 12, 24 / 20, 24 / (CORES / 0.08), 20 / 30, 28 / 20, 1.0]
    )
    assert [score.verdict for score in found] == [
        "met",
        "met",
        "met",
        "met, within noise",  # twice as fast a round does not halve its CPU seconds
        "not met",
        "met",
        "met, within noise",
    ]


def test_target_whose_case_was_not_measured_says_so() -> None:
    bare = a_round()
    bare["results"]["plain loop"] = {"error": "the film has odd sides", "kind": "VideoError"}
    verdicts = [score.verdict for score in scores_of(a_record([bare]))]
    assert [verdict == "not measured" for verdict in verdicts] == [
        True,
        True,
        *[False] * 2,
        True,
        False,
        False,
    ]


def test_metric_that_was_not_measured_is_none_and_an_unknown_one_raises() -> None:
    unmetered = a_round()
    unmetered["results"]["roadseg"]["model_cpu_s_a_frame"] = None
    del unmetered["results"]["live"]
    record = a_record([unmetered])
    (measured,) = rounds_of(record)
    assert value_of(measured, "roadseg", "outside_cpu") is None
    assert value_of(measured, "live", "fps") is None
    assert value_of(measured, "stages", "motion cpu") is None  # each frame was labelled alone
    for case, metric in (
        ("roadseg", "fsp"),
        ("live", "fsp"),
        ("stages", "rain cpu"),
        ("machine", "fps"),
    ):
        with pytest.raises(KeyError):
            value_of(measured, case, metric)
    assert "not measured" in [score.verdict for score in scores_of(record)]


@pytest.mark.parametrize("metric", ["fps", "efficiency", "slowest_fps", "command", "gflops"])
def test_metric_that_is_renamed_in_one_place_alone_is_no_unmeasured_one(
    metric, monkeypatch
) -> None:
    monkeypatch.setitem(KINDS, "renamed", KINDS[metric])
    monkeypatch.delitem(KINDS, metric)
    for read in (scores_of, ceilings):
        with pytest.raises(KeyError, match=metric):
            read(a_record([a_round()]))


@pytest.mark.parametrize(("model_s", "convert_ms"), [(0.06, 5), (0.09, 0)])
def test_no_part_of_a_stage_takes_less_than_nothing(model_s, convert_ms) -> None:
    measured = a_round()
    measured["results"]["stages"]["model_cpu_s_a_frame"] = model_s
    rounds = rounds_of(a_record([measured]))
    parts = [values_of(rounds, "stages", f"{part} cpu")[0] for part in ("model", "convert")]
    assert parts == pytest.approx([65 - convert_ms, convert_ms])


def test_live_metrics_leave_out_what_was_dropped_while_the_model_was_opened() -> None:
    (measured,) = rounds_of(a_record([a_round()]))
    assert measured["live"]["dropped"] == pytest.approx(1 / 3)  # one lost, two more shown
    assert measured["live"]["p50"] == pytest.approx(50)
    assert measured["live"]["fps"] == pytest.approx(10)


def test_ceilings_are_what_bounds_and_how_near_it_is() -> None:
    found = {(c.name, c.by): c for c in ceilings(a_record([a_round()]))}
    bound = found["CPU time and cores", "roadseg"]
    assert (bound.limit_fps.median, bound.reached.median) == pytest.approx((25, 0.96))
    slowest = found["slowest stage alone", "roadseg"]
    assert (slowest.limit_fps.median, slowest.reached.median) == pytest.approx((25, 0.96))
    # 5 GFLOP at 200 a second take longer than 0.4 GB at 20 a second.
    roof = found["roofline: computing", "m.onnx onnxruntime"]
    assert (roof.limit_fps.median, roof.reached.median) == pytest.approx((40, 28 / 40))


def verdicts(before: list[dict[str, Any]], after: list[dict[str, Any]]) -> dict[str, str]:
    return {c.name: c.verdict for c in changes(a_record(before), a_record(after))}


def test_a_run_does_not_differ_from_itself() -> None:
    rounds = [a_round(quiet) for quiet in QUIETNESS]
    assert set(verdicts(rounds, rounds).values()) == {"no difference"}


def test_background_load_changes_times_and_not_the_targets_ratios() -> None:
    before = [a_round(quiet) for quiet in QUIETNESS]
    after = [a_round(quiet / 2) for quiet in QUIETNESS]
    found = verdicts(before, after)
    assert found["end to end / plain loop, same model and runtime"] == "no difference"
    assert found["roadseg: frames a second"] == "worse"
    assert found["roadseg: latency p50"] == "worse"
    assert verdicts(after, before)["roadseg: latency p50"] == "better"


def test_gain_of_the_pipeline_alone_shows_in_the_ratio() -> None:
    before = [a_round(quiet) for quiet in QUIETNESS]
    after = [a_round(quiet / 2, gain=1.2) for quiet in QUIETNESS]
    assert verdicts(before, after)["end to end at defaults / plain loop"] == "better"
    assert verdicts(after, before)["end to end at defaults / plain loop"] == "worse"


def test_runs_are_not_compared_by_what_one_has_none_of() -> None:
    before, after = ([a_round(quiet) for quiet in QUIETNESS] for _ in range(2))
    assert "roadseg: CPU time a frame outside the model" in verdicts(before, after)
    for measured in after:
        measured["results"]["roadseg"]["model_cpu_s_a_frame"] = 0.09  # more than a frame's
    assert "roadseg: CPU time a frame outside the model" not in verdicts(before, after)


def test_three_rounds_are_too_few_to_tell() -> None:
    before, after = [a_round()] * 3, [a_round(0.1)] * 3
    assert set(verdicts(before, after).values()) == {"too few rounds"}


def test_runs_without_anything_in_common_are_refused_and_differences_named() -> None:
    before, after = a_record([a_round()]), a_record([a_round()])
    after["rounds"] = [{"others_cpu_share": None, "results": {}}]
    before["machine"] |= {"versions": {"numpy": "2", "av": "18"}, "flags": []}
    after["machine"] = {"cores": 8, "cpu": "a processor", "versions": {"numpy": "2", "av": "19"}}
    after["machine"]["flags"] = ["avx2", "amx"]
    after["machine"]["versions"]["torch"] = "2"
    after["settings"] |= {"film_hw": None, "backends": []}
    after["gpus"] = {"cuda:0": {"name": "a GPU"}}
    with pytest.raises(BenchError, match="nothing in common"):
        changes(before, after)
    assert differences(before, after) == [
        "machine, cores: 2 before, 8 after",
        "machine, versions, av: 18 before, 19 after",
        "machine, flags: none before, avx2 amx after",
        "machine, versions, torch: none before, 2 after",
        "cuda:0, name: none before, a GPU after",
    ]


def test_speed_of_a_model_stands_beside_its_accuracy() -> None:
    (speed,) = speeds_of(a_record([a_round()]))
    assert (speed.fps, speed.p50_ms, speed.miou) == pytest.approx((28, 1000 / 28, 0.75))


def test_models_of_other_sizes_and_batches_do_not_count_as_the_fastest() -> None:
    record = a_record([a_round()])
    case = record["contenders"]["m.onnx onnxruntime"]
    record["contenders"]["small"] = case | {"size_hw": [64, 96]}
    record["contenders"]["batch"] = case | {"batch": 4}
    assert Cast.of(record).models == ("m.onnx onnxruntime",)


def places(value: Any, within: tuple[Any, ...] = ()) -> Iterator[tuple[Any, ...]]:
    """The ways to all that a JSON value holds."""
    items = value.items() if isinstance(value, dict) else enumerate(value or ())
    for key, item in items:
        yield (*within, key)
        if isinstance(item, dict | list):
            yield from places(item, (*within, key))


def shortened(value: Any) -> Any:
    """The same with three items of every list, and without a warm-up."""
    if isinstance(value, dict):
        warm = {"warmup_frames": 0} if "warmup_frames" in value else {}
        return {key: shortened(item) for key, item in value.items()} | warm
    return [shortened(item) for item in value[:3]] if isinstance(value, list) else value


GONE = object()


@pytest.mark.parametrize("other", [None, "x", {}, GONE], ids=str)
def test_record_with_something_else_in_it_is_refused_or_read(tmp_path, other) -> None:
    file = tmp_path / "run.json"
    record = shortened(json.loads((ROOT / "benchmarks/results/1-two-cores.json").read_text()))
    record["rounds"] = record["rounds"][:1]
    for way in places(record):
        *within, key = way
        part = record
        for step in within:
            part = part[step]
        before = dict(part) if isinstance(part, dict) else list(part)
        if other is GONE:
            del part[key]
        else:
            part[key] = other
        file.write_text(json.dumps(record))
        part.clear()
        part.update(before) if isinstance(part, dict) else part.extend(before)
        try:
            found = read_record(file)
        except BenchError as error:
            assert str(file) in str(error)
        else:
            assert Cast.of(found) and len(rounds_of(found)) == len(found["rounds"])
            assert differences(found, found) == []


@pytest.mark.parametrize("path", sorted((ROOT / "benchmarks/results").glob("*.json")))
def test_records_of_earlier_versions_are_read(path: Path) -> None:
    assert read_record(path)["rounds"]
