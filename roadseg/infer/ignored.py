"""What of the picture is left out: it is not painted, and counts as unlabelled."""

import base64
import contextlib
import zlib
from collections.abc import Iterable, Iterator
from dataclasses import replace
from itertools import islice
from pathlib import Path

import cv2
import numpy as np
from numpy.typing import NDArray

from roadseg.errors import ConfigError
from roadseg.infer.config import BONNET, BOX, InferConfig
from roadseg.segmentation.unmoving import SIDE_PX, find_unmoving
from roadseg.spec import IGNORE_INDEX
from roadseg.video.frame import Labels, SegmentedFrame
from roadseg.video.picture import OnDevice, Picture
from roadseg.video.read.read_log import ReadLog
from roadseg.video.read.source import VideoInfo, decode, decode_keyframes

SAMPLES = 40
"""Pictures in which what never moves is sought, at least, and twice as many at most."""
LEAST_KEYFRAMES = 16
"""With fewer, the pictures are those of the video's beginning."""
BEGINNING_S = 60.0
"""How much of it."""

Mask = NDArray[np.bool_]


def with_unmoving(config: InferConfig, info: VideoInfo) -> InferConfig:
    """Return settings that say what never moves, if they ask for it.

    It is sought all along the video, whatever part of that is labelled: so the parts agree.

    Raises:
        ConfigError: The video cannot be read twice.
    """
    if BONNET not in config.ignore or config.unmoving:
        return config
    if not (info.reopens or info.images):
        raise ConfigError(
            f"--ignore {BONNET} reads the video twice, and {info.path} is live; give a box or a PNG"
        )
    return replace(config, unmoving=_packed(find_unmoving(_samples(info))))


def ignored_pixels(config: InferConfig, info: VideoInfo) -> Mask | None:
    """Return what is left out (H, W); None if nothing is.

    Raises:
        ConfigError: A mask cannot be read, or a box lies beside the picture.
    """
    found = np.zeros(info.size_hw, np.bool_)
    for text in config.ignore:
        if text == BONNET:
            found |= _at_size(_unpacked(config.unmoving), info.size_hw)
        elif box := BOX.fullmatch(text):
            left, top, width, height = map(int, box.groups())
            _check_box(text, (left, top, width, height), info.size_hw)
            found[top : top + height, left : left + width] = True
        else:
            found |= _at_size(_read_mask(text, info.size_hw), info.size_hw)
    return found if found.any() else None


def leave_out(items: Iterator[SegmentedFrame], *, ignored: Mask) -> Iterator[SegmentedFrame]:
    """Stage: take what is left out (H, W) from every class map, of whatever size."""
    rest = _Rest(ignored)

    def left(item: SegmentedFrame) -> SegmentedFrame:
        labels, sure, coarse = rest.of(item.labels), item.sure_labels, item.coarse_map
        found = replace(item, labels=labels, sure_labels=None if sure is None else rest.of(sure))
        if coarse is not None:
            coarse = found.shown if coarse is item.shown else rest.of(coarse)
        return replace(found, coarse_map=coarse)

    yield from map(left, items)


class _Rest:
    """Takes what is ignored (H, W) from class maps; its masks are kept where these lie."""

    def __init__(self, ignored: Mask) -> None:
        self._ignored = ignored
        self._masks: dict[tuple[int, int], Mask | OnDevice] = {}

    def of(self, labels: Labels) -> Labels:
        """Return the rest of a class map of whatever size."""
        height, width = labels.shape
        mask = self._masks.get((height, width))
        if mask is None:
            mask = _at_size(self._ignored, (height, width))
            mask = mask if isinstance(labels, np.ndarray) else labels.upload(mask)
            self._masks[height, width] = mask
        if isinstance(labels, np.ndarray):
            return np.where(mask, np.uint8(IGNORE_INDEX), labels)
        return labels.without(mask)


def _check_box(text: str, box: tuple[int, int, int, int], size_hw: tuple[int, int]) -> None:
    left, top, width, height = box
    if not (width and height and left < size_hw[1] and top < size_hw[0]):
        raise ConfigError(
            f"--ignore {text} has nothing of the picture, which is {size_hw[1]}x{size_hw[0]}; "
            "give left, top, width, height in pixels"
        )


def _read_mask(path: str, size_hw: tuple[int, int]) -> Mask:
    """Return where the picture in a file is lighter than dark; its sides are the video's in shape.

    Raises:
        ConfigError: It is no picture, or of another shape.
    """
    mask = _read_grey(Path(path))
    if mask is None:
        raise ConfigError(f"--ignore {path} is no picture that can be read; give a PNG")
    height, width = mask.shape
    if abs(height * size_hw[1] - width * size_hw[0]) > max(height, width, *size_hw):
        raise ConfigError(
            f"--ignore {path} is {width}x{height}, and the video {size_hw[1]}x{size_hw[0]}; give "
            "a PNG of the video's size"
        )
    return np.asarray(mask > 127, np.bool_)


def _read_grey(path: Path) -> NDArray[np.uint8] | None:
    """Return the brightness of a picture in a file (H, W); None if there is none to be read.

    OpenCV gets no name: at one that is no UTF-8 it ends the process.
    """
    with contextlib.suppress(OSError, cv2.error):  # OpenCV's error is about an empty file
        data = np.frombuffer(path.read_bytes(), np.uint8)
        return cv2.imdecode(data, cv2.IMREAD_GRAYSCALE)  # type: ignore[return-value]
    return None


def _at_size(mask: Mask, size_hw: tuple[int, int]) -> Mask:
    levels = cv2.resize(mask.astype(np.float32), size_hw[::-1], interpolation=cv2.INTER_LINEAR)
    return np.asarray(levels >= 0.5, np.bool_)


def _samples(info: VideoInfo) -> NDArray[np.uint8]:
    """Return the brightness of pictures from all along a video, (N, h, w)."""
    found = _spread(decode_keyframes(info))
    if len(found) < LEAST_KEYFRAMES:
        frames = decode(info, ReadLog(), end_s=BEGINNING_S)
        found = _spread(frame.picture for frame in frames if isinstance(frame.picture, Picture))
    return np.stack(found)


def _spread(pictures: Iterable[Picture]) -> list[NDArray[np.uint8]]:
    """Return the small brightness of up to twice `SAMPLES` pictures, at even distances."""
    kept: list[NDArray[np.uint8]] = []
    step, rest = 1, iter(pictures)
    while (picture := next(rest, None)) is not None:
        kept.append(_small(picture))
        if len(kept) == 2 * SAMPLES:
            kept, step = kept[::2], 2 * step
        next(islice(rest, step - 1, step - 1), None)  # leave out what is between
    return kept


def _small(picture: Picture) -> NDArray[np.uint8]:
    luma = picture.luma()
    scale = SIDE_PX / max(luma.shape)
    height, width = (max(round(side * scale), 1) for side in luma.shape)
    return np.asarray(cv2.resize(luma, (width, height), interpolation=cv2.INTER_AREA), np.uint8)


def _packed(mask: Mask) -> str:
    """Return a mask as a short text."""
    bits = zlib.compress(np.packbits(mask).tobytes(), 9)
    return f"{mask.shape[0]}x{mask.shape[1]}:{base64.b64encode(bits).decode()}"


def _unpacked(text: str) -> Mask:
    """Return the mask that `_packed` made a text of."""
    size, _, bits = text.partition(":")
    height, width = map(int, size.split("x"))
    packed = np.frombuffer(zlib.decompress(base64.b64decode(bits)), np.uint8)
    return np.unpackbits(packed, count=height * width).reshape(height, width).astype(np.bool_)
