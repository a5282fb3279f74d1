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
from roadseg.backends import open_backend
from roadseg.config import InferConfig, ModelConfig, ModelSpec
from roadseg.drive import DriveLog, log_drive, write_report
from roadseg.errors import VideoError
from roadseg.files import check_new, output_errors
from roadseg.frame import Frame, SegmentedFrame
from roadseg.imaging import Placement, network_size
from roadseg.overlay import Overlay, overlay_for
from roadseg.picture import BITS
from roadseg.stages import Pipeline, Stage, StageStats
from roadseg.stats import STATS_SUFFIXES, count_pixels, save_stats, shares_of
from roadseg.video.encoding import Encoding
from roadseg.video.part import check_settings, count_frames, part_path
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
    kept_frames: int
    """Frames of them that an unfinished run had written; the figures below are without them."""
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
    info = probe(config.source, config.image_fps)
    check_output(config.out, encoding(config), overwrite=config.overwrite)
    check_side_files(config)
    kept = frames_to_keep(config) if config.resume else 0
    drive = DriveLog(replace(config, legend=False, outline=False)) if config.report else None
    total = expected_frames(info, config)
    log = ReadLog()
    pixels: np.ndarray = np.zeros(256, np.int64)
    item: SegmentedFrame | None = None
    frames = kept
    with (
        mask_folder(config, kept) as masks,
        build_pipeline(config, info, log, masks, drive, kept) as pipeline,
    ):
        for item in pipeline:
            frames += 1
            pixels += count_pixels(item)
            on_frame(frames, total)
    assert item is not None  # without a frame the encoder raises
    result = InferResult(
        out=config.out,
        frames=frames,
        kept_frames=kept,
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


def encoding(config: InferConfig) -> Encoding:
    """Return how the film is to be encoded."""
    return Encoding(codec=config.codec, crf=config.crf, preset=config.preset)


def frames_to_keep(config: InferConfig) -> int:
    """Return how many frames of an unfinished run can be kept.

    Raises:
        ConfigError: The unfinished run was told something else.
        VideoError: There is no record of what it was told.
    """
    kept = count_frames(config.out)
    if kept:
        check_settings(config.out, settings_record(config))
    return kept


def settings_record(config: InferConfig) -> dict[str, str]:
    """Return what two runs must have in common for one to go on from the other."""
    record = config.to_record()
    if isinstance(config.source, Path) and config.source.exists():
        state = config.source.stat()
        record["source's size and date"] = f"{state.st_size} {state.st_mtime_ns}"
    return record


def build_pipeline(
    config: InferConfig,
    info: VideoInfo,
    log: ReadLog,
    masks: Path | None,
    drive: DriveLog | None,
    kept: int,
) -> Pipeline:
    """Put the stages in line: decode, segment, overlay, encode, and what is asked for beside."""
    stages: dict[str, Stage] = {"segment": partial(segment, config=config)}
    if config.stats is not None:
        stages["stats"] = partial(save_stats, path=config.stats)
    if drive is not None:
        stages["report"] = partial(log_drive, log=drive)
    stages["overlay"] = partial(blend, config=config)
    if masks is not None:
        stages["masks"] = partial(save_masks, folder=masks, first=kept)
    stages["encode"] = partial(encode, config=config, info=info, log=log, resume=kept > 0)
    source = decode(info, log, config.start_s, config.end_s, kept)
    if config.strict:
        source = refuse_damage(source, log, config.source)
    return Pipeline(source, *stages.values(), depth=QUEUE_DEPTH, names=["decode", *stages])


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
            f"{path} is damaged{_at(log.first_damage_s)}; --strict wants an intact film; repair it "
            "with ffmpeg, or leave out --strict"
        )


def segment(frames: Iterator[Frame], *, config: ModelConfig) -> Iterator[SegmentedFrame]:
    """Stage: add the class map to every frame."""
    with contextlib.closing(open_backend(config.weights, config.backend)) as backend:
        for frame in frames:
            frame_hw = frame.picture.size_hw
            network_hw = input_size(frame_hw, frame.pixel_aspect, backend.spec, config)
            placement = Placement.fit(frame_hw, network_hw, frame.pixel_aspect)
            class_maps = backend.segment(placement.pad(frame.rgb(placement.content_hw))[None])
            spec = backend.spec.recolored(config.palette)
            yield SegmentedFrame(frame, placement.restore(class_maps[0]), spec)


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


def save_masks(
    items: Iterator[SegmentedFrame], *, folder: Path, first: int
) -> Iterator[SegmentedFrame]:
    """Stage: write every class map as a PNG of ids, numbered from the first on."""
    for number, item in enumerate(items, first):
        _, data = cv2.imencode(".png", item.class_map)
        path = folder / MASK_NAME.format(number)
        with output_errors(path):
            path.write_bytes(data.tobytes())
        yield item


def encode(
    items: Iterator[SegmentedFrame],
    *,
    config: InferConfig,
    info: VideoInfo,
    log: ReadLog,
    resume: bool,
) -> Iterator[SegmentedFrame]:
    """Stage: write every picture to the film."""
    with VideoWriter(
        config.out,
        info,
        log,
        encoding(config),
        start_s=config.start_s,
        end_s=config.end_s,
        record=settings_record(config),
        resume=resume,
    ) as writer:
        for item in items:
            writer.write(item.frame)
            yield item


@contextlib.contextmanager
def mask_folder(config: InferConfig, kept: int) -> Iterator[Path | None]:
    """Give a folder for class maps that takes its name when the block ends without an error.

    Where a part of the film stays for another run, so do its class maps.

    Args:
        config: Settings.
        kept: Frames of an unfinished run that are kept.

    Raises:
        VideoError: The folder exists and holds files, and `overwrite` is off; or the class maps of
            the unfinished run are not there.
        OutputError: It cannot be made.
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
    if kept and not (temporary / MASK_NAME.format(kept - 1)).is_file():
        raise VideoError(
            f"the unfinished run left no class maps for --masks {config.masks}; leave out --masks, "
            "or leave out --resume to begin anew"
        )
    with output_errors(config.masks):
        if not kept:
            shutil.rmtree(temporary, ignore_errors=True)
        temporary.mkdir(exist_ok=True)
    try:
        yield temporary
        with output_errors(config.masks):
            _move_masks(temporary, target)
    finally:
        if not part_path(config.out).exists():
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
    if log.damaged_packets or log.damaged_frames:
        yield (
            f"{info.path} is damaged: {log.damaged_packets} of its packets did not decode and "
            f"{log.damaged_frames} of its frames were patched up, the first"
            f"{_at(log.first_damage_s)}"
        )
    if log.unreadable:
        yield (
            f"{len(log.unreadable)} of the images of {info.path} cannot be read, the first "
            f"is {log.unreadable[0].name}; they were left out"
        )
    if not info.images and not info.reopens:
        yield f"{info.path} is live; its sound was not copied"
    if log.retimed_frames:
        yield (
            f"{info.path} gives {log.retimed_frames} frames no time, or one before the frame "
            "before; they were put right behind it"
        )
    if log.resized_frames:
        height, width = info.size_hw
        yield (
            f"{info.path} changes its size; {log.resized_frames} frames were brought to "
            f"{width}x{height}"
        )
    if log.interlaced_frames:
        yield (
            f"{info.path} is interlaced; its frames were labelled as they are, two fields in "
            "one picture; deinterlace it first for better labels"
        )
    if info.bits > BITS:
        yield f"{info.path} has {info.bits} bits a sample; the output has {BITS}"
    if not log.reached_end or info.end_s is None or log.read_until_s is None:
        return
    if info.end_s - log.read_until_s >= LOST_TAIL_S:
        yield (
            f"{info.path} ends early: it says {info.end_s - info.start_s:.2f} s and holds "
            f"{log.read_until_s - info.start_s:.2f} s; what is there is in the output"
        )


def _at(time_s: float | None) -> str:
    return " at an unknown time" if time_s is None else f" at {time_s:.2f} s"
