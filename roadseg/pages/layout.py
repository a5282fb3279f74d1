"""What pages have in common: the look, pictures with captions, one file that needs no network."""

from base64 import b64encode
from collections.abc import Mapping, Sequence
from html import escape

import plotly.graph_objects as go

from roadseg.spec import SegClass, css_color

LAYOUT = {
    "template": "plotly_white",
    "font": {"family": "system-ui, sans-serif", "size": 13},
    "margin": {"l": 50, "r": 20, "t": 50, "b": 40},
    "height": 430,
    "legend": {"orientation": "h", "yanchor": "top", "y": -0.15, "x": 0},
}
BAR_TEXT = {"textfont": {"size": 10}, "textposition": "outside", "cliponaxis": False}
"""Figures behind bars, which may be too short or thin to bear them."""
STYLE = (
    "html{overflow-y:scroll}"
    "body{font-family:system-ui,sans-serif;margin:1.5rem;color:#222;background:#fff}"
    "th,td{text-align:left;padding:.2rem .6rem .2rem 0;overflow-wrap:anywhere}"
    "figure{margin:0 0 1rem}img{max-width:100%}figcaption{color:#555}"
    ".legend span{margin-right:1rem;white-space:nowrap}.legend i{display:inline-block;width:.9em;"
    "height:.9em;margin-right:.3em;border:1px solid #444;vertical-align:-.1em}"
    "main{display:grid;gap:1rem;grid-template-columns:repeat(2,minmax(0,1fr))}"
    "@media(max-width:900px){body{margin:.5rem}main{grid-template-columns:minmax(0,1fr)}}"
)
"""Two figures in a row, one on a phone."""


def page_html(figures: Sequence[go.Figure], title: str, facts: str = "", below: str = "") -> str:
    """Lay figures out on a page of their own, with Plotly's script inside."""
    parts = (
        figure.to_html(
            full_html=False,
            include_plotlyjs=i == 0,
            config={
                "displaylogo": False,
                "responsive": True,
                "modeBarButtons": [["toImage", "pan2d", "zoom2d", "resetScale2d"]],
            },
        )
        for i, figure in enumerate(figures)
    )
    return (
        '<!doctype html><html lang="en"><head><meta charset="utf-8">'
        '<meta name="viewport" content="width=device-width, initial-scale=1">'
        f"<title>{escape(title)}</title><style>{STYLE}</style></head>"
        f"<body><h1>{escape(title)}</h1><p>{escape(facts)}</p><main>{''.join(parts)}</main>"
        f"{below}</body></html>\n"
    )


def scaled(value: float | None, factor: float) -> float | None:
    """Return a figure in another unit, and None, which Plotly leaves out, for what is none."""
    return None if value is None or value != value else value * factor


def pictures_html(
    pictures: Mapping[str, bytes], heading: str, classes: Sequence[SegClass] = ()
) -> str:
    """Return pictures with their captions as HTML, or nothing if there are none.

    Args:
        pictures: JPEG files by caption.
        heading: What they show.
        classes: Classes whose names and colours are told above them.
    """
    if not pictures:
        return ""
    legend = "".join(
        f'<span><i style="background:{css_color(c.color)}"></i>{escape(c.name)}</span>'
        for c in classes
    )
    shown = (
        f'<figure><img alt="{escape(caption)}" src="data:image/jpeg;base64,'
        f'{b64encode(data).decode()}"><figcaption>{escape(caption)}</figcaption></figure>'
        for caption, data in pictures.items()
    )
    explained = f'<p class="legend">{legend}</p>' if classes else ""
    return f"<h2>{escape(heading)}</h2>{explained}{''.join(shown)}"
