"""The meaning of the values in label files: CamVid's, or that of a class file.

A class file lies in the data set's folder as `classes.csv`. It has the columns name, id and color
(or colour):

    name,id,color
    road,0,#804080
    car,1,#400080
    car,2,#4080c0
    unlabelled,255,#000000

Rows of one name are one class. Classes are numbered by the first row of their name, and shown in
its colour. The class "unlabelled", or "unlabeled", is not counted. Labels are PNG files of ids, or
RGB in exactly these colours. In place of color there may be columns r, g and b with numbers from 0
to 255. A file with only the name and these, in this order or with the name last, or with the name
and a color, needs no heading. A column that is not needed may be left empty; a class without a
colour is shown in CamVid's, or in a generated one. A name may be a set of classes, such as
building|tree, where the labels do not distinguish these.
"""

from collections.abc import Iterable, Mapping
from colorsys import hsv_to_rgb
from dataclasses import dataclass
from pathlib import Path
from typing import Self

import numpy as np
from numpy.typing import NDArray

from roadseg.errors import DatasetError
from roadseg.settings import Color, read_class_file
from roadseg.spec import (
    CLASSES,
    IGNORE_INDEX,
    NO_TEXT,
    NUM_CLASSES,
    PALETTES,
    UNLABELLED,
    SegClass,
    css_color,
)

CLASS_FILE = "classes.csv"
SET_SEPARATOR = "|"
"""Separator of the classes in the name of a set."""
UNLABELLED_SPELLINGS = (UNLABELLED, "unlabeled")
GOLDEN_RATIO = 0.618034
UNKNOWN = 254
"""Target of values without a meaning, which are an error."""

CAMVID_COLORS = {
    "sky": ((128, 128, 128),),
    "building": ((128, 0, 0), (64, 192, 0)),  # Building, Wall
    "pole": ((192, 192, 128),),
    "road": ((128, 64, 128), (128, 128, 192), (128, 0, 192), (192, 0, 64)),  # and lane markings
    "pavement": ((0, 0, 192), (64, 192, 128)),  # Sidewalk, ParkingBlock
    "tree": ((128, 128, 0), (192, 192, 0)),  # Tree, VegetationMisc
    "sign": ((192, 128, 128), (0, 64, 64), (128, 128, 64)),  # SignSymbol, TrafficLight, Misc_Text
    "fence": ((64, 64, 128),),
    "car": ((64, 0, 128), (64, 128, 192), (192, 128, 192)),  # Car, SUVPickupTruck, Truck_Bus
    "pedestrian": ((64, 64, 0),),
    "bicyclist": ((0, 128, 192),),
    UNLABELLED: (
        (0, 0, 0),  # Void
        (64, 128, 64),  # Animal
        (192, 0, 128),  # Archway
        (0, 128, 64),  # Bridge
        (64, 0, 192),  # CartLuggagePram
        (192, 128, 64),  # Child
        (192, 0, 192),  # MotorcycleScooter
        (128, 64, 64),  # OtherMoving
        (0, 0, 64),  # TrafficCone
        (192, 64, 128),  # Train
        (64, 0, 64),  # Tunnel
    ),
}
"""Colours of CamVid's own labels (`label_colors.txt`) by SegNet's classes."""


@dataclass(frozen=True, kw_only=True)
class LabelMeaning:
    """The classes of a data set, and the ids and colours of its files that stand for them."""

    classes: tuple[SegClass, ...]
    """The counted classes; a target holds their positions, or `IGNORE_INDEX`."""
    ids: Mapping[int, int]
    """Target by id in a file."""
    colors: Mapping[Color, int]
    """Target by RGB colour in a file."""

    @property
    def has_sets(self) -> bool:
        """Whether a label stands for a set of classes, see `roadseg.data.sets`."""
        return any(SET_SEPARATOR in label.name for label in self.classes)

    @classmethod
    def camvid(cls) -> Self:
        """Return the meaning of SegNet's ids and of CamVid's own 32 colours."""
        rows = [
            (c.name, i if number == 0 else None, color)
            for i, c in enumerate(CLASSES)
            for number, color in enumerate(CAMVID_COLORS[c.name])
        ]
        meaning = cls._of_rows(rows)
        return cls(classes=CLASSES[:NUM_CLASSES], ids=meaning.ids, colors=meaning.colors)

    @classmethod
    def of(cls, root: Path, class_file: Path | None = None) -> Self:
        """Return the meaning of the labels in a data set's folder.

        Args:
            root: The folder.
            class_file: A class file elsewhere; None takes the folder's.

        Raises:
            DatasetError: The class file is not valid.
        """
        if class_file is not None:
            return cls.read(class_file)
        class_file = root / CLASS_FILE
        return cls.read(class_file) if class_file.is_file() else cls.camvid()

    @classmethod
    def read(cls, path: Path) -> Self:
        """Read a class file.

        Raises:
            DatasetError: It is not a class file; the line at fault is named.
        """
        rows = [
            (UNLABELLED if name.casefold() in UNLABELLED_SPELLINGS else name, label_id, color)
            for name, label_id, color in read_class_file(path)
        ]
        _check_names(path, [name for name, _, _ in rows])
        _check_one_class(path, "name", [(name.casefold(), name) for name, _, _ in rows])
        _check_one_class(path, "id", [(i, name) for name, i, _ in rows if i is not None])
        # Classes with ids may have the same colour.
        by_color = [(c, name) for name, i, c in rows if i is None and c is not None]
        _check_one_class(path, "colour", [(css_color(c), name) for c, name in by_color])
        meaning = cls._of_rows(rows)
        if not 2 <= len(meaning.classes) < UNKNOWN:
            raise DatasetError(
                f"{path} names {len(meaning.classes)} classes; give from 2 to {UNKNOWN - 1}, a row "
                "each under name,id,color"
            )
        return meaning

    @classmethod
    def _of_rows(cls, rows: Iterable[tuple[str, int | None, Color | None]]) -> Self:
        """Gather rows of name, id and colour."""
        targets = {UNLABELLED: IGNORE_INDEX}
        classes: list[SegClass] = []
        ids: dict[int, int] = {}
        colors: dict[Color, int] = {}
        for name, label_id, color in rows:
            if name not in targets:
                targets[name] = len(classes)
                shown = color or PALETTES["camvid"].get(name) or _spare_color(len(classes))
                classes.append(SegClass(name=name, color=shown))
            if label_id is not None:
                ids[label_id] = targets[name]
            if color is not None:
                colors[color] = targets[name]
        return cls(classes=tuple(classes), ids=ids, colors=colors)

    def target(self, label: NDArray[np.uint8], path: Path) -> NDArray[np.uint8]:
        """Return the target (H, W) of a label, (H, W) of ids or (H, W, 3) RGB.

        Raises:
            DatasetError: A value has no meaning; it is named with the file.
        """
        if label.ndim == 2:
            table = np.full(256, UNKNOWN, np.uint8)
            table[list(self.ids)] = list(self.ids.values())
            target = table[label]
        else:
            target = self._target_of_colors(label)
        if (target == UNKNOWN).any():
            row, column = np.argwhere(target == UNKNOWN)[0]
            what = "id" if label.ndim == 2 else "colour"
            known = sorted(self.ids) if label.ndim == 2 else f"{len(self.colors)} colours"
            raise DatasetError(
                f"{path} has the {what} {label[row, column].tolist()} at row {row}, column "
                f"{column}; known are {known}; map the label to these, or name its classes in "
                f"{CLASS_FILE}"
            )
        return target

    def _target_of_colors(self, label: NDArray[np.uint8]) -> NDArray[np.uint8]:
        packed = label.astype(np.uint32) @ np.array([1 << 16, 1 << 8, 1], np.uint32)  # (H, W)
        values, positions = np.unique(packed, return_inverse=True)
        rgb = ((int(v) >> 16, int(v) >> 8 & 255, int(v) & 255) for v in values)
        targets = np.array([self.colors.get(color, UNKNOWN) for color in rgb], np.uint8)
        return targets[positions.reshape(packed.shape)]


def _check_names(path: Path, names: Iterable[str]) -> None:
    """Raise `DatasetError` if a name can be neither that of a class nor that of a set of them."""
    for name in names:
        parts = [part.strip().casefold() for part in name.split(SET_SEPARATOR)]
        mixed = len(parts) > 1 and not set(parts).isdisjoint(UNLABELLED_SPELLINGS)
        if NO_TEXT.search(name) or not all(parts) or mixed:
            raise DatasetError(
                f"{path} has the name {name!r}; a name is text, and that of a set has the names of "
                f"its classes, but not {UNLABELLED}, with {SET_SEPARATOR} between; correct it"
            )


def _check_one_class(path: Path, what: str, found: Iterable[tuple[int | str, str]]) -> None:
    """Raise `DatasetError` if an id or colour in a class file stands for two classes."""
    named: dict[int | str, str] = {}
    for value, name in found:
        if named.setdefault(value, name) != name:
            raise DatasetError(
                f"{path} gives the {what} {value} to {named[value]} and to {name}; each is of one "
                "class; correct it"
            )


def _spare_color(number: int) -> Color:
    """Return a colour for a class without one; colours of successive numbers differ clearly."""
    red, green, blue = hsv_to_rgb(number * GOLDEN_RATIO % 1, 0.75, 0.9)
    return round(255 * red), round(255 * green), round(255 * blue)
