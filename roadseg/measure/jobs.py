"""One measurement, in a process of its own: `python -m roadseg.measure.jobs JOB RESULT`.

So cases do not share memory, threads or warm caches, and start-up is measured too. JOB and RESULT
are JSON files. A job is a function and an entry in `JOBS`; it returns raw samples, from which
`roadseg.measure.results` computes metrics. An error of the user is stored as the result's "error".
"""

import contextlib
import json
import subprocess
import sys
import time
from collections.abc import Callable, Collection, Mapping, Sequence
from dataclasses import asdict, replace
from fractions import Fraction
from functools import partial
from itertools import count, islice
from pathlib import Path
from typing import Any

import av
import numpy as np
from numpy.typing import NDArray

from roadseg.backends.runtimes import CLASS_MAP, Answer, Backend, Output, open_backend
from roadseg.errors import RoadsegError, VideoError
from roadseg.infer.config import InferConfig, LiveConfig
from roadseg.infer.device import device_for
from roadseg.infer.live import LiveSession
from roadseg.infer.offline import infer, maps_for
from roadseg.infer.outputs import Outputs
from roadseg.infer.stages import Parallel, Pipeline, Stage
from roadseg.infer.steps import blend, encode, labelling, opencv_on_one_thread
from roadseg.measure.gpu_jobs import (
    build_engine,
    count_layers,
    gpu_facts,
    measure_gpu,
    metered,
    seen_as,
    settled,
    time_gpu,
)
from roadseg.measure.meters import (
    Marks,
    ModelMeter,
    StepMeter,
    model_result,
    peak_rss_bytes,
    reset_peak_rss,
    rss_bytes,
    warmup_frames,
)
from roadseg.measure.model_jobs import answer, time_backend, time_peer, time_plain, verify
from roadseg.measure.plain_loop import plain_loop
from roadseg.measure.record import (
    CommandResult,
    FilmResult,
    LiveResult,
    LoopResult,
    MachineResult,
    StageResult,
    StagesResult,
)
from roadseg.measure.roofline import peak_bytes, peak_flops, work_of
from roadseg.segmentation.config import CPU
from roadseg.segmentation.placement import input_size
from roadseg.video.pyav import open_for_reading
from roadseg.video.read.read_log import ReadLog
from roadseg.video.read.source import probe
from roadseg.video.write.companions import Origin

Frames = NDArray[np.uint8]


class MeteredBackend:
    """A backend whose calls are timed.

    Args:
        backend: The backend.
        meter: Its meter.
    """

    def __init__(self, backend: Backend, meter: ModelMeter) -> None:
        self.spec = backend.spec
        self._backend = backend
        self._meter = meter

    def run(self, frames: Frames, wants: Collection[Output] = CLASS_MAP) -> Answer:
        """Run the network, timed."""
        return self._meter.call(partial(self._backend.run, wants=wants), frames)

    def close(self) -> None:
        """Free what the runtime holds."""
        self._meter.note_pool()
        self._backend.close()


class MeteredOpener:
    """Opens models for a pipeline, each with a meter of its own."""

    def __init__(self) -> None:
        self.meters: list[ModelMeter] = []
        self._numbers = count()  # of which no two threads get the same

    def __call__(self, path: Path, name: str, threads: int | None) -> MeteredBackend:
        """Open a model as `open_backend` does, on a thread of the pipeline."""
        meter = ModelMeter(next(self._numbers))
        self.meters.append(meter)
        return MeteredBackend(meter.open(partial(open_backend, path, name, threads)), meter)


def label_film(
    *, spawned_s: float, limit_s: float | None, mode: dict[str, Any] | None = None, **settings: Any
) -> FilmResult:
    """Job: `roadseg infer` without its command line."""
    config = replace(_infer_config(**settings), end_s=limit_s, **(mode or {}))
    opener = MeteredOpener()
    with metered(config.device) as meter:
        marks = Marks(spawned_s, meter)
        result = infer(config, marks.add, opener)
        measured = marks.result()
    return {
        **measured,
        **model_result(opener.meters),
        "device": result.device,
        "decoder": result.decoder,
        "encoder": result.hardware_encoder,
        "network_hw": result.network_hw,
        "out_bytes": Path(settings["out"]).stat().st_size,
        "stages": [asdict(stats) for stats in result.stages],
    }


def _infer_config(
    *, film: str, out: str, weights: str, backend: str, size_hw: Sequence[int], device: str = CPU
) -> InferConfig:
    height, width = size_hw
    return InferConfig(
        source=Path(film),
        out=Path(out),
        weights=Path(weights),
        backend=backend,
        device=seen_as(device),
        size_hw=(height, width),
        overwrite=True,
    )


def run_loop(
    *,
    spawned_s: float,
    film: str,
    out: str,
    limit: int | None,
    weights: str,
    size_hw: Sequence[int],
) -> LoopResult:
    """Job: the plain loop that a user would write without roadseg."""
    height, width = probe(Path(film)).size_hw
    if height % 2 or width % 2:
        raise VideoError(f"{film} is {width}x{height}; the plain loop needs even sides; crop it")
    marks, meter, steps, loop = Marks(spawned_s), ModelMeter(), StepMeter(), plain_loop()

    def on_step(name: str) -> None:
        steps.note(name)
        if name == "encode":
            marks.add()

    model, palette = meter.open(partial(loop.open_model, weights))
    loop.label(
        film,
        out,
        partial(meter.call, model),
        palette,
        tuple(size_hw[::-1]),
        limit=limit,
        on_step=on_step,
    )
    meter.note_pool()
    return {
        **marks.result(),
        **model_result([meter]),
        "steps": steps.result(),
        "out_bytes": Path(out).stat().st_size,
    }


def run_stages_alone(*, frames: int, **settings: Any) -> StagesResult:
    """Job: each stage of the pipeline by itself, fed from memory."""
    del settings["spawned_s"]  # each stage has a clock of its own
    config = _infer_config(**settings)
    read, settle = device_for(config).decode, settled(config.device)
    origin = Origin(source=probe(config.source), log=ReadLog())
    outputs, opener = Outputs(config, origin.source), MeteredOpener()
    stages: dict[str, Stage | Parallel] = {
        "decode": lambda _: islice(read(origin.source, origin.log, 0.0, None), frames),
        **labelling(config, opener, maps_for(config)),
        "overlay": partial(blend, config=config),
        "encode": partial(encode, outputs=outputs, origin=origin),
    }
    items: list[Any] = []
    results: dict[str, StageResult] = {}
    with outputs.claimed(), opencv_on_one_thread():
        for name, stage in stages.items():
            items, results[name] = _alone(stage, items, settle)
    return {
        "stages_alone": results,
        "decoder": origin.log.decoder,
        "encoder": outputs.hardware_encoder,
        **model_result(opener.meters),
    }


def _alone(
    stage: Stage | Parallel, items: list[Any], settle: Callable[[], None]
) -> tuple[list[Any], StageResult]:
    reset_peak_rss()
    before = rss_bytes()
    marks = Marks(time.monotonic())
    made = []
    with Pipeline(items, stage, names=["memory", "stage"]) as pipeline:
        for item in pipeline:
            made.append(item)
            settle()
            marks.add()
    result = marks.result()
    peak = result["peak_rss_bytes"]
    grown = None if peak is None or before is None else peak - before
    return made, {**result, "grown_rss_bytes": grown}


def watch_live(
    *,
    film: str,
    out: str,
    rate: float | None,
    seconds: float,
    weights: str,
    backend: str,
    size_hw: Sequence[int],
    **_: object,
) -> LiveResult:
    """Job: `roadseg live` without its view, on a video that plays as a camera at a given rate."""
    info = probe(Path(film))
    if rate is not None:
        retime(Path(film), Path(out), rate / float(info.fps))
        film = out
    height, width = size_hw
    config = LiveConfig(
        source=film,
        as_camera=True,
        weights=Path(weights),
        backend=backend,
        size_hw=(height, width),
    )
    ages_s, dropped, at_s = [], [], []
    with LiveSession(config, lambda _: None) as session:
        for _item, reading in session:
            ages_s.append(round(reading.age_s, 5))
            dropped.append(reading.dropped)
            at_s.append(round(time.monotonic(), 5))
            if at_s[-1] - at_s[0] > seconds:
                break
    return {
        "rate_fps": rate or float(info.fps),
        "warmup_frames": warmup_frames(len(ages_s)),
        "ages_s": ages_s,
        "dropped": dropped,
        "shown_at_s": [round(t - at_s[0], 5) for t in at_s],
        "peak_rss_bytes": peak_rss_bytes(),
    }


def retime(film: Path, out: Path, factor: float) -> None:
    """Copy a video's pictures so that they play faster by a factor."""
    info = probe(film)
    with open_for_reading(film) as source, av.open(out, "w", format="matroska") as target:
        stream = source.streams[info.stream_index]
        assert isinstance(stream, av.VideoStream)
        copied = target.add_stream_from_template(stream)
        for packet in source.demux(stream):
            if packet.dts is None:
                continue
            packet.time_base = packet.time_base / Fraction(factor).limit_denominator(10_000)
            packet.stream = copied
            target.mux(packet)


def run_command(*, film: str, out: str, weights: str, backend: str, **_: object) -> CommandResult:
    """Job: the command as users run it, for a video of one frame: from its start to its end."""
    frame_s = 1 / float(probe(Path(film)).fps)
    arguments = ["infer", film, "--out", out, "--weights", weights, "--backend", backend]
    options = ["--end", str(frame_s), "--overwrite", "--quiet"]
    since_s = time.perf_counter()
    subprocess.run([sys.executable, "-m", "roadseg", *arguments, *options], check=True)  # noqa: S603
    took_s = time.perf_counter() - since_s
    return {"command_s": round(took_s, 5), "frames": probe(Path(out)).frame_count}


def measure_machine(**_: object) -> MachineResult:
    """Job: the peak rates of the machine."""
    return {"flops_a_s": peak_flops(), "bytes_a_s": peak_bytes()}


def choose_size(*, weights: str, film: str, **_: object) -> dict[str, Any]:
    """Job: the network input that `roadseg infer` would choose for a video."""
    info = probe(Path(film))
    with contextlib.closing(open_backend(Path(weights))) as backend:
        return {"size_hw": input_size(info.size_hw, info.pixel_aspect, backend.spec)}


def count_work(*, weights: str, inputs: str, **_: object) -> dict[str, Any]:
    """Job: the work of one call of a model."""
    height, width = np.load(inputs).shape[1:3]
    return asdict(work_of(Path(weights), (1, height, width, 3)))


JOBS: dict[str, Callable[..., Mapping[str, Any]]] = {
    "film": label_film,
    "loop": run_loop,
    "model": time_backend,
    "plain": time_plain,
    "peer": time_peer,
    "stages": run_stages_alone,
    "live": watch_live,
    "command": run_command,
    "machine": measure_machine,
    "work": count_work,
    "layers": count_layers,
    "input size": choose_size,
    "engine": build_engine,
    "gpu": time_gpu,
    "gpu facts": gpu_facts,
    "gpu machine": measure_gpu,
    "answer": answer,
    "verify": verify,
}
"""The jobs by name."""


def main(job_path: str, result_path: str) -> None:
    """Do a job and write its result."""
    job = json.loads(Path(job_path).read_text())
    try:
        result = JOBS[job["job"]](**job["settings"], spawned_s=job["spawned_s"])
    except RoadsegError as error:
        result = {"error": str(error), "kind": type(error).__name__}
    Path(result_path).write_text(json.dumps(result))


if __name__ == "__main__":
    main(*sys.argv[1:])
