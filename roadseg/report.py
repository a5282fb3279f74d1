"""Plotly pages as pure functions of recorded data; each is one file that needs no network."""

import json
from collections.abc import Mapping, Sequence
from html import escape
from importlib.resources import files
from string import Template
from typing import Any

import numpy as np
import plotly.graph_objects as go
from plotly.offline import get_plotlyjs

from roadseg.classes import CLASS_NAMES, PALETTE
from roadseg.metrics import Scores

CURVES = {
    "train": ("train (augmented crops, weighted loss)", "#333333"),
    "val": ("val (averaged weights)", "#d1495b"),
    "holdout": ("held-out sequence (averaged weights)", "#2a78b5"),
}
"""Name and colour of each split's curves."""
PANELS = (
    ("Loss", "loss", "cross_entropy", 1.0),
    ("mIoU (%)", "miou", "miou", 100.0),
    ("Pixel accuracy (%)", "pixel_accuracy", "pixel_accuracy", 100.0),
)
"""Title, key among the training figures, key among the measured ones, factor."""
LAYOUT = {
    "template": "plotly_white",
    "font": {"family": "system-ui, sans-serif", "size": 13},
    "margin": {"l": 50, "r": 20, "t": 50, "b": 40},
    "height": 430,
    "legend": {"orientation": "h", "yanchor": "top", "y": -0.15, "x": 0},
}
STYLE = (
    "body{font-family:system-ui,sans-serif;margin:1.5rem;color:#222;background:#fff}"
    "main{display:grid;gap:1rem;grid-template-columns:repeat(2,minmax(0,1fr))}"
    "@media(max-width:900px){body{margin:.5rem}main{grid-template-columns:minmax(0,1fr)}}"
)
"""Two figures in a row, one on a phone."""


def curves_page(records: Sequence[dict[str, Any]], title: str) -> str:
    """Return the learning curves of a run as HTML.

    Args:
        records: Lines of the run's log, one an epoch.
        title: Heading.
    """
    figures = [_curves(records, *panel) for panel in PANELS]
    return _page([*figures, _class_curves(records)], title)


def _curves(
    records: Sequence[dict[str, Any]], title: str, train_key: str, measured_key: str, factor: float
) -> go.Figure:
    """Draw one figure of every split by epoch."""
    figure = go.Figure()
    for split, (name, color) in CURVES.items():
        key = train_key if split == "train" else measured_key
        chosen = [record for record in records if split in record]
        if chosen:
            figure.add_scatter(
                x=[record["epoch"] for record in chosen],
                y=[_scaled(record[split][key], factor) for record in chosen],
                name=name,
                line_color=color,
            )
    return figure.update_layout(title=title, xaxis_title="epoch", **LAYOUT)


def _class_curves(records: Sequence[dict[str, Any]]) -> go.Figure:
    """Draw the IoU of each class on val by epoch."""
    figure = go.Figure()
    measured = [record for record in records if "val" in record]
    for name, color in zip(CLASS_NAMES, PALETTE, strict=True):
        if measured and name in measured[-1]["val"]["iou"]:
            figure.add_scatter(
                x=[record["epoch"] for record in measured],
                y=[_scaled(record["val"]["iou"][name], 100) for record in measured],
                name=name,
                line_color=css_color(color),
            )
    return figure.update_layout(title="IoU of each class on val (%)", xaxis_title="epoch", **LAYOUT)


def evaluation_page(scores: Scores, title: str) -> str:
    """Return a measurement as HTML: IoU of each class and the confusion matrix."""
    facts = (
        f"mIoU {scores.miou:.1%}, pixel accuracy {scores.pixel_accuracy:.1%}, "
        f"cross entropy {scores.cross_entropy:.3f}"
    )
    return _page([_iou_bars(scores), _confusion(scores)], title, facts)


def _iou_bars(scores: Scores) -> go.Figure:
    names = list(CLASS_NAMES[: len(scores.iou)])
    colors = [css_color(color) for color in PALETTE[: len(names)]]
    figure = go.Figure()
    figure.add_bar(
        x=[_scaled(iou, 100) for iou in scores.iou],
        y=names,
        orientation="h",
        marker={"color": colors, "line": {"color": "#444", "width": 1}},
        texttemplate="%{x:.1f}",
    )
    figure.update_xaxes(range=[0, 105])
    figure.update_yaxes(autorange="reversed", automargin=True)
    return figure.update_layout(title="IoU of each class (%)", **LAYOUT)


def _confusion(scores: Scores) -> go.Figure:
    names = list(CLASS_NAMES[: len(scores.iou)])
    totals = scores.confusion.sum(axis=1, keepdims=True)
    figure = go.Figure()
    figure.add_heatmap(
        z=100 * scores.confusion / np.maximum(totals, 1),
        x=names,
        y=names,
        colorscale="Blues",
        zmin=0,
        zmax=100,
        showscale=False,
        texttemplate="%{z:.0f}",
        hovertemplate="true %{y}<br>predicted %{x}<br>%{z:.2f} %<extra></extra>",
    )
    figure.update_xaxes(title_text="predicted", tickangle=-45, automargin=True)
    figure.update_yaxes(autorange="reversed", automargin=True)
    return figure.update_layout(title="Confusion: % of each true class", **LAYOUT)


def drive_page(record: Mapping[str, Any], title: str) -> str:
    """Return the report of a drive as HTML.

    Args:
        record: Times, shares, moments, thumbnails, facts, and the film's URL, as JSON values.
        title: Heading.
    """
    web = files("roadseg").joinpath("web")
    return Template(web.joinpath("drive.html").read_text("utf-8")).substitute(
        title=escape(title),
        style=web.joinpath("drive.css").read_text("utf-8"),
        script=web.joinpath("drive.js").read_text("utf-8"),
        plotly=get_plotlyjs(),
        record=json.dumps(record).replace("<", "\\u003c"),  # no text can end the script element
    )


def _page(figures: Sequence[go.Figure], title: str, facts: str = "") -> str:
    """Lay figures out on a page of their own, with Plotly's script inside."""
    parts = (
        figure.to_html(
            full_html=False,
            include_plotlyjs=i == 0,
            config={"displaylogo": False, "responsive": True},
        )
        for i, figure in enumerate(figures)
    )
    return (
        '<!doctype html><html lang="en"><head><meta charset="utf-8">'
        '<meta name="viewport" content="width=device-width, initial-scale=1">'
        f"<title>{escape(title)}</title><style>{STYLE}</style></head>"
        f"<body><h1>{escape(title)}</h1><p>{escape(facts)}</p><main>{''.join(parts)}</main>"
        "</body></html>\n"
    )


def _scaled(value: float | None, factor: float) -> float | None:
    return None if value is None or value != value else value * factor


def css_color(color: tuple[int, int, int]) -> str:
    """Return a colour as CSS writes it."""
    return "rgb({}, {}, {})".format(*color)
