"""A folder of images, or those that a pattern finds, as a film."""

import contextlib
import re
from collections.abc import Iterator
from fractions import Fraction
from pathlib import Path

import av

from roadseg.errors import VideoError
from roadseg.video.errors import read_errors
from roadseg.video.pyav import open_for_reading

SUFFIXES = (".jpg", ".jpeg", ".png", ".bmp", ".tif", ".tiff", ".webp")
"""Files of a folder that count as images."""
WILDCARD = re.compile(r"[*?]|\[[^]]+\]")
"""What tells a pattern from a name."""


def is_series(source: Path) -> bool:
    """Return whether a path is a folder or a pattern, not one file.

    A bracket alone is no pattern: names of films have them too.
    """
    return source.is_dir() or (not source.exists() and bool(WILDCARD.search(str(source))))


def is_one_picture(source: Path) -> bool:
    """Return whether a path is that of a picture, or of a folder or pattern with one in it."""
    if is_series(source):
        return len(find_images(source)) == 1
    return source.suffix.lower() in SUFFIXES


def find_images(source: Path) -> tuple[Path, ...]:
    """Return the images of a folder or pattern in natural order: 2.png before 10.png.

    Raises:
        VideoError: There is none.
    """
    if source.is_dir():
        found = [p for p in source.iterdir() if p.suffix.lower() in SUFFIXES and not p.is_dir()]
        fault = (
            f"holds no image; give a folder of files that end in {', '.join(SUFFIXES)}, or a film"
        )
    else:
        found = [path for path in _matches(source) if not path.is_dir()]
        fault = (
            "does not exist, and as a pattern it finds no image; check the path, and put a pattern "
            "in quotes"
        )
    if not found:
        raise VideoError(f"{source} {fault}")
    return tuple(sorted(found, key=_natural))


def _matches(pattern: Path) -> Iterator[Path]:
    """Yield what a pattern finds; one that is none, such as a**b, finds nothing."""
    with contextlib.suppress(ValueError):
        yield from Path(pattern.anchor or ".").glob(str(pattern.relative_to(pattern.anchor)))


def read_image(path: Path) -> av.VideoFrame:
    """Return an image file's frame.

    Raises:
        VideoError: It cannot be read.
    """
    with (
        read_errors(path),
        path.open("rb") as file,
        open_for_reading(file) as container,
    ):
        for frame in container.decode(video=0):
            return frame
    raise VideoError(f"{path} holds no image; give an intact file")


def read_images(
    paths: tuple[Path, ...], fps: Fraction, unreadable: list[Path]
) -> Iterator[av.VideoFrame]:
    """Yield the images that can be read, each with its place in the series as its time.

    Args:
        paths: Files.
        fps: Images a second.
        unreadable: Is given the files that cannot be read.
    """
    for number, path in enumerate(paths):
        try:
            frame = read_image(path)
        except VideoError:
            unreadable.append(path)
            continue
        frame.pts, frame.time_base = number, 1 / fps
        yield frame


def _natural(path: Path) -> list[tuple[int, str]]:
    """Return a key by which numbers in a name count as numbers."""
    parts = re.split(r"(\d+)", str(path))
    return [(int(part), "") if part.isdecimal() else (-1, part) for part in parts]
