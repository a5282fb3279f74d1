"""Compare a recorded run with its targets, its ceilings and another run."""

from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from functools import partial
from typing import Any

import numpy as np

from roadseg.errors import BenchError
from roadseg.measure.record import Record
from roadseg.measure.results import Round, kind_of, rounds_of, value_of, values_of
from roadseg.measure.statistics import Interval, median_interval, permutation_p, ratio_interval

LEAST_ROUNDS = 4
"""Least rounds of each run at which a difference can be significant."""
SIGNIFICANCE = 0.05
"""Largest p-value of a significant difference."""
SMALL_CHANGE = 0.02
"""Relative difference below which there is none, whatever its p-value."""


@dataclass(frozen=True, kw_only=True)
class Goal:
    """A target for roadseg's speed."""

    name: str
    """Name of the metric."""
    limit: float
    """The target."""
    metric: Callable[["Cast", Round], float | None]
    """Returns the metric in a round; None if it was not measured."""
    at_least: bool = True
    """Whether more is better."""
    unit: str = "x"


@dataclass(frozen=True)
class Cast:
    """The cases by their roles in the targets."""

    loop: str
    plain: str
    same: str
    defaults: str
    models: tuple[str, ...]

    @classmethod
    def of(cls, record: Record) -> "Cast":
        """Read it from a record; models are those on the CPU, of the first size, one by one."""
        cases = record["contenders"]
        size_hw = cases[record["roles"]["defaults"]]["size_hw"]
        models = (
            name
            for name, case in cases.items()
            if case["job"] == "model" and case["size_hw"] == size_hw and case["batch"] == 1
        )
        return cls(**record["roles"], models=tuple(models))


def _over(above: str, below: str, metric: str, cast: Cast, measured: Round) -> float | None:
    roles = (getattr(cast, above), getattr(cast, below))
    return _ratio(*(value_of(measured, case, metric) for case in roles))


def _fastest_over_plain(cast: Cast, measured: Round) -> float | None:
    found = (value_of(measured, model, "fps") for model in cast.models)
    fastest = max((fps for fps in found if fps is not None), default=None)
    return _ratio(fastest, value_of(measured, cast.plain, "fps"))


def _ratio(above: float | None, below: float | None) -> float | None:
    return None if above is None or below is None else above / below


GOALS = (
    Goal(
        name="end to end / plain loop, same model and runtime",
        limit=1.3,
        metric=partial(_over, "same", "loop", "fps"),
    ),
    Goal(
        name="end to end at defaults / plain loop",
        limit=1.8,
        metric=partial(_over, "defaults", "loop", "fps"),
    ),
    Goal(
        name="end to end at defaults / FP32 model alone",
        limit=1.0,
        metric=partial(_over, "defaults", "plain", "fps"),
    ),
    Goal(
        name="end to end / what CPU time and cores allow",
        limit=0.9,
        metric=lambda cast, measured: value_of(measured, cast.defaults, "efficiency"),
    ),
    Goal(
        name="CPU time outside the model / plain loop's",
        limit=0.6,
        at_least=False,
        metric=partial(_over, "same", "loop", "outside_cpu"),
    ),
    Goal(
        name="fastest model alone / FP32 model alone",
        limit=1.3,
        metric=_fastest_over_plain,
    ),
    Goal(
        name="start of the command to the first frame",
        limit=1.5,
        at_least=False,
        unit="s",
        metric=lambda _, measured: value_of(measured, "first frame", "command"),
    ),
)
"""The targets, in the order of the table."""


@dataclass(frozen=True, kw_only=True)
class Score:
    """A goal and what was measured."""

    goal: Goal
    values: tuple[float, ...]
    """Its metric in every round in which that was measured."""
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


def scores_of(record: Record) -> list[Score]:
    """Return the score of a run on every goal."""
    rounds, cast = rounds_of(record), Cast.of(record)
    scores = []
    for goal in GOALS:
        found = (goal.metric(cast, measured) for measured in rounds)
        values = tuple(value for value in found if value is not None)
        interval = median_interval(values) if values else None
        scores.append(Score(goal=goal, values=values, interval=interval))
    return scores


@dataclass(frozen=True, kw_only=True)
class Ceiling:
    """An upper bound on speed, and how much of it is reached."""

    name: str
    limit_fps: Interval
    """The bound in frames a second."""
    reached: Interval
    """Share of it that is reached."""
    by: str
    """The case that reaches it."""


def ceilings(record: Record) -> list[Ceiling]:
    """Return the upper bounds of the pipeline and the models of a run, if they were measured."""
    rounds, cast = rounds_of(record), Cast.of(record)
    found = [
        _ceiling(rounds, "CPU time and cores", cast.defaults, _bound(cast.defaults, "bound_fps")),
        _ceiling(rounds, "slowest stage alone", cast.defaults, _bound("stages", "slowest_fps")),
    ]
    for name in (*cast.models, cast.plain):
        work = record["work"].get(record["contenders"].get(name, {}).get("weights", ""))
        if work:
            found.append(_ceiling(rounds, f"roofline: {roof_of(work, rounds)}", name, _roof(work)))
    found += _gpu_ceilings(record, rounds)
    return [ceiling for ceiling in found if ceiling is not None]


def _gpu_ceilings(record: Record, rounds: Sequence[Round]) -> Iterator["Ceiling | None"]:
    """Yield the upper bounds of videos and models on GPUs."""
    for device in record.get("gpus", {}):
        bound = _bound(f"stages {device}", "slowest_fps")
        yield _ceiling(rounds, "slowest stage alone", gpu_case(record, device), bound)
    for name, case in record["contenders"].items():
        work = record.get("layers", {}).get(case.get("weights", ""))
        if case["job"] == "gpu" and work:
            roof = _layered_roof(work["layers"], f"machine {case['device']}", case["batch"])
            yield _ceiling(rounds, "roofline of the layers, FP16", name, roof)


def gpu_case(record: Record, device: str) -> str:
    """Return the name of the case that labels a video at the defaults on a GPU."""
    return f"{record['roles']['defaults']} {device}"


Bound = Callable[[Round], float | None]
"""Returns frames a second in a round; None if they were not measured."""


def _bound(case: str, metric: str) -> Bound:
    return lambda measured: value_of(measured, case, metric)


def _roof(work: Mapping[str, Any]) -> Bound:
    """Return the frames a second that a round's machine allows (the roofline)."""

    def bound(measured: Round) -> float | None:
        computes, moves = (value_of(measured, "machine", name) for name in ("gflops", "gbytes"))
        if computes is None or moves is None:
            return None
        return 1e9 * min(computes / float(work["flops"]), moves / float(work["moved_bytes"]))

    return bound


def _layered_roof(layers: Sequence[Mapping[str, int]], machine: str, batch: int) -> Bound:
    """Return the frames a second that a GPU allows if layers follow each other."""

    def bound(measured: Round) -> float | None:
        computes, moves = (value_of(measured, machine, n) for n in ("tflops_half", "gbytes"))
        if computes is None or moves is None:
            return None
        call_s = sum(
            max(
                batch * layer["flops"] / (1e12 * computes),
                (batch * layer["frame_bytes"] + layer["weight_bytes"]) / (1e9 * moves),
            )
            for layer in layers
        )
        return batch / call_s

    return bound


def roof_of(work: Mapping[str, Any], rounds: Sequence[Round]) -> str:
    """Return which side of the roofline a model is under."""
    gflops, gbytes = (values_of(rounds, "machine", name) for name in ("gflops", "gbytes"))
    computing = work["flops"] / max(gflops, default=1.0)
    return "computing" if computing > work["moved_bytes"] / max(gbytes, default=1.0) else "memory"


def _ceiling(rounds: Sequence[Round], name: str, by: str, bound: Bound) -> Ceiling | None:
    found = ((bound(measured), value_of(measured, by, "fps")) for measured in rounds)
    pairs = [(limit, fps) for limit, fps in found if limit is not None and fps is not None]
    if not pairs:
        return None
    return Ceiling(
        name=name,
        by=by,
        limit_fps=median_interval([limit for limit, _ in pairs]),
        reached=median_interval([fps / limit for limit, fps in pairs]),
    )


@dataclass(frozen=True, kw_only=True)
class Change:
    """A metric in two runs."""

    name: str
    """Case and metric, or a target."""
    before: float
    after: float
    ratio: Interval
    """After over before."""
    p: float
    """p-value of the difference."""
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


COMPARED = (
    *("fps", "p50", "p95", "cpu", "outside_cpu", "peak_mb", "command"),
    *("compute", "gpu_mb", "gpu_joules", "tflops_half", "gbytes"),
)
"""Metrics that two runs are compared by, where a case has them, beside the targets."""


def changes(before: Record, after: Record) -> list[Change]:
    """Compare two runs: first the targets' ratios, which hold from hour to hour, then metrics.

    Raises:
        BenchError: They have no case in common.
    """
    found = [
        _change(old.goal.name, old.values, new.values, more_is_better=old.goal.at_least)
        for old, new in zip(scores_of(before), scores_of(after), strict=True)
        if _have_ratio(old.values, new.values)
    ]
    first, second = rounds_of(before), rounds_of(after)
    for case in before["contenders"]:
        for metric in _compared(case, [*first, *second]):
            old, new = values_of(first, case, metric), values_of(second, case, metric)
            if _have_ratio(old, new):
                kind = kind_of(metric)
                name = f"{case}: {kind.title}"
                found.append(_change(name, old, new, more_is_better=kind.more_is_better))
    if not found:
        raise BenchError(
            f"the records have nothing in common: {', '.join(before['contenders'])} against "
            f"{', '.join(after['contenders'])}; measure the same cases twice"
        )
    return found


def _have_ratio(old: Sequence[float], new: Sequence[float]) -> bool:
    """Return whether a metric was measured in both runs, and never as nothing or less."""
    return bool(old and new) and min(*old, *new) > 0


def _compared(case: str, rounds: Sequence[Round]) -> list[str]:
    """Return those of `COMPARED` that a case's job has at all."""
    known = {metric for measured in rounds for metric in measured.get(case, {})}
    return [metric for metric in COMPARED if metric in known]


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


def differences(before: Record, after: Record) -> list[str]:
    """Return differences of two runs in machine, GPUs, video and settings, a sentence each."""
    old, new = map(_circumstances, (before, after))
    told = {name: [_told(run.get(name)) for run in (old, new)] for name in (*old, *new)}
    return [f"{name}: {b} before, {a} after" for name, (b, a) in told.items() if b != a]


def _circumstances(record: Record) -> dict[str, Any]:
    """Return single values by their names, such as "machine, versions, numpy"."""
    parts = {part: record[part] for part in ("machine", "film", "settings")}
    return dict(_single({**parts, **record.get("gpus", {})}))


def _single(values: Mapping[str, Any], within: str = "") -> Iterator[tuple[str, Any]]:
    for key, value in values.items():
        if isinstance(value, Mapping):
            yield from _single(value, f"{within}{key}, ")
        else:
            yield f"{within}{key}", value


def _told(value: Any) -> str:
    if isinstance(value, list | tuple):
        return " ".join(map(str, value)) or "none"
    return "none" if value is None else str(value)
