"""Translate FFmpeg's errors of opening, reading and writing videos."""

import contextlib
from collections.abc import Iterator
from pathlib import Path

import av

from roadseg.errors import VideoError
from roadseg.files import output_errors, special_kind
from roadseg.video.objects import is_object, object_errors


@contextlib.contextmanager
def read_errors(path: Path | str) -> Iterator[None]:
    """Translate errors of reading `path`."""
    try:
        with naming(path), object_errors(path) if is_object(path) else contextlib.nullcontext():
            yield
    except FileNotFoundError as error:
        raise VideoError(f"{path} does not exist; check the path") from error
    except IsADirectoryError as error:
        raise VideoError(f"{path} is a folder; give a video file") from error
    except PermissionError as error:
        raise VideoError(f"{path} may not be read; change its permissions") from error
    except av.error.ExitError as error:
        raise VideoError(
            f"{path} sent nothing for too long; check the address and the network"
        ) from error
    except av.FFmpegError as error:
        advice = (
            "check the address, and that it is of a video"
            if isinstance(path, str)
            else "give an intact video file, or repair this one with ffmpeg"
        )
        raise VideoError(
            f"{path} cannot be read as a video ({error.strerror}); {advice}"
        ) from error


def check_source(path: Path) -> None:
    """Check that a video, an image or a series of them can be read more than once.

    Raises:
        VideoError: It is empty, or a pipe, a socket or a device.
    """
    if kind := special_kind(path):
        raise VideoError(
            f"{path} is a {kind}, and a video is read more than once; give a file, or send the "
            "video to the standard input of: roadseg infer -"
        )
    if path.is_file() and path.stat().st_size == 0:
        raise VideoError(f"{path} is empty (0 bytes); give a video file")


@contextlib.contextmanager
def naming(path: Path | str) -> Iterator[None]:
    """Replace an address in FFmpeg's errors by the form without its secrets."""
    try:
        yield
    except av.FFmpegError as error:
        error.args = tuple(path if arg == path else arg for arg in error.args)
        raise


@contextlib.contextmanager
def write_errors(path: Path) -> Iterator[None]:
    """Translate errors of writing `path`, from the file system and from FFmpeg."""
    with output_errors(path):
        try:
            yield
        except av.FFmpegError as error:
            if isinstance(error, OSError):
                raise
            advice = (
                "try another --codec, or repair the input with ffmpeg"
                if path.suffix.lower() == ".mkv"
                else "choose an --out that ends in .mkv"
            )
            raise VideoError(
                f"{path} cannot be written: FFmpeg refuses this video in this format "
                f"({error.strerror}); {advice}"
            ) from error
