"""Measure a model on a labelled split, at the labels' own size, as a user would get it."""

from collections.abc import Callable

import numpy as np

from roadseg.backends import Backend
from roadseg.classes import NUM_CLASSES
from roadseg.data.folder import FolderDataset
from roadseg.imaging import Placement, network_size
from roadseg.metrics import Scores, confusion_matrix, cross_entropy


def evaluate(
    backend: Backend,
    dataset: FolderDataset,
    size_hw: tuple[int, int] | None = None,
    on_picture: Callable[[int], None] = lambda _done: None,
) -> Scores:
    """Segment every picture of a split and count.

    Pictures are fed as `roadseg infer` feeds frames, one scale, no flipping; class maps are brought
    back to the labels' size before they are compared.

    Args:
        backend: Model to measure.
        dataset: Labelled split.
        size_hw: Network input; None chooses for each picture as `roadseg infer` does.
        on_picture: Called with the number of pictures done.
    """
    confusion = np.zeros((NUM_CLASSES, NUM_CLASSES), np.int64)
    loss_sum, pixels = 0.0, 0
    for index in range(len(dataset)):
        picture, target = dataset[index]
        chosen = size_hw or network_size(target.shape, backend.spec.size_hw)
        placement = Placement.fit(target.shape, chosen)
        class_maps, logits = backend.segment_with_logits(placement.place(picture)[None])
        confusion += confusion_matrix(target, placement.restore(class_maps[0]))
        loss, labelled = cross_entropy(target, placement.restore_logits(logits[0]))
        loss_sum, pixels = loss_sum + loss, pixels + labelled
        on_picture(index + 1)
    return Scores(confusion=confusion, cross_entropy=loss_sum / max(pixels, 1))
