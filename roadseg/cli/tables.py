"""Tables and progress of the commands."""

import math
from collections.abc import Iterable, Mapping, Sequence
from typing import TYPE_CHECKING, Any

from rich.box import SIMPLE_HEAD
from rich.console import Console, ConsoleOptions, RenderableType
from rich.progress import Task, TimeRemainingColumn
from rich.segment import Segment
from rich.table import Table
from rich.text import Text

from roadseg.cli.console import visible
from roadseg.measure.shown import shown
from roadseg.spec import SegClass

if TYPE_CHECKING:
    from roadseg.data.folder import ClassCounts
    from roadseg.infer.stages import StageStats
    from roadseg.measure.metrics import Scores
    from roadseg.measure.steadiness import FilmScores

Colors = Mapping[str, tuple[int, int, int]]
"""RGB colours of classes by name."""
LEAST_TIMED_S = 1.0
"""Frames of the first moments were in the pipeline together, and come faster than any later."""
TOTALS = ("mIoU", "pixel accuracy", "boundary F1", "calibration error", "cross entropy (nats)")
"""What is measured over all classes."""
FILM_TOTALS = (
    "together",
    "pixels that flip",
    "pixels that flicker",
    "frames",
    "seen by the network",
)
"""The same of a video."""


def stage_table(stages: Sequence["StageStats"], bottleneck: str) -> Table:
    """Return where a pipeline's time went, a row for each stage."""
    table = Table(title="Where the time went (s)", title_justify="left")
    table.add_column("stage")
    for heading in ("busy", "starved", "blocked"):
        table.add_column(heading, justify="right")
    table.add_column("")
    for stats in stages:
        mark = "bottleneck" if stats.name == bottleneck else ""
        times = (f"{s:.2f}" for s in (stats.busy_s, stats.starved_s, stats.blocked_s))
        table.add_row(stats.name, *times, mark, style="bold" if mark else None)
    return table


def class_share_table(shares: Mapping[str, float], colors: Colors) -> Table:
    """Return the share of each class in the video, largest first."""
    table = Table(title="What is in view", title_justify="left")
    table.add_column("class")
    table.add_column("share", justify="right")
    for name, share in sorted(shares.items(), key=lambda entry: -entry[1]):
        table.add_row(swatch(name, colors), f"{share:.1%}")
    return table


def score_table(scores: "Scores", colors: Colors) -> Table:
    """Return the scores of a model, a row for each class."""
    table = Table(title="In %, but for the cross entropy", title_justify="left")
    table.add_column("class")
    for heading in ("IoU", "precision", "recall", "boundary F1"):
        table.add_column(heading, justify="right")
    columns = (scores.iou, scores.precision, scores.recall, scores.boundary_f1)
    for name, *values in zip(scores.class_names, *columns, strict=True):
        table.add_row(swatch(name, colors), *map(percent, values))
    _add_totals(table, zip(TOTALS, _totals(scores), strict=True))
    return table


def comparison_table(measured: Mapping[str, "Scores"], colors: Colors) -> Table:
    """Return the IoU of two models side by side, a row for each class."""
    table = Table(title="IoU, %", title_justify="left")
    table.add_column("class")
    for name in (*measured, "change"):
        table.add_column(name, justify="right", overflow="fold")
    first, second = measured.values()
    for name, before, after in zip(first.class_names, first.iou, second.iou, strict=True):
        change = _change(before, after)
        table.add_row(swatch(name, colors), percent(before), percent(after), change)
    changes = (_change(first.miou, second.miou), *[""] * (len(TOTALS) - 1))
    totals = zip(TOTALS, _totals(first), _totals(second), changes, strict=True)
    _add_totals(table, totals)
    return table


def _change(before: float, after: float) -> str:
    """Return the difference of two shares in points, or nothing if one is absent."""
    return "" if math.isnan(after - before) else f"{100 * (after - before):+.1f}"


def sets_table(measured: Mapping[str, "Scores"], colors: Colors) -> Table:
    """Return how often models are right where a label is a set of classes, a row for each set."""
    title = "Within the classes that a label allows, % of its pixels"
    table = Table(title=title, title_justify="left")
    table.add_column("label")
    for name in measured:
        table.add_column(name, justify="right", overflow="fold")
    sets = [scores.sets for scores in measured.values() if scores.sets]
    for name, *shares in zip(sets[0].names, *(found.within for found in sets), strict=True):
        table.add_row(swatch(name, colors), *map(percent, shares))
    return table


def _add_totals(table: Table, rows: Iterable[Sequence[str]]) -> None:
    """Add what is not of a class as rows, which stay aligned where a name is wrapped."""
    table.add_section()
    for row in rows:
        table.add_row(*row, style="table.footer")


def _totals(scores: "Scores") -> tuple[str, ...]:
    """Return what `TOTALS` names."""
    cross_entropy = scores.calibration.cross_entropy
    shares = (
        scores.miou,
        scores.pixel_accuracy,
        scores.mean_boundary_f1,
        scores.calibration.calibration_error,
    )
    return (*map(percent, shares), shown(cross_entropy, ".3f"))


def film_table(measured: Mapping[str, "FilmScores"], colors: Colors) -> Table:
    """Return steadiness and accuracy of a video's labels, two columns for each model."""
    table = Table(title="In %, but for the frames", title_justify="left")
    table.add_column("class")
    for name in measured:
        label = f"{name}: " if len(measured) > 1 else ""
        for heading in ("consistency", "IoU"):
            table.add_column(f"{label}{heading}", justify="right", overflow="fold")
    films = measured.values()
    names = next(iter(films)).temporal.class_names
    for i, name in enumerate(names):
        cells = (percent(v[i]) for f in films for v in (f.temporal.by_class, f.scores.iou))
        table.add_row(swatch(name, colors), *cells)
    columns = (column for film in films for column in _film_totals(film))
    _add_totals(table, zip(FILM_TOTALS, *columns, strict=True))
    return table


def _film_totals(film: "FilmScores") -> tuple[Sequence[str], Sequence[str]]:
    """Return what `FILM_TOTALS` names, below consistency and below IoU."""
    steadiness = film.temporal
    shares = (steadiness.consistency, steadiness.flip_rate, steadiness.flicker_rate)
    counts = (len(film.moments), film.network_frames)
    below_consistency = [*(percent(share, 2) for share in shares), *map(str, counts)]
    return below_consistency, [percent(film.scores.miou), *[""] * (len(FILM_TOTALS) - 1)]


def percent(value: float, decimals: int = 1) -> str:
    """Return a share as a percentage, or that there is none."""
    return shown(100 * value, f".{decimals}f")


def class_count_table(title: str, classes: Sequence[SegClass], counts: "ClassCounts") -> Table:
    """Return how often each class occurs in a split."""
    table = Table(title=title, title_justify="left")
    table.add_column("class")
    for heading in ("% of pixels", "pictures"):
        table.add_column(heading, justify="right")
    colors = {segment.name: segment.color for segment in classes}
    for name, share, pictures in zip(colors, counts.shares, counts.pictures, strict=True):
        table.add_row(swatch(name, colors), f"{100 * share:.2f}", str(pictures))
    return table


def confusion_table(scores: "Scores") -> Table:
    """Return where the pixels of each class went, in percent of the class; a dot is under one."""
    title = "Confusion (% of each true class)"
    table = Table(title=title, title_justify="left", box=SIMPLE_HEAD, padding=(0, 1, 0, 0))
    table.add_column("true")
    names = scores.class_names
    for name in names:
        table.add_column(name[:4], justify="right")
    for name, row in zip(names, scores.confusion, strict=True):
        shares = 100 * row / max(int(row.sum()), 1)
        cells = ("." if share < 1 else f"{share:.0f}" for share in shares)
        table.add_row(name, *cells)
    return table


class _VisibleConsole(Console):
    """A console that removes control codes from texts."""

    def render(
        self, renderable: RenderableType, options: ConsoleOptions | None = None
    ) -> Iterable[Segment]:
        for segment in super().render(renderable, options):
            yield segment if segment.control else segment._replace(text=visible(segment.text))


def plain_console(*, stderr: bool = False, quiet: bool = False) -> Console:
    """Return a console without markup, as file names may have brackets."""
    return _VisibleConsole(stderr=stderr, quiet=quiet, markup=False, highlight=False)


def quiet_elsewhere(*, quiet: bool = False) -> dict[str, Any]:
    """Return settings of a progress bar that is shown on terminals only, and removed at the end."""
    console = plain_console(stderr=True)
    return {"console": console, "transient": True, "disable": quiet or not console.is_terminal}


class PaceColumn(TimeRemainingColumn):
    """Frames a second of late and the time that is left, from a second after the first frame on.

    What is complete at the first frame, such as frames that `--resume` kept, counts for neither.
    """

    def render(self, task: Task) -> Text:
        """Return both for a task that starts at its first frame."""
        if (task.elapsed or 0.0) < LEAST_TIMED_S:
            return Text("    - fps -:--:--")
        return Text.assemble(f"{task.speed or 0.0:5.1f} fps ", super().render(task))


def swatch(name: str, colors: Colors) -> Text:
    """Return a class name with its colour before it."""
    red, green, blue = colors[name]
    return Text.assemble(("  ", f"on rgb({red},{green},{blue})"), f" {name}")
