"""The Python API: the labels of a video, frame by frame, or of pictures.

Decoding, model and colours are those of `roadseg infer`.
"""

import contextlib
import warnings
from collections.abc import Iterable, Iterator
from dataclasses import dataclass, replace
from fractions import Fraction
from functools import cached_property, lru_cache
from pathlib import Path
from types import TracebackType
from typing import TYPE_CHECKING, Any, Literal, Self

import cv2
import numpy as np
from numpy.typing import NDArray

from roadseg.backends.runtimes import import_runtime, runtime_of, stated_spec
from roadseg.backends.weights import default_weights
from roadseg.errors import BackendUnavailable, OutputError, PictureError, VideoError
from roadseg.files import replacing
from roadseg.infer.arguments import check_names, check_size, check_times, speaking_of_arguments
from roadseg.infer.device import device_for
from roadseg.infer.pool import Pool
from roadseg.infer.stages import Pipeline
from roadseg.infer.stats import count_pixels, measure, shares_of
from roadseg.infer.steps import QUEUE_DEPTH, labelling
from roadseg.paint.config import NO_LEGEND, OverlayConfig
from roadseg.paint.in_view import InView
from roadseg.paint.overlay import Overlay
from roadseg.segmentation.config import ModelConfig
from roadseg.segmentation.placement import input_size
from roadseg.segmentation.predict import predict_alone
from roadseg.spec import SIDE_MULTIPLE, image_rate
from roadseg.video.encoded import JpegQuality, encoded
from roadseg.video.frame import Frame, Region, SegmentedFrame
from roadseg.video.picture import Picture
from roadseg.video.read.faults import reading_faults
from roadseg.video.read.images import read_image
from roadseg.video.read.read_log import ReadLog
from roadseg.video.read.source import (
    USUAL_FPS,
    VideoInfo,
    named,
    picture_of,
    probe,
    upright_picture,
)
from roadseg.video.write.encoding import STILL_SUFFIXES

if TYPE_CHECKING:
    import PIL.Image

FEW_CLASSES = 4
"""Classes that the short form of a result names."""


@dataclass(frozen=True, repr=False)
class Result:
    """A frame of a video, or a picture, with its labels."""

    item: SegmentedFrame
    """The frame, its class map and the model's record, as the pipeline carries them."""

    def __repr__(self) -> str:
        height, width = self.class_map.shape
        largest = sorted(self.class_shares.items(), key=lambda entry: -entry[1])[:FEW_CLASSES]
        shares = ", ".join(f"{name} {share:.0%}" for name, share in largest if share)
        return f"<Result at {self.time_s:.2f} s, {width}x{height}: {shares}>"

    def _repr_png_(self) -> bytes:
        """Return the overlay for notebooks, as a PNG."""
        return encoded(self.overlay(), JpegQuality.OUTPUT, ".png")

    def __getstate__(self) -> dict[str, Any]:
        return {"item": self.item}  # the rest is made of it

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

    @property
    def objects(self) -> tuple[Region, ...]:
        """Poles, signs, cars and people, each with its box in pixels."""
        return measure(self.item).objects

    def to_pil(self, **painting: Any) -> "PIL.Image.Image":
        """Return the overlay as a picture of Pillow; the arguments are those of `overlay`.

        Raises:
            BackendUnavailable: Pillow is not installed.
            ConfigError: As `overlay`.
        """
        try:
            from PIL import Image
        except ImportError as error:
            raise BackendUnavailable(
                "Pillow is not installed, and to_pil needs it; run: pip install pillow"
            ) from error
        return Image.fromarray(self.overlay(**painting))

    def save(self, path: Path | str, **painting: Any) -> None:
        """Write the overlay as a PNG or JPEG, in place of what is there.

        Args:
            path: File; its suffix chooses the format.
            painting: Arguments of `overlay`.

        Raises:
            OutputError: The file has another suffix, or cannot be written.
            ConfigError: As `overlay`.
        """
        path = Path(path)
        if path.suffix.lower() not in STILL_SUFFIXES:
            raise OutputError(f"{path} must end in {' or '.join(STILL_SUFFIXES)}")
        data = encoded(self.overlay(**painting), JpegQuality.OUTPUT, path.suffix)
        with replacing(path) as file:
            file.write_bytes(data)

    @speaking_of_arguments()
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
        check_names("classes", classes)
        check_names("only", only)
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
        names = ["decode", *stages]
        with (
            speaking_of_arguments(),
            Pipeline(frames, *stages.values(), depth=QUEUE_DEPTH, names=names) as pipeline,
        ):
            yield from map(Result, pipeline)
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
) -> Model:
    """Return a model that stays loaded, for many pictures and videos.

    Args:
        weights: Model file; None takes the one that comes along.
        backend: Runtime, or "auto" to go by the model file.
        size_hw: Network input, height and width, multiples of 32; None goes by the picture's shape.
        palette: Colours of the classes: roadseg, camvid, cityscapes, colorblind, or a file of them.
        device: Where frames of a video lie: cpu, cuda, cuda:N, or auto.

    Raises:
        ModelFileError: The weights are missing or not ours.
        BackendUnavailable: The runtime is not installed.
        ConfigError: A setting is out of its range.
    """
    config = _model_config(weights, backend, size_hw, palette, device)
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
) -> Iterator[Result]:
    """Yield every frame of a video with its labels; decoding and labelling have their own threads.

    The threads begin with the first frame and end with the iterator: when it runs out, when it is
    closed, or when the loop that holds it is left. Mistakes in the arguments are raised by the call
    itself. Faults of the video, such as damage, are issued as `UserWarning` at the end.

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
    with speaking_of_arguments():
        config = _model_config(weights, backend, size_hw, palette, device)
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
        ConfigError: A setting is out of its range.
    """
    config = _model_config(weights, backend, size_hw, palette)
    pool = _kept_pool(config.weights, config.backend, _state(config.weights))
    return Model(config, pool).segment(image)


def _model_config(
    weights: Path | str | None,
    backend: str,
    size_hw: tuple[int, int] | None,
    palette: str,
    device: str = ModelConfig.device,
) -> ModelConfig:
    """Return settings. Raises what is wrong with them, and with the model as far as it is known."""
    path = default_weights(device) if weights is None else Path(weights)
    import_runtime(runtime_of(path, backend))
    spec = stated_spec(path)
    check_size(size_hw, spec.side_multiple if spec else SIDE_MULTIPLE)
    config = ModelConfig(
        weights=path, backend=backend, size_hw=size_hw, palette=palette, device=device
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


def _picture_of(image: NDArray[np.uint8] | Path | str) -> Picture:
    return _checked(image) if isinstance(image, np.ndarray) else _read(Path(image))


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
