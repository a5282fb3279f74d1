"""What a recorded run of measurements says, as figures by name."""

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np

from roadseg.measure.statistics import Interval, median_interval, percentiles

RECORD_FORMAT = 1
Figures = Mapping[str, float]
Round = Mapping[str, Figures]


@dataclass(frozen=True, kw_only=True)
class Kind:
    """What a figure is."""

    title: str
    """What tables call it."""
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
    "out_mb": Kind(title="size of the film", unit="MB"),
    "joules": Kind(title="energy a frame", unit="J"),
    "dropped": Kind(title="share of frames dropped", unit=""),
    "slowest_fps": Kind(title="slowest stage alone", unit="fps", more_is_better=True),
    "gflops": Kind(title="large matrix product", unit="GFLOP/s", more_is_better=True),
    "gbytes": Kind(title="large copy", unit="GB/s", more_is_better=True),
}
"""Figures by name. Those of single stages and steps are named by both, "decode cpu"."""


def kind_of(figure: str) -> Kind:
    """Return what a figure is, given its name with or without a stage before it."""
    return KINDS[figure.rpartition(" ")[2]]


def rounds_of(record: Mapping[str, Any]) -> list[Round]:
    """Return the figures of every round, by contender and name."""
    cores = record["machine"]["cores"]
    return [
        {
            name: _figures(record["contenders"][name]["job"], result, cores)
            for name, result in measured["results"].items()
            if "error" not in result
        }
        for measured in record["rounds"]
    ]


def _figures(job: str, result: Mapping[str, Any], cores: int) -> Figures:
    if job in ("loop", "film"):
        return _of_film(result, cores)
    figures = FIGURES[job](result)
    return {name: value for name, value in figures.items() if value is not None}


def _of_film(result: Mapping[str, Any], cores: int) -> Figures:
    """Return the figures of a film, and of the loop's steps, by step and figure."""
    figures = {**steady(result), "out_mb": result["out_bytes"] / 1e6}
    figures["whole_fps"] = result["frames"] / result["wall_s"]
    figures["first_frame"] = result["frames_at_s"][0]
    figures["bound_fps"] = 1000 * cores / figures["cpu"]
    figures["efficiency"] = figures["fps"] / figures["bound_fps"]
    if result["model_cpu_s_a_frame"] is not None:
        figures["model_cpu"] = 1000 * result["model_cpu_s_a_frame"]
        figures["outside_cpu"] = figures["cpu"] - figures["model_cpu"]
    for name, step in result.get("steps", {}).items():
        for figure, key in (("wall", "wall_s"), ("cpu", "cpu_s")):
            figures[f"{name} {figure}"] = 1000 * float(
                np.mean(step[key][result["warmup_frames"] :])
            )
    return figures


def steady(result: Mapping[str, Any]) -> dict[str, float]:
    """Return the figures of a film, or of a stage alone, once it is warm."""
    first = result["warmup_frames"]
    at_s, cpu_at_s = result["frames_at_s"][first:], result["cpu_at_s"][first:]
    frames = len(at_s) - 1
    gaps = [1000 * gap for gap in np.diff(at_s)]
    figures = {
        "fps": frames / max(at_s[-1] - at_s[0], 1e-9),
        "cpu": 1000 * (cpu_at_s[-1] - cpu_at_s[0]) / frames,
        **percentiles(gaps),
    }
    if result["peak_rss_bytes"] is not None:
        figures["peak_mb"] = result["peak_rss_bytes"] / 1e6
    if result["joules"] is not None:
        figures["joules"] = result["joules"] / result["frames"]
    return figures


def _of_model(result: Mapping[str, Any]) -> dict[str, float | None]:
    calls_s, batch = result["calls_s"], result["batch"]
    frames = batch * len(calls_s)
    peak, joules = result["peak_rss_bytes"], result["joules"]
    return {
        "fps": frames / sum(calls_s),
        **percentiles([1000 * s for s in calls_s]),
        "open": 1000 * result["open_s"],
        "first_call": 1000 * result["first_call_s"],
        "warmup_call": 1000 * float(np.median(result["warmup_calls_s"])),
        "cpu": 1000 * result["cpu_s"] / frames,
        "peak_mb": None if peak is None else peak / 1e6,
        "joules": None if joules is None else joules / frames,
    }


def _of_stages(result: Mapping[str, Any]) -> dict[str, float | None]:
    figures: dict[str, float | None] = {}
    alone = {name: steady(of_stage) for name, of_stage in result["stages_alone"].items()}
    for name, of_stage in alone.items():
        figures |= {f"{name} {figure}": of_stage[figure] for figure in ("fps", "cpu")}
        grown = result["stages_alone"][name]["grown_rss_bytes"]
        figures[f"{name} peak_mb"] = None if grown is None else grown / 1e6
    if result["model_cpu_s_a_frame"] is not None:
        model_ms = 1000 * result["model_cpu_s_a_frame"]
        figures |= {"model cpu": model_ms, "convert cpu": alone["segment"]["cpu"] - model_ms}
    figures["slowest_fps"] = min(of_stage["fps"] for of_stage in alone.values())
    figures["cpu"] = sum(of_stage["cpu"] for of_stage in alone.values())
    return figures


def _of_live(result: Mapping[str, Any]) -> dict[str, float | None]:
    first = result["warmup_frames"]
    ages_s, dropped = result["ages_s"][first:], result["dropped"][first:]
    lost = dropped[-1] - dropped[0]
    shown_s = result["shown_at_s"][-1] - result["shown_at_s"][first]
    return {
        "fps": (len(ages_s) - 1) / shown_s if shown_s else None,
        **percentiles([1000 * s for s in ages_s]),
        "dropped": lost / max(lost + len(ages_s) - 1, 1),
    }


FIGURES: dict[str, Callable[[Mapping[str, Any]], Mapping[str, float | None]]] = {
    "model": _of_model,
    "plain": _of_model,
    "peer": _of_model,
    "stages": _of_stages,
    "live": _of_live,
    "command": lambda result: {"command": result["command_s"]},
    "machine": lambda result: {
        "gflops": result["flops_a_s"] / 1e9,
        "gbytes": result["bytes_a_s"] / 1e9,
    },
}
"""What a result means, by the job that it is of; a film's depends on the cores too."""


def spread(rounds: Sequence[Round], contender: str, figure: str) -> Interval | None:
    """Return a figure's median over the rounds, and where it lies; None where it is unknown."""
    values = values_of(rounds, contender, figure)
    return median_interval(values) if values else None


def values_of(rounds: Sequence[Round], contender: str, figure: str) -> list[float]:
    """Return a figure in every round that has it."""
    found = (measured.get(contender, {}).get(figure) for measured in rounds)
    return [value for value in found if value is not None]


@dataclass(frozen=True, kw_only=True)
class Speed:
    """A model's speed beside what its file says that it reached."""

    name: str
    fps: float
    p50_ms: float
    p95_ms: float
    miou: float | None
    """Mean IoU on validation pictures, 0..1."""


def speeds_of(record: Mapping[str, Any]) -> list[Speed]:
    """Return the models of a run that were measured alone, medians over the rounds."""
    rounds, found = rounds_of(record), []
    for name, told in record["contenders"].items():
        figures = [spread(rounds, name, figure) for figure in ("fps", "p50", "p95")]
        if told["job"] == "model" and None not in figures:
            fps, p50, p95 = (figure.median for figure in figures if figure is not None)
            miou = record["checks"][name]["val_miou"]
            found.append(Speed(name=name, fps=fps, p50_ms=p50, p95_ms=p95, miou=miou))
    return found


def has_energy(record: Mapping[str, Any]) -> bool:
    """Return whether the machine told the energy of anything."""
    return any(
        "joules" in figures for measured in rounds_of(record) for figures in measured.values()
    )


def others_share(record: Mapping[str, Any]) -> float | None:
    """Return the share of the cores that other processes took, in the worst round."""
    shares = [measured["others_cpu_share"] for measured in record["rounds"]]
    return None if None in shares else float(max(shares))
