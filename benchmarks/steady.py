"""Measure what following the motion gives and costs, and draw it.

    python benchmarks/steady.py accuracy CamVid
    python benchmarks/steady.py speed
    python benchmarks/steady.py flows CamVid
    python benchmarks/steady.py films CamVid
    python benchmarks/steady.py films-table
    python benchmarks/steady.py looks FILM...
    python benchmarks/steady.py table
    python benchmarks/steady.py page steady.html

Accuracy is that of CamVid's val as the 15 Hz film that it is; speed is that of the sample from file
to file once queues and encoder are full, all ways in turn in each round, so that ratios hold on a
machine that is not quiet. Each model on its runtime is measured, beside the model alone in FP32 and
the plain loop. `films` measures on films of which the past says little (`steady_films.py`), `looks`
what it costs on films without labels that the network looks at them by the second (`--every auto`).
Records are in `benchmarks/steady/`; tables and page are pure functions of them. What was seen is in
`benchmarks/steady.md`.
"""

import json
import os
import platform
import statistics
import tempfile
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import closing
from fractions import Fraction
from itertools import islice
from pathlib import Path
from typing import Any

import cv2
import numpy as np
import plotly.graph_objects as go
import typer
from marks import write
from steady_films import SMOOTH, Remembering, measure
from steady_films import films as labelled_films
from steady_flows import all_flows, fit

from roadseg.backends.runtimes import Backend, open_backend, stated_spec
from roadseg.backends.weights import shipped_model
from roadseg.data.folder import FolderDataset
from roadseg.files import replacing
from roadseg.infer.config import InferConfig
from roadseg.infer.offline import infer
from roadseg.measure.evaluate import evaluate_split_as_film
from roadseg.measure.metrics import Scores, confusion_matrix, finite
from roadseg.measure.plain_loop import plain_loop
from roadseg.measure.steadiness import TemporalMeter, TemporalScores
from roadseg.pages.layout import Plot, facts_html, page_html, plots_html, scaled
from roadseg.segmentation.config import ModelConfig
from roadseg.segmentation.label import label
from roadseg.segmentation.placement import network_size
from roadseg.spec import CLASS_NAMES, NUM_CLASSES
from roadseg.video.frame import SegmentedFrame
from roadseg.video.read.read_log import ReadLog
from roadseg.video.read.source import decode, probe

FOLDER = Path(__file__).parent / "steady"
NOTES = Path(__file__).parent / "steady.md"
PAGE = Path(__file__).parent.parent / "docs" / "measured.md"
SAMPLE = Path(__file__).parent.parent / "samples" / "drive.mp4"
MARK = "steady"
"""Name of the tables in both pages."""
RATE = Fraction(15)
WAYS: dict[str, tuple[dict[str, Any], bool]] = {
    "each frame alone": ({"steady": 0}, True),
    "steady": ({"every": 1}, True),
    "--every 2": ({"every": 2}, True),
    "--every 3": ({"every": 3}, True),
    "--every 4": ({"every": 4}, True),
    "live --every 3": ({"every": 3}, False),
}
"""Settings by name, and whether frames may wait for a later one, as they may in a file."""
MODELS = {
    "onnxruntime, FP32": ("fp32", "onnxruntime"),
    "openvino, 8 bits": ("int8", "openvino"),
}
"""Precision of the included model and its runtime, by name."""
FILM_WAYS = ("each frame alone", "steady", "--every 3", "live --every 3")
LOOK_WAYS = {"every frame": 1, "auto": "auto"}
"""How often the network looks, by name."""
PEOPLE = ("pedestrian", "bicyclist")
BARE_CALLS = 30
WARM_FRAMES = 48
"""Frames of a film before queues and encoder are taken to be full."""
app = typer.Typer(add_completion=False)


@app.command()
def accuracy(data: Path) -> None:
    """Measure every way on val as a film."""
    dataset = FolderDataset.open(data, "val")
    found: dict[str, dict[str, Any]] = {}
    for name, (precision, backend) in MODELS.items():
        with closing(open_backend(shipped_model(precision), backend)) as model:
            found[name] = {
                way: evaluate_split_as_film(
                    model, dataset, RATE, ModelConfig(**settings), can_wait=can_wait
                ).summary()
                for way, (settings, can_wait) in WAYS.items()
            }
    _write("accuracy", {"rate": float(RATE), "backends": found})


@app.command()
def speed(rounds: int = 3) -> None:
    """Time every way of labelling the sample, the bare model and the plain loop, in turn."""
    samples: dict[str, dict[str, list[float]]] = {name: {} for name in MODELS}
    plain: list[float] = []
    bare: list[float] = []
    with tempfile.TemporaryDirectory() as folder:
        out = Path(folder) / "out.mp4"
        for _ in range(rounds):
            for name in MODELS:
                for way, (settings, can_wait) in WAYS.items():
                    if can_wait:
                        fps = _film_fps(name, out, settings)
                        samples[name].setdefault(way, []).append(fps)
            bare.append(_bare_fps())
            plain.append(_loop_fps(out))
    machine = f"{platform.machine()}, {platform.system()}, {os.cpu_count()} cores"
    record = {"film": SAMPLE.name, "machine": machine}
    _write("speed", {**record, "fps": samples, "bare_model_fps": bare, "plain_loop_fps": plain})


def _film_fps(name: str, out: Path, settings: Mapping[str, Any]) -> float:
    """Label the sample in a way and return the frames a second."""
    precision, backend = MODELS[name]
    config = InferConfig(
        source=SAMPLE,
        out=out,
        weights=shipped_model(precision),
        backend=backend,
        overwrite=True,
        **settings,
    )
    done_s: list[float] = []
    infer(config, lambda *_: done_s.append(time.perf_counter()))
    return _warm_fps(done_s)


def _warm_fps(done_s: list[float]) -> float:
    """Return the frames a second from the one at which all is warm."""
    return (len(done_s) - WARM_FRAMES) / (done_s[-1] - done_s[WARM_FRAMES - 1])


def _bare_fps() -> float:
    """Return how many inputs a second the model takes in FP32 when there is nothing else to do."""
    with closing(open_backend(shipped_model(), "onnxruntime")) as model:
        frames = np.full((1, *_input_hw(), 3), 127, np.uint8)
        model.run(frames)
        started_s = time.perf_counter()
        for _ in range(BARE_CALLS):
            model.run(frames)
        return BARE_CALLS / (time.perf_counter() - started_s)


def _input_hw() -> tuple[int, int]:
    """Return the network's input for the sample."""
    spec = stated_spec(shipped_model())
    assert spec
    return network_size(probe(SAMPLE).size_hw, spec.size_hw)


def _loop_fps(out: Path) -> float:
    """Return how many frames a second the plain loop labels."""
    loop = plain_loop()
    model, palette = loop.open_model(str(shipped_model()))
    done_s: list[float] = []

    def on_step(name: str) -> None:
        if name == "encode":
            done_s.append(time.perf_counter())

    loop.label(str(SAMPLE), str(out), model, palette, _input_hw()[::-1], on_step=on_step)
    return _warm_fps(done_s)


@app.command()
def flows(data: Path) -> None:
    """Compare flows: what they cost, and how well true labels fit when moved by a frame."""
    dataset = FolderDataset.open(data, "val")
    pairs = [dataset[index] for index in range(len(dataset))]
    lumas = [cv2.cvtColor(picture, cv2.COLOR_RGB2GRAY) for picture, _ in pairs]
    found = {}
    for name, every in all_flows(lumas, [picture for picture, _ in pairs]).items():
        started_s = time.process_time()
        made = list(every)
        cpu_s = time.process_time() - started_s
        found[name] = {
            "cpu_ms": 1000 * cpu_s / len(made),
            **fit(made, lumas, [target for _, target in pairs]),
        }
        typer.echo(f"{name}: {found[name]}")
    _write("flows", found)


@app.command()
def films(data: Path, record: str = "films") -> None:
    """Measure on films that jump, dissolve, shake or are dark."""
    val, train = (FolderDataset.open(data, split) for split in ("val", "train"))
    found: dict[str, dict[str, Any]] = {}
    with closing(Remembering(open_backend(shipped_model("int8"), "openvino"))) as model:
        for name, make in labelled_films(val, train).items():
            made = make()
            found[name] = {
                way: measure(
                    model,
                    made,
                    ModelConfig(**WAYS[way][0]),
                    can_wait=WAYS[way][1],
                    smooth=name in SMOOTH,
                )
                for way in FILM_WAYS
            }
            typer.echo(f"{name}: {found[name]}")
    _write(record, found)


@app.command()
def looks(films: list[Path], most_frames: int = 240) -> None:
    """Measure on films without labels what it costs to look at them by the second."""
    found: dict[str, dict[str, Any]] = {}
    with closing(Remembering(open_backend(shipped_model("int8"), "openvino"))) as model:
        for film in films:
            found[film.name] = _compare_looks(model, film, most_frames)
            typer.echo(f"{film.name}: {found[film.name]}")
    _write("looks", found)


def _compare_looks(model: Backend, film: Path, most_frames: int) -> dict[str, Any]:
    """Label the beginning of a film in all of `LOOK_WAYS`.

    The judge of how right they are is what the network says of each frame alone: it knows nothing
    of looks, and what it gets wrong it gets wrong for all.
    """
    info = probe(film)
    frames = list(islice(decode(info, ReadLog()), most_frames))
    judge = [item.class_map for item in label(iter(frames), model, ModelConfig(steady=0))]
    ways = {
        way: _judged(label(iter(frames), model, ModelConfig(every=every)), judge)
        for way, every in LOOK_WAYS.items()
    }
    return {"fps": float(info.fps), "frames": len(frames), **ways}


def _judged(items: Iterator[SegmentedFrame], judge: Sequence[np.ndarray]) -> dict[str, Any]:
    """Return how steady labels are, and how well they agree with others (H, W) of each frame."""
    names = CLASS_NAMES[:NUM_CLASSES]
    counts = np.zeros((NUM_CLASSES, NUM_CLASSES), np.int64)
    temporal, meter = TemporalScores(class_names=names, moved=counts.copy()), TemporalMeter(names)
    network_frames = 0
    for item, target in zip(items, judge, strict=True):
        counts += confusion_matrix(target, item.class_map, NUM_CLASSES)
        temporal += meter.add(item.frame.picture.luma(), item.class_map)
        network_frames += item.by_network
    by_class = dict(zip(names, Scores(class_names=names, confusion=counts).iou, strict=True))
    return {
        "network_frames": network_frames,
        "flip_rate": temporal.flip_rate,
        "flicker_rate": temporal.flicker_rate,
        "agreement": float(np.trace(counts) / counts.sum()),
        **{name: finite(by_class[name]) for name in PEOPLE},
    }


@app.command()
def films_table() -> None:
    """Write the table of the films into `benchmarks/steady.md`."""
    write(NOTES, MARK, films_markdown(_read("films-before"), _read("films")))


def films_markdown(before: Mapping[str, Any], now: Mapping[str, Any]) -> str:
    """Return mIoU of films labelled frame by frame, and what each way adds to it, in points."""
    alone, *ways = FILM_WAYS
    headings = ("film", "frames", alone, "steady before", *ways)
    lines = [f"| {' | '.join(headings)} |", f"|{' --- |' * len(headings)}"]
    for name, figures in now.items():
        pairs = [(before[name], "steady"), *((figures, way) for way in ways)]
        gains = (f"{100 * (of[way]['miou'] - of[alone]['miou']):+.1f}" for of, way in pairs)
        cells = (name, str(figures[alone]["frames"]), f"{100 * figures[alone]['miou']:.1f}", *gains)
        lines.append(f"| {' | '.join(cells)} |")
    return "\n".join(lines) + "\n"


def _write(name: str, record: Mapping[str, Any]) -> None:
    FOLDER.mkdir(exist_ok=True)
    with replacing(FOLDER / f"{name}.json") as temporary:
        temporary.write_text(json.dumps(record, indent=1) + "\n")


def _read(name: str) -> dict[str, Any]:
    return json.loads((FOLDER / f"{name}.json").read_text())


@app.command()
def table() -> None:
    """Write the table of all ways into the documents."""
    write(PAGE, MARK, markdown(_read("accuracy"), _read("speed")))


@app.command()
def page(out: Path) -> None:
    """Write a page with the curves of speed against accuracy and steadiness."""
    with replacing(out) as temporary:
        temporary.write_text(steadiness_page(_read("accuracy"), _read("speed")))


def markdown(measured: Mapping[str, Any], timed: Mapping[str, Any]) -> str:
    """Return what was measured as a Markdown table, a row for each way and runtime."""
    headings = ("way", "mIoU", "pedestrian", "bicyclist", "consistency", "flip", "flicker", "fps")
    headings = (*headings, "of the plain loop", "of the bare model")
    lines = [f"| {' | '.join(headings)} |", f"|{' --- |' * len(headings)}"]
    for backend, ways in measured["backends"].items():
        for way, figures in ways.items():
            iou = figures["iou"]
            shares = [figures["miou"], iou["pedestrian"], iou["bicyclist"], figures["consistency"]]
            rare = (figures["flip_rate"], figures["flicker_rate"])
            fps = timed["fps"][backend].get(way)
            cells = (
                way if len(measured["backends"]) == 1 else f"{way}, {backend}",
                *(f"{100 * share:.1f}" for share in shares),
                *(f"{100 * share:.2f} %" for share in rare),
                f"{statistics.median(fps):.1f}" if fps else "",
                *(_ratio(fps, timed[f"{other}_fps"]) for other in ("plain_loop", "bare_model")),
            )
            lines.append(f"| {' | '.join(cells)} |")
    return "\n".join(lines) + "\n"


def _ratio(fps: Sequence[float] | None, other: Sequence[float]) -> str:
    """Return the median of the ratios within the rounds."""
    if not fps:
        return ""
    return f"{statistics.median(a / b for a, b in zip(fps, other, strict=True)):.2f}x"


def steadiness_page(measured: Mapping[str, Any], timed: Mapping[str, Any]) -> str:
    """Return speed against accuracy and steadiness, a curve for each runtime, as HTML.

    Args:
        measured: "backends": by name, the metrics of each way of labelling a film.
        timed: "fps": by name, the samples of each way; "plain_loop_fps" and "bare_model_fps",
            those of what it is compared with; "machine"; "film".
    """
    panels = (
        ("mIoU of the film (%)", lambda found: found["miou"]),
        ("IoU of pedestrians (%)", lambda found: found["iou"]["pedestrian"]),
        ("Consistency along the motion (%)", lambda found: found["consistency"]),
        ("Pixels that flip along the motion (%)", lambda found: found["flip_rate"]),
    )
    plots = [_against_speed(measured, timed, *panel) for panel in panels]
    loop, bare = timed["plain_loop_fps"], timed["bare_model_fps"]
    facts = {
        "accuracy": f"CamVid's val at {measured['rate']:g} Hz",
        "speed": f"{timed['film']} from file to file, median of {len(loop)} rounds",
        "machine": timed["machine"],
        "to compare": f"frames a second: the plain loop {np.median(loop):.1f}, the model alone in "
        f"FP32 {np.median(bare):.1f}",
    }
    return page_html("Steady labels and key frames", plots_html(plots) + facts_html(facts))


def _against_speed(
    measured: Mapping[str, Any],
    timed: Mapping[str, Any],
    title: str,
    metric: Callable[[Mapping[str, Any]], float],
) -> Plot:
    """Draw one metric of every way by its speed."""
    figure = go.Figure()
    for number, (backend, ways) in enumerate(measured["backends"].items()):
        fps = timed["fps"][backend]
        drawn = [way for way in ways if way in fps]
        figure.add_scatter(
            x=[float(np.median(fps[way])) for way in drawn],
            y=[scaled(metric(ways[way]), 100) for way in drawn],
            text=drawn,
            name=backend,
            mode="lines+markers+text",
            textposition=("top center", "bottom center")[number % 2],
            cliponaxis=False,
        )
    figure.update_xaxes(title_text="frames a second")
    return Plot(title=title, figure=figure, height_px=430)


if __name__ == "__main__":
    app()
