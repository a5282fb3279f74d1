"""The plots of a run of measurements on GPUs."""

from collections.abc import Iterator, Mapping, Sequence
from itertools import takewhile

import numpy as np
import plotly.graph_objects as go

from roadseg.measure.record import Record
from roadseg.measure.results import Round, rounds_of, values_of
from roadseg.measure.targets import ceilings
from roadseg.pages.layout import BAR_TEXT, BEHIND_PX, Plot

PARTS = {"copy_in": "#7a6fc2", "compute": "#2a9d8f", "copy_out": "#d1495b"}
"""Colour of a part of a call, legible on light and on dark."""
ROW_PX = 34
"""Height of a bar with its label."""


def gpu_plots(record: Record) -> Iterator[Plot]:
    """Yield the plots of models on GPUs; those of a run without any have no data."""
    rounds = rounds_of(record)
    names = [name for name, case in record["contenders"].items() if case["job"] == "gpu"]
    common, labels = labelled(names)
    height_px = 120 + ROW_PX * len(names)
    yield Plot(
        title="Models on a GPU: frames a second",
        hint=f"{common}. From the CPU's memory and back. single: a call when the last is done; "
        "offline: several under way; streams=K: K frames at a time, one of each stream.",
        figure=_bars(_medians(rounds, labels, "fps"), "%{x:.0f}"),
        height_px=height_px,
    )
    yield Plot(
        title="Where a call's time goes on a GPU (ms)",
        hint="By CUDA's events, medians. Where several calls are under way, parts of one run while "
        "others do.",
        figure=_parts(rounds, labels),
        height_px=height_px,
    )
    reached = {c.by: 100 * c.reached.median for c in ceilings(record) if c.by in labels}
    yield Plot(
        title="Share of the layers' roofline (%)",
        hint="Frames a second over those that the GPU's own rates allow, layer by layer, in FP16.",
        figure=_bars({labels[name]: share for name, share in reached.items()}, "%{x:.0f}"),
        height_px=height_px,
    )
    yield Plot(
        title="Energy of the GPU a frame (J)",
        hint="By its own counter.",
        figure=_bars(_medians(rounds, labels, "gpu_joules"), "%{x:.3f}"),
        height_px=height_px,
    )


def labelled(names: Sequence[str]) -> tuple[str, dict[str, str]]:
    """Return the words that all names begin with, and what is left of each: short on a phone."""
    words = [name.split() for name in names]
    columns = zip(*(found[:-1] for found in words), strict=False)
    count = sum(1 for _ in takewhile(lambda column: len(set(column)) == 1, columns))
    common = " ".join(words[0][:count]) if words else ""
    return common, {name: " ".join(found[count:]) for name, found in zip(names, words, strict=True)}


def _medians(rounds: Sequence[Round], labels: Mapping[str, str], metric: str) -> dict[str, float]:
    """Return a metric's median over the rounds, by the label of its case."""
    found = {labels[name]: values_of(rounds, name, metric) for name in labels}
    return {label: float(np.median(values)) for label, values in found.items() if values}


def _bars(values: Mapping[str, float], form: str) -> go.Figure:
    figure = go.Figure()
    if values:
        figure.add_bar(
            x=list(values.values()),
            y=list(values),
            orientation="h",
            marker_color=PARTS["compute"],
            texttemplate=form,
            **BAR_TEXT,
        )
    figure.update_yaxes(autorange="reversed")
    return figure.update_layout(showlegend=False, margin={"r": BEHIND_PX})


def _parts(rounds: Sequence[Round], labels: Mapping[str, str]) -> go.Figure:
    figure = go.Figure()
    for part, color in PARTS.items():
        medians = _medians(rounds, labels, part)
        if medians:
            figure.add_bar(
                x=list(medians.values()),
                y=list(medians),
                name=part.replace("_", " "),
                orientation="h",
                marker_color=color,
            )
    figure.update_yaxes(autorange="reversed")
    return figure.update_layout(barmode="stack", legend={"traceorder": "normal"})
