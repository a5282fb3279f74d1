"""Plotly pages as pure functions of recorded data; each is one file that needs no network."""

import json
from collections.abc import Callable, Mapping, Sequence
from html import escape
from importlib.resources import files
from string import Template
from typing import Any

import numpy as np
import plotly.graph_objects as go
from numpy.typing import NDArray
from plotly.colors import qualitative
from plotly.offline import get_plotlyjs

from roadseg.classes import PALETTES, SegClass, css_color
from roadseg.figures import Speed
from roadseg.metrics import BOUNDARY_TOLERANCE, Scores
from roadseg.panels import pictures_html
from roadseg.temporal import FilmScores

CURVES = {
    "train": ("train (augmented crops, weighted loss)", "#333333"),
    "val": ("val (averaged weights)", "#d1495b"),
    "holdout": ("held-out sequence (averaged weights)", "#2a78b5"),
}
"""Name and colour of each split's curves."""
OTHER_COLOR = "#888888"
"""Colour of the bars of classes that CamVid does not have."""
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


def curves_page(
    records: Sequence[dict[str, Any]], title: str, pictures: Mapping[str, bytes] | None = None
) -> str:
    """Return the learning curves of a run as HTML.

    Args:
        records: Lines of the run's log, one an epoch.
        title: Heading.
        pictures: JPEG files by caption, as `roadseg.panels` makes them.
    """
    figures = [_curves(records, *panel) for panel in PANELS]
    shown = pictures_html(pictures or {}, "Picture, label and prediction of the best weights")
    return _page([*figures, _class_curves(records)], title, below=shown)


def experiments_page(
    experiments: Sequence[Mapping[str, Any]], speeds: Mapping[str, Sequence[Speed]] | None = None
) -> str:
    """Return the curves of several runs in the same figures as HTML, and how fast models are.

    Args:
        experiments: Each with its "name", "command", "finding" and "log".
        speeds: Speeds of models by the run of measurements that they are of.
    """
    figures = [_last_measured(experiments)]
    figures += [
        _compared(experiments, split, title)
        for split, title in (
            ("val", "mIoU on val (%)"),
            ("holdout", "mIoU on the held-out sequence (%)"),
        )
    ]
    listed = "".join(
        f"<li><b>{escape(e['name'])}</b>: {escape(e['finding'])}<br>"
        f"<code>{escape(e['command'])}</code></li>"
        for e in experiments
    )
    shown = speeds or {}
    figures += [_accuracy_by_speed(shown)] if shown else []
    below = f"<ul>{listed}</ul>" + "".join(map(_speed_table, shown, shown.values()))
    return _page(figures, "Experiments", below=below)


def _accuracy_by_speed(speeds: Mapping[str, Sequence[Speed]]) -> go.Figure:
    """Draw the models of each run of measurements: to the right is faster, higher is better."""
    figure = go.Figure()
    for run, measured in speeds.items():
        for speed in measured:
            if speed.miou is not None:
                figure.add_scatter(
                    x=[speed.fps],
                    y=[100 * speed.miou],
                    name=speed.name,
                    mode="markers",
                    marker_size=11,
                    hovertemplate=f"{run}<br>{speed.name}<br>%{{x:.1f}} frames a second<br>half "
                    f"within {speed.p50_ms:.1f} ms, 95 % within {speed.p95_ms:.1f} ms<br>mIoU "
                    "%{y:.1f} %<extra></extra>",
                )
    figure.update_xaxes(rangemode="tozero")
    return figure.update_layout(
        title="mIoU on val (%) by frames a second",
        **LAYOUT,
    )


def _speed_table(run: str, speeds: Sequence[Speed]) -> str:
    """Return the speeds of a run of measurements as HTML."""
    rows = "".join(
        f"<tr><td>{escape(speed.name)}</td><td>{speed.fps:.1f}</td><td>{speed.p50_ms:.1f}</td>"
        f"<td>{speed.p95_ms:.1f}</td><td>{'' if speed.miou is None else f'{100 * speed.miou:.1f}'}"
        "</td></tr>"
        for speed in speeds
    )
    heads = ("model alone", "frames a second", "latency p50, ms", "p95, ms", "mIoU on val, %")
    head = "".join(f"<th>{head}</th>" for head in heads)
    return f"<h2>Speed: {escape(run)}</h2><table><tr>{head}</tr>{rows}</table>"


def _compared(experiments: Sequence[Mapping[str, Any]], split: str, title: str) -> go.Figure:
    """Draw the mIoU of every run on one split by epoch."""
    figure = go.Figure()
    colors = qualitative.Dark24
    for number, experiment in enumerate(experiments):
        measured = [record for record in experiment["log"] if split in record]
        if measured:
            figure.add_scatter(
                x=[record["epoch"] for record in measured],
                y=[_scaled(record[split]["miou"], 100) for record in measured],
                name=experiment["name"],
                mode="lines+markers",
                line={
                    "color": colors[number % len(colors)],
                    "dash": "solid" if number < len(colors) else "dot",
                },
            )
    return figure.update_layout(title=title, xaxis_title="epoch", **_tall(experiments, legend={}))


def _tall(experiments: Sequence[Mapping[str, Any]], **more: Any) -> dict[str, Any]:
    """Return the layout of a figure with a line of text for each run."""
    return {**LAYOUT, "height": 150 + 20 * len(experiments), **more}


def _last_measured(experiments: Sequence[Mapping[str, Any]]) -> go.Figure:
    """Draw what each run had reached when it was last measured, a row for each."""
    figure = go.Figure()
    for split in ("val", "holdout"):
        name, color = CURVES[split]
        last = {}
        for experiment in experiments:
            measured = [record[split]["miou"] for record in experiment["log"] if split in record]
            if measured:
                last[experiment["name"]] = _scaled(measured[-1], 100)
        figure.add_scatter(
            x=list(last.values()),
            y=list(last),
            name=name,
            mode="markers",
            marker={"color": color, "size": 9},
        )
    names = [experiment["name"] for experiment in experiments]
    figure.update_yaxes(categoryarray=names, autorange="reversed", automargin=True, dtick=1)
    title = "mIoU where each was last measured (%)"
    return figure.update_layout(title=title, **_tall(experiments))


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
    for name in measured[-1]["val"]["iou"] if measured else ():
        figure.add_scatter(
            x=[record["epoch"] for record in measured],
            y=[_scaled(record["val"]["iou"][name], 100) for record in measured],
            name=name,
            line_color=_class_color(name),
        )
    return figure.update_layout(title="IoU of each class on val (%)", xaxis_title="epoch", **LAYOUT)


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
    figures = [
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
    facts = "; ".join(f"{name}: {headline(scores)}" for name, scores in measured.items())
    shown = " and ".join(measured) if len(measured) > 1 else "prediction and wrong pixels"
    below = pictures_html(worst, f"Worst pictures: picture and label, below {shown}", classes)
    return _page(figures, title, facts, below)


def film_page(measured: Mapping[str, FilmScores], title: str) -> str:
    """Return how steady and how right the labels of a film are, in time and by class, as HTML.

    Args:
        measured: Figures by the name of the model.
        title: Heading.
    """
    labelled = any(film.scores.confusion.any() for film in measured.values())
    panels = {"Consistency with the frame before (%)": "consistency"}
    panels["Pixels that flip (%)"] = "flip_rate"
    if labelled:
        panels["mIoU of each frame (%)"] = "miou"
    figures = [_timeline(measured, panel, key) for panel, key in panels.items()]
    of_class = {name: 100 * film.temporal.by_class for name, film in measured.items()}
    scores = {name: film.scores for name, film in measured.items()}
    figures.append(_class_bars(of_class, scores, "Consistency (%)"))
    if labelled:
        of_class = {name: 100 * film.scores.iou for name, film in measured.items()}
        figures.append(_class_bars(of_class, scores, "IoU (%)"))
    facts = "; ".join(f"{name}: {film_headline(film)}" for name, film in measured.items())
    return _page(figures, title, facts)


def steadiness_page(measured: Mapping[str, Any], timed: Mapping[str, Any]) -> str:
    """Return speed against accuracy and steadiness, a curve for each runtime, as HTML.

    Args:
        measured: "backends": by name, the figures of each way of labelling a film.
        timed: "fps": by name, the samples of each way; "plain_loop_fps" and "bare_model_fps",
            those of what it is compared with; "machine"; "film".
    """
    panels = (
        ("mIoU of the film (%)", lambda figures: figures["miou"]),
        ("IoU of pedestrians (%)", lambda figures: figures["iou"]["pedestrian"]),
        ("Consistency along the motion (%)", lambda figures: figures["consistency"]),
        ("Pixels that flip along the motion (%)", lambda figures: figures["flip_rate"]),
    )
    figures = [_against_speed(measured, timed, *panel) for panel in panels]
    facts = f"Accuracy: CamVid's val at {measured['rate']:g} Hz. Speed: {timed['film']} from file "
    loop = timed["plain_loop_fps"]
    facts += f"to file, median of {len(loop)} rounds, on {timed['machine']}"
    facts += f"; the plain loop labels {np.median(loop):.1f} a second, and the model alone in FP32 "
    facts += f"{np.median(timed['bare_model_fps']):.1f}."
    return _page(figures, "Steady labels and key frames", facts)


def _against_speed(
    measured: Mapping[str, Any],
    timed: Mapping[str, Any],
    title: str,
    figure_of: Callable[[Mapping[str, Any]], float],
) -> go.Figure:
    """Draw one figure of every way by its speed."""
    figure = go.Figure()
    for number, (backend, ways) in enumerate(measured["backends"].items()):
        fps = timed["fps"][backend]
        drawn = [way for way in ways if way in fps]
        figure.add_scatter(
            x=[float(np.median(fps[way])) for way in drawn],
            y=[_scaled(figure_of(ways[way]), 100) for way in drawn],
            text=drawn,
            name=backend,
            mode="lines+markers+text",
            textposition=("top center", "bottom center")[number % 2],
            cliponaxis=False,
        )
    figure.update_xaxes(title_text="frames a second")
    return figure.update_layout(title=title, **LAYOUT)


def film_headline(film: FilmScores) -> str:
    """Return the figures of a film in a sentence."""
    temporal, miou = film.temporal, film.scores.miou
    right = f"mIoU {miou:.1%}" if miou == miou else "no labels to be right by"
    return (
        f"{right}, consistency {temporal.consistency:.1%}, {temporal.flip_rate:.2%} of pixels flip "
        f"along the motion and {temporal.flicker_rate:.2%} flicker in place; the network looked at "
        f"{film.network_frames} of {len(film.moments)} frames"
    )


def _timeline(measured: Mapping[str, FilmScores], title: str, key: str) -> go.Figure:
    """Draw one figure of every frame by time; where the network looked, there is a dot."""
    figure = go.Figure()
    for name, film in measured.items():
        dots = [6 if moment.by_network else 0 for moment in film.moments]
        figure.add_scatter(
            x=[moment.time_s for moment in film.moments],
            y=[_scaled(getattr(moment, key), 100) for moment in film.moments],
            name=name,
            mode="lines+markers",
            marker={"size": dots if min(dots) == 0 else 3},
            line={"width": 1.5},
        )
    return figure.update_layout(title=title, xaxis_title="seconds", **LAYOUT)


def headline(scores: Scores) -> str:
    """Return the figures of a measurement in a sentence."""
    return (
        f"mIoU {scores.miou:.1%}, pixel accuracy {scores.pixel_accuracy:.1%}, boundary F1 "
        f"{scores.mean_boundary_f1:.1%} within {BOUNDARY_TOLERANCE:.2%} of the diagonal, cross "
        f"entropy {scores.confidence.cross_entropy:.3f}, calibration error "
        f"{scores.confidence.calibration_error:.1%}"
    )


def data_page(
    title: str,
    shares: Mapping[str, Mapping[str, float]],
    faults: Sequence[str],
    examples: Mapping[str, bytes],
    classes: Sequence[SegClass],
) -> str:
    """Return what is in a data set as HTML.

    Args:
        title: Heading.
        shares: Share of each class in the labelled pixels, by split and class.
        faults: What is wrong, a sentence each.
        examples: JPEG files of picture and label by caption.
        classes: What the colours mean.
    """
    figure = go.Figure()
    for split, of_class in shares.items():
        figure.add_bar(
            x=[100 * share for share in of_class.values()],
            y=list(of_class),
            name=split,
            orientation="h",
            texttemplate="%{x:.2f}",
            **BAR_TEXT,
        )
    figure.update_yaxes(autorange="reversed", automargin=True)
    figure.update_layout(title="Share of the labelled pixels (%)", **LAYOUT)
    listed = "".join(f"<li>{escape(fault)}</li>" for fault in faults)
    below = f"<h2>Faults</h2><ul>{listed or '<li>none</li>'}</ul>" + pictures_html(
        examples, "Examples: picture, and label over it", classes
    )
    return _page([figure], title, below=below)


def _class_bars(
    values: Mapping[str, NDArray[np.float64]],
    measured: Mapping[str, Scores],
    title: str,
    colors: Sequence[str] | None = None,
) -> go.Figure:
    """Draw a figure of each class, a bar for each model; one model's bars have colours of theirs.

    Without `colors` these are CamVid's.
    """
    figure = go.Figure()
    for name, of_class in values.items():
        names = measured[name].class_names
        of_classes = colors or [_class_color(n) or OTHER_COLOR for n in names]
        fill = of_classes if len(values) == 1 else None
        figure.add_bar(
            x=[_scaled(value, 1) for value in of_class],
            y=list(names),
            name=name,
            orientation="h",
            marker={"color": fill, "line": {"color": "#444", "width": 1}},
            texttemplate="%{x:.1f}",
            **BAR_TEXT,
        )
    figure.update_xaxes(range=[0, 105])
    figure.update_yaxes(autorange="reversed", automargin=True)
    return figure.update_layout(title=f"{title} of each class", **LAYOUT)


def _precision_recall(scores: Scores, name: str) -> go.Figure:
    """Draw what is found of each class, and what of that is right."""
    figure = go.Figure()
    for what, of_class, color in (
        ("precision", scores.precision, "#2a78b5"),
        ("recall", scores.recall, "#d1495b"),
    ):
        figure.add_bar(
            x=[_scaled(value, 100) for value in of_class],
            y=list(scores.class_names),
            name=what,
            orientation="h",
            marker_color=color,
            texttemplate="%{x:.1f}",
            **BAR_TEXT,
        )
    figure.update_xaxes(range=[0, 105])
    figure.update_yaxes(autorange="reversed", automargin=True)
    return figure.update_layout(title=f"Precision and recall (%)<br><sup>{name}</sup>", **LAYOUT)


def _confusion(scores: Scores, name: str) -> go.Figure:
    names = list(scores.class_names)
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
    return figure.update_layout(
        title=f"Confusion, % of each true class<br><sup>{name}</sup>", **LAYOUT
    )


def _reliability(measured: Mapping[str, Scores]) -> go.Figure:
    """Draw accuracy against confidence, bin by bin; a calibrated model follows the diagonal."""
    figure = go.Figure()
    figure.add_scatter(
        x=[0, 100],
        y=[0, 100],
        mode="lines",
        name="calibrated",
        line={"color": "#aaa", "dash": "dot"},
    )
    for name, scores in measured.items():
        seen = scores.confidence.pixels > 0
        pixels = scores.confidence.pixels[seen]
        figure.add_scatter(
            x=100 * scores.confidence.confidence_sum[seen] / pixels,
            y=100 * scores.confidence.hits[seen] / pixels,
            customdata=100 * pixels / pixels.sum(),
            mode="lines+markers",
            name=name,
            hovertemplate="confidence %{x:.1f} %<br>right %{y:.1f} %<br>%{customdata:.2f} % of "
            "pixels<extra></extra>",
        )
    figure.update_xaxes(title_text="confidence (%)", range=[0, 102])
    figure.update_yaxes(title_text="right (%)", range=[0, 102])
    return figure.update_layout(title="Calibration", **LAYOUT)


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


def _page(figures: Sequence[go.Figure], title: str, facts: str = "", below: str = "") -> str:
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


def _scaled(value: float | None, factor: float) -> float | None:
    return None if value is None or value != value else value * factor


def _class_color(name: str) -> str | None:
    """Return the colour of one of CamVid's classes, None of another."""
    color = PALETTES["camvid"].get(name)
    return css_color(color) if color else None
