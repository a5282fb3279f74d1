"""The confusion matrix, boundaries and calibration, and the metrics derived from them.

Pixels whose target is no class id (`IGNORE_INDEX`) count nowhere. A class that neither the target
nor the prediction contains has no score (NaN) and does not enter a mean.
"""

import math
from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import Any

import cv2
import numpy as np
from numpy.typing import NDArray

from roadseg.segmentation.confidence import level_of
from roadseg.spec import UNLABELLED

BOUNDARY_TOLERANCE = 0.0075
"""Distance at which boundaries still match, as a share of the picture's diagonal."""
CALIBRATION_BINS = 15
"""Bins of confidence, as in Guo et al."""
LEAST_CONFIDENCES = tuple(step / 20 for step in range(20))
"""Least confidences that are measured."""


def confusion_matrix(
    target: NDArray[np.uint8],
    class_map: NDArray[np.uint8],
    num_classes: int,
    num_labels: int | None = None,
) -> NDArray[np.int64]:
    """Count pixels by (target, prediction).

    Args:
        target: Ground truth ids, any shape; ids from `num_labels` up are ignored.
        class_map: Predicted ids below `num_classes`, same shape.
        num_classes: Columns of the matrix.
        num_labels: Rows of the matrix; None means `num_classes`.

    Returns:
        (num_labels, num_classes) int64; rows are the target.
    """
    num_labels = num_labels or num_classes
    labelled = target < num_labels
    pairs = target[labelled].astype(np.int64) * num_classes + class_map[labelled]
    counts = np.bincount(pairs, minlength=num_labels * num_classes)
    return counts.reshape(num_labels, num_classes)


def boundary_f1(
    target: NDArray[np.uint8],
    class_map: NDArray[np.uint8],
    num_classes: int,
    members: NDArray[np.bool_] | None = None,
) -> NDArray[np.float64]:
    """Return how well the outlines of each class match, (C,) 0..1, NaN where a class is absent.

    The F1 of precision and recall of boundary pixels within `BOUNDARY_TOLERANCE` of the diagonal
    (Csurka, Larlus and Perronnin, BMVC 2013, section 2.2). An edge against unlabelled pixels is no
    boundary, and what is predicted there does not count. Unlabelled, for a class, are also those of
    a set that it is of; and where there are sets, only classes that the target has get a score.

    Args:
        target: (H, W) ids; ids that are of no class and no set are ignored.
        class_map: (H, W) predicted ids.
        num_classes: Number of classes.
        members: (S, C), classes of the sets with the ids from `num_classes` up; None has none.
    """
    known = np.zeros((256, num_classes), bool)  # whether a label determines where a class is
    known[:num_classes] = True
    if members is not None:
        known[num_classes : num_classes + len(members)] = ~members
    reach = round(BOUNDARY_TOLERANCE * math.hypot(*target.shape))
    disc = cv2.getStructuringElement(cv2.MORPH_ELLIPSE, (2 * reach + 1, 2 * reach + 1))
    scores = np.full(num_classes, np.nan)
    for class_id in range(num_classes):
        if members is not None and not (target == class_id).any():
            continue
        void = ~known[:, class_id][target]
        true = _boundary(target == class_id, void)
        found = _boundary((class_map == class_id) & ~void, void)
        if true.any() or found.any():
            matched_found = int(found[cv2.dilate(true, disc) > 0].sum())
            matched_true = int(true[cv2.dilate(found, disc) > 0].sum())
            scores[class_id] = _f1(matched_found, int(found.sum()), matched_true, int(true.sum()))
    return scores


def _boundary(member: NDArray[np.bool_], void: NDArray[np.bool_]) -> NDArray[np.uint8]:
    """Return the pixels of a class (H, W) that touch another one, as 0 or 1."""
    cross = cv2.getStructuringElement(cv2.MORPH_CROSS, (3, 3))
    inside = cv2.erode((member | void).astype(np.uint8), cross)
    return np.asarray(member & ~inside.astype(bool), np.uint8)


def _f1(matched_found: int, found: int, matched_true: int, true: int) -> float:
    precision = matched_found / found if found else 0.0
    recall = matched_true / true if true else 0.0
    return 2 * precision * recall / (precision + recall) if precision + recall else 0.0


@dataclass(frozen=True, kw_only=True)
class Calibration:
    """Cross entropy and calibration, summed over labelled pixels."""

    log_loss_sum: float = 0.0
    """Sum of the negative log probability of the true class, in nats."""
    pixels: NDArray[np.int64] = field(default_factory=lambda: np.zeros(CALIBRATION_BINS, np.int64))
    """Pixels by bin of confidence."""
    confidence_sum: NDArray[np.float64] = field(default_factory=lambda: np.zeros(CALIBRATION_BINS))
    """Probability of the chosen class, by bin."""
    hits: NDArray[np.int64] = field(default_factory=lambda: np.zeros(CALIBRATION_BINS, np.int64))
    """Correct pixels, by bin."""

    @classmethod
    def of(cls, target: NDArray[np.uint8], logits: NDArray[np.float32]) -> "Calibration":
        """Measure one picture.

        Args:
            target: (H, W) ids; ids from C up are ignored.
            logits: (C, H, W).
        """
        labelled = target < logits.shape[0]
        true = target[labelled].astype(np.intp)  # (pixels,)
        scores = logits[:, labelled]  # (C, pixels)
        peak = scores.max(axis=0)
        total = np.exp(scores - peak).sum(axis=0)
        true_score = np.take_along_axis(scores, true[None], axis=0)[0]
        confidence = 1 / total
        bins = np.minimum((confidence * CALIBRATION_BINS).astype(np.intp), CALIBRATION_BINS - 1)
        return cls(
            log_loss_sum=float((peak + np.log(total) - true_score).sum(dtype=np.float64)),
            pixels=np.bincount(bins, minlength=CALIBRATION_BINS),
            confidence_sum=np.bincount(bins, confidence, CALIBRATION_BINS).astype(np.float64),
            hits=np.bincount(bins[true_score == peak], minlength=CALIBRATION_BINS),
        )

    def __add__(self, other: "Calibration") -> "Calibration":
        return Calibration(
            log_loss_sum=self.log_loss_sum + other.log_loss_sum,
            pixels=self.pixels + other.pixels,
            confidence_sum=self.confidence_sum + other.confidence_sum,
            hits=self.hits + other.hits,
        )

    @property
    def cross_entropy(self) -> float:
        """Mean over labelled pixels, in nats, without class weights."""
        total = int(self.pixels.sum())
        return self.log_loss_sum / total if total else float("nan")

    @property
    def calibration_error(self) -> float:
        """Expected calibration error, 0..1: mean distance of confidence and accuracy of the bins.

        Guo et al., arXiv 1706.04599, equation 3.
        """
        total = int(self.pixels.sum())
        gaps = np.abs(self.hits - self.confidence_sum).sum()
        return float(gaps / total) if total else float("nan")


@dataclass(frozen=True, kw_only=True)
class Sureness:
    """What a least confidence would leave of some pictures, summed over labelled pixels."""

    pixels: NDArray[np.int64] = field(default_factory=lambda: np.zeros(256, np.int64))
    """Pixels by confidence, in 8 bits."""
    hits: NDArray[np.int64] = field(default_factory=lambda: np.zeros(256, np.int64))
    """Those of them that are right."""

    @classmethod
    def of(cls, confidence: NDArray[np.uint8], right: NDArray[np.bool_]) -> "Sureness":
        """Measure labelled pixels (n,), given their confidence and whether each is right."""
        pixels = np.bincount(confidence, minlength=256)
        return cls(pixels=pixels, hits=np.bincount(confidence[right], minlength=256))

    def __add__(self, other: "Sureness") -> "Sureness":
        return Sureness(pixels=self.pixels + other.pixels, hits=self.hits + other.hits)

    def painted(self, least: float) -> float:
        """Return the share of the pixels that are at least so sure, 0..1."""
        return self._from(self.pixels, least) / max(int(self.pixels.sum()), 1)

    def right(self, least: float) -> float:
        """Return the share of these that is right, 0..1; NaN if there are none."""
        painted = self._from(self.pixels, least)
        return self._from(self.hits, least) / painted if painted else float("nan")

    def summary(self) -> list[dict[str, float | None]]:
        """Return both by least confidence as JSON values."""
        return [
            {
                "min_confidence": least,
                "painted": finite(self.painted(least)),
                "right": finite(self.right(least)),
            }
            for least in LEAST_CONFIDENCES
        ]

    def _from(self, counts: NDArray[np.int64], least: float) -> int:
        return int(counts[level_of(least) :].sum())


@dataclass(frozen=True, kw_only=True)
class SetScores:
    """Predictions of a model where labels are sets of classes, S of them."""

    names: tuple[str, ...]
    """Names of the sets, S of them."""
    members: NDArray[np.bool_]
    """(S, C), which classes belong to each set."""
    confusion: NDArray[np.int64]
    """(S, C) pixels by (set, prediction)."""

    @property
    def allowed(self) -> NDArray[np.int64]:
        """(S,) pixels whose predicted class is in the set."""
        return np.asarray((self.confusion * self.members).sum(axis=1))

    @property
    def outside(self) -> NDArray[np.int64]:
        """(C,) pixels predicted as a class outside their set."""
        return np.asarray((self.confusion * ~self.members).sum(axis=0))

    @property
    def within(self) -> NDArray[np.float64]:
        """(S,) share of the pixels of each set predicted inside it, NaN without any."""
        return _ratio(self.allowed, np.asarray(self.confusion.sum(axis=1)))

    def summary(self) -> dict[str, float | None]:
        """Return the shares by name as JSON values."""
        return {name: finite(v) for name, v in zip(self.names, self.within, strict=True)}


@dataclass(frozen=True, kw_only=True)
class Scores:
    """The metrics of a model on some pictures."""

    class_names: tuple[str, ...]
    """Names by id, C of them."""
    confusion: NDArray[np.int64]
    """(C, C); rows are the target."""
    sets: SetScores | None = None
    """Scores of pixels whose label is a set of classes, if there are any."""
    calibration: Calibration = field(default_factory=Calibration)
    """Cross entropy and calibration."""
    sureness: Sureness = field(default_factory=Sureness)
    """What a least confidence would leave; nothing is counted of a model that gives ids only."""
    boundary_f1: NDArray[np.float64] = field(default_factory=lambda: np.zeros(0))
    """(C,) mean over the pictures that have the class, or empty if not measured."""

    @property
    def iou(self) -> NDArray[np.float64]:
        """(C,) intersection over union of each class, 0..1, NaN where a class does not occur.

        Where sets of classes occur, a class has an IoU only if some pixels are labelled as it
        alone; it is wrong on those of a set that it is not of. A model that can call a pixel
        unlabelled misses it by that, and unlabelled itself has no IoU.
        """
        iou = _ratio(self._hits, self._found + self._true - self._hits)
        iou = counted(self.class_names, iou)
        return iou if self.sets is None else np.where(self._true > 0, iou, np.nan)

    @property
    def precision(self) -> NDArray[np.float64]:
        """(C,) share of what is predicted as a class that is of it; NaN where it never is."""
        return _ratio(self._hits, self._found)

    @property
    def recall(self) -> NDArray[np.float64]:
        """(C,) share of a class that is found; NaN where there is nothing to find."""
        return _ratio(self._hits, self._true)

    @property
    def miou(self) -> float:
        """Mean IoU over the classes that occur, 0..1."""
        return _mean(self.iou)

    @property
    def mean_boundary_f1(self) -> float:
        """Mean boundary F1 over the classes that occur, 0..1."""
        return _mean(self.boundary_f1)

    @property
    def pixel_accuracy(self) -> float:
        """Share of labelled pixels that are right, 0..1, or of a class that their set allows."""
        right, total = self._hits.sum(), self.confusion.sum()
        if self.sets is not None:
            right, total = right + self.sets.allowed.sum(), total + self.sets.confusion.sum()
        return float(right / total) if total else float("nan")

    @property
    def _hits(self) -> NDArray[np.int64]:
        return np.diag(self.confusion)

    @property
    def _true(self) -> NDArray[np.int64]:
        return np.asarray(self.confusion.sum(axis=1))

    @property
    def _found(self) -> NDArray[np.int64]:
        """(C,) pixels predicted as a class where the label determines whether they are of it."""
        found = np.asarray(self.confusion.sum(axis=0))
        return found if self.sets is None else found + self.sets.outside

    def summary(self) -> dict[str, Any]:
        """Return the metrics as JSON values; what is not a number is null."""
        metrics: dict[str, Any] = {
            "miou": finite(self.miou),
            "pixel_accuracy": finite(self.pixel_accuracy),
            "cross_entropy": finite(self.calibration.cross_entropy),
            "iou": self._by_class(self.iou),
            "precision": self._by_class(self.precision),
            "recall": self._by_class(self.recall),
        }
        if self.sets is not None:
            metrics["within"] = self.sets.summary()
        if self.boundary_f1.size:
            metrics["mean_boundary_f1"] = finite(self.mean_boundary_f1)
            metrics["boundary_f1"] = self._by_class(self.boundary_f1)
            metrics["calibration_error"] = finite(self.calibration.calibration_error)
        if self.sureness.pixels.any():
            metrics["by_min_confidence"] = self.sureness.summary()
        return metrics

    def _by_class(self, values: NDArray[np.float64]) -> dict[str, float | None]:
        return {name: finite(v) for name, v in zip(self.class_names, values, strict=True)}


def counted(class_names: Sequence[str], values: NDArray[np.float64]) -> NDArray[np.float64]:
    """Return the values (C,) of classes with NaN for unlabelled, which is not counted."""
    return np.where([name == UNLABELLED for name in class_names], np.nan, values)


def _ratio(part: NDArray[np.int64], whole: NDArray[np.int64]) -> NDArray[np.float64]:
    with np.errstate(invalid="ignore"):
        return np.asarray(part / whole, np.float64)


def _mean(values: NDArray[np.float64]) -> float:
    occurring = values[~np.isnan(values)]
    return float(occurring.mean()) if occurring.size else float("nan")


def finite(value: float) -> float | None:
    """Return a metric for JSON: None if it is not finite."""
    return float(value) if math.isfinite(value) else None
