"""The Python API: the labels of a video, frame by frame, or of one picture.

Decoding, model and colours are those of `roadseg infer`.
"""

import warnings
from collections.abc import Iterator
from dataclasses import dataclass, replace
from fractions import Fraction
from functools import cached_property, lru_cache
from pathlib import Path
from threading import Lock
from typing import Literal

import cv2
import numpy as np
from numpy.typing import NDArray

from roadseg.backends.runtimes import Backend, open_backend
from roadseg.backends.weights import default_weights
from roadseg.errors import PictureError, VideoError
from roadseg.infer.device import device_for
from roadseg.infer.stages import Pipeline
from roadseg.infer.stats import count_pixels, shares_of
from roadseg.infer.steps import QUEUE_DEPTH, labelling
from roadseg.paint.config import NO_LEGEND, OverlayConfig
from roadseg.paint.in_view import InView
from roadseg.paint.overlay import Overlay
from roadseg.segmentation.config import ModelConfig
from roadseg.segmentation.predict import predict_alone
from roadseg.spec import image_rate
from roadseg.video.frame import Frame, SegmentedFrame
from roadseg.video.picture import Picture
from roadseg.video.read.faults import reading_faults
from roadseg.video.read.images import read_image
from roadseg.video.read.read_log import ReadLog
from roadseg.video.read.source import (
    USUAL_FPS,
    named,
    picture_of,
    probe,
    upright_picture,
)

_model_in_use = Lock()
"""Held while `segment` uses its cached model, as a backend serves one thread at a time."""


@dataclass(frozen=True)
class Result:
    """A frame of a video, or a picture, with its labels."""

    item: SegmentedFrame
    """The frame, its class map and the model's record, as the pipeline carries them."""

    @cached_property
    def picture(self) -> NDArray[np.uint8]:
        """(H, W, 3) RGB; colour has half the resolution, as videos have it."""
        return self.item.frame.rgb()

    @property
    def class_map(self) -> NDArray[np.uint8]:
        """(H, W) class ids: positions in `class_names`."""
        return self.item.class_map

    @property
    def class_names(self) -> tuple[str, ...]:
        """Names of the classes by id."""
        return self.item.spec.class_names

    @property
    def class_shares(self) -> dict[str, float]:
        """Share of each class in the picture."""
        return shares_of(count_pixels(self.item), self.item.spec)

    @property
    def pts(self) -> int:
        """Presentation time as the video has it, in units of `time_base`; 0 for a picture."""
        return self.item.frame.pts

    @property
    def time_base(self) -> Fraction:
        """Seconds a unit of `pts`."""
        return self.item.frame.time_base

    @property
    def time_s(self) -> float:
        """Presentation time in seconds."""
        return self.item.frame.time_s

    def overlay(
        self,
        *,
        alpha: float = OverlayConfig.alpha,
        classes: tuple[str, ...] = OverlayConfig.classes,
        only: tuple[str, ...] = OverlayConfig.only,
        outline: bool = OverlayConfig.outline,
        min_region: float = OverlayConfig.min_region,
        legend: str | bool = OverlayConfig.legend,
    ) -> NDArray[np.uint8]:
        """Return a painted copy of the picture, (H, W, 3) RGB.

        Args:
            alpha: Share of the colour in a painted pixel, 0..1.
            classes: Names of the classes to paint; none means all.
            only: Names of the classes to paint while the rest turns to dark grey.
            outline: Draw a light line where one class ends.
            min_region: Share of the picture; a smaller region has no outline.
            legend: Corner with the painted classes that are in view: top-left, top-right,
                bottom-left, bottom-right or none. True and False are the first and the last.

        Raises:
            ConfigError: The model does not know a class, or a setting is out of its range.
        """
        if isinstance(legend, bool):
            legend = OverlayConfig.legend if legend else NO_LEGEND
        config = OverlayConfig(
            alpha=alpha,
            classes=classes,
            only=only,
            outline=outline,
            min_region=min_region,
            legend=legend,
        )
        in_view = InView().update(count_pixels(self.item), self.time_s)
        overlay = Overlay(self.item.spec, config)
        return self.item.frame.picture.paint(overlay, self.item.labels, in_view).rgb()


def stream(
    source: Path | str,
    *,
    weights: Path | str | None = None,
    backend: str = ModelConfig.backend,
    size_hw: tuple[int, int] | None = ModelConfig.size_hw,
    palette: str = ModelConfig.palette,
    steady: float = ModelConfig.steady,
    every: int | Literal["auto"] = ModelConfig.every,
    device: str = ModelConfig.device,
    start_s: float = 0.0,
    end_s: float | None = None,
    image_fps: Fraction | int = USUAL_FPS,
) -> Iterator[Result]:
    """Yield every frame of a video with its labels; decoding and labelling have their own threads.

    The threads end with the iterator: when it runs out, when it is closed, or when the loop that
    holds it is left. Faults of the video, such as damage, are issued as `UserWarning` at the end.

    Args:
        source: Video to label: a file, a folder or pattern of images, or an address.
        weights: Model file; None takes the one that comes along.
        backend: Runtime, or "auto" to go by the model file.
        size_hw: Network input, height and width, multiples of 32; None goes by the video's shape.
        palette: Colours of the classes: roadseg, camvid, cityscapes, colorblind, or a file of them.
        steady: Weight of the past in the labels, 0 to below 1; 0 takes each frame alone.
        every: Distance between the frames that the network predicts; labels move in between.
            "auto" predicts 12 to 15 times a second, and every frame where `steady` is 0.
        device: Where pictures lie until they are asked for: cpu, cuda or cuda:1; auto takes a GPU
            where there is one and the weights are for it.
        start_s: Leave out frames before this time, counted from the first frame.
        end_s: Stop at this time; None reads to the end.
        image_fps: Images a second, where the video is a folder or pattern of them.

    Raises:
        VideoError: The video cannot be read.
        ModelFileError: The weights are missing or not ours.
        BackendUnavailable: The runtime is not installed.
        ConfigError: A setting is out of its range.
    """
    weights = default_weights(device) if weights is None else weights
    model = _model_config(weights, backend, size_hw, palette)
    config = replace(model, steady=steady, every=every, device=device)
    info, log = probe(named(source), image_rate(image_fps)), ReadLog()
    place = device_for(config)
    frames = place.decode(info, log, start_s, end_s)
    stages = labelling(config)
    names = ["decode", *stages]
    with Pipeline(frames, *stages.values(), depth=QUEUE_DEPTH, names=names) as pipeline:
        yield from map(Result, pipeline)
    for fault in (*filter(None, [place.excuse]), *reading_faults(log, info)):
        warnings.warn(fault, stacklevel=2)


def segment(
    image: NDArray[np.uint8] | Path | str,
    *,
    weights: Path | str | None = None,
    backend: str = ModelConfig.backend,
    size_hw: tuple[int, int] | None = ModelConfig.size_hw,
    palette: str = ModelConfig.palette,
) -> Result:
    """Label one picture. The model is kept in memory for the next call.

    Args:
        image: (H, W, 3) uint8 RGB, or the path of a picture file.
        weights: Model file; None takes the one that comes along.
        backend: Runtime, or "auto" to go by the model file.
        size_hw: Network input, height and width, multiples of 32; None goes by the picture's shape.
        palette: Colours of the classes: roadseg, camvid, cityscapes, colorblind, or a file of them.

    Raises:
        PictureError: The array is no picture, or the file cannot be read as one.
        ModelFileError: The weights are missing or not ours.
        BackendUnavailable: The runtime is not installed.
    """
    config = _model_config(weights, backend, size_hw, palette)
    picture = _checked(image) if isinstance(image, np.ndarray) else _read(Path(image))
    with _model_in_use:
        model = _kept_model(config.weights, config.backend, _state(config.weights))
        (labelled,) = predict_alone(iter([Frame.still(picture)]), model, config)
    return Result(labelled)


def _model_config(
    weights: Path | str | None, backend: str, size_hw: tuple[int, int] | None, palette: str
) -> ModelConfig:
    path = default_weights() if weights is None else Path(weights)
    return ModelConfig(weights=path, backend=backend, size_hw=size_hw, palette=palette)


@lru_cache(maxsize=1)
def _kept_model(weights: Path, backend: str, _state: tuple[int, ...]) -> Backend:
    """Return an open model, which is opened again when its file changes."""
    return open_backend(weights, backend)


def _state(weights: Path) -> tuple[int, ...]:
    """Return a state of a model's files that changes when they are replaced."""
    files = (path.stat() for path in (weights, weights.with_suffix(".bin")) if path.exists())
    return tuple(n for f in files for n in (f.st_ino, f.st_size, f.st_mtime_ns, f.st_ctime_ns))


def _read(path: Path) -> Picture:
    """Read a picture file as `stream` does, upright by its Exif record."""
    try:
        path.open("rb").close()
    except OSError as error:
        raise PictureError(f"{path} cannot be read ({error.strerror}); check the path") from error
    refusal = f"{path} is no picture that can be read; give a PNG, JPEG or the like"
    if not cv2.haveImageReader(str(path)):
        raise PictureError(refusal)
    try:
        return upright_picture(read_image(path))
    except VideoError as error:
        raise PictureError(refusal) from error


def _checked(picture: NDArray[np.uint8]) -> Picture:
    """Return an array as a picture, equal to that of a PNG file of it."""
    if picture.dtype != np.uint8 or picture.ndim != 3 or picture.shape[2] != 3 or not picture.size:
        raise PictureError(
            f"the image is an array {picture.shape} of {picture.dtype}; it must be "
            "(height, width, 3) of uint8 in RGB order; convert it first"
        )
    return picture_of(np.ascontiguousarray(picture))
