"""What to take on a machine, of all that was measured there, and what to expect of it."""

import shlex
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import PurePath
from typing import Any

from roadseg.measure.record import Record
from roadseg.measure.results import rounds_of, spread
from roadseg.measure.statistics import Interval
from roadseg.segmentation.config import CPU


@dataclass(frozen=True, kw_only=True)
class Advice:
    """The fastest way to label a video with the defaults' labels."""

    case: str
    """Its case in the record."""
    weights: str
    """Name of the model file."""
    runtime: str
    device: str
    """cpu, or a GPU such as cuda:0."""
    fps: Interval
    """Frames of the video a second, once warm."""
    realtime: float
    """How many times as fast as the video plays that is."""
    options: tuple[str, ...]
    """What to give `roadseg infer` for it, beside the video."""

    @property
    def command(self) -> str:
        """What to type."""
        return shlex.join(["roadseg", "infer", "VIDEO", *self.options])


def advice_on(record: Record) -> Advice | None:
    """Return the fastest of the videos that were labelled at the defaults; None if none was."""
    rounds, cases = rounds_of(record), record["contenders"]
    speeds = {
        name: fps
        for name, case in cases.items()
        if case["job"] == "film" and case.get("mode") == {} and (fps := spread(rounds, name, "fps"))
    }
    if not speeds:
        return None
    name = max(speeds, key=lambda name: speeds[name].median)
    case, device = cases[name], cases[name].get("device", CPU)
    runtime = record["checks"].get(name, {}).get("runtime", case["backend"])
    return Advice(
        case=name,
        weights=case["weights"],
        runtime=runtime,
        device=device,
        fps=speeds[name],
        realtime=speeds[name].median / record["film"]["fps"],
        options=_options(record, case, runtime, device),
    )


def _options(record: Record, case: Mapping[str, Any], runtime: str, device: str) -> tuple[str, ...]:
    """Return the options that differ from what `roadseg infer` takes by itself."""
    options = ["--device", device] if record.get("gpus") or device != CPU else []
    is_default = case["weights"] == record.get("defaults", {}).get("weights")
    if not is_default:
        options += ["--weights", _typed(record, case["weights"])]
    if not is_default or case["backend"] != "auto":
        options += ["--backend", runtime]
    return tuple(options)


def _typed(record: Record, weights: str) -> str:
    """Return what to type for the model file of a case, whose name alone is known of older ones."""
    given = record["settings"].get("weights", ())
    return next((path for path in given if PurePath(path).name == weights), weights)
