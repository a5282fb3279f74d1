"""The confusion matrix and the figures derived from it.

Pixels whose target is `IGNORE_INDEX` count nowhere. A class that neither the target nor the
prediction contains has no IoU (NaN) and does not enter the mean.
"""

import math
from dataclasses import dataclass, field
from typing import Any

import numpy as np
from numpy.typing import NDArray

from roadseg.classes import CLASS_NAMES, NUM_CLASSES


def confusion_matrix(
    target: NDArray[np.uint8], class_map: NDArray[np.uint8], num_classes: int = NUM_CLASSES
) -> NDArray[np.int64]:
    """Count pixels by (target, prediction).

    Args:
        target: Ground truth ids, any shape; ids from `num_classes` up are ignored.
        class_map: Predicted ids below `num_classes`, same shape.
        num_classes: Rows and columns of the matrix.

    Returns:
        (num_classes, num_classes) int64; rows are the target.
    """
    labelled = target < num_classes
    pairs = target[labelled].astype(np.int64) * num_classes + class_map[labelled]
    counts = np.bincount(pairs, minlength=num_classes**2)
    return counts.reshape(num_classes, num_classes)


def cross_entropy(target: NDArray[np.uint8], logits: NDArray[np.float32]) -> tuple[float, int]:
    """Return the unweighted cross entropy summed over labelled pixels, in nats, and their number.

    Args:
        target: (H, W) ids; ids from C up are ignored.
        logits: (C, H, W).
    """
    labelled = target < logits.shape[0]
    scores = logits[:, labelled]  # (C, pixels)
    peak = scores.max(axis=0)
    log_sum = peak + np.log(np.exp(scores - peak).sum(axis=0))
    true_score = np.take_along_axis(scores, target[labelled][None].astype(np.intp), axis=0)[0]
    return float((log_sum - true_score).sum(dtype=np.float64)), int(labelled.sum())


@dataclass(frozen=True, kw_only=True)
class Scores:
    """What a confusion matrix and a loss say about a model."""

    confusion: NDArray[np.int64]
    """(C, C); rows are the target."""
    cross_entropy: float = float("nan")
    """Mean over labelled pixels, in nats, without class weights."""
    iou: NDArray[np.float64] = field(init=False)
    """(C,) intersection over union of each class, 0..1, NaN where a class does not occur."""

    def __post_init__(self) -> None:
        hits = np.diag(self.confusion).astype(np.float64)
        union = self.confusion.sum(axis=0) + self.confusion.sum(axis=1) - hits
        with np.errstate(invalid="ignore"):
            object.__setattr__(self, "iou", hits / union)

    @property
    def miou(self) -> float:
        """Mean IoU over the classes that occur, 0..1."""
        occurring = self.iou[~np.isnan(self.iou)]
        return float(occurring.mean()) if occurring.size else float("nan")

    @property
    def pixel_accuracy(self) -> float:
        """Share of labelled pixels that are right, 0..1."""
        total = self.confusion.sum()
        return float(np.diag(self.confusion).sum() / total) if total else float("nan")

    def summary(self) -> dict[str, Any]:
        """Return the figures as JSON values; what is not a number is null."""
        return {
            "miou": _finite(self.miou),
            "pixel_accuracy": _finite(self.pixel_accuracy),
            "cross_entropy": _finite(self.cross_entropy),
            "iou": {n: _finite(v) for n, v in zip(CLASS_NAMES, self.iou, strict=False)},
        }


def _finite(value: float) -> float | None:
    return float(value) if math.isfinite(value) else None
