"""Training batches as a pure function of seed and step, so that a run can be resumed anywhere."""

from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, replace

import cv2
import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor
from torch.utils.data import DataLoader, Dataset, Sampler

from roadseg.backends.machine import core_count, memory_bytes
from roadseg.data.folder import FolderDataset
from roadseg.errors import ConfigError, RoadsegError
from roadseg.train.augment import augment, low_frequencies_of, paste_classes
from roadseg.train.config import AugmentConfig
from roadseg.train.looks import Sample
from roadseg.train.ranks import ALONE, Ranks

Position = tuple[int, int, int]
"""Pass over a data set, index of a sample, and number of the data set.

It seeds the sample; NumPy takes a seed that ends in zeros for one without them, so that the samples
of the first data set are those that it has when alone.
"""


MEMORY_SHARE = 0.25
"""Share of the machine's memory that decoded pictures may fill, in all processes together."""
UNKNOWN_MEMORY_BYTES = 4 << 30
"""Memory assumed where the system does not report it."""
SHARE_TOLERANCE = 1e-6
"""Tolerance of the sum of shares."""
MOST_WORKERS = 14
"""Most processes that prepare samples for a rank, by default."""


@dataclass(frozen=True)
class Mixture:
    """Data sets and how many samples of each a batch has.

    The first one defines the epochs, and its classes are pasted on samples.
    """

    datasets: tuple[FolderDataset, ...]
    """The data sets."""
    counts: tuple[int, ...]
    """Samples of each in a batch."""

    @classmethod
    def of(
        cls, datasets: Sequence[FolderDataset], shares: Sequence[float | None], batch_size: int
    ) -> "Mixture":
        """Divide a batch by shares; data sets without one have what is left in equal parts.

        Raises:
            ConfigError: The shares are more than the whole or less, or one gets no sample.
        """
        free = sum(share is None for share in shares)
        left = 1 - sum(share or 0 for share in shares)
        fits = left > SHARE_TOLERANCE if free else abs(left) < SHARE_TOLERANCE
        if not fits:
            need = "less than 1, as others have what is left" if free else "1"
            raise ConfigError(
                f"the shares of --data make {1 - left:.3g} together; they must make {need}; change "
                "one"
            )
        whole = [left / free if share is None else share for share in shares]
        ends = [round(sum(whole[: i + 1]) * batch_size) for i in range(len(whole))]
        counts = tuple(np.diff([0, *ends]).tolist())
        if 0 in counts:
            raise ConfigError(
                f"the shares of --data give {', '.join(map(str, counts))} samples of a batch of "
                f"{batch_size}, and each data set needs one; raise --batch-size or the share"
            )
        return cls(tuple(datasets), counts)

    @property
    def steps_per_epoch(self) -> int:
        """The full batches in a pass over the first data set, at least one."""
        return max(len(self.datasets[0]) // self.counts[0], 1)


class _Decoded:
    """The pairs of a data set, kept in memory after they are read, as long as there is room."""

    def __init__(self, dataset: FolderDataset, room_bytes: int) -> None:
        self._dataset = dataset
        self._room_bytes = room_bytes
        self._kept: dict[int, Sample] = {}

    def __len__(self) -> int:
        return len(self._dataset)

    def __getitem__(self, index: int) -> Sample:
        if index in self._kept:
            return self._kept[index]
        sample = self._dataset[index]
        size_bytes = sum(part.nbytes for part in sample)
        if size_bytes <= self._room_bytes:
            self._room_bytes -= size_bytes
            self._kept[index] = sample
        return sample


@dataclass(frozen=True, kw_only=True)
class Sampling:
    """How samples are drawn from the data."""

    crop_hw: tuple[int, int]
    """Height and width of a sample."""
    augmentation: AugmentConfig
    """How they are changed."""
    rare: Sequence[int]
    """Ids of the classes that are favoured."""
    seed: int
    """Seed of the order and of the changes."""


@dataclass(frozen=True)
class _Samples(Dataset[tuple[Tensor, Tensor]]):
    """Augmented samples by position."""

    datasets: Sequence[_Decoded]
    sampling: Sampling
    picture_hw: tuple[int, int]
    """Size of the first data set's pictures, to which those of others are scaled."""

    def __getitem__(self, position: Position) -> tuple[Tensor, Tensor]:
        rng = np.random.default_rng([self.sampling.seed, *position])
        _, index, number = position
        shares = self.sampling.augmentation
        picture, target = self._draw(number, index, rng)
        if rng.random() < shares.mix:
            other = int(rng.integers(len(self.datasets[0])))
            picture, target = paste_classes(
                (picture, target), self._draw(0, other, rng), self.sampling.rare, rng
            )
        if number == 0 and rng.random() < shares.fourier:
            picture = low_frequencies_of(self._stranger(rng), picture, rng)
        return torch.from_numpy(picture), torch.from_numpy(target).long()

    def _draw(self, number: int, index: int, rng: np.random.Generator) -> Sample:
        picture, target = self.datasets[number][index]
        changes = self.sampling.augmentation
        if number > 0:
            zoom = min(np.divide(self.picture_hw, target.shape))
            changes = replace(changes, scale=(zoom * changes.scale[0], zoom * changes.scale[1]))
        return augment(picture, target, self.sampling.crop_hw, changes, self.sampling.rare, rng)

    def _stranger(self, rng: np.random.Generator) -> NDArray[np.uint8]:
        """Return a picture of another data set, or of the only one."""
        others = self.datasets[1:] or self.datasets
        dataset = others[int(rng.integers(len(others)))]
        return dataset[int(rng.integers(len(dataset)))][0]


@dataclass(frozen=True)
class _Batches(Sampler[list[Position]]):
    """Positions of every batch from a step on; every pass over a data set is shuffled anew."""

    mixture: Mixture
    epochs: int
    first_step: int
    seed: int
    places: Sequence[int]
    """Places in a batch to yield, in order."""

    def __iter__(self) -> Iterator[list[Position]]:
        for step in range(self.first_step, self.epochs * self.mixture.steps_per_epoch):
            batch = self._of_the_first(step)
            for number in range(1, len(self.mixture.datasets)):
                batch += self._of_another(number, step)
            yield [batch[place] for place in self.places]

    def _of_the_first(self, step: int) -> list[Position]:
        """Return the part of the first data set, without the rest of an epoch."""
        size, count = len(self.mixture.datasets[0]), self.mixture.counts[0]
        epoch, batch = divmod(step, self.mixture.steps_per_epoch)
        # A split smaller than a batch is repeated to fill it.
        order = np.resize(self._order(0, epoch), max(size, count))
        chosen = order[batch * count : (batch + 1) * count]
        return [(epoch, int(index), 0) for index in chosen]

    def _of_another(self, number: int, step: int) -> list[Position]:
        """Return the part of another data set, which is repeated without gaps."""
        size, count = len(self.mixture.datasets[number]), self.mixture.counts[number]
        places = (divmod(i, size) for i in range(step * count, (step + 1) * count))
        return [(turn, int(self._order(number, turn)[i]), number) for turn, i in places]

    def _order(self, number: int, turn: int) -> NDArray[np.int64]:
        rng = np.random.default_rng([self.seed, turn, 0, number])
        return rng.permutation(len(self.mixture.datasets[number]))


def suited_workers(device: torch.device, ranks: Ranks = ALONE) -> int:
    """Return how many processes should prepare samples for each rank.

    With a GPU they have the cores to themselves. On a CPU, a step takes many times as long as its
    samples, and processes would gain nothing.
    """
    if device.type != "cuda":
        return 0
    return min(max(core_count() // ranks.local_count - 1, 1), MOST_WORKERS)


def batches(
    mixture: Mixture,
    sampling: Sampling,
    *,
    epochs: int,
    first_step: int,
    workers: int,
    parts: int = 1,
    ranks: Ranks = ALONE,
) -> Iterator[tuple[Tensor, Tensor]]:
    """Yield batches from a step to the end of the last epoch, or a rank's parts of them.

    Args:
        mixture: The data sets.
        sampling: How samples are drawn from them.
        epochs: Passes over the first data set.
        first_step: The step.
        workers: Processes that prepare samples for each rank; 0 prepares them in this one.
        parts: Parts of a batch, which the ranks share.
        ranks: All ranks, of which this process is one.

    Yields:
        Frames (N, H, W, 3) uint8 RGB and target (N, H, W) int64, in pinned memory if there is a
        GPU to copy them to.

    Raises:
        DatasetError: A picture or a label cannot be read any more.
    """
    places = ranks.places(sum(mixture.counts), parts)
    sampler = _Batches(mixture, epochs, first_step, sampling.seed, places)
    datasets = _kept_decoded(mixture.datasets, ranks.local_count * max(workers, 1))
    picture_hw = datasets[0][0][1].shape
    samples = _Samples(datasets, sampling, picture_hw)
    with _worker_errors():
        yield from DataLoader(
            samples,
            batch_sampler=sampler,
            num_workers=workers,
            # Forking is not safe where a runtime, such as OpenVINO, has threads in this process.
            multiprocessing_context="spawn" if workers else None,
            worker_init_fn=keep_opencv_on_one_thread,
            pin_memory=torch.cuda.is_available(),
        )


@contextmanager
def _worker_errors() -> Iterator[None]:
    """Leave out the traceback that PyTorch puts before what a process for samples says."""
    try:
        yield
    except RoadsegError as error:
        *traceback, said = str(error).rstrip().splitlines()
        if not traceback:
            raise
        raise type(error)(said.partition(": ")[2]) from error


def _kept_decoded(datasets: Sequence[FolderDataset], processes: int) -> list[_Decoded]:
    """Return the data sets with their room in memory, in each of so many processes."""
    known_bytes = memory_bytes() or UNKNOWN_MEMORY_BYTES
    room_bytes = known_bytes * MEMORY_SHARE / processes / len(datasets)
    return [_Decoded(dataset, int(room_bytes)) for dataset in datasets]


def keep_opencv_on_one_thread(_number: int = 0) -> None:
    """Keep OpenCV from taking a thread a core in a process that prepares samples beside others."""
    cv2.setNumThreads(1)
