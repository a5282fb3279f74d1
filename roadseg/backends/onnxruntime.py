"""ONNX Runtime, on the CPU or with its CUDA build on a GPU: what the base install runs."""

import re
from collections.abc import Collection
from functools import lru_cache
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from roadseg.backends.machine import cpu_kind
from roadseg.backends.onnx_cut import cut_to
from roadseg.backends.onnxruntime_silent import ort
from roadseg.backends.runtimes import (
    CLASS_MAP,
    Answer,
    Output,
    Signature,
    answer_of,
    reason_of,
    refuse_misfit,
    refuse_other_graph,
    run_errors,
)
from roadseg.errors import ModelFileError
from roadseg.spec import ModelSpec

PROVIDERS = ("CUDAExecutionProvider", "CPUExecutionProvider")
"""Execution providers, the best first; the usual build has only the second."""

KINDS = {
    "tensor(uint8)": "uint8",
    "tensor(int32)": "int32",
    "tensor(float)": "float32",
    "tensor(float16)": "float16",
}
"""NumPy's names of types, by the runtime's."""

FOLDER_OPTION = "session.model_external_initializers_file_folder_path"
"""Option of a session that tells where a model given as bytes finds its other files."""
SOURCE_LINE = re.compile(r"/onnxruntime_src/\S+ .*?\) (?=[A-Z[])")
"""Matches the place in the runtime's source that an error came from."""
OLDER = "export it for an older version of ONNX, or update ONNX Runtime"
WAYS_OUT = {
    "External data": "put the file of its weights beside it, under the name that it had",
    "External initializer": "copy the file of its weights anew, as this one is cut short",
    "model IR version": OLDER,
    "till opset": OLDER,
}
"""What to do, by a part of the runtime's reason."""
CHOICES_KEPT = 3
"""Sessions that a backend keeps: of two outputs there are three choices."""
DIVISIBLE = PROVIDERS[0] not in ort.get_available_providers()


class OnnxRuntimeBackend:
    """An exported model, with a session for each choice of outputs from its first use on.

    Args:
        spec: The model's record.
        path: Its file, which `roadseg export` or `roadseg compile` wrote.
        threads: Threads to compute on; 0 takes one for each core.
    """

    def __init__(self, spec: ModelSpec, path: Path, threads: int) -> None:
        self.spec = spec
        self._path = path
        self._threads = threads
        self._session = lru_cache(CHOICES_KEPT)(self._open)

    def run(self, frames: NDArray[np.uint8], wants: Collection[Output] = CLASS_MAP) -> Answer:
        session = self._session(frozenset(wants))
        # The runtime's errors share no base class but this.
        with run_errors(self._path, frames, Exception):
            found = session.run(list(wants), {"frames": frames})
        return answer_of(self._path, self.spec, wants, found)

    def close(self) -> None:
        del self._session

    def _open(self, wants: frozenset[Output]) -> ort.InferenceSession:
        """Return a session that computes only these outputs."""
        return open_session(self._path, wants, intra_op_num_threads=self._threads)


def open_model(path: Path, threads: int | None = None) -> OnnxRuntimeBackend:
    """Open an exported model, to compute on so many threads.

    Raises:
        ModelFileError: The file is no ONNX model, not one of ours, or compiled for something else.
    """
    as_written = ort.GraphOptimizationLevel.ORT_DISABLE_ALL  # it is only looked at
    spec = open_graph(path, graph_optimization_level=as_written)[1]
    refuse_misfit(path, spec, "onnxruntime", version(), cpu_kind())
    return OnnxRuntimeBackend(spec, path, threads or 0)


def open_graph(path: Path, **options: Any) -> tuple[ort.InferenceSession, ModelSpec]:
    """Open a session of an exported model; return it with the model's record.

    Raises:
        ModelFileError: The file is no ONNX model, or not one of ours.
    """
    session = open_session(path, **options)
    record = session.get_modelmeta().custom_metadata_map.get("roadseg")
    if record is None:
        raise ModelFileError(
            f"{path} was not made by roadseg; use a file from roadseg export, or have roadseg "
            "adopt make one of it"
        )
    spec = ModelSpec.from_json(record, path)
    ends = [*session.get_inputs(), *session.get_outputs()]
    refuse_other_graph(path, spec, {end.name: signature(end) for end in ends})
    return session, spec


def signature(end: ort.NodeArg) -> Signature:
    """Return the type and shape of an input or output."""
    shape = tuple(side if isinstance(side, int) else None for side in end.shape)
    return Signature(KINDS.get(end.type, end.type), shape)


def open_session(
    path: Path, wants: Collection[str] | None = None, **options: Any
) -> ort.InferenceSession:
    """Open a session as the backend does, with more attributes of its options set.

    Args:
        path: Model file.
        wants: Outputs that it is to compute; None takes all.
        options: The attributes.

    Raises:
        ModelFileError: The file is no ONNX model, or has a name that the runtime does not take.
    """
    _refuse_name(path)
    settings = session_options()
    for name, value in options.items():
        setattr(settings, name, value)
    present = [name for name in PROVIDERS if name in ort.get_available_providers()]
    if wants is not None:
        settings.add_session_config_entry(FOLDER_OPTION, str(path.parent))
    try:
        model = path if wants is None else cut_to(path.read_bytes(), wants)
        return ort.InferenceSession(model, settings, providers=present)
    except Exception as error:  # the runtime's errors share no base class but this
        reason = SOURCE_LINE.sub("", reason_of(error))
        advice = next((way for sign, way in WAYS_OUT.items() if sign in reason), "export it again")
        raise ModelFileError(
            f"{path} is no ONNX model that can be run ({reason}); {advice}"
        ) from error


def _refuse_name(path: Path) -> None:
    try:
        str(path).encode()
    except UnicodeEncodeError as error:
        raise ModelFileError(
            f"{path} has a name that is not UTF-8, and ONNX Runtime takes no other; rename the "
            "file, or the folder that it is in"
        ) from error


def session_options() -> ort.SessionOptions:
    """Return the options that all sessions share."""
    settings = ort.SessionOptions()
    # Threads that spin while they wait take the cores from decoding and encoding.
    settings.add_session_config_entry("session.intra_op.allow_spinning", "0")
    # Planned by the runtime in advance, a run of the shipped model holds 96 MB in place of 59.
    settings.enable_mem_pattern = False
    settings.log_severity_level = 4  # errors come as exceptions; nothing else is printed
    return settings


def version() -> str:
    """Return the runtime's version."""
    return str(ort.__version__)
