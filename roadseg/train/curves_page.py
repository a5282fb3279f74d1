"""The page of a training run, a pure function of its log."""

from collections.abc import Mapping, Sequence
from typing import Any

import plotly.graph_objects as go

from roadseg.pages.layout import GREY, OUTLINE, Plot, page_html, pictures_html, plots_html, scaled
from roadseg.spec import SegClass, css_color

CURVES = {
    "train": ("train (augmented crops, weighted loss)", GREY),
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
"""Title, key among the training metrics, key among the measured ones, factor."""


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
        pictures: JPEG files by caption, as `roadseg.paint.panels` makes them.
        classes: What the colours mean.
    """
    plots = [_curves(records, *panel) for panel in PANELS]
    heading = "Picture, label and prediction of the best weights"
    shown = pictures_html(pictures, heading, classes)
    return page_html(title, plots_html([*plots, _class_curves(records, classes)]) + shown)


def _curves(
    records: Sequence[dict[str, Any]], title: str, train_key: str, measured_key: str, factor: float
) -> Plot:
    """Draw one metric of every split by epoch."""
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


def _class_curves(records: Sequence[dict[str, Any]], classes: Sequence[SegClass]) -> Plot:
    """Draw the IoU of each class on val by epoch."""
    figure = go.Figure()
    measured = [record for record in records if "val" in record]
    for segment in classes if measured else ():
        figure.add_scatter(
            x=[record["epoch"] for record in measured],
            y=[scaled(record["val"]["iou"][segment.name], 100) for record in measured],
            name=segment.name,
            mode="lines+markers",
            line_color=css_color(segment.color),
            marker={"size": 7, "line": OUTLINE},
        )
    return _by_epoch(figure, records, "IoU of each class on val (%)")


def _by_epoch(figure: go.Figure, records: Sequence[dict[str, Any]], title: str) -> Plot:
    """Return a plot whose axis has whole epochs."""
    epochs = max((record["epoch"] for record in records), default=1)
    figure.update_xaxes(title_text="epoch", dtick=-(-epochs // EPOCH_TICKS))
    return Plot(title=title, figure=figure)
