"""Segmentation data in the SegNet layout: `train/` beside `trainannot/`, `val/` beside `valannot/`.

Pictures are colour PNGs; labels are PNGs of the same name and size whose pixels are class ids.
"""

from dataclasses import dataclass
from pathlib import Path
from typing import Any, Self

import cv2
import numpy as np
from numpy.typing import NDArray

from roadseg.classes import CLASS_NAMES, IGNORE_INDEX, NUM_CLASSES
from roadseg.errors import DatasetError

NAMED_AT_MOST = 3
"""Offending files that an error message names."""


@dataclass(frozen=True)
class FolderDataset:
    """One split, read from disk on access."""

    name: str
    """Name of the split."""
    image_paths: tuple[Path, ...]
    """Pictures, sorted by name."""
    label_paths: tuple[Path, ...]
    """Their labels, in the same order."""

    @classmethod
    def open(cls, root: Path, split: str) -> Self:
        """List a split.

        Args:
            root: Folder that holds the split's two folders.
            split: "train", "val" or "test".

        Raises:
            DatasetError: A folder is missing or empty, or pictures lack labels (named).
        """
        images, labels = root / split, root / f"{split}annot"
        for folder in (images, labels):
            if not folder.is_dir():
                raise DatasetError(
                    f"{root} has no folder {folder.name}/; roadseg needs {split}/ with pictures "
                    f"and {split}annot/ with labels of the same names; check --data"
                )
        image_paths = tuple(sorted(images.glob("*.png")))
        if not image_paths:
            raise DatasetError(
                f"{images} holds no PNG; put the {split} pictures there, or check --data"
            )
        label_paths = tuple(labels / path.name for path in image_paths)
        missing = [path for path in label_paths if not path.is_file()]
        if missing:
            raise DatasetError(
                f"{len(missing)} of {len(image_paths)} {split} pictures have no label: "
                f"{_some(missing)}; add the labels or remove the pictures"
            )
        return cls(split, image_paths, label_paths)

    def hold_out(self, sequence: str) -> tuple[Self, Self]:
        """Return the split without a sequence, and that sequence alone.

        A sequence is one drive; its pictures' names begin alike up to the first underscore.

        Raises:
            DatasetError: There is no such sequence, or nothing else is left.
        """
        names = [path.stem.partition("_")[0] for path in self.image_paths]
        held = [i for i, name in enumerate(names) if name == sequence]
        rest = [i for i, name in enumerate(names) if name != sequence]
        if not held or not rest:
            known = ", ".join(f"{name} ({names.count(name)})" for name in sorted(set(names)))
            raise DatasetError(
                f"--holdout-sequence {sequence} leaves {len(held)} pictures to measure on and "
                f"{len(rest)} to train on; {self.name} has the sequences {known}"
            )
        return self._subset(self.name, rest), self._subset(sequence, held)

    def _subset(self, name: str, indices: list[int]) -> Self:
        images = tuple(self.image_paths[i] for i in indices)
        return type(self)(name, images, tuple(self.label_paths[i] for i in indices))

    def __len__(self) -> int:
        return len(self.image_paths)

    def __getitem__(self, index: int) -> tuple[NDArray[np.uint8], NDArray[np.uint8]]:
        """Return a picture (H, W, 3) RGB and its target (H, W).

        Raises:
            DatasetError: A file cannot be read, the label is no map of class ids, or the two
                differ in size.
        """
        image_path, label_path = self.image_paths[index], self.label_paths[index]
        image = cv2.cvtColor(_read(image_path, cv2.IMREAD_COLOR), cv2.COLOR_BGR2RGB)
        target = _read(label_path, cv2.IMREAD_UNCHANGED)
        if target.ndim != 2 or target.dtype != np.uint8:
            channels = 1 if target.ndim == 2 else target.shape[2]
            raise DatasetError(
                f"{label_path} has {channels} channel(s) of {target.dtype}; a label is a PNG with "
                "one 8-bit channel of class ids; convert it"
            )
        if image.shape[:2] != target.shape:
            raise DatasetError(
                f"{label_path} is {target.shape[1]}x{target.shape[0]} and its picture is "
                f"{image.shape[1]}x{image.shape[0]}; they must be the same; make the label anew"
            )
        if target.max() >= len(CLASS_NAMES):
            raise DatasetError(
                f"{label_path} has the id {target.max()}; ids go from 0 to {IGNORE_INDEX} "
                f"({CLASS_NAMES[IGNORE_INDEX]}); map the labels to these ids"
            )
        return np.asarray(image, np.uint8), target

    def check(self) -> NDArray[np.int64]:
        """Read the whole split and return the pixels of each class, (num_classes,).

        Raises:
            DatasetError: As for one sample, or no pixel of the split is labelled.
        """
        counts = np.zeros(len(CLASS_NAMES), np.int64)
        for index in range(len(self)):
            _, target = self[index]
            counts += np.bincount(target.ravel(), minlength=len(CLASS_NAMES))
        if not counts[:NUM_CLASSES].any():
            raise DatasetError(
                f"no pixel of {self.name} is labelled, all are {CLASS_NAMES[IGNORE_INDEX]}; "
                "check the ids of its labels"
            )
        return counts[:NUM_CLASSES]


def _read(path: Path, flags: int) -> NDArray[Any]:
    data = np.frombuffer(path.read_bytes(), np.uint8)
    picture = cv2.imdecode(data, flags) if data.size else None
    if picture is None:
        raise DatasetError(f"{path} cannot be read as a PNG; replace it or remove it with its pair")
    return np.asarray(picture)


def _some(paths: list[Path]) -> str:
    names = ", ".join(path.name for path in paths[:NAMED_AT_MOST])
    return names + (", ..." if len(paths) > NAMED_AT_MOST else "")
