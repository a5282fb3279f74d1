"""Measure what is chosen by the size of the picture: statistics, encoders and painting.

    python benchmarks/full_hd.py stats FILM...
    python benchmarks/full_hd.py encoders FILM
    python benchmarks/full_hd.py painting FILM

Each prints a table in Markdown. Times are CPU milliseconds a frame of all threads of the process,
which other work on the machine hardly changes. Films are enlarged to 1080p and 4K; for encoders a
camera's noise is added, since an enlarged picture has no detail of its own, and is cheap to encode.
"""

import io
import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import closing
from dataclasses import replace
from fractions import Fraction
from functools import partial
from itertools import islice
from pathlib import Path
from typing import Any

import av
import cv2
import numpy as np
import typer

from roadseg.backends.runtimes import open_backend
from roadseg.backends.weights import default_weights
from roadseg.infer.stats import measure
from roadseg.paint.config import OverlayConfig
from roadseg.paint.overlay import Overlay
from roadseg.segmentation.config import ModelConfig
from roadseg.segmentation.fuse import Fused
from roadseg.segmentation.label import label_on_grid
from roadseg.video.frame import FrameStats, Region, SegmentedFrame
from roadseg.video.picture import PIXEL_FORMAT, Picture, Plane
from roadseg.video.read.read_log import ReadLog
from roadseg.video.read.source import decode, probe
from roadseg.video.write.encoding import CODECS

SIZES_HW = {"1080p": (1080, 1920), "4K": (2160, 3840)}
FRAMES = {"1080p": 24, "4K": 12}
FPS = Fraction(25)
GRAIN = 2.0
"""Standard deviation of a camera's noise in levels."""
WINDOW_PX, LUMA_STEP = 8, 4
"""Side of the windows of SSIM, and between the frames that are compared."""
SAME_IOU = 0.5
"""Overlap from which two boxes are of the same object."""
app = typer.Typer(add_completion=False)


@app.command()
def stats(films: list[Path], frames: int = 20, every: int = 5) -> None:
    """Compare statistics at the network's size with those of all pixels, at 1080p."""
    _row("film", "share of a class, most and mean difference", "objects", "found by both")
    for film in films:
        pairs = list(islice(_measured_twice(film, every), frames))
        off = [abs(a.shares[n] - b.shares[n]) for a, b in pairs for n in a.shares]
        matched = [pair for pair in pairs for pair in _matches(*pair)]
        counts = [sum(len(pair[i].objects) for pair in pairs) for i in (0, 1)]
        edges = [abs(x - y) for a, b in matched for x, y in zip(_box(a), _box(b), strict=True)]
        _row(
            film.name,
            f"{100 * max(off):.3f} %, {100 * float(np.mean(off)):.4f} %",
            f"{counts[0]} and {counts[1]}",
            f"{len(matched)}, edges off by {np.median(edges):.0f} px, 95 % within "
            f"{np.percentile(edges, 95):.0f} px",
        )


def _measured_twice(film: Path, every: int) -> Iterator[tuple[FrameStats, FrameStats]]:
    """Yield what is in a film's frames by the class map at 1080p, and by the coarse one."""
    for item in islice(_labelled(film), 0, None, every):
        place = replace(item.placement, frame_hw=SIZES_HW["1080p"])
        frame = replace(item.frame, picture=Picture.empty(place.frame_hw, item.frame.picture.space))
        levels, _ = item.labels()
        found = SegmentedFrame(frame, place.enlarge(levels), item.spec)
        yield measure(found), measure(replace(found, coarse_map=place.coarse.enlarge(levels)))


def _labelled(film: Path) -> Iterator[Fused]:
    with closing(open_backend(default_weights(), "auto")) as model:
        yield from label_on_grid(decode(probe(film), ReadLog()), model, ModelConfig())


def _matches(one: FrameStats, other: FrameStats) -> Iterator[tuple[Region, Region]]:
    for a in one.objects:
        alike = (b for b in other.objects if b.name == a.name and _iou(_box(a), _box(b)) > SAME_IOU)
        yield from ((a, b) for b in islice(alike, 1))


def _box(region: Region) -> tuple[int, int, int, int]:
    """Return the edges of an object: left, top, right, bottom."""
    right, bottom = region.left + region.width, region.top + region.height
    return region.left, region.top, right, bottom


def _iou(one: Sequence[int], other: Sequence[int]) -> float:
    width, height = (max(min(one[i + 2], other[i + 2]) - max(one[i], other[i]), 0) for i in (0, 1))
    areas = ((box[2] - box[0]) * (box[3] - box[1]) for box in (one, other))
    return width * height / (sum(areas) - width * height)


WAYS: dict[str, tuple[str, dict[str, str], int]] = {
    "ultrafast": ("h264", {"preset": "ultrafast"}, 1),
    "superfast": ("h264", {"preset": "superfast"}, 1),
    "superfast, crf 22": ("h264", {"preset": "superfast", "crf": "22"}, 1),
    "superfast, crf 23": ("h264", {"preset": "superfast", "crf": "23"}, 1),
    "superfast, crf 23, no B-frames": ("h264", {"preset": "superfast", "crf": "23", "bf": "0"}, 1),
    "superfast, crf 23, no B-frames, no 4x4": (
        "h264",
        {"preset": "superfast", "crf": "23", "bf": "0", "partitions": "i8x8"},
        1,
    ),
    "superfast, crf 22, no B-frames, no 4x4, no AQ": (
        "h264",
        {"preset": "superfast", "crf": "22", "bf": "0", "partitions": "i8x8", "aq-mode": "none"},
        1,
    ),
    "superfast, crf 23, no B-frames, CAVLC": (
        "h264",
        {"preset": "superfast", "crf": "23", "bf": "0", "coder": "vlc"},
        1,
    ),
    "superfast, crf 24": ("h264", {"preset": "superfast", "crf": "24"}, 1),
    "veryfast": ("h264", {"preset": "veryfast"}, 1),
    "veryfast, 4 threads": ("h264", {"preset": "veryfast"}, 4),
    "veryfast, 4 slices": ("h264", {"preset": "veryfast", "x264-params": "slices=4"}, 1),
    "veryfast, 10 frames ahead": ("h264", {"preset": "veryfast", "rc-lookahead": "10"}, 1),
    "veryfast, no B-frames": ("h264", {"preset": "veryfast", "bf": "0"}, 1),
    "faster": ("h264", {"preset": "faster"}, 1),
}
"""Codec, options beside its defaults and threads, by name."""
NOT_IN_4K = ("veryfast, 4 threads", "veryfast, 4 slices", "veryfast, 10 frames ahead")


@app.command()
def encoders(film: Path) -> None:
    """Encode the beginning of a film in many ways: CPU time, size and SSIM."""
    _row("size", "x264", "CPU ms a frame", "kB a frame", "SSIM")
    for size, frames in FRAMES.items():
        pictures = list(enlarged(film, SIZES_HW[size], frames))
        for name in WAYS:
            if size != "1080p" and name in NOT_IN_4K:
                continue
            codec, options, threads = WAYS[name]
            data, cpu_s = _encoded(pictures, codec, options, threads)
            _row(
                size,
                name,
                f"{1000 * cpu_s / frames:.0f}",
                f"{len(data) / frames / 1000:.1f}",
                f"{_ssim_of(data, pictures):.4f}",
            )


def enlarged(film: Path, size_hw: tuple[int, int], frames: int) -> Iterator[Picture]:
    """Yield the first pictures of a film at another size, with a camera's noise."""
    rng = np.random.default_rng(0)
    for frame in islice(decode(probe(film), ReadLog()), frames):
        assert isinstance(frame.picture, Picture)
        picture = frame.picture.resized(size_hw)
        yield _with_grain(picture, rng)


def write_enlarged(
    path: Path, film: Path, size_hw: tuple[int, int], frames: int, options: dict[str, str]
) -> None:
    """Write the first pictures of a film at another size, given options of x264."""
    with av.open(str(path), "w") as container:
        stream = container.add_stream("libx264", rate=probe(film).fps, options=options)
        stream.height, stream.width = size_hw
        stream.pix_fmt = PIXEL_FORMAT
        for picture in enlarged(film, size_hw, frames):
            container.mux(stream.encode(picture.encodable()))
        container.mux(stream.encode())


def _with_grain(picture: Picture, rng: np.random.Generator) -> Picture:
    grainy = Picture.empty(picture.size_hw, picture.space)
    for source, target in zip(picture.planes, grainy.planes, strict=True):
        noise = GRAIN * rng.standard_normal(source.shape, np.float32)
        target[:] = np.clip(np.rint(source + noise), 0, 255)
    return grainy


def _encoded(
    pictures: Sequence[Picture], codec: str, options: dict[str, str], threads: int
) -> tuple[bytes, float]:
    """Return a film as Matroska, with a keyframe each second, and the CPU seconds of encoding."""
    file, kind = io.BytesIO(), CODECS[codec]
    height, width = pictures[0].size_hw
    given = {**kind.options, "crf": str(kind.crf), "g": str(int(FPS)), **options}
    with av.open(file, "w", format="matroska") as container:
        stream = container.add_stream(kind.encoder, rate=FPS, options=given)
        stream.width, stream.height, stream.pix_fmt = width, height, PIXEL_FORMAT
        stream.codec_context.thread_count = threads
        started_s = time.process_time()
        for number, picture in enumerate(pictures):
            frame = picture.encodable()
            frame.pts, frame.time_base = number, 1 / FPS
            container.mux(stream.encode(frame))
        container.mux(stream.encode(None))
        cpu_s = time.process_time() - started_s
    return file.getvalue(), cpu_s


def _ssim_of(data: bytes, pictures: Sequence[Picture]) -> float:
    """Return the mean SSIM of the brightness of some frames of a film with the originals."""
    with av.open(io.BytesIO(data)) as container:
        found = [
            _ssim(Picture(frame).luma(), pictures[number].luma())
            for number, frame in enumerate(container.decode(video=0))
            if number % LUMA_STEP == 0
        ]
    return float(np.mean(found))


def _ssim(one: Plane, other: Plane) -> float:
    """Return the structural similarity of two planes (Wang et al., 2004) over square windows."""
    x, y = one.astype(np.float32), other.astype(np.float32)
    mean_x, mean_y, mean_xx, mean_yy, mean_xy = (
        cv2.blur(values, (WINDOW_PX, WINDOW_PX)) for values in (x, y, x * x, y * y, x * y)
    )
    c1, c2 = (0.01 * 255) ** 2, (0.03 * 255) ** 2
    means, both = mean_x * mean_y, mean_x**2 + mean_y**2
    similar = (2 * means + c1) * (2 * (mean_xy - means) + c2)
    return float(np.mean(similar / ((both + c1) * (mean_xx + mean_yy - both + c2))))


@app.command()
def painting(film: Path, rounds: int = 10) -> None:
    """Time the parts of painting a frame."""
    _row("size", "what", "CPU ms a frame")
    item = next(islice(_labelled(film), 12, None))
    for size, size_hw in SIZES_HW.items():
        picture = item.frame.picture.resized(size_hw)
        class_map = replace(item.placement, frame_hw=size_hw).enlarge(item.levels)
        for what, config in _PAINTED.items():
            paint = partial(picture.paint, Overlay(item.spec, config), class_map)
            cpu_s = _least_cpu_s(paint, rounds)
            _row(size, what, f"{1000 * cpu_s:.1f}")


_PAINTED = {
    "colour": OverlayConfig(outline=False, legend="none"),
    "colour and outline": OverlayConfig(legend="none"),
    "all": OverlayConfig(),
}


def _least_cpu_s(work: Callable[[], Any], rounds: int) -> float:
    """Return the least CPU time that some work took, in seconds."""
    times_s = []
    for _ in range(rounds):
        started_s = time.process_time()
        work()
        times_s.append(time.process_time() - started_s)
    return min(times_s)


def _row(*cells: str) -> None:
    typer.echo(f"| {' | '.join(cells)} |")


if __name__ == "__main__":
    cv2.setNumThreads(1)
    app()
