"""Steadiness of a video's labels: consistency along the motion, flips, and flicker in place.

These metrics do not measure whether labels are right: a constant class map is perfectly steady.
They are meaningful only beside mIoU.

The motion is Farneback's flow at the frames' own size, not that of `roadseg.segmentation.flow`:
labels filtered along a flow would score too well along the same flow.
"""

import math
from dataclasses import dataclass
from typing import Any

import cv2
import numpy as np
from numpy.typing import NDArray

from roadseg.measure.metrics import Scores, confusion_matrix, finite
from roadseg.segmentation.flow import Flow, Luma, fetch, is_cut, leads_out, residual_of


@dataclass(frozen=True, kw_only=True)
class TemporalScores:
    """Steadiness of labels over some pairs of neighbouring frames."""

    class_names: tuple[str, ...]
    """Names by id, C of them."""
    moved: NDArray[np.int64]
    """(C, C) pixels visible in both frames of a pair; rows are the earlier class, warped."""
    flickers: int = 0
    """Pixels with another class in one frame than in the frames before and after it."""
    watched: int = 0
    """Pixels of frames that have both neighbours."""

    @property
    def by_class(self) -> NDArray[np.float64]:
        """(C,) IoU of each class with itself a frame earlier, warped; NaN if it is absent."""
        return Scores(class_names=self.class_names, confusion=self.moved).iou

    @property
    def consistency(self) -> float:
        """Temporal consistency, 0..1: mean over the classes of their IoU along the motion.

        Liu et al., "Efficient Semantic Video Segmentation with Per-frame Inference" (ETC, ECCV
        2020), section 4.1, and Varghese et al., "Unsupervised Temporal Consistency Metric for Video
        Segmentation in Highly-Automated Driving" (CVPR-W 2020), section 3: the mIoU of a class map
        with its predecessor warped to it by optical flow, nearest neighbour. Here the pixels of all
        pairs are summed before the ratio is taken, and those that the predecessor does not show are
        left out.
        """
        return Scores(class_names=self.class_names, confusion=self.moved).miou

    @property
    def flip_rate(self) -> float:
        """Share of the pixels seen in both frames of a pair that change their class, 0..1."""
        total = self.moved.sum()
        return 1 - float(np.trace(self.moved) / total) if total else math.nan

    @property
    def flicker_rate(self) -> float:
        """Share of pixels that are of another class in one frame than in both its neighbours.

        It does not depend on a flow. Objects that move by their own width between two frames, such
        as distant poles, count too, so ground truth is not at zero.
        """
        return self.flickers / self.watched if self.watched else math.nan

    def __add__(self, other: "TemporalScores") -> "TemporalScores":
        return TemporalScores(
            class_names=self.class_names,
            moved=self.moved + other.moved,
            flickers=self.flickers + other.flickers,
            watched=self.watched + other.watched,
        )

    def summary(self) -> dict[str, Any]:
        """Return the metrics as JSON values; what is not a number is null."""
        by_class = zip(self.class_names, self.by_class, strict=True)
        return {
            "consistency": finite(self.consistency),
            "flip_rate": finite(self.flip_rate),
            "flicker_rate": finite(self.flicker_rate),
            "consistency_by_class": {name: finite(value) for name, value in by_class},
        }


@dataclass(frozen=True, kw_only=True)
class FilmMoment:
    """Scores of one frame of a video."""

    time_s: float
    """The frame's time."""
    by_network: bool
    """Whether the network predicted it."""
    consistency: float
    """With the frame before, 0..1; NaN for the first of a scene."""
    flip_rate: float
    """From the frame before, 0..1; NaN for the first of a scene."""
    miou: float
    """0..1; NaN where the frame has no labels."""


@dataclass(frozen=True, kw_only=True)
class FilmScores:
    """Scores of one model on one video."""

    temporal: TemporalScores
    """Steadiness of the labels."""
    scores: Scores
    """Their scores against ground truth; empty if there is none."""
    moments: tuple[FilmMoment, ...]
    """Frame by frame."""

    @property
    def network_frames(self) -> int:
        """Frames that the network predicted."""
        return sum(moment.by_network for moment in self.moments)

    def summary(self) -> dict[str, Any]:
        """Return the metrics as JSON values; what is not a number is null."""
        return {
            "frames": len(self.moments),
            "network_frames": self.network_frames,
            **self.temporal.summary(),
            **{name: self.scores.summary()[name] for name in ("miou", "pixel_accuracy", "iou")},
        }


class TemporalMeter:
    """Measures the labels of one video, frame by frame.

    Args:
        class_names: Names by id.
    """

    def __init__(self, class_names: tuple[str, ...]) -> None:
        self._names = class_names
        self._luma: Luma | None = None
        self._maps: list[NDArray[np.uint8]] = []

    def add(self, luma: Luma, class_map: NDArray[np.uint8]) -> TemporalScores:
        """Return the scores of a frame; empty if it is the first of a scene.

        Args:
            luma: (H, W) brightness.
            class_map: (H, W) ids.
        """
        before, self._luma = self._luma, luma.copy()  # the plane may be overwritten later
        flow = None if before is None else _flow(luma, before)
        if before is None or flow is None:
            self._maps = [class_map]
            count = len(self._names)
            return TemporalScores(class_names=self._names, moved=np.zeros((count, count), np.int64))
        seen = _seen_before(luma, before, flow)
        moved = fetch(self._maps[-1], flow, cv2.INTER_NEAREST)
        scores = TemporalScores(
            class_names=self._names,
            moved=confusion_matrix(moved[seen], class_map[seen], len(self._names)),
            flickers=self._flickers(class_map),
            watched=class_map.size if len(self._maps) > 1 else 0,
        )
        self._maps = [self._maps[-1], class_map]
        return scores

    def _flickers(self, class_map: NDArray[np.uint8]) -> int:
        """Count the pixels of the last frame that differ from the frame before and this one."""
        if len(self._maps) < 2:
            return 0
        before, middle = self._maps
        return int(((before == class_map) & (middle != class_map)).sum())


def _flow(later: Luma, earlier: Luma) -> Flow | None:
    """Return the flow (H, W, 2) from a frame back to the one before, or None across a cut."""
    if later.shape != earlier.shape:
        return None
    flow = _farneback(later, earlier)
    return None if is_cut(later, residual_of(later, earlier, flow)) else flow


def _seen_before(later: Luma, earlier: Luma, back: Flow) -> NDArray[np.bool_]:
    """Return where (H, W) the earlier frame shows the same point as the later one.

    There the flows in both directions cancel out (Sundaram, Brox and Keutzer, ECCV 2010,
    equation 5).
    """
    forth = fetch(_farneback(earlier, later), back, cv2.INTER_LINEAR)
    lengths = (back**2).sum(axis=2) + (forth**2).sum(axis=2)
    agrees = ((back + forth) ** 2).sum(axis=2) < 0.01 * lengths + 0.5
    return np.asarray(agrees & ~leads_out(back), np.bool_)


def _farneback(later: Luma, earlier: Luma) -> Flow:
    """Return the flow from one picture back to another (Farneback, SCIA 2003)."""
    flow = cv2.calcOpticalFlowFarneback(
        later,
        earlier,
        None,  # type: ignore[call-overload]
        pyr_scale=0.5,
        levels=5,
        winsize=21,
        iterations=5,
        poly_n=7,
        poly_sigma=1.5,
        flags=0,
    )
    return np.asarray(flow, np.float32)
