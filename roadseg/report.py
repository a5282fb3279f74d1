"""Pages about training, data and drives, as pure functions of recorded data.

Each is one file that needs no network.
"""

import json
from collections.abc import Mapping, Sequence
from html import escape
from importlib.resources import files
from string import Template
from typing import Any

import plotly.graph_objects as go
from plotly.colors import qualitative
from plotly.offline import get_plotlyjs

from roadseg.charts import BAR_TEXT, LAYOUT, page_html, scaled
from roadseg.classes import SegClass, css_color
from roadseg.figures import Speed
from roadseg.panels import pictures_html

CURVES = {
    "train": ("train (augmented crops, weighted loss)", "#333333"),
    "val": ("val (averaged weights)", "#d1495b"),
    "holdout": ("held-out sequence (averaged weights)", "#2a78b5"),
}
"""Name and colour of each split's curves; other data go by their own names."""
EPOCH_TICKS = 10
"""Most ticks of an axis of epochs."""
PANELS = (
    ("Loss, on val the plain cross entropy", "loss", "cross_entropy", 1.0),
    ("mIoU (%)", "miou", "miou", 100.0),
    ("Pixel accuracy (%)", "pixel_accuracy", "pixel_accuracy", 100.0),
)
"""Title, key among the training figures, key among the measured ones, factor."""


def curves_page(
    records: Sequence[dict[str, Any]],
    title: str,
    pictures: Mapping[str, bytes],
    classes: Sequence[SegClass],
) -> str:
    """Return the learning curves of a run as HTML.

    Args:
        records: Lines of the run's log, one an epoch.
        title: Heading.
        pictures: JPEG files by caption, as `roadseg.panels` makes them.
        classes: What the colours mean.
    """
    figures = [_curves(records, *panel) for panel in PANELS]
    heading = "Picture, label and prediction of the best weights"
    shown = pictures_html(pictures, heading, classes)
    return page_html([*figures, _class_curves(records, classes)], title, below=shown)


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
    return page_html(figures, "Experiments", below=below)


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
                y=[scaled(record[split]["miou"], 100) for record in measured],
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
                last[experiment["name"]] = scaled(measured[-1], 100)
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
    splits = dict.fromkeys(k for r in records for k, v in r.items() if isinstance(v, Mapping))
    others = {split: (split, None) for split in splits if split not in CURVES}
    for split, (name, color) in {**CURVES, **others}.items():
        key = train_key if split == "train" else measured_key
        chosen = [record for record in records if split in record]
        if chosen:
            figure.add_scatter(
                x=[record["epoch"] for record in chosen],
                y=[scaled(record[split][key], factor) for record in chosen],
                name=name,
                line_color=color,
            )
    return _by_epoch(figure, records, title)


def _class_curves(records: Sequence[dict[str, Any]], classes: Sequence[SegClass]) -> go.Figure:
    """Draw the IoU of each class on val by epoch."""
    figure = go.Figure()
    measured = [record for record in records if "val" in record]
    for segment in classes if measured else ():
        figure.add_scatter(
            x=[record["epoch"] for record in measured],
            y=[scaled(record["val"]["iou"][segment.name], 100) for record in measured],
            name=segment.name,
            line_color=css_color(segment.color),
        )
    return _by_epoch(figure, records, "IoU of each class on val (%)")


def _by_epoch(figure: go.Figure, records: Sequence[dict[str, Any]], title: str) -> go.Figure:
    """Lay a figure out whose axis has whole epochs."""
    epochs = max((record["epoch"] for record in records), default=1)
    figure.update_xaxes(title_text="epoch", dtick=-(-epochs // EPOCH_TICKS))
    return figure.update_layout(title=title, **LAYOUT)


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
    return page_html([figure], title, below=below)


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
