"""Label footage by teachers, for a network to learn from: labelled is what they are sure of.

The first teacher names the classes. Each teacher says, where it is sure and its label has been the
same for a while along the motion, which of these a pixel may be: one class, or where it knows less,
such as what is no road, a set of them. What all of them leave possible is the label; where that is
nothing, as they contradict each other, or everything, there is none.
"""

import json
from collections.abc import Iterator, Sequence
from contextlib import ExitStack, closing
from dataclasses import dataclass
from functools import reduce
from pathlib import Path
from typing import Any

import cv2
import numpy as np
from numpy.typing import NDArray

from roadseg.backends.runtimes import open_backend
from roadseg.data.networks import matched_by_name
from roadseg.errors import ConfigError, DatasetError
from roadseg.files import sha256_of
from roadseg.infer.data_folder import DataFolder, check_out
from roadseg.infer.footage import Constancy, Footage
from roadseg.segmentation.confidence import level_of
from roadseg.segmentation.config import ModelConfig
from roadseg.spec import IGNORE_INDEX, UNLABELLED, ModelSpec
from roadseg.video.frame import SegmentedFrame

MOST_CLASSES = 63
"""Classes of the first teacher, each a bit of a number."""

RECORD_NAME = "labels.json"
"""File that says what labels were made of, and by whom."""

Possible = NDArray[np.uint64]
"""A bit for each class of the first teacher that a pixel may be."""


@dataclass(frozen=True, kw_only=True)
class LabelConfig:
    """Settings of the labels."""

    sources: tuple[Path, ...]
    """Videos, and folders or patterns of pictures."""
    teachers: tuple[Path, ...]
    """Model files; the first names the classes."""
    out: Path
    """Folder for the data set."""
    backend: str = "auto"
    """Runtime, or "auto" to go by the model files."""
    min_confidence: float = 0.8
    """Confidence, 0..1, from which a teacher is sure."""
    step_s: float = 1.0
    """Seconds of a video from one labelled frame to the next."""
    steady_s: float = 0.3
    """Seconds for which a label must have been the same in a video, moving along."""

    def __post_init__(self) -> None:
        """Check each value, naming the flag at fault."""
        if not self.teachers:
            raise ConfigError("there is no --teacher; name a model to label with")
        if not 0 <= self.min_confidence < 1:
            raise ConfigError(
                f"--min-confidence is {self.min_confidence}; it must be from 0 to below 1"
            )
        for flag, seconds in (("--step", self.step_s), ("--steady-for", self.steady_s)):
            if not 0 <= seconds < 3600:
                raise ConfigError(f"{flag} is {seconds}; it must be from 0 to 3600 seconds")
        drives = [Footage(source).drive for source in self.sources]
        if twice := next((name for name in drives if drives.count(name) > 1), None):
            raise ConfigError(
                f"two of the sources are called {twice}; rename one, or label it apart"
            )


@dataclass(frozen=True, kw_only=True)
class LabelResult:
    """What the labels came to."""

    pictures: int
    """Pictures labelled."""
    labelled: float
    """Share of their pixels that has a label."""
    shares: dict[str, float]
    """Share of each label in these."""


def label_footage(config: LabelConfig) -> LabelResult:
    """Write a data set of footage labelled by teachers.

    Raises:
        VideoError: A source cannot be read.
        ModelFileError: A teacher is missing or not ours.
        ConfigError: A teacher is given twice, the first has too many classes, or another one knows
            none of them.
        DatasetError: Nothing was labelled.
        OutputError: The folder cannot be written.
    """
    check_out(config.out)
    footage = [Footage(source) for source in config.sources]
    for one in footage:
        one.check()
    specs = [_spec_of(teacher, config.backend) for teacher in config.teachers]
    record = _record(config)
    counts: np.ndarray = np.zeros(IGNORE_INDEX + 1, np.int64)
    pictures = 0
    with DataFolder.written(config.out, specs[0]) as folder:
        panel = _Panel(config, specs, folder)
        for one in footage:
            for item, target in panel.judged(one):
                folder.add(one.name_of(item.frame), item.frame, target)
                counts += np.bincount(target.ravel(), minlength=len(counts))
                pictures += 1
        if not pictures:
            raise DatasetError(
                f"the teachers are sure of nothing in {', '.join(map(str, config.sources))}; "
                "lower --min-confidence or --steady-for"
            )
        folder.note(RECORD_NAME, json.dumps(record, indent=2) + "\n")
        names = folder.names
    labelled = int(counts[:IGNORE_INDEX].sum())
    return LabelResult(
        pictures=pictures,
        labelled=labelled / int(counts.sum()),
        shares={name: int(counts[i]) / labelled for i, name in enumerate(names) if counts[i]},
    )


def is_labelled(config: LabelConfig) -> bool:
    """Return whether a data set is there that was labelled with these settings.

    Raises:
        ConfigError: It was labelled with others, or a teacher is given twice.
    """
    path = config.out / RECORD_NAME
    if not path.is_file():
        return False
    if json.loads(path.read_text(encoding="utf-8")) != _record(config):
        raise ConfigError(
            f"{config.out} was labelled with other settings or teachers; move it away, or choose "
            "another --out"
        )
    return True


def _record(config: LabelConfig) -> dict[str, Any]:
    """Return what the labels depend on, as JSON values. Raises `ConfigError`."""
    return {
        "sources": [str(source) for source in config.sources],
        "teachers": _digests(config.teachers),
        "min_confidence": config.min_confidence,
        "step_s": config.step_s,
        "steady_s": config.steady_s,
    }


def _digests(teachers: Sequence[Path]) -> dict[str, str]:
    """Return the teachers' checksums by name, or by path where two have one name.

    Raises:
        ConfigError: Two are the same model, which always agrees with itself.
    """
    names = [teacher.name for teacher in teachers]
    known: dict[str, Path] = {}
    for teacher in teachers:
        digest = sha256_of(teacher)
        if digest in known:
            raise ConfigError(
                f"--teacher {known[digest]} and --teacher {teacher} are the same model, which "
                "always agrees with itself; give it once"
            )
        known[digest] = teacher
    return {str(t) if names.count(t.name) > 1 else t.name: d for d, t in known.items()}


def _spec_of(teacher: Path, backend: str) -> ModelSpec:
    with closing(open_backend(teacher, backend)) as opened:
        return opened.spec


class _Panel:
    """The teachers, and what they agree on."""

    def __init__(self, config: LabelConfig, specs: Sequence[ModelSpec], folder: DataFolder) -> None:
        if specs[0].num_classes > MOST_CLASSES:
            raise ConfigError(
                f"--teacher {config.teachers[0]} has {specs[0].num_classes} classes; the first may "
                f"have {MOST_CLASSES}; begin with another one"
            )
        self._config = config
        self._names = specs[0].class_names
        self._everything = all_possible(self._names)
        self._tables = [possible_of(spec, self._names) for spec in specs]
        for teacher, table in zip(config.teachers, self._tables, strict=True):
            if (table == self._everything).all():
                raise ConfigError(
                    f"--teacher {teacher} knows none of the classes {', '.join(self._names)}; "
                    "adopt it with these names (roadseg adopt --classes), or leave it out"
                )
        self._folder = folder

    def judged(self, footage: Footage) -> Iterator[tuple[SegmentedFrame, NDArray[np.uint8]]]:
        """Yield the frames of some footage that have labels, with their targets (H, W)."""
        constancies = [Constancy() for _ in self._tables]
        next_s = 0.0
        for items in self._labelled(footage):
            ages = None
            if not footage.is_pictures:
                ages = [c.add(item) for c, item in zip(constancies, items, strict=True)]
                if items[0].frame.time_s < next_s:
                    continue
            target = self._target(items, ages)
            if (target != IGNORE_INDEX).any():
                next_s = items[0].frame.time_s + self._config.step_s
                yield items[0], target

    def _labelled(self, footage: Footage) -> Iterator[tuple[SegmentedFrame, ...]]:
        """Yield every frame as each teacher labels it."""
        with ExitStack() as stack:
            streams = []
            for weights in self._config.teachers:
                config = ModelConfig(
                    weights=weights,
                    backend=self._config.backend,
                    min_confidence=0,
                    keeps_confidence=True,
                )
                stream = footage.labelled(config)
                stack.callback(stream.close)  # type: ignore[attr-defined]
                streams.append(stream)
            yield from zip(*streams, strict=True)

    def _target(
        self, items: Sequence[SegmentedFrame], ages: Sequence[NDArray[np.float32]] | None
    ) -> NDArray[np.uint8]:
        """Return what the teachers together say of a frame, (H, W) ids of labels."""
        found = []
        for number, (item, table) in enumerate(zip(items, self._tables, strict=True)):
            unsure = self._unsure(item, None if ages is None else ages[number])
            found.append(np.where(unsure, self._everything, table[item.class_map]))
        possible = reduce(np.bitwise_and, found)
        bits, positions = np.unique(possible, return_inverse=True)
        labels = np.array([self._label(int(value)) for value in bits], np.uint8)
        return labels[positions.reshape(possible.shape)]

    def _unsure(self, item: SegmentedFrame, ages: NDArray[np.float32] | None) -> NDArray[np.bool_]:
        """Return where (H, W) a teacher is unsure, or has changed its mind."""
        size_hw = item.class_map.shape
        unsure = np.zeros(size_hw, np.bool_)
        if item.confidence is not None:
            unsure |= item.confidence.at(size_hw) < level_of(self._config.min_confidence)
        if ages is not None:
            young = (ages < self._config.steady_s).astype(np.uint8)
            unsure |= cv2.resize(young, size_hw[::-1], interpolation=cv2.INTER_NEAREST) > 0
        return unsure

    def _label(self, bits: int) -> int:
        """Return the id of the label of what is possible."""
        if bits in (0, self._everything):
            return IGNORE_INDEX
        return self._folder.label_of([i for i in range(len(self._names)) if bits >> i & 1])


def possible_of(spec: ModelSpec, names: Sequence[str]) -> Possible:
    """Return what a pixel may be that a teacher gives an id, by that id (256,).

    Its classes are those of the same name, or else those that the usual lists' names say are the
    same. A class that is none of these may be all that the teacher has no class for: a background,
    say.

    Args:
        spec: The teacher's record.
        names: The classes.
    """
    everything = int(all_possible(names))
    known = [
        sum(1 << names.index(name) for name in matched) & everything
        for matched in matched_by_name(spec.class_names, names)
    ]
    rest = everything & ~reduce(int.__or__, known, 0)
    table = np.full(256, everything, np.uint64)
    for class_id, (own, bits) in enumerate(zip(spec.class_names, known, strict=True)):
        table[class_id] = bits or (everything if own == UNLABELLED else rest)
    return table


def all_possible(names: Sequence[str]) -> np.uint64:
    """Return the bits of all classes of some names; a class called unlabelled is none."""
    return np.uint64(sum(1 << i for i, name in enumerate(names) if name != UNLABELLED))
