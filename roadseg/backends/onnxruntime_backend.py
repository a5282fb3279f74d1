"""ONNX Runtime, on the CPU or with its CUDA build on a GPU: what the base install runs."""

from pathlib import Path
from typing import cast

import numpy as np
import onnxruntime as ort
from numpy.typing import NDArray

from roadseg.backends import refuse_misfit
from roadseg.config import ModelSpec
from roadseg.errors import ModelFileError
from roadseg.machine import cpu_kind

PROVIDERS = ("CUDAExecutionProvider", "CPUExecutionProvider")
"""What may run the graph, the best first; the usual build has the second alone."""

DIVISIBLE = PROVIDERS[0] not in ort.get_available_providers()


class OnnxRuntimeBackend:
    """A session on one exported model.

    Args:
        session: Session whose model `roadseg export` or `roadseg compile` wrote.
        spec: Its record.
    """

    def __init__(self, session: ort.InferenceSession, spec: ModelSpec) -> None:
        self.spec = spec
        self._session = session

    def segment(self, frames: NDArray[np.uint8]) -> NDArray[np.uint8]:
        (class_map,) = self._session.run(["class_map"], {"frames": frames})
        return cast(NDArray[np.uint8], class_map)

    def logits(self, frames: NDArray[np.uint8]) -> NDArray[np.float32]:
        (logits,) = self._session.run(["logits"], {"frames": frames})
        return cast(NDArray[np.float32], logits)

    def close(self) -> None:
        del self._session


def open_model(path: Path, threads: int | None = None) -> OnnxRuntimeBackend:
    """Open an exported model, to compute on so many threads.

    Raises:
        ModelFileError: The file is no ONNX model, not one of ours, or compiled for something else.
    """
    session = open_session(path, intra_op_num_threads=threads or 0)  # 0: one for each core
    record = session.get_modelmeta().custom_metadata_map.get("roadseg")
    if record is None:
        raise ModelFileError(
            f"{path} was not exported by roadseg; use a file from roadseg export, "
            "or leave out --weights"
        )
    spec = ModelSpec.from_json(record, path)
    refuse_misfit(path, spec, "onnxruntime", version(), cpu_kind())
    return OnnxRuntimeBackend(session, spec)


def open_session(path: Path, **options: object) -> ort.InferenceSession:
    """Open a session as the backend does, with further attributes of its options set.

    Raises:
        ModelFileError: The file is no ONNX model.
    """
    settings = ort.SessionOptions()
    # Threads that spin while they wait take the cores from decoding and encoding.
    settings.add_session_config_entry("session.intra_op.allow_spinning", "0")
    settings.log_severity_level = 3  # errors come as exceptions; warnings would be lines of noise
    for name, value in options.items():
        setattr(settings, name, value)
    present = [name for name in PROVIDERS if name in ort.get_available_providers()]
    try:
        return ort.InferenceSession(path, settings, providers=present)
    except Exception as error:  # the runtime's errors share no base class but this
        reason = str(error).splitlines()[0]
        raise ModelFileError(f"{path} is no ONNX model ({reason}); export it again") from error


def version() -> str:
    """Return the runtime's version."""
    return str(ort.__version__)
