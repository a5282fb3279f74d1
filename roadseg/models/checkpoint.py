"""Model files (`.safetensors`), written atomically and read without pickle.

A model file holds the weights and the `ModelSpec` of a network. Weights may be stored in half
precision, and are always read in single precision.
"""

from pathlib import Path

from safetensors import SafetensorError, safe_open
from safetensors.torch import save
from torch import Tensor, nn

from roadseg.errors import ConfigError, ModelFileError
from roadseg.files import replacing
from roadseg.models.architectures import build_model
from roadseg.spec import ModelSpec


def save_model(path: Path, network: nn.Module, spec: ModelSpec, *, half: bool = False) -> None:
    """Write weights and record atomically.

    Args:
        path: File to write.
        network: Its weights are in single precision.
        spec: Its record.
        half: Store the weights rounded to half precision, in half of the space.

    Raises:
        OutputError: The file cannot be written.
    """
    tensors = {name: tensor.contiguous() for name, tensor in network.state_dict().items()}
    if half:
        tensors = {name: _halved(tensor) for name, tensor in tensors.items()}
    with replacing(path) as temporary:
        temporary.write_bytes(save(tensors, {"roadseg": spec.to_json()}))


def _halved(tensor: Tensor) -> Tensor:
    """Return a tensor in half precision; as it is if it holds integers or does not fit."""
    halved = tensor.half() if tensor.is_floating_point() else tensor
    return halved if halved.isfinite().all() else tensor


def load_model(path: Path) -> tuple[nn.Module, ModelSpec]:
    """Read a model file and build its network, in single precision and evaluation mode.

    Raises:
        ModelFileError: The file is missing, or no model file of ours.
    """
    _refuse_other_kinds(path)
    record, tensors = _read(path)
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


def _refuse_other_kinds(path: Path) -> None:
    """Raise `ModelFileError` for a file that is missing, or by its suffix something else."""
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


def _read(path: Path) -> tuple[str | None, dict[str, Tensor]]:
    """Return the record in a safetensors file, if it has one, and the tensors by name."""
    try:
        with safe_open(path, framework="pt") as file:
            record = (file.metadata() or {}).get("roadseg")
            return record, {name: file.get_tensor(name) for name in file.keys()}  # noqa: SIM118
    except (SafetensorError, OSError) as error:
        raise ModelFileError(
            f"{path} cannot be read as a safetensors file ({error}); check its permissions, or "
            "train or download it again"
        ) from error
