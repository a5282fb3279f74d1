"""Jobs of `roadseg.measure.jobs` that time or verify a model alone, on frames in memory."""

import contextlib
import math
import time
from collections.abc import Callable
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from roadseg.backends.runtimes import Backend, open_backend, runtime_of
from roadseg.errors import BackendUnavailable
from roadseg.measure.meters import WARMUP_CALLS, EnergyMeter, peak_rss_bytes
from roadseg.measure.plain_loop import plain_loop
from roadseg.measure.record import Check, ModelResult
from roadseg.segmentation.placement import resize_class_map
from roadseg.spec import CLASS_NAMES

LEAST_CALLS = 5
"""Least number of timed calls."""
ROAD = CLASS_NAMES.index("road")
PEER_ROAD = (1, 3)
"""Ids of the road in the Open Model Zoo's road segmentation, lane markings included."""
Frames = NDArray[np.uint8]
Model = Callable[[Frames], Frames]


def time_backend(*, weights: str, backend: str, **settings: Any) -> ModelResult:
    """Job: the model alone, on one of roadseg's backends."""

    def opened() -> Model:
        return _class_maps_of(open_backend(Path(weights), backend))

    return _time_calls(opened, **settings)


def time_plain(*, weights: str, **settings: Any) -> ModelResult:
    """Job: the model alone, as the plain loop opens it: ONNX Runtime with its own defaults."""

    def opened() -> Model:
        model: Model = plain_loop().open_model(weights)[0]
        return model

    return _time_calls(opened, **settings)


def time_peer(*, weights: str, **settings: Any) -> ModelResult:
    """Job: another project's model alone, on OpenVINO."""
    return _time_calls(partial(open_peer, weights), **settings)


def open_peer(weights: str) -> Model:
    """Open a model of the Open Model Zoo: (N, 3, H, W) BGR in, scores (N, C, H, W) out.

    Raises:
        BackendUnavailable: OpenVINO is not installed.
    """
    try:
        from roadseg.backends.openvino_silent import ov
    except ImportError as error:
        raise BackendUnavailable(
            f"OpenVINO does not load here ({error}); run: pip install openvino"
        ) from error
    compiled = ov.Core().compile_model(weights, "CPU", {"PERFORMANCE_HINT": "LATENCY"})

    def model(frames: Frames) -> Frames:
        bgr = np.ascontiguousarray(frames[..., ::-1].transpose(0, 3, 1, 2), np.float32)
        scores = compiled(bgr)[0]
        return np.asarray(scores.argmax(axis=1), np.uint8)

    return model


def _time_calls(
    opened: Callable[[], Model],
    *,
    spawned_s: float,
    inputs: str,
    batch: int,
    seconds: float,
    **_: object,
) -> ModelResult:
    """Open a model and time its calls on real frames, the first ones separately."""
    frames = np.load(inputs)
    batches = [frames.take(range(i, i + batch), axis=0, mode="wrap") for i in range(len(frames))]
    since_s = time.perf_counter()
    model = opened()
    open_s = time.perf_counter() - since_s
    calls_s: list[float] = []
    cpu_s, steady_since_s, energy = 0.0, math.inf, EnergyMeter()  # once the model is warm
    while len(calls_s) < WARMUP_CALLS + 1 + LEAST_CALLS or steady_since_s + seconds > since_s:
        if len(calls_s) == WARMUP_CALLS + 1:
            cpu_s, steady_since_s, energy = time.process_time(), time.perf_counter(), EnergyMeter()
        since_s = time.perf_counter()
        model(batches[len(calls_s) % len(batches)])
        calls_s.append(round(time.perf_counter() - since_s, 6))
    steady = calls_s[WARMUP_CALLS + 1 :]
    return {
        "started_s": round(time.monotonic() - spawned_s - sum(calls_s) - open_s, 5),
        "open_s": round(open_s, 5),
        "first_call_s": calls_s[0],
        "warmup_calls_s": calls_s[1 : WARMUP_CALLS + 1],
        "calls_s": steady,
        "batch": batch,
        "cpu_s": round(time.process_time() - cpu_s, 5),
        "peak_rss_bytes": peak_rss_bytes(),
        "joules": energy.joules(),
    }


def answer(*, weights: str, backend: str, inputs: str, answers: str, **_: object) -> dict[str, Any]:
    """Job: label frames and store the class maps as the reference."""
    with contextlib.closing(open_backend(Path(weights), backend)) as model:
        np.save(answers, _label_each(_class_maps_of(model), inputs))
        return {"runtime": runtime_of(Path(weights), backend)}


def verify(
    *,
    job: str,
    weights: str,
    inputs: str,
    answers: str,
    backend: str = "",
    cuda_graph: bool | None = None,
    **_: object,
) -> Check:
    """Job: return the share of pixels in which a model decides as the reference does.

    A model of another project is compared on the road alone, the one class that both have. The mIoU
    on validation pictures in a model's record is returned too.
    """
    expected, runtime, miou = np.load(answers), "onnxruntime", None
    if job == "peer":
        peers = _label_each(open_peer(weights), inputs)
        height, width = peers.shape[1:]
        ours = np.stack([resize_class_map(e, (height, width)) for e in expected])
        equal, runtime = np.isin(peers, PEER_ROAD) == (ours == ROAD), "openvino"
    elif job == "plain":
        equal = _label_each(plain_loop().open_model(weights)[0], inputs) == expected
    else:
        runtime = runtime_of(Path(weights), backend)
        opened = open_backend(Path(weights), backend, cuda_graph=cuda_graph)
        with contextlib.closing(opened) as model:
            equal = _label_each(_class_maps_of(model), inputs) == expected
            miou = model.spec.metrics.get("val", {}).get("miou")
    return {"equal_share": float(equal.mean()), "runtime": runtime, "val_miou": miou}


def _class_maps_of(backend: Backend) -> Model:
    return lambda frames: backend.run(frames).class_map


def _label_each(model: Model, inputs: str) -> Frames:
    return np.concatenate([model(frame[None]) for frame in np.load(inputs)])
