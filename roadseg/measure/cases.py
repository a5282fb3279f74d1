"""What a run measures: models alone, videos, stages and live views, on the CPU and on GPUs.

A case whose class maps are not those of the reference is not timed at all. Another way to run the
pipeline is one entry in `MODES`.
"""

import json
from collections.abc import Iterator, Mapping, Sequence
from itertools import product
from pathlib import Path
from typing import Any

from roadseg.backends.runtimes import BACKENDS, runtime_of
from roadseg.errors import BenchError, ModelFileError
from roadseg.measure.config import Scenario
from roadseg.measure.record import Check
from roadseg.measure.results import metrics_of
from roadseg.measure.testbed import PEER_HW, Case, Testbed, needs_gpu
from roadseg.segmentation.config import CPU

FEW_ROUNDS = 2
"""With no more rounds than these, live mode is measured in the first alone."""
STAGE_FRAMES = 48
"""Frames, at most, that each stage of the pipeline is given when it runs alone."""
EACH_ALONE: dict[str, Any] = {"steady": 0.0}
"""Settings of `InferConfig` that label each frame without the past, as the plain loop does."""
USUAL = "roadseg"
"""Name of `roadseg infer` at its defaults, on the CPU."""
MODES: dict[str, dict[str, Any]] = {
    USUAL: {},
    "roadseg --every 1": {"every": 1},
    "roadseg --steady 0": EACH_ALONE,
    "roadseg --every 4": {"every": 4},
}
"""Ways to run `roadseg infer`: name, and settings of `InferConfig` beside the defaults.

The first is what the targets call the defaults.
"""
FASTEST = "roadseg, fastest model"
"""Name of `roadseg infer` with the model that is fastest alone on a device, where that is another
than is measured anyway."""
CHOICE = ("weights", "backend", "device")
"""Settings that choose what runs a network, and where."""
GPU_MODES = (USUAL, "roadseg --every 1")
"""Those of them that are measured on GPUs."""
SLOW_STARTERS = ("torch-compiled",)
"""Runtimes that are measured only when asked for: each process compiles for a minute."""
PLAIN = "plain session"
"""Name of the model alone as the plain loop opens it."""
SAME_RUNTIME = "onnxruntime"
"""Runtime of the plain loop."""

Checks = dict[str, Check]
"""What was found of each case when it was verified, by its name."""


def models_of(testbed: Testbed) -> list[Case]:
    """Return the models to measure alone: every file on every runtime, at every size and batch."""
    found = [
        _model(testbed, path, name, size_hw, batch)
        for size_hw in testbed.sizes_hw
        for batch in testbed.config.batches
        for path in testbed.weights
        for name in testbed.config.backends or _usual_runtimes()
        if not needs_gpu(name)
    ]
    if testbed.exported:
        plain = _timed(testbed, testbed.sizes_hw[0], weights=str(testbed.exported))
        found.append(Case(name=PLAIN, job="plain", settings=plain))
    if testbed.config.peer:
        settings = _timed(testbed, PEER_HW, weights=str(testbed.config.peer))
        settings["answers"] = testbed.answers(testbed.sizes_hw[0])
        found.append(Case(name=testbed.config.peer.stem, job="peer", settings=settings))
    return [*found, *_models_on_gpus(testbed)]


def _usual_runtimes() -> tuple[str, ...]:
    return tuple(name for name in BACKENDS if name not in SLOW_STARTERS)


def _model(
    testbed: Testbed, path: Path, backend: str, size_hw: tuple[int, int], batch: int
) -> Case:
    return Case(
        name=" ".join([path.name, backend, *_details(testbed, size_hw, batch)]),
        job="model",
        settings=_timed(testbed, size_hw, batch, weights=str(path), backend=backend),
    )


def _models_on_gpus(testbed: Testbed) -> Iterator[Case]:
    """Yield the models on every GPU, in every scenario, by the runtimes that run there."""
    config = testbed.config
    known = [name for name in config.backends if name in BACKENDS] or _usual_runtimes()
    names = [name for name in known if BACKENDS[name].on_device or needs_gpu(name)]
    ways = product(testbed.gpus, testbed.sizes_hw, config.scenarios, config.batches)
    for device, size_hw, scenario, batch in ways:
        if scenario.streams and scenario.streams % batch:
            continue  # a query, one frame of each stream, is divided into whole calls
        built = testbed.engines.get((device, batch)) if size_hw == testbed.sizes_hw[0] else None
        files = (*testbed.weights, *([built] if built else []))
        for path, name, graph in product(files, names, config.cuda_graphs):
            able = graph is None or BACKENDS[name].has_cuda_graphs
            if able and path.suffix in BACKENDS[name].suffixes:
                chosen = {"weights": str(path), "backend": name, "device": device}
                yield _model_on_gpu(
                    testbed, chosen | {"cuda_graph": graph}, scenario, size_hw, batch
                )


def _model_on_gpu(
    testbed: Testbed,
    chosen: dict[str, Any],
    scenario: Scenario,
    size_hw: tuple[int, int],
    batch: int,
) -> Case:
    words = [Path(chosen["weights"]).name, chosen["backend"], chosen["device"], scenario.name]
    if chosen["cuda_graph"] is not None:
        words.append("graph" if chosen["cuda_graph"] else "no graph")
    return Case(
        name=" ".join([*words, *_details(testbed, size_hw, batch)]),
        job="gpu",
        settings=_timed(testbed, size_hw, batch, **chosen, scenario=scenario.name),
    )


def _details(testbed: Testbed, size_hw: tuple[int, int], batch: int) -> list[str]:
    """Return the words in which cases differ where there are several sizes or batches."""
    details = [f"{size_hw[1]}x{size_hw[0]}"] if len(testbed.sizes_hw) > 1 else []
    return details + ([f"x{batch}"] if len(testbed.config.batches) > 1 or batch > 1 else [])


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


def verified(models: list[Case], testbed: Testbed) -> tuple[list[Case], Checks]:
    """Return the models that decide as the reference does, and what was found of each.

    A runtime that nobody asked for by name and that does not read a file is passed over. What is
    found of a model holds for every batch and scenario.
    """
    kept: list[Case] = []
    checks: Checks = {}
    found: Checks = {}
    for model in models:
        given = {k: v for k, v in model.settings.items() if k not in ("batch", "scenario")}
        key = json.dumps([model.job, given])
        check = found[key] = found.get(key) or testbed.verify(model)
        if check.get("kind") == ModelFileError.__name__ and not testbed.config.backends:
            continue
        checks[model.name] = check
        if "error" not in check:
            kept.append(model)
    return kept, checks


def films_of(testbed: Testbed, checks: Checks) -> tuple[list[Case], dict[str, str]]:
    """Return the cases that label videos, and the roles of cases in the targets.

    Raises:
        BenchError: The default model disagrees with the reference.
    """
    size_hw = testbed.sizes_hw[0]
    check = testbed.verify(_model(testbed, testbed.usual, testbed.backend, size_hw, 1))
    if "error" in check:
        raise BenchError(f"{testbed.usual.name} on {testbed.backend}: {check['error']}")
    checks[USUAL] = check
    as_loop = f"{USUAL} as the loop"
    roles = {"loop": "plain loop", "plain": PLAIN, "same": as_loop, "defaults": USUAL}
    found = []
    if testbed.exported:
        plain = {**_film(testbed), "weights": str(testbed.exported)}
        same = {**plain, **_cut(testbed), "backend": SAME_RUNTIME, "mode": EACH_ALONE}
        found = [
            Case(name=roles["loop"], job="loop", settings={**plain, "limit": testbed.frames}),
            Case(name=as_loop, job="film", settings=same),
        ]
    chosen = {"weights": str(testbed.usual), "backend": testbed.backend}
    found += [film_case(testbed, name, chosen, mode) for name, mode in MODES.items()]
    return [*found, *_others(testbed, chosen), *_films_on_gpus(testbed, checks)], roles


def fastest_films(
    testbed: Testbed, cases: Sequence[Case], results: Mapping[str, Mapping[str, Any]]
) -> list[Case]:
    """Return the cases that label a video with the model that was fastest alone on each device.

    Args:
        testbed: What they share with the others.
        cases: What was measured; a video that is among them does not come again.
        results: What was found of these, by name.
    """
    seen = {choice_of(case) for case in cases if case.job == "film" and not case.settings["mode"]}
    found = []
    for device in (CPU, *testbed.gpus):
        alone = [
            case
            for case in cases
            if case.job in ("model", "gpu")
            and case.settings.get("device", CPU) == device
            and (case.settings["size_hw"], case.settings["batch"]) == (testbed.sizes_hw[0], 1)
            and "error" not in results[case.name]
        ]
        if not alone:
            continue
        fastest = max(alone, key=lambda case: metrics_of(case.job, results[case.name])["fps"] or 0)
        if choice_of(fastest) not in seen:
            name = " ".join([FASTEST, *([] if device == CPU else [device])])
            chosen = {k: v for k, v in fastest.settings.items() if k in CHOICE}
            found.append(film_case(testbed, name, chosen, {}))
    return found


def choice_of(case: Case) -> tuple[str, str, str]:
    """Return the model file, the runtime and the device of a case."""
    weights = Path(case.settings["weights"])
    runtime = runtime_of(weights, case.settings["backend"])
    return str(weights), runtime, case.settings.get("device", CPU)


def film_case(
    testbed: Testbed, name: str, chosen: Mapping[str, Any], mode: Mapping[str, Any]
) -> Case:
    """Return the case of a video labelled by a model on a runtime and a device, of `CHOICE`."""
    settings = {**_film(testbed), **_cut(testbed), **chosen, "mode": mode}
    return Case(name=name, job="film", settings=settings)


def _film(testbed: Testbed) -> dict[str, Any]:
    size_hw = testbed.sizes_hw[0]
    return {"film": str(testbed.config.film), "out": testbed.out(), "size_hw": size_hw}


def _cut(testbed: Testbed) -> dict[str, Any]:
    return {"limit_s": testbed.config.film_s}


def _films_on_gpus(testbed: Testbed, checks: Checks) -> Iterator[Case]:
    """Yield videos and stages on every GPU, with the first model that is right there."""
    for device in testbed.gpus:
        right = (m for m in _models_on_gpus(testbed) if m.settings["device"] == device)
        model = next((m for m in right if "error" not in checks.get(m.name, {"error": ""})), None)
        if model is None:
            continue
        chosen = {key: model.settings[key] for key in CHOICE}
        for mode in GPU_MODES:
            yield film_case(testbed, f"{mode} {device}", chosen, MODES[mode])
        stages = {**_film(testbed), **chosen, "frames": _stage_frames(testbed)}
        yield Case(name=f"stages {device}", job="stages", settings=stages)
        yield Case(name=f"machine {device}", job="gpu machine", settings={"device": device})


def _others(testbed: Testbed, chosen: Mapping[str, Any]) -> list[Case]:
    """Return what is measured of the default pipeline beside whole videos, and the machine."""
    chosen = {**_film(testbed), **chosen}
    live = {
        "rate": testbed.config.rate,
        "seconds": testbed.config.live_s,
        "out": testbed.out(".mkv"),
    }
    once = testbed.config.rounds <= FEW_ROUNDS
    stages = {**chosen, "frames": _stage_frames(testbed)}
    return [
        Case(name="first frame", job="command", settings=chosen),
        Case(name="stages", job="stages", settings=stages),
        Case(name="live", job="live", settings={**chosen, **live}, once=once),
        Case(name="machine", job="machine"),
    ]


def _stage_frames(testbed: Testbed) -> int:
    return STAGE_FRAMES if testbed.frames is None else min(STAGE_FRAMES, testbed.frames)
