"""Measure models alone, the whole pipeline and a plain loop in turns, and keep the raw samples.

Each measurement is a fresh process (`roadseg.measure.jobs`). A round measures every case once,
in an order that turns from round to round, so that neighbours on the machine and its clock slow
down all alike: ratios within a round hold where times do not.
"""

import json
from collections.abc import Callable
from dataclasses import asdict, replace
from datetime import UTC, datetime
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any

from roadseg import __version__
from roadseg.backends.weights import default_weights, is_shipped
from roadseg.files import sha256_of
from roadseg.measure.cases import fastest_films, films_of, models_of, verified
from roadseg.measure.config import BenchConfig
from roadseg.measure.enlarged_film import enlarge_film
from roadseg.measure.machine_record import machine_record
from roadseg.measure.many_cores import many_cores
from roadseg.measure.record import Record, RoundRecord
from roadseg.measure.results import RECORD_FORMAT
from roadseg.measure.testbed import Case, Testbed
from roadseg.video.read.source import probe

FOLDER = "FOLDER"
"""Stands for folders of this machine in a record."""


def bench(config: BenchConfig, on_step: Callable[[str], None] = lambda _: None) -> Record:
    """Measure all that is asked for and return the record, JSON values throughout.

    Args:
        config: Settings.
        on_step: Called with a few words on what is being done.

    Raises:
        VideoError: The video cannot be read.
        ModelFileError: The reference model is missing or not ours.
        BackendUnavailable: A GPU that was asked for cannot be used.
        BenchError: A case failed, or disagrees with the reference, or the video is a single frame.
    """
    with TemporaryDirectory() as folder:
        testbed = Testbed(_at_its_size(config, Path(folder), on_step), Path(folder), on_step)
        models, checks = verified(models_of(testbed), testbed)
        films, roles = films_of(testbed, checks)
        cases, rounds = _rounds([*films, *models], testbed)
        work, layers = testbed.work(models), testbed.layers()
    record: Record = {
        "format": RECORD_FORMAT,
        "made_by": f"roadseg {__version__}",
        "at": datetime.now(UTC).isoformat(timespec="seconds"),
        "machine": machine_record(),
        "gpus": testbed.gpus,
        "film": film_record(config.film, config.film_hw),
        "settings": json.loads(json.dumps(asdict(config), default=_typed)),
        "defaults": {"weights": default_weights().name},
        "reference": testbed.reference,
        "checks": checks,
        "roles": roles,
        "contenders": {case.name: case.record() for case in cases},
        "work": work,
        "layers": layers,
        "rounds": rounds,
    }
    return {**record, "many_cores": many_cores(record)}


def _rounds(cases: list[Case], testbed: Testbed) -> tuple[list[Case], list[RoundRecord]]:
    """Measure all rounds; videos with the models that are fastest in the first one join there."""
    first = testbed.round(0, cases)
    joining = fastest_films(testbed, cases, first["results"])
    first["results"] |= testbed.round(0, joining)["results"]
    cases = [*cases, *joining]
    return cases, [first, *(testbed.round(n, cases) for n in range(1, testbed.config.rounds))]


def _at_its_size(config: BenchConfig, folder: Path, on_step: Callable[[str], None]) -> BenchConfig:
    """Return the settings with a video of the size that is to be measured."""
    if config.film_hw is None:
        return config
    on_step("enlarging the film")
    enlarged = folder / f"{config.film.stem}.mp4"
    seconds = None if config.film_s is None else max(config.film_s, config.live_s)
    enlarge_film(config.film, enlarged, config.film_hw, seconds)
    return replace(config, film=enlarged)


def _typed(value: object) -> str:
    """Return a setting as it was typed, but for where on this machine a file lies."""
    if not isinstance(value, Path) or not value.is_absolute():
        return str(value)
    return value.name if is_shipped(value.name) else f"{FOLDER}/{value.name}"


def film_record(film: Path, enlarged_hw: tuple[int, int] | None = None) -> dict[str, Any]:
    """Return the record of the video, with the size that it was enlarged to, if any."""
    info = probe(film)
    enlarged = {"size_hw": enlarged_hw, "enlarged_from_hw": info.size_hw} if enlarged_hw else {}
    return {
        "name": film.name,
        "sha256": sha256_of(film),
        "bytes": film.stat().st_size,
        "size_hw": info.size_hw,
        "fps": float(info.fps),
        "frames": info.frame_count,
        **enlarged,
    }
