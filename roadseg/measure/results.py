"""The metrics of a recorded run of measurements, by name.

A metric that was not measured is None. An unknown one is a bug and raises.
"""

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np

from roadseg.measure.record import (
    CallsResult,
    FramesResult,
    GpuModelResult,
    LiveResult,
    LoopResult,
    Record,
    StagesResult,
    VideoResult,
)
from roadseg.measure.statistics import Interval, median_interval, percentiles

RECORD_FORMAT = 1
Metrics = Mapping[str, float | None]
"""All metrics of a case by name; None where it was not measured."""
Round = Mapping[str, Metrics]
"""Metrics by the name of the case, under the record's key "contenders"."""


@dataclass(frozen=True, kw_only=True)
class Kind:
    """Title and unit of a metric."""

    title: str
    """Its name in tables."""
    unit: str
    """Its unit."""
    more_is_better: bool = False


KINDS = {
    "fps": Kind(title="frames a second", unit="fps", more_is_better=True),
    "whole_fps": Kind(title="frames a second, start-up included", unit="fps", more_is_better=True),
    "p50": Kind(title="latency p50", unit="ms"),
    "p90": Kind(title="latency p90", unit="ms"),
    "p95": Kind(title="latency p95", unit="ms"),
    "p99": Kind(title="latency p99", unit="ms"),
    "open": Kind(title="opening the model", unit="ms"),
    "first_call": Kind(title="first call", unit="ms"),
    "warmup_call": Kind(title="call while warming up", unit="ms"),
    "first_frame": Kind(title="first frame done", unit="s"),
    "command": Kind(title="command for one frame", unit="s"),
    "cpu": Kind(title="CPU time a frame", unit="ms"),
    "model_cpu": Kind(title="CPU time a frame in the model", unit="ms"),
    "wall": Kind(title="time a frame", unit="ms"),
    "outside_cpu": Kind(title="CPU time a frame outside the model", unit="ms"),
    "bound_fps": Kind(title="bound by CPU time and cores", unit="fps", more_is_better=True),
    "efficiency": Kind(title="share of that bound", unit="", more_is_better=True),
    "peak_mb": Kind(title="peak memory", unit="MB"),
    "out_mb": Kind(title="size of the video", unit="MB"),
    "joules": Kind(title="energy a frame", unit="J"),
    "dropped": Kind(title="share of frames dropped", unit=""),
    "slowest_fps": Kind(title="slowest stage alone", unit="fps", more_is_better=True),
    "gflops": Kind(title="large matrix product", unit="GFLOP/s", more_is_better=True),
    "gbytes": Kind(title="large copy", unit="GB/s", more_is_better=True),
    "copy_in": Kind(title="copy of a call to the GPU", unit="ms"),
    "compute": Kind(title="computing of a call", unit="ms"),
    "copy_out": Kind(title="copy of a call from the GPU", unit="ms"),
    "gpu_mb": Kind(title="most memory of the GPU in use", unit="MB"),
    "utilisation": Kind(title="share of the time at work", unit="", more_is_better=True),
    "watts": Kind(title="power of the GPU", unit="W"),
    "gpu_joules": Kind(title="energy of the GPU a frame", unit="J"),
    "sm_mhz": Kind(title="clock of the GPU", unit="MHz", more_is_better=True),
    "throttled": Kind(title="share of the time with clocks held down", unit=""),
    "tflops_half": Kind(title="matrix product, FP16", unit="TFLOP/s", more_is_better=True),
    "tflops_single": Kind(title="matrix product, FP32", unit="TFLOP/s", more_is_better=True),
    "gbytes_in": Kind(title="copy to the GPU", unit="GB/s", more_is_better=True),
    "gbytes_out": Kind(title="copy from the GPU", unit="GB/s", more_is_better=True),
}
"""Metrics by name."""


PARTS = (
    *("read", "resize", "blend"),
    *("decode", "luma", "motion", "keyframes", "segment", "labels", "enlarge", "overlay", "encode"),
    *("model", "convert"),
)
"""Steps of the plain loop, stages of the pipeline, and what the stage of the network consists of.

A metric of one of them is named by both, "decode cpu".
"""


def kind_of(metric: str) -> Kind:
    """Return the kind of a metric, given its name with or without a part before it.

    Raises:
        KeyError: There is none of this name, which is a bug.
    """
    part, _, name = metric.rpartition(" ")
    if name not in KINDS or (part and part not in PARTS):
        raise KeyError(f"{metric!r} is no metric; they are listed in KINDS and PARTS")
    return KINDS[name]


def rounds_of(record: Record) -> list[Round]:
    """Return the metrics of every round, by case and name; a case that failed is not among them.

    Raises:
        KeyError: A metric is not listed in `KINDS` and `PARTS`, which is a bug.
    """
    cores = record["machine"]["cores"]
    return [
        {
            name: metrics_of(record["contenders"][name]["job"], result, cores)
            for name, result in measured["results"].items()
            if "error" not in result
        }
        for measured in record["rounds"]
    ]


def metrics_of(job: str, result: Any, cores: int = 1) -> Metrics:
    """Return all metrics of a result, on so many cores where that is asked of its job.

    Raises:
        KeyError: A metric is not listed in `KINDS` and `PARTS`, which is a bug.
    """
    metrics = _of_video(result, cores) if job in ("loop", "film") else METRICS[job](result)
    if job == "loop":
        metrics = {**metrics, **_of_steps(result)}
    for metric in metrics:
        kind_of(metric)
    return metrics


def _of_video(result: VideoResult, cores: int) -> Metrics:
    warm = steady(result)
    bound_fps = 1000 * cores / warm["cpu"]
    model_ms = _scaled(result["model_cpu_s_a_frame"], 1000)
    return {
        **warm,
        "whole_fps": result["frames"] / result["wall_s"],
        "first_frame": result["frames_at_s"][0],
        "bound_fps": bound_fps,
        "efficiency": warm["fps"] / bound_fps,
        "model_cpu": model_ms,
        "outside_cpu": None if model_ms is None else warm["cpu"] - model_ms,
        "peak_mb": _scaled(result["peak_rss_bytes"], 1e-6),
        "out_mb": result["out_bytes"] / 1e6,
        "joules": _scaled(result["joules"], 1 / result["frames"]),
        **_of_gpu(result, result["frames"]),
    }


def _of_steps(result: LoopResult) -> Metrics:
    """Return the metrics of the loop's steps, by step and metric."""
    first = result["warmup_frames"]
    return {
        f"{name} {metric}": 1000 * float(np.mean(times[first:]))
        for name, step in result["steps"].items()
        for metric, times in (("wall", step["wall_s"]), ("cpu", step["cpu_s"]))
    }


def steady(result: FramesResult) -> dict[str, float]:
    """Return the speed of a video, or of a stage alone, once it is warm."""
    first = result["warmup_frames"]
    at_s, cpu_at_s = result["frames_at_s"][first:], result["cpu_at_s"][first:]
    frames = len(at_s) - 1
    return {
        "fps": frames / max(at_s[-1] - at_s[0], 1e-9),
        "cpu": 1000 * (cpu_at_s[-1] - cpu_at_s[0]) / frames,
        **percentiles([1000 * gap for gap in np.diff(at_s)]),
    }


def _of_model(result: CallsResult) -> Metrics:
    calls_s, batch = result["calls_s"], result["batch"]
    frames = batch * len(calls_s)
    return {
        "fps": frames / sum(calls_s),
        **percentiles([1000 * s for s in calls_s]),
        "open": 1000 * result["open_s"],
        "first_call": 1000 * result["first_call_s"],
        "warmup_call": 1000 * float(np.median(result["warmup_calls_s"])),
        "cpu": 1000 * result["cpu_s"] / frames,
        "peak_mb": _scaled(result["peak_rss_bytes"], 1e-6),
        "joules": _scaled(result["joules"], 1 / frames),
    }


def _of_gpu_model(result: GpuModelResult) -> Metrics:
    """Return the metrics of a model on a GPU; latencies are those of whole queries."""
    parts = {part: float(np.median(times)) for part, times in result["parts_ms"].items()}
    frames = result["batch"] * len(result["calls_s"])
    return {**_of_model(result), **parts, **_of_gpu(result, frames)}


def _of_gpu(result: VideoResult | GpuModelResult, frames: int) -> Metrics:
    """Return what the driver of the GPU reported, if one was at work and is metered."""
    seen = result.get("gpu") or {}
    held_down = seen.get("throttled")
    return {
        "gpu_mb": _scaled(seen.get("memory_bytes"), 1e-6),
        "utilisation": seen.get("utilisation"),
        "watts": seen.get("watts"),
        "gpu_joules": _scaled(seen.get("joules"), 1 / frames),
        "sm_mhz": seen.get("sm_mhz"),
        "throttled": None if held_down is None else max(held_down.values(), default=0.0),
    }


def _of_stages(result: StagesResult) -> Metrics:
    alone = {name: steady(of_stage) for name, of_stage in result["stages_alone"].items()}
    metrics: dict[str, float | None] = {}
    for name, of_stage in alone.items():
        metrics |= {f"{name} {metric}": of_stage[metric] for metric in ("fps", "cpu")}
        grown = result["stages_alone"][name]["grown_rss_bytes"]
        metrics[f"{name} peak_mb"] = _scaled(grown, 1e-6)
    model_ms, segment_ms = _scaled(result["model_cpu_s_a_frame"], 1000), alone["segment"]["cpu"]
    if model_ms is not None:
        model_ms = min(model_ms, segment_ms)  # counted over more frames, it may seem more
    return metrics | {
        "model cpu": model_ms,
        "convert cpu": None if model_ms is None else segment_ms - model_ms,
        "slowest_fps": min(of_stage["fps"] for of_stage in alone.values()),
        "cpu": sum(of_stage["cpu"] for of_stage in alone.values()),
    }


def _of_live(result: LiveResult) -> Metrics:
    first = result["warmup_frames"]
    ages_s, dropped = result["ages_s"][first:], result["dropped"][first:]
    lost = dropped[-1] - dropped[0]
    shown_s = result["shown_at_s"][-1] - result["shown_at_s"][first]
    return {
        "fps": (len(ages_s) - 1) / shown_s if shown_s else None,
        **percentiles([1000 * s for s in ages_s]),
        "dropped": lost / max(lost + len(ages_s) - 1, 1),
    }


METRICS: dict[str, Callable[[Any], Metrics]] = {
    "model": _of_model,
    "gpu": _of_gpu_model,
    "plain": _of_model,
    "peer": _of_model,
    "stages": _of_stages,
    "live": _of_live,
    "command": lambda result: {"command": result["command_s"]},
    "machine": lambda result: {
        "gflops": result["flops_a_s"] / 1e9,
        "gbytes": result["bytes_a_s"] / 1e9,
    },
    "gpu machine": lambda result: {
        "tflops_half": result["half_flops_a_s"] / 1e12,
        "tflops_single": result["single_flops_a_s"] / 1e12,
        "gbytes": result["bytes_a_s"] / 1e9,
        "gbytes_in": result["in_bytes_a_s"] / 1e9,
        "gbytes_out": result["out_bytes_a_s"] / 1e9,
    },
}
"""Functions that compute the metrics of a result, by its job; see `_of_video` for videos."""


def _scaled(value: float | None, factor: float) -> float | None:
    return None if value is None else value * factor


def value_of(measured: Round, case: str, metric: str) -> float | None:
    """Return a metric of a case in a round, or None if it was not measured.

    That is so if the case failed or was left out, if the system does not report the value, or if
    the video was labelled without that stage.

    Raises:
        KeyError: The case has no such metric, which is a bug.
    """
    kind_of(metric)
    metrics = measured.get(case)
    part = metric.rpartition(" ")[0]
    if metrics is None or (part and not any(name.startswith(f"{part} ") for name in metrics)):
        return None
    return metrics[metric]


def values_of(rounds: Sequence[Round], case: str, metric: str) -> list[float]:
    """Return a metric in every round in which it was measured.

    Raises:
        KeyError: The case has no such metric, which is a bug.
    """
    found = (value_of(measured, case, metric) for measured in rounds)
    return [value for value in found if value is not None]


def spread(rounds: Sequence[Round], case: str, metric: str) -> Interval | None:
    """Return a metric's median over the rounds, and where it lies; None if it was not measured.

    Raises:
        KeyError: The case has no such metric, which is a bug.
    """
    values = values_of(rounds, case, metric)
    return median_interval(values) if values else None


@dataclass(frozen=True, kw_only=True)
class Speed:
    """A model's speed, and the accuracy in its record."""

    name: str
    fps: float
    p50_ms: float
    p95_ms: float
    miou: float | None
    """Mean IoU on validation pictures, 0..1."""


def speeds_of(record: Record) -> list[Speed]:
    """Return the models of a run that were measured alone, medians over the rounds."""
    rounds, found = rounds_of(record), []
    for name, case in record["contenders"].items():
        if case["job"] == "model" and (fps := spread(rounds, name, "fps")):
            p50_ms, p95_ms = (np.median(values_of(rounds, name, p)) for p in ("p50", "p95"))
            found.append(
                Speed(
                    name=name,
                    fps=fps.median,
                    p50_ms=float(p50_ms),
                    p95_ms=float(p95_ms),
                    miou=record["checks"][name]["val_miou"],
                )
            )
    return found


def has_energy(record: Record) -> bool:
    """Return whether the energy of anything was measured."""
    return any(
        metrics.get("joules") is not None
        for measured in rounds_of(record)
        for metrics in measured.values()
    )


def others_share(record: Record) -> float | None:
    """Return the share of the cores that other processes took, in the worst round."""
    shares = [measured["others_cpu_share"] for measured in record["rounds"]]
    known = [share for share in shares if share is not None]
    return float(max(known)) if len(known) == len(shares) else None
