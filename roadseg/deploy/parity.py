"""Compare two models on real frames: agreement, accuracy and speed."""

import hashlib
import time
from collections.abc import Iterable
from dataclasses import dataclass
from fractions import Fraction
from itertools import islice
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from roadseg.backends.runtimes import Backend
from roadseg.data.folder import FolderDataset
from roadseg.errors import VideoError
from roadseg.files import is_hidden, sha256_of
from roadseg.measure.metrics import Scores, confusion_matrix
from roadseg.segmentation.placement import Placement, input_size, laid
from roadseg.spec import ModelSpec
from roadseg.video.errors import read_errors
from roadseg.video.frame import Frame
from roadseg.video.read.images import find_images, is_series
from roadseg.video.read.read_log import ReadLog
from roadseg.video.read.source import decode, probe
from roadseg.video.read.upright import picture_of

CALIBRATION_FRAMES = 90
"""Most frames for calibration."""
CHECK_FRAMES = 101
"""Most frames to compare on, as many as CamVid's val has."""
ROUNDS = 20
"""Rounds in which two models are timed in turns."""


@dataclass(frozen=True)
class Sample:
    """A frame as a network's input."""

    frame: NDArray[np.uint8]
    """(H, W, 3) RGB, at the network's size."""
    placement: Placement
    """Where the picture lies in it."""
    target: NDArray[np.uint8] | None = None
    """Ground truth (H, W) at the picture's size, where there is one."""

    @classmethod
    def of(
        cls, frame: Frame, size_hw: tuple[int, int], target: NDArray[np.uint8] | None = None
    ) -> "Sample":
        """Make a sample of a frame."""
        placement, frames = laid(frame, size_hw)
        return cls(frames[0], placement, target)


@dataclass(frozen=True, kw_only=True)
class Parity:
    """Agreement of two models."""

    frames: int
    """Frames that they were compared on."""
    agreement: float
    """Share of pixels with the same class, 0..1."""
    miou: float | None
    """Mean IoU of the first on labelled pictures, 0..1."""
    source_miou: float | None
    """Mean IoU of the second on the same."""


@dataclass(frozen=True, kw_only=True)
class Timing:
    """Speed of two models, measured in turns."""

    build_ms: float
    """Median time of a call of the first."""
    source_ms: float
    """Median time of a call of the second."""
    speedup: float
    """Median over the rounds of the second's time over the first's."""
    rounds: int
    """Rounds measured."""


def labelled_samples(root: Path, size_hw: tuple[int, int]) -> tuple[list[Sample], list[Sample]]:
    """Return pictures of the training split to calibrate on, and of val to compare on.

    Raises:
        DatasetError: The data cannot be read.
    """
    train, val = (FolderDataset.open(root, split) for split in ("train", "val"))
    calibration = (train[i] for i in _spread(len(train), CALIBRATION_FRAMES))
    checks = (val[i] for i in _spread(len(val), CHECK_FRAMES))
    return (
        [Sample.of(Frame.still(picture_of(picture)), size_hw) for picture, _ in calibration],
        [
            Sample.of(Frame.still(picture_of(picture)), size_hw, target)
            for picture, target in checks
        ],
    )


def usual_size(data: Path | None, film: Path | None, spec: ModelSpec) -> tuple[int, int]:
    """Return the network's input, (height, width), that labelled pictures or a video are given.

    Raises:
        DatasetError: The data cannot be read.
        VideoError: The video cannot be read.
    """
    if data is not None:
        picture, _ = FolderDataset.open(data, "val")[0]
        return input_size(picture_of(picture).size_hw, Fraction(1), spec)
    assert film is not None
    info = probe(film)
    return input_size(info.size_hw, info.pixel_aspect, spec)


def digest_of_frames(frames: Path) -> str:
    """Return a digest of the video, the pictures or the labelled data that samples come from.

    Raises:
        VideoError: There is no such video.
    """
    if frames.is_dir():
        files = sorted(p for p in frames.rglob("*") if p.is_file() and not is_hidden(p))
    else:
        files = list(find_images(frames)) if is_series(frames) else [frames]
    digest = hashlib.sha256()
    with read_errors(frames):
        for path in files:
            digest.update(sha256_of(path).encode())
    return digest.hexdigest()


def film_samples(film: Path, size_hw: tuple[int, int]) -> tuple[list[Sample], list[Sample]]:
    """Return frames spread over a video: every other one to calibrate on, the rest to compare on.

    Raises:
        VideoError: The video cannot be read, or has one frame alone.
    """
    info = probe(film)
    wanted = CALIBRATION_FRAMES + CHECK_FRAMES
    step = max((info.frame_count or wanted) // wanted, 1)
    frames = (frame for i, frame in enumerate(decode(info, ReadLog())) if i % step == 0)
    samples = [Sample.of(frame, size_hw) for frame in islice(frames, wanted)]
    if len(samples) < 2:
        raise VideoError(f"{film} has one frame; give a video with frames to compare on as well")
    return samples[::2], samples[1::2]


def compare(build: Backend, source: Backend, samples: Iterable[Sample]) -> Parity:
    """Return the agreement of two models on frames, and their mIoU if these are labelled.

    Args:
        build: Model to judge.
        source: Model that it should equal.
        samples: Frames; all labelled, or none.
    """
    classes = source.spec.num_classes
    confusions: np.ndarray = np.zeros((2, classes, classes), np.int64)
    equal = pixels = count = 0
    for sample in samples:
        maps = [model.run(_batch(sample, model)).class_map[0] for model in (build, source)]
        equal += int((maps[0] == maps[1]).sum())
        pixels += maps[0].size
        count += 1
        if sample.target is not None:
            for confusion, class_map in zip(confusions, maps, strict=True):
                restored = sample.placement.restore(class_map)
                confusion += confusion_matrix(sample.target, restored, classes)
    mious = [Scores(class_names=source.spec.class_names, confusion=c).miou for c in confusions]
    labelled = bool(confusions.any())
    return Parity(
        frames=count,
        agreement=equal / pixels,
        miou=mious[0] if labelled else None,
        source_miou=mious[1] if labelled else None,
    )


def time_in_turns(build: Backend, source: Backend, frames: NDArray[np.uint8]) -> Timing:
    """Time two models in turns on frames (N, H, W, 3), without their first calls."""
    for model in (build, source):
        model.run(frames)
    times_ms = np.array(
        [[_call_ms(model, frames) for model in (build, source)] for _ in range(ROUNDS)]
    )
    build_ms, source_ms = np.median(times_ms, axis=0)
    return Timing(
        build_ms=float(build_ms),
        source_ms=float(source_ms),
        speedup=float(np.median(times_ms[:, 1] / times_ms[:, 0])),
        rounds=ROUNDS,
    )


def _call_ms(model: Backend, frames: NDArray[np.uint8]) -> float:
    started_s = time.perf_counter()
    model.run(frames)
    return 1000 * (time.perf_counter() - started_s)


def _batch(sample: Sample, model: Backend) -> NDArray[np.uint8]:
    """Return a sample as a batch for a model, repeated if the model's batch is fixed."""
    build = model.spec.build
    count = build.shape[0] if build and build.fixed_shape else 1
    return np.stack([sample.frame] * count)


def _spread(count: int, wanted: int) -> list[int]:
    """Return positions spread evenly over `count`, at most as many as wanted."""
    positions = np.linspace(0, count - 1, min(count, wanted)).round()
    return [int(position) for position in positions]
