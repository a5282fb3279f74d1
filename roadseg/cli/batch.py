"""`roadseg batch`, with `roadseg batch status` and `roadseg batch report`."""

import json
import traceback
from collections.abc import Iterator
from contextlib import AbstractContextManager, ExitStack, contextmanager
from dataclasses import asdict
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from roadseg.cli.command import Command, Group
from roadseg.cli.console import complain, counted, echo
from roadseg.cli.infer import EncodingOptions, InputOptions, OutputOptions, TerminalOptions
from roadseg.cli.option_groups import OptionGroup, grouped
from roadseg.cli.options import (
    AsJson,
    ModelOptions,
    MotionOptions,
    OverlayOptions,
    Overwrite,
    PositionOptions,
    Quiet,
)
from roadseg.errors import ConfigError, RoadsegError

if TYPE_CHECKING:
    from typer._click.core import Context

    from roadseg.infer.batch.films import BatchConfig, Films
    from roadseg.infer.batch.listener import Listener, Progress, Summary
    from roadseg.infer.batch.manifest import Record
    from roadseg.infer.batch.workers import Workers

MOST_LISTED = 20
"""Videos that a table lists, beside those that failed."""
CLUSTER_CHUNK_S = 300.0
"""Least length of a chunk on a cluster, unless one is given: as good as the best by
`benchmarks/scale.py`, and the longer of these."""


class BatchGroup(Group):
    """`roadseg batch DIR` is `roadseg batch run DIR`; the other commands go by their names."""

    def resolve_command(self, ctx: "Context", args: list[str]) -> tuple[str | None, Any, list[str]]:
        """Return the command that arguments begin with, or else `run`."""
        known = args[0] in self.commands
        return super().resolve_command(ctx, args if known else ["run", *args])


app = typer.Typer(
    cls=BatchGroup, no_args_is_help=True, help="Label many videos, and keep account of them."
)


Manifest = Annotated[
    str,
    typer.Argument(
        metavar="MANIFEST", help="The --out of a batch, for all its shards; or one manifest."
    ),
]


class BatchOutputOptions(OutputOptions):
    """What is written for each video."""

    out: Annotated[
        str,
        typer.Option(
            "--out",
            "-o",
            metavar="DIR|s3://...",
            help="Folder of all that is written, manifests included, or a place in a bucket.",
        ),
    ] = ...  # type: ignore[assignment]  # it must be given, and may be an address
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
            show_default=f"with --cluster {CLUSTER_CHUNK_S:g}, else videos are labelled whole",
        ),
    ] = None
    cluster: Annotated[
        str | None,
        typer.Option(
            metavar="WHERE",
            help="Have the machines of a Ray cluster label the chunks: auto is the cluster that "
            "this machine is part of, host:port that of another head, ray://host:port one that it "
            "is not part of, local this machine alone.",
            show_default="this process labels",
        ),
    ] = None
    threads: Annotated[
        int | None,
        typer.Option(
            metavar="N",
            help="Cores to use; with --cluster for each chunk.",
            show_default="all; with --cluster 2",
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
        str,
        typer.Argument(
            metavar="DIR|LIST|s3://...",
            help="Videos to label: a folder with videos and folders of videos, the same in a "
            "bucket, or a text file with a video or an address a line.",
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
    """Label the videos of a folder or list; short: roadseg batch DIR --out DIR.

    Started again, it does what is left: no video twice, and half a video from where it stopped.
    """
    from roadseg.cli.batch_films import Plan
    from roadseg.infer.batch.own_file import location_named
    from roadseg.infer.batch.store import scratch_folder

    out = location_named(output.out)
    settings = {
        **output.settings(),
        **input_.settings(),
        **positions.settings(),
        **overlay.settings(),
        **model.settings(),
        **motion.settings(),
        **encoding.settings(),
        "threads": share.threads,
    }
    plan = Plan(
        source=location_named(source),
        out=out if isinstance(out, Path) else scratch_folder(out, share.shard),
        bucket=None if isinstance(out, Path) else out,
        beside=output.beside,
        settings=settings,
        no_film=output.no_film,
    )
    summary = _drive(_batch(plan, share), share, terminal)
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
    usual_s = CLUSTER_CHUNK_S if share.cluster else None
    chunk_s = usual_s if share.chunk is None else share.chunk
    return BatchConfig(
        out=plan.out,
        films=plan.films,
        settings=common_settings(next(iter(films.values())), chunk_s),
        shard=shard,
        chunk_s=chunk_s,
        attempts=share.attempts,
        dataset=plan.dataset,
        bucket=plan.bucket,
    )


def _drive(batch: "BatchConfig", share: ShareOptions, terminal: TerminalOptions) -> "Summary":
    from roadseg.infer.batch.driver import Driver

    with ExitStack() as stack:
        workers = stack.enter_context(_cluster(batch, share)) if share.cluster else None
        display = stack.enter_context(_shown(quiet=terminal.silent))
        summary = Driver(batch, display.listener(), workers).run()
    if not terminal.silent:
        _show(summary, share.shard)
    return summary


def _cluster(batch: "BatchConfig", share: ShareOptions) -> AbstractContextManager["Workers"]:
    from roadseg.infer.batch.cluster import cluster
    from roadseg.infer.batch.relay import Relay

    assert share.cluster is not None
    relay = Relay(batch.out.absolute(), batch.bucket) if batch.bucket else None
    return cluster(share.cluster, share.threads, complain, relay)


class _Display:
    """How far a batch is: videos, and their bytes as a measure of what is left."""

    def __init__(self, update: Any) -> None:
        self._update = update
        self._bytes: dict[str, int] = {}
        self._done_bytes = 0
        self._begun_bytes: dict[str, float] = {}
        self._counts = {"done": 0, "failed": 0}

    def listener(self) -> "Listener":
        """Return what the driver is to tell."""
        from roadseg.infer.batch.listener import Listener

        return Listener(
            listed=self.on_listed,
            noted=self.on_record,
            progress=self.on_progress,
            failed=on_failure,
            waits=complain,
            lost=complain,
        )

    def on_listed(self, films: "Films") -> None:
        """Take videos that are to be labelled."""
        self._bytes |= {name: _bytes_of(config.source) for name, config in films.items()}
        self._show()

    def on_record(self, record: "Record") -> None:
        """Take a line of the manifest."""
        if record.chunk is None and record.state in self._counts:
            self._counts[record.state] += 1
            self._done_bytes += self._bytes.get(record.film, 0)
            self._begun_bytes.pop(record.film, None)
            self._show()

    def on_progress(self, progress: "Progress") -> None:
        """Take a frame or a chunk; a frame of a chunk does not tell how far the video is."""
        if progress.total and progress.chunk is None:
            share = min(progress.done / progress.total, 1.0)
            self._begun_bytes[progress.film] = share * self._bytes.get(progress.film, 0)
            self._show()

    def _show(self) -> None:
        films = f"{sum(self._counts.values())} of {len(self._bytes)} videos"
        failed = f", {self._counts['failed']} failed" if self._counts["failed"] else ""
        self._update(
            description=films + failed,
            completed=self._done_bytes + sum(self._begun_bytes.values()),
            total=sum(self._bytes.values()),
        )


@contextmanager
def _shown(*, quiet: bool) -> Iterator[_Display]:
    """Give a display of how far a batch is."""
    from rich.progress import (
        BarColumn,
        Progress,
        TaskProgressColumn,
        TextColumn,
        TimeRemainingColumn,
    )

    from roadseg.cli.tables import quiet_elsewhere

    columns = (
        TextColumn("{task.description}", markup=False),
        BarColumn(),
        TaskProgressColumn(),
        TimeRemainingColumn(),
    )
    settings = {"speed_estimate_period": 600, **quiet_elsewhere(quiet=quiet)}
    with Progress(*columns, **settings) as progress:
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


def _show(summary: "Summary", shard: str) -> None:
    from roadseg.cli.batch_tables import films_table
    from roadseg.cli.tables import plain_console

    console = plain_console()
    listed = [*summary.failed, *summary.done[:MOST_LISTED]]
    if listed:
        console.print(films_table(listed))
    if len(summary.done) > MOST_LISTED:
        console.print(f"and {counted(len(summary.done) - MOST_LISTED, 'more video')} done")
    if summary.done_before:
        console.print(f"{counted(summary.done_before, 'video')} done before")
    elif not listed:
        console.print(f"none of the videos belongs to shard {shard}")


@app.command(cls=Command, epilog="Example: roadseg batch status labelled")
def status(manifest: Manifest, as_json: AsJson = False) -> None:
    """Say how far a batch is, from its manifests, while it runs or later."""
    from roadseg.cli.batch_tables import failed_table, state_table
    from roadseg.cli.tables import plain_console
    from roadseg.infer.batch.own_file import location_named
    from roadseg.infer.batch.status import status_of

    found = status_of(location_named(manifest))
    if as_json:
        echo(json.dumps(asdict(found), indent=2))
        return
    console = plain_console()
    console.print(state_table(found))
    if found.failed:
        console.print(failed_table(found.failed))


@app.command(cls=Command, epilog="Example: roadseg batch report labelled --out fleet.html")
def report(
    manifest: Manifest,
    out: Annotated[
        Path, typer.Option("--out", "-o", metavar="FILE.html", help="Page to write.")
    ] = Path("report.html"),
    overwrite: Overwrite = False,
    quiet: Quiet = False,
) -> None:
    """Write a page about all videos of a batch: hours, classes, people, failures.

    Who was on the road is known of videos that were labelled with --stats (.jsonl or .parquet).
    """
    from roadseg.files import check_new, replacing
    from roadseg.infer.batch.own_file import location_named
    from roadseg.infer.batch.report import report_of
    from roadseg.infer.batch.report_page import report_page

    check_new(out, "--out", (".html",), overwrite=overwrite)
    location = location_named(manifest)
    name = location.resolve().name if isinstance(location, Path) else location
    page = report_page(report_of(location), f"Batch {name}")
    with replacing(out) as temporary:
        temporary.write_text(page, encoding="utf-8")
    if not quiet:
        echo(f"report: {out}")
