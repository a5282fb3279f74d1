"""`roadseg evaluate`."""

import json
from collections.abc import Callable, Iterable, Mapping
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from roadseg.cli.options import Backend, Every, Steady
from roadseg.config import ModelConfig, default_weights

if TYPE_CHECKING:
    from rich.console import Console
    from rich.progress import Progress, TaskID

    from roadseg.backends import Backend as Model
    from roadseg.data.folder import FolderDataset
    from roadseg.evaluate import Evaluation
    from roadseg.temporal import FilmScores


def evaluate(
    data: Annotated[
        Path,
        typer.Option(
            metavar="DIR", help="Labelled data: val/, valannot/; with --video also a film."
        ),
    ],
    weights: Annotated[
        Path | None,
        typer.Option(
            help="Exported model (.onnx) or model file from training (.safetensors).",
            show_default="the model that comes along",
        ),
    ] = None,
    against: Annotated[
        Path | None, typer.Option(help="Second model to measure and to set beside the first.")
    ] = None,
    split: Annotated[str, typer.Option(help="Split to measure on.")] = "val",
    backend: Backend = "auto",
    size: Annotated[
        str | None,
        typer.Option(
            metavar="WxH", help="Network input.", show_default="by the picture's aspect ratio"
        ),
    ] = None,
    video: Annotated[
        bool,
        typer.Option(
            "--video",
            help="Take the pictures for frames of a film, and measure how steady its labels are.",
        ),
    ] = False,
    fps: Annotated[
        float, typer.Option(metavar="RATE", help="With --video: pictures of a split a second.")
    ] = 15.0,
    steady: Steady = ModelConfig.steady,
    every: Every = ModelConfig.every,
    page: Annotated[
        Path | None,
        typer.Option(metavar="FILE.html", help="Also write a page with figures and pictures."),
    ] = None,
    worst: Annotated[int, typer.Option(help="Pictures with the lowest mIoU to show.")] = 6,
    as_json: Annotated[
        bool, typer.Option("--json", help="Print the figures as JSON on standard output.")
    ] = False,
) -> None:
    """Measure a model: IoU, precision, recall, outlines, confusion, calibration, worst pictures."""
    from rich.console import Console

    from roadseg.data.folder import FolderDataset
    from roadseg.errors import ConfigError, OutputError
    from roadseg.files import replacing
    from roadseg.imaging import parse_size
    from roadseg.report import evaluation_page

    size_hw = parse_size(size) if size else None
    if page and not page.parent.is_dir():
        raise OutputError(f"--page {page}: there is no folder {page.parent}; make it first")
    models = [path for path in (weights or default_weights(), against) if path is not None]
    if video:
        config = ModelConfig(backend=backend, size_hw=size_hw, steady=steady, every=every)
        _evaluate_film(data, split, fps, models, config, page, as_json=as_json)
        return
    if (steady, every) != (ModelConfig.steady, ModelConfig.every):
        raise ConfigError(
            "--steady and --every say how films are labelled; give --video too, or leave them out"
        )
    dataset = FolderDataset.open(data, split)
    measured: dict[str, Evaluation] = {}
    pictures: dict[str, bytes] = {}
    for path in models:
        name = str(path) if path.name in measured else path.name
        measured[name], shown = _measure(path, backend, dataset, size_hw, worst if page else 0)
        pictures.update((f"{name}: {caption}", data) for caption, data in shown.items())
    try:
        if page:
            scores = {name: evaluation.scores for name, evaluation in measured.items()}
            title = f"{' against '.join(measured)} on {split}"
            with replacing(page) as temporary:
                temporary.write_text(evaluation_page(scores, title, pictures))
    finally:  # whatever becomes of the page, the figures are not lost
        if as_json:
            typer.echo(json.dumps(_figures(measured, worst)))
        else:
            _show(measured, f"{split}, {len(dataset)} pictures", worst, Console())


def _measure(
    path: Path,
    backend: str,
    dataset: "FolderDataset",
    size_hw: tuple[int, int] | None,
    pictures: int,
) -> tuple["Evaluation", dict[str, bytes]]:
    """Measure one model and draw its worst pictures."""
    from contextlib import closing

    from rich.progress import Progress

    from roadseg.backends import open_backend
    from roadseg.cli.tables import quiet_elsewhere
    from roadseg.evaluate import answer
    from roadseg.evaluate import evaluate as measure
    from roadseg.report import compare_pictures

    with closing(open_backend(path, backend)) as model, Progress(**quiet_elsewhere()) as progress:
        task = progress.add_task(f"measuring {path.name}", total=len(dataset))
        evaluation = measure(
            model, dataset, size_hw, on_picture=lambda done: progress.update(task, completed=done)
        )
        drawn = {}
        for found in evaluation.worst(pictures):
            picture, target = dataset[found.index]
            class_map, _ = answer(model, picture, size_hw)
            caption = f"{found.name}, mIoU {found.miou:.1%}"
            drawn[caption] = compare_pictures(picture, [target, class_map], model.spec.palette)
    return evaluation, drawn


def _figures(measured: Mapping[str, "Evaluation"], worst: int) -> dict[str, object]:
    """Return what --json prints: one model's figures, or those of each by its name."""
    figures = {
        name: {
            **evaluation.scores.summary(),
            "confusion": evaluation.scores.confusion.tolist(),
            "worst": {found.name: found.miou for found in evaluation.worst(worst)},
        }
        for name, evaluation in measured.items()
    }
    return next(iter(figures.values())) if len(figures) == 1 else dict(figures)


def _show(measured: Mapping[str, "Evaluation"], title: str, worst: int, console: "Console") -> None:
    from roadseg.cli.tables import comparison_table, confusion_table, percent, score_table

    console.print(f"{' against '.join(measured)} on {title}", highlight=False)
    if len(measured) == 1:
        (only,) = measured.values()
        console.print(score_table(only.scores))
        console.print(confusion_table(only.scores))
    else:
        console.print(comparison_table({name: found.scores for name, found in measured.items()}))
    for name, evaluation in measured.items():
        found = (f"{p.name} ({percent(p.miou)})" for p in evaluation.worst(worst))
        console.print(f"lowest mIoU of {name}: {', '.join(found)}", highlight=False)


def _evaluate_film(
    data: Path,
    split: str,
    fps: float,
    models: Iterable[Path],
    config: ModelConfig,
    page: Path | None,
    *,
    as_json: bool,
) -> None:
    """Measure models on a film, and write what was found."""
    from contextlib import closing

    from rich.console import Console
    from rich.progress import Progress

    from roadseg.backends import open_backend
    from roadseg.cli.tables import film_table, quiet_elsewhere
    from roadseg.files import replacing
    from roadseg.report import film_page

    title, measure, total = _film(data, split, fps, config)
    measured: dict[str, FilmScores] = {}
    for path in models:
        name = str(path) if path.name in measured else path.name
        with (
            closing(open_backend(path, config.backend)) as model,
            Progress(**quiet_elsewhere()) as progress,
        ):
            task = progress.add_task(f"measuring {name}", total=total)
            measured[name] = measure(model, partial(_tick, progress, task))
    try:
        if page:
            with replacing(page) as temporary:
                temporary.write_text(
                    film_page(measured, f"{' against '.join(measured)} on {title}")
                )
    finally:  # whatever becomes of the page, the figures are not lost
        if as_json:
            figures = {name: film.summary() for name, film in measured.items()}
            shown = next(iter(figures.values())) if len(figures) == 1 else figures
            typer.echo(json.dumps(shown))
        else:
            console = Console()
            console.print(f"{' against '.join(measured)} on {title}", highlight=False)
            console.print(film_table(measured))


def _tick(progress: "Progress", task: "TaskID", done: int) -> None:
    progress.update(task, completed=done)


def _film(
    data: Path, split: str, fps: float, config: ModelConfig
) -> tuple[str, "Callable[[Model, Callable[[int], None]], FilmScores]", int | None]:
    """Return a film's name, the function that measures a model on it, and its frames if known."""
    from fractions import Fraction

    from roadseg.data.folder import FolderDataset
    from roadseg.evaluate import evaluate_film, evaluate_split_as_film
    from roadseg.video.source import ReadLog, decode, probe

    if (data / split).is_dir():
        dataset, rate = FolderDataset.open(data, split), Fraction(fps).limit_denominator(1001)
        return (
            f"{split}, {len(dataset)} pictures as a film of {fps:g} a second",
            lambda model, done: evaluate_split_as_film(model, dataset, rate, config, done),
            len(dataset),
        )
    info = probe(data)
    return (
        data.name,
        lambda model, done: evaluate_film(model, decode(info, ReadLog()), config, done),
        info.frame_count,
    )
