"""What a record means, on records whose figures are known beforehand."""

from typing import Any

import pytest

from roadseg.errors import BenchError
from roadseg.measure.figures import rounds_of, speeds_of, steady
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


def a_round(weather: float = 1.0, gain: float = 1.0) -> dict[str, Any]:
    """A round in which all is slower by the weather, and roadseg faster by a gain."""
    results = {
        "plain loop": film(12 * weather, 0.10, 0.07),
        "roadseg": film(24 * weather * gain, 0.08, 0.06),
        "first frame": {"command_s": 1.0 / weather, "frames": 1},
        "stages": {
            "stages_alone": {
                "decode": alone(400 * weather, 0.004),
                "segment": alone(25 * weather, 0.065),
                "overlay": alone(600 * weather, 0.002),
                "encode": alone(90 * weather, 0.012),
            },
            "model_cpu_s_a_frame": 0.06,
        },
        "live": {
            "warmup_frames": 2,
            "ages_s": [0.5, 0.4, 0.05, 0.05, 0.06],
            "dropped": [10, 12, 12, 13, 13],
            "shown_at_s": [0.0, 0.5, 0.6, 0.7, 0.8],
        },
        "machine": {"flops_a_s": 200e9 * weather, "bytes_a_s": 20e9 * weather},
        "m.onnx onnxruntime": calls(28 * weather),
        "plain session": calls(20 * weather),
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


WEATHERS = (1.0, 0.98, 1.03, 0.99, 1.01)


def test_slow_beginning_of_a_film_is_not_in_its_steady_figures() -> None:
    figures = steady(film(24, 0.08, 0.06))
    assert figures["fps"] == pytest.approx(24)
    assert figures["cpu"] == pytest.approx(80)
    assert figures["p50"] == pytest.approx(1000 / 24)


def test_targets_are_ratios_within_rounds_whatever_the_weather() -> None:
    found = scores_of(a_record([a_round(weather) for weather in (1.0, 0.4, 2.0)]))
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


def test_target_whose_contender_was_not_measured_says_so() -> None:
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


def test_live_figures_leave_out_what_was_dropped_while_the_model_was_opened() -> None:
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
    rounds = [a_round(weather) for weather in WEATHERS]
    assert set(verdicts(rounds, rounds).values()) == {"no difference"}


def test_worse_weather_changes_times_and_not_the_targets_ratios() -> None:
    before = [a_round(weather) for weather in WEATHERS]
    after = [a_round(weather / 2) for weather in WEATHERS]
    found = verdicts(before, after)
    assert found["end to end / plain loop, same model and runtime"] == "no difference"
    assert found["roadseg: frames a second"] == "worse"
    assert found["roadseg: latency p50"] == "worse"
    assert verdicts(after, before)["roadseg: latency p50"] == "better"


def test_gain_of_the_pipeline_alone_shows_in_the_ratio() -> None:
    before = [a_round(weather) for weather in WEATHERS]
    after = [a_round(weather / 2, gain=1.2) for weather in WEATHERS]
    assert verdicts(before, after)["end to end at defaults / plain loop"] == "better"
    assert verdicts(after, before)["end to end at defaults / plain loop"] == "worse"


def test_three_rounds_are_too_few_to_tell() -> None:
    before, after = [a_round()] * 3, [a_round(0.1)] * 3
    assert set(verdicts(before, after).values()) == {"too few rounds"}


def test_runs_without_anything_in_common_are_refused_and_differences_named() -> None:
    before, after = a_record([a_round()]), a_record([a_round()])
    after["rounds"] = [{"others_cpu_share": None, "results": {}}]
    after["machine"] = {"cores": 8, "cpu": "a processor"}
    with pytest.raises(BenchError, match="nothing in common"):
        changes(before, after)
    assert differences(before, after) == ["machine, cores: 2 before, 8 after"]


def test_speed_of_a_model_stands_beside_its_accuracy() -> None:
    (speed,) = speeds_of(a_record([a_round()]))
    assert (speed.fps, speed.p50_ms, speed.miou) == pytest.approx((28, 1000 / 28, 0.75))


def test_models_of_other_sizes_and_batches_do_not_count_as_the_fastest() -> None:
    record = a_record([a_round()])
    told = record["contenders"]["m.onnx onnxruntime"]
    record["contenders"]["small"] = told | {"size_hw": [64, 96]}
    record["contenders"]["batch"] = told | {"batch": 4}
    assert Cast.of(record).models == ("m.onnx onnxruntime",)
