"""`roadseg evaluate`."""

import json
import os
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import ExitStack, closing, contextmanager
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, TypeVar

import typer

from roadseg.backends.weights import weights_named
from roadseg.cli.completion import models
from roadseg.cli.console import echo
from roadseg.cli.options import (
    AsJson,
    Backend,
    Every,
    Overwrite,
    Quiet,
    Report,
    Steady,
    Weights,
    parse_every,
    parse_size,
)
from roadseg.segmentation.config import ModelConfig
from roadseg.video.rates import image_rate

if TYPE_CHECKING:
    import numpy as np
    from numpy.typing import NDArray
    from rich.console import Console
    from rich.progress import Progress, TaskID

    from roadseg.backends.runtimes import Backend as Model
    from roadseg.cli.tables import Colors
    from roadseg.data.folder import FolderDataset
    from roadseg.data.sets import LabelSpace
    from roadseg.data.source import DataSource
    from roadseg.measure.evaluate import Evaluation
    from roadseg.measure.steadiness import FilmScores

T = TypeVar("T")
FILM_FPS = 15.0
"""Usual rate of pictures that are taken for a video's frames, as in CamVid's val split."""


def evaluate(
    data: Annotated[
        str,
        typer.Option(
            metavar="DIR[:CLASSES]",
            help="Labelled data: val/, valannot/; with --video also a video file.",
        ),
    ],
    weights: Weights = None,
    against: Annotated[
        str | None,
        typer.Option(
            metavar="NAME|FILE",
            help="Second model to measure and to set beside the first.",
            autocompletion=models,
        ),
    ] = None,
    split: Annotated[str, typer.Option(metavar="NAME", help="Split to measure on.")] = "val",
    mapping: Annotated[
        Path | None,
        typer.Option(
            "--map",
            metavar="FILE.csv",
            help="What an adopted model's classes are called in the data: columns model, data.",
            show_default="by name, and as the usual lists' names are in CamVid",
        ),
    ] = None,
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
            help="Take the pictures for frames of a video, and measure how steady its labels are.",
        ),
    ] = False,
    fps: Annotated[
        float, typer.Option(metavar="RATE", help="With --video: pictures of a split a second.")
    ] = FILM_FPS,
    steady: Steady = ModelConfig.steady,
    every: Every = str(ModelConfig.every),
    report: Report = None,
    overwrite: Overwrite = False,
    worst: Annotated[
        int, typer.Option(metavar="N", help="Pictures with the lowest mIoU to show.")
    ] = 6,
    quiet: Quiet = False,
    as_json: AsJson = False,
) -> None:
    """Measure a model: IoU, precision, recall, outlines, confusion, calibration, worst pictures."""
    from roadseg.errors import ConfigError
    from roadseg.files import check_new

    config = ModelConfig(
        weights=weights_named(weights),
        backend=backend,
        size_hw=parse_size(size) if size else None,
        steady=steady,
        every=parse_every(every),
    )
    if worst < 0:
        raise ConfigError(f"--worst is {worst}; it must be 0 or more")
    usual = (ModelConfig.steady, ModelConfig.every, FILM_FPS)
    if not video and (config.steady, config.every, fps) != usual:
        raise ConfigError(
            "--steady, --every and --fps are for videos; give --video too, or leave them out"
        )
    if report:
        check_new(report, "--report", (".html",), overwrite=overwrite)
    paths = [config.weights, *([weights_named(against)] if against else [])]
    if against and paths[0].resolve() == paths[1].resolve():
        raise ConfigError(f"--against {against} is the model that is measured; name another")
    labels = _Labels(data=data, split=split, mapping=mapping)
    if video:
        found = _evaluate_film(labels, fps, paths, config, quiet=quiet)
    else:
        draws = bool(report)
        found = _evaluate_pictures(labels, paths, config, worst, draws=draws, quiet=quiet)
    found.deliver(report, as_json=as_json, quiet=quiet)


@dataclass(frozen=True, kw_only=True)
class _Labels:
    """The labelled data to measure on."""

    data: str
    """Labelled data, as the user names them, or a video without labels."""
    split: str
    """Split of the data."""
    mapping: Path | None
    """Names of the models' classes in the data; None matches by name."""

    @property
    def source(self) -> "DataSource":
        """The data set that is named."""
        from roadseg.data.source import DataSource

        return DataSource.single(self.data)

    def shared_with(
        self, models: "Mapping[str, Model]"
    ) -> "tuple[dict[str, Model], FolderDataset]":
        """Return models and data in the classes that they have in common."""
        from roadseg.measure.matching import in_common_classes

        return in_common_classes(models, self.source.open(self.split), self.mapping)


@dataclass(frozen=True, kw_only=True)
class _Findings:
    """The results, as JSON values, as a page and as tables."""

    results: Mapping[str, dict[str, object]]
    """JSON values by model."""
    draw: Callable[[], str]
    """Makes the page."""
    show: Callable[["Console"], None]
    """Prints the tables."""

    def deliver(self, report: Path | None, *, as_json: bool, quiet: bool) -> None:
        """Write the page, if one is wanted, and print."""
        from roadseg.cli.tables import plain_console
        from roadseg.files import replacing

        try:
            if report:
                with replacing(report) as temporary:
                    temporary.write_text(self.draw(), encoding="utf-8")
        finally:  # a page that fails does not cost the results
            if as_json:
                only = next(iter(self.results.values()))
                echo(json.dumps(only if len(self.results) == 1 else self.results))
            else:
                self.show(plain_console(quiet=quiet))
        if report and not (as_json or quiet):
            echo(f"report: {report}")


def _evaluate_pictures(
    labels: _Labels,
    paths: Sequence[Path],
    config: ModelConfig,
    worst: int,
    *,
    draws: bool,
    quiet: bool,
) -> _Findings:
    """Measure models on the pictures of a split, and for a page draw the worst of them."""
    from roadseg.measure.accuracy_page import evaluation_page
    from roadseg.measure.evaluate import evaluate as measure

    with _opened(paths, config.backend) as opened:
        models, dataset = labels.shared_with(opened)
        dataset, space = _in_common_terms(dataset, models)
        measured = _measure_each(
            models,
            len(dataset),
            lambda model, done: measure(model, dataset, config.size_hw, done),
            quiet=quiet,
        )
        count = worst if draws else 0
        pictures = _worst_pictures(models, measured, dataset, space.allowed, config.size_hw, count)
    title = f"{' against '.join(measured)} on {labels.split}, {len(dataset)} pictures"
    scores = {name: evaluation.scores for name, evaluation in measured.items()}
    colors = {label.name: label.color for label in space.labels}
    return _Findings(
        results={name: _results(evaluation, worst) for name, evaluation in measured.items()},
        draw=lambda: evaluation_page(scores, title, pictures, space.labels),
        show=lambda console: _show(measured, title, worst, colors, console),
    )


def _in_common_terms(
    dataset: "FolderDataset", models: Mapping[str, "Model"]
) -> "tuple[FolderDataset, LabelSpace]":
    """Return a data set with the models' label space, and that space.

    Raises:
        DatasetError: The labels are of classes that the models do not know.
        ConfigError: The models do not know the same classes.
    """
    from roadseg.errors import ConfigError
    from roadseg.measure.evaluate import label_space

    first, *others = (model.spec for model in models.values())
    for spec in others:
        if spec.class_names != first.class_names:
            raise ConfigError(
                f"--against knows the classes {', '.join(spec.class_names)} and --weights "
                f"{', '.join(first.class_names)}; measure them one at a time"
            )
    space = label_space(first, dataset)
    return dataset.in_terms_of(space), space


def _evaluate_film(
    labels: _Labels, fps: float, paths: Sequence[Path], config: ModelConfig, *, quiet: bool
) -> _Findings:
    """Measure models on a video."""
    from roadseg.cli.tables import film_table
    from roadseg.measure.accuracy_page import film_page

    with _opened(paths, config.backend) as opened:
        film = _film(labels, opened, fps, config)
        measured = _measure_each(film.models, film.frames, film.measure, quiet=quiet)
        specs = [model.spec for model in film.models.values()]
    title = f"{' against '.join(measured)} on {film.name}"
    colors = {n: c for spec in specs for n, c in spec.colors().items()}

    def show(console: "Console") -> None:
        console.print(title)
        console.print(film_table(measured, colors))

    return _Findings(
        results={name: film.summary() for name, film in measured.items()},
        draw=lambda: film_page(measured, title),
        show=show,
    )


@contextmanager
def _opened(paths: Sequence[Path], backend: str) -> Iterator[dict[str, "Model"]]:
    """Give the models of some files by short names, open while the block runs."""
    from roadseg.backends.runtimes import open_backend

    models: dict[str, Model] = {}
    with ExitStack() as stack:
        for name, path in zip(_short_names(paths), paths, strict=True):
            models[name] = stack.enter_context(closing(open_backend(path, backend)))
        yield models


def _short_names(paths: Sequence[Path]) -> list[str]:
    """Return the names of files, with as much of their folders as tells them apart."""
    names = [path.name for path in paths]
    if len(set(names)) == len(names):
        return names
    places = [path.resolve() for path in paths]
    try:
        above = os.path.commonpath([place.parent for place in places])
    except ValueError:  # they are on two drives of Windows
        return list(map(str, places))
    return [os.path.relpath(place, above) for place in places]


def _measure_each(
    models: Mapping[str, "Model"],
    total: int | None,
    measure: "Callable[[Model, Callable[[int], None]], T]",
    *,
    quiet: bool,
) -> dict[str, T]:
    """Measure the models one after the other, with a progress bar."""
    from rich.markup import escape
    from rich.progress import Progress

    from roadseg.cli.tables import quiet_elsewhere

    measured = {}
    with Progress(**quiet_elsewhere(quiet=quiet)) as progress:
        for name, model in models.items():
            task = progress.add_task(escape(f"measuring {name}"), total=total)
            measured[name] = measure(model, partial(_tick, progress, task))
    return measured


def _tick(progress: "Progress", task: "TaskID", done: int) -> None:
    progress.update(task, completed=done)


def _worst_pictures(
    models: Mapping[str, "Model"],
    measured: Mapping[str, "Evaluation"],
    dataset: "FolderDataset",
    allowed: "NDArray[np.bool_]",
    size_hw: tuple[int, int] | None,
    count: int,
) -> dict[str, bytes]:
    """Draw the pictures that the models together do worst on, as JPEG files by caption."""
    from roadseg.measure.evaluate import predict_picture, worst_together, wrong_pixels
    from roadseg.paint.panels import compare_pictures

    palette = [c.color for c in dataset.meaning.classes]
    drawn = {}
    for index in worst_together(list(measured.values()), count):
        picture, target = dataset[index]
        maps = [predict_picture(model, picture, size_hw).class_map for model in models.values()]
        if len(maps) == 1:
            maps.append(wrong_pixels(target, maps[0], allowed))
        reached = (f"{name} {found.pictures[index].miou:.1%}" for name, found in measured.items())
        caption = f"{dataset.image_paths[index].stem}, mIoU: {', '.join(reached)}"
        drawn[caption] = compare_pictures(picture, [target, *maps], palette, columns=2)
    return drawn


def _results(evaluation: "Evaluation", worst: int) -> dict[str, object]:
    """Return a model's results as JSON values."""
    return {
        **evaluation.scores.summary(),
        "confusion": evaluation.scores.confusion.tolist(),
        "worst": {found.name: found.miou for found in evaluation.worst(worst)},
    }


def _show(
    measured: Mapping[str, "Evaluation"],
    title: str,
    worst: int,
    colors: "Colors",
    console: "Console",
) -> None:
    from roadseg.cli import tables

    console.print(title)
    scores = {name: found.scores for name, found in measured.items()}
    if len(measured) == 1:
        (only,) = scores.values()
        console.print(tables.score_table(only, colors))
        console.print(tables.confusion_table(only))
    else:
        console.print(tables.comparison_table(scores, colors))
    if next(iter(scores.values())).sets:
        console.print(tables.sets_table(scores, colors))
    for name, evaluation in measured.items():
        found = [f"{p.name} ({tables.percent(p.miou)})" for p in evaluation.worst(worst)]
        if found:
            console.print(f"lowest mIoU of {name}: {', '.join(found)}")


@dataclass(frozen=True, kw_only=True)
class _Film:
    """A video to measure models on."""

    name: str
    """Its name."""
    frames: int | None
    """Number of its frames, if it is known."""
    models: "Mapping[str, Model]"
    """The models, in the classes of its labels if there are any."""
    measure: "Callable[[Model, Callable[[int], None]], FilmScores]"
    """Measures one of them."""


def _film(labels: _Labels, models: "Mapping[str, Model]", fps: float, config: ModelConfig) -> _Film:
    """Return a split of labelled data as a video, or the video that was named in place of them."""
    from roadseg.measure.evaluate import evaluate_film, evaluate_split_as_film
    from roadseg.video.read.read_log import ReadLog
    from roadseg.video.read.source import decode, probe

    rate, split = image_rate(fps), labels.split
    if labels.source.has(split):
        models, dataset = labels.shared_with(models)
        return _Film(
            name=f"{split}, {len(dataset)} pictures as a video of {fps:g} a second",
            frames=len(dataset),
            models=models,
            measure=lambda model, done: evaluate_split_as_film(model, dataset, rate, config, done),
        )
    info = probe(Path(labels.data))
    return _Film(
        name=Path(labels.data).name,
        frames=info.frame_count,
        models=models,
        measure=lambda model, done: evaluate_film(model, decode(info, ReadLog()), config, done),
    )
