"""Files that are written all or not at all, under names that nobody else's file can have.

While a file is written it has another name beside its own, `own_path`; whoever writes it holds its
`Lock`. A user's file of such a name is never opened, followed or removed.
"""

import contextlib
import errno
import io
import os
import stat
import sys
from collections.abc import Iterator, Sequence
from pathlib import Path
from types import TracebackType
from typing import Self

from roadseg.errors import ConfigError, OutputBusy, OutputError

OURS = "roadseg-"
"""How every name begins that roadseg gives to files of its own beside those it is asked for."""
LOCK_MARK = b"roadseg writes the file of this name, or left it unfinished\n"
"""Contents of a lock, by which a later run knows what lies beside it for roadseg's."""
LOCKED_BYTE = 1 << 30
"""Where Windows locks, which lets nobody read what is locked."""
NO_LOCKS = (errno.ENOLCK, errno.ENOSYS, errno.ENOTSUP, errno.EOPNOTSUPP)
"""Errors of a file system without locks."""


def own_path(path: Path, role: str, suffix: str = "") -> Path:
    """Return a name for roadseg's work on `path`: beside it, and not that of work on another."""
    return path.with_name(f"{OURS}{role}.{path.name}{suffix}")


def is_ours(path: Path) -> bool:
    """Return whether a file has a name such as `own_path` gives."""
    return path.name.casefold().startswith(OURS)


def temporary_path(path: Path) -> Path:
    """Return the name under which what shall take the place of a file of ours is written."""
    return own_path(path, "next")


def create(path: Path) -> io.FileIO:
    """Return a new file under a name of ours, to be written; what had the name is gone.

    It is a file of its own: what a link of that name leads to is not written to.
    """
    path.unlink(missing_ok=True)
    return io.FileIO(path, "xb")  # exclusive: it follows no link either


@contextlib.contextmanager
def replacing(path: Path) -> Iterator[Path]:
    """Give a new file beside `path`; it takes the place of that when the block ends well.

    A reader sees the old file or the new one, never a part.

    Raises:
        OutputError: The file cannot be written; the old one is as it was.
    """
    temporary = own_path(path, f"new-{os.urandom(4).hex()}")
    with output_errors(path):
        io.FileIO(temporary, "xb").close()
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


class Lock:
    """The right to write a file: one run has it, until that ends in whatever way.

    The system's lock on a file of ours says who has it, and is gone with its process; the file
    stays for as long as unfinished work lies beside it, and shows that the work is ours.

    Args:
        path: The lock's file.
        flag: Option that asks for the file to be written.
        target: That file.

    Raises:
        OutputBusy: Another run has it.
        OutputError: The lock's name is taken by another file.
    """

    def __init__(self, path: Path, flag: str, target: Path) -> None:
        self._path = path
        self._taken = foreign(path, flag, target)
        self._busy = OutputBusy(
            f"{flag} {target} is being written by another run of roadseg; wait for its end, or "
            "choose another name"
        )

    def __enter__(self) -> Self:
        while True:
            self._file = self._open()
            try:
                _lock(self._file.fileno())
                if self._is_at_its_place():
                    self.was_there = self._read_mark()
                    return self
            except BlockingIOError as error:
                self._file.close()
                raise self._busy from error
            except BaseException:
                self._file.close()
                raise
            self._file.close()  # its holder removed it in between

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        traceback: TracebackType | None,
    ) -> None:
        self._file.close()

    def remove(self) -> None:
        """Remove the lock's file, as no unfinished work lies beside it."""
        if sys.platform == "win32":  # where no open file can be removed
            self._file.close()
        self._path.unlink(missing_ok=True)

    def _open(self) -> io.FileIO:
        while True:
            with contextlib.suppress(FileExistsError):
                return io.FileIO(self._path, "x+b")
            with contextlib.suppress(FileNotFoundError):  # its holder removed it in between
                if not stat.S_ISREG(self._path.lstat().st_mode):
                    raise self._taken
                return io.FileIO(self._path, "r+b", opener=_without_links)

    def _is_at_its_place(self) -> bool:
        try:
            return os.path.samestat(os.fstat(self._file.fileno()), self._path.lstat())
        except FileNotFoundError:
            return False

    def _read_mark(self) -> bool:
        """Return whether an earlier run made the file; put the mark into a new one."""
        found = self._file.read(len(LOCK_MARK) + 1)
        if found not in (b"", LOCK_MARK):  # empty: it was made now, or by a run killed at once
            raise self._taken
        if not found:
            self._file.write(LOCK_MARK)
        return bool(found)


@contextlib.contextmanager
def written_alone(path: Path, flag: str) -> Iterator[None]:
    """Have a file, or a folder of them, for oneself while the block lasts.

    Args:
        path: File that is to be written, or is in the folder.
        flag: Option that asks for it.

    Raises:
        OutputBusy: Another run writes it.
    """
    with contextlib.ExitStack() as stack:
        with output_errors(path):
            lock = stack.enter_context(Lock(own_path(path, "part", ".lock"), flag, path))
        try:
            yield
        finally:
            lock.remove()


def _without_links(path: str, flags: int) -> int:
    return os.open(path, flags | getattr(os, "O_NOFOLLOW", 0))


def foreign(path: Path, flag: str, target: Path) -> OutputError:
    """Return what to raise where a file that is not ours has a name that we need."""
    return OutputError(
        f"{path} was not made by roadseg, which needs this name while it writes {flag} {target}; "
        f"move it away, or choose another {flag}"
    )


def identity(path: Path) -> tuple[int, int] | None:
    """Return what all names of a file have in common, links included; None if there is none."""
    try:
        state = path.stat()
    except (OSError, ValueError):
        return None
    return state.st_dev, state.st_ino


def check_not_input(path: Path, flag: str, *inputs: Path) -> None:
    """Find out early whether a file to be written is one that is read, by whatever name.

    Raises:
        ConfigError: It is.
    """
    for source in inputs:
        if identity(path) == identity(source) is not None:
            raise ConfigError(f"{flag} is the input, {source}; choose another name")


def check_new(path: Path, flag: str, suffixes: Sequence[str], *, overwrite: bool) -> None:
    """Find out early whether a file that was asked for behind a flag can be written.

    Raises:
        OutputError: Its suffix is none of those, it exists, or its folder takes no files.
    """
    if path.suffix.lower() not in suffixes:
        raise OutputError(f"{flag} {path} must end in {' or '.join(suffixes)}; choose another name")
    if path.is_dir():
        raise OutputError(f"{flag} {path} is a folder; give a file name")
    if os.path.lexists(path) and not overwrite:
        raise OutputError(f"{flag} {path} exists; choose another name or add --overwrite")
    check_writable(path)


def check_writable(path: Path) -> None:
    """Raise `OutputError` if the folder of a file to be written takes no files."""
    with output_errors(path):
        trial = own_path(path, f"new-{os.urandom(4).hex()}")
        io.FileIO(trial, "xb").close()
        trial.unlink()


def sha256_of(path: Path) -> str:
    """Return a file's checksum."""
    import hashlib  # it loads OpenSSL, and every command imports this module

    with path.open("rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()


if sys.platform == "win32":
    import msvcrt

    def _lock(number: int) -> None:
        os.lseek(number, LOCKED_BYTE, os.SEEK_SET)
        try:
            msvcrt.locking(number, msvcrt.LK_NBLCK, 1)
        except OSError as error:
            raise BlockingIOError from error
        os.lseek(number, 0, os.SEEK_SET)

else:

    def _lock(number: int) -> None:
        try:
            import fcntl
        except ImportError:  # a system that is neither Windows nor Unix has no locks
            return
        try:
            fcntl.flock(number, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            raise
        except OSError as error:
            if error.errno not in NO_LOCKS:
                raise
