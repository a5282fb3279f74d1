"""Pick the frames of a video that are worth labelling by hand, with labels to begin from.

Worth labelling is what the network is unsure of, and where its labels change in ways that the
motion does not explain; and of frames that look alike, one. The video is read twice: all of it is
labelled to choose, and then the chosen frames are written, as `roadseg.infer.data_folder` does.
"""

from collections.abc import Iterator, Sequence
from contextlib import closing
from dataclasses import dataclass, field
from itertools import groupby
from pathlib import Path

import cv2
import numpy as np
from numpy.typing import NDArray

from roadseg.backends.runtimes import open_backend
from roadseg.backends.weights import default_weights
from roadseg.errors import ConfigError
from roadseg.infer.data_folder import DataFolder, check_out
from roadseg.infer.footage import Constancy, Footage
from roadseg.segmentation.config import ModelConfig
from roadseg.segmentation.predict import predict_alone
from roadseg.spec import IGNORE_INDEX, UNSURE
from roadseg.video.frame import SegmentedFrame, on_host

SLOT_S = 1.0
"""Of the frames of so many seconds of a video, one can be picked."""
LOOK_HW = (6, 8)
"""Rows and columns in which the looks of frames are compared."""
PART_PX = 16
"""Side of each such part of a picture, which is made as small as that."""
SMALL_HW = (LOOK_HW[0] * PART_PX, LOOK_HW[1] * PART_PX)
"""Height and width of that."""

Look = NDArray[np.float32]
"""(h, w, C) share of each class in each part of a picture."""


@dataclass(frozen=True, kw_only=True)
class PickConfig:
    """Settings of a choice of frames."""

    source: Path
    """Video, or folder or pattern of pictures."""
    out: Path
    """Folder for the data set."""
    count: int = 50
    """Frames to pick."""
    weights: Path = field(default_factory=default_weights)
    """Model that labels them."""
    backend: str = "auto"
    """Runtime, or "auto" to go by the model file."""

    def __post_init__(self) -> None:
        """Check each value, naming the flag at fault."""
        if self.count < 1:
            raise ConfigError(f"--count is {self.count}; it must be at least 1")


@dataclass(frozen=True, kw_only=True)
class Candidate:
    """A frame that may be picked."""

    number: int
    """Frames before it."""
    time_s: float
    """Its time."""
    worth: float
    """Share of the picture that is unsure, or has changed its label without motion."""
    look: Look
    """What it shows, and where."""


def pick(config: PickConfig) -> list[Candidate]:
    """Write the frames of a video that are worth labelling, and return them in order.

    Raises:
        VideoError: The video cannot be read, or not twice.
        ModelFileError: The weights are missing or not ours.
        OutputError: The folder cannot be written.
    """
    check_out(config.out)
    footage = Footage(config.source)
    footage.check()
    model = ModelConfig(weights=config.weights, backend=config.backend, keeps_confidence=True)
    picked = chosen(list(candidates(footage, model)), config.count)
    _write(footage, model, picked, config.out)
    return picked


def candidates(footage: Footage, config: ModelConfig) -> Iterator[Candidate]:
    """Yield the frame of every slot that is most worth labelling; of pictures, all."""

    def slot_of(candidate: Candidate) -> int:
        return candidate.number if footage.is_pictures else int(candidate.time_s // SLOT_S)

    for _, of_slot in groupby(_all_candidates(footage, config), slot_of):
        yield max(of_slot, key=lambda candidate: candidate.worth)


def _all_candidates(footage: Footage, config: ModelConfig) -> Iterator[Candidate]:
    constancy = Constancy()
    for number, item in enumerate(footage.labelled(config)):
        if not footage.is_pictures:
            constancy.add(item)
        yield _candidate(number, item, constancy.changed)


def _candidate(number: int, item: SegmentedFrame, changed: float) -> Candidate:
    doubt = 0.0
    if item.confidence is not None:
        doubt = 1 - float(item.confidence.at(SMALL_HW).mean()) / 255
    return Candidate(
        number=number, time_s=item.frame.time_s, worth=doubt + changed, look=look_of(item)
    )


def look_of(item: SegmentedFrame) -> Look:
    """Return what a frame shows, and where."""
    ids = cv2.resize(item.class_map, SMALL_HW[::-1], interpolation=cv2.INTER_NEAREST)
    members = ids[..., None] == np.arange(item.spec.num_classes)
    parts = members.reshape(LOOK_HW[0], PART_PX, LOOK_HW[1], PART_PX, -1)
    return np.asarray(parts.mean(axis=(1, 3)), np.float32)


def chosen(found: Sequence[Candidate], count: int) -> list[Candidate]:
    """Return so many candidates, in order: each is worth much, and unlike those before it.

    One after the other is taken that has the largest product of its worth and its distance from
    the nearest of those that are taken: the share of the picture that shows another class.
    """
    worth = np.array([candidate.worth for candidate in found])
    distance = np.ones(len(found))
    taken: list[int] = []
    while len(taken) < min(count, len(found)):
        value = worth * distance
        value[taken] = -1
        taken.append(int(value.argmax()))
        last = found[taken[-1]].look
        differing = [float(np.abs(c.look - last).sum(axis=2).mean()) / 2 for c in found]
        distance = np.minimum(distance, differing)
    return [found[i] for i in sorted(taken)]


def _write(footage: Footage, config: ModelConfig, picked: Sequence[Candidate], out: Path) -> None:
    """Write the frames, each with the labels that it has alone, where these are sure."""
    numbers = {candidate.number for candidate in picked}
    with closing(open_backend(config.weights, config.backend)) as backend:
        frames = (f for number, f in enumerate(footage.frames()) if number in numbers)
        with DataFolder.written(out, backend.spec) as folder:
            for item in predict_alone(frames, backend, config):
                folder.add(footage.name_of(item.frame), item.frame, _target(item))


def _target(item: SegmentedFrame) -> NDArray[np.uint8]:
    """Return the classes of a frame (H, W), unlabelled where they are too unsure."""
    ids = on_host(item.shown)
    return np.where(ids == UNSURE, np.uint8(IGNORE_INDEX), ids)
