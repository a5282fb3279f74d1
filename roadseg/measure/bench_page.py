"""The page about a run of measurements: a pure function of its record, one file, no network."""

from collections.abc import Callable, Mapping, Sequence
from html import escape
from typing import Any

import numpy as np
import plotly.graph_objects as go

from roadseg.measure.advice import advice_on
from roadseg.measure.bench_page_gpu import gpu_plots
from roadseg.measure.record import Record
from roadseg.measure.results import Round, has_energy, others_share, rounds_of, values_of
from roadseg.measure.targets import Ceiling, Score, ceilings, scores_of
from roadseg.pages.layout import GREY, Plot, facts_html, page_html, plots_html, section_html

COLORS = {
    "loop": GREY,
    "film": "#2a78b5",
    "model": "#2a9d8f",
    "plain": "#c58b2a",
    "peer": "#d1495b",
}
"""Colour of a case, by its job; each is legible on light and on dark."""
PARTS = {
    "decode": "#7a6fc2",
    "read": "#7a6fc2",
    "resize": "#c58b2a",
    "convert": "#c58b2a",
    "luma": "#8a8f3c",
    "motion": "#8a8f3c",
    "keyframes": "#8a8f3c",
    "model": "#2a9d8f",
    "labels": "#b06ab3",
    "enlarge": "#b77b7b",
    "overlay": "#2a78b5",
    "blend": "#2a78b5",
    "encode": "#d1495b",
}
"""Colour of a step or stage; those with the same work have the same colour."""
BOUND_DASHES = ("dot", "dash")
"""How the lines of the pipeline's upper bounds are drawn."""
STATES = {"met": "met", "not met": "missed"}
"""CSS class of a verdict, by its first word; one that was not measured has none."""
TARGETS_HINT = (
    "Ratios are taken within a round and their median is shown, with where it lies for 95 of 100 "
    "such runs."
)
STEPS = ("read", "resize", "model", "blend", "encode")
STAGES = (
    *("decode", "luma", "motion", "keyframes", "convert", "model", "labels", "enlarge"),
    *("overlay", "encode"),
)


def bench_page(record: Record) -> str:
    """Return a run of measurements as HTML."""
    plots = plots_html([*_plots(record), *gpu_plots(record)])
    body = _answer(record) + _targets(record) + plots + facts_html(_facts(record))
    return page_html(f"Speed of roadseg on {record['film']['name']}", body, style="bench.css")


def _answer(record: Record) -> str:
    """Return what to take on this machine and what to expect, as a section."""
    advice = advice_on(record)
    if advice is None:
        return ""
    lines = (
        f"Take <b>{escape(advice.weights)}</b> with <b>{escape(advice.runtime)}</b> on "
        f"<b>{escape(_device_name(record, advice.device))}</b>.",
        f"Expect <b>{advice.fps.median:.1f} frames a second</b> of a video such as "
        f"{escape(record['film']['name'])} ({advice.fps.low:.1f} to {advice.fps.high:.1f}), "
        f"{advice.realtime:.1f} times its own rate.",
    )
    text = "".join(f"<p>{line}</p>" for line in lines)
    command = f"<pre><code>{escape(advice.command)}</code></pre>"
    return section_html("On this machine", f'<div class="answer">{text}{command}</div>')


def _device_name(record: Record, device: str) -> str:
    found = record.get("gpus", {}).get(device)
    return f"{found['name']} ({device})" if found else "the CPU"


def _plots(record: Record) -> list[Plot]:
    """Return all plots of a record."""
    rounds = rounds_of(record)
    return [
        Plot(
            title="Frames a second, once warm",
            hint="Medians over the rounds, with the least and the most; lines: bounds of roadseg.",
            figure=_throughput(record, rounds),
        ),
        Plot(
            title="Where the CPU time of a frame goes (ms)",
            hint="The loop step by step, as it runs; roadseg stage by stage, each alone; threads "
            "of libraries are in both.",
            figure=_parts(rounds, record["roles"]["loop"]),
        ),
        Plot(
            title="Latency of the model alone",
            hint="Share of the calls that were done within a time, all rounds.",
            figure=_latencies(record, ("model", "plain", "peer"), _calls_ms),
        ),
        Plot(
            title="Opening, first call, warming up, steady (ms)",
            hint="Medians; a logarithmic scale.",
            figure=_start(record, rounds),
        ),
        Plot(
            title="Roofline",
            hint="What the machine computes and moves at most, and where the models are.",
            figure=_roofline(record, rounds),
        ),
        Plot(
            title="Live: age of a frame when its labels are there",
            hint=f"{_live_hint(record)} All rounds.",
            figure=_latencies(record, ("live",), _ages_ms),
        ),
        Plot(
            title="Targets, round by round",
            hint="Numbered as in the table; right of the line is better than the target.",
            figure=_goals(scores_of(record)),
        ),
        Plot(
            title="Peak memory (MB)",
            hint="Whole processes, medians.",
            figure=_memory(record, rounds),
        ),
    ]


def _names(record: Record, *jobs: str) -> list[str]:
    return [name for name, case in record["contenders"].items() if case["job"] in jobs]


def _color(record: Record, name: str) -> str:
    return COLORS[record["contenders"][name]["job"]]


def _throughput(record: Record, rounds: Sequence[Round]) -> go.Figure:
    found = {n: values_of(rounds, n, "fps") for n in _names(record, *COLORS)}
    found = {name: values for name, values in found.items() if values}
    figure = go.Figure()
    for name, values in found.items():
        middle = float(np.median(values))
        figure.add_bar(
            x=[middle],
            y=[name],
            orientation="h",
            marker_color=_color(record, name),
            texttemplate="%{x:.1f}",
            textposition="auto",
            textangle=0,
            insidetextanchor="start",
            insidetextfont={"color": "#fff"},
            error_x={
                "array": [max(values) - middle],
                "arrayminus": [middle - min(values)],
                "color": GREY,
            },
        )
    for ceiling, dash in zip(_pipeline_ceilings(record), BOUND_DASHES, strict=False):
        figure.add_vline(
            x=ceiling.limit_fps.median,
            line={"dash": dash, "color": GREY},
            name=ceiling.name,
            showlegend=True,
        )
    figure.update_traces(showlegend=False)  # a bar's name stands beside it
    return figure.update_yaxes(autorange="reversed")


def _pipeline_ceilings(record: Record) -> list[Ceiling]:
    return [c for c in ceilings(record) if c.by == record["roles"]["defaults"]]


def _parts(rounds: Sequence[Round], loop: str) -> go.Figure:
    figure = go.Figure()
    for row, case, parts in (("plain loop", loop, STEPS), ("roadseg", "stages", STAGES)):
        for part in parts:
            values = values_of(rounds, case, f"{part} cpu")
            if values:
                figure.add_bar(
                    x=[float(np.median(values))],
                    y=[row],
                    name=part,
                    orientation="h",
                    marker_color=PARTS[part],
                    text=[part],
                    textposition="inside",
                    insidetextanchor="middle",
                    hovertemplate=f"{part}: %{{x:.1f}} ms<extra></extra>",
                )
    figure.update_yaxes(autorange="reversed")
    return figure.update_layout(barmode="stack", showlegend=False, xaxis_title="ms")


Samples = Callable[[Mapping[str, Any]], list[float]]
"""Returns the latencies in a result, in milliseconds."""


def _calls_ms(result: Mapping[str, Any]) -> list[float]:
    return [1000 * s for s in result["calls_s"]]


def _ages_ms(result: Mapping[str, Any]) -> list[float]:
    return [1000 * s for s in result["ages_s"][result["warmup_frames"] :]]


def _latencies(record: Record, jobs: Sequence[str], samples: Samples) -> go.Figure:
    """Draw the share of samples below each latency, of every case with one of the jobs."""
    figure = go.Figure()
    for name in _names(record, *jobs):
        results = (measured["results"].get(name) for measured in record["rounds"])
        good = (result for result in results if result and "error" not in result)
        found = sorted(ms for result in good for ms in samples(result))
        figure.add_scatter(
            x=found,
            y=[100 * (i + 1) / len(found) for i in range(len(found))],
            mode="lines",
            name=name,
            hovertemplate="%{y:.0f} % within %{x:.1f} ms",
        )
    figure.update_xaxes(title_text="ms", rangemode="tozero")
    return figure.update_yaxes(title_text="%")


def _live_hint(record: Record) -> str:
    live = next(case for case in record["contenders"].values() if case["job"] == "live")
    return f"A camera of {live['rate'] or record['film']['fps']:g} frames a second."


def _start(record: Record, rounds: Sequence[Round]) -> go.Figure:
    steps = {
        "open": "opening",
        "first_call": "first call",
        "warmup_call": "warming up",
        "p50": "steady",
    }
    figure = go.Figure()
    for name in _names(record, "model", "plain", "peer"):
        figure.add_bar(
            x=list(steps.values()),
            y=[_median(values_of(rounds, name, step)) for step in steps],
            name=name,
            texttemplate="%{y:.0f}",
        )
    return figure.update_yaxes(type="log", dtick=1)


def _roofline(record: Record, rounds: Sequence[Round]) -> go.Figure:
    figure = go.Figure()
    gflops, gbytes = (_median(values_of(rounds, "machine", f)) for f in ("gflops", "gbytes"))
    if gflops is None or gbytes is None:
        return figure
    intensities = [2.0**power for power in range(-2, 8)] + [gflops / gbytes]
    figure.add_scatter(
        x=sorted(intensities),
        y=[min(gflops, i * gbytes) for i in sorted(intensities)],
        mode="lines",
        name="the machine",
        line={"color": GREY, "dash": "dot"},
    )
    for name in _names(record, "model", "plain"):
        work = record["work"].get(record["contenders"][name]["weights"])
        fps = _median(values_of(rounds, name, "fps"))
        if work and fps:
            figure.add_scatter(
                x=[work["flops"] / work["moved_bytes"]],
                y=[work["flops"] * fps / 1e9],
                mode="markers",
                name=name,
                marker_size=11,
            )
    figure.update_xaxes(type="log", title_text="operations a byte", dtick=1)
    return figure.update_yaxes(type="log", title_text="GFLOP/s", dtick=1)


def _goals(scores: Sequence[Score]) -> go.Figure:
    """Draw how every round stands to every target: one of the table's rows each, by its number."""
    figure = go.Figure()
    for number, score in enumerate(scores, 1):
        limit, up = score.goal.limit, score.goal.at_least
        figure.add_scatter(
            x=[value / limit if up else limit / value for value in score.values],
            y=[str(number)] * len(score.values),
            mode="markers",
            marker={"size": 9, "opacity": 0.7},
            name=score.goal.name,
            customdata=score.values,
            hovertemplate=f"{score.goal.name}: %{{customdata:.2f}}{score.goal.unit}<extra></extra>",
        )
    figure.add_vline(x=1, line={"dash": "dot", "color": GREY})
    figure.update_yaxes(autorange="reversed", type="category")
    return figure.update_layout(showlegend=False, xaxis_title="times the target")


def _memory(record: Record, rounds: Sequence[Round]) -> go.Figure:
    figure = go.Figure()
    for name in _names(record, *COLORS):
        figure.add_bar(
            x=[_median(values_of(rounds, name, "peak_mb"))],
            y=[name],
            orientation="h",
            marker_color=_color(record, name),
            texttemplate="%{x:.0f}",
            insidetextfont={"color": "#fff"},
        )
    figure.update_yaxes(autorange="reversed")
    return figure.update_layout(showlegend=False)


def _median(values: Sequence[float]) -> float | None:
    return float(np.median(values)) if values else None


def _targets(record: Record) -> str:
    """Return the targets, met or not, as a section."""
    rows = "".join(_target_row(*entry) for entry in enumerate(scores_of(record), 1))
    hint = f"{TARGETS_HINT} {_background_load(record)}"
    return section_html(
        "Targets", f'<table class="targets">{rows}</table><p class="hint">{escape(hint)}</p>'
    )


def _target_row(number: int, score: Score) -> str:
    goal, found = score.goal, score.interval
    sign = "≥" if goal.at_least else "≤"
    measured = ""
    if found is not None:
        measured = (
            f"{found.median:.2f}{goal.unit} <small>({found.low:.2f} to {found.high:.2f})</small>"
        )
    state = STATES.get(score.verdict.partition(",")[0], "")
    return (
        f"<tr><th>{number}. {escape(goal.name)}</th><td>{sign} {goal.limit:.2f}{goal.unit}</td>"
        f'<td>{measured}</td><td class="{state}">{score.verdict}</td></tr>'
    )


def _background_load(record: Record) -> str:
    """Return how busy the machine was with anything else, in a sentence."""
    share = others_share(record)
    if share is None:
        return ""
    return f"Other processes took {share:.0%} of the cores in the worst round."


def _facts(record: Record) -> dict[str, str]:
    machine, film, settings = record["machine"], record["film"], record["settings"]
    height, width = film["size_hw"]
    versions = (f"{name} {version}" for name, version in machine["versions"].items())
    memory_bytes = machine["memory_bytes"]
    memory = f"{memory_bytes / 2**30:.0f} GiB" if memory_bytes else "memory unknown"
    return {
        "machine": f"{machine['cpu']}, {machine['cores']} cores, {memory}, "
        f"{', '.join(machine['flags'])}; {', '.join(machine['gpu']) or 'no NVIDIA GPU'}",
        **{name: _gpu_fact(gpu) for name, gpu in record.get("gpus", {}).items()},
        "system": f"{machine['system']}, Python {machine['python']}",
        "versions": ", ".join(versions),
        "revision": machine["revision"] or "unknown",
        "video": f"{film['name']}, {width}x{height}, {film['fps']:g} frames a second, "
        f"sha256 {film['sha256']}",
        "measured": f"{record['at']}, {settings['rounds']} rounds, {settings['film_s']} s of video",
        "reference": record["reference"],
        "equal pixels": "; ".join(map(_check_fact, record["checks"].items())),
        "energy of the CPU": "see the samples" if has_energy(record) else "not available here",
    }


def _gpu_fact(gpu: Mapping[str, Any]) -> str:
    return (
        f"{gpu['name']}, {gpu['memory_bytes'] / 2**30:.0f} GiB, compute capability "
        f"{gpu['compute_capability']}, CUDA {gpu['cuda']}"
    )


def _check_fact(entry: tuple[str, Mapping[str, Any]]) -> str:
    name, check = entry
    return f"{name}: {check['error']}" if "error" in check else f"{name} {check['equal_share']:.2%}"
