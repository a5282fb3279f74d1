"""The page about a run of measurements: a pure function of its record, one file, no network."""

import json
from collections.abc import Mapping, Sequence
from html import escape
from importlib.resources import files
from string import Template
from typing import Any, NamedTuple

import numpy as np
import plotly.graph_objects as go
from plotly.offline import get_plotlyjs

from roadseg.measure.results import Round, has_energy, others_share, rounds_of, values_of
from roadseg.measure.targets import Ceiling, Score, ceilings, scores_of

COLORS = {
    "loop": "#8a949e",
    "film": "#2a78b5",
    "model": "#2a9d8f",
    "plain": "#c58b2a",
    "peer": "#d1495b",
}
"""Colour of a contender, by its job; each is legible on light and on dark."""
PARTS = {
    "decode": "#7a6fc2",
    "read": "#7a6fc2",
    "resize": "#c58b2a",
    "convert": "#c58b2a",
    "motion": "#8a8f3c",
    "model": "#2a9d8f",
    "labels": "#b06ab3",
    "enlarge": "#b77b7b",
    "overlay": "#2a78b5",
    "blend": "#2a78b5",
    "encode": "#d1495b",
}
"""Colour of a step or stage; those that do the same work have one colour."""
STEPS = ("read", "resize", "model", "blend", "encode")
STAGES = ("decode", "motion", "convert", "model", "labels", "enlarge", "overlay", "encode")


class Panel(NamedTuple):
    """One figure of the page."""

    title: str
    hint: str
    figure: go.Figure


def bench_page(record: Mapping[str, Any]) -> str:
    """Return a run of measurements as HTML."""
    panels = {f"figure-{i}": panel for i, panel in enumerate(_panels(record))}
    figures = {name: json.loads(panel.figure.to_json()) for name, panel in panels.items()}
    for figure in figures.values():
        figure["layout"].pop("template", None)
    web = files("roadseg.pages").joinpath("web")
    return Template(web.joinpath("bench.html").read_text("utf-8")).substitute(
        title=escape(f"Speed of roadseg on {record['film']['name']}"),
        style=web.joinpath("bench.css").read_text("utf-8"),
        script=web.joinpath("bench.js").read_text("utf-8"),
        plotly=get_plotlyjs(),
        targets="".join(_target_row(*entry) for entry in enumerate(scores_of(record), 1)),
        weather=escape(_weather(record)),
        figures="".join(_section(name, panel) for name, panel in panels.items()),
        facts="".join(_fact_row(name, value) for name, value in _facts(record).items()),
        record=json.dumps(figures).replace("<", "\\u003c"),  # no text can end the script element
    )


def _panels(record: Mapping[str, Any]) -> list[Panel]:
    """Return all figures that the record has data for."""
    rounds = rounds_of(record)
    panels = [
        Panel(
            "Frames a second, once warm",
            "Medians over the rounds, with the least and the most; dotted: what bounds roadseg.",
            _throughput(record, rounds),
        ),
        Panel(
            "Where the CPU time of a frame goes (ms)",
            "The loop step by step, as it runs; roadseg stage by stage, each alone; threads of "
            "libraries are in both.",
            _parts(rounds, record["roles"]["loop"]),
        ),
        Panel(
            "Latency of the model alone",
            "Share of the calls that were done within a time, all rounds.",
            _latencies(record, ("model", "plain", "peer"), _calls_ms),
        ),
        Panel(
            "Opening, first call, warming up, steady (ms)",
            "Medians; a logarithmic scale.",
            _start(record, rounds),
        ),
        Panel(
            "Roofline",
            "What the machine computes and moves at most, and where the models are.",
            _roofline(record, rounds),
        ),
        Panel(
            "Live: age of a frame when its labels are there",
            f"{_live_hint(record)} All rounds.",
            _latencies(record, ("live",), _ages_ms),
        ),
        Panel(
            "Targets, round by round",
            "Numbered as in the table; right of the line is better than the target.",
            _goals(scores_of(record)),
        ),
        Panel("Peak memory (MB)", "Whole processes, medians.", _memory(record, rounds)),
    ]
    return [panel for panel in panels if panel.figure.data]


def _names(record: Mapping[str, Any], *jobs: str) -> list[str]:
    return [name for name, told in record["contenders"].items() if told["job"] in jobs]


def _color(record: Mapping[str, Any], name: str) -> str:
    return COLORS[record["contenders"][name]["job"]]


def _throughput(record: Mapping[str, Any], rounds: Sequence[Round]) -> go.Figure:
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
            textposition="inside",
            insidetextanchor="start",
            insidetextfont={"color": "#fff"},
            error_x={
                "array": [max(values) - middle],
                "arrayminus": [middle - min(values)],
                "color": "#888",
            },
        )
    for ceiling in _pipeline_ceilings(record):
        figure.add_vline(
            x=ceiling.limit_fps.median,
            line={"dash": "dot", "color": "#888"},
            annotation_text=ceiling.name,
            annotation_textangle=-90,
            annotation_font_size=11,
        )
    figure.update_yaxes(autorange="reversed")
    return figure.update_layout(showlegend=False)


def _pipeline_ceilings(record: Mapping[str, Any]) -> list[Ceiling]:
    return [c for c in ceilings(record) if c.by == record["roles"]["defaults"]]


def _parts(rounds: Sequence[Round], loop: str) -> go.Figure:
    figure = go.Figure()
    for row, contender, parts in (("plain loop", loop, STEPS), ("roadseg", "stages", STAGES)):
        for part in parts:
            values = values_of(rounds, contender, f"{part} cpu")
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


def _calls_ms(result: Mapping[str, Any]) -> list[float]:
    return [1000 * s for s in result["calls_s"]]


def _ages_ms(result: Mapping[str, Any]) -> list[float]:
    return [1000 * s for s in result["ages_s"][result["warmup_frames"] :]]


def _latencies(record: Mapping[str, Any], jobs: Sequence[str], samples: Any) -> go.Figure:
    """Draw the share of samples below each latency, of every contender with one of the jobs."""
    figure = go.Figure()
    for name in _names(record, *jobs):
        results = (measured["results"].get(name, {}) for measured in record["rounds"])
        found = sorted(ms for result in results if len(result) > 2 for ms in samples(result))
        figure.add_scatter(
            x=found,
            y=[100 * (i + 1) / len(found) for i in range(len(found))],
            mode="lines",
            name=name,
            hovertemplate="%{y:.0f} % within %{x:.1f} ms",
        )
    figure.update_xaxes(title_text="ms", rangemode="tozero")
    return figure.update_yaxes(title_text="%")


def _live_hint(record: Mapping[str, Any]) -> str:
    told = next(told for told in record["contenders"].values() if told["job"] == "live")
    return f"A camera of {told['rate'] or record['film']['fps']:g} frames a second."


def _start(record: Mapping[str, Any], rounds: Sequence[Round]) -> go.Figure:
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


def _roofline(record: Mapping[str, Any], rounds: Sequence[Round]) -> go.Figure:
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
        line={"color": "#888", "dash": "dot"},
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
    figure.add_vline(x=1, line={"dash": "dot", "color": "#888"})
    figure.update_yaxes(autorange="reversed", type="category")
    return figure.update_layout(showlegend=False, xaxis_title="times the target")


def _memory(record: Mapping[str, Any], rounds: Sequence[Round]) -> go.Figure:
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


def _section(name: str, panel: Panel) -> str:
    return (
        f'<section><h2>{escape(panel.title)}</h2><div class="figure" id="{name}"></div>'
        f'<p class="hint">{escape(panel.hint)}</p></section>'
    )


def _target_row(number: int, score: Score) -> str:
    goal, found = score.goal, score.interval
    sign = "≥" if goal.at_least else "≤"
    measured = ""
    if found is not None:
        measured = (
            f"{found.median:.2f}{goal.unit} <small>({found.low:.2f} to {found.high:.2f})</small>"
        )
    state = {"m": "met", "n": "missed"}[score.verdict[0]]
    return (
        f"<tr><th>{number}. {escape(goal.name)}</th><td>{sign} {goal.limit:.2f}{goal.unit}</td>"
        f'<td>{measured}</td><td class="{state}">{score.verdict}</td></tr>'
    )


def _weather(record: Mapping[str, Any]) -> str:
    """Say how quiet the machine was."""
    share = others_share(record)
    if share is None:
        return ""
    return f"Other processes took {share:.0%} of the cores in the worst round."


def _facts(record: Mapping[str, Any]) -> dict[str, str]:
    machine, film, settings = record["machine"], record["film"], record["settings"]
    height, width = film["size_hw"]
    versions = (f"{name} {version}" for name, version in machine["versions"].items())
    memory_bytes = machine["memory_bytes"]
    memory = f"{memory_bytes / 2**30:.0f} GiB" if memory_bytes else "memory unknown"
    return {
        "machine": f"{machine['cpu']}, {machine['cores']} cores, {memory}, "
        f"{', '.join(machine['flags'])}; {', '.join(machine['gpu']) or 'no NVIDIA GPU'}",
        "system": f"{machine['system']}, Python {machine['python']}",
        "versions": ", ".join(versions),
        "revision": machine["revision"] or "unknown",
        "film": f"{film['name']}, {width}x{height}, {film['fps']:g} frames a second, "
        f"sha256 {film['sha256']}",
        "measured": f"{record['at']}, {settings['rounds']} rounds, {settings['film_s']} s of film",
        "reference": record["reference"],
        "equal pixels": "; ".join(map(_check_fact, record["checks"].items())),
        "energy": "see the samples" if has_energy(record) else "not available on this machine",
    }


def _check_fact(entry: tuple[str, Mapping[str, Any]]) -> str:
    name, check = entry
    return f"{name}: {check['error']}" if "error" in check else f"{name} {check['equal_share']:.2%}"


def _fact_row(name: str, value: str) -> str:
    return f"<tr><th>{escape(name)}</th><td>{escape(value)}</td></tr>"
