"""Tables of `roadseg batch`."""

from collections.abc import Mapping, Sequence
from datetime import timedelta
from typing import TYPE_CHECKING

from rich.table import Table

if TYPE_CHECKING:
    from roadseg.infer.batch.manifest import Record
    from roadseg.infer.batch.status import Status


def films_table(records: Sequence["Record"]) -> Table:
    """Return what became of videos, a row each."""
    table = Table(title="Videos", title_justify="left")
    table.add_column("video", overflow="fold")
    table.add_column("state")
    for heading in ("attempt", "frames", "fps"):
        table.add_column(heading, justify="right")
    table.add_column("what", overflow="fold")
    for record in records:
        metrics = record.measured()
        fps = f"{metrics.frames / metrics.wall_s:.1f}" if metrics.wall_s else ""
        what = record.error or "; ".join(metrics.warnings)
        table.add_row(
            record.film, record.state, str(record.attempt), str(metrics.frames or ""), fps, what
        )
    return table


def state_table(status: "Status") -> Table:
    """Return how far a batch is."""
    from roadseg.infer.batch.status import duration

    table = Table(title="Batch", title_justify="left", show_header=False)
    table.add_column()
    table.add_column(justify="right")
    for state, films in status.films.items():
        table.add_row(f"videos {state}", str(films))
    table.add_row("video done", duration(status.video_s))
    table.add_row("frames done", str(status.frames))
    table.add_row("time on one core", duration(status.cpu_s))
    for film, machine in status.running.items():
        table.add_row(f"running on {machine}", film)
    if status.left_s is not None:
        table.add_row("left, about", str(timedelta(seconds=round(status.left_s))))
    return table


def failed_table(failed: Mapping[str, str]) -> Table:
    """Return the videos that failed and why."""
    table = Table(title="Failed", title_justify="left")
    table.add_column("video", overflow="fold")
    table.add_column("why", overflow="fold")
    for film, why in failed.items():
        table.add_row(film, why)
    return table
