"""The plots of a run of measurements on GPUs."""

from collections.abc import Iterator, Mapping, Sequence
from typing import Any

import numpy as np
import plotly.graph_objects as go

from roadseg.measure.results import Round, rounds_of, spread, values_of
from roadseg.measure.targets import ceilings
from roadseg.pages.layout import Plot

PARTS = {"copy_in": "#7a6fc2", "compute": "#2a9d8f", "copy_out": "#d1495b"}
"""Colour of a part of a call, legible on light and on dark."""
PART_NAMES = {"copy_in": "copy in", "compute": "compute", "copy_out": "copy out"}
ROW_PX = 34
"""Height of a bar with its label."""


def gpu_plots(record: Mapping[str, Any]) -> Iterator[Plot]:
    """Yield the plots of models on GPUs; those of a run without any have no data."""
    rounds = rounds_of(record)
    names = [name for name, case in record["contenders"].items() if case["job"] == "gpu"]
    height_px = 120 + ROW_PX * len(names)
    yield Plot(
        title="Models on a GPU: frames a second",
        hint="From the CPU's memory and back. single: a call when the last is done; offline: "
        "several under way; streams=K: K frames at a time, one of each stream.",
        figure=_bars(rounds, names, "fps", "%{x:.0f}"),
        height_px=height_px,
    )
    yield Plot(
        title="Where a call's time goes on a GPU (ms)",
        hint="By CUDA's events, medians. Where several calls are under way, parts of one run while "
        "others do.",
        figure=_parts(rounds, names),
        height_px=height_px,
    )
    yield Plot(
        title="Share of the layers' roofline",
        hint="Frames a second over those that the GPU's own rates allow, layer by layer, in FP16.",
        figure=_reached(record, names),
        height_px=height_px,
    )
    yield Plot(
        title="Energy of the GPU a frame (J)",
        hint="By its own counter.",
        figure=_bars(rounds, names, "gpu_joules", "%{x:.3f}"),
        height_px=height_px,
    )


def _bars(rounds: Sequence[Round], names: Sequence[str], metric: str, form: str) -> go.Figure:
    found = {name: spread(rounds, name, metric) for name in names}
    medians = {name: interval.median for name, interval in found.items() if interval}
    return _horizontal(medians, form)


def _horizontal(values: Mapping[str, float], form: str) -> go.Figure:
    figure = go.Figure()
    if values:
        figure.add_bar(
            x=list(values.values()),
            y=list(values),
            orientation="h",
            marker_color=PARTS["compute"],
            texttemplate=form,
            textposition="inside",
            insidetextanchor="start",
            insidetextfont={"color": "#fff"},
        )
    figure.update_yaxes(autorange="reversed")
    return figure.update_layout(showlegend=False)


def _parts(rounds: Sequence[Round], names: Sequence[str]) -> go.Figure:
    figure = go.Figure()
    for part, color in PARTS.items():
        found = {name: values_of(rounds, name, part) for name in names}
        medians = {name: float(np.median(values)) for name, values in found.items() if values}
        if medians:
            figure.add_bar(
                x=list(medians.values()),
                y=list(medians),
                name=PART_NAMES[part],
                orientation="h",
                marker_color=color,
            )
    figure.update_yaxes(autorange="reversed")
    return figure.update_layout(barmode="stack", xaxis_title="ms")


def _reached(record: Mapping[str, Any], names: Sequence[str]) -> go.Figure:
    shares = {c.by: 100 * c.reached.median for c in ceilings(record) if c.by in names}
    figure = _horizontal(shares, "%{x:.0f} %")
    return figure.update_layout(xaxis_title="%")
