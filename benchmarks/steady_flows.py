"""Flows between neighbouring frames by several methods, and how well true labels follow them."""

import io
from collections.abc import Iterator

import av
import cv2
import numpy as np

from roadseg.measure.metrics import Scores, confusion_matrix
from roadseg.segmentation.flow import Flow, Luma, move_class_map, residual_of
from roadseg.spec import CLASS_NAMES, IGNORE_INDEX, NUM_CLASSES


def all_flows(lumas: list[Luma], pictures: list[np.ndarray]) -> dict[str, Iterator[Flow]]:
    """Return iterators over the flows of all neighbours, by the name of the method."""
    quick, fast = cv2.DISOPTICAL_FLOW_PRESET_ULTRAFAST, cv2.DISOPTICAL_FLOW_PRESET_FAST
    return {
        "none": (np.zeros((*luma.shape, 2), np.float32) for luma in lumas[1:]),
        "codec's vectors (x264)": _codec_flows(pictures),
        "DIS ultrafast 192": _dis_flows(lumas, 192, quick),
        "DIS ultrafast 256": _dis_flows(lumas, 256, quick),
        "DIS ultrafast 384": _dis_flows(lumas, 384, quick),
        "DIS ultrafast 480": _dis_flows(lumas, 480, quick),
        "DIS fast 384": _dis_flows(lumas, 384, fast),
        "DIS fast 480": _dis_flows(lumas, 480, fast),
        "Farneback 384": _farneback_flows(lumas, 384),
    }


def _dis_flows(lumas: list[Luma], width: int, preset: int) -> Iterator[Flow]:
    search = cv2.DISOpticalFlow.create(preset)
    earlier = _shrunk(lumas[0], width)
    for luma in lumas[1:]:
        later = _shrunk(luma, width)
        yield search.calc(later, earlier, None)
        earlier = later


def _farneback_flows(lumas: list[Luma], width: int) -> Iterator[Flow]:
    earlier = _shrunk(lumas[0], width)
    for luma in lumas[1:]:
        later = _shrunk(luma, width)
        yield cv2.calcOpticalFlowFarneback(later, earlier, None, 0.5, 3, 15, 3, 5, 1.2, 0)
        earlier = later


def _shrunk(luma: Luma, width: int) -> Luma:
    size_wh = width, round(luma.shape[0] * width / luma.shape[1])
    return cv2.resize(luma, size_wh, interpolation=cv2.INTER_AREA)


def _codec_flows(pictures: list[np.ndarray]) -> Iterator[Flow]:
    """Return an iterator over the vectors that x264 has chosen; only reading them takes time."""
    height, width = pictures[0].shape[:2]
    film = io.BytesIO()
    with av.open(film, "w", format="mp4") as container:
        stream = container.add_stream("libx264", 15, options={"preset": "veryfast", "bf": "0"})
        stream.width, stream.height, stream.pix_fmt = width, height, "yuv420p"
        for picture in pictures:
            container.mux(stream.encode(av.VideoFrame.from_ndarray(picture, "rgb24")))
        container.mux(stream.encode())
    film.seek(0)
    return _read_vectors(film, (height, width))


def _read_vectors(film: io.BytesIO, size_hw: tuple[int, int]) -> Iterator[Flow]:
    with av.open(film) as container:
        stream = container.streams.video[0]
        stream.codec_context.options = {"flags2": "+export_mvs"}
        for number, frame in enumerate(container.decode(stream)):
            if number:
                yield _vectors(frame, size_hw)


def _vectors(frame: av.VideoFrame, size_hw: tuple[int, int]) -> Flow:
    """Return a frame's vectors as flow; zero where it has none, or one to another frame."""
    flow = np.zeros((*size_hw, 2), np.float32)
    vectors = frame.side_data.get("MOTION_VECTORS")
    for vector in vectors.to_ndarray() if vectors else ():
        if vector["source"] == -1:
            rows = slice(max(vector["dst_y"] - vector["h"] // 2, 0), None)
            left = max(vector["dst_x"] - vector["w"] // 2, 0)
            way = np.array([vector["motion_x"], vector["motion_y"]], np.float32)
            flow[rows][: vector["h"], left : left + vector["w"]] = way / vector["motion_scale"]
    return flow


def _enlarged(flow: Flow, size_hw: tuple[int, ...]) -> Flow:
    """Return flow at another size (H, W, 2), in pixels of that size."""
    height, width = size_hw
    scale = np.array([width / flow.shape[1], height / flow.shape[0]], np.float32)
    return np.asarray(cv2.resize(flow, (width, height)) * scale, np.float32)


def fit(made: list[Flow], lumas: list[Luma], targets: list[np.ndarray]) -> dict[str, float]:
    """Return the mIoU of true labels with those of the frame before, moved; and the residual."""
    counts = np.zeros((NUM_CLASSES, NUM_CLASSES), np.int64)
    levels = []
    for number, flow in enumerate(made, 1):
        whole = _enlarged(np.asarray(flow, np.float32), targets[number].shape)
        moved = move_class_map(targets[number - 1], np.asarray(flow, np.float32))
        both = np.where(moved < NUM_CLASSES, targets[number], IGNORE_INDEX)
        counts += confusion_matrix(both, np.minimum(moved, NUM_CLASSES - 1), NUM_CLASSES)
        levels.append(np.median(residual_of(lumas[number], lumas[number - 1], whole)))
    return {
        "miou": Scores(class_names=CLASS_NAMES[:NUM_CLASSES], confusion=counts).miou,
        "residual": float(np.mean(levels)),
    }
