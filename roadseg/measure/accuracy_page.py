"""Pages about how right and how steady models are, as pure functions of what was measured."""

import math
from collections.abc import Mapping, Sequence

import numpy as np
import plotly.graph_objects as go
from numpy.typing import NDArray

from roadseg.measure.metrics import BOUNDARY_TOLERANCE, Scores
from roadseg.measure.shown import shown
from roadseg.measure.steadiness import FilmScores
from roadseg.pages.layout import (
    BAR_TEXT,
    GREY,
    OUTLINE,
    Plot,
    facts_html,
    page_html,
    pictures_html,
    plots_html,
    scaled,
)
from roadseg.spec import DEFAULT_PALETTE, PALETTES, SegClass, css_color

CLASSES_PX = 430
"""Height of a plot with a row for each class."""


def evaluation_page(
    measured: Mapping[str, Scores],
    title: str,
    worst: Mapping[str, bytes],
    classes: Sequence[SegClass],
) -> str:
    """Return one measurement, or several on the same pictures side by side, as HTML.

    Args:
        measured: Scores by the name of the model.
        title: Heading.
        worst: JPEG files of the worst pictures by caption: picture, label, and below them each
            model's class map, or the only one's and where that is wrong.
        classes: What the colours mean.
    """
    plots = [
        *(
            _class_bars(of_model, measured, title, [css_color(c.color) for c in classes])
            for title, of_model in (
                ("IoU (%)", {name: 100 * s.iou for name, s in measured.items()}),
                ("Boundary F1 (%)", {name: 100 * s.boundary_f1 for name, s in measured.items()}),
            )
        ),
        *(_precision_recall(scores, name) for name, scores in measured.items()),
        *(_confusion(scores, name) for name, scores in measured.items()),
        _reliability(measured),
    ]
    facts = facts_html({name: headline(scores) for name, scores in measured.items()}, "In short")
    shown = (
        " and ".join(measured)
        if len(measured) > 1
        else "prediction and, on black, what of it is wrong"
    )
    below = pictures_html(worst, f"Worst pictures: picture and label, below {shown}", classes)
    return page_html(title, facts + plots_html(plots) + below)


def film_page(measured: Mapping[str, FilmScores], title: str) -> str:
    """Return how steady and how right the labels of a video are, in time and by class, as HTML.

    Args:
        measured: Scores by the name of the model.
        title: Heading.
    """
    labelled = any(film.scores.confusion.any() for film in measured.values())
    panels = {"Consistency with the frame before (%)": "consistency"}
    panels["Pixels that flip (%)"] = "flip_rate"
    if labelled:
        panels["mIoU of each frame (%)"] = "miou"
    plots = [_timeline(measured, panel, key) for panel, key in panels.items()]
    of_class = {name: 100 * film.temporal.by_class for name, film in measured.items()}
    scores = {name: film.scores for name, film in measured.items()}
    plots.append(_class_bars(of_class, scores, "Consistency (%)"))
    if labelled:
        of_class = {name: 100 * film.scores.iou for name, film in measured.items()}
        plots.append(_class_bars(of_class, scores, "IoU (%)"))
    facts = facts_html({name: film_headline(film) for name, film in measured.items()}, "In short")
    return page_html(title, facts + plots_html(plots))


def film_headline(film: FilmScores) -> str:
    """Return the scores of a video in a sentence."""
    temporal, miou = film.temporal, film.scores.miou
    right = "no labels to be right by" if math.isnan(miou) else f"mIoU {miou:.1%}"
    return (
        f"{right}, consistency {shown(temporal.consistency, '.1%')}, "
        f"{shown(temporal.flip_rate, '.2%')} of pixels flip along the motion and "
        f"{shown(temporal.flicker_rate, '.2%')} flicker in place; the network predicted "
        f"{film.network_frames} of {len(film.moments)} frames"
    )


def _timeline(measured: Mapping[str, FilmScores], title: str, key: str) -> Plot:
    """Draw one metric of every frame by time; a dot marks each frame that the network predicted."""
    figure = go.Figure()
    for name, film in measured.items():
        dots = [6 if moment.by_network else 0 for moment in film.moments]
        figure.add_scatter(
            x=[moment.time_s for moment in film.moments],
            y=[scaled(getattr(moment, key), 100) for moment in film.moments],
            name=name,
            mode="lines+markers",
            marker={"size": dots if min(dots) == 0 else 3},
            line={"width": 1.5},
        )
    figure.update_xaxes(title_text="seconds")
    return Plot(title=title, figure=figure)


def headline(scores: Scores) -> str:
    """Return the scores on pictures in a sentence."""
    return (
        f"mIoU {shown(scores.miou, '.1%')}, pixel accuracy {shown(scores.pixel_accuracy, '.1%')}, "
        f"boundary F1 {shown(scores.mean_boundary_f1, '.1%')} within {BOUNDARY_TOLERANCE:.2%} of "
        f"the diagonal, cross entropy {shown(scores.calibration.cross_entropy, '.3f')}, "
        f"calibration error {shown(scores.calibration.calibration_error, '.1%')}"
    )


def _class_bars(
    values: Mapping[str, NDArray[np.float64]],
    measured: Mapping[str, Scores],
    title: str,
    colors: Sequence[str] | None = None,
) -> Plot:
    """Draw a metric of each class, a bar for each model; one model alone in its classes' colours.

    Without `colors` these are those of the default palette.
    """
    figure = go.Figure()
    for name, of_class in values.items():
        names = measured[name].class_names
        of_classes = colors or list(map(_usual_color, names))
        fill = of_classes if len(values) == 1 else None
        figure.add_bar(
            x=[scaled(value, 1) for value in of_class],
            y=list(names),
            name=name,
            orientation="h",
            marker={"color": fill, "line": OUTLINE},
            texttemplate="%{x:.1f}",
            **BAR_TEXT,
        )
    figure.update_xaxes(range=[0, 105])
    figure.update_yaxes(autorange="reversed", automargin=True)
    return Plot(title=f"{title} of each class", figure=figure, height_px=CLASSES_PX)


def _precision_recall(scores: Scores, name: str) -> Plot:
    """Draw what is found of each class, and what of that is right."""
    figure = go.Figure()
    for what, of_class, color in (
        ("precision", scores.precision, "#2a78b5"),
        ("recall", scores.recall, "#d1495b"),
    ):
        figure.add_bar(
            x=[scaled(value, 100) for value in of_class],
            y=list(scores.class_names),
            name=what,
            orientation="h",
            marker_color=color,
            texttemplate="%{x:.1f}",
            **BAR_TEXT,
        )
    figure.update_xaxes(range=[0, 105])
    figure.update_yaxes(autorange="reversed", automargin=True)
    title = f"Precision and recall of each class (%): {name}"
    return Plot(title=title, figure=figure, height_px=CLASSES_PX)


def _confusion(scores: Scores, name: str) -> Plot:
    names = list(scores.class_names)
    totals = scores.confusion.sum(axis=1, keepdims=True)
    figure = go.Figure()
    figure.add_heatmap(
        z=100 * scores.confusion / np.maximum(totals, 1),
        x=names,
        y=names,
        zmin=0,
        zmax=100,
        showscale=False,
        texttemplate="%{z:.0f}",
        hovertemplate="true %{y}<br>predicted %{x}<br>%{z:.2f} %<extra></extra>",
    )
    figure.update_xaxes(title_text="predicted", tickangle=-45, automargin=True)
    figure.update_yaxes(autorange="reversed", automargin=True)
    title = f"Confusion, % of each true class: {name}"
    return Plot(title=title, figure=figure, height_px=CLASSES_PX)


def _reliability(measured: Mapping[str, Scores]) -> Plot:
    """Draw accuracy against confidence, bin by bin; a calibrated model follows the diagonal."""
    figure = go.Figure()
    figure.add_scatter(
        x=[0, 100],
        y=[0, 100],
        mode="lines",
        name="calibrated",
        line={"color": GREY, "dash": "dot"},
    )
    for name, scores in measured.items():
        seen = scores.calibration.pixels > 0
        pixels = scores.calibration.pixels[seen]
        figure.add_scatter(
            x=100 * scores.calibration.confidence_sum[seen] / pixels,
            y=100 * scores.calibration.hits[seen] / pixels,
            customdata=100 * pixels / pixels.sum(),
            mode="lines+markers",
            name=name,
            hovertemplate="confidence %{x:.1f} %<br>right %{y:.1f} %<br>%{customdata:.2f} % of "
            "pixels<extra></extra>",
        )
    figure.update_xaxes(title_text="confidence (%)", range=[0, 102])
    figure.update_yaxes(title_text="right (%)", range=[0, 102])
    return Plot(title="Calibration", figure=figure)


def _usual_color(name: str) -> str:
    """Return the colour that one of CamVid's classes is shown in, or that of all others."""
    color = PALETTES[DEFAULT_PALETTE].get(name)
    return css_color(color) if color else GREY
