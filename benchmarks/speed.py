"""Draw recorded runs of `roadseg bench`: the tables of the README beside this, a page of one run.

    roadseg bench --record benchmarks/results/NAME.json
    python benchmarks/speed.py table
    python benchmarks/speed.py page NAME speed.html

Both are pure functions of the records in `benchmarks/results/`.
"""

import json
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import typer
from marks import write

from roadseg.files import replacing
from roadseg.measure.bench_page import bench_page
from roadseg.measure.results import Round, others_share, rounds_of, spread
from roadseg.measure.targets import ceilings, scores_of

RESULTS = Path(__file__).parent / "results"
README = Path(__file__).parent / "README.md"
MARK = "runs"
"""Name of the tables in the README."""
WORK = (
    ("decode", "read", "decode"),
    ("small pictures for the motion", None, "luma"),
    ("motion (until record 4 with the lines around it)", None, "motion"),
    ("key frames", None, "keyframes"),
    ("to the network's size, or there and back", "resize", "convert"),
    ("model", "model", "model"),
    ("steady labels (in records 1 and 2 with the next)", None, "labels"),
    ("class maps at full size", None, "enlarge"),
    ("overlay", "blend", "overlay"),
    ("encode", "encode", "encode"),
)
"""What is to be done for a frame: name, the loop's step if it has one, roadseg's stage."""
app = typer.Typer(add_completion=False)


@app.command()
def table() -> None:
    """Write the tables of all records into the README beside this."""
    write(README, MARK, markdown(records()))


@app.command()
def page(name: str, out: Path) -> None:
    """Write the page of one record."""
    with replacing(out) as temporary:
        temporary.write_text(bench_page(records()[name]))


def records() -> dict[str, dict[str, Any]]:
    """Return the records by name."""
    return {path.stem: json.loads(path.read_text()) for path in sorted(RESULTS.glob("*.json"))}


def markdown(found: Mapping[str, Mapping[str, Any]]) -> str:
    """Return what the records say, as Markdown."""
    return "\n".join(_run(name, record) for name, record in found.items())


def _run(name: str, record: Mapping[str, Any]) -> str:
    machine, rounds = record["machine"], rounds_of(record)
    others = others_share(record)
    quiet = "" if others is None else f", other processes at most {others:.0%} of the cores"
    lines = [
        f"### {name}",
        "",
        f"{record['film']['name']} on {machine['cpu']}, {machine['cores']} cores, at "
        f"{record['at'][:10]}; {len(rounds)} rounds{quiet}.",
        "",
        *_targets(record),
        "",
        *_work(rounds, record["roles"]["loop"]),
        "",
        *_models(record, rounds),
        "",
        *_ceilings(record),
    ]
    return "\n".join(lines) + "\n"


def _targets(record: Mapping[str, Any]) -> list[str]:
    lines = ["| target | wanted | measured | |", "| --- | --- | --- | --- |"]
    for score in scores_of(record):
        goal, found = score.goal, score.interval
        sign = "at least" if goal.at_least else "at most"
        measured = (
            f"{found.median:.2f}{goal.unit} ({found.low:.2f} to {found.high:.2f})" if found else ""
        )
        wanted = f"{sign} {goal.limit:.2f}{goal.unit}"
        lines.append(f"| {goal.name} | {wanted} | {measured} | {score.verdict} |")
    return lines


def _work(rounds: Sequence[Round], loop: str) -> list[str]:
    lines = [
        "| work for a frame | loop, ms | loop, CPU ms | roadseg, CPU ms |",
        "| --- | --- | --- | --- |",
    ]
    for work, step, stage in WORK:
        cells = ["", ""]
        if step:
            cells = [_cell(rounds, loop, f"{step} {metric}") for metric in ("wall", "cpu")]
        cells.append(_cell(rounds, "stages", f"{stage} cpu"))
        if any(cells):
            lines.append(f"| {work} | {' | '.join(cells)} |")
    sums = ((loop, "p50"), (loop, "cpu"), ("stages", "cpu"))
    lines.append(f"| all | {' | '.join(_cell(rounds, *metric) for metric in sums)} |")
    return lines


def _models(record: Mapping[str, Any], rounds: Sequence[Round]) -> list[str]:
    metrics = ("fps", "p50", "p90", "p95", "p99", "first_call", "cpu", "peak_mb")
    lines = [
        "| alone | fps | p50, ms | p90 | p95 | p99 | first call, ms | CPU, ms | peak, MB |",
        "| --- | --- | --- | --- | --- | --- | --- | --- | --- |",
    ]
    for name, case in record["contenders"].items():
        if case["job"] in ("model", "plain", "peer"):
            cells = " | ".join(_cell(rounds, name, metric) for metric in metrics)
            lines.append(f"| {name} | {cells} |")
    return lines


def _ceilings(record: Mapping[str, Any]) -> list[str]:
    lines = ["| ceiling | fps | reached | by |", "| --- | --- | --- | --- |"]
    lines += [
        f"| {c.name} | {c.limit_fps.median:.1f} | {c.reached.median:.0%} | {c.by} |"
        for c in ceilings(record)
    ]
    return lines


def _cell(rounds: Sequence[Round], case: str, metric: str) -> str:
    found = spread(rounds, case, metric)
    return "" if found is None else f"{found.median:.1f}"


if __name__ == "__main__":
    app()
