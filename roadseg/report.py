"""Plotly pages as pure functions of recorded data; each is one file that needs no network."""

from collections.abc import Sequence
from html import escape
from typing import Any

import numpy as np
import plotly.graph_objects as go
from plotly.subplots import make_subplots

from roadseg.classes import CLASS_NAMES, PALETTE
from roadseg.metrics import Scores

CURVES = {
    "train": ("train (augmented crops, weighted loss)", "#7f7f7f"),
    "val": ("val (averaged weights)", "#d1495b"),
    "holdout": ("held-out sequence (averaged weights)", "#2a78b5"),
}
"""Name and colour of each split's curves."""
LAYOUT = {
    "template": "plotly_white",
    "font": {"family": "system-ui, sans-serif", "size": 13},
    "margin": {"l": 70, "r": 30, "t": 90, "b": 60},
}


def curves_page(records: Sequence[dict[str, Any]], title: str) -> str:
    """Return the learning curves of a run as HTML.

    Args:
        records: Lines of the run's log, one an epoch.
        title: Heading.
    """
    figure = make_subplots(
        rows=2,
        cols=2,
        subplot_titles=("Loss", "mIoU (%)", "Pixel accuracy (%)", "IoU of each class on val (%)"),
        horizontal_spacing=0.08,
        vertical_spacing=0.14,
    )
    panels = (
        (1, 1, "loss", "cross_entropy", 1.0),
        (1, 2, "miou", "miou", 100.0),
        (2, 1, "pixel_accuracy", "pixel_accuracy", 100.0),
    )
    for row, column, train_key, measured_key, factor in panels:
        for split, (name, color) in CURVES.items():
            key = train_key if split == "train" else measured_key
            chosen = [record for record in records if split in record]
            if not chosen:
                continue
            figure.add_scatter(
                x=[record["epoch"] for record in chosen],
                y=[record[split][key] * factor for record in chosen],
                name=name,
                legendgroup=split,
                showlegend=(row, column) == (1, 1),
                line_color=color,
                row=row,
                col=column,
            )
    measured = [record for record in records if "val" in record]
    for name, rgb in zip(CLASS_NAMES, PALETTE, strict=True):
        if measured and name in measured[-1]["val"]["iou"]:
            figure.add_scatter(
                x=[record["epoch"] for record in measured],
                y=[_percent(record["val"]["iou"][name]) for record in measured],
                name=name,
                line_color=_css(rgb),
                row=2,
                col=2,
            )
    figure.update_xaxes(title_text="epoch", row=2)
    figure.update_layout(title=escape(title), height=860, **LAYOUT)
    return _page(figure, title)


def evaluation_page(scores: Scores, title: str) -> str:
    """Return a measurement as HTML: IoU of each class and the confusion matrix."""
    names = list(CLASS_NAMES[: len(scores.iou)])
    colors = [_css(color) for color in PALETTE[: len(names)]]
    totals = scores.confusion.sum(axis=1, keepdims=True)
    rates = 100 * scores.confusion / np.maximum(totals, 1)
    figure = make_subplots(
        rows=1,
        cols=2,
        subplot_titles=("IoU of each class (%)", "Confusion: share of the true class (%)"),
        column_widths=[0.4, 0.6],
        horizontal_spacing=0.14,
    )
    figure.add_bar(
        x=[_percent(iou) for iou in scores.iou],
        y=names,
        orientation="h",
        marker={"color": colors, "line": {"color": "#444", "width": 1}},
        texttemplate="%{x:.1f}",
        showlegend=False,
        row=1,
        col=1,
    )
    figure.add_heatmap(
        z=rates,
        x=names,
        y=names,
        colorscale="Blues",
        zmin=0,
        zmax=100,
        texttemplate="%{z:.0f}",
        hovertemplate="true %{y}<br>predicted %{x}<br>%{z:.2f} %<extra></extra>",
        row=1,
        col=2,
    )
    figure.update_yaxes(autorange="reversed")
    figure.update_xaxes(range=[0, 105], row=1, col=1)
    figure.update_xaxes(title_text="predicted", row=1, col=2)
    figure.update_yaxes(title_text="true", row=1, col=2)
    facts = (
        f"mIoU {scores.miou:.1%} &nbsp; pixel accuracy {scores.pixel_accuracy:.1%} &nbsp; "
        f"cross entropy {scores.cross_entropy:.3f}"
    )
    figure.update_layout(title=f"{escape(title)}<br><sup>{facts}</sup>", height=620, **LAYOUT)
    return _page(figure, title)


def _page(figure: go.Figure, title: str) -> str:
    body = figure.to_html(full_html=False, include_plotlyjs=True, config={"displaylogo": False})
    return (
        '<!doctype html><html lang="en"><head><meta charset="utf-8">'
        '<meta name="viewport" content="width=device-width, initial-scale=1">'
        f"<title>{escape(title)}</title></head><body>{body}</body></html>\n"
    )


def _percent(share: float | None) -> float | None:
    return None if share is None or share != share else 100 * share


def _css(color: tuple[int, int, int]) -> str:
    return "rgb({}, {}, {})".format(*color)
