"""Label a film: decode, find the motion, segment, settle the labels, overlay, encode.

Each is a stage on a thread of its own, and the network on several.
"""

import contextlib
import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass, replace
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np

from roadseg import __version__
from roadseg.backends import MOST_WORKERS, Backend, crew_for, open_backend, suited
from roadseg.config import InferConfig, ModelConfig
from roadseg.drive import DriveLog, ShownFilm, log_drive, write_report
from roadseg.errors import VideoError
from roadseg.frame import Frame, SegmentedFrame
from roadseg.imaging import opencv_on_one_thread
from roadseg.label import (
    enlarged,
    input_size,
    label_on_grid,
    look,
    look_alone,
    settle,
    survey,
    warm_up_s,
)
from roadseg.machine import core_count
from roadseg.overlay import Overlay, overlay_for
from roadseg.stages import Parallel, Pipeline, Stage, StageStats
from roadseg.stats import count_pixels, save_stats, shares_of
from roadseg.video.faults import at_time, reading_faults
from roadseg.video.masks import save_masks
from roadseg.video.origin import Origin
from roadseg.video.outputs import Outputs
from roadseg.video.part import behind
from roadseg.video.places import FilePlace
from roadseg.video.source import ReadLog, VideoInfo, decode, probe

QUEUE_DEPTH = 4
"""Frames that may wait between two stages."""


@dataclass(frozen=True, kw_only=True)
class InferResult:
    """What a run did."""

    out: Path | None
    """The film written, as it was asked for; None if none was."""
    frames: int
    """Frames labelled, those of an unfinished run included."""
    kept_frames: int
    """Frames of them that an unfinished run had written; the figures below are without them."""
    network_frames: int
    """Frames that the network looked at; the labels of the others were moved along."""
    wall_s: float
    """Seconds the whole run took."""
    network_hw: tuple[int, int]
    """Height and width of the network's input."""
    class_shares: dict[str, float]
    """Share of each class in all pixels."""
    colors: dict[str, tuple[int, int, int]]
    """RGB colour of each class in the overlay."""
    stages: tuple[StageStats, ...]
    """Where the time went."""
    bottleneck: str
    """The stage that was at work longest."""
    warnings: tuple[str, ...]
    """What was wrong with the input."""

    @property
    def fps(self) -> float:
        """Frames a second, start-up included."""
        return (self.frames - self.kept_frames) / self.wall_s


def infer(
    config: InferConfig, on_frame: Callable[[int, int | None], None] = lambda _done, _total: None
) -> InferResult:
    """Write the overlay of a film.

    Args:
        config: Settings.
        on_frame: Called with the frames written and those expected, where the file tells.

    Raises:
        VideoError: The film cannot be read, or the output exists or cannot hold it.
        OutputError: The output cannot be written.
        ModelFileError: The weights are missing or not ours.
        BackendUnavailable: The runtime is not installed.
        ConfigError: A class name is unknown.
    """
    started_s = time.perf_counter()
    info = probe(config.source, config.image_fps, config.stream)
    outputs = Outputs(config, info)
    drive = DriveLog(replace(config, legend=False, outline=False)) if config.report else None
    total = expected_frames(info, config)
    log = ReadLog()
    pixels: np.ndarray = np.zeros(256, np.int64)
    item: SegmentedFrame | None = None
    with outputs.claimed():
        frames, network_frames = outputs.kept.frames, 0
        with (
            opencv_on_one_thread(),
            build_pipeline(config, info, log, outputs, drive) as pipeline,
        ):
            for item in pipeline:
                frames += 1
                network_frames += item.by_network
                pixels += count_pixels(item)
                on_frame(frames, total)
        assert item is not None  # `some` sees to it
        result = InferResult(
            out=config.out,
            frames=frames,
            kept_frames=outputs.kept.frames,
            network_frames=network_frames,
            wall_s=time.perf_counter() - started_s,
            network_hw=input_size(info.size_hw, info.pixel_aspect, item.spec, config),
            class_shares=shares_of(pixels, item.spec),
            colors=dict(zip(item.spec.class_names, item.spec.palette, strict=True)),
            stages=tuple(pipeline.stats),
            bottleneck=pipeline.bottleneck.name,
            warnings=tuple(reading_faults(log, info)),
        )
        if outputs.report and isinstance(outputs.film, FilePlace) and drive:
            film = ShownFilm(
                file=outputs.film.whole, path=outputs.film.target, page=outputs.report.target
            )
            write_report(outputs.report.part, drive, film, facts(result, config))
    return result


def facts(result: InferResult, config: InferConfig) -> dict[str, str]:
    """Return what a report says about a run."""
    height, width = result.network_hw
    backend = suited(config.weights) if config.backend == "auto" else config.backend
    return {
        "film": str(config.source),
        "overlay": str(config.out),
        "frames": f"{result.frames}, labelled at {result.fps:.1f} a second",
        "network input": f"{width}x{height}",
        "model": f"{config.weights.name}, backend {backend}",
        "bottleneck": result.bottleneck,
        "warnings": "; ".join(result.warnings) or "none",
        "made by": f"roadseg {__version__}",
    }


def build_pipeline(
    config: InferConfig,
    info: VideoInfo,
    log: ReadLog,
    outputs: Outputs,
    drive: DriveLog | None,
) -> Pipeline:
    """Put the stages in line: decode, label, overlay, encode, and what is asked for beside."""
    stages, kept = labelling(config), outputs.kept
    if outputs.stats is not None:
        stages["stats"] = partial(save_stats, place=outputs.stats.part, kept=kept.frames)
    if drive is not None:
        stages["report"] = partial(log_drive, log=drive)
    if config.out is not None:
        stages["overlay"] = on_all_cores(partial(blend, config=config))
    if outputs.masks is not None:
        stages["masks"] = partial(
            save_masks, place=outputs.masks.part, first=kept.frames, fps=info.fps
        )
    if config.out is not None:
        origin = Origin(
            source=info,
            log=log,
            start_s=config.start_s,
            end_s=config.end_s,
            sound=config.sound,
        )
        stages["encode"] = partial(encode, outputs=outputs, origin=origin)
    frames = decode(info, log, config.start_s, config.end_s)
    source = some(behind(frames, kept, warm_up_s(config)), config.source)
    if config.strict:
        source = refuse_damage(source, log, config.source)
    return Pipeline(source, *stages.values(), depth=QUEUE_DEPTH, names=["decode", *stages])


def some(frames: Iterator[Frame], path: Path | str) -> Iterator[Frame]:
    """Yield frames.

    Raises:
        VideoError: There is none.
    """
    first = next(frames, None)
    if first is None:
        raise VideoError(f"{path} has no frame between --start and --end; choose other times")
    yield first
    del first  # a picture is let go as soon as it is done with
    yield from frames


def refuse_damage(frames: Iterator[Frame], log: ReadLog, path: Path | str) -> Iterator[Frame]:
    """Yield frames until the log has damage in it.

    Raises:
        VideoError: It has.
    """
    for frame in frames:
        if log.damaged:
            break
        yield frame
    if log.damaged:
        raise VideoError(
            f"{path} is damaged{at_time(log.first_damage_s)}; --strict wants an intact film; "
            "repair it with ffmpeg, or leave out --strict"
        )


def labelling(config: ModelConfig) -> dict[str, Stage | Parallel]:
    """Return the stages that label a film, by name.

    Copies of the network look at several frames at once, with the motion found before and the
    labels settled after them. Where what the network looks at is chosen by the time that is left,
    each frame must be settled before the next is chosen, and one stage does it all. Class maps at
    the frame's size are made of what was settled, of several frames at once.

    Raises:
        ModelFileError: No runtime reads such files as the weights.
        BackendUnavailable: The runtime is unknown.
    """
    enlarge = {"enlarge": on_all_cores(enlarged)}
    if config.goes_by_time:
        return {"segment": partial(segment, config=config, step=label_on_grid), **enlarge}
    crew = crew_for(config.weights, config.backend)
    step = look if config.goes_by_motion else look_alone
    network = partial(segment, config=config, step=step, threads=crew.threads)
    stages: dict[str, Stage | Parallel] = {"segment": Parallel(network, crew.workers)}
    if not config.goes_by_motion:
        return stages
    before, after = partial(survey, config=config), partial(settle, config=config)
    return {"motion": before, **stages, "labels": after, **enlarge}


def on_all_cores(stage: Stage) -> Parallel:
    """Have a stage done on as many threads as there are cores; it knows one frame at a time."""
    return Parallel(stage, min(core_count(), MOST_WORKERS))


def segment(
    items: Iterator[Any],
    *,
    config: ModelConfig,
    step: Callable[[Iterator[Any], Backend, ModelConfig], Iterator[Any]],
    threads: int | None = None,
) -> Iterator[Any]:
    """Stage: open the model and do with it a step of labelling.

    Args:
        items: What the step takes.
        config: Settings.
        step: One of the functions of `roadseg.label` that take a backend.
        threads: Threads for the model; None leaves it to the runtime.
    """
    with contextlib.closing(open_backend(config.weights, config.backend, threads)) as backend:
        yield from step(items, backend, config)


def blend(items: Iterator[SegmentedFrame], *, config: InferConfig) -> Iterator[SegmentedFrame]:
    """Stage: paint the class map over every picture."""
    overlay: Overlay | None = None
    for item in items:
        overlay = overlay or overlay_for(item.spec, config, side_by_side=config.side_by_side)
        painted = overlay.draw(item.frame.picture, item.class_map)
        yield replace(item, frame=replace(item.frame, picture=painted))


def encode(
    items: Iterator[SegmentedFrame], *, outputs: Outputs, origin: Origin
) -> Iterator[SegmentedFrame]:
    """Stage: write every picture to where it is wanted."""
    with outputs.film_writer(origin) as writer:
        for item in items:
            writer.write(item.frame)
            yield item


def expected_frames(info: VideoInfo, config: InferConfig) -> int | None:
    """Return about how many frames a run will write, as far as the file tells."""
    whole = info.frame_count
    if whole is None and info.end_s is not None:
        whole = round((info.end_s - info.start_s) * info.fps)
    if whole is None:
        return None
    first = round(config.start_s * info.fps)
    last = whole if config.end_s is None else min(round(config.end_s * info.fps), whole)
    return max(last - first, 0)
