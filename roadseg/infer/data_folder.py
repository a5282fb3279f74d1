"""Write a data set that `roadseg train` takes and people can look at.

The layout is `roadseg.data.folder`'s: `train/` with pictures, `trainannot/` with labels, and
`classes.csv`. Labels are PNG files with a palette, so that viewers show them in colours; the file
of classes has no colours, and so they are read as ids.
"""

import csv
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Self

import cv2
import numpy as np
from numpy.typing import NDArray

from roadseg.data.meaning import CLASS_FILE, SET_SEPARATOR, UNKNOWN
from roadseg.errors import OutputError
from roadseg.files import make_folder, new_folder, output_errors
from roadseg.settings import Color
from roadseg.spec import IGNORE_INDEX, UNLABELLED, ModelSpec
from roadseg.video.encoded import JpegQuality, encoded
from roadseg.video.frame import Frame
from roadseg.video.write.masks import with_palette


class DataFolder:
    """A data set being written.

    Args:
        folder: Folder that exists and is empty.
        spec: The classes, and their colours.
    """

    def __init__(self, folder: Path, spec: ModelSpec) -> None:
        self._folder = folder
        self._names = list(spec.class_names)
        self._palette: list[Color] = list(spec.palette)
        for name in ("train", "trainannot"):
            make_folder(folder / name)

    @property
    def names(self) -> tuple[str, ...]:
        """Names of the labels by id."""
        return tuple(self._names)

    def label_of(self, members: Sequence[int]) -> int:
        """Return the id of the label for one class or a set of them, `IGNORE_INDEX` for too many.

        Args:
            members: Ids of classes.
        """
        name = SET_SEPARATOR.join(self._names[i] for i in members)
        if name not in self._names:
            if len(self._names) == UNKNOWN - 1:  # as many as can be read
                return IGNORE_INDEX
            levels = np.mean([self._palette[i] for i in members], axis=0).round().astype(int)
            self._names.append(name)
            self._palette.append((int(levels[0]), int(levels[1]), int(levels[2])))
        return self._names.index(name)

    def add(self, name: str, frame: Frame, target: NDArray[np.uint8]) -> None:
        """Write a picture, its pixels made square, and its labels.

        Args:
            name: Name of both files, without suffix.
            frame: The picture.
            target: (H, W) ids of labels, `IGNORE_INDEX` where there is none.
        """
        label = cv2.resize(target, frame.shown_hw[::-1], interpolation=cv2.INTER_NEAREST)
        data = with_palette(cv2.imencode(".png", label)[1].tobytes(), self._palette)
        for path, content in (
            (
                self._folder / "train" / f"{name}.jpg",
                encoded(frame.rgb(frame.shown_hw), JpegQuality.OUTPUT),
            ),
            (self._folder / "trainannot" / f"{name}.png", data),
        ):
            with output_errors(path):
                path.write_bytes(content)

    def note(self, name: str, text: str) -> None:
        """Write a text file beside the pictures."""
        with output_errors(self._folder / name):
            (self._folder / name).write_text(text, encoding="utf-8")

    def finish(self) -> None:
        """Write what the labels mean."""
        path = self._folder / CLASS_FILE
        with output_errors(path), path.open("w", newline="", encoding="utf-8") as file:
            rows = csv.writer(file)
            rows.writerow(["name", "id"])
            rows.writerows([name, number] for number, name in enumerate(self._names))
            rows.writerow([UNLABELLED, IGNORE_INDEX])

    @classmethod
    @contextmanager
    def written(cls, out: Path, spec: ModelSpec) -> Iterator[Self]:
        """Give a new data set, which is at its place when the block is left, whole or not at all.

        Raises:
            OutputError: There is something else, or it cannot be written.
        """
        check_out(out)
        with new_folder(out) as temporary:
            folder = cls(temporary, spec)
            yield folder
            folder.finish()


def check_out(out: Path) -> None:
    """Raise `OutputError` if there is something where a data set is to be."""
    if out.exists() and not (out.is_dir() and not any(out.iterdir())):
        raise OutputError(f"--out {out} exists; choose another folder, or move it away")
