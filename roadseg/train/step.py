"""One step of training: loss, gradient, AdamW, averaged weights."""

import math
from collections.abc import Iterator
from contextlib import contextmanager
from copy import deepcopy
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor, nn

from roadseg.backends.machine import has_bfloat16_units
from roadseg.errors import ConfigError
from roadseg.models.architectures import build_model
from roadseg.models.checkpoint import load_model
from roadseg.models.segmenter import enlarge, normalise
from roadseg.spec import ModelSpec
from roadseg.train.config import TrainConfig
from roadseg.train.losses import Criterion
from roadseg.train.ranks import ALONE, PartSum, Ranks

PART_STRIDE = 0x9E3779B1
"""Distance between the seeds of parts: 2**32 divided by the golden ratio, so that they never meet.

A CPU's generator takes the lower 32 bits of a seed.
"""


@dataclass(kw_only=True)
class TrainState:
    """The state of a training run."""

    network: nn.Module
    average: nn.Module
    """Exponential moving average of the network, which is evaluated and saved."""
    optimizer: torch.optim.Optimizer
    confusion: NDArray[np.int64]
    """Confusion on this epoch's training crops, (C, C)."""
    step: int = 0
    """Steps done."""
    best_miou: float = -math.inf
    """Best mIoU of the average so far, on the held-out sequence or else on val."""
    stale: int = 0
    """Validations since then."""
    loss_sum: float = 0.0
    """Training losses of this epoch's steps, summed."""
    data: dict[str, list[int]] = field(default_factory=dict)
    """Pixels of each class in each split, by which the data are recognised."""
    data_sha256: str = ""
    """Digest of the data, by which they are recognised too."""
    settings: dict[str, Any] = field(default_factory=dict)
    """Settings that the result depends on, by which the run is recognised."""
    ranks: Ranks = ALONE
    """The processes that take the steps; the state is the same in all."""


def new_state(spec: ModelSpec, config: TrainConfig, device: torch.device) -> TrainState:
    """Build the state before the first step.

    Raises:
        ModelFileError: The model to start from cannot be read.
        ConfigError: It is of another architecture.
    """
    torch.manual_seed(config.seed)
    network = build_model(spec, pretrained=config.starts_from_imagenet)
    if config.start_from is not None:
        start_from(config.start_from, network, spec)
    network = network.to(device, memory_format=torch.channels_last)  # type: ignore[call-overload]
    average = deepcopy(network).eval().requires_grad_(False)
    return TrainState(
        network=network,
        average=average,
        optimizer=_optimizer(network, config),
        confusion=np.zeros((spec.num_classes, spec.num_classes), np.int64),
    )


def start_from(path: Path, network: nn.Module, spec: ModelSpec) -> None:
    """Load the weights of a model file into a network.

    Heads are loaded class by class, by name; other classes keep their initial weights.

    Raises:
        ModelFileError: It is no model file of ours.
        ConfigError: It is of another architecture.
    """
    source, known = load_model(path)
    same_architecture(path, known, spec)
    weights = source.state_dict()
    shared = [name for name in spec.class_names if name in known.class_names]
    to_rows = [spec.class_names.index(name) for name in shared]
    from_rows = [known.class_names.index(name) for name in shared]
    for name, fresh in network.state_dict().items():
        if "head" in name.split("."):
            rows, weights[name] = weights[name], fresh.clone()
            weights[name][to_rows] = rows[from_rows]
    network.load_state_dict(weights)


def same_architecture(path: Path, known: ModelSpec, spec: ModelSpec) -> None:
    """Raise `ConfigError` if a model to start from is of another architecture than a run trains."""
    if known.architecture != spec.architecture:
        raise ConfigError(
            f"--start-from {path} is {known.architecture} and the run trains {spec.architecture}; "
            "both must be the same, see --arch, --encoder, --width and --output-stride"
        )


def _optimizer(network: nn.Module, config: TrainConfig) -> torch.optim.Optimizer:
    """Return AdamW, with a lower rate for a pretrained encoder and no decay of biases and norms."""
    groups: dict[tuple[float, float], list[nn.Parameter]] = {}
    for name, parameter in network.named_parameters():
        gentle = config.starts_with_encoder and name.startswith("encoder.")
        factor = config.encoder_lr_factor if gentle else 1.0
        decay = config.weight_decay if parameter.ndim > 1 else 0.0
        groups.setdefault((factor, decay), []).append(parameter)
    return torch.optim.AdamW(
        {"params": parameters, "lr_factor": factor, "weight_decay": decay}
        for (factor, decay), parameters in groups.items()
    )


def learning_rate(step: int, total_steps: int, *, peak: float, warmup: float) -> float:
    """Return the rate at a step: along a cosine from 1/25 of the peak to the peak, then to zero.

    This is one cycle of Smith and Topin (arXiv 1708.07120), as in PyTorch's OneCycleLR.
    """
    warm_steps = warmup * total_steps
    if step < warm_steps:
        return peak * (1 + 24 * _half_cosine(step / warm_steps)) / 25
    return peak * (1 - _half_cosine((step - warm_steps) / max(total_steps - warm_steps, 1)))


def _half_cosine(fraction: float) -> float:
    """Return 0 at 0, 1 at 1, along half a cosine."""
    return (1 - math.cos(math.pi * fraction)) / 2


def train_step(
    state: TrainState,
    frames: Tensor,
    target: Tensor,
    criterion: Criterion,
    lr: float,
    config: TrainConfig,
) -> float:
    """Take one step, together with the other ranks, and return its loss.

    Args:
        state: Changed in place.
        frames: (N, H, W, 3) uint8 RGB, the parts of this rank.
        target: (N, H, W) int64.
        criterion: The loss, on the device where the network is.
        lr: Learning rate of new layers.
        config: Settings of the run; its parts are those of all ranks.

    Raises:
        ConfigError: The loss or its gradient is not finite; parameters and average are left as they
            were.
        PeerLost: Another rank ended.
    """
    for group in state.optimizer.param_groups:
        group["lr"] = lr * group["lr_factor"]
    network = state.network.train()
    losses, counts = _backward(state, frames, target, criterion, config)
    norm = nn.utils.clip_grad_norm_(network.parameters(), config.clip_norm or math.inf)
    # All numbers of the step come from the device at once, as each copy waits for it.
    own = torch.cat([norm[None].double(), losses.double(), counts.double()])
    found = state.ranks.gathered(own).cpu().numpy()  # (ranks, 1 + parts of a rank + C * C)
    of_parts, of_pixels = np.split(found[:, 1:], [len(losses)], axis=1)
    loss = float(sum(value / config.accumulate for value in of_parts.T.ravel().tolist()))
    if not (math.isfinite(loss) and math.isfinite(found[0, 0])):
        raise state.ranks.alike(_not_finite(loss, found[0, 0], state.step, config))
    state.optimizer.step()
    _update_average(state.average, network, config.ema_decay, state.step)
    state.step += 1
    state.loss_sum += loss
    state.confusion += of_pixels.sum(axis=0).astype(np.int64).reshape(state.confusion.shape)
    return loss


def _backward(
    state: TrainState, frames: Tensor, target: Tensor, criterion: Criterion, config: TrainConfig
) -> tuple[Tensor, Tensor]:
    """Leave the gradient of the step in the network, the same on all ranks.

    Returns:
        Losses of this rank's parts (P,), and the confusion (C * C,) of their pixels.
    """
    ranks, network = state.ranks, state.network
    together = _Parts(network, config.accumulate, ranks)
    losses, counts = [], []
    own_parts = config.accumulate // ranks.count
    chunks = zip(frames.chunk(own_parts), target.chunk(own_parts), strict=True)
    for turn, (some_frames, some_target) in enumerate(chunks):
        # Dropout is a function of step and part, wherever that is computed.
        torch.manual_seed(_seed(config.seed, state.step, turn * ranks.count + ranks.rank))
        state.optimizer.zero_grad()
        some_frames = some_frames.to(criterion.device, non_blocking=True)
        some_target = some_target.to(criterion.device, non_blocking=True)
        with together.part():
            logits = _logits(network, some_frames, config)  # (N, C, H, W)
            loss = criterion(logits, some_target)
            (loss / config.accumulate).backward()  # type: ignore[no-untyped-call]
        losses.append(loss.detach())
        counts.append(_confusion(logits, some_target))
    together.join()
    return torch.stack(losses), torch.stack(counts).sum(dim=0)


def _seed(seed: int, step: int, part: int) -> int:
    """Return a seed for a part of a step; that of the first part is what steps as a whole have."""
    return seed * 1_000_003 + step + part * PART_STRIDE


class _Parts:
    """What the parts of a step leave in a network: gradients and running statistics of batches.

    Gradients are summed. Statistics, which each part moves from where the step began, are averaged;
    the network computes none with them while it learns.
    """

    def __init__(self, network: nn.Module, count: int, ranks: Ranks) -> None:
        self._network = network
        self._count = count
        self._sum = PartSum(ranks)
        self._before = [buffer.clone() for buffer in network.buffers()] if count > 1 else []

    @contextmanager
    def part(self) -> Iterator[None]:
        """Have a part computed from what was before the step."""
        if self._count > 1:
            torch._foreach_copy_(list(self._network.buffers()), self._before)
        yield
        if self._count > 1:
            self._sum.add([*self._gradients(), *self._statistics()])

    def join(self) -> None:
        """Write what all parts left into the network."""
        if self._count > 1:
            statistics = self._statistics()
            self._sum.write_to([*self._gradients(), *statistics])
            torch._foreach_div_(statistics, self._count)

    def _gradients(self) -> list[Tensor]:
        return [p.grad for p in self._network.parameters() if p.grad is not None]

    def _statistics(self) -> list[Tensor]:
        return [buffer for buffer in self._network.buffers() if buffer.is_floating_point()]


def _not_finite(loss: float, norm: float, step: int, config: TrainConfig) -> ConfigError:
    return ConfigError(
        f"the loss is {loss} and the norm of its gradient {norm} at step {step}; both must be "
        f"finite; start anew with an --lr below {config.lr} or --clip-norm 1 and another --out, "
        "the last checkpoint stays as it was"
    )


def _logits(network: nn.Module, frames: Tensor, config: TrainConfig) -> Tensor:
    """Return logits (N, C, H, W) float32 of frames (N, H, W, 3) uint8."""
    images = normalise(frames).contiguous(memory_format=torch.channels_last)  # (N, 3, H, W)
    with torch.autocast(images.device.type, torch.bfloat16, enabled=bool(config.amp)):
        logits = network(images)  # (N, C, H/s, W/s)
    return enlarge(logits.float(), frames.shape[1:3])


def _confusion(logits: Tensor, target: Tensor) -> Tensor:
    """Return the pixels by class and prediction, (C * C,) int64, where the logits are."""
    num_classes = logits.shape[1]
    bins = num_classes**2
    pairs = target * num_classes + logits.detach().argmax(dim=1)  # (N, H, W)
    pairs = pairs.masked_fill(target >= num_classes, bins)
    return torch.bincount(pairs.flatten(), minlength=bins + 1)[:bins]


def uses_amp(wanted: bool | None, device: torch.device) -> bool:
    """Return whether to compute in bfloat16, which needs no loss scaling.

    Args:
        wanted: The setting; None depends on the device.
        device: Where the network is.
    """
    if wanted is not None:
        return wanted
    if device.type == "cuda":
        return bool(torch.cuda.is_bf16_supported(including_emulation=False))
    return has_bfloat16_units()


@torch.no_grad()
def _update_average(average: nn.Module, network: nn.Module, decay: float, step: int) -> None:
    """Move the average one step towards the network, buffers of batch norms included.

    Early on the decay is lower, so that the average forgets the random initialisation.
    """
    decay = min(decay, (1 + step) / (10 + step))
    old, new = average.state_dict(), network.state_dict()
    floats = [name for name, tensor in new.items() if tensor.is_floating_point()]
    torch._foreach_lerp_([old[n] for n in floats], [new[n] for n in floats], 1 - decay)
