"""The one place where FFmpeg's errors become ours."""

import contextlib
from collections.abc import Iterator
from pathlib import Path

import av

from roadseg.errors import VideoError


@contextlib.contextmanager
def read_errors(path: Path) -> Iterator[None]:
    """Translate errors of reading `path`."""
    try:
        yield
    except FileNotFoundError as error:
        raise VideoError(f"{path} does not exist; check the path") from error
    except IsADirectoryError as error:
        raise VideoError(f"{path} is a folder; give a video file") from error
    except PermissionError as error:
        raise VideoError(f"{path} may not be read; change its permissions") from error
    except av.FFmpegError as error:
        raise VideoError(
            f"{path} cannot be read as a video ({_reason(error)}); give an intact video file, "
            "or repair this one with ffmpeg"
        ) from error


@contextlib.contextmanager
def write_errors(path: Path) -> Iterator[None]:
    """Translate errors of writing `path`: the file system's, the encoder's, the format's."""
    try:
        yield
    except OSError as error:
        raise VideoError(
            f"{path} cannot be written ({_reason(error)}); check that its folder exists, may be "
            "written to and has room"
        ) from error
    except av.FFmpegError as error:
        raise VideoError(
            f"{path} cannot be written: FFmpeg refuses this film in this format "
            f"({_reason(error)}); choose an --out that ends in .mkv"
        ) from error


def _reason(error: Exception) -> str:
    return getattr(error, "strerror", None) or str(error)
