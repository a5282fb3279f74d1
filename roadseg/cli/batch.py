"""`roadseg batch`, and `roadseg batch status`."""

import json
import traceback
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import asdict
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from roadseg.cli.command import Command, Group
from roadseg.cli.console import complain, echo
from roadseg.cli.infer import EncodingOptions, InputOptions, OutputOptions, TerminalOptions
from roadseg.cli.option_groups import OptionGroup, grouped
from roadseg.cli.options import (
    AsJson,
    ModelOptions,
    MotionOptions,
    OverlayOptions,
    PositionOptions,
)
from roadseg.errors import ConfigError, RoadsegError

if TYPE_CHECKING:
    from typer._click.core import Context

    from roadseg.infer.batch.driver import Listener, Progress, Summary
    from roadseg.infer.batch.films import BatchConfig, Films
    from roadseg.infer.batch.manifest import Record

MOST_LISTED = 20
"""Videos that a table lists, beside those that failed."""


class BatchGroup(Group):
    """`roadseg batch DIR` is `roadseg batch run DIR`; the other commands go by their names."""

    def resolve_command(self, ctx: "Context", args: list[str]) -> tuple[str | None, Any, list[str]]:
        """Return the command that arguments begin with, or else `run`."""
        known = args[0] in self.commands
        return super().resolve_command(ctx, args if known else ["run", *args])


app = typer.Typer(cls=BatchGroup, no_args_is_help=True, help="Label many videos, and keep account.")


class BatchOutputOptions(OutputOptions):
    """What is written for each video."""

    out: Annotated[
        Path,
        typer.Option(
            "--out", "-o", metavar="DIR", help="Folder of all that is written, manifests included."
        ),
    ] = ...  # type: ignore[assignment]  # it must be given
    resume: bool = False  # a batch always goes on: there is no such option


class BatchPositionOptions(PositionOptions):
    """Where the positions of each drive come from."""

    gpx_offset: str | None = None  # videos begin at different times: there is no such option


class ShareOptions(OptionGroup):
    """Who does what."""

    panel = "Batch"
    shard: Annotated[
        str,
        typer.Option(
            metavar="I/N",
            help="Label the Ith of N parts of the videos, from 0/N to N-1/N: one a machine.",
        ),
    ] = "0/1"
    chunk: Annotated[
        float | None,
        typer.Option(
            metavar="SECONDS",
            help="Split videos into chunks of at least this length, which are joined in the end.",
            show_default="videos are labelled whole",
        ),
    ] = None
    attempts: Annotated[
        int,
        typer.Option(
            metavar="N", help="Times that a video is begun before it is given up, over all runs."
        ),
    ] = 3


@app.command(
    cls=Command,
    epilog="Example: roadseg batch run drives --out labelled --stats stats.jsonl --no-film",
)
@grouped
def run(
    source: Annotated[
        Path,
        typer.Argument(
            metavar="DIR|LIST",
            help="Videos to label: a folder with videos and folders of videos, or a text file "
            "with a video or an address a line.",
        ),
    ],
    share: ShareOptions,
    output: BatchOutputOptions,
    input_: InputOptions,
    positions: BatchPositionOptions,
    overlay: OverlayOptions,
    model: ModelOptions,
    motion: MotionOptions,
    encoding: EncodingOptions,
    terminal: TerminalOptions,
) -> None:
    """Label the videos of a folder or list: `roadseg batch DIR --out DIR`.

    Started again, it does what is left: no video twice, and half a video is gone on with.
    """
    from roadseg.cli.batch_films import Plan

    settings = {
        **output.settings(),
        **input_.settings(),
        **positions.settings(),
        **overlay.settings(),
        **model.settings(),
        **vars(motion),
        **vars(encoding),
    }
    plan = Plan(
        source=source,
        out=output.out,
        beside=output.beside,
        settings=settings,
        no_film=output.no_film,
    )
    summary = _drive(_batch(plan, share), terminal)
    if terminal.as_json:
        records = [*summary.done, *summary.failed]
        echo(json.dumps([record.to_json() for record in records], indent=2))
    if summary.failed:
        total = len(summary.failed) + len(summary.done) + summary.done_before
        complain(f"{len(summary.failed)} of {total} videos were not labelled")
        raise typer.Exit(1)


def _batch(plan: Any, share: ShareOptions) -> "BatchConfig":
    """Return the settings of a batch, as there is a video in it."""
    from roadseg.infer.batch.films import BatchConfig, Shard, common_settings

    shard = Shard.parse(share.shard)
    films = plan.films()
    if not films:
        raise ConfigError(f"{plan.source} has no video in it; give a folder or a list of videos")
    return BatchConfig(
        out=plan.out,
        films=plan.films,
        settings=common_settings(next(iter(films.values())), share.chunk),
        shard=shard,
        chunk_s=share.chunk,
        attempts=share.attempts,
    )


def _drive(batch: "BatchConfig", terminal: TerminalOptions) -> "Summary":
    from roadseg.infer.batch.driver import Driver

    with _shown(quiet=terminal.silent) as display:
        summary = Driver(batch, display.listener()).run()
    if not terminal.silent:
        _show(summary)
    return summary


class _Display:
    """How far a batch is: videos, and their bytes as a measure of what is left."""

    def __init__(self, update: Any) -> None:
        self._update = update
        self._bytes: dict[str, int] = {}
        self._done_bytes = 0
        self._counts = {"done": 0, "failed": 0}

    def listener(self) -> "Listener":
        """Return what the driver is to tell."""
        from roadseg.infer.batch.driver import Listener

        return Listener(
            listed=self.on_listed,
            noted=self.on_record,
            progress=self.on_progress,
            failed=on_failure,
            waits=complain,
        )

    def on_listed(self, films: "Films") -> None:
        """Take videos that are to be labelled."""
        self._bytes |= {name: _bytes_of(config.source) for name, config in films.items()}
        self._show(0.0)

    def on_record(self, record: "Record") -> None:
        """Take a line of the manifest."""
        if record.chunk is None and record.state in self._counts:
            self._counts[record.state] += 1
            self._done_bytes += self._bytes.get(record.film, 0)
            self._show(0.0)

    def on_progress(self, progress: "Progress") -> None:
        """Take a frame; one of a chunk does not tell how far the video is."""
        if progress.total and progress.chunk is None:
            share = min(progress.done / progress.total, 1.0)
            self._show(share * self._bytes.get(progress.film, 0))

    def _show(self, begun_bytes: float) -> None:
        films = f"{sum(self._counts.values())} of {len(self._bytes)} videos"
        failed = f", {self._counts['failed']} failed" if self._counts["failed"] else ""
        self._update(
            description=films + failed,
            completed=self._done_bytes + begun_bytes,
            total=sum(self._bytes.values()),
        )


@contextmanager
def _shown(*, quiet: bool) -> Iterator[_Display]:
    """Give a display of how far a batch is."""
    from rich.progress import BarColumn, Progress, TaskProgressColumn, TextColumn
    from rich.progress import TimeRemainingColumn as Left

    from roadseg.cli.tables import quiet_elsewhere

    settings = quiet_elsewhere()
    settings["disable"] = settings["disable"] or quiet
    columns = TextColumn("{task.description}", markup=False), BarColumn(), TaskProgressColumn()
    with Progress(*columns, Left(), speed_estimate_period=600, **settings) as progress:
        task = progress.add_task("", total=None)
        yield _Display(lambda **values: progress.update(task, **values))


def _bytes_of(source: object) -> int:
    try:
        return source.stat().st_size if isinstance(source, Path) else 1
    except OSError:
        return 1


def on_failure(error: Exception) -> None:
    """Say why a video was not labelled; a bug shows where it is."""
    if not isinstance(error, RoadsegError):
        echo("".join(traceback.format_exception(error)), err=True)
        return
    complain(error)


def _show(summary: "Summary") -> None:
    from roadseg.cli.batch_tables import films_table
    from roadseg.cli.tables import plain_console

    console = plain_console()
    listed = [*summary.failed, *summary.done[:MOST_LISTED]]
    if listed:
        console.print(films_table(listed))
    if len(summary.done) > MOST_LISTED:
        console.print(f"and {len(summary.done) - MOST_LISTED} more videos done")
    if summary.done_before:
        console.print(f"{summary.done_before} videos were done before")


@app.command(cls=Command, epilog="Example: roadseg batch status labelled")
def status(
    manifest: Annotated[
        Path,
        typer.Argument(
            metavar="MANIFEST", help="The --out of a batch, for all its shards; or one manifest."
        ),
    ],
    as_json: AsJson = False,
) -> None:
    """Say how far a batch is, from its manifests, while it runs or later."""
    from roadseg.cli.batch_tables import failed_table, state_table
    from roadseg.cli.tables import plain_console
    from roadseg.infer.batch.status import status_of

    found = status_of(manifest)
    if as_json:
        echo(json.dumps(asdict(found), indent=2))
        return
    console = plain_console()
    console.print(state_table(found))
    if found.failed:
        console.print(failed_table(found.failed))
