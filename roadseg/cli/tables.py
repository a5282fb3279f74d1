"""Tables that commands print."""

from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING

from rich.box import SIMPLE_HEAD
from rich.table import Table
from rich.text import Text

from roadseg.classes import CLASS_NAMES, PALETTES

if TYPE_CHECKING:
    from roadseg.metrics import Scores
    from roadseg.stages import StageStats


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


def class_share_table(shares: Mapping[str, float], palette: str) -> Table:
    """Return the share of each class in the film, largest first, in a palette's colours."""
    table = Table(title="What is in view", title_justify="left")
    table.add_column("class")
    table.add_column("share", justify="right")
    for name, share in sorted(shares.items(), key=lambda entry: -entry[1]):
        table.add_row(swatch(name, palette), f"{share:.1%}")
    return table


def score_table(scores: "Scores") -> Table:
    """Return the figures of a measurement, a row for each class."""
    table = Table(show_footer=True)
    table.add_column("class", footer="mIoU\npixel accuracy\ncross entropy")
    figures = f"{scores.miou:.1%}\n{scores.pixel_accuracy:.1%}\n{scores.cross_entropy:.3f}"
    table.add_column("IoU", justify="right", footer=figures)
    for name, iou in zip(CLASS_NAMES, scores.iou, strict=False):
        table.add_row(swatch(name), "absent" if iou != iou else f"{iou:.1%}")
    return table


def confusion_table(scores: "Scores") -> Table:
    """Return where the pixels of each class went, in percent of the class; a dot is under one."""
    title = "Confusion (% of each true class)"
    table = Table(title=title, title_justify="left", box=SIMPLE_HEAD, padding=(0, 1, 0, 0))
    table.add_column("true")
    names = CLASS_NAMES[: len(scores.iou)]
    for name in names:
        table.add_column(name[:4], justify="right")
    for name, row in zip(names, scores.confusion, strict=True):
        shares = 100 * row / max(int(row.sum()), 1)
        cells = ("." if share < 1 else f"{share:.0f}" for share in shares)
        table.add_row(name, *cells)
    return table


def swatch(name: str, palette: str = "camvid") -> Text:
    """Return a class name with its colour before it."""
    if name not in PALETTES[palette]:
        return Text(name)
    red, green, blue = PALETTES[palette][name]
    return Text.assemble(("  ", f"on rgb({red},{green},{blue})"), f" {name}")
