"""The report of a drive as a page, a pure function of its record."""

import json
from collections.abc import Mapping
from html import escape
from importlib.resources import files
from string import Template
from typing import Any

from plotly.offline import get_plotlyjs


def drive_page(record: Mapping[str, Any], title: str) -> str:
    """Return the report of a drive as HTML.

    Args:
        record: Times, shares, moments, thumbnails, facts, and the film's URL, as JSON values.
        title: Heading.
    """
    web = files("roadseg.pages").joinpath("web")
    return Template(web.joinpath("drive.html").read_text("utf-8")).substitute(
        title=escape(title),
        style=web.joinpath("drive.css").read_text("utf-8"),
        script=web.joinpath("drive.js").read_text("utf-8"),
        plotly=get_plotlyjs(),
        record=json.dumps(record).replace("<", "\\u003c"),  # no text can end the script element
    )
