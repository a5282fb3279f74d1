"""Open a file, or standard output, to write a film to, so that no failed write goes unnoticed.

FFmpeg forgets those at the end of an MP4 file, and a full disk would leave half a film that counts
as whole.
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
    """Give a file to write a film to, in the format of its suffix; it is there once it is begun.

    Args:
        path: Name of the file.
        options: FFmpeg's, for the format.
    """
    with contextlib.closing(Sink(path, str(path))) as sink, _writing(sink, options) as film:
        yield film


@contextlib.contextmanager
def open_pipe(form: str, options: Mapping[str, str]) -> Iterator[av.container.OutputContainer]:
    """Give standard output to write a film to.

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
    """A file as FFmpeg wants it, which remembers a failure. It is made when it is written to.

    What is written has left this program, as there is no buffer.

    Args:
        target: Name of ours that the file is to have; or the number of one that is open and that
            bytes can only be written to one after the other.
        name: Its name, from which FFmpeg may read what it wrote.
    """

    def __init__(self, target: Path | int, name: str) -> None:
        self._target = target
        self.name = name
        self._file: io.FileIO | None = None
        self.failure: OSError | None = None

    def write(self, data: bytes) -> int:
        """Write all of it; return how much that is, or FFmpeg's number of an error."""
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
        """Return whether it can be written to anywhere."""
        return isinstance(self._target, Path)

    def seek(self, offset: int, whence: int = io.SEEK_SET) -> int:
        """Go to a place."""
        return self._open().seek(offset, whence)

    def tell(self) -> int:
        """Return the place."""
        return self._open().tell()

    def close(self) -> None:
        """Close it, but not what was open before."""
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
