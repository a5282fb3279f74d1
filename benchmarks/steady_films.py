"""Labelled films of which the past says little or nothing, made of CamVid's pictures.

A filter that goes by the past may gain on a drive, and must not lose on any of these.
"""

from collections.abc import Callable, Collection, Sequence
from fractions import Fraction
from hashlib import sha256
from typing import Any

import cv2
import numpy as np
from numpy.typing import NDArray

from roadseg.backends.runtimes import CLASS_MAP, LOGITS, Answer, Backend, Output
from roadseg.data.folder import FolderDataset
from roadseg.measure.metrics import Scores, confusion_matrix
from roadseg.measure.steadiness import TemporalMeter, TemporalScores
from roadseg.segmentation.config import ModelConfig
from roadseg.segmentation.label import label
from roadseg.spec import IGNORE_INDEX
from roadseg.video.frame import Frame
from roadseg.video.picture import Picture

Shot = tuple[NDArray[np.uint8], NDArray[np.uint8]]
"""A picture (H, W, 3) RGB and its target (H, W)."""
Film = Sequence[Shot]
RATE = Fraction(15)
"""Frames a second of all films."""
SMOOTH = ("the drive", "night")
"""Films in which what is the same thing from frame to frame can be told."""
SHAKE_PX = (40, 20)
"""Columns and rows by which a shaken frame may be off."""
RUN_FRAMES = 8
"""Frames of a scene between two dissolves, and of a dissolve."""
FREEZE_FRAMES = 5
"""Frames for which a picture stands still before the film jumps on."""
NIGHT_SHARE = 0.15
"""Brightness that the night leaves."""
NIGHT_NOISE = 4.0
"""Standard deviation of a night's noise in levels."""


class Remembering:
    """A model that looks at every picture once.

    Args:
        backend: The model.
    """

    def __init__(self, backend: Backend) -> None:
        self.spec = backend.spec
        self._backend = backend
        self._answers: dict[bytes, Answer] = {}

    def run(self, frames: NDArray[np.uint8], wants: Collection[Output] = CLASS_MAP) -> Answer:
        """Answer as the model does."""
        key = sha256(frames).digest()
        if key not in self._answers:
            self._answers[key] = self._backend.run(frames, (*CLASS_MAP, *LOGITS))
        found = self._answers[key].outputs
        return Answer({output: found[output].copy() for output in wants})

    def close(self) -> None:
        """Close the model."""
        self._backend.close()


def films(val: FolderDataset, train: FolderDataset) -> dict[str, Callable[[], list[Film]]]:
    """Return the films by name, each a function that makes them; all are played at one rate."""
    drive = [val[index] for index in range(len(val))]
    rng = np.random.default_rng(0)
    shuffled = [drive[index] for index in rng.permutation(len(drive))]
    half = len(drive) // 2
    in_turn = [shot for pair in zip(drive[:half], drive[half:], strict=False) for shot in pair]
    night = [_at_night(shot, rng) for shot in drive]
    return {
        "the drive": lambda: [drive],
        "twice as fast": lambda: [drive[::2], drive[1::2]],
        "three times as fast": lambda: [drive[start::3] for start in range(3)],
        "every 10th frame": lambda: [drive[start::10] for start in range(10)],
        "shuffled": lambda: [shuffled],
        "two places in turn": lambda: [in_turn],
        "shaken by 40 pixels": lambda: [_shaken(drive)],
        "dissolves": lambda: [_dissolving(drive)],
        "frozen, then a jump": lambda: [_freezing(drive)],
        "night": lambda: [night],
        "night, every 10th frame": lambda: [night[start::10] for start in range(10)],
        "slide show of train": lambda: [_slides(train)],
        "time lapse of train": lambda: list(train.by_sequence()),
    }


def measure(
    model: Backend, made: Sequence[Film], config: ModelConfig, *, can_wait: bool, smooth: bool
) -> dict[str, Any]:
    """Label films and return how right that is, and how steady where that can be told.

    Args:
        model: The model.
        made: The films.
        config: How they are labelled.
        can_wait: Label as a file is labelled; otherwise as a live view.
        smooth: Count flips too.
    """
    names = model.spec.class_names
    counts = np.zeros((len(names), len(names)), np.int64)
    temporal = TemporalScores(class_names=names, moved=counts.copy())
    looks = 0
    for film in made:
        meter = TemporalMeter(names)
        frames = (Frame(Picture.from_rgb(film[i][0]), i, 1 / RATE) for i in range(len(film)))
        for item in label(frames, model, config, can_wait=can_wait):
            counts += confusion_matrix(film[item.frame.pts][1], item.class_map, len(names))
            looks += item.by_network
            if smooth:
                temporal += meter.add(item.frame.picture.planes[0], item.class_map)
    return {
        "frames": sum(map(len, made)),
        "network_frames": looks,
        "miou": Scores(class_names=names, confusion=counts).miou,
        **({"flip_rate": temporal.flip_rate} if smooth else {}),
    }


def _at_night(shot: Shot, rng: np.random.Generator) -> Shot:
    """Return a shot in the dark, with noise."""
    picture, target = shot
    dark = NIGHT_SHARE * picture + rng.normal(0, NIGHT_NOISE, picture.shape)
    return np.clip(dark, 0, 255).astype(np.uint8), target


def _shaken(drive: Film) -> Film:
    """Return a film whose frames are off by some pixels, each by others."""
    rng = np.random.default_rng(1)
    return [_moved(shot, *(rng.integers(-most, most + 1) for most in SHAKE_PX)) for shot in drive]


def _moved(shot: Shot, columns: int, rows: int) -> Shot:
    """Return a shot moved by some pixels; what comes into view is the edge, and has no label."""
    matrix = np.array([[1, 0, columns], [0, 1, rows]], np.float32)
    size_wh = shot[1].shape[::-1]
    picture = cv2.warpAffine(shot[0], matrix, size_wh, borderMode=cv2.BORDER_REPLICATE)
    target = cv2.warpAffine(
        shot[1], matrix, size_wh, flags=cv2.INTER_NEAREST, borderValue=IGNORE_INDEX
    )
    return picture, target


def _dissolving(drive: Film) -> Film:
    """Return a film of scenes far apart that dissolve into each other; the stronger has a say."""
    film: list[Shot] = []
    scenes = [list(drive[start : start + 2 * RUN_FRAMES]) for start in (0, 50, 15, 65, 30, 80)]
    for scene, following in zip(scenes, [*scenes[1:], []], strict=True):
        film += scene[0 if not film else RUN_FRAMES :][:RUN_FRAMES]
        for number, (old, new) in enumerate(zip(scene[RUN_FRAMES:], following, strict=False), 1):
            share = number / (RUN_FRAMES + 1)
            picture = cv2.addWeighted(new[0], share, old[0], 1 - share, 0)
            film.append((picture, (new if share > 0.5 else old)[1]))
    return film


def _freezing(drive: Film) -> Film:
    """Return a film that stands still, and jumps four times as far as it stood."""
    rng = np.random.default_rng(2)
    return [
        drive[index] for index in rng.permutation(len(drive))[:20] for _ in range(FREEZE_FRAMES)
    ]


def _slides(train: FolderDataset) -> Film:
    """Return pictures of all drives, mixed, each there for two frames."""
    rng = np.random.default_rng(3)
    return [train[index] for index in rng.permutation(len(train))[:60] for _ in range(2)]
