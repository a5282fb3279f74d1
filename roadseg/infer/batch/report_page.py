"""The report of a batch as a page, a pure function of what the batch found."""

from collections.abc import Iterable, Sequence
from html import escape

import plotly.graph_objects as go

from roadseg import __version__
from roadseg.infer.batch.report import BatchReport
from roadseg.infer.batch.status import duration, unit_of
from roadseg.pages.layout import (
    GREY,
    OUTLINE,
    Plot,
    facts_html,
    page_html,
    plots_html,
    section_html,
)
from roadseg.spec import PALETTES, css_color

LEAST_SHARE = 0.0005
"""Classes below this share of all pixels are left out of plots."""


def report_page(report: BatchReport, title: str) -> str:
    """Return the report of a batch as HTML.

    Args:
        report: What the batch found.
        title: Heading.
    """
    people = [
        (film.film, f"for {film.people_s:.1f} s, {film.people_s / film.video_s:.1%} of it")
        for film in report.with_people
    ]
    failed = list(report.failed.items())
    body = (
        facts_html(_facts(report), "The batch")
        + plots_html(_plots(report))
        + _table("Videos with people on the road", people, report.with_people_count)
        + _table("Failed", failed, report.status.films["failed"])
    )
    return page_html(title, body)


def _facts(report: BatchReport) -> dict[str, str]:
    status = report.status
    states = ", ".join(f"{films:,} {state}" for state, films in status.films.items() if films)
    unmeasured = report.unmeasured_count
    needed = "--stats in .jsonl or .parquet"
    not_known = f"; not known of {unmeasured:,} without {needed}" if unmeasured else ""
    return {
        "videos": states or "none",
        "video done": duration(status.video_s),
        "frames": f"{status.frames:,}",
        "time on one core": duration(status.cpu_s),
        "videos with people": f"{report.with_people_count:,} with some on the road{not_known}",
        "model": report.settings.get("weights", "").partition(" ")[0],
        "made by": f"roadseg {__version__}",
    }


def _plots(report: BatchReport) -> list[Plot]:
    unit, unit_s = unit_of(max((period.video_s for period in report.periods), default=0.0))
    return [
        Plot(
            title="Shares of classes over time (%)",
            hint="By when the videos were recorded.",
            figure=_over_time(report),
        ),
        Plot(
            title=f"{unit.capitalize()} of video over time",
            hint="By when the videos were recorded.",
            figure=_lengths(report, unit_s),
        ),
        Plot(title="Shares of classes in all videos (%)", figure=_shares(report)),
    ]


def _shown(report: BatchReport) -> list[str]:
    """Return the classes that are shown, the largest first."""
    shares = report.class_shares
    return sorted((n for n in shares if shares[n] >= LEAST_SHARE), key=lambda n: -shares[n])


def _color(report: BatchReport, name: str) -> str:
    palette = PALETTES.get(report.settings.get("palette", ""), PALETTES["roadseg"])
    return css_color(palette[name]) if name in palette else GREY


def _over_time(report: BatchReport) -> go.Figure:
    dates = [period.at for period in report.periods]
    figure = go.Figure()
    for name in _shown(report) if len(dates) > 1 else []:
        shares = [100 * period.class_shares.get(name, 0.0) for period in report.periods]
        color = _color(report, name)
        figure.add_scatter(
            x=dates,
            y=shares,
            name=name,
            mode="lines+markers",
            stackgroup="all",
            line={"color": color},
        )
    return figure.update_xaxes(type="date")


def _lengths(report: BatchReport, unit_s: int) -> go.Figure:
    figure = go.Figure()
    if len(report.periods) > 1:
        lengths = [period.video_s / unit_s for period in report.periods]
        figure.add_bar(x=[period.at for period in report.periods], y=lengths, marker_color=GREY)
    return figure.update_xaxes(type="date")


def _shares(report: BatchReport) -> go.Figure:
    names = _shown(report)[::-1]
    figure = go.Figure()
    if names:
        shares = [100 * report.class_shares[name] for name in names]
        colors = [_color(report, name) for name in names]
        marker = {"color": colors, "line": OUTLINE}
        figure.add_bar(x=shares, y=names, orientation="h", marker=marker)
    return figure


def _table(heading: str, rows: Sequence[Iterable[str]], total: int) -> str:
    """Return rows as a section, which says how many were left out; nothing if there are none."""
    if not rows:
        return ""
    cells = ("".join(f"<td>{escape(text)}</td>" for text in row) for row in rows)
    body = "".join(f"<tr>{row}</tr>" for row in cells)
    left_out = total - len(rows)
    more = f'<p class="hint">and {left_out:,} more</p>' if left_out > 0 else ""
    return section_html(f"{heading} ({total:,})", f'<table class="listed">{body}</table>{more}')
