"""NVIDIA's TensorRT-RTX on a machine without a GPU: it parses and builds, it cannot run.

Run as a program, in a process of its own, for its libraries are large and torch-tensorrt has to be
told that there is a GPU:

    python tests/rtx.py parse MODEL.onnx      what the parser and the builder make of a model
    python tests/rtx.py convert MODEL OUT     what roadseg's builder makes of a .safetensors model
    python tests/rtx.py refuse MODEL OUT      the same where its graph cannot be converted

Each prints JSON.
"""

import ctypes
import importlib
import importlib.util
import json
import logging
import os
import sys
import types
import warnings
from pathlib import Path
from typing import Any

GENERATIONS = ("SM75", "SM80", "SM86", "SM89", "SM120")
"""Turing, Ampere in the data centre and at home, Ada, Blackwell; SM90, Hopper, it does not know."""
PACKAGES = ("onnxruntime_ep_nv_tensorrt_rtx", "tensorrt_rtx_bindings", "torch_tensorrt", "dllist")
SHAPE = (1, 96, 160)


def missing() -> list[str]:
    """The packages that are not here."""
    return [name for name in PACKAGES if importlib.util.find_spec(name) is None]


def load_rtx() -> Any:
    """Import the bindings; they find their libraries only if these are loaded."""
    origin = importlib.util.find_spec(PACKAGES[0]).origin
    for name in ("libtensorrt_rtx.so", "libtensorrt_onnxparser_rtx.so"):
        # ONNX Runtime's provider puts links to its libraries beside them.
        (path,) = {found.resolve() for found in Path(origin).parent.glob(f"{name}*")}
        ctypes.CDLL(str(path), mode=ctypes.RTLD_GLOBAL)
    import tensorrt_rtx_bindings

    return tensorrt_rtx_bindings


def describe(network: Any) -> dict[str, Any]:
    """What a network takes and gives, and its layers by kind and type."""
    layers = [network.get_layer(i) for i in range(network.num_layers)]
    inputs = [network.get_input(i) for i in range(network.num_inputs)]
    outputs = [network.get_output(i) for i in range(network.num_outputs)]
    return {
        "inputs": [[t.dtype.name, list(t.shape)] for t in inputs],
        "outputs": [[t.dtype.name, list(t.shape)] for t in outputs],
        "layers": [[layer.type.name, layer.get_output(0).dtype.name] for layer in layers],
    }


def parse(model: Path) -> dict[str, Any]:
    """Parse an ONNX model and build it for each generation."""
    trt = load_rtx()
    logger = trt.Logger(trt.Logger.INTERNAL_ERROR)
    builder = trt.Builder(logger)
    network = builder.create_network(0)
    parser = trt.OnnxParser(network, logger)
    if not parser.parse(model.read_bytes()):
        return {"errors": [parser.get_error(i).desc() for i in range(parser.num_errors)]}
    frames = network.get_input(0)
    if -1 in frames.shape:
        frames.shape = (*SHAPE, 3)  # as roadseg has ONNX Runtime fix it
    sizes = {}
    for generation in GENERATIONS:
        config = builder.create_builder_config()
        config.num_compute_capabilities = 1
        config.set_compute_capability(getattr(trt.ComputeCapability, generation), 0)
        engine = builder.build_serialized_network(network, config)
        sizes[generation] = engine.nbytes if engine is not None else 0
    return {"errors": [], "engine_bytes": sizes, **describe(network)}


def convert(model: Path, out: Path) -> dict[str, Any]:
    """Build an engine of a model file with roadseg's builder and torch-tensorrt's converters.

    Stand-ins are only what a GPU would have to say, and the loading of the finished engine.
    """
    trt, engine, builder = prepared_builder()
    import torch_tensorrt
    from torch_tensorrt.dynamo.conversion import _TRTInterpreter as interpreter

    from roadseg.errors import ModelFileError
    from roadseg.models.checkpoint import load_model

    seen: dict[str, Any] = {}
    configs: list[Any] = []
    construct = interpreter.TRTInterpreter._construct_trt_network_def
    configure = interpreter.TRTInterpreter._populate_trt_builder_config

    def construct_and_look(self: Any) -> None:
        construct(self)
        seen.update(describe(self.ctx.net))

    def configure_and_look(self: Any, *arguments: Any) -> Any:
        config = configure(self, *arguments)
        seen["verbosity"] = config.profiling_verbosity.name
        configs.append(config)
        return config

    interpreter.TRTInterpreter._construct_trt_network_def = construct_and_look
    interpreter.TRTInterpreter._populate_trt_builder_config = configure_and_look
    runtime, sys.modules["tensorrt"].Runtime = trt.Runtime, RuntimeWithoutGpu
    handlers = logging.getLogger().handlers[:]
    network, spec = load_model(model)
    builder.build_engine(network, spec, SHAPE, out)
    (config,) = configs
    seen["targets"] = [
        config.get_compute_capability(i).name for i in range(config.num_compute_capabilities)
    ]
    seen["root_logger_kept"] = logging.getLogger().handlers == handlers
    seen["torch_tensorrt"] = torch_tensorrt.__version__
    sys.modules["tensorrt"].Runtime = runtime
    try:
        data, record, _ = engine.load_engine(out)
        engine.Engine(data, out, record.library)
    except ModelFileError as error:
        seen["refusal"] = str(error)
    return seen


def refuse(model: Path, out: Path) -> dict[str, Any]:
    """Have roadseg's builder build what torch-tensorrt cannot convert."""
    _, _, builder = prepared_builder()
    import torch.nn.functional as F

    from roadseg.errors import ExportError
    from roadseg.models.checkpoint import load_model

    def forward(self: Any, frames: Any) -> Any:
        x = frames.float().permute(0, 3, 1, 2)
        small = F.interpolate(x, size=(64, 96), mode="bilinear", antialias=True)
        return self.network(small.half())

    builder.HalfSegmenter.forward = forward
    network, spec = load_model(model)
    try:
        builder.build_engine(network, spec, SHAPE, out)
    except ExportError as error:
        return {"error": str(error)}
    return {"error": ""}


def prepared_builder() -> tuple[Any, Any, Any]:
    """Return TensorRT-RTX, the module of engines and the builder, ready to build without a GPU."""
    trt = load_rtx()
    pretend_there_is_a_gpu(trt)
    from roadseg.backends import tensorrt_engine
    from roadseg.deploy import build_tensorrt

    # They ask for a GPU first; PyTorch itself must not be told of one, it would use it.
    tensorrt_engine.import_nvidia = build_tensorrt.import_nvidia = importlib.import_module
    return trt, tensorrt_engine, build_tensorrt


class RuntimeWithoutGpu:
    """In place of TensorRT's runtime: hands on an engine that only a GPU could load."""

    def __init__(self, _logger: Any) -> None:
        pass

    def deserialize_cuda_engine(self, data: Any) -> Any:
        return types.SimpleNamespace(serialize=lambda: bytes(data))


def pretend_there_is_a_gpu(trt: Any) -> None:
    """Answer what torch-tensorrt asks PyTorch's CPU build about a GPU."""
    import torch

    sys.modules["tensorrt_rtx"] = trt
    sys.modules["tensorrt_rtx.tensorrt_rtx"] = trt.tensorrt_rtx
    properties = types.SimpleNamespace(major=8, minor=9, name="no GPU", total_memory=8 << 30)
    answers = {
        "current_device": 0,
        "device_count": 1,
        "get_device_capability": (8, 9),
        "get_device_properties": properties,
        "mem_get_info": (8 << 30, 8 << 30),
        "synchronize": None,
        "empty_cache": None,
    }
    for name, answer in answers.items():
        setattr(torch.cuda, name, lambda *_arguments, answer=answer: answer)
    torch._C._CudaDeviceProperties = type(properties)  # named in an annotation
    # Its libraries for C++ link CUDA; it does without where they are not there.
    is_file = os.path.isfile
    os.path.isfile = lambda path: "libtorchtrt" not in str(path) and is_file(path)


if __name__ == "__main__":
    warnings.simplefilter("ignore")
    command, *paths = sys.argv[1:]
    result = {"parse": parse, "convert": convert, "refuse": refuse}[command](*map(Path, paths))
    sys.stdout.write("\n" + json.dumps(result) + "\n")
