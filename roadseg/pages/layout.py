"""What pages have in common: one look, light and dark, in one file that needs no network.

A page is a title and sections. Its plots are drawn in the page's own colours, which follow the
reader's, so figures bring data, and colours that are legible on light and on dark.
"""

import gzip
import json
from base64 import b64encode
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from functools import lru_cache
from html import escape
from importlib.resources import files
from string import Template
from typing import Any

import plotly.graph_objects as go
from plotly.offline import get_plotlyjs

from roadseg.pages.data_url import data_url
from roadseg.spec import UNLABELLED, SegClass, css_color

BAR_TEXT = {"textfont": {"size": 10}, "textposition": "outside", "cliponaxis": False}
"""Numbers behind bars, which may be too short or thin to bear them."""
BEHIND_PX = 48
"""Room for the number behind the longest of them."""
GREY = "#8a949e"
"""Colour of what is there to compare with."""
OUTLINE = {"color": GREY, "width": 1}
"""Around marks in the colours of classes, which may be as dark or as light as the page."""
UNLABELLED_COLOR = "#000"
"""As class maps beside pictures are painted where they have no class."""
PLOT = '<div class="plot"'
"""How the place of a plot begins."""


@dataclass(frozen=True, kw_only=True)
class Plot:
    """A figure on a page."""

    title: str
    """What it shows."""
    figure: go.Figure
    """Data and layout, without a template."""
    hint: str = ""
    """What else there is to know, below it."""
    height_px: int = 360


def page_html(title: str, body: str, *, style: str = "", script: str = "") -> str:
    """Return a page in one file.

    Args:
        title: Heading.
        body: Its sections, as HTML.
        style: Name of a file in `web` with what it needs beside the common style.
        script: Name of a file in `web` to run once the plots are drawn; it may use Plotly.
    """
    return Template(web_file("page.html")).substitute(
        title=escape(_legible(title)),
        style=_joined("page.css", style),
        body=_legible(body),
        drawing=_drawing(script) if script or PLOT in body else "",
    )


def _drawing(script: str) -> str:
    """Return what draws the plots of a page, the library packed, which no other page carries."""
    return Template(web_file("drawing.html")).substitute(
        packed=_packed_library(), script=_joined("unpack.js", "plots.js", script)
    )


@lru_cache(maxsize=1)  # a training writes its page again and again
def _packed_library() -> str:
    return b64encode(gzip.compress(get_plotlyjs().encode(), mtime=0)).decode()


def _legible(text: str) -> str:
    """Return a text with a question mark for what names of files hold and UTF-8 does not."""
    return text.encode(errors="replace").decode()


def _joined(*names: str) -> str:
    return "\n".join(web_file(name) for name in names if name)


def web_file(name: str) -> str:
    """Return the text of a file in `web`."""
    return files("roadseg.pages").joinpath("web", name).read_text("utf-8")


def plots_html(plots: Iterable[Plot]) -> str:
    """Return plots as HTML, two in a row, one on a phone; those without data are left out."""
    drawn = "".join(_plot_html(plot) for plot in plots if plot.figure.data)
    return f'<div class="plots">{drawn}</div>' if drawn else ""


def _plot_html(plot: Plot) -> str:
    figure = json.loads(plot.figure.to_json())
    figure["layout"].pop("template", None)  # the page's colours stand for it
    hint = f'<p class="hint">{escape(plot.hint)}</p>' if plot.hint else ""
    place = f'{PLOT} style="height:{plot.height_px}px"></div>'
    return section_html(plot.title, f"{place}{json_script(figure)}{hint}")


def json_script(value: Any, element_id: str = "") -> str:
    """Return a value as an element that scripts of the page read."""
    named = f' id="{element_id}"' if element_id else ""
    data = json.dumps(value).replace("<", "\\u003c")  # no text can end the element
    return f'<script type="application/json"{named}>{data}</script>'


def facts_html(facts: Mapping[str, str], heading: str = "The run") -> str:
    """Return names and what is known under them as a section."""
    rows = (
        f"<tr><th>{escape(name)}</th><td>{escape(value)}</td></tr>" for name, value in facts.items()
    )
    return section_html(heading, f'<table class="facts">{"".join(rows)}</table>')


def section_html(heading: str, content: str) -> str:
    """Return a section of a page; the content is HTML."""
    return f"<section><h2>{escape(heading)}</h2>{content}</section>"


def pictures_html(
    pictures: Mapping[str, bytes], heading: str, classes: Sequence[SegClass] = ()
) -> str:
    """Return a section of pictures with their captions, or nothing if there are none.

    Args:
        pictures: JPEG files by caption.
        heading: What they show.
        classes: Classes whose names and colours are listed above them, with what is unlabelled.
    """
    if not pictures:
        return ""
    colors = {c.name: css_color(c.color) for c in classes}
    legend = "".join(
        f'<span><i style="background:{color}"></i>{escape(name)}</span>'
        for name, color in (colors | {UNLABELLED: UNLABELLED_COLOR}).items()
    )
    shown = (
        f'<figure><img alt="{escape(caption)}" src="{data_url("image/jpeg", data)}">'
        f"<figcaption>{escape(caption)}</figcaption></figure>"
        for caption, data in pictures.items()
    )
    explained = f'<p class="legend">{legend}</p>' if classes else ""
    return section_html(heading, f'{explained}<div class="pictures">{"".join(shown)}</div>')


def scaled(value: float | None, factor: float) -> float | None:
    """Return a value in another unit, and None, which Plotly leaves out, for what is no number."""
    return None if value is None or value != value else value * factor
