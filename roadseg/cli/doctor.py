"""`roadseg doctor`."""

import json
from dataclasses import asdict

from roadseg.cli.console import echo
from roadseg.cli.options import AsJson


def doctor(
    as_json: AsJson = False,
) -> None:
    """Try everything that roadseg can use here; say what works and what would add the rest."""
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
    plain_console().print(table)
