"""Write a film as images: a file a frame, numbered from zero as class maps are."""

import re
from collections.abc import Iterator
from pathlib import Path
from types import TracebackType
from typing import Self

import cv2

from roadseg.errors import VideoError
from roadseg.files import check_writable, make_folder, output_errors, replacing
from roadseg.frame import Frame

JPEG_QUALITY = 92
NUMBER = re.compile(r"%(0\d+)?d")
"""Stands for a frame's number in the name of an image, as in C and FFmpeg."""


def check_stills(pattern: Path, *, one: bool, overwrite: bool) -> None:
    """Find out early whether images can be written.

    Args:
        pattern: Their name, with `NUMBER` in it.
        one: There is one, whose name needs no number.
        overwrite: Replace those that there are.

    Raises:
        VideoError: Their name has no place for a number, or there are some.
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


class StillWriter:
    """A film being written as images; each is there as soon as it is whole.

    Args:
        pattern: Their name, with `NUMBER` in it.
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
        if kind is None:  # a longer film may have been there
            with output_errors(self._pattern):
                for number, path in stills_of(self._pattern):
                    if number >= self._count:
                        path.unlink()

    def write(self, frame: Frame) -> None:
        """Write a frame, its pixels made square.

        Raises:
            OutputError: The file cannot be written.
            VideoError: It is the second under a name for one.
        """
        if self._count and not NUMBER.search(self._pattern.name):
            raise _one_name(self._pattern)
        if not self._count:
            make_folder(self._pattern.parent)
        path = self._pattern.with_name(_name(self._pattern, self._count))
        height, width = frame.picture.size_hw
        rgb = frame.rgb((height, round(width * frame.pixel_aspect)))
        picture = cv2.cvtColor(rgb, cv2.COLOR_RGB2BGR)
        quality = [cv2.IMWRITE_JPEG_QUALITY, JPEG_QUALITY]
        _, data = cv2.imencode(path.suffix, picture, quality)
        with replacing(path) as temporary:
            temporary.write_bytes(data.tobytes())
        self._count += 1


def _one_name(pattern: Path) -> VideoError:
    """Return the error that a name is wrong for the images of a film."""
    name = NUMBER.sub("", pattern.stem).rstrip("-_")
    return VideoError(
        f"{pattern} names one image, and there is one a frame; put their number into the name "
        f"once, such as {pattern.with_stem(f'{name}-%06d')}"
    )


def _name(pattern: Path, number: int) -> str:
    return NUMBER.sub(lambda place: f"{number:{place[1] or ''}}", pattern.name)


def stills_of(pattern: Path) -> Iterator[tuple[int, Path]]:
    """Yield the images of a pattern that there are, each with its number."""
    before, *after = (re.escape(text) for text in NUMBER.split(pattern.name)[::2])
    if not after and pattern.exists():
        yield 0, pattern
    if len(after) != 1:
        return
    name = re.compile(rf"{before}(\d+){after[0]}")
    for path in sorted(pattern.parent.glob("*")):
        match = name.fullmatch(path.name)
        if match and _name(pattern, int(match[1])) == path.name:
            yield int(match[1]), path
