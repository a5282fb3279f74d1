"""Measure a model on a labelled split, at the labels' own size, as a user would get it."""

import heapq
from collections.abc import Callable
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from roadseg.backends import Backend
from roadseg.data.folder import FolderDataset
from roadseg.errors import DatasetError
from roadseg.imaging import Placement, network_size
from roadseg.metrics import Confidence, Scores, boundary_f1, confusion_matrix

Answer = tuple[NDArray[np.uint8], NDArray[np.float32]]
"""A class map (H, W) and logits (C, H, W) at a picture's size."""


@dataclass(frozen=True, kw_only=True)
class PictureScore:
    """One picture's part in a measurement."""

    index: int
    """Position in the split."""
    name: str
    """File name without suffix."""
    miou: float
    """Mean IoU over the classes that occur in the picture or its prediction, 0..1."""


@dataclass(frozen=True, kw_only=True)
class Evaluation:
    """A measurement of one model on one split."""

    scores: Scores
    """Over all pictures."""
    pictures: tuple[PictureScore, ...]
    """Of each picture, in the split's order."""

    def worst(self, count: int) -> list[PictureScore]:
        """Return the pictures with the lowest mIoU, the lowest first."""
        return heapq.nsmallest(count, self.pictures, key=lambda picture: picture.miou)


def evaluate(
    backend: Backend,
    dataset: FolderDataset,
    size_hw: tuple[int, int] | None = None,
    on_picture: Callable[[int], None] = lambda _done: None,
) -> Evaluation:
    """Segment every picture of a split and count.

    Pictures are fed as `roadseg infer` feeds frames, one scale, no flipping; class maps are brought
    back to the labels' size before they are compared.

    Args:
        backend: Model to measure.
        dataset: Labelled split.
        size_hw: Network input; None chooses for each picture as `roadseg infer` does.
        on_picture: Called with the number of pictures done.

    Raises:
        DatasetError: The model's classes are not the data set's.
    """
    names = _common_classes(backend, dataset)
    confusion = np.zeros((len(names), len(names)), np.int64)
    confidence = Confidence()
    boundaries: list[NDArray[np.float64]] = []
    pictures: list[PictureScore] = []
    for index in range(len(dataset)):
        picture, target = dataset[index]
        class_map, logits = answer(backend, picture, size_hw)
        counts = confusion_matrix(target, class_map, len(names))
        confusion += counts
        confidence += Confidence.of(target, logits)
        boundaries.append(boundary_f1(target, class_map, len(names)))
        miou = Scores(class_names=names, confusion=counts).miou
        name = dataset.image_paths[index].stem
        pictures.append(PictureScore(index=index, name=name, miou=miou))
        on_picture(index + 1)
    scores = Scores(
        class_names=names,
        confusion=confusion,
        confidence=confidence,
        boundary_f1=_mean_of_present(np.stack(boundaries)),
    )
    return Evaluation(scores=scores, pictures=tuple(pictures))


def answer(
    backend: Backend, picture: NDArray[np.uint8], size_hw: tuple[int, int] | None = None
) -> Answer:
    """Segment one picture, (H, W, 3) RGB, at its own size."""
    picture_hw = (picture.shape[0], picture.shape[1])
    placement = Placement.fit(picture_hw, size_hw or network_size(picture_hw, backend.spec.size_hw))
    class_maps, logits = backend.segment_with_logits(placement.place(picture)[None])
    return placement.restore(class_maps[0]), placement.restore_logits(logits[0])


def _common_classes(backend: Backend, dataset: FolderDataset) -> tuple[str, ...]:
    wanted = tuple(c.name for c in dataset.meaning.classes)
    if backend.spec.class_names != wanted:
        raise DatasetError(
            f"the model knows the classes {', '.join(backend.spec.class_names)} and the labels "
            f"have {', '.join(wanted)}; measure on data with the model's classes"
        )
    return wanted


def _mean_of_present(values: NDArray[np.float64]) -> NDArray[np.float64]:
    """Return the means of the columns of (pictures, C) without their NaNs."""
    present = ~np.isnan(values)
    counts = present.sum(axis=0)
    sums = np.where(present, values, 0).sum(axis=0)
    return np.where(counts, sums / np.maximum(counts, 1), np.nan)
