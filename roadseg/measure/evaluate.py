"""Evaluate a model on the pictures of a labelled split, or on a video.

Metrics are computed at the pictures' own size, on the class maps that a user would get.
"""

from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, replace
from fractions import Fraction
from itertools import groupby
from operator import itemgetter
from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray

from roadseg.backends.runtimes import Backend
from roadseg.data.folder import FolderDataset
from roadseg.data.sets import LabelSpace
from roadseg.measure.metrics import (
    Calibration,
    Scores,
    SetScores,
    Sureness,
    boundary_f1,
    confusion_matrix,
    counted,
)
from roadseg.measure.steadiness import FilmMoment, FilmScores, TemporalMeter, TemporalScores
from roadseg.segmentation.confidence import Confidence
from roadseg.segmentation.config import ModelConfig
from roadseg.segmentation.label import label
from roadseg.segmentation.placement import placed
from roadseg.spec import IGNORE_INDEX, ModelSpec, SegClass, as_shown
from roadseg.video.frame import Frame, SegmentedFrame
from roadseg.video.read.upright import picture_of


class PicturePrediction(NamedTuple):
    """What a network predicts for a picture, at its size."""

    class_map: NDArray[np.uint8]
    """(H, W)."""
    logits: NDArray[np.float32]
    """(C, H, W)."""
    confidence: NDArray[np.uint8]
    """(H, W), 255 is certain; by it, what is too unsure is left out of an overlay."""


@dataclass(frozen=True, kw_only=True)
class PictureScore:
    """Score of one picture."""

    index: int
    """Position in the split."""
    name: str
    """File name without suffix."""
    miou: float
    """Mean IoU over the classes that occur in the picture or its prediction, 0..1."""


@dataclass(frozen=True, kw_only=True)
class Evaluation:
    """Scores of one model on one split."""

    scores: Scores
    """Over all pictures."""
    pictures: tuple[PictureScore, ...]
    """Of each picture, in the split's order."""

    def worst(self, count: int) -> list[PictureScore]:
        """Return the pictures with the lowest mIoU, the lowest first."""
        return [self.pictures[index] for index in worst_together([self], count)]


def worst_together(evaluations: Sequence[Evaluation], count: int) -> list[int]:
    """Return the positions of the pictures with the lowest mean mIoU of some models.

    Pictures without labelled pixels are left out.
    """
    means = np.mean([[p.miou for p in found.pictures] for found in evaluations], axis=0)
    order = np.argsort(means, kind="stable")
    return [int(index) for index in order[: min(count, np.isfinite(means).sum())]]


def wrong_pixels(
    target: NDArray[np.uint8], class_map: NDArray[np.uint8], allowed: NDArray[np.bool_]
) -> NDArray[np.uint8]:
    """Return a class map (H, W) with `IGNORE_INDEX` where it is right.

    Args:
        target: (H, W) labels.
        class_map: (H, W) class ids.
        allowed: (labels, C), which classes are right for each label.
    """
    table = np.ones((IGNORE_INDEX + 1, allowed.shape[1]), bool)
    table[: len(allowed)] = allowed
    return np.where(table[target, class_map], np.uint8(IGNORE_INDEX), class_map)


def evaluate(
    backend: Backend,
    dataset: FolderDataset,
    size_hw: tuple[int, int] | None = None,
    on_picture: Callable[[int], None] = lambda _done: None,
    batch_size: int = 1,
) -> Evaluation:
    """Predict every picture of a split and compute scores.

    Pictures reach the network as frames of `roadseg infer` do, at one scale and without flipping;
    class maps are resized to the labels' size before they are compared.

    Args:
        backend: Model to measure.
        dataset: Labelled split.
        size_hw: Network input; None chooses for each picture as `roadseg infer` does.
        on_picture: Called with the number of pictures done.
        batch_size: Most pictures in a batch; more than one suit a GPU.

    Raises:
        DatasetError: The labels are of classes that the model does not know.
    """
    names = backend.spec.class_names
    space = label_space(backend.spec, dataset)
    dataset = dataset.in_terms_of(space)
    members = space.members if space.sets else None
    confusion = np.zeros((len(space.labels), len(names)), np.int64)
    calibration, sureness = Calibration(), Sureness()
    boundaries: list[NDArray[np.float64]] = []
    pictures: list[PictureScore] = []
    predicted = _predicted(backend, dataset, size_hw, batch_size)
    for index, (target, found) in enumerate(predicted):
        counts = confusion_matrix(target, found.class_map, len(names), len(space.labels))
        confusion += counts
        calibration += Calibration.of(target, found.logits)
        if not backend.spec.gives_ids:
            sureness += _sureness(target, found, space.allowed)
        boundaries.append(boundary_f1(target, found.class_map, len(names), members))
        miou = _scores(space, counts).miou
        name = dataset.image_paths[index].stem
        pictures.append(PictureScore(index=index, name=name, miou=miou))
        on_picture(index + 1)
    scores = replace(
        _scores(space, confusion),
        calibration=calibration,
        sureness=sureness,
        boundary_f1=counted(names, _mean_of_present(np.stack(boundaries))),
    )
    return Evaluation(scores=scores, pictures=tuple(pictures))


def _sureness(
    target: NDArray[np.uint8], found: PicturePrediction, allowed: NDArray[np.bool_]
) -> Sureness:
    """Measure one picture, given which classes are right for each label (labels, C)."""
    labelled = target < len(allowed)
    right = allowed[target[labelled], found.class_map[labelled]]
    return Sureness.of(found.confidence[labelled], right)


def label_space(spec: ModelSpec, dataset: FolderDataset) -> LabelSpace:
    """Return a model's classes, in the data set's colours, and the sets of them among its labels.

    Raises:
        DatasetError: The labels are of classes that the model does not know.
    """
    labels = {label.name: label for label in dataset.meaning.classes}
    colors = zip(spec.class_names, spec.palette, strict=True)
    classes = [labels.get(name) or SegClass(name=name, color=color) for name, color in colors]
    return LabelSpace.of(as_shown(classes), [dataset.meaning])


def _scores(space: LabelSpace, confusion: NDArray[np.int64]) -> Scores:
    """Return the scores of counts (C + S, C) by label."""
    num_classes = len(space.classes)
    sets = SetScores(
        names=tuple(label.name for label in space.sets),
        members=space.members,
        confusion=confusion[num_classes:],
    )
    return Scores(
        class_names=tuple(c.name for c in space.classes),
        confusion=confusion[:num_classes],
        sets=sets if space.sets else None,
    )


def evaluate_split_as_film(
    backend: Backend,
    dataset: FolderDataset,
    fps: Fraction,
    config: ModelConfig,
    on_frame: Callable[[int], None] = lambda _done: None,
    *,
    can_wait: bool = True,
) -> FilmScores:
    """Label a split's sequences as videos and compute scores.

    A sequence's pictures are its frames, in the order of their names.

    Args:
        backend: Model to measure.
        dataset: Labelled split.
        fps: Pictures a second.
        config: Settings of the labels; its model is not used.
        on_frame: Called with the number of frames done.
        can_wait: Label as a video file; otherwise as a live view, which waits for no frame.

    Raises:
        DatasetError: The labels are of classes that the model does not know.
    """
    names = backend.spec.class_names
    dataset = dataset.in_terms_of(label_space(backend.spec, dataset))
    film = _FilmMeter(names, on_frame)
    for part in dataset.by_sequence():
        frames = (Frame(picture_of(part[index][0]), index, 1 / fps) for index in range(len(part)))
        film.begin()
        for item in label(frames, backend, config, can_wait=can_wait):
            film.add(item, part[item.frame.pts][1])
    return film.result()


def evaluate_film(
    backend: Backend,
    frames: Iterator[Frame],
    config: ModelConfig,
    on_frame: Callable[[int], None] = lambda _done: None,
) -> FilmScores:
    """Label a video and measure the steadiness of its labels.

    Args:
        backend: Model to measure.
        frames: The video.
        config: Settings of the labels; its model is not used.
        on_frame: Called with the number of frames done.
    """
    film = _FilmMeter(backend.spec.class_names, on_frame)
    for item in label(frames, backend, config, can_wait=True):
        film.add(item, None)
    return film.result()


class _FilmMeter:
    """Accumulates the scores of a video, frame by frame."""

    def __init__(self, names: tuple[str, ...], on_frame: Callable[[int], None]) -> None:
        self._names = names
        self._on_frame = on_frame
        nothing = np.zeros((len(names), len(names)), np.int64)
        self._confusion = nothing.copy()
        self._total = TemporalScores(class_names=names, moved=nothing)
        self._moments: list[FilmMoment] = []
        self.begin()

    def begin(self) -> None:
        """Begin another video."""
        self._meter = TemporalMeter(self._names)

    def add(self, item: SegmentedFrame, target: NDArray[np.uint8] | None) -> None:
        """Count a frame, with its labels if there are any."""
        temporal = self._meter.add(item.frame.picture.luma(), item.class_map)
        counts = np.zeros_like(self._confusion)
        if target is not None:
            counts = confusion_matrix(target, item.class_map, len(self._names))
        self._total += temporal
        self._confusion += counts
        self._moments.append(
            FilmMoment(
                time_s=item.frame.time_s,
                by_network=item.by_network,
                consistency=temporal.consistency,
                flip_rate=temporal.flip_rate,
                miou=Scores(class_names=self._names, confusion=counts).miou,
            )
        )
        self._on_frame(len(self._moments))

    def result(self) -> FilmScores:
        """Return the scores of all frames."""
        return FilmScores(
            temporal=self._total,
            scores=Scores(class_names=self._names, confusion=self._confusion),
            moments=tuple(self._moments),
        )


def predict_picture(
    backend: Backend, picture: NDArray[np.uint8], size_hw: tuple[int, int] | None = None
) -> PicturePrediction:
    """Predict one picture, (H, W, 3) RGB, at its own size."""
    (prediction,) = predict_pictures(backend, [picture], size_hw)
    return prediction


def predict_pictures(
    backend: Backend,
    pictures: Sequence[NDArray[np.uint8]],
    size_hw: tuple[int, int] | None = None,
) -> Iterator[PicturePrediction]:
    """Predict pictures, (H, W, 3) RGB, at their own sizes; neighbours of one size as a batch."""
    frames = map(Frame.still, map(picture_of, pictures))
    inputs = ((frame.picture, *placed(frame, backend.spec, size_hw)) for frame in frames)
    for placement, alike in groupby(inputs, key=itemgetter(1)):
        shown, _, batch = zip(*alike, strict=True)
        found = backend.run(np.concatenate(batch), ("class_map", "logits"))
        for picture, class_map, logits in zip(shown, found.class_map, found.logits, strict=True):
            yield PicturePrediction(
                placement.restore(class_map),
                placement.restore_logits(logits),
                Confidence.of(logits, placement, picture).at(placement.frame_hw),
            )


def _predicted(
    backend: Backend, dataset: FolderDataset, size_hw: tuple[int, int] | None, batch_size: int
) -> Iterator[tuple[NDArray[np.uint8], PicturePrediction]]:
    """Yield the target and the prediction of each picture of a split, in order."""
    for first in range(0, len(dataset), batch_size):
        samples = [dataset[i] for i in range(first, min(first + batch_size, len(dataset)))]
        predictions = predict_pictures(backend, [picture for picture, _ in samples], size_hw)
        yield from zip((target for _, target in samples), predictions, strict=True)


def _mean_of_present(values: NDArray[np.float64]) -> NDArray[np.float64]:
    """Return the means of the columns of (pictures, C) without their NaNs."""
    present = ~np.isnan(values)
    counts = present.sum(axis=0)
    sums = np.where(present, values, 0).sum(axis=0)
    return np.where(counts, sums / np.maximum(counts, 1), np.nan)
