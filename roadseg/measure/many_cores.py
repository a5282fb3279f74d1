"""What the pipeline's sequential stages allow on machines with more cores than this one.

Amdahl's law, for a pipeline: while a sequential stage is at one frame, the others are at the next.
So a frame takes at least what the largest of the sequential stages does, and at least its share of
the cores in all.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np

from roadseg.measure.record import FilmResult, Record
from roadseg.measure.results import steady

CORES = (4, 8, 16, 64)
"""Cores that are reported."""


@dataclass(frozen=True, kw_only=True)
class Scaling:
    """What a frame takes, and what of it no further core makes shorter."""

    stage: str
    """The largest stage that runs on one thread."""
    sequential_ms: float
    """CPU time of it a frame."""
    cpu_ms: float
    """CPU time of all threads a frame."""

    @property
    def sequential_share(self) -> float:
        """What part of a frame's CPU time the stage takes."""
        return self.sequential_ms / self.cpu_ms

    def fps(self, cores: int) -> float:
        """Return how many frames a second so many cores allow at most."""
        return 1000 / max(self.sequential_ms, self.cpu_ms / cores)

    def record(self) -> dict[str, Any]:
        """Return it as JSON values."""
        return {
            "stage": self.stage,
            "sequential_ms": round(self.sequential_ms, 3),
            "cpu_ms": round(self.cpu_ms, 3),
            "sequential_share": round(self.sequential_share, 4),
            "fps": {str(cores): round(self.fps(cores), 2) for cores in CORES},
        }


def scaling_of(results: Sequence[FilmResult]) -> Scaling | None:
    """Return how a way to run the pipeline scales, medians over its rounds.

    Args:
        results: Of the job "film", one a round.

    Returns:
        None if no round tells which stages are parallel, as those of earlier versions do not.
    """
    known = [result for result in results if _sequential_ms(result)]
    if not known:
        return None
    by_round = [_sequential_ms(result) for result in known]
    medians = {
        name: float(np.median([times[name] for times in by_round if name in times]))
        for name in by_round[0]
    }
    stage = max(medians, key=lambda name: medians[name])
    return Scaling(
        stage=stage,
        sequential_ms=medians[stage],
        cpu_ms=float(np.median([steady(result)["cpu"] for result in known])),
    )


def _sequential_ms(result: FilmResult) -> dict[str, float]:
    """Return the CPU time a frame of each stage on one thread, by name."""
    return {
        stage["name"]: 1000 * stage["cpu_s"] / stage["items"]
        for stage in result.get("stages", ())
        if stage.get("parallel") is False and stage["items"]
    }


def many_cores(record: Record) -> dict[str, dict[str, Any]]:
    """Return how each way to run the pipeline on the CPU scales, by the name of its case."""
    found = {}
    for name, case in record["contenders"].items():
        if case["job"] == "film" and "device" not in case:
            rounds = (measured["results"].get(name) for measured in record["rounds"])
            scaling = scaling_of([result for result in rounds if result])
            if scaling:
                found[name] = scaling.record()
    return found
