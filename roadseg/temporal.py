"""How steady the labels of a film are: consistency along the motion, flips, and flicker in place.

None of these figures says whether a label is right: a film of one class is perfectly steady. So
they stand beside mIoU, or mean nothing.

The motion is Farneback's flow at the frames' own size, another method than `roadseg.motion` has:
labels that were moved or filtered along one flow would flatter themselves by the same one.
"""

import math
from dataclasses import dataclass
from typing import Any

import cv2
import numpy as np
from numpy.typing import NDArray

from roadseg.metrics import Scores, confusion_matrix

LEAST_VISIBLE = 0.5
"""With less of a frame to be found in the one before, the two are of different scenes."""


@dataclass(frozen=True, kw_only=True)
class TemporalScores:
    """How steady labels are over some pairs of neighbouring frames."""

    class_names: tuple[str, ...]
    """Names by id, C of them."""
    moved: NDArray[np.int64]
    """(C, C) pixels seen in both frames of a pair; rows are the earlier class, moved along."""
    flickers: int = 0
    """Pixels whose class is another in one frame than in those before and after it."""
    watched: int = 0
    """Pixels that could have flickered: all of the frames that have both neighbours."""

    @property
    def by_class(self) -> NDArray[np.float64]:
        """(C,) IoU of each class with itself a frame earlier, moved along; NaN where it is not."""
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

        It needs no flow, and so owes nothing to one. What moves by a whole width of itself between
        two frames, such as a distant pole, counts too: labels drawn by hand are not at zero.
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
        """Return the figures as JSON values; what is not a number is null."""
        by_class = zip(self.class_names, self.by_class, strict=True)
        return {
            "consistency": _finite(self.consistency),
            "flip_rate": _finite(self.flip_rate),
            "flicker_rate": _finite(self.flicker_rate),
            "consistency_by_class": {name: _finite(value) for name, value in by_class},
        }


@dataclass(frozen=True, kw_only=True)
class FilmMoment:
    """One frame's part in the measurement of a film."""

    time_s: float
    """The frame's time."""
    by_network: bool
    """Whether the network looked at it."""
    consistency: float
    """With the frame before, 0..1; NaN for the first of a scene."""
    flip_rate: float
    """From the frame before, 0..1; NaN for the first of a scene."""
    miou: float
    """0..1; NaN where the frame has no labels."""


@dataclass(frozen=True, kw_only=True)
class FilmScores:
    """A measurement of one model on one film."""

    temporal: TemporalScores
    """How steady the labels are."""
    scores: Scores
    """How right they are; without figures where the film has no labels."""
    moments: tuple[FilmMoment, ...]
    """Frame by frame."""

    @property
    def network_frames(self) -> int:
        """Frames that the network looked at."""
        return sum(moment.by_network for moment in self.moments)

    def summary(self) -> dict[str, Any]:
        """Return the figures as JSON values; what is not a number is null."""
        return {
            "frames": len(self.moments),
            "network_frames": self.network_frames,
            **self.temporal.summary(),
            **{name: self.scores.summary()[name] for name in ("miou", "pixel_accuracy", "iou")},
        }


class TemporalMeter:
    """Measures the labels of one film, frame by frame.

    Args:
        class_names: Names by id.
    """

    def __init__(self, class_names: tuple[str, ...]) -> None:
        self._names = class_names
        self._luma: NDArray[np.uint8] | None = None
        self._maps: list[NDArray[np.uint8]] = []

    def add(self, luma: NDArray[np.uint8], class_map: NDArray[np.uint8]) -> TemporalScores:
        """Return what a frame adds: nothing if it is the first of a scene.

        Args:
            luma: (H, W) brightness.
            class_map: (H, W) ids.
        """
        before, self._luma = self._luma, luma.copy()  # a plane may be written to once it is out
        count = len(self._names)
        nothing = TemporalScores(class_names=self._names, moved=np.zeros((count, count), np.int64))
        seen = None
        if before is not None and before.shape == luma.shape:
            flow, seen = _visible_motion(luma, before)
        if seen is None or seen.mean() < LEAST_VISIBLE:
            self._maps = [class_map]
            return nothing
        moved = _remap(self._maps[-1], flow, cv2.INTER_NEAREST)
        scores = TemporalScores(
            class_names=self._names,
            moved=confusion_matrix(moved[seen], class_map[seen], count),
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


def _visible_motion(
    later: NDArray[np.uint8], earlier: NDArray[np.uint8]
) -> tuple[NDArray[np.float32], NDArray[np.bool_]]:
    """Return the flow back (H, W, 2), and where the earlier frame shows what the later one does.

    There the flow forth leads back to where it came from (Sundaram, Brox and Keutzer, ECCV 2010,
    equation 5).
    """
    back, forth = _farneback(later, earlier), _farneback(earlier, later)
    returned = back + _remap(forth, back, cv2.INTER_LINEAR)
    lengths = (back**2).sum(axis=2) + ((returned - back) ** 2).sum(axis=2)
    agrees = (returned**2).sum(axis=2) < 0.01 * lengths + 0.5
    height, width = later.shape
    x, y = _positions(back)
    inside = (x >= 0) & (y >= 0) & (x <= width - 1) & (y <= height - 1)
    return back, agrees & inside


def _farneback(later: NDArray[np.uint8], earlier: NDArray[np.uint8]) -> NDArray[np.float32]:
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


def _remap(values: NDArray[Any], flow: NDArray[np.float32], interpolation: int) -> NDArray[Any]:
    x, y = _positions(flow)
    return np.asarray(cv2.remap(values, x, y, interpolation, borderMode=cv2.BORDER_REPLICATE))


def _positions(flow: NDArray[np.float32]) -> tuple[NDArray[np.float32], NDArray[np.float32]]:
    """Return the columns and rows (H, W) where flow leads."""
    height, width = flow.shape[:2]
    columns = np.arange(width, dtype=np.float32)
    rows = np.arange(height, dtype=np.float32)
    return flow[..., 0] + columns, flow[..., 1] + rows[:, None]


def _finite(value: float) -> float | None:
    return float(value) if math.isfinite(value) else None
