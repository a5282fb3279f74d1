"""Files that are written all or not at all."""

import contextlib
from collections.abc import Iterator, Sequence
from pathlib import Path

from roadseg.errors import OutputError


@contextlib.contextmanager
def replacing(path: Path) -> Iterator[Path]:
    """Give a name beside `path`; what is written there takes its place when the block ends well.

    A reader sees the old file or the new one, never a part.

    Raises:
        OutputError: The file cannot be written; the old one is as it was.
    """
    temporary = temporary_path(path)
    with output_errors(path):
        try:
            yield temporary
            temporary.replace(path)
        finally:
            temporary.unlink(missing_ok=True)


def make_folder(path: Path) -> None:
    """Make a folder, and those above it, where there is none.

    Raises:
        OutputError: There is a file of that name, or the place may not be written to.
    """
    with output_errors(path):
        path.mkdir(parents=True, exist_ok=True)


def temporary_path(path: Path) -> Path:
    """Return the name under which a file is written until it is whole; it keeps the suffix."""
    return path.with_name(f".{path.stem}.part{path.suffix}")


@contextlib.contextmanager
def output_errors(path: Path) -> Iterator[None]:
    """Translate the file system's errors of writing `path`; a reader that leaves is none."""
    try:
        yield
    except BrokenPipeError:
        raise
    except OSError as error:
        raise OutputError(
            f"{path} cannot be written ({error.strerror or error}); check that its folder exists, "
            "may be written to and has room"
        ) from error


def check_new(path: Path, flag: str, suffixes: Sequence[str], *, overwrite: bool) -> None:
    """Find out early whether a file that was asked for behind a flag can be written.

    Raises:
        OutputError: Its suffix is none of those, it exists, or its folder takes no files.
    """
    if path.suffix.lower() not in suffixes:
        raise OutputError(f"{flag} {path} must end in {' or '.join(suffixes)}; choose another name")
    if path.exists() and not overwrite:
        raise OutputError(f"{flag} {path} exists; choose another name or add --overwrite")
    check_writable(path)


def check_writable(path: Path) -> None:
    """Raise `OutputError` if the folder of a file to be written takes no files."""
    temporary = temporary_path(path)
    with output_errors(path):
        temporary.touch()
        temporary.unlink()
