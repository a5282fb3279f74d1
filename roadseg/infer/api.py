"""The Python API: the labels of a video, frame by frame, or of pictures.

Decoding, model and colours are those of `roadseg infer`.
"""

import contextlib
import warnings
from collections.abc import Iterable, Iterator
from dataclasses import replace
from fractions import Fraction
from functools import lru_cache
from os import PathLike
from pathlib import Path
from types import TracebackType
from typing import Literal, Self

import cv2
import numpy as np
from numpy.typing import NDArray

from roadseg.backends.runtimes import import_runtime, runtime_of, stated_spec
from roadseg.backends.weights import weights_named
from roadseg.errors import PictureError, VideoError
from roadseg.infer.arguments import check_size, check_times, speaking_of_arguments
from roadseg.infer.device import device_for
from roadseg.infer.pool import Pool
from roadseg.infer.result import Result as Result
from roadseg.infer.steps import labelling, pipeline_of
from roadseg.segmentation.config import ModelConfig
from roadseg.segmentation.placement import input_size
from roadseg.segmentation.predict import predict_alone
from roadseg.spec import SIDE_MULTIPLE
from roadseg.video.frame import Frame, SegmentedFrame
from roadseg.video.picture import Picture
from roadseg.video.rates import USUAL_FPS, image_rate
from roadseg.video.read.faults import image_faults, reading_faults
from roadseg.video.read.images import read_image
from roadseg.video.read.read_log import ReadLog
from roadseg.video.read.source import VideoInfo, named, probe
from roadseg.video.read.upright import picture_of, upright_picture


class Model:
    """A model that stays loaded; any number of threads may use it, and take turns for pictures.

    It is closed at the end of a `with` block, by `close`, or with the program.

    Args:
        config: Which model, and how it labels.
        pool: What keeps it open; None makes one.
    """

    def __init__(self, config: ModelConfig, pool: Pool | None = None) -> None:
        self._config = config
        self._pool = pool or Pool()

    def __repr__(self) -> str:
        return f"<Model {self._config.weights.name}>"

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        traceback: TracebackType | None,
    ) -> None:
        self.close()

    def close(self) -> None:
        """Free what the model holds."""
        self._pool.close()

    def segment(self, image: NDArray[np.uint8] | Path | str) -> Result:
        """Label one picture.

        Where a part of a file is missing, a warning says so.

        Args:
            image: (H, W, 3) uint8 RGB, or the path of a picture file.

        Raises:
            PictureError: The array is no picture, or the file cannot be read as one.
            ModelFileError: The weights are missing or not ours.
            BackendUnavailable: The runtime is not installed.
        """
        return self.segment_batch([image])[0]

    @speaking_of_arguments()
    def segment_batch(self, images: Iterable[NDArray[np.uint8] | Path | str]) -> list[Result]:
        """Label pictures, of any sizes; the arguments and errors are those of `segment`."""
        pictures = [_picture_of(image) for image in images]
        weights, backend = self._config.weights, self._config.backend
        with (
            self._pool.turn,
            contextlib.closing(self._pool.open_model(weights, backend)) as model,
        ):
            frames = map(Frame.still, pictures)
            return list(map(Result, predict_alone(frames, model, self._config)))

    @speaking_of_arguments()
    def stream(
        self,
        source: Path | str,
        *,
        steady: float = ModelConfig.steady,
        every: int | Literal["auto"] = ModelConfig.every,
        start_s: float = 0.0,
        end_s: float | None = None,
        image_fps: Fraction | int = USUAL_FPS,
    ) -> Iterator[Result]:
        """Yield every frame of a video with its labels, as `roadseg.stream` does."""
        config = replace(self._config, steady=steady, every=every)
        check_times(start_s, end_s)
        info = probe(named(source), image_rate(image_fps))
        if spec := stated_spec(config.weights):
            input_size(info.size_hw, info.pixel_aspect, spec, config.size_hw)
        return self._results(config, info, start_s, end_s)

    def _results(
        self, config: ModelConfig, info: VideoInfo, start_s: float, end_s: float | None
    ) -> Iterator[Result]:
        log, device = ReadLog(), device_for(config)
        frames = device.decode(info, log, start_s, end_s)
        stages = labelling(config, self._pool.open_model)
        with (
            speaking_of_arguments(),
            device.errors(),
            pipeline_of(frames, stages) as pipeline,
        ):
            yield from map(_without_link, pipeline)
        for fault in (*filter(None, [device.excuse]), *reading_faults(log, info)):
            warnings.warn(fault, stacklevel=2)


@speaking_of_arguments()
def load(
    weights: Path | str | None = None,
    *,
    backend: str = ModelConfig.backend,
    size_hw: tuple[int, int] | None = ModelConfig.size_hw,
    palette: str = ModelConfig.palette,
    device: str = ModelConfig.device,
    min_confidence: float = ModelConfig.min_confidence,
) -> Model:
    """Return a model that stays loaded, for many pictures and videos.

    Args:
        weights: Model file, or name of an included model; None takes the default.
        backend: Runtime, or "auto" to go by the model file.
        size_hw: Network input, height and width, multiples of 32; None goes by the picture's shape.
        palette: Colours of the classes: roadseg, camvid, cityscapes, colorblind, or a file of them.
        device: Where frames of a video lie: cpu, cuda, cuda:N, or auto.
        min_confidence: What is less sure is left unpainted and counted as unlabelled; 0 paints all.

    Raises:
        ModelFileError: The weights are missing or not ours.
        BackendUnavailable: The runtime is not installed.
        ConfigError: A setting is out of its range.
    """
    config = _model_config(weights, backend, size_hw, palette, min_confidence, device)
    pool = Pool()
    with contextlib.closing(pool.open_model(config.weights, config.backend)) as opened:
        opened.spec.recolored(palette)
    return Model(config, pool)


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
    min_confidence: float = ModelConfig.min_confidence,
) -> Iterator[Result]:
    """Yield every frame of a video with its labels; decoding and labelling have their own threads.

    The threads begin with the first frame and end with the iterator: when it runs out, when it is
    closed, or when the loop that holds it is left. Mistakes in the arguments are raised by the call
    itself. Faults of the video, such as damage, are issued as `UserWarning` at the end.

    Args:
        source: Video to label: a file, a folder or pattern of images, or an address.
        weights: Model file, or name of an included model; None takes the default.
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
        min_confidence: What is less sure is left unpainted and counted as unlabelled; 0 paints all.

    Raises:
        VideoError: The video cannot be read.
        ModelFileError: The weights are missing or not ours.
        BackendUnavailable: The runtime is not installed.
        ConfigError: A setting is out of its range.
    """
    with speaking_of_arguments():
        config = _model_config(weights, backend, size_hw, palette, min_confidence, device)
    return Model(config, Pool(keeps=False)).stream(
        source, steady=steady, every=every, start_s=start_s, end_s=end_s, image_fps=image_fps
    )


@speaking_of_arguments()
def segment(
    image: NDArray[np.uint8] | Path | str,
    *,
    weights: Path | str | None = None,
    backend: str = ModelConfig.backend,
    size_hw: tuple[int, int] | None = ModelConfig.size_hw,
    palette: str = ModelConfig.palette,
    min_confidence: float = ModelConfig.min_confidence,
) -> Result:
    """Label one picture. The model is kept in memory for the next call.

    Args:
        image: (H, W, 3) uint8 RGB, or the path of a picture file.
        weights: Model file, or name of an included model; None takes the default.
        backend: Runtime, or "auto" to go by the model file.
        size_hw: Network input, height and width, multiples of 32; None goes by the picture's shape.
        palette: Colours of the classes: roadseg, camvid, cityscapes, colorblind, or a file of them.
        min_confidence: What is less sure is left unpainted and counted as unlabelled; 0 paints all.

    Raises:
        PictureError: The array is no picture, or the file cannot be read as one.
        ModelFileError: The weights are missing or not ours.
        BackendUnavailable: The runtime is not installed.
        ConfigError: A setting is out of its range.
    """
    config = _model_config(weights, backend, size_hw, palette, min_confidence)
    pool = _kept_pool(config.weights, config.backend, _state(config.weights))
    return Model(config, pool).segment(image)


def _model_config(
    weights: Path | str | None,
    backend: str,
    size_hw: tuple[int, int] | None,
    palette: str,
    min_confidence: float,
    device: str = ModelConfig.device,
) -> ModelConfig:
    """Return settings. Raises what is wrong with them, and with the model as far as it is known."""
    path = weights_named(weights, device)
    import_runtime(runtime_of(path, backend))
    spec = stated_spec(path)
    check_size(size_hw, spec.side_multiple if spec else SIDE_MULTIPLE)
    config = ModelConfig(
        weights=path,
        backend=backend,
        size_hw=size_hw,
        palette=palette,
        device=device,
        min_confidence=min_confidence,
        keeps_confidence=True,
    )
    if spec:
        spec.recolored(palette)
    return config


@lru_cache(maxsize=1)
def _kept_pool(_weights: Path, _backend: str, _state: tuple[int, ...]) -> Pool:
    """Return the pool of a model, a new one when its file is another than it was."""
    return Pool()


def _state(weights: Path) -> tuple[int, ...]:
    """Return a state of a model's files that changes when they are replaced."""
    files = (path.stat() for path in (weights, weights.with_suffix(".bin")) if path.exists())
    return tuple(n for f in files for n in (f.st_ino, f.st_size, f.st_mtime_ns, f.st_ctime_ns))


def _without_link(item: SegmentedFrame) -> Result:
    """Return a frame for the user, without what only stages need."""
    return Result(replace(item, link=None))


def _picture_of(image: NDArray[np.uint8] | Path | str) -> Picture:
    if isinstance(image, np.ndarray):
        return _checked(image)
    if not isinstance(image, str | PathLike):
        raise PictureError(
            f"the image is of type {type(image).__name__}; give the path of a picture, or an array "
            "(height, width, 3) of uint8 in RGB order, such as numpy.asarray(image)"
        )
    return _read(Path(image))


def _read(path: Path) -> Picture:
    """Read a picture file as `stream` does, upright by its Exif record."""
    refusal = f"{path} is no picture that can be read; give a PNG, JPEG or the like"
    try:
        if not _is_picture(path):
            raise PictureError(refusal)
    except OSError as error:
        raise PictureError(f"{path} cannot be read ({error.strerror}); check the path") from error
    log = ReadLog()
    try:
        picture = upright_picture(read_image(path, log))
    except VideoError as error:
        raise PictureError(refusal) from error
    for fault in image_faults(log, path):
        warnings.warn(fault, stacklevel=2)
    return picture


def _is_picture(path: Path) -> bool:
    """Return whether a file is of a kind of pictures that OpenCV knows. Raises `OSError`."""
    with path.open("rb") as file:
        name = str(path)
        try:
            name.encode()
        except UnicodeEncodeError:  # bytes that are no UTF-8, at which OpenCV ends the process
            name = f"/dev/fd/{file.fileno()}"
        return cv2.haveImageReader(name)


def _checked(picture: NDArray[np.uint8]) -> Picture:
    """Return an array as a picture, equal to that of a PNG file of it."""
    if picture.dtype != np.uint8 or picture.ndim != 3 or picture.shape[2] != 3 or not picture.size:
        raise PictureError(
            f"the image is an array {picture.shape} of {picture.dtype}; it must be "
            "(height, width, 3) of uint8 in RGB order; convert it first"
        )
    return picture_of(np.ascontiguousarray(picture))
