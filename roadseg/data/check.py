"""Check labelled data before training."""

import contextlib
import hashlib
from collections import defaultdict
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from roadseg.data.folder import (
    ClassCounts,
    FolderDataset,
    check_folder,
    count_classes,
    first_names,
    label_folder,
    labels_without_picture,
    pictures_in,
)
from roadseg.data.label_files import read_bytes
from roadseg.data.meaning import LabelMeaning
from roadseg.data.page import data_page
from roadseg.errors import DatasetError
from roadseg.paint.panels import compare_pictures
from roadseg.spec import SegClass, as_shown

SPLITS = ("train", "val", "test")
EXAMPLES = 4
"""Pictures of each split on the page."""
LABEL_SHARE = 0.6
"""Share of a label's colour over its picture."""


@dataclass(frozen=True, kw_only=True)
class SplitReport:
    """Result of the check of one split."""

    name: str
    """Its name."""
    faults: tuple[str, ...]
    """Faults, a sentence for each file or for the split."""
    classes: tuple[SegClass, ...] = ()
    """Classes of the labels."""
    total: int = 0
    """Pictures in the folder."""
    counts: ClassCounts | None = None
    """Pixels of each class in the good pairs; None if there are none."""
    sizes: Mapping[str, int] = field(default_factory=dict)
    """Pictures of each size, as "WIDTHxHEIGHT"."""
    sequences: Mapping[str, int] = field(default_factory=dict)
    """Pictures of each drive, for --holdout-sequence."""
    examples: Mapping[str, bytes] = field(default_factory=dict)
    """JPEG files of picture and label by caption."""


@dataclass(frozen=True, kw_only=True)
class DataReport:
    """Result of the check of a folder of labelled data."""

    splits: tuple[SplitReport, ...]
    """The existing splits."""
    together: tuple[str, ...]
    """Faults across splits, such as a picture that occurs twice, a sentence each."""

    def page(self, title: str) -> str:
        """Return the report as HTML."""
        return data_page(
            title,
            shares={
                split.name: {
                    c.name: float(share)
                    for c, share in zip(split.classes, split.counts.shares, strict=True)
                }
                for split in self.splits
                if split.counts
            },
            faults=self.faults,
            examples={name: data for split in self.splits for name, data in split.examples.items()},
            classes=next((split.classes for split in self.splits if split.classes), ()),
        )

    @property
    def shared_drives(self) -> list[str]:
        """Drives that have pictures in train and in val, so that figures on val are flattering."""
        drives = {split.name: split.sequences.keys() for split in self.splits}
        return sorted(drives.get("train", set()) & drives.get("val", set()))

    @property
    def faults(self) -> list[str]:
        """All faults."""
        return [fault for split in self.splits for fault in split.faults] + list(self.together)


def check_data(
    root: Path,
    on_picture: Callable[[str], None] = lambda _name: None,
    class_file: Path | None = None,
) -> DataReport:
    """Read every pair of every split, count classes and collect faults.

    Args:
        root: Folder in the SegNet layout.
        on_picture: Called with the name of each picture when it has been read.
        class_file: What the labels mean; None looks in the folder.

    Raises:
        DatasetError: The folder has no split, or its class file is not valid.
    """
    check_folder(root)
    present = [name for name in SPLITS if (root / name).is_dir()]
    if not present:
        raise DatasetError(
            f"{root} has none of the folders {', '.join(SPLITS)}; give the folder that holds "
            "train/ and trainannot/"
        )
    LabelMeaning.of(root, class_file)  # its faults are raised once, not for every split
    seen: dict[str, list[Path]] = defaultdict(list)
    splits = []
    for name in present:
        for path in pictures_in(root / name):
            with contextlib.suppress(DatasetError):  # told with the split's faults
                data = read_bytes(path)
                seen[hashlib.sha256(data).hexdigest()].append(path.relative_to(root))
        splits.append(_check_split(root, name, class_file, on_picture))
    together = [
        f"{paths[0]} is the same picture as {', '.join(map(str, paths[1:]))}; keep one"
        for paths in seen.values()
        if len(paths) > 1
    ]
    if "train" in present and "val" not in present:
        together += _faults_of_measuring(root, class_file)
    return DataReport(splits=tuple(splits), together=tuple(together))


def _faults_of_measuring(root: Path, class_file: Path | None) -> list[str]:
    """Return the fault, if no drives of `train/` can be set aside to measure on."""
    try:
        FolderDataset.open_what_is_there(root, "train", class_file)[0].measured_drives()
    except DatasetError as error:
        return [str(error)]
    return []


def _check_split(
    root: Path, name: str, class_file: Path | None, on_picture: Callable[[str], None]
) -> SplitReport:
    try:
        dataset, faults = FolderDataset.open_what_is_there(root, name, class_file)
    except DatasetError as error:
        return SplitReport(name=name, faults=(str(error),))
    labels = label_folder(root, name, dataset.meaning)
    if idle := labels_without_picture(root / name, labels):
        faults.append(
            f"pictures missing for labels in {labels.name}/ ({len(idle)}): {first_names(idle)}; a "
            "label has its picture's name; add the pictures or remove these"
        )
    pairs = _Pairs(dataset)
    for index, path in enumerate(dataset.image_paths):
        on_picture(path.name)
        pairs.check(index)
    return SplitReport(
        name=name,
        classes=pairs.classes,
        total=len(pictures_in(root / name)),
        counts=ClassCounts(np.stack(pairs.counts)) if pairs.counts else None,
        sizes=pairs.sizes,
        sequences=dataset.sequences,
        faults=(*faults, *pairs.faults),
        examples=pairs.examples,
    )


class _Pairs:
    """What is found in the pairs of a split."""

    def __init__(self, dataset: FolderDataset) -> None:
        self._dataset = dataset
        self._shown = {round(index) for index in np.linspace(0, len(dataset) - 1, EXAMPLES)}
        self.classes = as_shown(dataset.meaning.classes)
        self.faults: list[str] = []
        self.counts: list[NDArray[np.int64]] = []
        """Pixels of each class in each good pair."""
        self.sizes: dict[str, int] = defaultdict(int)
        """Pictures of each size, as "WIDTHxHEIGHT"."""
        self.examples: dict[str, bytes] = {}
        """JPEG files of picture and label by caption."""

    def check(self, index: int) -> None:
        """Read a pair and note what is in it, or why it cannot be read."""
        dataset = self._dataset
        try:
            picture, target = dataset[index]
        except DatasetError as error:
            self.faults.append(str(error))
            return
        self.counts.append(count_classes(target, dataset.num_classes))
        self.sizes[f"{picture.shape[1]}x{picture.shape[0]}"] += 1
        if not self.counts[-1].any():
            self.faults.append(f"{dataset.label_paths[index]} has no labelled pixel; label it")
        if index in self._shown:
            colors = [c.color for c in self.classes]
            panels = compare_pictures(picture, [target], colors, share=LABEL_SHARE)
            self.examples[f"{dataset.name}/{dataset.image_paths[index].name}"] = panels
