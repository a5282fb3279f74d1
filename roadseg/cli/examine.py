"""Test which parts of roadseg work on this machine, and how to add the others.

Everything is tried out: runtimes are imported, encoders opened, devices queried.
"""

from collections.abc import Callable, Iterator
from dataclasses import dataclass
from functools import partial
from importlib import import_module
from io import BytesIO
from typing import Literal

import av
from av.codec.hwaccel import HWAccel

from roadseg.backends.machine import core_count, cpu_kind, cpu_name, has_int8_units
from roadseg.backends.runtimes import BACKENDS, suited
from roadseg.backends.tuned import kept_choice
from roadseg.backends.weights import (
    SHIPPED_MODELS,
    default_weights,
    shipped_checkpoint,
    shipped_model,
)
from roadseg.cli.console import counted
from roadseg.deploy.builders import BUILDERS, open_builder
from roadseg.errors import RoadsegError
from roadseg.infer.window import has_window
from roadseg.video.read.cameras import list_cameras
from roadseg.video.write.encoding import CODECS
from roadseg.video.write.priority import kept_priority

DECODERS = ("h264", "hevc", "mpeg4", "mjpeg", "vp8", "vp9", "libdav1d")
"""FFmpeg's decoders of common videos; the last is AV1's."""
HARDWARE_ENCODERS = ("h264_nvenc", "hevc_nvenc", "av1_nvenc")
DRIVER = "needs an NVIDIA GPU that can, and its driver"
REINSTALL = "pip install --force-reinstall av"


@dataclass(frozen=True, kw_only=True)
class Finding:
    """One thing that works or does not."""

    area: str
    """Its area."""
    name: str
    """Its name."""
    works: bool
    """Whether it works."""
    detail: str
    """More about it, or why it does not work."""
    remedy: str = ""
    """What would add it, where it does not work."""


def examine() -> Iterator[Finding]:
    """Yield the findings, area by area."""
    yield Finding(
        area="machine",
        name="CPU",
        works=True,
        detail=f"{cpu_name()}, {counted(core_count(), 'core')}",
    )
    yield _tried("machine", "model", _usual_model, "")
    yield from map(_shipped, SHIPPED_MODELS)
    for name, runtime in BACKENDS.items():
        yield _tried("runtime", name, partial(_start_runtime, name), runtime.install)
    for name, (_, install) in BUILDERS.items():
        yield _tried("compile for", name, partial(_start_builder, name), install)
    for decoder in DECODERS:
        yield _tried("decode", decoder, partial(_open_codec, decoder, "r"), REINSTALL)
    yield _tried("decode", "h264 on cuda", partial(_decode_on, "cuda"), DRIVER)
    for codec in CODECS.values():
        yield _tried("encode", codec.encoder, partial(_open_codec, codec.encoder, "w"), REINSTALL)
    for encoder in HARDWARE_ENCODERS:
        yield _tried("encode", encoder, partial(_encode_with, encoder), DRIVER)
    yield _tried("live", "camera", _find_cameras, "connect one; addresses and videos need none")
    yield _tried("live", "window", _find_window, "use the page in the browser, as live does itself")


def _tried(area: str, name: str, attempt: Callable[[], str], remedy: str) -> Finding:
    try:
        detail = attempt()
    except Exception as error:  # broken packages and drivers raise anything
        reason = getattr(error, "strerror", None) or str(error) or type(error).__name__
        reason = reason.strip().splitlines()[0]
        if isinstance(error, RoadsegError):  # its message ends with what to do
            reason, _, remedy = reason.rpartition("; ")
        return Finding(area=area, name=name, works=False, detail=reason, remedy=remedy)
    return Finding(area=area, name=name, works=True, detail=detail)


def _usual_model() -> str:
    if choice := kept_choice():
        return f"{choice.weights.name} on {choice.backend}, as --tune chose for {cpu_kind()}"
    weights = default_weights()
    units = "" if has_int8_units() else ", as 8 bits are not known to be fast on it"
    return f"{weights.name} on {suited(weights)} for {cpu_kind()}{units}"


def _shipped(name: str) -> Finding:
    """Return the forms in which an included model is here."""
    forms = [
        ("FP32", shipped_model(name=name)),
        ("8 bits", shipped_model("int8", name)),
        ("PyTorch", shipped_checkpoint(name)),
    ]
    found = ", ".join(form for form, path in forms if path.is_file())
    return Finding(
        area="included",
        name=name,
        works=bool(found),
        detail=f"{SHIPPED_MODELS[name]}, for research use; {found or 'no file is here'}",
        remedy="install roadseg again",
    )


def _start_runtime(name: str) -> str:
    runtime = BACKENDS[name]
    version = import_module(runtime.module).version()
    return f"{version}, reads {' and '.join(runtime.suffixes)}"


def _start_builder(name: str) -> str:
    builder = open_builder(name)
    return f"{', '.join(builder.PRECISIONS)} with {builder.version()}"


def _open_codec(name: str, mode: Literal["r", "w"]) -> str:
    return av.Codec(name, mode).long_name


def _decode_on(device: str) -> str:
    acceleration = HWAccel(device, allow_software_fallback=False)
    with av.open(_tiny_film(), "r", hwaccel=acceleration) as container:
        next(container.decode(video=0))  # some devices open, and fail at the first frame
    return "decodes H.264"


@kept_priority()
def _tiny_film(encoder: str = "libx264") -> BytesIO:
    """Return a video of a few black frames."""
    film = BytesIO()
    with av.open(film, "w", format="mp4") as container:
        stream = container.add_stream(encoder, 25, width=256, height=256)
        assert isinstance(stream, av.VideoStream)
        for _ in range(3):
            container.mux(stream.encode(av.VideoFrame(256, 256, "yuv420p")))
        container.mux(stream.encode())
    film.seek(0)
    return film


def _encode_with(name: str) -> str:
    return f"encodes, {_tiny_film(name).getbuffer().nbytes} bytes for a test video"


def _find_cameras() -> str:
    cameras = list_cameras()
    if not cameras:
        raise FileNotFoundError("there is none")
    return ", ".join(map(str, cameras))


def _find_window() -> str:
    if not has_window():
        raise RuntimeError("OpenCV was built without windows, or there is no screen")
    return "OpenCV has one"
