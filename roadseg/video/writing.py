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


@contextlib.contextmanager
def open_film(path: Path, options: Mapping[str, str]) -> Iterator[av.container.OutputContainer]:
    """Give a file to write a film to, in the format of its suffix.

    Args:
        path: Name of the file.
        options: FFmpeg's, for the format.
    """
    with path.open("wb", buffering=0) as file, _writing(Sink(file, str(path)), options) as film:
        yield film


@contextlib.contextmanager
def open_pipe(form: str, options: Mapping[str, str]) -> Iterator[av.container.OutputContainer]:
    """Give standard output to write a film to.

    Args:
        form: FFmpeg's name of the format.
        options: FFmpeg's, for it.
    """
    with (
        io.FileIO(sys.stdout.fileno(), "wb", closefd=False) as file,
        _writing(Sink(file, "standard output", is_stream=True), options, form) as film,
    ):
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
    """A file as FFmpeg wants it, which remembers a failure.

    Args:
        file: File without a buffer of its own, so that what is written has left this program.
        name: Its name, from which FFmpeg may read what it wrote.
        is_stream: Whether bytes can only be written one after the other.
    """

    def __init__(self, file: io.FileIO, name: str, *, is_stream: bool = False) -> None:
        self._file = file
        self.name = name
        self._is_stream = is_stream
        self.failure: OSError | None = None

    def write(self, data: bytes) -> int:
        """Write all of it; return how much that is, or FFmpeg's number of an error."""
        rest = memoryview(data)
        try:
            while rest:
                rest = rest[self._file.write(rest) :]
        except OSError as error:
            self.failure = self.failure or error
            assert error.errno is not None  # the system's errors have a number
            return -error.errno
        return len(data)

    def seekable(self) -> bool:
        """Return whether it can be written to anywhere."""
        return not self._is_stream

    def seek(self, offset: int, whence: int = io.SEEK_SET) -> int:
        """Go to a place."""
        return self._file.seek(offset, whence)

    def tell(self) -> int:
        """Return the place."""
        return self._file.tell()
