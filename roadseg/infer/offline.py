"""Label a video: decode, find the motion, segment, fuse the labels, overlay, encode.

Each is a stage on a thread of its own, and the network on several. The stages themselves are in
`roadseg.infer.steps`.
"""

import time
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass, field, replace
from functools import partial
from math import ceil
from pathlib import Path
from typing import Self

import numpy as np
from numpy.typing import NDArray

from roadseg import __version__
from roadseg.backends.runtimes import Opener, open_backend, runtime_of
from roadseg.infer.config import InferConfig
from roadseg.infer.device import Device, device_for
from roadseg.infer.drive import DriveLog, ShownFilm, log_drive, write_report
from roadseg.infer.drive_geojson import write_geojson
from roadseg.infer.drive_track import drive_track
from roadseg.infer.ignored import ignored_pixels, leave_out, with_unmoving
from roadseg.infer.memory import give_large_blocks_back
from roadseg.infer.output_places import FilePlace
from roadseg.infer.outputs import Outputs, encoded_on
from roadseg.infer.stages import Parallel, Pipeline, Stage, StageStats
from roadseg.infer.stats import measured, save_stats, shares_of, unsure_share
from roadseg.infer.steps import (
    blend,
    check_model,
    encode,
    labelling,
    note_view,
    on_half_the_cores,
    opencv_on_one_thread,
    pipeline_of,
    refuse_damage,
    some,
)
from roadseg.infer.tracks import follow_objects
from roadseg.paint.config import NO_LEGEND
from roadseg.paint.in_view import HOLD_S
from roadseg.segmentation.hide import LEAD
from roadseg.segmentation.label import look_ahead_s, warm_up_s
from roadseg.segmentation.maps import Maps
from roadseg.segmentation.placement import input_size
from roadseg.spec import ModelSpec
from roadseg.video.frame import Frame, PaintedFrame, SegmentedFrame
from roadseg.video.rates import USUAL_FPS
from roadseg.video.read.chunk import Around, decode_chunk
from roadseg.video.read.faults import reading_faults
from roadseg.video.read.frames import LEAST_STEP_S
from roadseg.video.read.read_log import ReadLog
from roadseg.video.read.source import VideoInfo, probe
from roadseg.video.write.companions import Origin
from roadseg.video.write.masks import save_masks
from roadseg.video.write.part import behind


@dataclass(frozen=True, kw_only=True)
class InferResult:
    """Results of a run."""

    out: Path | None
    """The video written; None if there is none."""
    frames: int
    """Frames labelled, those of an unfinished run included."""
    kept_frames: int
    """Frames of them that an unfinished run had written; the numbers below exclude them."""
    network_frames: int
    """Frames that the network predicted; the labels of the others were moved along."""
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
    """The stage that was busy longest."""
    device: str
    """Where pictures lay: the CPU, or a GPU such as cuda:0."""
    decoder: str
    """What decoded the video."""
    encoder: str | None
    """FFmpeg's name of what encoded the video; None if none was written."""
    warnings: tuple[str, ...]
    """Faults of the input."""
    unsure_share: float = 0.0
    """Share of all pixels that were too unsure to be painted and counted."""
    hardware_encoder: str | None = None
    """FFmpeg's name of the hardware encoder that wrote the video; None if none did."""

    @property
    def fps(self) -> float:
        """Frames a second, start-up included."""
        return (self.frames - self.kept_frames) / self.wall_s


def infer(
    config: InferConfig,
    on_frame: Callable[[int, int | None], None] = lambda _done, _total: None,
    open_model: Opener = open_backend,
) -> InferResult:
    """Write the overlay of a video.

    Args:
        config: Settings.
        on_frame: Called with the frames written and those expected, where the file states them.
        open_model: Opens each replica of the model; measurements pass one that is metered.

    Raises:
        VideoError: The video cannot be read, or the output exists or cannot hold it.
        OutputError: The output cannot be written.
        ModelFileError: The weights are missing or not ours.
        BackendUnavailable: The runtime is not installed.
        ConfigError: A class name is unknown.
    """
    started_s = time.perf_counter()
    give_large_blocks_back()
    run = _Run.of(config)
    total = expected_frames(run.info, run.config)
    with run.outputs.claimed():
        tally = _Tally(run.outputs.kept.frames)
        with run.device.errors(), opencv_on_one_thread(), run.pipeline(open_model) as pipeline:
            for item in pipeline:
                tally.add(item)
                del item
                on_frame(tally.frames, total)
        result = run.result(tally, pipeline, started_s)
        if run.drive is not None:
            write_about(run.drive, run.outputs, facts(result, run.config))
    return result


@dataclass(frozen=True, kw_only=True)
class _Run:
    """What a run goes by, all of it known before its first frame, and what it notes."""

    config: InferConfig
    """Settings, with what the video and the machine decide."""
    device: Device
    """Where pictures lie."""
    info: VideoInfo
    """The video."""
    outputs: Outputs
    """What is written."""
    drive: DriveLog | None
    """Notes on the whole drive, if an output is about that."""
    log: ReadLog
    """Notes on what was read."""

    @classmethod
    def of(cls, config: InferConfig) -> Self:
        """Check that a video can be labelled with such settings. Raises the errors of `infer`."""
        check_model(config)
        device = device_for(config)
        config = encoded_on(device, replace(config, device=device.name))
        info = probe(config.source, config.image_fps, config.stream)
        config = with_unmoving(config, info)
        return cls(
            config=config,
            device=device,
            info=info,
            outputs=Outputs(config, info),
            drive=_drive_log(config, info),
            log=ReadLog(),
        )

    def pipeline(self, open_model: Opener) -> Pipeline:
        """Return the pipeline, which fills the notes."""
        return build_pipeline(
            self.config, self.info, self.log, self.outputs, self.drive, open_model
        )

    def result(self, tally: "_Tally", pipeline: Pipeline, started_s: float) -> InferResult:
        """Return the result, once all frames went through the pipeline."""
        config, info, outputs, spec = self.config, self.info, self.outputs, tally.spec
        assert spec is not None  # `some` sees to it
        return InferResult(
            out=config.out,
            frames=tally.frames,
            kept_frames=outputs.kept.frames,
            network_frames=tally.network_frames,
            wall_s=time.perf_counter() - started_s,
            network_hw=input_size(info.size_hw, info.pixel_aspect, spec, config.size_hw),
            class_shares=shares_of(tally.pixels, spec),
            unsure_share=unsure_share(tally.pixels),
            colors=dict(zip(spec.class_names, spec.palette, strict=True)),
            stages=tuple(pipeline.stats),
            bottleneck=pipeline.bottleneck.name,
            hardware_encoder=outputs.hardware_encoder,
            device=self.device.name,
            decoder=self.log.decoder,
            encoder=outputs.encoder,
            warnings=tuple(self._warnings()),
        )

    def _warnings(self) -> Iterator[str]:
        """Yield what went otherwise than was asked for, or is wrong with the video."""
        if self.device.excuse:
            yield self.device.excuse
        fps, info = self.config.image_fps, self.info
        if fps != USUAL_FPS and not info.images:
            yield f"--fps {float(fps):g} is for images; {info.path} keeps its own times"
        yield from reading_faults(self.log, info)


@dataclass
class _Tally:
    """What is counted of a run's frames."""

    frames: int
    """Frames written, those of an unfinished run included."""
    network_frames: int = 0
    """Frames that the network predicted."""
    pixels: NDArray[np.int64] = field(default_factory=lambda: np.zeros(256, np.int64))
    """Pixels of each id, (256,)."""
    spec: ModelSpec | None = None
    """The model's record, once there was a frame."""

    def add(self, item: SegmentedFrame | PaintedFrame) -> None:
        """Count a frame at the end of the pipeline."""
        assert item.pixels is not None  # `note_view` sees to it
        self.frames += 1
        self.network_frames += item.by_network
        self.pixels += item.pixels
        self.spec = item.spec


def _drive_log(config: InferConfig, info: VideoInfo) -> DriveLog | None:
    """Return the log of the whole drive; None if no output is about that."""
    if not config.tells_of_drive:
        return None
    painted = replace(config, legend=NO_LEGEND, outline=False)
    return DriveLog(painted, track=drive_track(config, info))


def write_about(drive: DriveLog, outputs: Outputs, facts: Mapping[str, str]) -> None:
    """Write what is wanted about the whole drive, given facts about the run."""
    record = drive.record()
    if outputs.report and isinstance(outputs.film, FilePlace):
        film = ShownFilm(
            file=outputs.film.whole, path=outputs.film.target, page=outputs.report.target
        )
        write_report(outputs.report.part, record, film, facts)
    if outputs.geojson:
        write_geojson(outputs.geojson.part, record, drive.way)


def facts(result: InferResult, config: InferConfig) -> dict[str, str]:
    """Return the facts about a run for its report."""
    height, width = result.network_hw
    backend = runtime_of(config.weights, config.backend)
    return {
        "video": str(config.source),
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
    open_model: Opener = open_backend,
) -> Pipeline:
    """Return the pipeline: decode, label, overlay, encode, and the other outputs."""
    stages = {
        **_stages_of_labels(config, info, outputs, open_model),
        **_stages_of_outputs(config, info, log, outputs, drive),
    }
    source = frames_of(config, info, log, outputs)
    if config.strict:
        source = refuse_damage(source, log, config.source)
    return pipeline_of(source, stages)


def _stages_of_labels(
    config: InferConfig, info: VideoInfo, outputs: Outputs, open_model: Opener
) -> dict[str, Stage | Parallel]:
    """Return the stages that find out what is in a frame, by name."""
    stages = labelling(config, open_model, maps_for(config))
    if (ignored := ignored_pixels(config, info)) is not None:
        stages["ignore"] = partial(leave_out, ignored=ignored)
    if config.measures:
        stages["measure"] = on_half_the_cores(
            partial(measured, min_region=config.min_region), config
        )
        written = outputs.stats.part if outputs.stats and outputs.kept.frames else None
        stages["tracks"] = partial(follow_objects, written=written)
    stages["view"] = note_view
    return stages


def _stages_of_outputs(
    config: InferConfig, info: VideoInfo, log: ReadLog, outputs: Outputs, drive: DriveLog | None
) -> dict[str, Stage | Parallel]:
    """Return the stages that write all that is wanted of it, by name."""
    stages: dict[str, Stage | Parallel] = {}
    kept_frames = outputs.kept.frames
    if outputs.stats is not None:
        stages["stats"] = partial(save_stats, place=outputs.stats.part, kept=kept_frames)
    if drive is not None:
        stages["report"] = partial(log_drive, log=drive)
    if outputs.masks is not None:
        stages["masks"] = partial(
            save_masks,
            place=outputs.masks.part,
            first=kept_frames,
            fps=info.fps,
            in_colors=config.mask_format == "palette",
        )
    if config.out is not None:
        stages["overlay"] = on_half_the_cores(partial(blend, config=config), config)
        origin = Origin(
            source=info,
            log=log,
            start_s=config.start_s,
            end_s=config.end_s,
            sound=config.sound,
            keep_tags=config.redaction is None or config.redaction.keep_tags,
            is_chunk=config.is_chunk,
        )
        stages["encode"] = partial(encode, outputs=outputs, origin=origin)
    return stages


def frames_of(
    config: InferConfig, info: VideoInfo, log: ReadLog, outputs: Outputs
) -> Iterator[Frame]:
    """Yield the frames to label, and before them those that lead in.

    Raises:
        NoFrames: There is none.
    """
    decode = Device(config.device, threads=config.threads).decode
    lead_s = warm_up_s(config)
    if config.legend != NO_LEGEND and not config.is_chunk:  # a chunk's may lack what has just left
        lead_s = max(lead_s, HOLD_S)
    if config.stats or config.boxes:
        lead_s = max(lead_s, float(LEAST_STEP_S))  # motion is found from the frame before
    if config.redaction:
        lead_s = LEAD * config.redaction.hold_s
    if config.is_chunk:
        around = Around(lead_s, look_ahead_s(config))
        return decode_chunk(info, log, config.start_s, config.end_s, around, decode)
    frames = decode(info, log, config.start_s, config.end_s)
    return some(behind(frames, outputs.kept, lead_s), config.source)


def maps_for(config: InferConfig) -> Maps:
    """Return the class maps that a run needs: of full size only if they are painted or kept."""
    maps = Maps.FULL if config.out or config.masks else Maps.COARSE
    if not config.masks:
        maps |= Maps.SHOWN
    return maps | Maps.COARSE if config.measures else maps


def expected_frames(info: VideoInfo, config: InferConfig) -> int | None:
    """Return about how many frames a run will write, if the file states it."""
    whole = info.frame_count
    if whole is None and info.end_s is not None:
        whole = round((info.end_s - info.start_s) * info.fps)
    if whole is None:
        return None
    last = whole if config.end_s is None else min(_frames_before(config.end_s, info), whole)
    return max(last - _frames_before(config.start_s, info), 0)


def _frames_before(time_s: float, info: VideoInfo) -> int:
    """Return how many frames come before a time, at the video's even rate."""
    return ceil((time_s - info.half_unit_s) * info.fps)
