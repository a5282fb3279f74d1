"""The report of a drive as a page, a pure function of its record."""

from collections.abc import Mapping
from typing import Any

from roadseg.pages.layout import facts_html, json_script, page_html, web_file


def drive_page(record: Mapping[str, Any], facts: Mapping[str, str], title: str) -> str:
    """Return the report of a drive as HTML.

    Args:
        record: Times, shares, moments, thumbnails, and the video's URL, as JSON values.
        facts: What else there is to know about the run.
        title: Heading.
    """
    body = web_file("drive.html") + facts_html(facts) + json_script(record, "record")
    return page_html(title, body, style="drive.css", script="drive.js")
