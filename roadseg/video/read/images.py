"""Read the images of a folder or a pattern as a video."""

import contextlib
import re
from collections.abc import Iterator
from fractions import Fraction
from io import BytesIO
from pathlib import Path
from typing import Literal

import av

from roadseg.errors import VideoError
from roadseg.files import is_hidden
from roadseg.video.encoded import IMAGE_SUFFIXES, has_image_suffix
from roadseg.video.errors import check_source, read_errors
from roadseg.video.pyav import open_for_reading
from roadseg.video.read.read_log import ReadLog

EXIF = re.compile(rb"(?:Exif\0\0|eXIf|EXIF.{4}|^)(?:Exif\0\0)?(?P<record>II\*\0|MM\0\*)", re.DOTALL)
"""Header of an Exif record in a JPEG, PNG or WebP file; a TIFF file is one itself."""
ORIENTATION = 0x0112
"""Exif tag of the picture's orientation."""
EXIF_TURNS = (
    (1, 0, 0, 1),
    (-1, 0, 0, 1),
    (-1, 0, 0, -1),
    (1, 0, 0, -1),
    (0, 1, 1, 0),
    (0, 1, -1, 0),
    (0, -1, -1, 0),
    (0, -1, 1, 0),
)
"""Orientations, as `Picture.turned` takes them, by the values 1 to 8 of that tag (Exif 2.3)."""
WILDCARD = re.compile(r"[*?]|\[[^]]+\]")
"""Wildcards, by which a pattern differs from a name."""


def is_series(source: Path) -> bool:
    """Return whether a path is a folder or a pattern, not one file.

    A bracket alone is no pattern, as names of videos have them too.
    """
    return source.is_dir() or (not source.exists() and bool(WILDCARD.search(str(source))))


def is_one_picture(source: Path) -> bool:
    """Return whether a path is a picture, or a folder or pattern with a single one."""
    return is_picture(source) or (is_series(source) and len(find_images(source)) == 1)


def is_picture(source: Path) -> bool:
    """Return whether a path is a picture file."""
    return source.is_file() and has_image_suffix(source)


def find_images(source: Path) -> tuple[Path, ...]:
    """Return the images of a folder or pattern in natural order, 2.png before 10.png, or the file.

    Raises:
        VideoError: There is none, or the folder may not be read.
    """
    if is_picture(source):
        return (source,)
    if source.is_dir():
        with read_errors(source):
            files = (path for path in source.iterdir() if not (is_hidden(path) or path.is_dir()))
            found = list(filter(has_image_suffix, files))
        endings = ", ".join(IMAGE_SUFFIXES)
        fault = (
            f"holds no video and no image; give a video, a folder of videos, or one of images, "
            f"which end in {endings}"
        )
    else:
        found = [path for path in _matches(source) if not path.is_dir()]
        fault = (
            "does not exist, and as a pattern it finds no video and no image; check the path, and "
            "put a pattern in quotes"
        )
    if not found:
        raise VideoError(f"{source} {fault}")
    return tuple(sorted(found, key=natural_key))


def _matches(pattern: Path) -> Iterator[Path]:
    """Yield the matches of a pattern, as shells do; an invalid one, such as a**b, has none."""
    with contextlib.suppress(ValueError):
        for path in Path(pattern.anchor or ".").glob(str(pattern.relative_to(pattern.anchor))):
            if is_hidden(pattern) or not is_hidden(path):
                yield path


def exif_turn(picture: bytes) -> tuple[int, int, int, int]:
    """Return the orientation in a picture file's Exif record, as `Picture.turned` takes it.

    FFmpeg reports rotations only, and not mirroring.
    """
    found = EXIF.search(picture)
    if found is None:
        return EXIF_TURNS[0]
    record = picture[found.start("record") :]
    order: Literal["little", "big"] = "little" if record.startswith(b"II") else "big"

    def number(place: int, size: int) -> int:
        return int.from_bytes(record[place : place + size], order)

    first = number(4, 4)
    entries = range(first + 2, first + 2 + 12 * number(first, 2), 12)
    turns = (number(entry + 8, 2) for entry in entries if number(entry, 2) == ORIENTATION)
    turn = next(turns, 1)
    return EXIF_TURNS[turn - 1] if 1 <= turn <= len(EXIF_TURNS) else EXIF_TURNS[0]


def read_image(path: Path, log: ReadLog) -> av.VideoFrame:
    """Return an image file's frame, with the orientation as its `opaque`.

    Args:
        path: File.
        log: It is added to, if parts of the picture are missing.

    Raises:
        VideoError: It cannot be read.
    """
    check_source(path)
    with read_errors(path):
        picture = path.read_bytes()
        try:
            frame = _decoded(picture, is_strict=True)
        except av.FFmpegError:
            frame = _decoded(picture, is_strict=False)
            log.torn.append(path)
    if frame is None:
        raise VideoError(f"{path} holds no image; give an intact file")
    frame.opaque = exif_turn(picture)
    return frame


def _decoded(picture: bytes, *, is_strict: bool) -> av.VideoFrame | None:
    """Return a picture file's first frame.

    Args:
        picture: The file.
        is_strict: Whether to refuse a JPEG that is damaged, of which FFmpeg otherwise gives as much
            as there is without a word. It refuses other damaged pictures in any case.

    Raises:
        FFmpegError: There is none, or it is damaged.
    """
    with open_for_reading(BytesIO(picture)) as container:
        decoder = container.streams.video[0].codec_context
        if is_strict and decoder.name == "mjpeg":
            decoder.options = {"err_detect": "explode"}
        return next(container.decode(video=0), None)


def read_images(paths: tuple[Path, ...], fps: Fraction, log: ReadLog) -> Iterator[av.VideoFrame]:
    """Yield the images that can be read, timed by their position in the series.

    Args:
        paths: Files.
        fps: Images a second.
        log: Those that cannot be read, or not whole, are added to it.
    """
    for number, path in enumerate(paths):
        try:
            frame = read_image(path, log)
        except VideoError:
            log.unreadable.append(path)
            continue
        frame.pts, frame.time_base = number, 1 / fps
        yield frame


def natural_key(path: Path) -> list[tuple[int, str]]:
    """Return a sort key in which numbers in a name count as numbers."""
    parts = re.split(r"(\d+)", str(path))
    return [(int(part), "") if part.isdecimal() else (-1, part) for part in parts]
