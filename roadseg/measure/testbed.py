"""What all measurements of a run share: inputs, the reference's class maps, processes of their own.

A process sees the one GPU that it measures, or none: so what is measured on the CPU, the reference
above all, is computed there and in FP32, whatever else the machine has.
"""

import json
import os
import re
import subprocess
import sys
import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from itertools import islice, product
from pathlib import Path
from typing import Any

import numpy as np

from roadseg.backends.runtimes import BACKENDS, stated_spec
from roadseg.backends.tuned import cache_folder
from roadseg.backends.weights import default_weights, shipped_checkpoint, shipped_model
from roadseg.errors import BackendUnavailable, BenchError
from roadseg.files import make_folder
from roadseg.measure.config import ENGINE, BenchConfig
from roadseg.measure.meters import busy_s
from roadseg.measure.record import Check, RoundRecord
from roadseg.segmentation.config import CPU, ModelConfig
from roadseg.segmentation.placement import input_size, laid
from roadseg.video.read.read_log import ReadLog
from roadseg.video.read.source import decode, probe

INPUT_FRAMES = 8
"""Frames of the video on which models are verified and timed."""
LEAST_EQUAL = {"model": 0.95, "gpu": 0.95, "plain": 0.95, "peer": 0.8}
"""Share of pixels in which a case must decide as the reference does, to be timed.

Other arithmetic flips a few, INT8 some percent. The peer is asked for road or not alone, and it has
learnt other roads.
"""
PEER_HW = (512, 896)
"""Network input of the peer."""
RECORDED = (
    *("weights", "backend", "device", "size_hw", "batch", "scenario", "cuda_graph"),
    *("rate", "mode"),
)
"""Settings of a case that its record keeps."""
VISIBLE = "CUDA_VISIBLE_DEVICES"
"""Variable that says which GPUs a process sees; CUDA counts those from 0."""


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


class Testbed:
    """What all measurements of a run share: inputs, the reference's class maps, and `run`.

    Args:
        config: Settings.
        folder: Where files may lie while the run lasts.
        on_step: Called with a few words on what is being done.

    Raises:
        VideoError: The video cannot be read.
        ModelFileError: The reference model is missing or not ours.
        BackendUnavailable: A GPU that was asked for cannot be used.
        BenchError: The video, or what is labelled of it, is a single frame.
    """

    def __init__(self, config: BenchConfig, folder: Path, on_step: Callable[[str], None]) -> None:
        self.config = config
        self.weights = config.weights or models_at_hand()
        self.usual, self.backend = self._usual()
        self._folder = folder
        self._on_step = on_step
        self._info = probe(config.film)
        self._refuse_single_frame()
        self.gpus = {name: self._gpu(name) for name in config.gpus}
        self.sizes_hw = config.sizes_hw or (self._default_hw(),)
        for size_hw in self.sizes_hw:
            self._write_inputs(size_hw, padded=True)
        if config.peer:
            self._write_inputs(PEER_HW, padded=False)
        self.reference = self._write_answers()
        ways = product(self.gpus, config.batches) if config.builds_engines else ()
        self.engines = {way: self._built_engine(*way) for way in ways}

    @property
    def frames(self) -> int | None:
        """Frames of the video to label; None is all of them."""
        film_s = self.config.film_s
        return None if film_s is None else max(round(film_s * self._info.fps), 1)

    @property
    def exported(self) -> Path | None:
        """The model that the plain loop runs, which takes ONNX alone; None if none is given."""
        return next((path for path in self.weights if path.suffix == ".onnx"), None)

    @property
    def checkpoints(self) -> list[Path]:
        """The models that are model files of training."""
        return [path for path in self.weights if path.suffix == ".safetensors"]

    def inputs(self, size_hw: tuple[int, int]) -> str:
        """Return the file of frames at a size, (N, H, W, 3) RGB."""
        return str(self._folder / f"inputs-{size_hw[1]}x{size_hw[0]}.npy")

    def answers(self, size_hw: tuple[int, int]) -> str:
        """Return the file of the reference's class maps of those frames, (N, H, W)."""
        return str(self._folder / f"answers-{size_hw[1]}x{size_hw[0]}.npy")

    def out(self, suffix: str = ".mp4") -> str:
        """Return a name to write a video under."""
        return str(self._folder / f"out{suffix}")

    def work(self, cases: Sequence[Case]) -> dict[str, Any]:
        """Return the work of one call of every model in ONNX that cases run at the first size."""
        self._on_step("counting the model's work")
        size_hw = self.sizes_hw[0]
        running = {c.settings["weights"] for c in cases if c.settings["size_hw"] == size_hw}
        models = (p for p in self.weights if p.suffix == ".onnx" and str(p) in running)
        inputs = self.inputs(size_hw)
        return {p.name: self.run("work", {"weights": str(p), "inputs": inputs}) for p in models}

    def layers(self) -> dict[str, Any]:
        """Return the work of each layer of every checkpoint in half precision, as GPUs run it."""
        inputs = self.inputs(self.sizes_hw[0])
        models = self.checkpoints if self.gpus else ()
        return {p.name: self.run("layers", {"weights": str(p), "inputs": inputs}) for p in models}

    def round(self, number: int, cases: Sequence[Case]) -> RoundRecord:
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
            cores = os.cpu_count() or 1  # all of the machine, as those whose time that is
            others = max(used_s, 0.0) / ((time.monotonic() - since_s) * cores)
        return {"others_cpu_share": others, "results": results}

    def run(self, job: str, settings: Mapping[str, Any]) -> Any:
        """Do a job of `roadseg.measure.jobs` in a process of its own and return its result.

        Its setting "device" says which GPU it sees; without one it sees none.

        Raises:
            BenchError: It failed, which is a bug; the message ends with its output.
        """
        paths = [self._folder / f"{name}.json" for name in ("job", "result")]
        given = {"job": job, "settings": dict(settings), "spawned_s": time.monotonic()}
        paths[0].write_text(json.dumps(given))
        command = [sys.executable, "-m", "roadseg.measure.jobs", *map(str, paths)]
        environment = os.environ | {VISIBLE: visible_gpus(settings.get("device", CPU))}
        done = subprocess.run(  # noqa: S603
            command, env=environment, capture_output=True, text=True, check=False
        )
        if done.returncode:
            raise BenchError(
                f"the measurement {job!r} broke down with exit code {done.returncode}; it should "
                f"not; please report it with this:\n{done.stderr.strip()}"
            )
        return json.loads(paths[1].read_text())

    def verify(self, case: Case) -> Check:
        """Compare a case with the reference; where they differ too much that is an "error"."""
        self._on_step(f"verifying {case.name}")
        check: Check = self.run("verify", {**case.settings, "job": case.job})
        least = LEAST_EQUAL[case.job]
        if check.get("equal_share", 1.0) < least:
            check["error"] = (
                f"decides as {self.reference} does on {check['equal_share']:.1%} of the pixels; at "
                f"least {least:.0%} is needed; it was not timed"
            )
        return check

    def _refuse_single_frame(self) -> None:
        """Raise `BenchError` where so little is labelled that there is no time between frames."""
        labelled = islice(decode(self._info, ReadLog(), end_s=self.config.film_s), self.frames)
        if sum(1 for _ in islice(labelled, 2)) < 2:
            seconds = self.config.film_s
            part = "" if seconds is None else f" within --seconds {seconds:g}"
            raise BenchError(
                f"{self.config.film} has a single frame{part}; frames a second need two at least; "
                "give a longer video, or more seconds"
            )

    def _usual(self) -> tuple[Path, str]:
        """Return the model and the runtime of the pipeline that is measured on the CPU."""
        named = [name for name in self.config.backends if not needs_gpu(name)]
        if not named:
            usual = self.config.weights[0] if self.config.weights else default_weights()
            return usual, ModelConfig.backend
        paths = self.weights if self.config.weights else (default_weights(), *self.weights)
        known = [name for name in named if name in BACKENDS]
        fitting = ((p, n) for p in paths for n in known if p.suffix in BACKENDS[n].suffixes)
        return next(fitting, (paths[0], named[0]))

    def _gpu(self, device: str) -> dict[str, Any]:
        """Return what is known of a GPU. Raises `BackendUnavailable` if it cannot be used."""
        self._on_step(f"looking for {device}")
        found: dict[str, Any] = self.run("gpu facts", {"device": device})
        if "error" in found:
            raise BackendUnavailable(f"--device is {device}, and {found['error']}")
        return found

    def _built_engine(self, device: str, batch: int) -> Path:
        """Return the engine of the first checkpoint for a GPU and a batch, built if it is missing.

        Raises:
            BenchError: There is no checkpoint, or it cannot be built.
        """
        if not self.checkpoints:
            raise BenchError(
                "--engine auto builds engines of a model file of training, and there is none; give "
                "its .safetensors with --weights"
            )
        source = self.checkpoints[0]
        self._on_step(f"building the engine for {device}, {batch} a call")
        height, width = size_hw = self.sizes_hw[0]
        gpu = re.sub(r"\W+", "-", self.gpus[device]["name"])
        name = f"{source.stem}.{gpu}-{width}x{height}x{batch}{ENGINE}"
        out = cache_folder() / "engines" / name
        make_folder(out.parent)
        found = self.run(
            "engine",
            {
                **{"weights": str(source), "film": str(self.config.film), "device": device},
                **{"size_hw": size_hw, "batch": batch, "out": str(out)},
            },
        )
        if "error" in found:
            raise BenchError(f"--engine auto, for {device}: {found['error']}")
        return out

    def _default_hw(self) -> tuple[int, int]:
        """Return the network input that `roadseg infer` would choose for the video."""
        path = self.weights[0]
        spec = stated_spec(path) if path.suffix == ".onnx" else None
        if spec is not None:
            return input_size(self._info.size_hw, self._info.pixel_aspect, spec)
        found = self.run("input size", {"weights": str(path), "film": str(self.config.film)})
        if "error" in found:
            raise BenchError(f"there is nothing to compare with: {found['error']}")
        height, width = found["size_hw"]
        return height, width

    def _write_inputs(self, size_hw: tuple[int, int], *, padded: bool) -> None:
        """Store frames spread over the part of the video that is labelled."""
        known = [count for count in (self.frames, self._info.frame_count) if count]
        count = min(known, default=INPUT_FRAMES)
        step = max(count // INPUT_FRAMES, 1)
        chosen = islice(decode(self._info, ReadLog()), 0, step * INPUT_FRAMES, step)
        pictures = [laid(f, size_hw)[1][0] if padded else f.rgb(size_hw) for f in chosen]
        np.save(self.inputs(size_hw), np.stack(pictures))

    def _write_answers(self) -> str:
        """Store the reference's class maps and return its name: PyTorch's, where it is there.

        It is computed on the CPU, where PyTorch takes no TF32 and no half precision.
        """
        result: dict[str, Any] = {}
        for path in (*self.checkpoints, self.weights[0]):
            for size_hw in self.sizes_hw:
                files = {"inputs": self.inputs(size_hw), "answers": self.answers(size_hw)}
                result = self.run("answer", {"weights": str(path), "backend": "auto", **files})
            if "error" not in result:
                return f"{path.name} {result['runtime']}"
        raise BenchError(f"there is nothing to compare with: {result['error']}")


def models_at_hand() -> tuple[Path, ...]:
    """Return the included models, FP32 first: exported, and in a checkout PyTorch's."""
    found = (shipped_model("fp32"), shipped_model("int8"), shipped_checkpoint())
    return tuple(path for path in found if path.is_file())


def needs_gpu(backend: str) -> bool:
    """Return whether a runtime is known, and runs on a GPU alone."""
    return backend in BACKENDS and BACKENDS[backend].needs_gpu


def visible_gpus(device: str) -> str:
    """Return what `VISIBLE` is for a process that sees one device of those that this one sees."""
    if device == CPU:
        return "-1"  # no GPU has this number
    index, seen = int(device.partition(":")[2] or 0), os.environ.get(VISIBLE)
    if seen is None:
        return str(index)
    listed = seen.split(",")
    return listed[index] if index < len(listed) else visible_gpus(CPU)


def _children_cpu_s() -> float:
    used = os.times()
    return used.children_user + used.children_system
