"""What a recorded run of measurements says: figures, targets, comparison with another run.

Pure functions of the record that `roadseg.bench` makes. A figure is one number of one contender in
one round; rounds are the samples, since calls within one follow each other in the same weather. A
target's ratio is the median of the ratios within the rounds.
"""

import contextlib
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from functools import partial
from typing import Any

import numpy as np

from roadseg.errors import BenchError
from roadseg.measure import Interval, median_interval, percentiles, permutation_p, ratio_interval

RECORD_FORMAT = 1
LEAST_ROUNDS = 4
"""With fewer rounds in each of two runs chance alone is never improbable enough."""
SIGNIFICANCE = 0.05
"""Improbability by chance from which on a difference counts."""
SMALL_CHANGE = 0.02
"""A difference below this share is called none, whatever the samples say."""
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
class Goal:
    """What roadseg wants to reach."""

    name: str
    """What is compared."""
    limit: float
    """The target."""
    figure: Callable[["Cast", Round], float]
    """Its figure in a round."""
    at_least: bool = True
    """Whether more is better."""
    unit: str = "x"


@dataclass(frozen=True)
class Cast:
    """Which contender stands for what."""

    loop: str
    plain: str
    same: str
    defaults: str
    models: tuple[str, ...]

    @classmethod
    def of(cls, record: Mapping[str, Any]) -> "Cast":
        """Read it from a record; models are those at the reference's own size, one frame a call."""
        contenders = record["contenders"]
        size_hw = contenders[record["roles"]["plain"]]["size_hw"]
        models = (
            name
            for name, told in contenders.items()
            if told["job"] == "model" and told["size_hw"] == size_hw and told["batch"] == 1
        )
        return cls(**record["roles"], models=tuple(models))


def _over(above: str, below: str, figure: str, cast: Cast, measured: Round) -> float:
    return measured[getattr(cast, above)][figure] / measured[getattr(cast, below)][figure]


GOALS = (
    Goal(
        name="end to end / plain loop, same model and runtime",
        limit=1.3,
        figure=partial(_over, "same", "loop", "fps"),
    ),
    Goal(
        name="end to end at defaults / plain loop",
        limit=1.8,
        figure=partial(_over, "defaults", "loop", "fps"),
    ),
    Goal(
        name="end to end at defaults / FP32 model alone",
        limit=1.0,
        figure=partial(_over, "defaults", "plain", "fps"),
    ),
    Goal(
        name="end to end / what CPU time and cores allow",
        limit=0.9,
        figure=lambda cast, measured: measured[cast.defaults]["efficiency"],
    ),
    Goal(
        name="CPU time outside the model / plain loop's",
        limit=0.6,
        at_least=False,
        figure=partial(_over, "same", "loop", "outside_cpu"),
    ),
    Goal(
        name="fastest model alone / FP32 model alone",
        limit=1.3,
        figure=lambda cast, measured: (
            max(measured[m]["fps"] for m in cast.models) / measured[cast.plain]["fps"]
        ),
    ),
    Goal(
        name="start of the command to the first frame",
        limit=1.5,
        at_least=False,
        unit="s",
        figure=lambda _, measured: measured["first frame"]["command"],
    ),
)
"""The targets, in the order of the table."""


@dataclass(frozen=True, kw_only=True)
class Score:
    """A goal and what was measured."""

    goal: Goal
    values: tuple[float, ...]
    """Its figure in every round that could tell."""
    interval: Interval | None
    """Their median, and where it lies."""

    @property
    def verdict(self) -> str:
        """Whether it is met, and whether the rounds agree on that."""
        if self.interval is None:
            return "not measured"
        met = self._meets(self.interval.median)
        sure = self._meets(self.interval.low) == self._meets(self.interval.high)
        return ("met" if met else "not met") + ("" if sure else ", within noise")

    def _meets(self, value: float) -> bool:
        return value >= self.goal.limit if self.goal.at_least else value <= self.goal.limit


def scores_of(record: Mapping[str, Any]) -> list[Score]:
    """Return what a run says of every goal."""
    rounds, cast = rounds_of(record), Cast.of(record)
    scores = []
    for goal in GOALS:
        values = tuple(_told(goal, cast, rounds))
        interval = median_interval(values) if values else None
        scores.append(Score(goal=goal, values=values, interval=interval))
    return scores


def _told(goal: Goal, cast: Cast, rounds: Sequence[Round]) -> Iterator[float]:
    for measured in rounds:
        try:
            yield goal.figure(cast, measured)
        except (
            KeyError,
            ValueError,
        ):  # a contender is missing, or a figure this system cannot tell
            continue


@dataclass(frozen=True, kw_only=True)
class Ceiling:
    """A limit, and how near something comes to it."""

    name: str
    limit_fps: Interval
    """Frames a second at which it lies."""
    reached: Interval
    """Share of that which is reached."""
    by: str
    """The contender that reaches it."""


def ceilings(record: Mapping[str, Any]) -> list[Ceiling]:
    """Return what bounds the pipeline and the models of a run, as far as it was measured."""
    rounds, cast = rounds_of(record), Cast.of(record)
    found = [
        _ceiling(rounds, "CPU time and cores", cast.defaults, _bound(cast.defaults, "bound_fps")),
        _ceiling(rounds, "slowest stage alone", cast.defaults, _bound("stages", "slowest_fps")),
    ]
    for name in (*cast.models, cast.plain):
        work = record["work"].get(record["contenders"][name]["weights"])
        if work:
            found.append(_ceiling(rounds, f"roofline: {roof_of(work, rounds)}", name, _roof(work)))
    return [ceiling for ceiling in found if ceiling is not None]


Bound = Callable[[Round], float]


def _bound(contender: str, figure: str) -> Bound:
    return lambda measured: measured[contender][figure]


def _roof(work: Mapping[str, Any]) -> Bound:
    """Return the frames a second that a round's machine allows (the roofline)."""

    def bound(measured: Round) -> float:
        machine = measured["machine"]
        computing = machine["gflops"] / float(work["flops"])
        return 1e9 * min(computing, machine["gbytes"] / float(work["moved_bytes"]))

    return bound


def roof_of(work: Mapping[str, Any], rounds: Sequence[Round]) -> str:
    """Return which side of the roofline a model is under."""
    gflops, gbytes = (values_of(rounds, "machine", name) for name in ("gflops", "gbytes"))
    computing = work["flops"] / max(gflops, default=1.0)
    return "computing" if computing > work["moved_bytes"] / max(gbytes, default=1.0) else "memory"


def _ceiling(rounds: Sequence[Round], name: str, by: str, bound: Bound) -> Ceiling | None:
    pairs = []
    for measured in rounds:
        with contextlib.suppress(KeyError):  # one of the two was not measured
            pairs.append((bound(measured), measured[by]["fps"]))
    if not pairs:
        return None
    return Ceiling(
        name=name,
        by=by,
        limit_fps=median_interval([limit for limit, _ in pairs]),
        reached=median_interval([fps / limit for limit, fps in pairs]),
    )


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


@dataclass(frozen=True, kw_only=True)
class Change:
    """A figure in two runs."""

    name: str
    """Contender and figure, or a target."""
    before: float
    after: float
    ratio: Interval
    """After over before."""
    p: float
    """How often chance alone would part the rounds that far."""
    rounds: int
    """Rounds of the run that has fewer."""
    more_is_better: bool

    @property
    def verdict(self) -> str:
        """Better, worse, or no difference that the rounds show."""
        if self.rounds < LEAST_ROUNDS:
            return "too few rounds"
        is_small = abs(self.ratio.median - 1) < SMALL_CHANGE
        if self.p > SIGNIFICANCE or self.ratio.low <= 1 <= self.ratio.high or is_small:
            return "no difference"
        return "better" if (self.ratio.median > 1) == self.more_is_better else "worse"


COMPARED = ("fps", "p50", "p95", "cpu", "outside_cpu", "peak_mb", "command")
"""Figures that two runs are compared by, beside the targets."""


def changes(before: Mapping[str, Any], after: Mapping[str, Any]) -> list[Change]:
    """Compare two runs: first the targets' ratios, which hold from hour to hour, then figures.

    Raises:
        BenchError: They have no contender in common.
    """
    found = [
        _change(old.goal.name, old.values, new.values, more_is_better=old.goal.at_least)
        for old, new in zip(scores_of(before), scores_of(after), strict=True)
        if old.values and new.values
    ]
    first, second = rounds_of(before), rounds_of(after)
    for contender in before["contenders"]:
        for figure in COMPARED:
            old, new = values_of(first, contender, figure), values_of(second, contender, figure)
            if old and new:
                kind = kind_of(figure)
                name = f"{contender}: {kind.title}"
                found.append(_change(name, old, new, more_is_better=kind.more_is_better))
    if not found:
        raise BenchError(
            f"the records have nothing in common: {', '.join(before['contenders'])} against "
            f"{', '.join(after['contenders'])}; measure the same contenders twice"
        )
    return found


def _change(
    name: str, old: Sequence[float], new: Sequence[float], *, more_is_better: bool
) -> Change:
    return Change(
        name=name,
        before=float(np.median(old)),
        after=float(np.median(new)),
        ratio=ratio_interval(old, new),
        p=permutation_p(old, new),
        rounds=min(len(old), len(new)),
        more_is_better=more_is_better,
    )


def differences(before: Mapping[str, Any], after: Mapping[str, Any]) -> list[str]:
    """Return in what two runs differ beside their figures, a sentence each."""
    return [
        f"{part}, {key}: {old} before, {after[part].get(key)} after"
        for part in ("machine", "film", "settings")
        for key, old in before[part].items()
        if old != after[part].get(key)
    ]
