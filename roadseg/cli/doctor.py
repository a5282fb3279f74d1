"""`roadseg doctor`."""

import json
from dataclasses import asdict
from typing import TYPE_CHECKING, Annotated

import typer

from roadseg.cli.console import echo
from roadseg.cli.options import AsJson

if TYPE_CHECKING:
    from roadseg.deploy.tune import Tuned


NEEDED = ("model", "h264", "libx264")
"""What `roadseg infer` cannot do without."""


def doctor(
    tune: Annotated[
        bool,
        typer.Option(
            "--tune",
            help="Measure for some seconds which runtime and precision are the fastest here; infer "
            "and live take these from then on, where no model or runtime is named.",
        ),
    ] = False,
    as_json: AsJson = False,
) -> None:
    """Try everything that roadseg can use here; say what works and what would add the rest."""
    if tune:
        _tune(as_json=as_json)
    else:
        _examine(as_json=as_json)


def _examine(*, as_json: bool) -> None:
    from rich.table import Table
    from rich.text import Text

    from roadseg.cli.examine import examine
    from roadseg.cli.tables import plain_console

    with plain_console(stderr=True).status("trying runtimes, codecs and devices"):
        findings = list(examine())
    if as_json:
        echo(json.dumps([asdict(finding) for finding in findings], indent=2))
        return
    table = Table()
    for heading in ("", "what", "", "found, or what would add it"):
        table.add_column(heading)
    shown_area = None
    for found in findings:
        area = "" if found.area == shown_area else found.area
        shown_area = found.area
        mark = Text("yes", "green") if found.works else Text("no", "red")
        text = found.detail if found.works else f"{found.detail}; {found.remedy}"
        table.add_row(area, found.name, mark, text)
    console = plain_console()
    console.print(table)
    if all(found.works for found in findings if found.name in NEEDED):
        console.print("roadseg infer works here; whatever says no is optional", soft_wrap=True)


def _tune(*, as_json: bool) -> None:
    from roadseg.cli.tables import plain_console
    from roadseg.deploy.tune import tune

    with plain_console(stderr=True).status("measuring") as status:
        found = tune(on_step=status.update)
    if as_json:
        chosen = {"weights": str(found.choice.weights), "backend": found.choice.backend}
        trials = [trial.record() for trial in found.trials]
        echo(json.dumps({"choice": chosen, "trials": trials}, indent=2))
    else:
        _show(found)


def _show(found: "Tuned") -> None:
    from rich.table import Table

    from roadseg.backends.tuned import choice_file
    from roadseg.cli.tables import plain_console

    table = Table("way to run the network", "CPU ms a frame")
    for trial in found.trials:
        took = trial.error if trial.cpu_ms is None else f"{trial.cpu_ms:.1f}"
        table.add_row(trial.candidate.name, took)
    console = plain_console()
    console.print(table)
    console.print(
        f"chosen: {found.choice.weights.name} on {found.choice.backend}; kept in {choice_file()}",
        soft_wrap=True,
    )
