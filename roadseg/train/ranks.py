"""The ranks of a training run: one process, or several that share the parts of every step.

Gradients are added up here and not by PyTorch's `DistributedDataParallel`. That adds them in an
order which depends on the number of ranks, and on buckets that it divides anew after the first
step. Here it is the order of the parts, always: a run has the same result bit for bit on however
many ranks its parts are, and when it is resumed on another number. The price is that nothing is
exchanged while gradients are still computed. On paper it is small: the 14 MB of `unet-lite` take a
millisecond or two of PCIe, and a step on a GPU some fifty.
"""

import os
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from datetime import timedelta
from typing import Any, TypeVar

import torch
import torch.distributed as dist
import torch.nn.functional as F
from torch import Tensor
from torch.distributed.rendezvous import rendezvous

from roadseg.errors import ConfigError, PeerLost, RoadsegError
from roadseg.train.launch import check_gpus, own_rank, rank_count

T = TypeVar("T")

TIMEOUT = timedelta(hours=1)
"""How long ranks wait for each other; the first reads all labels, and validates, on its own."""
JOIN_TIMEOUT = timedelta(minutes=5)
"""How long a rank looks for the first."""


@dataclass(frozen=True, kw_only=True)
class Ranks:
    """The place of this process among those of its run."""

    rank: int = 0
    """Its number."""
    count: int = 1
    """Processes of the run."""
    local_rank: int = 0
    """Its number on this machine, which is that of its GPU."""
    local_count: int = 1
    """Processes on this machine."""

    @classmethod
    def of_environment(cls) -> "Ranks":
        """Return the place that `torchrun` or `roadseg.train.launch` gave this process."""
        return cls(
            rank=own_rank(),
            count=rank_count(),
            local_rank=int(os.environ.get("LOCAL_RANK", 0)),
            local_count=int(os.environ.get("LOCAL_WORLD_SIZE", 1)),
        )

    @property
    def is_first(self) -> bool:
        """Whether this is the rank that writes, prints and validates."""
        return self.rank == 0

    def places(self, batch_size: int, parts: int) -> list[int]:
        """Return the places in a batch of the samples in this rank's parts, part by part."""
        size = batch_size // parts
        own = range(self.rank, parts, self.count)
        return [place for part in own for place in range(part * size, (part + 1) * size)]

    def from_first(self, make: Callable[[], T]) -> T:
        """Return what the first rank makes, on every rank.

        Raises:
            PeerLost: The first rank ended instead.
        """
        if self.count == 1:
            return make()
        box: list[T | None] = [make() if self.is_first else None]
        with _peer_errors():
            dist.broadcast_object_list(box, src=0)
        (made,) = box
        return made  # type: ignore[return-value]

    def alike(self, error: RoadsegError) -> RoadsegError:
        """Return an error that all ranks raise for the one that prints it, else `PeerLost`."""
        return error if self.is_first else PeerLost("the first process says why")

    def gathered(self, tensor: Tensor) -> Tensor:
        """Return the tensors of all ranks, (count, ...), by rank."""
        if self.count == 1:
            return tensor[None]
        found = tensor.new_empty(self.count, *tensor.shape)
        with _peer_errors():
            dist.all_gather(list(found), tensor)
        return found

    def slices(self, vector: Tensor) -> Sequence[Tensor]:
        """Return this rank's slice of the vector of each rank, by rank; all slices are as long."""
        if self.count == 1:
            return [vector]
        padded = F.pad(vector, (0, -len(vector) % self.count))
        found = torch.empty_like(padded)
        with _peer_errors():
            dist.all_to_all_single(found, padded)
        return found.chunk(self.count)


ALONE = Ranks()
"""The only process of a run."""


class PartSum:
    """The sum of tensors over the parts of a step, in the order of the parts.

    Part `i` is computed by rank `i % count`. Each rank adds up its own slice for all ranks, which
    takes as much traffic as a ring.
    """

    def __init__(self, ranks: Ranks) -> None:
        self._ranks = ranks
        self._total: Tensor | None = None

    def add(self, tensors: Sequence[Tensor]) -> None:
        """Add the tensors of this rank's part, while each other rank adds those of its own."""
        vector = torch.cat([tensor.detach().flatten() for tensor in tensors])
        for part in self._ranks.slices(vector):
            self._total = part if self._total is None else self._total.add_(part)

    def write_to(self, tensors: Sequence[Tensor]) -> None:
        """Write the sums into the tensors, on every rank."""
        assert self._total is not None
        sizes = [tensor.numel() for tensor in tensors]
        sums = torch.split(self._ranks.gathered(self._total).flatten()[: sum(sizes)], sizes)
        shaped = [total.view_as(tensor) for tensor, total in zip(tensors, sums, strict=True)]
        torch._foreach_copy_(list(tensors), shaped)


@contextmanager
def joined_ranks() -> Iterator[Ranks]:
    """Join the other processes of the run, if it has several, while the block lasts.

    Raises:
        ConfigError: This machine has fewer GPUs than processes, or they are not told where to meet.
        PeerLost: Another process cannot be reached.
    """
    ranks = Ranks.of_environment()
    if ranks.count == 1:
        yield ranks
        return
    check_gpus(ranks.local_count)
    if torch.cuda.is_available():
        torch.cuda.set_device(ranks.local_rank)
    with _peer_errors():
        # Objects go by gloo everywhere: it notices at once that a process is gone.
        backend = "cpu:gloo,cuda:nccl" if torch.cuda.is_available() else "gloo"
        dist.init_process_group(
            backend,
            store=_store(ranks),
            timeout=TIMEOUT,
            rank=ranks.rank,
            world_size=ranks.count,
        )
    try:
        yield ranks
    finally:
        dist.destroy_process_group()


def _store(ranks: Ranks) -> Any:
    """Return the store in which ranks leave their addresses for each other."""
    try:
        store, _, _ = next(rendezvous("env://", timeout=JOIN_TIMEOUT))
    except ValueError as error:  # a variable is missing, or no number
        raise ConfigError(
            f"WORLD_SIZE is {ranks.count}, but this process cannot find the others ({error}); "
            "start all with torchrun or --devices, or unset WORLD_SIZE to train alone"
        ) from error
    if ranks.local_count < ranks.count:  # each machine counts its own attempts
        return store
    # torchrun keeps the store when it starts all ranks of a machine anew, and so the addresses of
    # those that are gone.
    attempt = f"attempt {os.environ.get('TORCHELASTIC_RESTART_COUNT', 0)}"
    return dist.PrefixStore(attempt, store)  # type: ignore[attr-defined]


@contextmanager
def _peer_errors() -> Iterator[None]:
    """Translate the errors of an exchange with a process that has ended."""
    try:
        yield
    except RuntimeError as error:
        if not (isinstance(error, dist.DistError) or "gloo" in str(error)):
            raise
        raise PeerLost(
            "another process of this run has ended; what it said is why, and the same command goes "
            "on from the last checkpoint"
        ) from error
