"""Choose the confidence below which pixels are left unpainted, for some weights.

    python benchmarks/unsure.py --val CamVid --abroad abroad/cityscapes --abroad abroad/comma10k

It is bounded from both sides: where the model was trained nearly everything is to be painted, and
abroad most of it, of which nearly all is to be right. Of the values that keep to all of that, it is
the highest that leaves out next to nothing at home, as that is mostly thin things which the model
has right. It becomes `ModelConfig.min_confidence`; the record is `benchmarks/unsure.json`.
"""

import json
from collections.abc import Mapping, Sequence
from contextlib import closing
from pathlib import Path
from typing import Annotated, Any

import typer

from roadseg.backends.runtimes import open_backend
from roadseg.backends.weights import shipped_model
from roadseg.data.source import DataSource
from roadseg.files import replacing, sha256_of
from roadseg.measure.evaluate import evaluate

RECORD = Path(__file__).parent / "unsure.json"
LEAST_AT_HOME, LEAST_ABROAD = 0.97, 0.85
"""Least share of the pixels that is painted."""
WANTED_AT_HOME = 0.99
"""What is painted at home where the bounds leave a choice."""
LEAST_RIGHT = 0.9
"""Least share of what is painted abroad that is right."""

Row = Mapping[str, float]
"""A least confidence, and what it leaves."""

app = typer.Typer(add_completion=False)


@app.command()
def measure(
    val: Annotated[str, typer.Option(help="Data the model was trained for; their val split.")],
    abroad: Annotated[list[str], typer.Option(help="Other data; their train split.")],
    also: Annotated[
        list[str] | None, typer.Option(help="Data to measure that do not decide.")
    ] = None,
    weights: Annotated[Path | None, typer.Option(help="Model to choose it for.")] = None,
) -> None:
    """Measure what each least confidence leaves, record that, and print the choice."""
    weights = weights or shipped_model()
    record = {
        "weights": weights.name,
        "sha256": sha256_of(weights),
        "home": measured(weights, val, "val"),
        "abroad": {data: measured(weights, data, "train") for data in abroad},
        "also": {data: measured(weights, data, "train") for data in also or ()},
    }
    with replacing(RECORD) as file:
        file.write_text(json.dumps(record, indent=1) + "\n")
    typer.echo(table(record))
    kept = ", ".join(map(str, admissible(record))) or "none"
    typer.echo(f"keep to all bounds: {kept}; chosen: --min-confidence {chosen(record)}")


def measured(weights: Path, data: str, split: str) -> dict[str, Any]:
    """Return a model's calibration error on some data, and what each least confidence leaves."""
    with closing(open_backend(weights)) as backend:
        found = evaluate(backend, DataSource.single(data).open(split)).scores.summary()
    return {name: found[name] for name in ("calibration_error", "by_min_confidence")}


def admissible(record: Mapping[str, Any]) -> list[float]:
    """Return the least confidences that keep to all bounds."""
    return [rows[0]["min_confidence"] for rows in _together(record) if not _faults(*rows)]


def chosen(record: Mapping[str, Any]) -> float:
    """Return the one to take, or what keeps to most bounds if none keeps to all."""
    fewest = min(_faults(*rows) for rows in _together(record))
    best = [rows[0] for rows in _together(record) if _faults(*rows) == fewest]
    wanted = [home for home in best if home["painted"] >= WANTED_AT_HOME]
    return (wanted[-1] if wanted else best[0])["min_confidence"]


def table(record: Mapping[str, Any]) -> str:
    """Return the record as a table in Markdown, in per cent."""
    sets = {"home": record["home"], **record["abroad"], **record["also"]}
    lines = [
        f"| least confidence | {' | '.join(Path(name).name for name in sets)} |",
        "| --- |" + " --- |" * len(sets),
    ]
    for rows in zip(*(found["by_min_confidence"] for found in sets.values()), strict=True):
        cells = (f"{100 * r['painted']:.1f}, {100 * r['right']:.1f} right" for r in rows)
        lines.append(f"| {rows[0]['min_confidence']} | {' | '.join(cells)} |")
    errors = (f"{100 * found['calibration_error']:.1f}" for found in sets.values())
    return "\n".join([*lines, f"| calibration error | {' | '.join(errors)} |"])


def _together(record: Mapping[str, Any]) -> list[Sequence[Row]]:
    """Return for each least confidence what it leaves at home and of each data set abroad."""
    sets = (record["home"], *record["abroad"].values())
    return list(zip(*(found["by_min_confidence"] for found in sets), strict=True))


def _faults(home: Row, *abroad: Row) -> int:
    """Return how many bounds a least confidence does not keep to."""
    missed = [home["painted"] < LEAST_AT_HOME]
    missed += [row["painted"] < LEAST_ABROAD for row in abroad]
    missed += [row["right"] < LEAST_RIGHT for row in abroad]
    return sum(missed)


if __name__ == "__main__":
    app()
