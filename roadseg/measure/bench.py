"""Measure the model alone, the whole pipeline and a plain loop in turns, and keep the raw samples.

Each measurement is a fresh process (`roadseg.measure.jobs`). A round measures every case once,
in an order that turns from round to round, so that neighbours on the machine and its clock slow
down all alike: ratios within a round hold where times do not. A case whose class maps are not
those of the reference is not timed at all. Another way to run the pipeline is one entry in `MODES`.
"""

import contextlib
import json
import os
import subprocess
import sys
import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import asdict, dataclass, field, replace
from datetime import UTC, datetime
from itertools import islice
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any

import numpy as np

from roadseg import __version__
from roadseg.backends.machine import core_count
from roadseg.backends.runtimes import BACKENDS, open_backend
from roadseg.backends.weights import default_weights, shipped_model
from roadseg.errors import BenchError, ModelFileError
from roadseg.files import sha256_of
from roadseg.measure.config import BenchConfig
from roadseg.measure.enlarged_film import enlarge_film
from roadseg.measure.machine_record import machine_record
from roadseg.measure.many_cores import many_cores
from roadseg.measure.meters import busy_s
from roadseg.measure.results import RECORD_FORMAT
from roadseg.segmentation.config import ModelConfig
from roadseg.segmentation.placement import input_size, laid
from roadseg.video.read.read_log import ReadLog
from roadseg.video.read.source import decode, probe

INPUT_FRAMES = 8
"""Frames of the video on which models are verified and timed."""
FEW_ROUNDS = 2
"""With no more rounds than these, live mode is measured in the first alone."""
STAGE_FRAMES = 48
"""Frames, at most, that each stage of the pipeline is given when it runs alone."""
LEAST_EQUAL = {"model": 0.95, "plain": 0.95, "peer": 0.8}
"""Share of pixels in which a case must decide as the reference does, to be timed.

Other arithmetic flips a few, INT8 some percent. The peer is asked for road or not alone, and it has
learnt other roads.
"""
PEER_HW = (512, 896)
"""Network input of the peer."""
EACH_ALONE: dict[str, Any] = {"steady": 0.0}
"""Settings of `InferConfig` that label each frame without the past, as the plain loop does."""
MODES: dict[str, dict[str, Any]] = {
    "roadseg": {},
    "roadseg --every 1": {"every": 1},
    "roadseg --steady 0": EACH_ALONE,
    "roadseg --every 4": {"every": 4},
}
"""Ways to run `roadseg infer`: name, and settings of `InferConfig` beside the defaults.

The first is what the targets call the defaults.
"""
SLOW_STARTERS = ("torch-compiled",)
"""Runtimes that are measured only when asked for: each process compiles for a minute."""
PLAIN = "plain session"
"""Name of the model alone as the plain loop opens it."""
SAME_RUNTIME = "onnxruntime"
"""Runtime of the plain loop."""
RECORDED = ("weights", "backend", "size_hw", "batch", "rate", "mode")
"""Settings of a case that its record keeps."""


@dataclass(frozen=True, kw_only=True)
class Case:
    """Something to be measured."""

    name: str
    """What tables call it."""
    job: str
    """Key of `roadseg.measure.jobs.JOBS`."""
    settings: Mapping[str, Any] = field(default_factory=dict)
    """What the job is given, as JSON values."""
    once: bool = False
    """Measure it in the first round only."""

    def record(self) -> dict[str, Any]:
        """Return the case for the record, without paths of this machine."""
        kept = {key: self.settings[key] for key in RECORDED if key in self.settings}
        if "weights" in kept:
            kept["weights"] = Path(kept["weights"]).name
        return {"job": self.job, **kept}


def bench(config: BenchConfig, on_step: Callable[[str], None] = lambda _: None) -> dict[str, Any]:
    """Measure all that is asked for and return the record, JSON values throughout.

    Args:
        config: Settings.
        on_step: Called with a few words on what is being done.

    Raises:
        VideoError: The video cannot be read.
        ModelFileError: The reference model is missing or not ours.
        BenchError: A case failed, or disagrees with the reference.
    """
    with TemporaryDirectory() as folder:
        testbed = Testbed(_at_its_size(config, Path(folder), on_step), Path(folder), on_step)
        models, checks = verified(models_of(testbed), testbed)
        films, roles = films_of(testbed, checks)
        cases = [*films, *models]
        rounds = [testbed.round(number, cases) for number in range(config.rounds)]
        work = testbed.work()
    record = {
        "format": RECORD_FORMAT,
        "made_by": f"roadseg {__version__}",
        "at": datetime.now(UTC).isoformat(timespec="seconds"),
        "machine": machine_record(),
        "film": film_record(config.film, config.film_hw),
        "settings": json.loads(json.dumps(asdict(config), default=_name)),
        "reference": testbed.reference,
        "checks": checks,
        "roles": roles,
        "contenders": {case.name: case.record() for case in cases},
        "work": work,
        "rounds": rounds,
    }
    return record | {"many_cores": many_cores(record)}


def _at_its_size(config: BenchConfig, folder: Path, on_step: Callable[[str], None]) -> BenchConfig:
    """Return the settings with a film of the size that is to be measured."""
    if config.film_hw is None:
        return config
    on_step("enlarging the film")
    enlarged = folder / f"{config.film.stem}.mp4"
    seconds = None if config.film_s is None else max(config.film_s, config.live_s)
    enlarge_film(config.film, enlarged, config.film_hw, seconds)
    return replace(config, film=enlarged)


def _name(value: object) -> str:
    return value.name if isinstance(value, Path) else str(value)


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


class Testbed:
    """What all measurements of a run share: inputs, the reference's class maps, and `run`.

    Args:
        config: Settings.
        folder: Where files may lie while the run lasts.
        on_step: Called with a few words on what is being done.

    Raises:
        VideoError: The video cannot be read.
        ModelFileError: The reference model is missing or not ours.
    """

    def __init__(self, config: BenchConfig, folder: Path, on_step: Callable[[str], None]) -> None:
        self.config = config
        self.weights = config.weights or models_at_hand()
        self.usual = config.weights[0] if config.weights else default_weights()
        self.backend = config.backends[0] if config.backends else ModelConfig.backend
        self._folder = folder
        self._on_step = on_step
        self._info = probe(config.film)
        self.sizes_hw = config.sizes_hw or (self._default_hw(),)
        for size_hw in self.sizes_hw:
            self._write_inputs(size_hw, padded=True)
        if config.peer:
            self._write_inputs(PEER_HW, padded=False)
        self.reference = self._write_answers()

    @property
    def frames(self) -> int | None:
        """Frames of the video to label; None is all of them."""
        film_s = self.config.film_s
        return None if film_s is None else max(round(film_s * self._info.fps), 1)

    def inputs(self, size_hw: tuple[int, int]) -> str:
        """Return the file of frames at a size, (N, H, W, 3) RGB."""
        return str(self._folder / f"inputs-{size_hw[1]}x{size_hw[0]}.npy")

    def answers(self, size_hw: tuple[int, int]) -> str:
        """Return the file of the reference's class maps of those frames, (N, H, W)."""
        return str(self._folder / f"answers-{size_hw[1]}x{size_hw[0]}.npy")

    def out(self, suffix: str = ".mp4") -> str:
        """Return a name to write a video under."""
        return str(self._folder / f"out{suffix}")

    def work(self) -> dict[str, Any]:
        """Return the work of one call of every model in ONNX."""
        self._on_step("counting the model's work")
        inputs = self.inputs(self.sizes_hw[0])
        models = (path for path in self.weights if path.suffix == ".onnx")
        return {p.name: self.run("work", {"weights": str(p), "inputs": inputs}) for p in models}

    def round(self, number: int, cases: Sequence[Case]) -> dict[str, Any]:
        """Measure every case once, and how busy the machine was with anything else."""
        at_work_s, since_s, own_s = busy_s(), time.monotonic(), _children_cpu_s()
        results = {}
        for case in cases[:: -1 if number % 2 else 1]:
            if number == 0 or not case.once:
                self._on_step(f"round {number + 1} of {self.config.rounds}: {case.name}")
                results[case.name] = self.run(case.job, case.settings)
        others = None
        if at_work_s is not None and (now_s := busy_s()) is not None:
            used_s = now_s - at_work_s - (_children_cpu_s() - own_s)
            others = max(used_s, 0.0) / ((time.monotonic() - since_s) * core_count())
        return {"others_cpu_share": others, "results": results}

    def run(self, job: str, settings: Mapping[str, Any]) -> dict[str, Any]:
        """Do a job of `roadseg.measure.jobs` in a process of its own.

        Raises:
            BenchError: It failed, which is a bug; the message ends with its output.
        """
        paths = [self._folder / f"{name}.json" for name in ("job", "result")]
        given = {"job": job, "settings": dict(settings), "spawned_s": time.monotonic()}
        paths[0].write_text(json.dumps(given))
        command = [sys.executable, "-m", "roadseg.measure.jobs", *map(str, paths)]
        done = subprocess.run(command, capture_output=True, text=True, check=False)  # noqa: S603
        if done.returncode:
            raise BenchError(
                f"the measurement {job!r} broke down with exit code {done.returncode}; it should "
                f"not; please report it with this:\n{done.stderr.strip()}"
            )
        return dict(json.loads(paths[1].read_text()))

    def verify(self, case: Case) -> dict[str, Any]:
        """Compare a case with the reference; where they differ too much that is an "error"."""
        self._on_step(f"verifying {case.name}")
        check = self.run("verify", {**case.settings, "job": case.job})
        least = LEAST_EQUAL[case.job]
        if check.get("equal_share", 1.0) < least:
            check["error"] = (
                f"decides as {self.reference} does on {check['equal_share']:.1%} of the pixels; at "
                f"least {least:.0%} is needed; it was not timed"
            )
        return check

    def _default_hw(self) -> tuple[int, int]:
        """Return the network input that `roadseg infer` would choose for the video."""
        with contextlib.closing(open_backend(self.weights[0])) as backend:
            return input_size(self._info.size_hw, self._info.pixel_aspect, backend.spec)

    def _write_inputs(self, size_hw: tuple[int, int], *, padded: bool) -> None:
        """Store frames spread over the part of the video that is labelled."""
        known = [count for count in (self.frames, self._info.frame_count) if count]
        count = min(known, default=INPUT_FRAMES)
        step = max(count // INPUT_FRAMES, 1)
        chosen = islice(decode(self._info, ReadLog()), 0, step * INPUT_FRAMES, step)
        pictures = [laid(f, size_hw)[1][0] if padded else f.rgb(size_hw) for f in chosen]
        np.save(self.inputs(size_hw), np.stack(pictures))

    def _write_answers(self) -> str:
        """Store the reference's class maps and return its name: PyTorch's, where it is there."""
        checkpoints = [path for path in self.weights if path.suffix == ".safetensors"]
        result: dict[str, Any] = {}
        for path in (*checkpoints, self.weights[0]):
            for size_hw in self.sizes_hw:
                files = {"inputs": self.inputs(size_hw), "answers": self.answers(size_hw)}
                result = self.run("answer", {"weights": str(path), "backend": "auto", **files})
            if "error" not in result:
                return f"{path.name} {result['runtime']}"
        raise BenchError(f"there is nothing to compare with: {result['error']}")


def models_at_hand() -> tuple[Path, ...]:
    """Return the models that come along, FP32 first: exported, and in a checkout PyTorch's."""
    exported = shipped_model("fp32")
    found = (exported, shipped_model("int8"), exported.with_suffix(".safetensors"))
    return tuple(path for path in found if path.is_file())


def models_of(testbed: Testbed) -> list[Case]:
    """Return the models to measure alone: every file on every runtime, at every size and batch."""
    names = testbed.config.backends or tuple(name for name in BACKENDS if name not in SLOW_STARTERS)
    found = [
        _model(testbed, path, name, size_hw, batch)
        for size_hw in testbed.sizes_hw
        for batch in testbed.config.batches
        for path in testbed.weights
        for name in names
    ]
    plain = _timed(testbed, testbed.sizes_hw[0], weights=str(testbed.weights[0]))
    found.append(Case(name=PLAIN, job="plain", settings=plain))
    if testbed.config.peer:
        settings = _timed(testbed, PEER_HW, weights=str(testbed.config.peer))
        settings["answers"] = testbed.answers(testbed.sizes_hw[0])
        found.append(Case(name=testbed.config.peer.stem, job="peer", settings=settings))
    return found


def _model(
    testbed: Testbed, path: Path, backend: str, size_hw: tuple[int, int], batch: int
) -> Case:
    details = [f"{size_hw[1]}x{size_hw[0]}"] if len(testbed.sizes_hw) > 1 else []
    details += [f"x{batch}"] if len(testbed.config.batches) > 1 or batch > 1 else []
    return Case(
        name=" ".join([path.name, backend, *details]),
        job="model",
        settings=_timed(testbed, size_hw, batch, weights=str(path), backend=backend),
    )


def _timed(
    testbed: Testbed, size_hw: tuple[int, int], batch: int = 1, **settings: Any
) -> dict[str, Any]:
    files = {"inputs": testbed.inputs(size_hw), "answers": testbed.answers(size_hw)}
    return {
        **settings,
        **files,
        "size_hw": size_hw,
        "batch": batch,
        "seconds": testbed.config.call_s,
    }


def verified(
    models: Sequence[Case], testbed: Testbed
) -> tuple[list[Case], dict[str, dict[str, Any]]]:
    """Return the models that decide as the reference does, and what was found of each.

    A runtime that nobody asked for by name and that does not read a file is passed over.
    """
    kept, checks = [], {}
    for model in models:
        check = testbed.verify(model)
        if check.get("kind") == ModelFileError.__name__ and not testbed.config.backends:
            continue
        checks[model.name] = check
        if "error" not in check:
            kept.append(model)
    return kept, checks


def films_of(
    testbed: Testbed, checks: dict[str, dict[str, Any]]
) -> tuple[list[Case], dict[str, str]]:
    """Return the cases that label videos, and the roles of cases in the targets.

    Raises:
        BenchError: The default model disagrees with the reference.
    """
    size_hw, usual = testbed.sizes_hw[0], next(iter(MODES))
    check = testbed.verify(_model(testbed, testbed.usual, testbed.backend, size_hw, 1))
    if "error" in check:
        raise BenchError(f"{testbed.usual.name} on {testbed.backend}: {check['error']}")
    checks[usual] = check
    cut = {"limit_s": testbed.config.film_s}
    film = {"film": str(testbed.config.film), "out": testbed.out(), "size_hw": size_hw}
    chosen = {**film, "weights": str(testbed.usual), "backend": testbed.backend}
    plain = {**film, "weights": str(testbed.weights[0])}
    as_loop = f"{usual} as the loop"
    roles = {"loop": "plain loop", "plain": PLAIN, "same": as_loop, "defaults": usual}
    same = {**plain, **cut, "backend": SAME_RUNTIME, "mode": EACH_ALONE}
    found = [
        Case(name=roles["loop"], job="loop", settings={**plain, "limit": testbed.frames}),
        Case(name=as_loop, job="film", settings=same),
    ]
    for name, mode in MODES.items():
        found.append(Case(name=name, job="film", settings={**chosen, **cut, "mode": mode}))
    return [*found, *_others(testbed, chosen)], roles


def _others(testbed: Testbed, chosen: Mapping[str, Any]) -> list[Case]:
    """Return what is measured of the default pipeline beside whole videos, and the machine."""
    live = {
        "rate": testbed.config.rate,
        "seconds": testbed.config.live_s,
        "out": testbed.out(".mkv"),
    }
    frames = STAGE_FRAMES if testbed.frames is None else min(STAGE_FRAMES, testbed.frames)
    once = testbed.config.rounds <= FEW_ROUNDS
    return [
        Case(name="first frame", job="command", settings=chosen),
        Case(name="stages", job="stages", settings={**chosen, "frames": frames}),
        Case(name="live", job="live", settings={**chosen, **live}, once=once),
        Case(name="machine", job="machine"),
    ]


def _children_cpu_s() -> float:
    used = os.times()
    return used.children_user + used.children_system
