"""Write a video as numbered images, and list the images of a pattern."""

import contextlib
import os
import re
import unicodedata
from collections.abc import Iterator
from pathlib import Path
from types import TracebackType
from typing import Self

from roadseg.errors import OutputError, VideoError
from roadseg.files import check_writable, create, output_errors
from roadseg.video.encoded import JpegQuality, encoded
from roadseg.video.frame import Frame

NUMBER = re.compile(r"%(0\d+)?d")
"""Place of a frame's number in the name of an image, as in C and FFmpeg."""


def check_stills(pattern: Path, *, one: bool, overwrite: bool) -> None:
    """Find out early whether images can be written.

    Args:
        pattern: Their name, with `NUMBER` in it.
        one: Whether there is only one, whose name needs no number.
        overwrite: Whether existing ones may be replaced.

    Raises:
        VideoError: Their name has no place for a number, or some exist.
        OutputError: Their folder takes no files.
    """
    places = len(NUMBER.findall(pattern.name))
    if places > 1 or (places == 0 and not one):
        raise _one_name(pattern)
    first = next(stills_of(pattern), None)
    if first is not None and not overwrite:
        raise VideoError(f"{first[1]} exists; choose another folder or name, or add --overwrite")
    if pattern.parent.exists():
        check_writable(pattern)


def check_no_stills(part: Path) -> None:
    """Check that beginning images anew drops none that an unfinished run wrote.

    Args:
        part: Their name, with `NUMBER` in it, in the folder where they are until all are written.

    Raises:
        OutputError: There are some.
    """
    count = sum(1 for _ in stills_of(part))
    if count:
        raise OutputError(
            f"{part.parent} holds {count} images of an unfinished run, which cannot be resumed; "
            "move them away, or add --overwrite to begin anew"
        )


class StillWriter:
    """A video being written as images, numbered from zero as class maps are.

    Args:
        pattern: Their name, with `NUMBER` in it, in the folder of the part.
    """

    def __init__(self, pattern: Path) -> None:
        self._pattern = pattern
        self._count = 0

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        traceback: TracebackType | None,
    ) -> None:
        pass  # every image is closed

    def write(self, frame: Frame) -> None:
        """Write a frame, its pixels made square.

        Raises:
            OutputError: The file cannot be written.
            VideoError: There is a second frame, and the name is for one.
        """
        if self._count and not NUMBER.search(self._pattern.name):
            raise _one_name(self._pattern)
        data = encoded(frame.rgb(frame.shown_hw), JpegQuality.OUTPUT, self._pattern.suffix)
        write_still(self._pattern, self._count, data)
        self._count += 1


def _one_name(pattern: Path) -> VideoError:
    """Return the error for a name that is not a pattern of several images."""
    name = NUMBER.sub("", pattern.stem).rstrip("-_")
    return VideoError(
        f"{pattern} names one image, and there is one a frame; put their number into the name "
        f"once, such as {pattern.with_stem(f'{name}-%06d')}"
    )


def write_still(pattern: Path, number: int, data: bytes) -> None:
    """Write an image of a pattern in the folder of the part; number 0 clears the folder.

    Raises:
        OutputError: The file cannot be written.
    """
    path = pattern.with_name(_name(pattern, number))
    with output_errors(path):
        if number == 0:
            remove_stills(pattern)
            pattern.parent.mkdir(exist_ok=True)
        with create(path) as file:
            file.write(data)


def remove_stills(pattern: Path) -> None:
    """Remove the images of a pattern, and their folder if it holds nothing else."""
    for _, path in stills_of(pattern):
        path.unlink()
    with contextlib.suppress(OSError):  # it does not exist, or holds other files
        pattern.parent.rmdir()


def _name(pattern: Path, number: int) -> str:
    return NUMBER.sub(lambda place: f"{number:{place[1] or ''}}", pattern.name)


def stills_of(pattern: Path) -> Iterator[tuple[int, Path]]:
    """Yield the existing images of a pattern, each with its number.

    A pattern without a place for a number is the name of one image. On a file system that ignores
    case, so does this.
    """
    if not NUMBER.search(pattern.name):
        if os.path.lexists(pattern):
            yield 0, pattern
        return
    before, after = (
        re.escape(_folded(text)) for text in NUMBER.sub("\0", pattern.name).split("\0")
    )
    name = re.compile(rf"{before}(\d+){after}")
    matches = (name.fullmatch(_folded(path.name)) for path in pattern.parent.glob("*"))
    for number in sorted({int(match[1]) for match in matches if match}):
        still = pattern.with_name(_name(pattern, number))
        if os.path.lexists(still):
            yield number, still


def name_key(pattern: Path) -> str:
    """Return a key that is equal for patterns that can have an image in common."""
    return re.sub(r"\d+", "#", NUMBER.sub("0", pattern.name))


def _folded(name: str) -> str:
    return unicodedata.normalize("NFC", name).casefold()
