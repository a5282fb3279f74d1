"""Train a model on a labelled data set; stop and resume anywhere with the identical result."""

import json
import math
import time
from collections.abc import Callable, Mapping
from copy import deepcopy
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor, nn

from roadseg.backends.torch_backend import TorchBackend
from roadseg.checkpoint import load_state, save_model, save_state
from roadseg.classes import NUM_CLASSES
from roadseg.config import ModelSpec, TrainConfig
from roadseg.data.folder import FolderDataset
from roadseg.data.loader import batches, steps_per_epoch
from roadseg.errors import ConfigError
from roadseg.evaluate import evaluate
from roadseg.files import output_errors, replacing
from roadseg.losses import log_class_weights, weighted_cross_entropy
from roadseg.metrics import Scores, confusion_matrix
from roadseg.models import build_model, enlarge, normalise
from roadseg.report import curves_page

STATE_FILE = "last.pt"
MODEL_FILE = "best.safetensors"
LOG_FILE = "metrics.jsonl"
PAGE_FILE = "curves.html"
CONFIG_FILE = "config.json"


@dataclass(kw_only=True)
class TrainState:
    """All that changes while training."""

    network: nn.Module
    average: nn.Module
    """Exponential moving average of the network: what is evaluated and kept."""
    optimizer: torch.optim.Optimizer
    step: int = 0
    """Steps done."""
    best_miou: float = -math.inf
    """Best mIoU of the average so far, on the held-out sequence or else on val."""
    loss_sum: float = 0.0
    """Training losses of this epoch's steps, summed."""
    confusion: NDArray[np.int64] = field(
        default_factory=lambda: np.zeros((NUM_CLASSES, NUM_CLASSES), np.int64)
    )
    """Confusion on this epoch's training crops."""
    data: dict[str, list[int]] = field(default_factory=dict)
    """Pixels of each class in each split, by which the data are known again."""


@dataclass(frozen=True, kw_only=True)
class TrainResult:
    """What a finished run has reached."""

    best_miou: float
    """Best mIoU, 0..1, on the held-out sequence or else on val."""
    model_path: Path
    """Model file with the best average weights."""
    log_path: Path
    """JSON lines, one an epoch."""
    page_path: Path
    """Learning curves as a page."""


def learning_rate(step: int, total_steps: int, *, peak: float, warmup: float) -> float:
    """Return the rate at a step: up from a 25th of the peak along a cosine, then down to nothing.

    The shape is one cycle of Smith and Topin (arXiv 1708.07120) as PyTorch's OneCycleLR draws it.
    """
    warm_steps = warmup * total_steps
    if step < warm_steps:
        return peak * (1 + 24 * _half_cosine(step / warm_steps)) / 25
    return peak * (1 - _half_cosine((step - warm_steps) / max(total_steps - warm_steps, 1)))


def train(
    config: TrainConfig, on_log: Callable[[dict[str, Any]], None] = lambda _record: None
) -> TrainResult:
    """Train as configured; go on where the folder `config.out` holds an unfinished run.

    Args:
        config: Settings. A resumed run must have those it was started with.
        on_log: Called with each step's record ("step", "loss", "lr") and each epoch's.

    Raises:
        DatasetError: The data are missing or inconsistent.
        ConfigError: The folder holds a run with other settings or data, or the loss is not finite.
        OutputError: The folder cannot be written to; the last checkpoint is kept.
    """
    device = torch.device("cuda" if torch.cuda.is_available() else "cpu")
    state = _new_state(config, device)
    train_set = FolderDataset.open(config.data, "train")
    measured = {"val": FolderDataset.open(config.data, "val")}
    if config.holdout_sequence is not None:
        train_set, measured["holdout"] = train_set.hold_out(config.holdout_sequence)
    class_pixels = train_set.check()
    state.data = {name: dataset.check().tolist() for name, dataset in measured.items()}
    state.data["train"] = class_pixels.tolist()
    class_weights = torch.from_numpy(log_class_weights(class_pixels)).to(device)
    _open_run(config, state)
    per_epoch = steps_per_epoch(train_set, config.batch_size)
    total_steps = config.epochs * per_epoch
    saved_s = time.monotonic()
    for frames, target in batches(
        train_set,
        crop_hw=config.crop_hw,
        augmentation=config.augment,
        batch_size=config.batch_size,
        epochs=config.epochs,
        first_step=state.step,
        seed=config.seed,
        workers=config.workers,
    ):
        lr = learning_rate(state.step, total_steps, peak=config.lr, warmup=config.warmup)
        loss = train_step(state, frames.to(device), target.to(device), class_weights, lr, config)
        on_log({"step": state.step, "total_steps": total_steps, "loss": loss, "lr": lr})
        if state.step % per_epoch == 0:
            epoch = state.step // per_epoch
            due = epoch % config.eval_every == 0 or state.step == total_steps
            backend = TorchBackend(state.average, config.spec)
            scores = {
                name: evaluate(backend, dataset, config.size_hw)
                for name, dataset in measured.items()
                if due
            }
            on_log(_close_epoch(state, epoch, per_epoch, lr, scores, config))
        if state.step % per_epoch == 0 or time.monotonic() - saved_s > config.checkpoint_every_s:
            save_state(config.out / STATE_FILE, _pack(state, config))
            saved_s = time.monotonic()
    return TrainResult(
        best_miou=state.best_miou,
        model_path=config.out / MODEL_FILE,
        log_path=config.out / LOG_FILE,
        page_path=config.out / PAGE_FILE,
    )


def train_step(
    state: TrainState,
    frames: Tensor,
    target: Tensor,
    class_weights: Tensor,
    lr: float,
    config: TrainConfig,
) -> float:
    """Take one step and return its loss.

    Args:
        state: Changed in place.
        frames: (N, H, W, 3) uint8 RGB.
        target: (N, H, W) int64.
        class_weights: (C,) float32.
        lr: Learning rate of new layers.
        config: Settings of the run.

    Raises:
        ConfigError: The loss is not finite; the weights are left as they were.
    """
    for group in state.optimizer.param_groups:
        group["lr"] = lr * group["lr_factor"]
    network = state.network.train()
    torch.manual_seed(config.seed * 1_000_003 + state.step)  # dropout: a function of the step alone
    images = normalise(frames).contiguous(memory_format=torch.channels_last)  # (N, 3, H, W)
    logits = enlarge(network(images), target.shape[1:])  # (N, C, H, W)
    loss = weighted_cross_entropy(logits, target, class_weights)
    if not torch.isfinite(loss):
        raise ConfigError(
            f"the loss is {loss.item()} at step {state.step}; it must be finite; start anew with "
            f"an --lr below {config.lr} and another --out, this run's last checkpoint is kept"
        )
    state.optimizer.zero_grad()
    loss.backward()  # type: ignore[no-untyped-call]
    state.optimizer.step()
    _update_average(state.average, network, config.ema_decay, state.step)
    state.step += 1
    state.loss_sum += loss.item()
    predicted = logits.detach().argmax(dim=1)  # (N, H, W)
    state.confusion += confusion_matrix(
        target.cpu().numpy().astype(np.uint8), predicted.cpu().numpy().astype(np.uint8)
    )
    return loss.item()


def _new_state(config: TrainConfig, device: torch.device) -> TrainState:
    """Build the state before the first step."""
    torch.manual_seed(config.seed)
    spec = config.spec
    network = build_model(
        spec.arch, num_classes=NUM_CLASSES, width=spec.width, pretrained=config.pretrained
    )
    network = network.to(device, memory_format=torch.channels_last)  # type: ignore[call-overload]
    average = deepcopy(network).eval().requires_grad_(False)
    return TrainState(network=network, average=average, optimizer=_optimizer(network, config))


def _open_run(config: TrainConfig, state: TrainState) -> None:
    """Go on where the run's folder stands, or begin a new folder."""
    state_path = config.out / STATE_FILE
    if state_path.is_file():
        _unpack(load_state(state_path), state, config)
        _cut_log(config.out / LOG_FILE, state.step)
        return
    if config.out.exists() and not config.out.is_dir():
        raise ConfigError(f"--out {config.out} is a file; give a folder")
    with output_errors(config.out):
        config.out.mkdir(parents=True, exist_ok=True)
    _write(config.out / CONFIG_FILE, json.dumps(config.to_dict(), indent=2) + "\n")
    _write(config.out / LOG_FILE, "")


def _optimizer(network: nn.Module, config: TrainConfig) -> torch.optim.Optimizer:
    """Return AdamW: a gentler rate for a pretrained encoder, no decay of biases and norms."""
    groups: dict[tuple[float, float], list[nn.Parameter]] = {}
    for name, parameter in network.named_parameters():
        gentle = config.pretrained and name.startswith("encoder.")
        factor = config.encoder_lr_factor if gentle else 1.0
        decay = config.weight_decay if parameter.ndim > 1 else 0.0
        groups.setdefault((factor, decay), []).append(parameter)
    return torch.optim.AdamW(
        {"params": parameters, "lr_factor": factor, "weight_decay": decay}
        for (factor, decay), parameters in groups.items()
    )


@torch.no_grad()
def _update_average(average: nn.Module, network: nn.Module, decay: float, step: int) -> None:
    """Move the average one step towards the network, buffers of batch norms included.

    Early on the average follows faster, so that it does not drag the random start along.
    """
    decay = min(decay, (1 + step) / (10 + step))
    old, new = average.state_dict(), network.state_dict()
    floats = [name for name, tensor in new.items() if tensor.is_floating_point()]
    torch._foreach_lerp_([old[n] for n in floats], [new[n] for n in floats], 1 - decay)


def _close_epoch(
    state: TrainState,
    epoch: int,
    per_epoch: int,
    lr: float,
    scores: Mapping[str, Scores],
    config: TrainConfig,
) -> dict[str, Any]:
    """Write the epoch's line and, if the average is the best so far, its model file."""
    crops = Scores(confusion=state.confusion)
    summaries = {name: measured.summary() for name, measured in scores.items()}
    record: dict[str, Any] = {
        "epoch": epoch,
        "step": state.step,
        "lr": lr,
        "train": {**crops.summary(), "loss": state.loss_sum / per_epoch},
        **summaries,
    }
    decisive = scores.get("val" if config.holdout_sequence is None else "holdout")
    if decisive is not None and decisive.miou > state.best_miou:
        state.best_miou = decisive.miou
        spec = _trained_spec(config, state.step, summaries)
        save_model(config.out / MODEL_FILE, state.average, spec)
    log = config.out / LOG_FILE
    _write(log, log.read_text() + json.dumps(record) + "\n")
    if scores:
        records = [json.loads(line) for line in log.read_text().splitlines()]
        page = curves_page(records, f"{config.arch}, seed {config.seed}")
        _write(config.out / PAGE_FILE, page)
    state.loss_sum = 0.0
    state.confusion = np.zeros_like(state.confusion)
    return record


def _trained_spec(config: TrainConfig, step: int, metrics: Mapping[str, Any]) -> ModelSpec:
    """Return the record of the trained model; paths and the like say nothing of it."""
    return replace(config.spec, training={**_comparable(config), "step": step}, metrics=metrics)


def _pack(state: TrainState, config: TrainConfig) -> dict[str, Any]:
    return {
        "config": _comparable(config),
        "data": state.data,
        "step": state.step,
        "best_miou": state.best_miou,
        "loss_sum": state.loss_sum,
        "confusion": torch.from_numpy(state.confusion),
        "network": state.network.state_dict(),
        "average": state.average.state_dict(),
        "optimizer": state.optimizer.state_dict(),
    }


def _unpack(saved: dict[str, Any], state: TrainState, config: TrainConfig) -> None:
    wanted, found = _comparable(config), saved["config"]
    differing = sorted(name for name in wanted if wanted[name] != found.get(name))
    if differing:
        raise ConfigError(
            f"{config.out} holds a run with other settings ({', '.join(differing)}); "
            "resume it with its own, or choose another --out"
        )
    if saved["data"] != state.data:
        raise ConfigError(
            f"{config.out} holds a run on other data than {config.data}; give it the data it was "
            "started with, or choose another --out"
        )
    state.network.load_state_dict(saved["network"])
    state.average.load_state_dict(saved["average"])
    state.optimizer.load_state_dict(saved["optimizer"])
    state.step = saved["step"]
    state.best_miou = saved["best_miou"]
    state.loss_sum = saved["loss_sum"]
    state.confusion = saved["confusion"].numpy()


def _comparable(config: TrainConfig) -> dict[str, Any]:
    """Return the settings on which the result depends."""
    settings = config.to_dict()
    for name in ("data", "out", "workers", "checkpoint_every_s"):
        del settings[name]
    return settings


def _cut_log(path: Path, step: int) -> None:
    """Drop lines written after the checkpoint that the run goes on from."""
    lines = path.read_text().splitlines(keepends=True) if path.is_file() else []
    _write(path, "".join(line for line in lines if json.loads(line)["step"] <= step))


def _write(path: Path, text: str) -> None:
    with replacing(path) as temporary:
        temporary.write_text(text)


def _half_cosine(fraction: float) -> float:
    """Return 0 at 0, 1 at 1, along half a cosine."""
    return (1 - math.cos(math.pi * fraction)) / 2
