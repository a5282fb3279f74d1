"""Read a record of `roadseg bench` from its file, and refuse one that lacks what it must hold."""

import json
from collections.abc import Iterator, Mapping
from pathlib import Path
from types import UnionType
from typing import Any, TypedDict, get_args, get_origin, get_type_hints, is_typeddict

from roadseg.errors import BenchError
from roadseg.measure.record import (
    CommandResult,
    FilmResult,
    GpuMachineResult,
    GpuModelResult,
    LiveResult,
    LoopResult,
    MachineResult,
    ModelResult,
    Record,
    StagesResult,
)
from roadseg.measure.results import RECORD_FORMAT

RESULTS: Mapping[str, type] = {
    **dict.fromkeys(("model", "plain", "peer"), ModelResult),
    "gpu": GpuModelResult,
    "film": FilmResult,
    "loop": LoopResult,
    "stages": StagesResult,
    "live": LiveResult,
    "command": CommandResult,
    "machine": MachineResult,
    "gpu machine": GpuMachineResult,
}
"""Types of results, by job."""


class Machine(TypedDict):
    """What metrics depend on of the machine."""

    cores: int


class Roles(TypedDict):
    """Names of cases in the targets."""

    loop: str
    plain: str
    same: str
    defaults: str


class Case(TypedDict):
    """What metrics depend on of a case."""

    job: str


class FilmCase(Case):
    """The same of the case at the defaults."""

    size_hw: list[int]


class ModelCase(FilmCase):
    """The same of a model alone."""

    batch: int


def read_record(path: Path) -> Record:
    """Return a record that `roadseg bench --record` wrote.

    Raises:
        BenchError: It is none, or of another version.
    """
    try:
        record = json.loads(path.read_text())
        found = record["format"]
    except OSError as error:
        raise BenchError(f"{path} cannot be read ({error.strerror}); check its name") from error
    except (ValueError, KeyError, TypeError, RecursionError) as error:
        raise BenchError(
            f"{path} is no record of roadseg bench; give files that --record wrote"
        ) from error
    if found != RECORD_FORMAT:
        raise BenchError(
            f"{path} has format {found}; this roadseg reads format {RECORD_FORMAT}; measure anew"
        )
    if fault := next(_faults_of(record), None):
        raise BenchError(f"{path} is a damaged record ({fault}); give one as --record wrote it")
    return record  # type: ignore[no-any-return]


def _faults_of(record: Any) -> Iterator[str]:
    """Yield what is not as it must be, as text: each part before those that refer to it."""
    yield from _faults(record, Record, "the record")
    yield from _faults(record["machine"], Machine, "the machine")
    yield from _faults(record["roles"], Roles, "the roles")
    cases = record["contenders"]
    for name, case in cases.items():
        yield from _faults(case, ModelCase if case.get("job") == "model" else Case, name)
    usual = record["roles"]["defaults"]
    yield from _faults(cases.get(usual), FilmCase, usual)
    for number, measured in enumerate(record["rounds"], 1):
        for name, result in measured["results"].items():
            kind = RESULTS.get(cases.get(name, {}).get("job"))
            place = f"round {number}, {name}"
            if kind is None:
                yield f"{place} is no case"
            elif not (isinstance(result, dict) and "error" in result):
                yield from _faults(result, kind, place)
                if kind is StagesResult and "segment" not in result["stages_alone"]:
                    yield f"{place} has no network"


def _faults(value: Any, kind: Any, place: str) -> Iterator[str]:
    """Yield where a JSON value is not of a type, as text."""
    inner = get_args(kind)
    if is_typeddict(kind):
        yield from _faults_of_keys(value, kind, place)
    elif isinstance(kind, UnionType):
        if value is not None:
            yield from _faults(value, inner[0], place)
    elif get_origin(kind) is dict and isinstance(value, dict):
        for key, item in value.items():
            yield from _faults(item, inner[1], f"{place}, {key}")
    elif get_origin(kind) in (list, tuple) and isinstance(value, list):
        for item in value:
            yield from _faults(item, inner[0], place)
    elif kind is not Any and type(value) not in (kind, *((int,) if kind is float else ())):
        yield f"{place} is {str(value)[:20]!r}"


def _faults_of_keys(value: Any, kind: Any, place: str) -> Iterator[str]:
    if not isinstance(value, dict):
        yield f"{place} is {str(value)[:20]!r}"
        return
    for key, hint in get_type_hints(kind).items():
        if key in value:
            yield from _faults(value[key], hint, f"{place}, {key}")
        elif key in kind.__required_keys__:
            yield f"{place} has no {key}"
