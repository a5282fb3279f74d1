"""Runtimes behind one protocol, chosen by the suffix of the model file and by the machine."""

import contextlib
from collections.abc import Callable, Collection, Iterator, Mapping
from dataclasses import dataclass
from importlib import import_module
from importlib.util import find_spec
from pathlib import Path
from types import ModuleType
from typing import Any, Literal, NamedTuple, Protocol, TypeAlias, cast

import numpy as np
from numpy.typing import NDArray

from roadseg.backends.machine import core_count, limited_cores, memory_bytes
from roadseg.backends.onnx_record import read_metadata
from roadseg.backends.weights import SHIPPED_MODELS
from roadseg.errors import BackendUnavailable, ModelFileError
from roadseg.spec import ModelSpec

Output = Literal["class_map", "logits"]
"""An output of a model, by its name in exported graphs."""
Frames: TypeAlias = NDArray[np.uint8] | Any
"""(N, H, W, 3) uint8 RGB: an array, or where a runtime takes it a PyTorch tensor."""
CLASS_MAP: tuple[Output, ...] = ("class_map",)
LOGITS: tuple[Output, ...] = ("logits",)


@dataclass(frozen=True)
class Answer:
    """The outputs that were asked for of one run of the network, where its input lies."""

    outputs: Mapping[Output, Any]

    @property
    def class_map(self) -> NDArray[np.uint8]:
        """Ids (N, H, W)."""
        return cast("NDArray[np.uint8]", self.outputs["class_map"])

    @property
    def logits(self) -> NDArray[np.float32]:
        """(N, C, H/s, W/s) at the model's stride s, contiguous; their argmax is the class map."""
        return cast("NDArray[np.float32]", self.outputs["logits"])


class Backend(Protocol):
    """A loaded model on some runtime. One thread uses it at a time."""

    @property
    def spec(self) -> ModelSpec:
        """Classes, palette and default input size."""
        ...

    def run(self, frames: Any, wants: Collection[Output] = CLASS_MAP) -> Answer:
        """Run the network once.

        Args:
            frames: (N, H, W, 3) uint8 RGB, sides multiples of 32: an array, or a tensor on a GPU
                where the runtime is `on_device`.
            wants: Outputs to return; others need not be computed.
        """
        ...

    def close(self) -> None:
        """Free what the runtime holds."""
        ...


Opener = Callable[[Path, str, int | None], Backend]
"""Opens a model, given its file, the name of a runtime and a number of threads."""


class Runtime(NamedTuple):
    """What is known of a runtime before it is imported."""

    suffixes: tuple[str, ...]
    """Suffixes of the model files that it reads."""
    module: str
    """Module with `open_model`, `version` and `DIVISIBLE`.

    A runtime is divisible if replicas with few threads each have more throughput than one with all
    cores, as on a CPU: threads that share a frame wait for each other at every layer. Its
    `open_model` takes the number of threads.
    """
    install: str
    """Command that installs it."""
    on_device: bool = False
    """Whether it takes frames that lie on a GPU, and returns its outputs there."""
    has_cuda_graphs: bool = False
    """Whether its `open_model` takes `cuda_graph`: whether a run is started as one CUDA graph."""
    needs_gpu: bool = False
    """Whether it runs on a GPU alone."""


MOST_REPLICAS = 8
"""Most replicas of a model in a pipeline.

The network takes about eight times as long as the largest sequential stage (`roadseg bench`, many
cores), which is the limit for this many replicas. Further cores give each of them more threads.
"""
REPLICA_BYTES = 80 << 20
"""Memory of a replica of the shipped model, its copy of the weights included."""
REPLICAS_SHARE = 8
"""Replicas take at most the machine's memory divided by this."""
_EXTRA = "pip install '.[{}]' in a checkout of roadseg"
BACKENDS = {
    "onnxruntime": Runtime(
        (".onnx",),
        "roadseg.backends.onnxruntime",
        "pip install onnxruntime",
    ),
    "onnxruntime-rtx": Runtime(
        (".onnx",),
        "roadseg.backends.onnxruntime_rtx",
        _EXTRA.format("rtx-lite"),
        needs_gpu=True,
    ),
    "openvino": Runtime(
        (".xml", ".onnx"),
        "roadseg.backends.openvino",
        _EXTRA.format("openvino"),
    ),
    "torch": Runtime(
        (".safetensors",),
        "roadseg.backends.torch",
        _EXTRA.format("train"),
        on_device=True,
        has_cuda_graphs=True,
    ),
    "torch-compiled": Runtime(
        (".safetensors",),
        "roadseg.backends.torch_compiled",
        _EXTRA.format("train"),
        on_device=True,
    ),
    "tensorrt": Runtime(
        (".engine",),
        "roadseg.backends.tensorrt",
        _EXTRA.format("tensorrt"),
        on_device=True,
        has_cuda_graphs=True,
        needs_gpu=True,
    ),
}
"""The runtimes by name. `suited` chooses between those that read the same suffix."""


class Replicas(NamedTuple):
    """How the cores are divided between replicas of a model."""

    number: int
    """Replicas, each on a thread of the pipeline."""
    threads: int | None
    """Threads of each; None leaves it to the runtime."""


def replicas_for(path: Path, name: str = "auto", most_cores: int | None = None) -> Replicas:
    """Return the replicas with the best throughput for a model file, whatever the latency.

    Args:
        path: Model file.
        name: As `open_backend`.
        most_cores: Cores for them all; None is all that the process has.

    Raises:
        ModelFileError, BackendUnavailable: As `open_backend`.
    """
    cores = core_count(most_cores)
    memory = memory_bytes()
    fitting = cores if memory is None else memory // (REPLICAS_SHARE * REPLICA_BYTES)
    count = max(min(cores, MOST_REPLICAS, fitting), 1)
    if count == 1 or not import_runtime(runtime_of(path, name)).DIVISIBLE:
        # By itself, a runtime would take all cores of the machine that a container is on.
        return Replicas(1, cores if most_cores or cores == 1 else None)
    return Replicas(count, -(-cores // count))


def open_backend(
    path: Path,
    name: str = "auto",
    threads: int | None = None,
    *,
    cuda_graph: bool | None = None,
) -> Backend:
    """Open a model file with the runtime that reads it.

    Args:
        path: Model file.
        name: A key of `BACKENDS`, or "auto" to go by the suffix and the machine.
        threads: Threads to compute on, if the runtime is divisible; None leaves it to the runtime,
            but for a container's limit on CPU time.
        cuda_graph: Whether a run on a GPU starts as one CUDA graph, if the runtime has these; None
            leaves it to the runtime.

    Raises:
        ModelFileError: The file is missing, not ours, of a kind that the runtime does not read, or
            was compiled for another machine.
        BackendUnavailable: The runtime is unknown, not installed, or does not start here.
    """
    name = runtime_of(path, name)
    module = import_runtime(name)
    open_model = cast(Callable[..., Backend], module.open_model)
    if cuda_graph is not None and BACKENDS[name].has_cuda_graphs:
        return open_model(path, cuda_graph=cuda_graph)
    threads = threads or limited_cores()
    return open_model(path, threads) if threads and module.DIVISIBLE else open_model(path)


def runtime_of(path: Path, name: str = "auto") -> str:
    """Return the name of the runtime with which `open_backend` opens a model file.

    Args:
        path: Model file.
        name: A key, or "auto" to go by the suffix and the machine.

    Raises:
        ModelFileError: The file is missing, or of a kind that the runtime does not read.
        BackendUnavailable: The runtime is unknown.
    """
    name = suited(path) if name == "auto" else name
    if name not in BACKENDS:
        raise BackendUnavailable(
            f"--backend is {name!r}; use auto or one of: {', '.join(BACKENDS)}"
        )
    runtime = BACKENDS[name]
    if path.suffix not in runtime.suffixes:
        raise ModelFileError(
            f"{path} is not for the {name} backend, which reads "
            f"{' and '.join(runtime.suffixes)} files; give one with --weights"
        )
    if not path.is_file():
        raise ModelFileError(f"{path}, the model, does not exist; check its name")
    return name


def import_runtime(name: str) -> ModuleType:
    """Return the module of a runtime, a key of `BACKENDS`.

    Raises:
        BackendUnavailable: It is not installed, or does not load.
    """
    runtime = BACKENDS[name]
    try:
        return import_module(runtime.module)
    except ImportError as error:
        raise BackendUnavailable(
            f"the {name} backend does not load here ({error}); run: {runtime.install}"
        ) from error


def suited(path: Path) -> str:
    """Return the runtime for a model file on this machine.

    A file that was compiled for a runtime goes to that one. A portable file in 8 bits goes to
    OpenVINO if it is installed, the fastest at those; in FP32 it was no faster than ONNX Runtime.

    Raises:
        ModelFileError: No runtime reads files of its suffix.
    """
    readers = [name for name, runtime in BACKENDS.items() if path.suffix in runtime.suffixes]
    if not readers:
        suffixes = dict.fromkeys(s for runtime in BACKENDS.values() for s in runtime.suffixes)
        raise ModelFileError(
            f"{path} has no known suffix; give a model that ends in {' or '.join(suffixes)}, or "
            f"the name of one that is included: {', '.join(SHIPPED_MODELS)}"
        )
    if len(readers) == 1 or (spec := stated_spec(path)) is None:
        return readers[0]
    build = spec.build
    if build and build.runtime_version is not None:
        return build.runtime
    is_fastest = build and build.precision == "int8" and find_spec("openvino")
    return "openvino" if is_fastest else readers[0]


def stated_spec(path: Path) -> ModelSpec | None:
    """Return the record in an ONNX file, read without a runtime; None if there is none.

    Raises:
        ModelFileError: The record is damaged.
    """
    record = read_metadata(path).get("roadseg")
    return None if record is None else ModelSpec.from_json(record, path)


SINGLE = {"frames": "uint8", "class_map": "uint8", "logits": "float32"}
"""Types of the inputs and outputs of graphs in single precision, and of answers."""
HALF = {"frames": "uint8", "class_map": "int32", "logits": "float16"}
"""The same of graphs in half precision."""


class Signature(NamedTuple):
    """Type and shape of an input or output of a graph."""

    kind: str
    """NumPy's name of its type."""
    shape: tuple[int | None, ...]
    """Its dimensions; None stands for any."""


def refuse_other_graph(path: Path, spec: ModelSpec, found: Mapping[str, Signature]) -> None:
    """Raise `ModelFileError` if a graph's inputs and outputs do not match its record."""
    shapes: dict[str, tuple[int | None, ...]] = {
        "frames": (None, None, None, 3),
        "class_map": (None, None, None),
        "logits": (None, spec.num_classes, None, None),
    }
    is_half = "class_map" in found and found["class_map"].kind == HALF["class_map"]
    for name, kind in (HALF if is_half else SINGLE).items():
        signature = Signature(kind, shapes[name])
        if name not in found or not _fits(found[name], signature):
            raise ModelFileError(
                f"{path} does not fit its own record: {name} is {_shown(found.get(name))} and must "
                f"be {_shown(signature)}; export the model again"
            )


def _fits(found: Signature, wanted: Signature) -> bool:
    if found.kind != wanted.kind or len(found.shape) != len(wanted.shape):
        return False
    sides = zip(found.shape, wanted.shape, strict=True)
    return all(there is None or needed in (None, there) for there, needed in sides)


def _shown(signature: Signature | None) -> str:
    if signature is None:
        return "missing"
    return (
        f"{signature.kind} ({', '.join('any' if n is None else str(n) for n in signature.shape)})"
    )


@contextlib.contextmanager
def run_errors(path: Path, frames: NDArray[np.uint8], *kinds: type[Exception]) -> Iterator[None]:
    """Translate the errors of a runtime that cannot run a model on frames.

    Args:
        path: Model file.
        frames: (N, H, W, 3).
        kinds: Classes of the runtime's errors.
    """
    try:
        yield
    except kinds as error:
        count, height, width = frames.shape[:3]
        raise ModelFileError(
            f"{path} cannot be run on {count} frames of {width}x{height} ({reason_of(error)}); use "
            "a smaller --size, or export the model again"
        ) from error


def answer_of(
    path: Path, spec: ModelSpec, wants: Collection[Output], found: Collection[NDArray[Any]]
) -> Answer:
    """Return the outputs of a run in the types of an answer, whatever those of the graph.

    Raises:
        ModelFileError: There are ids that the record does not name.
    """
    given = dict(zip(wants, found, strict=True))
    class_map = given.get("class_map")
    if class_map is not None and class_map.size and class_map.max() >= spec.num_classes:
        raise ModelFileError(
            f"{path} does not fit its own record: it gives the id {class_map.max()}, and there are "
            f"{spec.num_classes} classes; export the model again"
        )
    return Answer({o: np.asarray(given[o], SINGLE[o]) for o in wants})


def reason_of(error: Exception) -> str:
    """Return the last line of a runtime's error, which has the reason, or else its type."""
    lines = [line.strip() for line in str(error).splitlines()]
    reasons = [line for line in lines if line and not line.startswith("Exception from")]
    return reasons[-1] if reasons else type(error).__name__


def refuse_misfit(path: Path, spec: ModelSpec, runtime: str, version: str, device: str) -> None:
    """Raise `ModelFileError` if a file was compiled for another runtime, version or device."""
    misfit = spec.build and spec.build.misfit(runtime, version, device)
    if misfit:
        raise ModelFileError(f"{path} must not run here: {misfit}; run roadseg compile again")
