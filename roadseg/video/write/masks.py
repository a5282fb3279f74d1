"""Write class maps: a folder of PNG files, or a lossless video whose grey levels are class ids.

A PNG file holds the ids as grey levels, or as indices into a palette, which shows them in colour.
"""

import os
from collections.abc import Iterator, Sequence
from fractions import Fraction
from itertools import count
from pathlib import Path

import av
import cv2
from av.video.reformatter import ColorRange

from roadseg.errors import ConfigError, VideoError
from roadseg.files import check_writable, is_ours
from roadseg.video.errors import write_errors
from roadseg.video.frame import SegmentedFrame
from roadseg.video.png import PALETTE_TYPE, SIGNATURE, chunk, chunks
from roadseg.video.write.sink import open_film
from roadseg.video.write.stills import stills_of, write_still

MASK_NAME = "%06d.png"
"""File name of a class map, by the number of its frame in the output."""
FILM_SUFFIX = ".mkv"
"""Suffix of a video of class maps; any other name is a folder."""


def is_mask_film(target: Path) -> bool:
    """Return whether class maps are written to a video, not to a folder."""
    return target.suffix.lower() == FILM_SUFFIX


def check_masks(target: Path, *, in_colors: bool, overwrite: bool) -> None:
    """Find out early whether class maps can be written.

    Args:
        target: Folder or video.
        in_colors: Whether they get a palette.
        overwrite: Whether existing files may be replaced.

    Raises:
        ConfigError: A video cannot have a palette.
        VideoError: The target exists, and `overwrite` is off.
        OutputError: Their folder takes no files.
    """
    if is_mask_film(target):
        if in_colors:
            raise ConfigError(
                f"--mask-format palette is for PNG files, and --masks {target} is a video of grey "
                "levels; give a folder, or leave out --mask-format"
            )
        if os.path.lexists(target) and not overwrite:
            raise VideoError(f"--masks {target} exists; choose another name or add --overwrite")
        check_writable(target)
    elif os.path.lexists(target) and not target.is_dir():
        raise VideoError(f"--masks {target} is a file; give a folder, or a name in {FILM_SUFFIX}")
    elif target.is_dir() and not overwrite and not all(map(is_ours, target.iterdir())):
        raise VideoError(f"--masks {target} holds files; choose another folder or add --overwrite")


def check_kept_masks(part: Path, target: Path, kept: int) -> None:
    """Check that an unfinished run left the class maps of the frames that are kept.

    Args:
        part: Where it wrote them.
        target: Their final place.
        kept: Frames that are kept.

    Raises:
        VideoError: It did not, or they are in a video, which cannot be resumed.
    """
    if is_mask_film(part):
        raise VideoError(
            f"--masks {target} cannot be resumed; give a folder, or begin anew with --overwrite "
            "instead of --resume"
        )
    missing = set(range(kept)).difference(number for number, _ in stills_of(part))
    if missing:
        raise VideoError(
            f"the unfinished run left no class map of frame {min(missing)} for --masks "
            f"{target.parent}; leave out --masks, or begin anew with --overwrite instead of "
            "--resume"
        )


def save_masks(
    items: Iterator[SegmentedFrame], *, place: Path, first: int, fps: Fraction, in_colors: bool
) -> Iterator[SegmentedFrame]:
    """Stage: write every class map.

    Args:
        items: Frames with their class maps.
        place: Part to write: a file, or a pattern in a folder.
        first: Number of the first frame in the video.
        fps: Frames a second, for a video of class maps.
        in_colors: Give images a palette: the colours of the classes.
    """
    if is_mask_film(place):
        return _save_as_film(items, place, fps)
    return _save_as_images(items, place, first, in_colors=in_colors)


def _save_as_images(
    items: Iterator[SegmentedFrame], pattern: Path, first: int, *, in_colors: bool
) -> Iterator[SegmentedFrame]:
    numbers = count(first)
    for item in items:
        data = cv2.imencode(".png", item.class_map)[1].tobytes()
        if in_colors:
            data = with_palette(data, item.spec.palette)
        write_still(pattern, next(numbers), data)
        yield item
        del item


def with_palette(png: bytes, palette: Sequence[tuple[int, int, int]]) -> bytes:
    """Return an 8-bit grey PNG as one whose levels are indices into a palette.

    The two differ in the header's colour type, and in the palette after the header.
    """
    (name, header), *rest = chunks(png)
    header = header[:9] + bytes([PALETTE_TYPE]) + header[10:]
    colors = bytes(level for color in palette for level in color).ljust(3 * 256, b"\0")
    parts = [(name, header), (b"PLTE", colors), *rest]
    return SIGNATURE + b"".join(chunk(*part) for part in parts)


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
            del item, picture
        if stream is not None:
            container.mux(stream.encode(None))
