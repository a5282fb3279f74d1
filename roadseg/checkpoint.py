"""Model files and training states on disk, written atomically and read without pickle.

A model file (`.safetensors`) holds weights and the `ModelSpec`: what to share, export and evaluate.
A training state (`.pt`) holds all that a run needs to go on as if it had never stopped.
"""

import io
from pathlib import Path
from pickle import UnpicklingError
from typing import Any

import torch
from safetensors import SafetensorError, safe_open
from safetensors.torch import save
from torch import nn

from roadseg.config import ModelSpec
from roadseg.errors import ConfigError, ModelFileError
from roadseg.files import replacing
from roadseg.models import build_model

STATE_FORMAT = 2


def save_model(path: Path, network: nn.Module, spec: ModelSpec) -> None:
    """Write weights and record to `path`, all or nothing. Raises `OutputError`."""
    tensors = {name: tensor.contiguous() for name, tensor in network.state_dict().items()}
    with replacing(path) as temporary:
        temporary.write_bytes(save(tensors, {"roadseg": spec.to_json()}))


def load_model(path: Path) -> tuple[nn.Module, ModelSpec]:
    """Read a model file and build its network, in evaluation mode.

    Raises:
        ModelFileError: The file is missing, or no model file of ours.
    """
    if not path.is_file():
        raise ModelFileError(f"{path} does not exist; give a .safetensors file that roadseg wrote")
    if path.suffix == ".pt":
        raise ModelFileError(
            f"{path} is a training state, for going on; give the run's best.safetensors"
        )
    if path.suffix == ".onnx":
        raise ModelFileError(
            f"{path} is an exported model; give the .safetensors file that it was exported from"
        )
    try:
        with safe_open(path, framework="pt") as file:
            record = (file.metadata() or {}).get("roadseg")
            tensors = {name: file.get_tensor(name) for name in file.keys()}  # noqa: SIM118
    except SafetensorError as error:
        raise ModelFileError(
            f"{path} is no safetensors file ({error}); train or download it again"
        ) from error
    if record is None:
        raise ModelFileError(f"{path} was not written by roadseg; give a model from roadseg train")
    spec = ModelSpec.from_json(record, path)
    try:
        network = build_model(spec)
        network.load_state_dict(tensors)
    except (RuntimeError, MemoryError, ConfigError) as error:
        reason = str(error).partition("\n")[0]
        raise ModelFileError(
            f"{path} does not fit its own record ({reason}); train again"
        ) from error
    return network.eval(), spec


def save_state(path: Path, state: dict[str, Any]) -> None:
    """Write a training state to `path`, all or nothing. Raises `OutputError`."""
    buffer = io.BytesIO()  # torch.save into a file tells a full disk from a bug by its prose alone
    torch.save({"format": STATE_FORMAT, **state}, buffer)
    with replacing(path) as temporary:
        temporary.write_bytes(buffer.getbuffer())


def load_state(path: Path) -> dict[str, Any]:
    """Read a training state.

    Raises:
        ModelFileError: The file is no training state of ours.
    """
    try:
        state: dict[str, Any] = torch.load(path, map_location="cpu", weights_only=True)
    except (RuntimeError, UnpicklingError, EOFError, OSError) as error:
        raise ModelFileError(
            f"{path} is no training state ({error}); remove it to start afresh"
        ) from error
    if not isinstance(state, dict) or state.get("format") != STATE_FORMAT:
        raise ModelFileError(
            f"{path} is no training state of this version; remove it to start afresh"
        )
    return state
