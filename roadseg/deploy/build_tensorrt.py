"""TensorRT and TensorRT-RTX in half precision, through torch-tensorrt: from frames to class ids.

Which of them depends on which of torch-tensorrt's packages is installed.
`enabled_precisions`, which other projects give here, is accepted and ignored: TensorRT 11 computes
in the types that the graph has. `roadseg.models.half` sets them, and `census` counts what came out.
"""

import contextlib
import hashlib
import json
import logging
import shutil
import tempfile
import warnings
from collections import Counter
from collections.abc import Iterator, Mapping
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from torch import nn
from torch.export import ExportedProgram

from roadseg.backends import tensorrt_rtx as rtx
from roadseg.backends.tensorrt import version
from roadseg.backends.tensorrt_engine import EngineRecord, import_nvidia, open_engine, save_engine
from roadseg.backends.tuned import kept_folder
from roadseg.deploy.builders import Source, checkpoint_of
from roadseg.errors import ExportError, OutputError
from roadseg.files import check_writable, replacing
from roadseg.models.checkpoint import load_model
from roadseg.models.half import HalfSegmenter
from roadseg.spec import ModelSpec

__all__ = ["FIXED_SHAPE", "PRECISIONS", "SUFFIX", "build", "census", "device", "version"]

PRECISIONS = ("fp16",)
SUFFIX = ".engine"
FIXED_SHAPE = True
NAMES = {
    "FP32": "fp32",
    "FLOAT": "fp32",
    "FP16": "fp16",
    "HALF": "fp16",
    "BF16": "bf16",
    "BFLOAT16": "bf16",
    "FP8": "fp8",
    "INT8": "int8",
    "UINT8": "uint8",
    "INT32": "int32",
    "INT64": "int64",
    "BOOL": "bool",
}
"""Our names of the types by the words that TensorRT uses for them, in capitals."""


def device() -> str:
    """Return the GPUs that an engine built here is for. Raises `BackendUnavailable`."""
    return EngineRecord.here((1, 1, 1)).place


def build(source: Source, out: Path) -> None:
    """Build an engine of a checkpoint, for the shape of the record's build.

    Raises:
        ConfigError: The model is no checkpoint: the types of an exported graph are set already.
        BackendUnavailable: There is no torch-tensorrt or no GPU.
        ExportError: torch-tensorrt or TensorRT refuses the graph.
        OutputError: The file cannot be written.
    """
    assert source.spec.build is not None
    network, _ = load_model(checkpoint_of(source))
    build_engine(network, source.spec, source.spec.build.shape, out)


def build_engine(
    network: nn.Module, spec: ModelSpec, shape: tuple[int, int, int], out: Path
) -> None:
    """Build an engine for this machine's GPU, and all that share it.

    Args:
        network: Network in single precision and evaluation mode; it is left alone.
        spec: Its record; the engine's states the size that it is fixed to.
        shape: Frames, height and width of the input, which the engine is fixed to.
        out: File to write, all or nothing.

    Raises:
        BackendUnavailable: There is no torch-tensorrt or no GPU.
        ExportError: torch-tensorrt or TensorRT refuses the graph.
        OutputError: The file cannot be written.
    """
    torch_tensorrt: Any = import_nvidia("torch_tensorrt")
    record = EngineRecord.here(shape)
    check_writable(out)
    program = export_half(network, shape)
    engine = _convert(torch_tensorrt, program, record)
    save_engine(out, engine, record, replace(spec, size_hw=shape[1:]))


def export_half(network: nn.Module, shape: tuple[int, int, int]) -> ExportedProgram:
    """Return the graph in half precision for one shape: frames, height and width."""
    example = torch.zeros(*shape, 3, dtype=torch.uint8)
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # its notes on its own deprecations
        return torch.export.export(HalfSegmenter(network), (example,), strict=False)


def census(path: Path, frames: NDArray[np.uint8] | None = None) -> Counter[str]:  # noqa: ARG001
    """Count the layers of a built engine by the precision of what they give; any frames do.

    TensorRT fuses and adds layers, so these are not those of the network. The first ones turn
    uint8 to FP32 and that to FP16; a convolution in FP32 would be a fault.

    Raises:
        ModelFileError: The file is no engine of ours, or one for another machine.
        BackendUnavailable: There is no TensorRT or no GPU.
    """
    engine, _ = open_engine(path)
    return count_precisions(engine.layers())


def count_precisions(layers: list[dict[str, Any]]) -> Counter[str]:
    """Count layers, as TensorRT's inspector describes them, by the precision of what they give."""
    return Counter(
        _precision(output) for layer in layers for output in layer.get("Outputs", [])[:1]
    )


def _precision(tensor: Mapping[str, Any]) -> str:
    """Return the type of a tensor; before TensorRT 11 its name is a word in that of the format."""
    text = str(tensor.get("DataType") or tensor.get("Format/Datatype") or "")
    words = text.upper().replace(".", " ").split()
    return next((NAMES[word] for word in words if word in NAMES), "unknown")


def _convert(torch_tensorrt: Any, program: ExportedProgram, record: EngineRecord) -> bytes:
    """Return the engine of a graph, whole: what does not convert is an error, not a fallback."""
    frames = torch_tensorrt.Input((*record.shape, 3), dtype=torch.uint8)
    with (
        tempfile.TemporaryDirectory(prefix="roadseg-") as folder,
        _detailed(folder),
        _targeted(record),
        _timings(record, Path(folder)) as timing_cache,
    ):
        try:
            engine: bytes = torch_tensorrt.dynamo.convert_exported_program_to_serialized_trt_engine(
                program,
                arg_inputs=[frames],
                require_full_compilation=True,
                min_block_size=1,
                timing_cache_path=str(timing_cache),
            )
        except RuntimeError as error:
            raise ExportError(
                f"TensorRT refuses the network ({_reason(error)}); it takes shapes and operators "
                "as in unet, unet-lite and deeplabv3plus; if memory is the reason, choose a "
                "smaller size or batch"
            ) from error
    return engine


def _targeted(record: EngineRecord) -> contextlib.AbstractContextManager[None]:
    """Have engines of TensorRT-RTX built for the compute capabilities in the record."""
    if record.library != rtx.LIBRARY:
        return contextlib.nullcontext()
    from torch_tensorrt.dynamo.conversion._TRTInterpreter import TRTInterpreter

    return rtx.built_for(import_nvidia(record.library), TRTInterpreter, record.capabilities)


@contextlib.contextmanager
def _timings(record: EngineRecord, folder: Path) -> Iterator[Path]:
    """Give a timing cache to build with, and keep it for the next build on such a GPU.

    It is a copy in a folder: builds at the same time do not write over each other. The usual place,
    in the temporary folder, is anybody's. TensorRT-RTX times nothing and leaves it as it is.
    """
    kept, copy = kept_folder("tensorrt"), folder / "timing.bin"
    machine = json.dumps([record.gpu, record.capability, record.library, record.tensorrt])
    name = f"timing-{hashlib.sha256(machine.encode()).hexdigest()[:32]}.bin"
    if kept and (kept / name).is_file():
        shutil.copyfile(kept / name, copy)
    yield copy
    if kept and copy.is_file():
        with contextlib.suppress(OutputError), replacing(kept / name) as temporary:
            shutil.copyfile(copy, temporary)


@contextlib.contextmanager
def _detailed(folder: str) -> Iterator[None]:
    """Have engines keep the types of their layers, which torch-tensorrt drops unless it debugs.

    Its debugger takes over the root logger, which is put back. What it logs of an error, with all
    of the graph, is in the error as well; TensorRT's own lines come through.
    """
    from torch_tensorrt.dynamo import Debugger

    root, converter = logging.getLogger(), logging.getLogger("torch_tensorrt.dynamo")
    handlers, level = root.handlers[:], root.level
    converter.setLevel(logging.CRITICAL + 1)
    try:
        with Debugger(log_level="error", engine_builder_monitor=False, logging_dir=folder):
            yield
    finally:
        for handler in set(root.handlers) - set(handlers):
            handler.close()
        root.handlers[:] = handlers
        root.setLevel(level)
        converter.setLevel(logging.NOTSET)


def _reason(error: BaseException) -> str:
    """Return the first line of the innermost error: the outer ones carry the whole graph."""
    while error.__cause__ is not None:
        error = error.__cause__
    lines = str(error).splitlines()
    return lines[0] if lines else type(error).__name__
