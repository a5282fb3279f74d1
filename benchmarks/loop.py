"""The yardstick: what labels a film in thirty lines, one thing after the other.

    python benchmarks/loop.py samples/drive.mp4 weights/roads.onnx loop.mp4

OpenCV reads, ONNX Runtime runs the model with its own defaults, numpy colours, OpenCV blends, x264
encodes. It knows nothing of roadseg; `roadseg bench` runs it beside `roadseg infer`.
"""

import json
import sys
from collections.abc import Callable
from fractions import Fraction

import av
import cv2
import numpy as np
import onnxruntime as ort
from numpy.typing import NDArray

Model = Callable[[NDArray[np.uint8]], NDArray[np.uint8]]


def open_model(path: str) -> tuple[Model, NDArray[np.uint8]]:
    """Return a function from frames (N, H, W, 3) RGB to class maps (N, H, W), and the palette."""
    session = ort.InferenceSession(path, providers=["CPUExecutionProvider"])
    record = json.loads(session.get_modelmeta().custom_metadata_map["roadseg"])

    def model(frames: NDArray[np.uint8]) -> NDArray[np.uint8]:
        return session.run(["class_map"], {"frames": frames})[0]

    return model, np.array(record["palette"], np.uint8)


def label(
    film: str,
    out: str,
    model: Model,
    palette: NDArray[np.uint8],
    size_wh: tuple[int, int],
    *,
    alpha: float = 0.5,
    crf: int = 20,
    preset: str = "veryfast",
    limit: int | None = None,
    on_step: Callable[[str], None] = lambda _: None,
) -> None:
    """Write a film's overlay, at most `limit` frames of it; `on_step` hears what was just done."""
    reader = cv2.VideoCapture(film)
    fps = Fraction(reader.get(cv2.CAP_PROP_FPS)).limit_denominator(1001)
    colors = palette[:, ::-1]  # OpenCV's order: blue, green, red
    count = 0
    with av.open(out, "w") as writer:
        stream = writer.add_stream("libx264", fps, options={"crf": str(crf), "preset": preset})
        stream.width = int(reader.get(cv2.CAP_PROP_FRAME_WIDTH))
        stream.height = int(reader.get(cv2.CAP_PROP_FRAME_HEIGHT))
        stream.pix_fmt = "yuv420p"
        while count != limit:
            found, frame = reader.read()
            if not found:
                break
            on_step("read")
            rgb = cv2.cvtColor(cv2.resize(frame, size_wh), cv2.COLOR_BGR2RGB)
            on_step("resize")
            class_map = model(rgb[None])[0]
            on_step("model")
            full = cv2.resize(
                class_map, (stream.width, stream.height), interpolation=cv2.INTER_NEAREST
            )
            painted = cv2.addWeighted(frame, 1 - alpha, colors[full], alpha, 0)
            on_step("blend")
            writer.mux(stream.encode(av.VideoFrame.from_ndarray(painted, "bgr24")))
            count += 1
            on_step("encode")
        writer.mux(stream.encode())
    reader.release()


if __name__ == "__main__":
    opened, its_palette = open_model(sys.argv[2])
    label(sys.argv[1], sys.argv[3], opened, its_palette, (576, 320))
