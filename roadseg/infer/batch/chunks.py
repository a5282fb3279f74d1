"""Label a video in chunks, each on any machine, and join them to what one run would have written.

Chunks begin at the video's keyframes. The frames around a chunk are labelled with it, and the
network's key frames lie on a grid of the video's time, so a chunk has the labels of one run. Sound,
subtitles and tags come from the source.
"""

import contextlib
import re
import shutil
import time
from collections import Counter
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field, replace
from itertools import chain
from pathlib import Path

from roadseg.errors import NoFrames
from roadseg.files import OURS, make_folder, output_errors, own_path
from roadseg.infer.batch.sources import recorded_at
from roadseg.infer.config import InferConfig
from roadseg.infer.drive import LEAST_SIGHTINGS, people_on_road
from roadseg.infer.offline import infer
from roadseg.infer.output_checks import encoding, is_file
from roadseg.infer.output_places import FilePlace, SeriesPlace
from roadseg.infer.outputs import Outputs
from roadseg.infer.stats import CSV_SUFFIX, read_stats, write_stats
from roadseg.infer.tracks import renumbered
from roadseg.video.read.chunk import chunk_starts
from roadseg.video.read.read_log import ReadLog
from roadseg.video.read.source import VideoInfo, probe
from roadseg.video.write.companions import Origin
from roadseg.video.write.encoding import FORMATS
from roadseg.video.write.join import join_films, join_mask_films
from roadseg.video.write.masks import MASK_NAME
from roadseg.video.write.stills import stills_of

LEAST_CHUNK_S = 30.0
"""Shorter chunks would spend too much on the frames around them."""
FILM_SUFFIX = ".mp4"
"""Format of a chunk's video: it takes every codec, and every time as it is."""
OF_CHUNK = re.compile(rf"({OURS}\w+\.)*\d{{5}}-\d+(\..*)?")
"""What a chunk's run calls what it writes, done or not."""
OnFrame = Callable[[int, int | None], None]


@dataclass(frozen=True, kw_only=True)
class Metrics:
    """What labelling a video or a chunk of it came to."""

    frames: int = 0
    """Frames labelled, those of an unfinished run included."""
    network_frames: int = 0
    """Frames that the network looked at."""
    video_s: float = 0.0
    """Seconds of video."""
    wall_s: float = 0.0
    """Seconds that it took."""
    cpu_s: float = 0.0
    """CPU seconds of the process meanwhile."""
    class_shares: Mapping[str, float] = field(default_factory=dict)
    """Share of each class in all pixels."""
    recorded: str | None = None
    """When the video was recorded, or else its file last changed, in UTC; None if not known."""
    people_s: float | None = None
    """Seconds with people on the road; None if no statistics say so."""
    warnings: tuple[str, ...] = ()
    """What was wrong with the input."""


@dataclass(frozen=True, kw_only=True)
class Chunk:
    """A stretch of a video, counted from its first frame."""

    number: int
    """Chunks before it."""
    start_s: float
    """Where it begins."""
    end_s: float | None
    """Where it ends; None is the video's end."""
    attempt: int = 1
    """Which attempt at it this is. Each writes files of its own, as the worker of one that was
    given up for lost may still be at it."""


def label(config: InferConfig, on_frame: OnFrame = lambda _done, _total: None) -> Metrics:
    """Label a video or a chunk; one that holds no frame comes to nothing.

    Raises:
        RoadsegError: As `infer`.
    """
    cpu_s, wall_s = time.process_time(), time.perf_counter()
    try:
        result = infer(config, on_frame)
    except NoFrames:
        if not config.is_chunk:
            raise
        return Metrics()
    info = _info(config)
    return Metrics(
        frames=result.frames,
        network_frames=result.network_frames,
        video_s=round(result.frames / float(info.fps), 3),
        wall_s=round(time.perf_counter() - wall_s, 3),
        cpu_s=round(time.process_time() - cpu_s, 3),
        class_shares={name: round(share, 6) for name, share in result.class_shares.items()},
        recorded=recorded_at(config, info),
        people_s=_people_s(config.stats, float(info.fps)),
        warnings=result.warnings,
    )


def _info(config: InferConfig) -> VideoInfo:
    return probe(config.source, config.image_fps, config.stream)


def _people_s(stats: Path | None, fps: float) -> float | None:
    """Return how long people are on the road, by statistics that say where they stand."""
    if stats is None or stats.suffix.lower() == CSV_SUFFIX:
        return None
    sightings = sum(bool(people_on_road(frame)) for frame in read_stats(stats))
    return round(sightings / fps, 3) if sightings >= LEAST_SIGHTINGS else 0.0


def chunks_of(config: InferConfig, least_s: float) -> list[Chunk]:
    """Return the chunks of a video, which is one alone where it cannot be split.

    Args:
        config: Settings for the whole video.
        least_s: Least length of a chunk in seconds.

    Raises:
        VideoError: The video cannot be read.
        OutputError, ConfigError: What it would be joined to cannot be written.
    """
    info = _info(config)
    Outputs(config, info)  # what is wrong there is said before the work
    starts = chunk_starts(info, config.start_s, config.end_s, least_s)
    ends = [*starts[1:], config.end_s]
    pairs = enumerate(zip(starts, ends, strict=True))
    return [Chunk(number=n, start_s=start, end_s=end) for n, (start, end) in pairs]


def chunk_config(config: InferConfig, chunk: Chunk) -> InferConfig:
    """Return the settings with which a chunk of a video is labelled.

    Args:
        config: Settings for the whole video.
        chunk: The chunk.
    """
    base = chunk_folder(config) / f"{chunk.number:05d}-{chunk.attempt}"
    masks = base.with_suffix(config.masks.suffix) if config.masks else None
    return replace(
        config,
        start_s=chunk.start_s,
        end_s=chunk.end_s,
        out=base.with_suffix(FILM_SUFFIX) if config.out else None,
        codec=config.codec or (FORMATS[config.out.suffix.lower()][0] if config.out else None),
        sound="none",
        masks=masks,
        stats=base.with_suffix(".jsonl") if config.stats else None,
        is_chunk=True,
        resume=False,
        overwrite=True,
    )


def chunk_folder(config: InferConfig) -> Path:
    """Return the folder of a video's chunks: beside what the video's run is to write."""
    target = config.out or config.stats or config.masks or config.report or config.geojson
    assert target is not None  # `InferConfig` sees to it
    return own_path(target, "chunks")


def can_be_split(config: InferConfig) -> bool:
    """Return whether a video's outputs can be joined from those of chunks."""
    return not config.tells_of_drive and (config.out is None or is_file(config.out))


def make_chunk_folder(config: InferConfig) -> None:
    """Make the folder of a video's chunks. Raises `OutputError`."""
    make_folder(chunk_folder(config))


def join(config: InferConfig, chunks: Sequence[Chunk], labelled: Sequence[Metrics]) -> Metrics:
    """Write what one run over the whole video would have written, and remove the chunks.

    Args:
        config: Settings for the whole video.
        chunks: Its chunks, all of which are labelled.
        labelled: What each came to.

    Raises:
        NoFrames: No chunk has a frame.
        VideoError, OutputError: A chunk cannot be read, or the output cannot be written.
    """
    began_s, began_cpu_s = time.perf_counter(), time.process_time()
    if not any(metrics.frames for metrics in labelled):
        raise NoFrames(f"{config.source} has no frame between --start and --end")
    pairs = zip(chunks, labelled, strict=True)
    parts = [(chunk_config(config, chunk), done) for chunk, done in pairs if done.frames]
    info = _info(config)
    outputs, log = Outputs(config, info), ReadLog()
    with outputs.claimed():
        if isinstance(outputs.film, FilePlace):
            films = [part.out for part, _ in parts if part.out]
            join_films(films, outputs.film.target, _origin(config, info, log), encoding(config))
        if outputs.stats:
            _join_stats([part.stats for part, _ in parts if part.stats], outputs.stats.part)
        if isinstance(outputs.masks, SeriesPlace):
            _join_masks([(p.masks, done.frames) for p, done in parts if p.masks], outputs.masks)
        elif outputs.masks:
            join_mask_films([part.masks for part, _ in parts if part.masks], outputs.masks.part)
    _remove_chunks(chunk_folder(config))
    whole = _summed([done for _, done in parts], log.left_behind)
    return replace(
        whole,
        wall_s=round(whole.wall_s + time.perf_counter() - began_s, 3),
        cpu_s=round(whole.cpu_s + time.process_time() - began_cpu_s, 3),
    )


def _origin(config: InferConfig, info: VideoInfo, log: ReadLog) -> Origin:
    return Origin(
        source=info, log=log, start_s=config.start_s, end_s=config.end_s, sound=config.sound
    )


def _join_stats(chunks: Sequence[Path], place: Path) -> None:
    """Write the statistics of all chunks behind each other, objects numbered through all."""
    write_stats(place, renumbered(chain.from_iterable(map(read_stats, chunks))))


def _join_masks(chunks: Sequence[tuple[Path, int]], place: SeriesPlace) -> None:
    """Move the class maps of all chunks into one folder, numbered through."""
    first = 0
    with output_errors(place.target):
        place.part.parent.mkdir(exist_ok=True)
        for folder, frames in chunks:
            for number, path in stills_of(folder / MASK_NAME):
                path.replace(place.part.with_name(MASK_NAME % (first + number)))
            first += frames


def _remove_chunks(folder: Path) -> None:
    """Remove the chunks of a video, and their folder unless anything else is in it.

    What a worker that was given up for lost is still writing may stay.
    """
    for path in list(folder.iterdir()):
        if OF_CHUNK.fullmatch(path.name):
            with contextlib.suppress(OSError):
                shutil.rmtree(path) if path.is_dir() else path.unlink()
    with contextlib.suppress(OSError):
        folder.rmdir()


def _summed(chunks: Sequence[Metrics], left_behind: Sequence[str]) -> Metrics:
    """Return what chunks came to together."""
    frames = sum(done.frames for done in chunks)
    shares: Counter[str] = Counter()
    for done in chunks:
        shares.update({name: s * done.frames / frames for name, s in done.class_shares.items()})
    warnings = dict.fromkeys([*(w for done in chunks for w in done.warnings), *left_behind])
    people_s = [done.people_s for done in chunks if done.people_s is not None]
    return Metrics(
        frames=frames,
        network_frames=sum(done.network_frames for done in chunks),
        video_s=round(sum(done.video_s for done in chunks), 3),
        wall_s=round(sum(done.wall_s for done in chunks), 3),
        cpu_s=round(sum(done.cpu_s for done in chunks), 3),
        class_shares={name: round(share, 6) for name, share in shares.items()},
        recorded=chunks[0].recorded,
        people_s=round(sum(people_s), 3) if people_s else None,
        warnings=tuple(warnings),
    )
