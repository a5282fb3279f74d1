"""Engines of TensorRT or TensorRT-RTX on disk, each in one file with a record of where it runs.

A file is in the safetensors format: a text header, then the engine's bytes. torch-tensorrt would
save a pickle, which can run any code when it is opened. Here nothing is loaded before the record
has been read and matches this machine. An engine is still a program for the GPU: use only those
that you built.
"""

import hashlib
import json
from dataclasses import asdict, dataclass
from importlib import import_module
from importlib.util import find_spec
from pathlib import Path
from types import ModuleType
from typing import Any, Protocol, Self

import numpy as np
import torch
from numpy.typing import NDArray
from safetensors import SafetensorError, safe_open
from safetensors.numpy import save
from torch import Tensor

from roadseg.backends import tensorrt_rtx as rtx
from roadseg.backends.nvidia import Capability, Gpu
from roadseg.errors import BackendUnavailable, ModelFileError
from roadseg.files import replacing
from roadseg.spec import ModelSpec

ENGINE_FORMAT = 1
TYPES = {"UINT8": torch.uint8, "INT32": torch.int32, "HALF": torch.float16}
"""Types of an engine's frames, class map and logits, by TensorRT's names."""
OUT_OF_MEMORY = (
    "TensorRT could not start the engine, and says why above; if the GPU's memory is full, close "
    "other programs that use it, or build an engine for a smaller size or batch"
)
INSTALL = (
    "pip install '.[tensorrt]', or '.[rtx]' for a GeForce RTX, in a checkout of roadseg and an "
    "environment without the other"
)
NAMES = {"tensorrt": "TensorRT", rtx.LIBRARY: "TensorRT-RTX"}
"""What the libraries are called, by their modules."""


@dataclass(frozen=True, kw_only=True)
class EngineRecord:
    """The machine and input shape that an engine is built for."""

    shape: tuple[int, int, int]
    """Frames, height and width of its input."""
    gpu: str
    """Name of the GPU."""
    capability: Capability
    """Compute capability of the GPU."""
    tensorrt: str
    """Version of the library."""
    library: str = "tensorrt"
    """Module of the library that built it and runs it, a key of `NAMES`."""
    capabilities: tuple[Capability, ...] = ()
    """Compute capabilities of the GPUs that it runs on; none stands for that GPU alone."""
    format: int = ENGINE_FORMAT
    """Version of this record."""

    @classmethod
    def here(cls, shape: tuple[int, int, int]) -> Self:
        """Return the record of an engine built on this machine.

        Raises:
            BackendUnavailable: There is no TensorRT or no GPU, or TensorRT-RTX does not know it.
        """
        library = installed_library()
        version = str(import_nvidia(library).__version__)
        found = torch.cuda.get_device_properties(torch.cuda.current_device())
        gpu = Gpu(found.name, (found.major, found.minor))
        return cls(
            shape=shape,
            gpu=gpu.name,
            capability=gpu.capability,
            tensorrt=version,
            library=library,
            capabilities=rtx.targets_for(gpu) if library == rtx.LIBRARY else (),
        )

    @property
    def place(self) -> str:
        """The GPUs that it is for, as text."""
        if self.capabilities:
            return f"compute capability {rtx.listed(self.capabilities)}"
        return str(Gpu(self.gpu, self.capability))

    def check_runs_on(self, here: Self, path: Path) -> None:
        """Check that the engine was built for a machine like this one.

        Raises:
            ModelFileError: It was not; `path` is named.
        """
        software = (self.library, self.tensorrt)
        has_gpu = (
            here.capability in self.capabilities
            if self.capabilities
            else (self.gpu, self.capability) == (here.gpu, here.capability)
        )
        if has_gpu and software == (here.library, here.tensorrt):
            return
        found = Gpu(here.gpu, here.capability)
        raise ModelFileError(
            f"{path} was built for {self.place} and {NAMES[self.library]} {self.tensorrt}; this "
            f"machine has {found} and {NAMES[here.library]} {here.tensorrt}, and an engine runs "
            "only where all of that fits; build it here"
        )

    @classmethod
    def from_json(cls, text: str, path: Path) -> Self:
        """Read a record back.

        Raises:
            ModelFileError: It is no record of ours, or one of another version; `path` is named.
        """
        try:
            values = json.loads(text)
            if values["format"] != ENGINE_FORMAT:
                raise ModelFileError(
                    f"{path} has engine format {values['format']}; this roadseg reads format "
                    f"{ENGINE_FORMAT}; build it again"
                )
            batch, height, width = map(int, values["shape"])
            known = {
                "shape": (batch, height, width),
                "capability": _capability(values["capability"]),
                "capabilities": tuple(map(_capability, values.get("capabilities", ()))),
                "library": _library(values.get("library", "tensorrt")),
            }
            return cls(**{**values, **known})
        except (ValueError, KeyError, TypeError) as error:
            raise ModelFileError(
                f"{path} carries a damaged engine record ({error}); build it again"
            ) from error


def _capability(numbers: Any) -> Capability:
    """Return a compute capability of JSON's values. Raises `ValueError` and `TypeError`."""
    major, minor = map(int, numbers)
    return major, minor


def _library(name: str) -> str:
    if name not in NAMES:
        raise ValueError(f"its library is {name!r}")
    return name


def installed_library() -> str:
    """Return the module of the library that is installed; TensorRT's where neither is."""
    # After `import torch_tensorrt` that of TensorRT-RTX has the other's name as well.
    return rtx.LIBRARY if find_spec(rtx.LIBRARY) else "tensorrt"


def save_engine(path: Path, engine: bytes, record: EngineRecord, spec: ModelSpec) -> None:
    """Write an engine with its records atomically. Raises `OutputError`."""
    header = {"roadseg": spec.to_json(), "engine": json.dumps(asdict(record))}
    with replacing(path) as temporary:
        temporary.write_bytes(save({"engine": np.frombuffer(engine, np.uint8)}, header))


def load_engine(path: Path) -> tuple[NDArray[np.uint8], EngineRecord, ModelSpec]:
    """Read an engine's bytes and records without running anything.

    Raises:
        ModelFileError: The file is no engine of ours.
    """
    try:
        with safe_open(path, framework="np") as file:
            header = file.metadata() or {}
            data = file.get_tensor("engine") if "engine" in header else None
    except (SafetensorError, OSError) as error:
        raise ModelFileError(f"{path} is no engine file ({error}); build it again") from error
    if data is None or "roadseg" not in header:
        raise ModelFileError(f"{path} was not built by roadseg; build an engine from a model of it")
    record = EngineRecord.from_json(header["engine"], path)
    return data, record, ModelSpec.from_json(header["roadseg"], path)


def import_nvidia(name: str) -> ModuleType:
    """Import `tensorrt`, `tensorrt_rtx` or `torch_tensorrt`, and translate their errors.

    Raises:
        BackendUnavailable: It does not import, or there is no GPU to import it for.
    """
    if not torch.cuda.is_available():
        build = torch.version.cuda
        raise BackendUnavailable(
            "PyTorch finds no NVIDIA GPU here "
            f"({f'it is made for CUDA {build}' if build else 'it is a build for the CPU'}); "
            "TensorRT needs one with its driver and PyTorch for CUDA; install them, or use a model "
            "for another backend"
        )
    try:
        return import_module(name)
    except Exception as error:  # missing libraries and drivers raise any kind
        reason = " ".join(str(error).split())
        raise BackendUnavailable(
            f"{name} does not load here ({type(error).__name__}: {reason}); run: {INSTALL}, and "
            "check with nvidia-smi that the driver works"
        ) from error


def open_engine(path: Path) -> tuple["Engine", ModelSpec]:
    """Load an engine that was built for this machine; any other is refused before it is loaded.

    Raises:
        ModelFileError: The file is no engine of ours, or one for another GPU or TensorRT.
        BackendUnavailable: There is no TensorRT or no GPU.
    """
    data, record, spec = load_engine(path)
    record.check_runs_on(EngineRecord.here(record.shape), path)
    return Engine(data, path, record.library), spec


class Computes(Protocol):
    """An engine: an input tensor, two output tensors, and `run`, which computes them.

    Nothing is copied: fill `frames`, call `run`, and read `class_map` and `logits` before the next
    run, all on one stream.
    """

    frames: Tensor
    """(N, H, W, 3) uint8 RGB."""
    class_map: Tensor
    """(N, H, W) int32."""
    logits: Tensor
    """(N, C, H/s, W/s) float16."""

    def run(self) -> None:
        """Launch on the current stream; may return before it has finished."""
        ...

    def close(self) -> None:
        """Keep what was compiled for the GPU."""
        ...


class Engine:
    """An engine on the GPU with its input and output tensors. One thread uses it at a time.

    Args:
        data: The engine's bytes.
        path: Their file, for errors.
        library: Module of the library that runs them, a key of `NAMES`.

    Raises:
        ModelFileError: TensorRT refuses them.
        BackendUnavailable: There is no TensorRT or no GPU.
    """

    def __init__(self, data: NDArray[np.uint8], path: Path, library: str = "tensorrt") -> None:
        trt = self._trt = import_nvidia(library)
        self._runtime = trt.Runtime(trt.Logger(trt.Logger.ERROR))  # must outlive its engine
        self._engine = self._runtime.deserialize_cuda_engine(data)
        if self._engine is None:
            raise ModelFileError(
                f"{path} is refused by {NAMES[library]} {trt.__version__}, which says why above; "
                "build it again"
            )
        self._kernels: rtx.KernelCache | None = None
        self._context = (
            self._compiling_context(hashlib.sha256(data.data).hexdigest())
            if library == rtx.LIBRARY
            else self._engine.create_execution_context()
        )
        if self._context is None:
            raise BackendUnavailable(OUT_OF_MEMORY)
        self._graph: torch.cuda.CUDAGraph | None = None
        names = [self._engine.get_tensor_name(i) for i in range(self._engine.num_io_tensors)]
        by_type = {self._engine.get_tensor_dtype(name).name: name for name in names}
        if by_type.keys() != TYPES.keys():
            raise ModelFileError(
                f"{path} takes and gives {', '.join(by_type)}; roadseg's engines have "
                f"{', '.join(TYPES)}; build it again"
            )
        self.frames, self.class_map, self.logits = (
            self._bind(by_type[type_], dtype) for type_, dtype in TYPES.items()
        )

    def _compiling_context(self, digest: str) -> Any:
        """Return the context of an engine whose kernels are compiled when it runs.

        TensorRT-RTX makes a CUDA graph of the whole engine itself, where that is possible.
        """
        torch.zeros(1, device="cuda")  # kept kernels are taken only where CUDA has been started
        config = self._engine.create_runtime_config()
        config.cuda_graph_strategy = self._trt.CudaGraphStrategy.WHOLE_GRAPH_CAPTURE
        self._kernels = rtx.KernelCache(config, rtx.cache_file(digest))
        return self._engine.create_execution_context(config)

    def close(self) -> None:
        """Keep the kernels that were compiled for the GPU."""
        if self._kernels is not None:
            self._kernels.save()

    def _bind(self, name: str, dtype: torch.dtype) -> Tensor:
        """Allocate one of the engine's tensors and give the engine its address."""
        shape = tuple(self._engine.get_tensor_shape(name))
        tensor = torch.zeros(shape, dtype=dtype, device="cuda")
        self._context.set_tensor_address(name, tensor.data_ptr())
        return tensor

    def run(self) -> None:
        """Launch on the current stream; return before it has finished."""
        if self._graph is not None:
            self._graph.replay()
        else:
            self._launch()

    def capture(self) -> None:
        """Record the launches of a run as a CUDA graph, unless TensorRT-RTX does it itself.

        The current stream must not be the default one.
        """
        if self._kernels is not None:
            return
        stream = torch.cuda.current_stream()
        self._launch()  # the first run allocates, which a graph may not
        stream.synchronize()
        graph = torch.cuda.CUDAGraph()
        with torch.cuda.graph(graph, stream=stream, capture_error_mode="thread_local"):
            self._launch()
        self._graph = graph

    def _launch(self) -> None:
        if not self._context.execute_async_v3(torch.cuda.current_stream().cuda_stream):
            raise BackendUnavailable(OUT_OF_MEMORY)

    def layers(self) -> list[dict[str, Any]]:
        """Return TensorRT's description of each layer, parsed from its JSON."""
        inspector = self._engine.create_engine_inspector()
        text = inspector.get_engine_information(self._trt.LayerInformationFormat.JSON)
        return [layer for layer in json.loads(text)["Layers"] if isinstance(layer, dict)]
