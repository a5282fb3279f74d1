"""Unlabelled footage, a video or pictures, labelled frame by frame to be learnt from."""

import contextlib
import os
from collections.abc import Iterator
from dataclasses import dataclass
from fractions import Fraction
from itertools import product
from pathlib import Path

import cv2
import numpy as np
from numpy.typing import NDArray

from roadseg.backends.runtimes import open_backend
from roadseg.errors import VideoError
from roadseg.infer.device import device_for
from roadseg.infer.steps import labelling, pipeline_of
from roadseg.segmentation.config import ModelConfig
from roadseg.segmentation.flow import fetch, move_class_map
from roadseg.segmentation.neighbours import Follower
from roadseg.segmentation.predict import predict_alone
from roadseg.video.frame import Frame, SegmentedFrame
from roadseg.video.picture import small_hw
from roadseg.video.read.images import find_images, is_picture, is_series, read_image
from roadseg.video.read.read_log import ReadLog
from roadseg.video.read.source import decode, probe
from roadseg.video.read.upright import upright_picture

Ages = NDArray[np.float32]
"""(h, w) seconds, at the size on which motion is found."""


@dataclass(frozen=True)
class Footage:
    """A video, or a folder or pattern of pictures that have nothing to do with each other."""

    source: Path

    @property
    def is_pictures(self) -> bool:
        """Whether it is pictures."""
        return is_series(self.source) or is_picture(self.source)

    @property
    def name(self) -> str:
        """Its name without suffix, as for a visible file; of a pattern, that of the folder."""
        is_pattern = is_series(self.source) and not self.source.is_dir()
        place = next(filter(Path.is_dir, self.source.parents)) if is_pattern else self.source
        return Path(os.path.normpath(place.absolute())).stem.lstrip(".")

    @property
    def drive(self) -> str:
        """Its name, as that of a drive at the beginning of its pictures' names."""
        return self.name.replace("_", "-")

    def name_of(self, frame: Frame) -> str:
        """Return the name of a frame's picture: the drive, and the time in thousandths."""
        return f"{self.drive}_{round(frame.time_s * 1000):09d}"

    def frames(self) -> Iterator[Frame]:
        """Yield its frames.

        Raises:
            VideoError: It cannot be read.
        """
        if not self.is_pictures:
            yield from decode(probe(self.source), ReadLog())
            return
        for number, path in enumerate(find_images(self.source)):
            yield Frame(upright_picture(read_image(path, ReadLog())), number, Fraction(1))

    def labelled(self, config: ModelConfig) -> Iterator[SegmentedFrame]:
        """Yield its frames with their labels: steadily along a video, pictures each alone.

        Raises:
            VideoError: It cannot be read.
            ModelFileError: The weights are missing or not ours.
            BackendUnavailable: The runtime is not installed.
        """
        if self.is_pictures:
            with contextlib.closing(open_backend(config.weights, config.backend)) as backend:
                yield from predict_alone(self.frames(), backend, config)
            return
        stages = labelling(config)
        frames = device_for(config).decode(probe(self.source), ReadLog(), 0.0, None)
        with pipeline_of(frames, stages) as pipeline:
            yield from pipeline

    def check(self) -> None:
        """Raise `VideoError` if it cannot be read, or not twice."""
        if self.is_pictures:
            find_images(self.source)
        elif not probe(self.source).reopens:
            raise VideoError(f"{self.source} is read more than once; save it to a file first")


class Constancy:
    """Follows for how long every place has had its label, moving along the flow."""

    def __init__(self) -> None:
        self._follower = Follower()
        self._labels = np.zeros((0, 0), np.uint8)
        self._ages: Ages = np.zeros((0, 0), np.float32)
        self._time_s = 0.0
        self.changed = 0.0
        """Share of the last frame whose labels are not those of the frame before, moved along."""

    def add(self, item: SegmentedFrame) -> Ages:
        """Return for how long each place of the next frame has had its label; 0 after a cut."""
        size_hw, time_s = small_hw(item.frame.picture.size_hw), item.frame.time_s
        small = cv2.resize(item.class_map, size_hw[::-1], interpolation=cv2.INTER_NEAREST)
        labels = np.asarray(small, np.uint8)
        flow = self._follower.flow(item)
        ages = np.zeros(size_hw, np.float32)
        self.changed = 0.0
        if flow is not None:
            same = _is_near(labels, move_class_map(self._labels, flow))
            aged = fetch(self._ages, flow, cv2.INTER_NEAREST) + np.float32(time_s - self._time_s)
            ages[same], self.changed = aged[same], float(1 - same.mean())
        self._labels, self._ages, self._time_s = labels, ages, time_s
        return ages


def _is_near(labels: NDArray[np.uint8], others: NDArray[np.uint8]) -> NDArray[np.bool_]:
    """Return where labels (h, w) are among the others of a pixel and those around it."""
    around = cv2.copyMakeBorder(others, 1, 1, 1, 1, cv2.BORDER_REPLICATE)
    height, width = labels.shape
    found = np.zeros(labels.shape, np.bool_)
    for down, across in product(range(3), repeat=2):
        found |= labels == around[down : down + height, across : across + width]
    return found
