"""Measure how much of each person, car and sign `roadseg redact` hides, on labelled film.

    python benchmarks/redact.py measure --data CamVid
    python benchmarks/redact.py table

The film is CamVid's val at its 15 Hz. A person is a connected region that the labels call
pedestrian or bicyclist, so people who overlap in the picture count as one; regions of fewer than
`LEAST_PX` pixels are left out, as the labels themselves are no finer. The record is
`benchmarks/redact.json`; the table is a pure function of it and stands in the documents.
"""

import json
import math
from collections.abc import Iterator, Sequence
from contextlib import closing
from dataclasses import asdict, replace
from fractions import Fraction
from pathlib import Path
from typing import Annotated, Any

import cv2
import numpy as np
import typer
from marks import write

from roadseg.backends.runtimes import open_backend
from roadseg.backends.weights import default_weights
from roadseg.data.folder import FolderDataset
from roadseg.files import replacing
from roadseg.paint.config import HIDEABLE, Redaction
from roadseg.segmentation.config import ModelConfig
from roadseg.segmentation.hide import covered, hold, suspect
from roadseg.spec import CLASS_NAMES, IGNORE_INDEX
from roadseg.video.frame import Frame
from roadseg.video.read.upright import picture_of

RECORD = Path(__file__).parent / "redact.json"
PAGE = Path(__file__).parent.parent / "docs" / "commands" / "redact.md"
MARK = "redact"
"""Name of the table in the documents."""
RATE = Fraction(15)
LEAST_PX = 50
WHOLE, PART = 0.9, 0.5
"""Shares of a region's pixels from which it counts as hidden, and below which as missed."""
WAYS = {
    "as it comes": Redaction(),
    "`--probability 0.02`": Redaction(probability=0.02),
    "`--probability 0.3`": Redaction(probability=0.3),
    "`--hold 0`": Redaction(hold_s=0.0),
    "`--hold 0 --margin 0 --probability 0.5`": Redaction(hold_s=0.0, margin=0.0, probability=0.5),
}

app = typer.Typer()


@app.command()
def measure(data: Annotated[Path, typer.Option()], limit: int | None = None) -> None:
    """Measure all ways of redacting the film, and record what each hides."""
    dataset = FolderDataset.open(data, "val")
    weights = default_weights()
    ways = {}
    for name, redaction in WAYS.items():
        ways[name] = _measured(dataset, weights, redaction, limit)
        typer.echo(f"{name}: {ways[name]}")
    record = {"film": "CamVid val, 15 Hz", "weights": weights.name, "ways": ways}
    with replacing(RECORD) as file:
        file.write_text(json.dumps(record, indent=1) + "\n")


@app.command()
def table() -> None:
    """Write the table into the documents."""
    write(PAGE, MARK, drawn(json.loads(RECORD.read_text())))


def drawn(record: dict[str, Any]) -> str:
    """Return the table of a record."""
    lines = [
        f"| {record['weights']} | people hidden | of their pixels | people missed | cars hidden "
        "| signs hidden | of the picture |",
        "| --- | --- | --- | --- | --- | --- | --- |",
    ]
    for name, way in record["ways"].items():
        people, cars, signs = (way["regions"][kind] for kind in HIDEABLE)
        cells = (
            *(f"{_percent(people['whole'])} of {people['regions']}", _percent(people["pixels"])),
            *(_percent(people["missed"]), _percent(cars["whole"]), _percent(signs["whole"])),
            f"{way['hidden']:.0%}",
        )
        lines.append(f"| {name} | {' | '.join(cells)} |")
    return "\n".join(lines) + "\n"


def _percent(share: float) -> str:
    """Return a share as text, rounded down: 100 % is all."""
    return f"{math.floor(1000 * share) / 10:.1f} %"


def _measured(
    dataset: FolderDataset, weights: Path, redaction: Redaction, limit: int | None
) -> dict[str, Any]:
    """Return what a way of redacting hides of the film."""
    shares: dict[str, list[tuple[float, int]]] = {kind: [] for kind in HIDEABLE}
    hidden = []
    for mask, target in _hidden(dataset, weights, redaction, limit):
        hidden.append(mask.mean())
        for kind in HIDEABLE:
            shares[kind] += _regions(mask, target, replace(redaction, hide=(kind,)))
    return {
        "settings": asdict(redaction),
        "frames": len(hidden),
        "hidden": float(np.mean(hidden)),
        "regions": {kind: _summed(found) for kind, found in shares.items()},
    }


def _hidden(
    dataset: FolderDataset, weights: Path, redaction: Redaction, limit: int | None
) -> Iterator[tuple[np.ndarray, np.ndarray]]:
    """Yield what is hidden of each frame (H, W), and its labels."""
    count = min(len(dataset), limit or len(dataset))
    frames = (Frame(picture_of(dataset[i][0]), i, 1 / RATE) for i in range(count))
    with closing(open_backend(weights)) as backend:
        found = suspect(frames, backend, ModelConfig(weights=weights), redaction=redaction)
        for item in covered(hold(found, redaction=redaction)):
            yield item.class_map != IGNORE_INDEX, dataset[item.frame.pts][1]


def _regions(
    mask: np.ndarray, target: np.ndarray, redaction: Redaction
) -> Iterator[tuple[float, int]]:
    """Yield the share of each region that is hidden, and its pixels."""
    member = np.isin(target, redaction.hidden_ids(CLASS_NAMES)).astype(np.uint8)
    count, numbers, boxes, _ = cv2.connectedComponentsWithStats(member, connectivity=8)
    for number in range(1, count):
        pixels = int(boxes[number, cv2.CC_STAT_AREA])
        if pixels >= LEAST_PX:
            yield float(mask[numbers == number].mean()), pixels


def _summed(found: Sequence[tuple[float, int]]) -> dict[str, float]:
    shares, pixels = np.array(found).T
    return {
        "regions": len(found),
        "whole": float((shares >= WHOLE).mean()),
        "missed": float((shares < PART).mean()),
        "pixels": float((shares * pixels).sum() / pixels.sum()),
    }


if __name__ == "__main__":
    app()
