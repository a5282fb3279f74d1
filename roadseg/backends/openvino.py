"""OpenVINO on the CPU: exported models, and those that `roadseg compile` built for it."""

import contextlib
import ctypes
import sys
from collections.abc import Collection, Iterator
from functools import lru_cache
from pathlib import Path
from threading import Lock
from typing import NamedTuple
from weakref import WeakValueDictionary

import numpy as np
from numpy.typing import NDArray

from roadseg.backends.machine import cpu_kind
from roadseg.backends.openvino_silent import ov
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

DEVICE = "CPU"
DIVISIBLE = True
KINDS = {"u8": "uint8", "i32": "int32", "f32": "float32", "f16": "float16"}
"""NumPy's names of types, by OpenVINO's."""
RECORD_PLACE = ("framework", "roadseg")
"""Path of the record in the runtime information, where OpenVINO puts ONNX metadata."""
HINTS = {"fp32": "f32", "bf16": "bf16"}
"""Inference precision by that of the build.

An int8 build has none: OpenVINO computes the rest of its graph in bfloat16 where the CPU has it,
which took two thirds of the CPU time of FP32.
"""

REQUESTS_KEPT = 8
"""Compiled shapes that are kept: the pictures of a folder may have many."""

_COMPILING = Lock()
"""Held while a model is compiled, so that another copy of it waits for that and takes it over."""
_compiled: "WeakValueDictionary[tuple[object, ...], ov.CompiledModel]" = WeakValueDictionary()
"""Models in use, by all that they were compiled from and for. Not their copies, which OpenVINO does
not copy again."""

# OpenVINO's binding builds its tables of types on first use, and deadlocks where two threads do so
# at once. An import runs on one thread.
ov.Tensor(np.zeros(1, np.uint8), shared_memory=True).element_type.to_dtype()


class _SignalStack(ctypes.Structure):
    """The C library's `stack_t`."""

    _fields_ = (("base", ctypes.c_void_p), ("flags", ctypes.c_int), ("size", ctypes.c_size_t))


@contextlib.contextmanager
def signal_stack_kept() -> Iterator[None]:
    """Restore the thread's signal stack at the end of the block.

    OpenVINO sets one of its own when it compiles. With two models open, it restores a freed stack
    when the second is closed, and the next signal, such as SIGCHLD, kills the process.
    """
    library = ctypes.CDLL(None) if sys.platform == "linux" else None
    saved = _SignalStack()
    if library:
        library.sigaltstack(None, ctypes.byref(saved))
    try:
        yield
    finally:
        if library:
            library.sigaltstack(ctypes.byref(saved), None)


class _Ready(NamedTuple):
    """A model of one shape, ready to run."""

    compiled: ov.CompiledModel
    request: ov.InferRequest


class OpenVinoBackend:
    """A model, compiled for each shape of input on first use.

    A further copy of a model takes over what the first was compiled to, in a quarter of the time.

    Args:
        model: Graph of any input size.
        spec: Its record.
        path: Its file, for messages.
        threads: Threads to compute on; None takes one for each core, pinned to it.
    """

    def __init__(
        self, model: ov.Model, spec: ModelSpec, path: Path, threads: int | None = None
    ) -> None:
        self.spec = spec
        self._path = path
        self._model = model
        self._settings = compile_settings(spec)
        if threads is not None:  # replicas would all be pinned to the same cores
            self._settings |= {"INFERENCE_NUM_THREADS": threads, "ENABLE_CPU_PINNING": False}
        status = path.stat()
        self._file = path.resolve(), status.st_ino, status.st_mtime_ns
        self._ready = lru_cache(REQUESTS_KEPT)(self._make_ready)

    @signal_stack_kept()
    def run(self, frames: NDArray[np.uint8], wants: Collection[Output] = CLASS_MAP) -> Answer:
        with run_errors(self._path, frames, RuntimeError, MemoryError):
            request = self._ready(frames.shape, frozenset(wants)).request
            request.infer([np.ascontiguousarray(frames)], share_inputs=True)
        # The next call overwrites the request's own memory.
        found = [np.array(request.get_tensor(output).data) for output in wants]
        return answer_of(self._path, self.spec, wants, found)

    @signal_stack_kept()
    def close(self) -> None:
        del self._ready, self._model

    def _make_ready(self, shape: tuple[int, ...], wants: frozenset[Output]) -> _Ready:
        """Return the model for one shape, to compute only these outputs."""
        key = self._file, shape, wants, tuple(self._settings.items())
        with _COMPILING:
            compiled = _compiled.get(key)
            if compiled is None:
                compiled = _compiled[key] = self._compile(shape, wants)
            else:
                stored = compiled.export_model()
                compiled = ov.Core().import_model(stored, DEVICE, self._settings)
        return _Ready(compiled, compiled.create_infer_request())

    def _compile(self, shape: tuple[int, ...], wants: frozenset[Output]) -> ov.CompiledModel:
        model = self._model.clone()
        for result in model.get_results():
            if wants.isdisjoint(result.output(0).get_names()):
                model.remove_result(result)
        model.reshape(list(shape))
        return ov.Core().compile_model(model, DEVICE, self._settings)


def compile_settings(spec: ModelSpec) -> dict[str, object]:
    """Return OpenVINO's settings for a model."""
    precision = spec.build.precision if spec.build else "fp32"
    hint = {"INFERENCE_PRECISION_HINT": HINTS[precision]} if precision in HINTS else {}
    return {"PERFORMANCE_HINT": "LATENCY", **hint}


def open_model(path: Path, threads: int | None = None) -> OpenVinoBackend:
    """Open an exported or compiled model, to compute on so many threads.

    Raises:
        ModelFileError: The file is no model, not one of ours, or compiled for something else.
    """
    try:
        model = ov.Core().read_model(path)
    except RuntimeError as error:
        weights = path.with_suffix(".bin")
        is_alone = path.suffix == ".xml" and not weights.is_file()
        advice = f"put its weights beside it as {weights.name}" if is_alone else "export it again"
        raise ModelFileError(f"{path} is no model ({reason_of(error)}); {advice}") from error
    if not model.has_rt_info(list(RECORD_PLACE)):
        raise ModelFileError(
            f"{path} was not made by roadseg; use a file from roadseg compile, or have roadseg "
            "adopt make one of it"
        )
    record = model.get_rt_info(list(RECORD_PLACE)).astype(str)
    spec = ModelSpec.from_json(record, path)
    refuse_misfit(path, spec, "openvino", version(), cpu_kind())
    ends = [*model.inputs, *model.outputs]
    refuse_other_graph(path, spec, {n: _signature(end) for end in ends for n in end.get_names()})
    return OpenVinoBackend(model, spec, path, threads)


def _signature(end: ov.Output) -> Signature:
    shape = end.partial_shape if end.partial_shape.rank.is_static else ()
    sides = (side.get_length() if side.is_static else None for side in shape)
    kind = end.element_type.get_type_name()
    return Signature(KINDS.get(kind, kind), tuple(sides))


def version() -> str:
    """Return the runtime's version without its build number."""
    return str(ov.__version__).partition("-")[0]
