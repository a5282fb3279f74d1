"""Training batches as a pure function of seed and step, so that a run can go on anywhere."""

from collections.abc import Iterator, Sequence
from dataclasses import dataclass

import numpy as np
import torch
from torch import Tensor
from torch.utils.data import DataLoader, Dataset, Sampler

from roadseg.data.augment import Sample, augment, paste_classes
from roadseg.data.folder import FolderDataset
from roadseg.train_config import AugmentConfig

Position = tuple[int, int]
"""Epoch and index of a sample."""


@dataclass(frozen=True)
class _Samples(Dataset[tuple[Tensor, Tensor]]):
    """Augmented samples by position."""

    dataset: FolderDataset
    crop_hw: tuple[int, int]
    augmentation: AugmentConfig
    rare: Sequence[int]
    seed: int

    def __getitem__(self, position: Position) -> tuple[Tensor, Tensor]:
        rng = np.random.default_rng([self.seed, *position])
        picture, target = self._draw(position[1], rng)
        if rng.random() < self.augmentation.mix:
            other = int(rng.integers(len(self.dataset)))
            picture, target = paste_classes(
                (picture, target), self._draw(other, rng), self.rare, rng
            )
        return torch.from_numpy(picture), torch.from_numpy(target).long()

    def _draw(self, index: int, rng: np.random.Generator) -> Sample:
        return augment(*self.dataset[index], self.crop_hw, self.augmentation, self.rare, rng)


@dataclass(frozen=True)
class _Batches(Sampler[list[Position]]):
    """Positions of every batch from a step on; each epoch is shuffled anew and its rest dropped."""

    num_samples: int
    batch_size: int
    steps_per_epoch: int
    epochs: int
    first_step: int
    seed: int

    def __iter__(self) -> Iterator[list[Position]]:
        for step in range(self.first_step, self.epochs * self.steps_per_epoch):
            epoch, batch = divmod(step, self.steps_per_epoch)
            order = np.random.default_rng([self.seed, epoch]).permutation(self.num_samples)
            # A split smaller than a batch is repeated to fill it.
            order = np.resize(order, max(self.num_samples, self.batch_size))
            chosen = order[batch * self.batch_size : (batch + 1) * self.batch_size]
            yield [(epoch, int(index)) for index in chosen]


def steps_per_epoch(dataset: FolderDataset, batch_size: int) -> int:
    """Return the full batches in a pass over the data, at least one."""
    return max(len(dataset) // batch_size, 1)


def batches(
    dataset: FolderDataset,
    *,
    crop_hw: tuple[int, int],
    augmentation: AugmentConfig,
    rare: Sequence[int],
    batch_size: int,
    epochs: int,
    first_step: int,
    seed: int,
    workers: int,
) -> Iterator[tuple[Tensor, Tensor]]:
    """Yield batches from `first_step` to the end of the last epoch.

    `rare` holds the ids of the classes that `augmentation` favours.

    Yields:
        Frames (N, H, W, 3) uint8 RGB and target (N, H, W) int64.
    """
    sampler = _Batches(
        len(dataset), batch_size, steps_per_epoch(dataset, batch_size), epochs, first_step, seed
    )
    samples = _Samples(dataset, crop_hw, augmentation, rare, seed)
    # Forking is not safe where a runtime, such as OpenVINO, has threads in this process.
    context = "spawn" if workers else None
    yield from DataLoader(
        samples, batch_sampler=sampler, num_workers=workers, multiprocessing_context=context
    )
