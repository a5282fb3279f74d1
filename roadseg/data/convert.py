"""Convert class maps into the formats of other programs and data sets."""

import json
import os
from collections.abc import Callable, Iterable, Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any
from xml.sax.saxutils import quoteattr

import cv2
import numpy as np
from numpy.typing import NDArray

from roadseg.data.label_files import decode, palette_of, read_bytes, with_indices_shown
from roadseg.data.meaning import LabelMeaning
from roadseg.data.regions import Polygon, box_of, coco_counts, masks_of, polygons, run_lengths
from roadseg.data.sets import classes_named
from roadseg.errors import ConfigError, DatasetError
from roadseg.files import is_hidden, new_folder, output_errors, replacing
from roadseg.spec import CLASS_NAMES, IGNORE_INDEX, UNLABELLED

CITYSCAPES_IDS = {
    "sky": 23,
    "building": 11,
    "pole": 17,
    "road": 7,
    "pavement": 8,
    "tree": 21,
    "sign": 20,
    "fence": 13,
    "car": 26,
    "pedestrian": 24,
    "bicyclist": 25,
}
"""Ids of our classes among Cityscapes' labelIds; a tree is vegetation there, a bicyclist rider."""
STEM = "{}"
"""Stands for a mask's name in the name of its picture."""
DIGITS = 6


@dataclass(frozen=True)
class Labelled:
    """A class map, and the picture that it belongs to."""

    stem: str
    """Name of the mask without its suffix."""
    picture: str
    """Name or address of the picture."""
    ids: NDArray[np.uint8]
    """(H, W) class ids."""


def find_masks(folder: Path) -> tuple[Path, ...]:
    """Return the files of a folder of `roadseg infer --masks`.

    Raises:
        DatasetError: There is none.
    """
    paths = tuple(sorted(path for path in folder.glob("*.png") if not is_hidden(path)))
    if not paths:
        raise DatasetError(
            f"{folder} holds no masks; give the folder of roadseg infer --masks, with PNG files"
        )
    return paths


def read_masks(paths: Iterable[Path], picture: str) -> Iterator[Labelled]:
    """Yield the class maps in PNG files, which are grey or have a palette.

    Args:
        paths: The files.
        picture: Name of a mask's picture, with `STEM` for the mask's own.

    Raises:
        DatasetError: One cannot be read.
    """
    for path in paths:
        data = read_bytes(path)
        if palette_of(data) is not None:
            ids = decode(with_indices_shown(data), cv2.IMREAD_COLOR, path)[..., 0]
        else:
            ids = decode(data, cv2.IMREAD_UNCHANGED, path)
        if ids.ndim != 2 or ids.dtype != np.uint8:
            raise DatasetError(f"{path} is no mask of class ids; give 8-bit grey or palette PNGs")
        yield Labelled(path.stem, picture.replace(STEM, path.stem), ids)


def class_names_in(path: Path) -> tuple[str, ...]:
    """Return the names in a class file by id, as a model that was trained with it has them.

    Unlabelled comes last if the file gives it the id behind theirs.

    Raises:
        DatasetError: It is no class file, or its ids are not those of the model.
    """
    meaning = LabelMeaning.read(path)
    names = [c.name for c in classes_named(meaning)]
    stated = {i: meaning.classes[n].name for i, n in meaning.ids.items() if n != IGNORE_INDEX}
    ids = dict(enumerate(names))
    if wrong := [i for i, name in stated.items() if ids.get(i) != name]:
        raise DatasetError(
            f"{path} gives the id {wrong[0]} to {stated[wrong[0]]}; a model that was trained with "
            f"it has {', '.join(f'{i} {name}' for i, name in ids.items())}; give a file with these "
            "ids"
        )
    return (*names, UNLABELLED) if meaning.ids.get(len(names)) == IGNORE_INDEX else tuple(names)


def convert(masks: Iterable[Labelled], kind: str, out: Path, names: Sequence[str]) -> None:
    """Write class maps in another format.

    Args:
        masks: The class maps.
        kind: One of `FORMATS`.
        out: File or folder to write, as `check_target` allows.
        names: Names of the classes by id; a last one called unlabelled is left out.

    Raises:
        ConfigError: The format has no such classes.
        DatasetError: A class map has an id without a name.
        OutputError: The target cannot be written.
    """
    form, masks = FORMATS[kind], _named(masks, names)
    known = names[:-1] if names[-1] == UNLABELLED else names
    if form.suffix:
        with replacing(out) as temporary:
            form.write(masks, temporary, known)
        return
    with new_folder(out) as temporary, output_errors(out):
        form.write(masks, temporary, known)


def _named(masks: Iterable[Labelled], names: Sequence[str]) -> Iterator[Labelled]:
    """Yield class maps, as all their ids have names. Raises `DatasetError`."""
    for item in masks:
        ids = np.unique(item.ids)
        if strays := ids[(ids >= len(names)) & (ids != IGNORE_INDEX)].tolist():
            raise DatasetError(
                f"{item.stem}.png has the id {strays[0]}, and there are names for 0 to "
                f"{len(names) - 1}; name the classes of its model with --classes"
            )
        yield item


def check_target(kind: str, out: Path, *, overwrite: bool) -> None:
    """Find out early whether a format can be written there.

    Raises:
        ConfigError: The format is unknown, or the target's name does not fit it or is taken.
    """
    if kind not in FORMATS:
        raise ConfigError(f"--to is {kind!r}; use one of: {', '.join(FORMATS)}")
    suffix = FORMATS[kind].suffix
    if suffix and out.suffix.lower() != suffix:
        raise ConfigError(f"--out is {out}, and {kind} is a file; end its name in {suffix}")
    if os.path.lexists(out) and not (suffix and overwrite and out.is_file()):
        advice = " or add --overwrite" if suffix else ""
        raise ConfigError(f"--out {out} exists; choose another name{advice}")


def _write_coco(masks: Iterable[Labelled], out: Path, names: Sequence[str]) -> None:
    """Write COCO's JSON: an annotation for each class in a picture, ids from 1 as COCO's are."""
    images: list[dict[str, Any]] = []
    annotations: list[dict[str, Any]] = []
    for number, item in enumerate(masks, 1):
        height, width = item.ids.shape
        images.append({"id": number, "file_name": item.picture, "height": height, "width": width})
        for class_id, mask in masks_of(item.ids, len(names)):
            counts = coco_counts(run_lengths(mask.ravel(order="F")))
            annotations.append(
                {
                    "id": len(annotations) + 1,
                    "image_id": number,
                    "category_id": class_id + 1,
                    "segmentation": {"size": [height, width], "counts": counts},
                    "area": int(mask.sum()),
                    "bbox": box_of(mask),
                    "iscrowd": 0,
                }
            )
    categories = [{"id": number, "name": name} for number, name in enumerate(names, 1)]
    record = {"images": images, "annotations": annotations, "categories": categories}
    out.write_text(json.dumps(record))


def _write_yolo(masks: Iterable[Labelled], out: Path, names: Sequence[str]) -> None:
    """Write a file of polygons for each mask, in shares of the picture, and the names."""
    (out / "labels").mkdir()
    for item in masks:
        height, width = item.ids.shape
        lines = []
        for polygon in polygons(item.ids, len(names)):
            shares = (polygon.points + 0.5) / (width, height)
            numbers = " ".join(f"{share:.{DIGITS}f}" for share in shares.ravel())
            lines.append(f"{polygon.class_id} {numbers}\n")
        (out / "labels" / f"{item.stem}.txt").write_text("".join(lines))
    quoted = (json.dumps(name, ensure_ascii=False) for name in names)  # to YAML, a bare no is false
    listed = "".join(f"  {class_id}: {name}\n" for class_id, name in enumerate(quoted))
    text = f"path: .\ntrain: images\nval: images\nnames:\n{listed}"
    (out / "data.yaml").write_text(text, encoding="utf-8")


def _write_cityscapes(masks: Iterable[Labelled], out: Path, names: Sequence[str]) -> None:
    """Write a PNG of Cityscapes' ids for each mask, 0 where ours are unlabelled.

    Raises:
        ConfigError: A class is none of ours.
    """
    if unknown := [name for name in names if name not in CITYSCAPES_IDS]:
        raise ConfigError(
            f"--to cityscapes knows {', '.join(CITYSCAPES_IDS)}, and --classes has "
            f"{', '.join(unknown)}; choose another format"
        )
    table = np.zeros(256, np.uint8)
    table[: len(names)] = [CITYSCAPES_IDS[name] for name in names]
    for item in masks:
        data = cv2.imencode(".png", table[item.ids])[1]
        (out / f"{item.stem}_gtFine_labelIds.png").write_bytes(data.tobytes())


def _write_label_studio(masks: Iterable[Labelled], out: Path, names: Sequence[str]) -> None:
    """Write tasks with predictions, for a labelling setup with `PolygonLabels`."""
    tasks = []
    for item in masks:
        found = [
            _label_studio_result(p, item.ids.shape, names) for p in polygons(item.ids, len(names))
        ]
        prediction = {"model_version": "roadseg", "result": found}
        tasks.append({"data": {"image": item.picture}, "predictions": [prediction]})
    out.write_text(json.dumps(tasks))


def _label_studio_result(
    polygon: Polygon, size_hw: tuple[int, ...], names: Sequence[str]
) -> dict[str, Any]:
    height, width = size_hw
    percent = (polygon.points + 0.5) / (width, height) * 100
    return {
        "type": "polygonlabels",
        "from_name": "label",
        "to_name": "image",
        "original_width": width,
        "original_height": height,
        "image_rotation": 0,
        "value": {
            "points": percent.round(DIGITS).tolist(),
            "polygonlabels": [names[polygon.class_id]],
            "closed": True,
        },
    }


def _write_cvat(masks: Iterable[Labelled], out: Path, names: Sequence[str]) -> None:
    """Write CVAT's XML for images, version 1.1: a mask for each class in a picture."""
    with out.open("w", encoding="utf-8") as file:
        file.write('<?xml version="1.0" encoding="utf-8"?>\n<annotations>\n')
        file.write("  <version>1.1</version>\n")
        for number, item in enumerate(masks):
            height, width = item.ids.shape
            name = quoteattr(item.picture)
            file.write(f'  <image id="{number}" name={name} width="{width}" height="{height}">\n')
            for class_id, mask in masks_of(item.ids, len(names)):
                file.write(_cvat_mask(names[class_id], mask))
            file.write("  </image>\n")
        file.write("</annotations>\n")


def _cvat_mask(name: str, mask: NDArray[np.bool_]) -> str:
    left, top, width, height = box_of(mask)
    inside = mask[top : top + height, left : left + width]
    counts = ", ".join(map(str, run_lengths(inside.ravel())))
    return (
        f'    <mask label={quoteattr(name)} source="auto" occluded="0" rle="{counts}" '
        f'left="{left}" top="{top}" width="{width}" height="{height}" z_order="0"></mask>\n'
    )


@dataclass(frozen=True)
class Format:
    """A format of another program."""

    suffix: str
    """Suffix of its file; empty if it is a folder."""
    write: Callable[[Iterable[Labelled], Path, Sequence[str]], None]
    """Writes class maps with the names of their classes into a new file or an empty folder."""


FORMATS = {
    "coco-rle": Format(".json", _write_coco),
    "yolo-polygons": Format("", _write_yolo),
    "cityscapes": Format("", _write_cityscapes),
    "label-studio": Format(".json", _write_label_studio),
    "cvat": Format(".xml", _write_cvat),
}
"""The formats by name."""
DEFAULT_NAMES = CLASS_NAMES
"""Names of the classes of our own models, by id."""
