"""Narrow labels that stand for sets of classes to the one that a model is sure of.

    python benchmarks/narrow_labels.py idd_lite:idd_lite idd_narrowed --teacher unet-lite.onnx

Writes a data set with the same pictures: where the teacher is sure which class of a label's set a
pixel has, the label is that class, and elsewhere it stays the set. So a network that learns from
both does not forget what it knew of classes that the labels do not tell apart.
"""

import csv
from contextlib import closing
from dataclasses import replace
from pathlib import Path
from typing import Annotated

import cv2
import numpy as np
import typer
from numpy.typing import NDArray

from roadseg.backends.runtimes import open_backend
from roadseg.data.sets import LabelSpace
from roadseg.data.source import DataSource
from roadseg.measure.evaluate import predict_pictures
from roadseg.spec import IGNORE_INDEX, UNLABELLED, SegClass

app = typer.Typer(add_completion=False)


@app.command()
def narrow(
    data: Annotated[str, typer.Argument(help="Data as `roadseg train --data` takes them.")],
    out: Annotated[Path, typer.Argument(help="Folder to create.")],
    teacher: Annotated[Path, typer.Option(help="Model that narrows the labels.")],
    sure: Annotated[float, typer.Option(help="Least share of a set's probability.")] = 0.8,
    believed: Annotated[float, typer.Option(help="Least probability of the whole set.")] = 0.2,
) -> None:
    """Write the train split of a data set with narrowed labels."""
    with closing(open_backend(teacher)) as backend:
        dataset = DataSource.single(data).open("train")
        classes = [
            SegClass(name=name, color=color)
            for name, color in zip(backend.spec.class_names, backend.spec.palette, strict=True)
        ]
        space = LabelSpace.of(classes, [dataset.meaning])
        renumbered = replace(dataset, meaning=space.renumber(dataset.meaning))
        (out / "trainannot").mkdir(parents=True)
        (out / "train").symlink_to(dataset.image_paths[0].parent.resolve())
        _write_classes(out / "classes.csv", space)
        narrowed = total = 0
        for index, path in enumerate(dataset.image_paths):
            picture, target = renumbered[index]
            (prediction,) = predict_pictures(backend, [picture])
            label = narrowed_target(target, _softmax(prediction.logits), space, sure, believed)
            narrowed += int((label != target).sum())
            total += int(((target >= len(classes)) & (target != IGNORE_INDEX)).sum())
            cv2.imwrite(str(out / "trainannot" / f"{path.stem}.png"), label)
    typer.echo(f"{narrowed / max(total, 1):.0%} of the pixels with sets were narrowed")


def narrowed_target(
    target: NDArray[np.uint8],
    probabilities: NDArray[np.float32],
    space: LabelSpace,
    sure: float,
    believed: float,
) -> NDArray[np.uint8]:
    """Return a target (H, W) with its sets narrowed by probabilities (C, H, W)."""
    result = target.copy()
    for set_id, of_set in enumerate(space.members, len(space.classes)):
        ids = np.flatnonzero(of_set)
        inside = probabilities[ids]
        whole = inside.sum(axis=0)
        chosen = (target == set_id) & (inside.max(axis=0) > sure * whole) & (whole > believed)
        result[chosen] = ids[inside.argmax(axis=0)][chosen]
    return result


def _softmax(logits: NDArray[np.float32]) -> NDArray[np.float32]:
    powers = np.exp(logits - logits.max(axis=0))
    return powers / powers.sum(axis=0)


def _write_classes(path: Path, space: LabelSpace) -> None:
    with path.open("w", newline="") as file:
        rows = csv.writer(file)
        rows.writerow(["name", "id"])
        rows.writerows([label.name, number] for number, label in enumerate(space.labels))
        rows.writerow([UNLABELLED, IGNORE_INDEX])


if __name__ == "__main__":
    app()
