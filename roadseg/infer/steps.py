"""The stages that offline runs, live views, the API and measurements share."""

import contextlib
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import replace
from functools import partial
from itertools import filterfalse
from pathlib import Path
from threading import Lock
from typing import Any

import cv2

from roadseg.backends.machine import core_count
from roadseg.backends.runtimes import (
    Backend,
    Opener,
    import_runtime,
    open_backend,
    replicas_for,
    runtime_of,
    stated_spec,
)
from roadseg.errors import NoFrames, VideoError
from roadseg.infer.config import InferConfig, LiveConfig
from roadseg.infer.outputs import Outputs
from roadseg.infer.stages import Parallel, Pipeline, Stage
from roadseg.infer.stats import sample_pixels
from roadseg.paint.boxes import Boxed
from roadseg.paint.cover import Cover
from roadseg.paint.in_view import InView
from roadseg.paint.overlay import Overlay, shown_ids
from roadseg.segmentation.config import ModelConfig
from roadseg.segmentation.fuse import enlarged, fuse
from roadseg.segmentation.hide import covered, hold, suspect
from roadseg.segmentation.label import label_on_grid
from roadseg.segmentation.maps import Maps
from roadseg.segmentation.neighbours import paired, stepped
from roadseg.segmentation.predict import predict, predict_alone
from roadseg.segmentation.track import track
from roadseg.video.frame import Frame, PaintedFrame, SegmentedFrame
from roadseg.video.picture import Painter
from roadseg.video.read.faults import at_time
from roadseg.video.read.read_log import ReadLog
from roadseg.video.write.companions import Origin

QUEUE_DEPTH = 4
"""Frames that may wait between two stages."""
MOST_WORKERS = 4
"""Most threads of a stage without a network.

No such stage takes four times as long as the largest sequential one, which then is the limit
(`roadseg bench`, many cores).
"""
Labelling = Callable[[Iterator[Any], Backend, ModelConfig], Iterator[Any]]
"""A step of labelling that runs the network, such as `predict`."""


class _OpenCv:
    """OpenCV's number of threads, a setting of the whole process."""

    def __init__(self) -> None:
        self.lock = Lock()
        self.users = 0
        self.threads = 0


_opencv = _OpenCv()


@contextmanager
def opencv_on_one_thread() -> Iterator[None]:
    """Limit OpenCV to one thread, in the whole process, while the block runs.

    A pipeline keeps the cores busy, and OpenCV's threads would spin while they wait. Blocks may
    overlap; the last to end restores the number of threads.
    """
    with _opencv.lock:
        if not _opencv.users:
            _opencv.threads = cv2.getNumThreads()
            cv2.setNumThreads(1)
        _opencv.users += 1
    try:
        yield
    finally:
        with _opencv.lock:
            _opencv.users -= 1
            if not _opencv.users:
                cv2.setNumThreads(_opencv.threads)


def check_model(config: InferConfig | LiveConfig) -> None:
    """Check early that a model can be run and has the classes that are to be painted.

    The classes of an ONNX file are known without a runtime; those of others once they are opened.

    Raises:
        ModelFileError: The weights are missing, or of a kind that the runtime does not read.
        BackendUnavailable: The runtime is unknown, or not installed.
        ConfigError: A class name is unknown.
    """
    import_runtime(runtime_of(config.weights, config.backend))
    if spec := stated_spec(config.weights):
        if isinstance(config, InferConfig) and config.redaction:
            config.redaction.hidden_ids(spec.class_names)
        else:
            Overlay(spec, config)


def some(frames: Iterator[Frame], path: Path | str) -> Iterator[Frame]:
    """Yield frames.

    Raises:
        NoFrames: There is none.
    """
    first = next(frames, None)
    if first is None:
        raise NoFrames(f"{path} has no frame between --start and --end; choose other times")
    yield first
    del first  # frees the picture as soon as it is done with
    yield from frames


def refuse_damage(frames: Iterator[Frame], log: ReadLog, path: Path | str) -> Iterator[Frame]:
    """Yield frames until the log has damage in it.

    Raises:
        VideoError: There is damage.
    """
    for frame in frames:
        if log.damaged:
            break
        yield frame
        del frame
    if log.damaged:
        raise VideoError(
            f"{path} is damaged{at_time(log.first_damage_s)}; --strict wants an intact video; "
            "repair it with ffmpeg, or leave out --strict"
        )


def labelling(
    config: ModelConfig, open_model: Opener = open_backend, maps: Maps = Maps.FULL
) -> dict[str, Stage | Parallel]:
    """Return the stages that label a video, by name.

    Replicas of the network run on several frames at once, with the motion tracked before and the
    labels fused after them. Where key frames are chosen by the time that is left, each frame must
    be fused before the next is chosen, and one stage does it all. Class maps at the frame's size
    are made of what was fused, of several frames at once. A video that is redacted is labelled by
    what cannot be ruled out in it, frame by frame, which then is held along the motion.

    Args:
        config: Settings.
        open_model: Opens each copy of the model.
        maps: Class maps that are wanted.

    Raises:
        ModelFileError: No runtime reads such files as the weights.
        BackendUnavailable: The runtime is unknown.
    """
    network = partial(segment, config=config, open_model=open_model)
    enlarge = on_half_the_cores(partial(enlarged, config=config, maps=maps), config)
    if config.goes_by_time:
        alone = partial(network, step=label_on_grid, threads=config.threads)
        return {"segment": alone, "enlarge": enlarge}
    replicas = replicas_for(config.weights, config.backend, config.threads)

    def on_replicas(step: Labelling) -> Parallel:
        replica = partial(network, step=step, threads=replicas.threads)
        return Parallel(replica, replicas.number)

    if isinstance(config, InferConfig) and config.redaction:
        return {
            "segment": on_replicas(partial(suspect, redaction=config.redaction)),
            "hold": partial(hold, redaction=config.redaction),
            "enlarge": on_half_the_cores(covered, config),
        }
    if not config.goes_by_motion:
        return {"segment": on_replicas(partial(predict_alone, maps=maps))}
    return {
        "luma": paired,
        "motion": on_half_the_cores(stepped, config),
        "keyframes": partial(track, config=config),
        "segment": on_replicas(predict),
        "labels": partial(fuse, config=config),
        "enlarge": enlarge,
    }


def pipeline_of(frames: Iterator[Frame], stages: Mapping[str, Stage | Parallel]) -> Pipeline:
    """Return the pipeline of a video, given its frames and the stages after them by name."""
    return Pipeline(frames, *stages.values(), depth=QUEUE_DEPTH, names=["decode", *stages])


def on_half_the_cores(stage: Stage, config: ModelConfig) -> Parallel:
    """Run a stage without a network on several threads, each on one frame at a time.

    More would only cost memory: no such stage takes half of a run's time, and each of its threads
    has a frame in memory.
    """
    return Parallel(stage, min(-(-core_count(config.threads) // 2), MOST_WORKERS))


def segment(
    items: Iterator[Any],
    *,
    config: ModelConfig,
    step: Labelling,
    threads: int | None = None,
    open_model: Opener = open_backend,
) -> Iterator[Any]:
    """Stage: open the model and run a step of labelling with it.

    Args:
        items: Input of the step.
        config: Settings.
        step: One of `predict`, `predict_alone`, `label`, `label_on_grid` and `suspect`.
        threads: Threads for the model; None leaves it to the runtime.
        open_model: Opens the model.
    """
    with contextlib.closing(open_model(config.weights, config.backend, threads)) as backend:
        yield from step(items, backend, config)


def note_view(items: Iterator[SegmentedFrame]) -> Iterator[SegmentedFrame]:
    """Stage: note which classes are in view; drop frames that only lead in, and all links."""
    view = InView()

    def noted(item: SegmentedFrame) -> SegmentedFrame:
        pixels = sample_pixels(item) if item.pixels is None else item.pixels
        in_view = view.update(pixels, item.frame.time_s)
        return replace(item, pixels=pixels, in_view=in_view, link=None)

    yield from filterfalse(lambda item: item.frame.leads_in, map(noted, items))


def blend(items: Iterator[SegmentedFrame], *, config: InferConfig) -> Iterator[PaintedFrame]:
    """Stage: paint the class map over every picture, or cover what it hides."""
    painter: Cover | Overlay | None = Cover(config.redaction) if config.redaction else None

    def painted(item: SegmentedFrame) -> PaintedFrame:
        nonlocal painter
        painter = painter or Overlay(item.spec, config, side_by_side=config.side_by_side)
        chosen: Painter = painter
        if config.boxes and isinstance(painter, Overlay):
            chosen = boxed(painter, item, config)
        picture = item.frame.picture.paint(chosen, item.shown, item.in_view)
        return PaintedFrame.of(item, picture)

    yield from map(painted, items)


def boxed(painter: Overlay, item: SegmentedFrame, config: InferConfig) -> Boxed:
    """Return a painter that also draws the boxes of a frame, of those classes that are painted."""
    names = {item.spec.class_names[i] for i in shown_ids(item.spec, config)}
    objects = [r for r in item.stats.objects if r.name in names] if item.stats else []
    picture = item.frame.picture
    return Boxed(
        painter, item.spec, objects, painter.left_of(picture), painter.legend(picture, item.in_view)
    )


def encode(
    items: Iterator[PaintedFrame], *, outputs: Outputs, origin: Origin
) -> Iterator[PaintedFrame]:
    """Stage: write every picture to the output."""
    with outputs.film_writer(origin) as writer:
        for item in items:
            writer.write(item.frame)
            yield item
            del item
