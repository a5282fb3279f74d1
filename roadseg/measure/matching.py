"""Map a model's classes to those of some data, where the two have different names.

Classes are matched by name, or by a mapping. Several classes of a model may match one of the data:
truck, bus and car are its car. Where one class of a model matches several of the data, these are
measured as one: background is sky, building and others. A label whose class a model does not have
is unlabelled. A model's class that the data do not have counts as a prediction of unlabelled, which
is wrong wherever there is a label.
"""

from collections.abc import Collection, Iterable, Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Self

import numpy as np
from numpy.typing import NDArray

from roadseg.backends.runtimes import CLASS_MAP, Answer, Backend, Output
from roadseg.data.folder import FolderDataset
from roadseg.data.meaning import SET_SEPARATOR, LabelMeaning
from roadseg.data.networks import UNLABELLED_CLASS, matched_by_name, read_mapping
from roadseg.data.sets import classes_named, members
from roadseg.errors import DatasetError
from roadseg.spec import IGNORE_INDEX, ModelSpec, SegClass

FAR_BELOW = 20.0
"""Distance below the lowest logit of classes that a model does not have."""

Mapped = Mapping[str, tuple[str, ...]]
"""Names in some data, by a model's class names."""
Group = tuple[str, ...]
"""Classes of the data that are measured as one."""


def in_common_classes(
    models: Mapping[str, Backend], dataset: FolderDataset, mapping: Path | None
) -> tuple[dict[str, Backend], FolderDataset]:
    """Return models and data in the classes that they have in common.

    Without a mapping, our own models, and those that know all of the data's classes by their names,
    stay as they are.

    Args:
        models: Models by name.
        dataset: Labelled data.
        mapping: File with the names of the models' classes in the data.

    Raises:
        DatasetError: There are none, or the file is not a mapping.
    """
    data = classes_named(dataset.meaning)
    specs = [model.spec for model in models.values()]
    adopted = [set(spec.class_names) for spec in specs if spec.adopted]
    if mapping is None and all({c.name for c in data} <= names for names in adopted):
        return dict(models), dataset
    mapped = None
    if mapping is not None:
        mapped = read_mapping(mapping)
        _refuse_unknown(mapping, mapped, specs, data)
    links = [_links(spec, data, mapped) for spec in specs]
    matching = Matching.of(specs, data, links)
    matched = {
        name: MatchedBackend(model, matching, link)
        for (name, model), link in zip(models.items(), links, strict=True)
    }
    return dict(matched), replace(dataset, meaning=matching.relabel(dataset.meaning))


@dataclass(frozen=True, kw_only=True)
class Matching:
    """The classes that some models and some data have in common."""

    classes: tuple[SegClass, ...]
    """These classes, in the data's order and colours; unlabelled comes last, if at all."""
    positions: Mapping[str, int]
    """Index among them of each class of the data that all models have."""

    @classmethod
    def of(
        cls, specs: Sequence[ModelSpec], data: Sequence[SegClass], links: Sequence[list[Group]]
    ) -> Self:
        """Match the classes.

        Args:
            specs: The models.
            data: The classes that the data's labels name.
            links: For each model, which of these each of its classes is.

        Raises:
            DatasetError: None match.
        """
        groups = [
            group
            for group in _groups(
                [c.name for c in data], [link for of_one in links for link in of_one]
            )
            if all(any(set(link) & set(group) for link in of_one) for of_one in links)
        ]
        if not groups:
            raise DatasetError(
                f"the labels are of {', '.join(c.name for c in data)}, and the model knows none of "
                f"these, but {', '.join(specs[0].class_names)}; say with --map what belongs "
                "together"
            )
        colors = {c.name: c for c in data}
        classes = [replace(colors[g[0]], name=_name(g, specs, links)) for g in groups]
        positions = {name: i for i, group in enumerate(groups) for name in group}
        if not all(set(link) & positions.keys() for of_one in links for link in of_one):
            classes.append(UNLABELLED_CLASS)
        return cls(classes=tuple(classes), positions=positions)

    def position(self, link: Group) -> int:
        """Return the index of a model's class, given the data's classes that it matches."""
        found = (self.positions[name] for name in link if name in self.positions)
        return next(found, len(self.classes) - 1)  # unlabelled

    def relabel(self, meaning: LabelMeaning) -> LabelMeaning:
        """Return the meaning of labels in these classes; labels of other classes are unlabelled."""
        names = [self._label(label.name) for label in meaning.classes]
        kept = {
            name: replace(label, name=name)
            for name, label in zip(names, meaning.classes, strict=True)
            if name is not None
        }
        order = list(kept)
        new = {i: IGNORE_INDEX if n is None else order.index(n) for i, n in enumerate(names)}
        new[IGNORE_INDEX] = IGNORE_INDEX
        return replace(
            meaning,
            classes=tuple(kept.values()),
            ids={value: new[old] for value, old in meaning.ids.items()},
            colors={color: new[old] for color, old in meaning.colors.items()},
        )

    def _label(self, label: str) -> str | None:
        """Return the name of a label, or None if it may be of an unmatched class."""
        if any(name not in self.positions for name in members(label)):
            return None
        found = dict.fromkeys(self.positions[name] for name in members(label))
        return SET_SEPARATOR.join(self.classes[i].name for i in found)


class MatchedBackend:
    """A model that predicts the classes that it has in common with some data.

    Args:
        backend: The model.
        matching: These classes.
        links: Which of the data's classes each of the model's is.
    """

    def __init__(self, backend: Backend, matching: Matching, links: list[Group]) -> None:
        self.spec = replace(
            backend.spec,
            class_names=tuple(c.name for c in matching.classes),
            palette=tuple(c.color for c in matching.classes),
        )
        self._backend = backend
        self._table = np.array([matching.position(link) for link in links], np.uint8)

    def run(self, frames: NDArray[np.uint8], wants: Collection[Output] = CLASS_MAP) -> Answer:
        """Run the model; a class has the largest logit of those that match it."""
        found = dict(self._backend.run(frames, wants).outputs)
        if "class_map" in found:
            found["class_map"] = self._table[found["class_map"]]
        if "logits" in found:
            found["logits"] = self._strongest(found["logits"])
        return Answer(found)

    def close(self) -> None:
        """Close the model."""
        self._backend.close()

    def _strongest(self, logits: NDArray[np.float32]) -> NDArray[np.float32]:
        count, _, height, width = logits.shape
        shape = (count, self.spec.num_classes, height, width)
        together = np.full(shape, logits.min() - FAR_BELOW, np.float32)
        for place, logit in zip(self._table, logits.swapaxes(0, 1), strict=True):
            np.maximum(together[:, place], logit, out=together[:, place])
        return together


def _links(spec: ModelSpec, data: Sequence[SegClass], mapped: Mapped | None) -> list[Group]:
    """Return which of the data's classes each of a model's is.

    By a mapping, or else by name; then by what the two are among CamVid's classes.
    """
    names = [c.name for c in data]
    if mapped is not None:
        return [mapped.get(own, (own,) if own in names else ()) for own in spec.class_names]
    return matched_by_name(spec.class_names, names)


def _refuse_unknown(
    mapping: Path, mapped: Mapped, specs: Sequence[ModelSpec], data: Sequence[SegClass]
) -> None:
    """Raise `DatasetError` if a mapping has names that models or data do not."""
    ours = [name for spec in specs for name in spec.class_names]
    theirs = [c.name for c in data]
    for names, known in ((mapped, ours), ((n for group in mapped.values() for n in group), theirs)):
        if unknown := next((name for name in names if name not in known), None):
            raise DatasetError(
                f"--map {mapping} names {unknown!r}, which is not among {', '.join(known)}; "
                "correct it"
            )


def _groups(names: Sequence[str], links: Iterable[Group]) -> list[Group]:
    """Return the data's classes, grouped where they are one class of a model."""
    together = {name: {name} for name in names}
    for link in links:
        joined = set[str]().union(*(together[name] for name in link))
        together |= dict.fromkeys(joined, joined)
    return list(dict.fromkeys(tuple(n for n in names if n in together[name]) for name in names))


def _name(group: Group, specs: Sequence[ModelSpec], links: Sequence[list[Group]]) -> str:
    """Return a group's name: the data's, or that of the model's class that it is."""
    if len(group) == 1:
        return group[0]
    names = (
        name
        for spec, of_one in zip(specs, links, strict=True)
        for name, link in zip(spec.class_names, of_one, strict=True)
        if set(link) == set(group)
    )
    return next(names, "/".join(group))
