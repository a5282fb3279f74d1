"""Class maps as files: a folder of PNGs, or a lossless film whose grey levels are class ids."""

import contextlib
import shutil
from collections.abc import Iterator
from fractions import Fraction
from pathlib import Path

import av
import cv2
from av.video.reformatter import ColorRange

from roadseg.errors import VideoError
from roadseg.files import output_errors, temporary_path
from roadseg.frame import SegmentedFrame
from roadseg.video.errors import write_errors
from roadseg.video.part import part_path
from roadseg.video.writing import open_film

MASK_NAME = "{:06d}.png"
"""File name of a class map, by the number of its frame in the output."""
FILM_SUFFIX = ".mkv"
"""What tells a film of class maps from a folder."""


@contextlib.contextmanager
def place_for_masks(
    target: Path | None, film: Path | None, kept: int, *, overwrite: bool
) -> Iterator[Path | None]:
    """Give a name for class maps; they take their own when the block ends without an error.

    Where a part of the film stays for another run, so does a folder of its class maps.

    Args:
        target: Where they shall be in the end; None if they are not wanted.
        film: Film that they belong to, if there is one.
        kept: Frames of an unfinished run that are kept.
        overwrite: Replace what is there.

    Raises:
        VideoError: There is something, and `overwrite` is off; or the class maps of the unfinished
            run are not there.
        OutputError: They cannot be written.
    """
    if target is None:
        yield None
    elif target.suffix.lower() == FILM_SUFFIX:
        with _place_for_film(target.resolve(), kept, overwrite=overwrite) as place:
            yield place
    else:
        with _place_for_folder(target.resolve(), film, kept, overwrite=overwrite) as place:
            yield place


@contextlib.contextmanager
def _place_for_film(target: Path, kept: int, *, overwrite: bool) -> Iterator[Path]:
    if target.exists() and not overwrite:
        raise VideoError(f"--masks {target} exists; choose another name or add --overwrite")
    if kept:
        raise VideoError(
            f"--masks {target} cannot be resumed; give a folder, or leave out --resume"
        )
    temporary = temporary_path(target)
    try:
        yield temporary
        with output_errors(target):
            temporary.replace(target)
    finally:
        temporary.unlink(missing_ok=True)


@contextlib.contextmanager
def _place_for_folder(
    target: Path, film: Path | None, kept: int, *, overwrite: bool
) -> Iterator[Path]:
    if target.exists() and not target.is_dir():
        raise VideoError(f"--masks {target} is a file; give a folder, or a name in {FILM_SUFFIX}")
    if target.is_dir() and any(target.iterdir()) and not overwrite:
        raise VideoError(f"--masks {target} holds files; choose another folder or add --overwrite")
    temporary = target.with_name(f".{target.name}.part")
    if kept and not (temporary / MASK_NAME.format(kept - 1)).is_file():
        raise VideoError(
            f"the unfinished run left no class maps for --masks {target}; leave out --masks, "
            "or leave out --resume to begin anew"
        )
    with output_errors(target):
        if not kept:
            shutil.rmtree(temporary, ignore_errors=True)
        temporary.mkdir(exist_ok=True)
    try:
        yield temporary
        with output_errors(target):
            _move_masks(temporary, target)
    finally:
        if film is None or not part_path(film).exists():
            shutil.rmtree(temporary, ignore_errors=True)


def _move_masks(source: Path, target: Path) -> None:
    """Move the class maps to their folder and remove those of a longer film from it."""
    target.mkdir(exist_ok=True)
    new = {path.name for path in source.iterdir()}
    for name in new:
        (source / name).replace(target / name)
    for path in target.glob("[0-9]" * 6 + ".png"):
        if path.name not in new:
            path.unlink()


def save_masks(
    items: Iterator[SegmentedFrame], *, place: Path, first: int, fps: Fraction
) -> Iterator[SegmentedFrame]:
    """Stage: write every class map.

    Args:
        items: Frames with their class maps.
        place: Name that `place_for_masks` gave.
        first: Number of the first of them in the film.
        fps: Frames a second, for a film of class maps.
    """
    if place.suffix.lower() == FILM_SUFFIX:
        return _save_as_film(items, place, fps)
    return _save_as_images(items, place, first)


def _save_as_images(
    items: Iterator[SegmentedFrame], folder: Path, first: int
) -> Iterator[SegmentedFrame]:
    for number, item in enumerate(items, first):
        _, data = cv2.imencode(".png", item.class_map)
        path = folder / MASK_NAME.format(number)
        with output_errors(path):
            path.write_bytes(data.tobytes())
        yield item


def _save_as_film(
    items: Iterator[SegmentedFrame], path: Path, fps: Fraction
) -> Iterator[SegmentedFrame]:
    with write_errors(path), open_film(path, {}) as container:
        stream = None
        for item in items:
            if stream is None:
                stream = container.add_stream("ffv1", rate=fps)
                stream.height, stream.width = item.class_map.shape
                stream.pix_fmt = "gray"
                stream.codec_context.color_range = ColorRange.JPEG
                stream.time_base = stream.codec_context.time_base = item.frame.time_base
            picture = av.VideoFrame.from_ndarray(item.class_map, "gray")
            picture.pts, picture.time_base = item.frame.pts, item.frame.time_base
            container.mux(stream.encode(picture))
            yield item
        if stream is not None:
            container.mux(stream.encode(None))
