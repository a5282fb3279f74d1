"""The folder of a training run: its files and its state, from which a run is resumed.

A resumed run gives the same result as one that was never stopped.
"""

import io
import json
from collections.abc import Iterator, Mapping
from contextlib import contextmanager, nullcontext
from pathlib import Path
from typing import Any

import torch

from roadseg.data.source import DataSource
from roadseg.errors import ConfigError, ModelFileError
from roadseg.files import make_folder, replacing, sha256_of, written_alone
from roadseg.train.config import TrainConfig
from roadseg.train.step import TrainState

STATE_FORMAT = 2

STATE_FILE = "last.pt"
MODEL_FILE = "best.safetensors"
LOG_FILE = "metrics.jsonl"
PAGE_FILE = "curves.html"
CONFIG_FILE = "config.json"
PICTURE_FOLDER = "pictures"

NOT_OF_THE_RESULT = ("data", "out", "workers", "checkpoint_every_s", "pictures", "trackers")
"""Settings on which the trained weights do not depend."""


def save_state(path: Path, state: dict[str, Any]) -> None:
    """Write a training state to `path` atomically. Raises `OutputError`."""
    buffer = io.BytesIO()  # into a file, torch.save raises a RuntimeError for a full disk
    torch.save({"format": STATE_FORMAT, **state}, buffer)
    with replacing(path) as temporary:
        # Not `getbuffer`: kept by an error, its view crashes Python 3.12.1's garbage collector.
        temporary.write_bytes(buffer.getvalue())


def load_state(path: Path) -> dict[str, Any]:
    """Read a training state.

    Raises:
        ModelFileError: The file is no training state of ours.
    """
    try:
        state = _loaded(path)
    except Exception as error:  # damaged bytes raise any kind; PyTorch's advice is for other files
        reason = getattr(error, "strerror", None) or "it is damaged, or of another kind"
        raise ModelFileError(
            f"{path} is no training state that can be read ({reason}); choose another --out to "
            "start afresh"
        ) from error
    if not isinstance(state, dict) or state.get("format") != STATE_FORMAT:
        raise ModelFileError(
            f"{path} is no training state of this version; choose another --out to start afresh"
        )
    return state


def _loaded(file: Path | io.BytesIO) -> dict[str, Any]:
    state: dict[str, Any] = torch.load(file, map_location="cpu", weights_only=True)
    return state


@contextmanager
def open_run(config: TrainConfig, state: TrainState) -> Iterator[None]:
    """Begin or resume a run on all ranks; the first holds its folder while the block lasts."""
    ranks = state.ranks
    with _folder_of_run(config, state) if ranks.is_first else nullcontext():
        if ranks.count > 1:
            saved = ranks.from_first((config.out / STATE_FILE).read_bytes)
            if not ranks.is_first:
                _unpack(_loaded(io.BytesIO(saved)), state, config)
        yield


@contextmanager
def _folder_of_run(config: TrainConfig, state: TrainState) -> Iterator[None]:
    """Lock the run's folder, and resume its state or begin a new one."""
    state_path = config.out / STATE_FILE
    make_folder(config.out)
    with written_alone(state_path, "--out"):
        if state_path.is_file():
            _unpack(load_state(state_path), state, config)
        else:  # before other files, with which a folder without a state is refused
            save_state(state_path, pack(state))
        if not (config.out / CONFIG_FILE).is_file():
            write_run_file(config.out / CONFIG_FILE, json.dumps(config.to_dict(), indent=2) + "\n")
        _cut_log(config.out / LOG_FILE, state.step)
        yield


def pack(state: TrainState) -> dict[str, Any]:
    """Return the state of a run for `save_state`."""
    return {
        "config": state.settings,
        "data": state.data,
        "data_sha256": state.data_sha256,
        "step": state.step,
        "best_miou": state.best_miou,
        "stale": state.stale,
        "loss_sum": state.loss_sum,
        "confusion": torch.from_numpy(state.confusion),
        "network": state.network.state_dict(),
        "average": state.average.state_dict(),
        "optimizer": state.optimizer.state_dict(),
    }


def _unpack(saved: dict[str, Any], state: TrainState, config: TrainConfig) -> None:
    wanted, found = _one_by_one(state.settings), _one_by_one(saved["config"])
    changes = [
        f"{name} {found.get(name)}, now {value}"
        for name, value in sorted(wanted.items())
        if value != found.get(name)
    ]
    if changes:
        raise ConfigError(
            f"{config.out} holds a run with other settings ({'; '.join(changes)}); resume it with "
            f"its own, --config {config.out / CONFIG_FILE}, or choose another --out"
        )
    # Older states lack the digest.
    found_data = saved["data"], saved.get("data_sha256", state.data_sha256)
    if found_data != (state.data, state.data_sha256):
        raise ConfigError(
            f"{config.out} holds a run on other data than {', '.join(config.data)}, by their "
            "labels, or the names of pictures or classes; give it the data it was started with, or "
            "choose another --out"
        )
    state.network.load_state_dict(saved["network"])
    state.average.load_state_dict(saved["average"])
    state.optimizer.load_state_dict(saved["optimizer"])
    state.step = saved["step"]
    state.best_miou = saved["best_miou"]
    state.stale = saved["stale"]
    state.loss_sum = saved["loss_sum"]
    state.confusion = saved["confusion"].numpy()


def _one_by_one(settings: Mapping[str, Any]) -> dict[str, Any]:
    """Return settings by name, each strength of the augmentation by its own."""
    strengths = {f"augment {name}": value for name, value in settings["augment"].items()}
    return {name: value for name, value in settings.items() if name != "augment"} | strengths


def comparable_settings(config: TrainConfig) -> dict[str, Any]:
    """Return the settings on which the result depends, a file by its digest."""
    settings = config.to_dict()
    if config.start_from is not None:
        settings["start_from"] = sha256_of(config.start_from)
    for name in NOT_OF_THE_RESULT:
        del settings[name]
    if len(config.data) > 1:
        settings["shares"] = [DataSource.parse(text).share for text in config.data]
    return settings


def _cut_log(path: Path, step: int) -> None:
    """Drop lines that were written after the checkpoint.

    Raises:
        ConfigError: The log is damaged.
    """
    lines = path.read_text().splitlines(keepends=True) if path.is_file() else []
    try:
        kept = [line for line in lines if json.loads(line)["step"] <= step]
    except (ValueError, KeyError, TypeError) as error:
        raise ConfigError(
            f"{path} is damaged; move it away to go on with a new one, or choose another --out"
        ) from error
    write_run_file(path, "".join(kept))


def write_run_file(path: Path, text: str) -> None:
    """Write a text file of a run atomically. Raises `OutputError`."""
    with replacing(path) as temporary:
        temporary.write_text(text, encoding="utf-8")
