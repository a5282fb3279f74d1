"""OpenVINO on the CPU: exported models, and what `roadseg compile` made of them for it."""

from functools import cache
from pathlib import Path
from typing import Any

import numpy as np
import openvino as ov
from numpy.typing import NDArray

from roadseg.backends import refuse_misfit
from roadseg.config import ModelSpec
from roadseg.errors import ModelFileError
from roadseg.machine import cpu_kind

DEVICE = "CPU"
RECORD_PLACE = ("framework", "roadseg")
"""Where OpenVINO keeps an ONNX file's metadata, and where we write a compiled model's."""
HINTS = {"fp32": "f32", "int8": "f32", "bf16": "bf16"}
"""What is computed in by precision, apart from what the graph itself has in 8 bits."""


class OpenVinoBackend:
    """A model, compiled anew for each shape of input that comes.

    Args:
        model: Graph whose sides are free.
        spec: Its record.
    """

    def __init__(self, model: ov.Model, spec: ModelSpec) -> None:
        self.spec = spec
        self._model = model
        self._request = cache(self._compile)

    def segment(self, frames: NDArray[np.uint8]) -> NDArray[np.uint8]:
        return self._infer(frames, "class_map")["class_map"]

    def segment_with_logits(
        self, frames: NDArray[np.uint8]
    ) -> tuple[NDArray[np.uint8], NDArray[np.float32]]:
        found = self._infer(frames, "class_map", "logits")
        return found["class_map"], found["logits"]

    def close(self) -> None:
        del self._request, self._model

    def _infer(self, frames: NDArray[np.uint8], *outputs: str) -> dict[str, NDArray[Any]]:
        request = self._request(frames.shape, outputs)
        request.infer([np.ascontiguousarray(frames)], share_inputs=True)
        # The request's own memory is written to by the next call.
        return {name: request.get_tensor(name).data.copy() for name in outputs}

    def _compile(self, shape: tuple[int, ...], outputs: tuple[str, ...]) -> ov.InferRequest:
        """Return a request for one shape that computes these outputs and no others."""
        model = self._model.clone()
        for result in model.get_results():
            if not result.output(0).get_names() & set(outputs):
                model.remove_result(result)
        model.reshape(list(shape))
        return (
            ov.Core()
            .compile_model(model, DEVICE, compile_settings(self.spec))
            .create_infer_request()
        )


def compile_settings(spec: ModelSpec) -> dict[str, object]:
    """Return OpenVINO's settings for a model."""
    precision = spec.build.precision if spec.build else "fp32"
    return {"PERFORMANCE_HINT": "LATENCY", "INFERENCE_PRECISION_HINT": HINTS[precision]}


def open_model(path: Path) -> OpenVinoBackend:
    """Open an exported or compiled model.

    Raises:
        ModelFileError: The file is no model, not one of ours, or compiled for something else.
    """
    try:
        model = ov.Core().read_model(path)
    except RuntimeError as error:
        reason = str(error).strip().splitlines()[-1]
        raise ModelFileError(f"{path} is no model ({reason}); export it again") from error
    if not model.has_rt_info(list(RECORD_PLACE)):
        raise ModelFileError(
            f"{path} was not exported by roadseg; use a file from roadseg export or compile, "
            "or leave out --weights"
        )
    record = model.get_rt_info(list(RECORD_PLACE)).astype(str)
    spec = ModelSpec.from_json(record, path)
    refuse_misfit(path, spec, "openvino", version(), cpu_kind())
    return OpenVinoBackend(model, spec)


def version() -> str:
    """Return the runtime's version without the mark of its build."""
    return str(ov.__version__).partition("-")[0]
