"""Models for OpenVINO: in 8 bits by NNCF's post-training quantisation, or in bfloat16 or FP32.

NNCF chooses ranges, corrects the bias that rounding brings and leaves in FP32 what would suffer.
"""

import contextlib
import io
import os
from collections import Counter
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from roadseg.backends.machine import cpu_kind
from roadseg.backends.openvino import (
    DEVICE,
    RECORD_PLACE,
    compile_settings,
    open_model,
    signal_stack_kept,
    version,
)
from roadseg.backends.openvino_silent import ov
from roadseg.deploy.builders import Source
from roadseg.errors import BackendUnavailable
from roadseg.files import output_errors

__all__ = ["FIXED_SHAPE", "PRECISIONS", "SUFFIX", "build", "census", "device", "version"]

PRECISIONS = ("int8", "bf16", "fp32")
SUFFIX = ".xml"
FIXED_SHAPE = False
EXECUTED = {"f32": "fp32", "f16": "fp16", "bf16": "bf16", "i8": "int8", "u8": "int8"}
"""Precision by OpenVINO's name of it."""


def device() -> str:
    """Return the kind of CPU: which kernels run is by it."""
    return cpu_kind()


@signal_stack_kept()
def build(source: Source, out: Path) -> None:
    """Write the model as `.xml`, its weights beside it as `.bin`."""
    assert source.spec.build is not None
    model = ov.Core().read_model(source.exported)
    if source.spec.build.precision == "int8":
        model = _quantised(model, source)
    model.set_rt_info(source.spec.to_json(), list(RECORD_PLACE))
    with output_errors(out):
        ov.save_model(model, out, compress_to_fp16=False)


@signal_stack_kept()
def census(path: Path, frames: NDArray[np.uint8]) -> "Counter[str]":
    """Count the convolutions of the graph that OpenVINO executes for some frames, by precision."""
    model = ov.Core().read_model(path)
    model.reshape(list(frames.shape))
    settings = compile_settings(open_model(path).spec)
    executed = ov.Core().compile_model(model, DEVICE, settings).get_runtime_model()
    return Counter(
        EXECUTED[operation.get_rt_info()["runtimePrecision"].astype(str)]
        for operation in executed.get_ops()
        if "Convolution" in operation.get_rt_info()["layerType"].astype(str)
    )


def _quantised(model: ov.Model, source: Source) -> ov.Model:
    os.environ.setdefault("NNCF_CI", "1")  # disables NNCF's telemetry
    try:
        import nncf
    except ImportError as error:
        raise BackendUnavailable(
            f"8 bits for openvino need NNCF, which does not load here ({error}); run: pip install "
            "nncf, or use another --precision or --backend"
        ) from error

    with contextlib.redirect_stdout(io.StringIO()):  # it draws progress there
        return nncf.quantize(
            model,
            nncf.Dataset(source.frames),
            preset=nncf.QuantizationPreset.MIXED,
            subset_size=len(source.frames),
        )
