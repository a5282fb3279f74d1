"""Segmentation data in the SegNet layout: `train/` beside `trainannot/`, `val/` beside `valannot/`.

Pictures are PNG, JPEG, WebP, BMP or TIFF, turned as viewers turn them; labels are PNGs of the same
name and size, with class ids or in colours, see `roadseg.data.label_files`. Their meaning is
CamVid's, or that of a class file, see `roadseg.data.meaning`. Labels of sets of classes may lie in
`traingroup/` beside finer ones. Data without `val/` are measured on a fifth of their drives.
"""

from collections import Counter
from collections.abc import Collection, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Self
from zlib import crc32

import cv2
import numpy as np
from numpy.typing import NDArray

from roadseg.data.label_files import decode, read_bytes, read_label, turned_with
from roadseg.data.meaning import LabelMeaning
from roadseg.data.sets import LabelSpace
from roadseg.errors import DatasetError
from roadseg.files import is_hidden
from roadseg.spec import UNLABELLED
from roadseg.video.encoded import IMAGE_SUFFIXES, has_image_suffix

LABEL_SUFFIX = ".png"
RARE_SHARE = 0.02
"""Share of the pixels below which a class is rare: CamVid's pole, sign, fence and people."""
DRIVES_A_MEASURED_ONE = 5
"""One of so many drives is measured on in data without `val/`."""
NAMED_AT_MOST = 3
"""Most files that an error message names."""


@dataclass(frozen=True)
class FolderDataset:
    """One split, read from disk on access."""

    name: str
    """Name of the split."""
    image_paths: tuple[Path, ...]
    """Pictures, sorted by name."""
    label_paths: tuple[Path, ...]
    """Their labels, in the same order."""
    meaning: LabelMeaning
    """The classes, and the values of the labels that stand for them."""

    @property
    def num_classes(self) -> int:
        """Classes that are counted."""
        return len(self.meaning.classes)

    @classmethod
    def open(cls, root: Path, split: str, class_file: Path | None = None) -> Self:
        """List a split.

        Args:
            root: Folder that holds the split's two folders.
            split: "train", "val" or "test"; "val" is a fifth of the drives in `train/` where there
                is no `val/`.
            class_file: What the labels mean; None looks in the folder.

        Raises:
            DatasetError: A folder is missing or empty, or pictures lack labels (named).
        """
        if split == "val" and (root / "train").is_dir() and not (root / "val").is_dir():
            return cls.open(root, "train", class_file).measured_drives()
        dataset, faults = cls.open_what_is_there(root, split, class_file)
        if faults:
            raise DatasetError(faults[0])
        return dataset

    @classmethod
    def open_what_is_there(
        cls, root: Path, split: str, class_file: Path | None = None
    ) -> tuple[Self, list[str]]:
        """List the pictures of a split that have labels; return the faults of others as text.

        Raises:
            DatasetError: A folder is missing, or has no picture.
        """
        check_folder(root)
        meaning = LabelMeaning.of(root, class_file)
        images, labels = root / split, label_folder(root, split, meaning)
        for folder in (images, labels):
            if not folder.is_dir():
                raise DatasetError(
                    f"{root} has no folder {folder.name}/; roadseg needs {split}/ with pictures "
                    f"and {labels.name}/ with labels of the same names; check --data"
                )
        image_paths = pictures_in(images)
        if not image_paths:
            raise DatasetError(
                f"{images} holds no file that ends in {', '.join(IMAGE_SUFFIXES)}; put the "
                f"{split} pictures there, or check --data"
            )
        there = {path.stem: path for path in _label_files(labels)}
        label_paths = tuple(there.get(p.stem, labels / f"{p.stem}.png") for p in image_paths)
        missing = {path for path in label_paths if not path.is_file()}
        complete = [i for i, path in enumerate(label_paths) if path not in missing]
        found = cls(split, image_paths, label_paths, meaning)
        return found._subset(split, complete), found._faults_of_labels(missing)

    def _faults_of_labels(self, missing: Collection[Path]) -> list[str]:
        """Return which labels are missing, and which are of two pictures, as text."""
        faults = []
        if missing:
            faults.append(
                f"labels missing for {len(missing)} of {len(self)} {self.name} pictures: "
                f"{first_names(sorted(missing))}; a label has its picture's name; add these or "
                "remove the pictures"
            )
        if shared := [path for path, count in Counter(self.label_paths).items() if count > 1]:
            faults.append(
                f"{first_names(shared)} in {shared[0].parent.name}/ is the label of two pictures "
                "whose names differ in nothing but the suffix; rename one"
            )
        return faults

    def hold_out(self, sequence: str) -> tuple[Self, Self]:
        """Return the split without a sequence, and that sequence.

        A sequence is one drive; its pictures' names have the same text before the first underscore.

        Raises:
            DatasetError: There is no such sequence, or nothing else is left.
        """
        held = [i for i, path in enumerate(self.image_paths) if _sequence(path) == sequence]
        rest = [i for i, path in enumerate(self.image_paths) if _sequence(path) != sequence]
        if not held or not rest:
            known = ", ".join(f"{name} ({count})" for name, count in self.sequences.items())
            raise DatasetError(
                f"--holdout-sequence {sequence} leaves {len(held)} pictures to measure on and "
                f"{len(rest)} to train on; choose one of several in {self.name}: {known}"
            )
        return self._subset(self.name, rest), self._subset(sequence, held)

    def measured_drives(self) -> Self:
        """Return the drives to measure on where there is no `val/`: a fifth, at least one.

        The choice depends on the drives' names alone.

        Raises:
            DatasetError: The split is a single drive.
        """
        names = sorted(self.sequences, key=lambda name: (crc32(name.encode()), name))
        if len(names) == 1:
            raise DatasetError(
                f"{self.image_paths[0].parent.parent} has no val/ to measure on, and its "
                f"{self.name}/ is a single drive, {names[0]} (a picture's name begins with its "
                "drive, up to the first underscore); set some pictures aside as val/, and their "
                "labels as valannot/"
            )
        held = set(names[: max(len(names) // DRIVES_A_MEASURED_ONE, 1)])
        return self._subset(
            "val", [i for i, path in enumerate(self.image_paths) if _sequence(path) in held]
        )

    def without(self, other: Self) -> Self:
        """Return the split without the pictures of another one."""
        gone = set(other.image_paths)
        return self._subset(
            self.name, [i for i, path in enumerate(self.image_paths) if path not in gone]
        )

    def in_terms_of(self, space: LabelSpace) -> Self:
        """Return the split with the targets of a label space.

        Raises:
            DatasetError: A label is of a class that the space does not have.
        """
        return replace(self, meaning=space.renumber(self.meaning))

    @property
    def sequences(self) -> dict[str, int]:
        """Pictures of each sequence, by its name."""
        return dict(sorted(Counter(map(_sequence, self.image_paths)).items()))

    def by_sequence(self) -> list[Self]:
        """Return the drives of the split, each in the order of its pictures' names."""
        return [
            self._subset(
                name, [i for i, path in enumerate(self.image_paths) if _sequence(path) == name]
            )
            for name in self.sequences
        ]

    def _subset(self, name: str, indices: list[int]) -> Self:
        images = tuple(self.image_paths[i] for i in indices)
        labels = tuple(self.label_paths[i] for i in indices)
        return type(self)(name, images, labels, self.meaning)

    def __len__(self) -> int:
        return len(self.image_paths)

    def __getitem__(self, index: int) -> tuple[NDArray[np.uint8], NDArray[np.uint8]]:
        """Return a picture (H, W, 3) RGB and its target (H, W).

        Raises:
            DatasetError: A file cannot be read, the label is not valid, or the two differ in
                size.
        """
        image_path, label_path = self.image_paths[index], self.label_paths[index]
        data = read_bytes(image_path)
        image = decode(data, cv2.IMREAD_COLOR_RGB, image_path)
        label = read_label(label_path, self.meaning)
        if image.shape[:2] == label.shape[1::-1] != label.shape[:2]:
            stored = decode(data, cv2.IMREAD_COLOR_RGB | cv2.IMREAD_IGNORE_ORIENTATION, image_path)
            label = turned_with(image, stored, label)
        if image.shape[:2] != label.shape[:2]:
            raise DatasetError(
                f"{label_path} is {label.shape[1]}x{label.shape[0]} and its picture is "
                f"{image.shape[1]}x{image.shape[0]}; they must be the same; make the label anew"
            )
        target = self.meaning.target(label, label_path)
        return np.asarray(image, np.uint8), np.ascontiguousarray(target)

    def check(self) -> "ClassCounts":
        """Read the whole split and count its classes.

        Raises:
            DatasetError: As for one sample, or no pixel of the split is labelled.
        """
        per_picture = np.stack(
            [count_classes(self[index][1], self.num_classes) for index in range(len(self))]
        )
        if not per_picture.any():
            raise DatasetError(
                f"no pixel of {self.name} is labelled, all are {UNLABELLED}; check the ids of its "
                "labels"
            )
        return ClassCounts(per_picture)


@dataclass(frozen=True)
class ClassCounts:
    """Pixels of each class in the pictures of a split."""

    per_picture: NDArray[np.int64]
    """(pictures, C) labelled pixels."""

    @property
    def pixels(self) -> NDArray[np.int64]:
        """(C,) pixels in the split."""
        return np.asarray(self.per_picture.sum(axis=0))

    @property
    def pictures(self) -> NDArray[np.int64]:
        """(C,) pictures that contain the class."""
        return np.asarray((self.per_picture > 0).sum(axis=0))

    @property
    def shared_pixels(self) -> NDArray[np.int64]:
        """(C,) labelled pixels, of any class, of the pictures that contain the class."""
        return np.asarray((self.per_picture > 0).T @ self.per_picture.sum(axis=1))

    @property
    def shares(self) -> NDArray[np.float64]:
        """(C,) of the labelled pixels, 0..1."""
        return np.asarray(self.pixels / max(int(self.pixels.sum()), 1))

    def of_classes(self, members: NDArray[np.bool_]) -> "ClassCounts":
        """Return the counts of classes, where the last S labels are sets of classes.

        The pixels of a set are divided equally between its classes.

        Args:
            members: (S, C), classes of each set.
        """
        num_classes = members.shape[1]
        shared = self.per_picture[:, num_classes:] // np.maximum(members.sum(axis=1), 1)
        return ClassCounts(self.per_picture[:, :num_classes] + shared @ members)

    @property
    def rare(self) -> tuple[int, ...]:
        """Ids of the classes that make up less than `RARE_SHARE` of the split."""
        return tuple(int(i) for i in np.nonzero(self.shares < RARE_SHARE)[0])


def count_classes(target: NDArray[np.uint8], num_classes: int) -> NDArray[np.int64]:
    """Return the pixels of each class in a target, (C,)."""
    return np.bincount(target.ravel(), minlength=256)[:num_classes]


def _sequence(path: Path) -> str:
    return path.stem.partition("_")[0]


def check_folder(root: Path) -> None:
    """Raise `DatasetError` if there is no folder of data."""
    if not root.is_dir():
        raise DatasetError(f"{root} is no folder; give the one that holds train/ and trainannot/")


def label_folder(root: Path, split: str, meaning: LabelMeaning) -> Path:
    """Return the folder of a split's labels; sets of classes may have one of their own."""
    groups = root / f"{split}group"
    return groups if meaning.has_sets and groups.is_dir() else root / f"{split}annot"


def labels_without_picture(images: Path, labels: Path) -> list[Path]:
    """Return the labels in a folder that have no picture in another."""
    known = {path.stem for path in pictures_in(images)}
    return [path for path in _label_files(labels) if path.stem not in known]


def _label_files(folder: Path) -> list[Path]:
    """Return the labels of a folder, sorted; their suffix may be in upper case."""
    return [path for path in _visible(folder) if path.suffix.lower() == LABEL_SUFFIX]


def pictures_in(folder: Path) -> tuple[Path, ...]:
    """Return the pictures of a folder, sorted by name."""
    return tuple(filter(has_image_suffix, _visible(folder)))


def _visible(folder: Path) -> list[Path]:
    """Return what is in a folder, sorted, without hidden files."""
    return sorted(path for path in folder.iterdir() if not is_hidden(path))


def first_names(paths: Sequence[Path]) -> str:
    """Return the names of the first few files, for a message."""
    names = ", ".join(path.name for path in paths[:NAMED_AT_MOST])
    return names + (", ..." if len(paths) > NAMED_AT_MOST else "")
