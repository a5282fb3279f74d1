"""Train a model on a labelled data set; stop and resume anywhere with the identical result."""

import json
import os
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import numpy as np
import torch

from roadseg.backends.torch import TorchBackend
from roadseg.data.folder import FolderDataset
from roadseg.errors import ConfigError
from roadseg.files import identity, output_errors, replacing
from roadseg.measure.evaluate import evaluate, predict_picture
from roadseg.measure.metrics import Scores
from roadseg.models.architectures import build_model
from roadseg.models.checkpoint import load_model, save_model
from roadseg.paint.panels import compare_pictures
from roadseg.spec import SegClass, as_shown, choose
from roadseg.train.config import TrainConfig
from roadseg.train.curves_page import curves_page
from roadseg.train.loader import batches, suited_workers
from roadseg.train.losses import CLASS_WEIGHTS, LOSSES, Criterion
from roadseg.train.ranks import Ranks, joined_ranks
from roadseg.train.run import (
    CONFIG_FILE,
    LOG_FILE,
    MODEL_FILE,
    PAGE_FILE,
    PICTURE_FOLDER,
    STATE_FILE,
    comparable_settings,
    open_run,
    pack,
    save_state,
    write_run_file,
)
from roadseg.train.splits import TrainData
from roadseg.train.step import (
    TrainState,
    learning_rate,
    new_state,
    same_architecture,
    train_step,
    uses_amp,
)
from roadseg.train.trackers import check_trackers, open_trackers

GPU_BATCH = 16
"""Batch size of validation on a GPU."""


@dataclass(frozen=True, kw_only=True)
class TrainResult:
    """Result of a run."""

    best_miou: float
    """Best mIoU, 0..1, on the held-out sequence or else on val."""
    metric: str
    """Which metric that is: "miou", or "pixel_accuracy" where the labels allow no IoU."""
    epochs: int
    """Epochs done: all, or fewer if the run stopped early."""
    model_path: Path
    """Model file with the best average weights."""
    log_path: Path
    """JSON lines, one an epoch."""
    page_path: Path
    """Learning curves and sample pictures as a page."""


@dataclass(frozen=True, kw_only=True)
class Rehearsal:
    """Result of a dry run."""

    data: TrainData
    """The splits, all of them readable."""
    parameters: int
    """Weights of the network."""
    steps: int
    """Steps that the run would take."""
    step_s: float
    """Seconds of the last step taken: the second, if the run has as many."""
    loss: float
    """Loss of that step."""


def train(
    config: TrainConfig, on_log: Callable[[dict[str, Any]], None] = lambda _record: None
) -> TrainResult:
    """Train a model; resume the unfinished run in the folder `config.out`, if there is one.

    In a process that `torchrun` started, this trains together with the others of the run.

    Args:
        config: Settings. A resumed run must have those it was started with.
        on_log: Called with each step's record ("step", "loss", "lr") and each epoch's, in the first
            process of the run.

    Raises:
        DatasetError: The data are missing or inconsistent.
        ConfigError: The folder holds a run with other settings or data, the model to start from is
            of another architecture, or the loss is not finite.
        ModelFileError: The model to start from cannot be read.
        BackendUnavailable: A tracker or the encoder's weights are not installed.
        OutputError: The folder cannot be written to, or a tracker fails; the last checkpoint is
            kept.
        PeerLost: Another process of the run ended.
    """
    with joined_ranks() as ranks:
        if not ranks.is_first:
            on_log = _say_nothing
        return _train(_settled(config, ranks), ranks, on_log)


def _say_nothing(_record: dict[str, Any]) -> None:
    pass


def _train(
    config: TrainConfig, ranks: Ranks, on_log: Callable[[dict[str, Any]], None]
) -> TrainResult:
    data, state, criterion = _begin(config, ranks)
    per_epoch = data.mixture.steps_per_epoch
    total_steps = config.epochs * per_epoch
    saved_s = time.monotonic()
    with (
        open_run(config, state),
        _determinism(config),
        _trackers(config, state) as track,
    ):
        for frames, target in _batches(config, data, state):
            if config.patience is not None and state.stale >= config.patience:
                break
            lr = learning_rate(state.step, total_steps, peak=config.lr, warmup=config.warmup)
            loss = train_step(state, frames, target, criterion, lr, config)
            on_log({"step": state.step, "total_steps": total_steps, "loss": loss, "lr": lr})
            closes = state.step % per_epoch == 0
            record = _close_epoch(state, data, per_epoch, lr, config) if closes else None
            if ranks.is_first and (
                closes or time.monotonic() - saved_s > config.checkpoint_every_s
            ):
                save_state(config.out / STATE_FILE, pack(state))
                saved_s = time.monotonic()
            if record:  # after the state is saved: a tracker that fails costs no work
                track(record)
                on_log(record)
    return TrainResult(
        best_miou=state.best_miou,
        metric=data.metric_on(_decisive(config)),
        epochs=state.step // per_epoch,
        model_path=config.out / MODEL_FILE,
        log_path=config.out / LOG_FILE,
        page_path=config.out / PAGE_FILE,
    )


def rehearse(config: TrainConfig) -> Rehearsal:
    """Check all data and take two steps, without writing anything.

    Raises:
        DatasetError, ConfigError, ModelFileError, BackendUnavailable, PeerLost: As `train`.
    """
    with joined_ranks() as ranks:
        config = _settled(config, ranks)
        data, state, criterion = _begin(config, ranks)
        for frames, target in _batches(config, data, state):
            started_s = time.perf_counter()
            loss = train_step(state, frames, target, criterion, config.lr / 25, config)
            step_s = time.perf_counter() - started_s
            if state.step == 2:
                break
    return Rehearsal(
        data=data,
        parameters=sum(parameter.numel() for parameter in state.network.parameters()),
        steps=config.epochs * data.mixture.steps_per_epoch,
        step_s=step_s,
        loss=loss,
    )


def _settled(config: TrainConfig, ranks: Ranks) -> TrainConfig:
    """Return the settings with defaults of this machine filled in, for resuming on another."""
    return ranks.from_first(
        lambda: replace(config.shared_by(ranks.count), amp=uses_amp(config.amp, _device()))
    )


def _device() -> torch.device:
    return torch.device("cuda" if torch.cuda.is_available() else "cpu")


def _begin(config: TrainConfig, ranks: Ranks) -> tuple[TrainData, TrainState, Criterion]:
    """Return the data, the state before the first step, and the loss."""
    data = ranks.from_first(lambda: _checked_data(config))
    state = new_state(data.spec(config), config, _device())
    state.data, state.data_sha256 = dict(data.pixels), data.sha256
    state.settings = comparable_settings(config)
    state.ranks = ranks
    return data, state, data.criterion(config).to(_device())


def _checked_data(config: TrainConfig) -> TrainData:
    """Check the settings, and read all labels."""
    _check(config)
    return TrainData.open(config)


@contextmanager
def _trackers(config: TrainConfig, state: TrainState) -> Iterator[Callable[[dict[str, Any]], None]]:
    """Open the trackers of the run on the first rank."""
    shown = config if state.ranks.is_first else replace(config, trackers=())
    with open_trackers(shown, state.step) as track:
        yield track


def _check(config: TrainConfig) -> None:
    """Raise `ConfigError` for an unknown name or a folder in use, before data are read."""
    if config.out.exists() and not config.out.is_dir():
        raise ConfigError(f"--out {config.out} is a file; give a folder")
    written = (MODEL_FILE, LOG_FILE, PAGE_FILE, CONFIG_FILE, PICTURE_FOLDER)
    taken = [name for name in written if os.path.lexists(config.out / name)]
    if taken and not (config.out / STATE_FILE).exists():
        raise ConfigError(
            f"--out {config.out} holds {taken[0]} and no {STATE_FILE} to go on from; choose "
            f"another folder, or move {taken[0]} away"
        )
    choose(LOSSES, config.loss, "--loss")
    choose(CLASS_WEIGHTS, config.class_weights, "--class-weights")
    check_trackers(config.trackers)
    build_model(config.spec, pretrained=config.starts_from_imagenet)
    if config.start_from is not None:
        _check_start(config.start_from, config)


def _check_start(path: Path, config: TrainConfig) -> None:
    written = config.out / MODEL_FILE
    if path.resolve() == written.resolve() or identity(path) == identity(written) is not None:
        raise ConfigError(f"--start-from {path} is what this run writes; choose another --out")
    same_architecture(path, load_model(path)[1], config.spec)


def _batches(
    config: TrainConfig, data: TrainData, state: TrainState
) -> Iterator[tuple[torch.Tensor, torch.Tensor]]:
    return batches(
        data.mixture,
        data.sampling(config),
        epochs=config.epochs,
        first_step=state.step,
        workers=suited_workers(_device(), state.ranks)
        if config.workers is None
        else config.workers,
        parts=config.accumulate,
        ranks=state.ranks,
    )


@contextmanager
def _determinism(config: TrainConfig) -> Iterator[None]:
    """Request deterministic algorithms from PyTorch while the block runs, if configured."""
    before = torch.are_deterministic_algorithms_enabled()
    warned = torch.is_deterministic_algorithms_warn_only_enabled()
    if config.deterministic:
        torch.use_deterministic_algorithms(True, warn_only=True)
    try:
        yield
    finally:
        torch.use_deterministic_algorithms(before, warn_only=warned)


def _close_epoch(
    state: TrainState, data: TrainData, per_epoch: int, lr: float, config: TrainConfig
) -> dict[str, Any]:
    """Have the first rank measure and write the epoch, and return its record."""
    state.best_miou, state.stale, record = state.ranks.from_first(
        lambda: _measured_epoch(state, data, per_epoch, lr, config)
    )
    state.loss_sum = 0.0
    state.confusion = np.zeros_like(state.confusion)
    return record


def _measured_epoch(
    state: TrainState, data: TrainData, per_epoch: int, lr: float, config: TrainConfig
) -> tuple[float, int, dict[str, Any]]:
    """Validate if it is due; write the epoch's record and, if it is the best, the model.

    Returns:
        The best mIoU, validations since then, and the record.
    """
    epoch = state.step // per_epoch
    spec = data.spec(config)
    crops = Scores(class_names=spec.class_names, confusion=state.confusion)
    record: dict[str, Any] = {
        "epoch": epoch,
        "step": state.step,
        "lr": lr,
        "train": {**crops.summary(), "loss": state.loss_sum / per_epoch},
    }
    measured = epoch % config.eval_every == 0 or epoch == config.epochs
    if measured:
        backend = TorchBackend(state.average, spec)
        batch_size = GPU_BATCH if _device().type == "cuda" else 1
        for name, dataset in data.measured.items():
            found = evaluate(backend, dataset, config.size_hw, batch_size=batch_size)
            record[name] = found.scores.summary()
        _keep_best(state, data, backend, record, config)
    log = config.out / LOG_FILE
    write_run_file(log, log.read_text() + json.dumps(record) + "\n")
    if measured:
        write_run_file(config.out / PAGE_FILE, _page(config, data.space.classes))
    return state.best_miou, state.stale, record


def _decisive(config: TrainConfig) -> str:
    """Return the name of the split by which the best weights are chosen."""
    return "val" if config.holdout_sequence is None else "holdout"


def _keep_best(
    state: TrainState,
    data: TrainData,
    backend: TorchBackend,
    record: Mapping[str, Any],
    config: TrainConfig,
) -> None:
    """Write the model file and the sample pictures if this validation is the best."""
    decisive = _decisive(config)
    reached = record[decisive][data.metric_on(decisive)]
    if reached <= state.best_miou:
        state.stale += 1
        return
    state.best_miou, state.stale = reached, 0
    spec = replace(
        backend.spec,
        training={**state.settings, "step": state.step},
        metrics={name: record[name] for name in data.measured},
    )
    save_model(config.out / MODEL_FILE, state.average, spec)
    _write_pictures(backend, data.measured[decisive], config)


def _write_pictures(backend: TorchBackend, dataset: FolderDataset, config: TrainConfig) -> None:
    """Write some pictures of a split with their labels and what is predicted."""
    folder, colors = config.out / PICTURE_FOLDER, tuple(backend.spec.colors().values())
    with output_errors(folder):
        folder.mkdir(exist_ok=True)
    for index in np.linspace(0, len(dataset) - 1, min(config.pictures, len(dataset))).astype(int):
        picture, target = dataset[int(index)]
        class_map = predict_picture(backend, picture, config.size_hw).class_map
        path = folder / f"{dataset.image_paths[int(index)].stem}.jpg"
        with replacing(path) as temporary:
            temporary.write_bytes(compare_pictures(picture, [target, class_map], colors))


def _page(config: TrainConfig, classes: Sequence[SegClass]) -> str:
    """Return the page of a run: curves and sample pictures."""
    records = [json.loads(line) for line in (config.out / LOG_FILE).read_text().splitlines()]
    files = sorted((config.out / PICTURE_FOLDER).glob("*.jpg"))
    pictures = {path.stem: path.read_bytes() for path in files}
    title = f"{config.out}: training of {config.arch}"
    return curves_page(records, title, pictures, as_shown(classes))
