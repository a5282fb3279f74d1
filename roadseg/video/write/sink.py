"""Open a file, or standard output, to write a video to, and report every failed write.

FFmpeg ignores failures at the end of an MP4 file, so that a full disk would leave a truncated video
that passes for a complete one.
"""

import contextlib
import io
import sys
from collections.abc import Iterator, Mapping
from pathlib import Path

import av

from roadseg.files import create


@contextlib.contextmanager
def open_film(path: Path, options: Mapping[str, str]) -> Iterator[av.container.OutputContainer]:
    """Open a file for a video in the format of its suffix; it is created by the first write.

    Args:
        path: Name of the file.
        options: FFmpeg's, for the format.
    """
    with (
        contextlib.closing(Sink(path, str(path.absolute()))) as sink,
        _writing(sink, options) as film,
    ):
        yield film


@contextlib.contextmanager
def open_pipe(form: str, options: Mapping[str, str]) -> Iterator[av.container.OutputContainer]:
    """Open standard output for a video.

    Args:
        form: FFmpeg's name of the format.
        options: FFmpeg's, for it.
    """
    sink = Sink(sys.stdout.fileno(), "standard output")
    with contextlib.closing(sink), _writing(sink, options, form) as film:
        yield film


@contextlib.contextmanager
def _writing(
    sink: "Sink", options: Mapping[str, str], form: str | None = None
) -> Iterator[av.container.OutputContainer]:
    with av.open(sink, "w", format=form, container_options=dict(options)) as film:
        yield film
    if sink.failure is not None:
        raise sink.failure


class Sink:
    """An unbuffered file object for FFmpeg that keeps the first failure.

    The file is created by the first write.

    Args:
        target: Path of the file, or the descriptor of an open one that cannot seek.
        name: Its name, from which FFmpeg may read back what it wrote.
    """

    def __init__(self, target: Path | int, name: str) -> None:
        self._target = target
        self.name = name
        self._file: io.FileIO | None = None
        self.failure: OSError | None = None

    def write(self, data: bytes) -> int:
        """Write all of it; return its length, or the negative number of an error, as for FFmpeg."""
        rest = memoryview(data)
        try:
            while rest:
                rest = rest[self._open().write(rest) :]
        except OSError as error:
            self.failure = self.failure or error
            assert error.errno is not None  # the system's errors have a number
            return -error.errno
        return len(data)

    def seekable(self) -> bool:
        """Return whether `seek` works."""
        return isinstance(self._target, Path)

    def seek(self, offset: int, whence: int = io.SEEK_SET) -> int:
        """Change the position."""
        return self._open().seek(offset, whence)

    def tell(self) -> int:
        """Return the position."""
        return self._open().tell()

    def close(self) -> None:
        """Close the file, but not a descriptor that was open before."""
        if self._file is not None:
            self._file.close()

    def _open(self) -> io.FileIO:
        if self._file is None:
            target = self._target
            self._file = (
                create(target)
                if isinstance(target, Path)
                else io.FileIO(target, "wb", closefd=False)
            )
        return self._file
