"""The splits of a training run, and the classes and the loss to learn them by."""

import hashlib
import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace

import torch

from roadseg.data.folder import ClassCounts, FolderDataset
from roadseg.data.sets import LabelSpace, classes_named
from roadseg.data.source import DataSource
from roadseg.spec import ModelSpec, choose
from roadseg.train.config import TrainConfig
from roadseg.train.loader import Mixture, Sampling
from roadseg.train.losses import CLASS_WEIGHTS, Criterion

LOG_KEYS = ("epoch", "step", "lr", "train", "val", "holdout")
"""Keys of a line of the run's log, after which no other data are named there."""


@dataclass(frozen=True, kw_only=True)
class TrainData:
    """The splits of a run, with the targets of one label space."""

    space: LabelSpace
    """The classes, and the sets of them in coarser data."""
    mixture: Mixture
    """Data sets for training."""
    measured: Mapping[str, FolderDataset]
    """Splits for validation: "val", "holdout" for a held-out sequence, and other data by name."""
    counts: ClassCounts
    """Pixels of the classes in the first training split."""
    pixels: Mapping[str, list[int]]
    """Pixels of each label in each split, by which the data are recognised."""
    sha256: str
    """Digest of the names of labels and pictures, in order, and of the pixels in each picture."""

    @classmethod
    def open(cls, config: TrainConfig) -> "TrainData":
        """Read all labels once and count.

        Raises:
            DatasetError: Data are missing or inconsistent.
            ConfigError: The data sets cannot share a batch as asked for.
        """
        sources = [DataSource.parse(text) for text in config.data]
        train, measured = _splits(sources, config.holdout_sequence)
        mixture = Mixture.of(
            list(train.values()), [source.share for source in sources], config.batch_size
        )
        meanings = [dataset.meaning for dataset in train.values()]
        space = LabelSpace.of(classes_named(meanings[0]), meanings)
        train = {name: dataset.in_terms_of(space) for name, dataset in train.items()}
        measured = {name: dataset.in_terms_of(space) for name, dataset in measured.items()}
        splits = {**measured, **train}
        counts = {name: dataset.check() for name, dataset in splits.items()}
        return cls(
            space=space,
            mixture=replace(mixture, datasets=tuple(train.values())),
            measured=measured,
            counts=counts["train"].of_classes(space.members),
            pixels={name: found.pixels.tolist() for name, found in counts.items()},
            sha256=_digest(space, splits, counts),
        )

    def metric_on(self, split: str) -> str:
        """Return the metric by which weights are compared on a split, a key of its metrics.

        Where sets of classes alone are labelled, there is no IoU.
        """
        is_labelled = any(self.pixels[split][: len(self.space.classes)])
        return "miou" if is_labelled else "pixel_accuracy"

    def spec(self, config: TrainConfig) -> ModelSpec:
        """Return the record of the model to train, with the classes of the data."""
        classes = self.space.classes
        return replace(
            config.spec,
            class_names=tuple(c.name for c in classes),
            palette=tuple(c.color for c in classes),
        )

    def sampling(self, config: TrainConfig) -> Sampling:
        """Return how samples are drawn."""
        return Sampling(
            crop_hw=config.crop_hw,
            augmentation=config.augment,
            rare=self.counts.rare,
            seed=config.seed,
        )

    def criterion(self, config: TrainConfig) -> Criterion:
        """Return the loss."""
        weigh = choose(CLASS_WEIGHTS, config.class_weights, "--class-weights")
        weights = weigh(self.counts.pixels, self.counts.shared_pixels)
        return Criterion(
            loss=config.loss,
            class_weights=torch.from_numpy(weights),
            sets=torch.from_numpy(self.space.members) if self.space.sets else None,
        )


def _digest(
    space: LabelSpace, splits: Mapping[str, FolderDataset], counts: Mapping[str, ClassCounts]
) -> str:
    """Return a digest of what a run depends on: what is learnt, and what is drawn in which order.

    It is the same wherever the data lie.
    """
    told = [[label.name for label in space.labels]] + [
        [[path.name for path in dataset.image_paths], counts[name].per_picture.tolist()]
        for name, dataset in splits.items()
    ]
    return hashlib.sha256(json.dumps(told).encode()).hexdigest()


def _splits(
    sources: Sequence[DataSource], holdout_sequence: str | None
) -> tuple[dict[str, FolderDataset], dict[str, FolderDataset]]:
    """Return the splits for training and for validation, by name; the first are the main data.

    Of further data that are a single drive, nothing is set aside to measure on.

    Raises:
        DatasetError: A split is missing, or there is no such sequence.
    """
    train: dict[str, FolderDataset] = {}
    measured: dict[str, FolderDataset] = {}
    for number, source in enumerate(sources):
        is_taken = source.name in (*LOG_KEYS, *measured)
        name = f"{source.name} {number + 1}" if is_taken else source.name
        if number and source.is_one_drive:
            train[f"{name} {number + 1} train"] = source.open("train")
            continue
        val = source.open("val")
        rest = source.open("train").without(val)
        if number == 0 and holdout_sequence is not None:
            rest, measured["holdout"] = rest.hold_out(holdout_sequence)
        train["train" if number == 0 else f"{name} train"] = rest
        measured["val" if number == 0 else name] = val
    return train, measured
