"""Labels that are sets of classes, such as `building|tree`, in data coarser than a model.

A run or a measurement numbers the labels of all its data in the same way: first the C classes of
the model, then the sets of any of the data. A target holds class ids below C, ids of sets from C
up, and `IGNORE_INDEX`. Code that knows only classes treats sets as unlabelled.
"""

from collections.abc import Iterable, Sequence
from dataclasses import dataclass, replace
from typing import Self

import numpy as np
from numpy.typing import NDArray

from roadseg.data.meaning import SET_SEPARATOR, UNKNOWN, LabelMeaning
from roadseg.errors import DatasetError
from roadseg.spec import IGNORE_INDEX, PALETTES, SegClass


def members(label: str) -> tuple[str, ...]:
    """Return the names of the classes of a label, one for most labels."""
    return tuple(name.strip() for name in label.split(SET_SEPARATOR))


@dataclass(frozen=True, kw_only=True)
class LabelSpace:
    """The classes of a model, and the sets of them that occur as labels."""

    classes: tuple[SegClass, ...]
    """The classes, C of them, by id."""
    sets: tuple[SegClass, ...] = ()
    """The sets, S of them; the first has the id C."""

    @classmethod
    def of(cls, classes: Sequence[SegClass], data: Iterable[LabelMeaning]) -> Self:
        """Gather the sets of classes in all data whose labels are mapped to some classes.

        Raises:
            DatasetError: A label is of a class that is not among these.
        """
        space = cls(classes=tuple(classes))
        sets: dict[tuple[int, ...], SegClass] = {}
        for meaning in data:
            for label in meaning.classes:
                if len(ids := space.class_ids(label.name)) > 1:
                    sets.setdefault(ids, replace(label, name=space._name(ids)))
        space = replace(space, sets=tuple(sets.values()))
        if len(space.labels) >= UNKNOWN:
            raise DatasetError(
                f"the data have {len(space.labels)} labels together; give at most {UNKNOWN - 1}"
            )
        return space

    @property
    def labels(self) -> tuple[SegClass, ...]:
        """Classes and sets, by their ids in a target."""
        return self.classes + self.sets

    @property
    def members(self) -> NDArray[np.bool_]:
        """(S, C), which classes belong to each set."""
        table = np.zeros((len(self.sets), len(self.classes)), bool)
        for row, label in zip(table, self.sets, strict=True):
            row[list(self.class_ids(label.name))] = True
        return table

    @property
    def allowed(self) -> NDArray[np.bool_]:
        """(C + S, C), which classes are right for each label."""
        return np.vstack([np.eye(len(self.classes), dtype=bool), self.members])

    def class_ids(self, label: str) -> tuple[int, ...]:
        """Return the ids of the classes of a label, in order.

        Raises:
            DatasetError: One is none of the classes.
        """
        known = [c.name for c in self.classes]
        if unknown := [name for name in members(label) if name not in known]:
            which = "" if unknown[0] == label else f"is of the class {unknown[0]!r}, which "
            raise DatasetError(
                f"the label {label!r} {which}is not among "
                f"{', '.join(known)}; name it as one of these, or as a set of them, such as "
                f"{SET_SEPARATOR.join(known[:2])}"
            )
        return tuple(sorted({known.index(name) for name in members(label)}))

    def renumber(self, meaning: LabelMeaning) -> LabelMeaning:
        """Return the meaning of some data's labels with the targets of this space."""
        names = [label.name for label in self.labels]
        ids = [names.index(self._name(self.class_ids(c.name))) for c in meaning.classes]
        new = dict(enumerate(ids)) | {IGNORE_INDEX: IGNORE_INDEX}
        return replace(
            meaning,
            classes=self.labels,
            ids={value: new[old] for value, old in meaning.ids.items()},
            colors={color: new[old] for color, old in meaning.colors.items()},
        )

    def _name(self, ids: Iterable[int]) -> str:
        return SET_SEPARATOR.join(self.classes[i].name for i in ids)


def classes_named(meaning: LabelMeaning) -> tuple[SegClass, ...]:
    """Return the classes in a data set's labels, alone or in sets, in order."""
    alone = {label.name: label for label in meaning.classes}
    names = dict.fromkeys(name for label in meaning.classes for name in members(label.name))
    return tuple(alone.get(name) or _in_a_set_only(name, meaning) for name in names)


def _in_a_set_only(name: str, meaning: LabelMeaning) -> SegClass:
    """Return a class that occurs in sets only, in CamVid's colour or else that of its first set."""
    first = next(label for label in meaning.classes if name in members(label.name))
    return SegClass(name=name, color=PALETTES["camvid"].get(name, first.color))
