"""Label a film: decode, segment, overlay, encode, each stage on a thread of its own."""

import contextlib
import shutil
import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass, replace
from fractions import Fraction
from functools import partial
from pathlib import Path

import cv2
import numpy as np

from roadseg import __version__
from roadseg.backends import Backend, open_backend
from roadseg.config import InferConfig, ModelConfig, ModelSpec
from roadseg.drive import DriveLog, log_drive, write_report
from roadseg.errors import VideoError
from roadseg.files import check_new, output_errors
from roadseg.frame import Frame, SegmentedFrame
from roadseg.imaging import Placement, network_size
from roadseg.overlay import Overlay, overlay_for
from roadseg.stages import Pipeline, Stage, StageStats
from roadseg.stats import STATS_SUFFIXES, count_pixels, save_stats, shares_of
from roadseg.video.sink import VideoWriter, check_output
from roadseg.video.source import ReadLog, VideoInfo, decode, probe

MASK_NAME = "{:06d}.png"
"""File name of a class map, by the number of its frame in the output."""
QUEUE_DEPTH = 4
"""Frames that may wait between two stages."""
LOST_TAIL_S = 0.5
"""A film that ends this much before its stated length counts as cut off."""


@dataclass(frozen=True, kw_only=True)
class InferResult:
    """What a run did."""

    out: Path
    """The film written."""
    frames: int
    """Frames in it."""
    wall_s: float
    """Seconds the whole run took."""
    network_hw: tuple[int, int]
    """Height and width of the network's input."""
    class_shares: dict[str, float]
    """Share of each class in all pixels."""
    stages: tuple[StageStats, ...]
    """Where the time went."""
    bottleneck: str
    """The stage that was at work longest."""
    warnings: tuple[str, ...]
    """What was wrong with the input."""

    @property
    def fps(self) -> float:
        """Frames a second, start-up included."""
        return self.frames / self.wall_s


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
    info = probe(config.source)
    check_output(config.out, overwrite=config.overwrite)
    check_side_files(config)
    drive = DriveLog(replace(config, legend=False, outline=False)) if config.report else None
    total = expected_frames(info, config)
    log = ReadLog()
    pixels: np.ndarray = np.zeros(256, np.int64)
    item: SegmentedFrame | None = None
    frames = 0
    with mask_folder(config) as masks, build_pipeline(config, info, log, masks, drive) as pipeline:
        for item in pipeline:
            frames += 1
            pixels += count_pixels(item)
            on_frame(frames, total)
    assert item is not None  # without a frame the encoder raises
    result = InferResult(
        out=config.out,
        frames=frames,
        wall_s=time.perf_counter() - started_s,
        network_hw=input_size(info.size_hw, info.pixel_aspect, item.spec, config),
        class_shares=shares_of(pixels, item.spec),
        stages=tuple(pipeline.stats),
        bottleneck=pipeline.bottleneck.name,
        warnings=tuple(reading_faults(log, info)),
    )
    if config.report and drive:
        write_report(config.report, drive, config.out, facts(result, config))
    return result


def check_side_files(config: InferConfig) -> None:
    """Find out early whether what is written beside the film can be.

    Raises:
        OutputError: It cannot.
    """
    if config.stats is not None:
        check_new(config.stats, "--stats", STATS_SUFFIXES, overwrite=config.overwrite)
    if config.report is not None:
        check_new(config.report, "--report", (".html",), overwrite=config.overwrite)


def facts(result: InferResult, config: InferConfig) -> dict[str, str]:
    """Return what a report says about a run."""
    height, width = result.network_hw
    return {
        "film": str(config.source),
        "overlay": str(config.out),
        "frames": f"{result.frames}, labelled at {result.fps:.1f} a second",
        "network input": f"{width}x{height}",
        "model": f"{config.weights.name}, backend {config.backend}",
        "bottleneck": result.bottleneck,
        "warnings": "; ".join(result.warnings) or "none",
        "made by": f"roadseg {__version__}",
    }


def build_pipeline(
    config: InferConfig, info: VideoInfo, log: ReadLog, masks: Path | None, drive: DriveLog | None
) -> Pipeline:
    """Put the stages in line: decode, segment, overlay, encode, and what is asked for beside."""
    stages: dict[str, Stage] = {"segment": partial(segment, config=config)}
    if config.stats is not None:
        stages["stats"] = partial(save_stats, path=config.stats)
    if drive is not None:
        stages["report"] = partial(log_drive, log=drive)
    stages["overlay"] = partial(blend, config=config)
    if masks is not None:
        stages["masks"] = partial(save_masks, folder=masks)
    stages["encode"] = partial(encode, config=config, info=info)
    source = decode(info, log, config.start_s, config.end_s)
    return Pipeline(source, *stages.values(), depth=QUEUE_DEPTH, names=["decode", *stages])


def segment(frames: Iterator[Frame], *, config: ModelConfig) -> Iterator[SegmentedFrame]:
    """Stage: add the class map to every frame."""
    with contextlib.closing(open_backend(config.weights, config.backend)) as backend:
        for frame in frames:
            yield segment_frame(frame, backend, config)


def segment_frame(frame: Frame, backend: Backend, config: ModelConfig) -> SegmentedFrame:
    """Bring a frame to the network's size, label it and bring the labels back."""
    frame_hw = (frame.picture.shape[0], frame.picture.shape[1])
    network_hw = input_size(frame_hw, frame.pixel_aspect, backend.spec, config)
    placement = Placement.fit(frame_hw, network_hw, frame.pixel_aspect)
    class_maps = backend.segment(placement.place(frame.picture)[None])
    spec = backend.spec.recolored(config.palette)
    return SegmentedFrame(frame, placement.restore(class_maps[0]), spec)


def input_size(
    frame_hw: tuple[int, int], pixel_aspect: Fraction, spec: ModelSpec, config: ModelConfig
) -> tuple[int, int]:
    """Return the network's input for a frame: the one asked for, or one of a fitting shape."""
    shown_hw = (frame_hw[0], round(frame_hw[1] * pixel_aspect))
    return config.size_hw or network_size(shown_hw, spec.size_hw)


def blend(items: Iterator[SegmentedFrame], *, config: InferConfig) -> Iterator[SegmentedFrame]:
    """Stage: paint the class map over every picture."""
    overlay: Overlay | None = None
    for item in items:
        overlay = overlay or overlay_for(item.spec, config, side_by_side=config.side_by_side)
        painted = overlay.draw(item.frame.picture, item.class_map)
        yield replace(item, frame=replace(item.frame, picture=painted))


def save_masks(items: Iterator[SegmentedFrame], *, folder: Path) -> Iterator[SegmentedFrame]:
    """Stage: write every class map as a PNG of ids."""
    for number, item in enumerate(items):
        _, data = cv2.imencode(".png", item.class_map)
        path = folder / MASK_NAME.format(number)
        with output_errors(path):
            path.write_bytes(data.tobytes())
        yield item


def encode(
    items: Iterator[SegmentedFrame], *, config: InferConfig, info: VideoInfo
) -> Iterator[SegmentedFrame]:
    """Stage: write every picture to the film."""
    with VideoWriter(config.out, info, config.start_s, config.end_s) as writer:
        for item in items:
            writer.write(item.frame)
            yield item


@contextlib.contextmanager
def mask_folder(config: InferConfig) -> Iterator[Path | None]:
    """Give a folder for class maps that takes its name when the block ends without an error.

    Raises:
        VideoError: The folder exists and holds files, and `overwrite` is off, or cannot be made.
    """
    if config.masks is None:
        yield None
        return
    target = config.masks.resolve()
    if target.exists() and not target.is_dir():
        raise VideoError(f"--masks {config.masks} is a file; give a folder")
    if target.is_dir() and any(target.iterdir()) and not config.overwrite:
        raise VideoError(
            f"--masks {config.masks} holds files; choose another folder or add --overwrite"
        )
    temporary = target.with_name(f".{target.name}.part")
    with output_errors(config.masks):
        shutil.rmtree(temporary, ignore_errors=True)
        temporary.mkdir()
    try:
        yield temporary
        with output_errors(config.masks):
            _move_masks(temporary, target)
    finally:
        shutil.rmtree(temporary, ignore_errors=True)


def _move_masks(source: Path, target: Path) -> None:
    """Move the class maps to their folder and remove those of a longer film from it."""
    target.mkdir(exist_ok=True)
    new = {path.name for path in source.iterdir()}
    for name in new:
        (source / name).replace(target / name)
    for path in target.glob("[0-9]" * 6 + ".png"):
        if path.name not in new:
            path.unlink()


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


def reading_faults(log: ReadLog, info: VideoInfo) -> Iterator[str]:
    """Yield a sentence for each fault found in the input."""
    if log.damaged_packets:
        where = "" if log.first_damage_s is None else f", the first at {log.first_damage_s:.2f} s"
        yield (
            f"{info.path} is damaged: {log.damaged_packets} of its packets did not decode{where}"
        )
    if log.retimed_frames:
        yield (
            f"{info.path} gives {log.retimed_frames} frames no time, or one before the frame "
            "before; they were put right behind it"
        )
    if not log.reached_end or info.end_s is None or log.read_until_s is None:
        return
    if info.end_s - log.read_until_s >= LOST_TAIL_S:
        yield (
            f"{info.path} ends early: it says {info.end_s - info.start_s:.2f} s and holds "
            f"{log.read_until_s - info.start_s:.2f} s; what is there is in the output"
        )
