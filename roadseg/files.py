"""Write files atomically, under temporary names that belong to roadseg.

While a file is written, it has a temporary name beside its own, `own_path`, and its writer holds
its `Lock`. A user's file of such a name is never opened, followed or removed.
"""

import contextlib
import errno
import io
import os
import shutil
import stat
import sys
from collections.abc import Iterator, Sequence
from pathlib import Path
from types import TracebackType
from typing import Self

from roadseg.errors import ConfigError, OutputBusy, OutputError

OURS = "roadseg-"
"""Prefix of the names of roadseg's temporary files."""
LOCK_MARK = b"roadseg writes the file of this name, or left it unfinished\n"
"""Contents of a lock file, by which a later run knows that files beside it are roadseg's."""
LOCKED_BYTE = 1 << 30
"""Offset of the locked byte on Windows, where locked bytes cannot be read."""
FULL = (errno.ENOSPC, errno.EDQUOT)
"""Errors of a disk that has no room."""
SPECIAL = {
    stat.S_IFIFO: "named pipe",
    stat.S_IFSOCK: "socket",
    stat.S_IFCHR: "device",
    stat.S_IFBLK: "device",
}
"""What a name can stand for besides a file and a folder."""
NO_LOCKS = (errno.ENOLCK, errno.ENOSYS, errno.ENOTSUP, errno.EOPNOTSUPP)
"""Errors of a file system without locks."""


def own_path(path: Path, role: str, suffix: str = "") -> Path:
    """Return a temporary name for work on `path`, beside it and different for each path."""
    return path.with_name(f"{OURS}{role}.{path.name}{suffix}")


def is_ours(path: Path) -> bool:
    """Return whether a file has a name of `own_path`."""
    return path.name.casefold().startswith(OURS)


def is_hidden(path: Path) -> bool:
    """Return whether a file is a system's own, as the ._a.mp4 that macOS leaves beside an a.mp4."""
    return path.name.startswith(".")


def temporary_path(path: Path) -> Path:
    """Return the name of the next version of a temporary file."""
    return own_path(path, "next")


def create(path: Path) -> io.FileIO:
    """Create a temporary file; a file or link of that name is replaced.

    The target of a link is not written to.
    """
    path.unlink(missing_ok=True)
    return io.FileIO(path, "xb")  # exclusive: it follows no link either


@contextlib.contextmanager
def replacing(path: Path) -> Iterator[Path]:
    """Give a temporary file that replaces `path` if the block ends without an error.

    A reader sees the old file or the new one, never a part of one.

    Raises:
        OutputError: The file cannot be written; what there was is unchanged.
    """
    check_replaceable(path)
    temporary = own_path(path, f"new-{os.urandom(4).hex()}")
    with output_errors(path):
        io.FileIO(temporary, "xb").close()
        try:
            yield temporary
            temporary.replace(path)
        finally:
            temporary.unlink(missing_ok=True)


@contextlib.contextmanager
def new_folder(path: Path) -> Iterator[Path]:
    """Give a temporary folder that gets its name if the block ends without an error.

    An empty folder of that name is replaced, and nothing else.

    Raises:
        OutputError: There is something else of that name, or it cannot be made.
    """
    if not path.name:
        raise OutputError(f"{path} is no name for a new folder; give one, such as {path / 'new'}")
    temporary = own_path(path, f"new-{os.urandom(4).hex()}")
    with output_errors(path):
        temporary.mkdir(parents=True)
    try:
        yield temporary
        with output_errors(path):
            if path.is_dir():
                path.rmdir()
            temporary.rename(path)
    finally:
        shutil.rmtree(temporary, ignore_errors=True)


def move_all(draft: Path, path: Path) -> None:
    """Give a draft its name and the files around it theirs, beside it; what is there is replaced.

    Args:
        draft: The file that refers to the others, and so comes last; in a folder of their own.
        path: Its name.
    """
    for file in sorted(draft.parent.iterdir(), key=lambda file: file == draft):
        file.replace(path if file == draft else path.with_name(file.name))


def make_folder(path: Path) -> None:
    """Create a folder and its parents, if it does not exist.

    Raises:
        OutputError: There is a file of that name, or the place may not be written to.
    """
    with output_errors(path):
        try:
            path.mkdir(parents=True, exist_ok=True)
        except FileExistsError as error:
            raise OutputError(
                f"{path} is no folder, and one is needed there; choose another name"
            ) from error


@contextlib.contextmanager
def output_errors(path: Path) -> Iterator[None]:
    """Translate the file system's errors of writing `path`, but for a broken pipe."""
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
    """The right to write a file, held by one run until it ends, even by a crash.

    It is the system's lock on a file, which ends with the process. The file itself stays as long as
    unfinished work lies beside it, marks that as roadseg's, and holds notes for the run after.

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

    def note(self, line: bytes) -> None:
        """Add a line to the notes; it is on the disk when this returns, or no note at all."""
        with open(self._file.fileno(), "ab", closefd=False) as file:
            file.write(line + b"\n")
            file.flush()
            os.fsync(file.fileno())

    def forget_notes(self) -> None:
        """Remove all notes."""
        self._file.truncate(len(LOCK_MARK))

    def remove(self) -> None:
        """Remove the lock file, once no unfinished work lies beside it."""
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
        """Return whether an earlier run created the file; write the mark into a new one."""
        found = self._file.read(len(LOCK_MARK))
        if found not in (b"", LOCK_MARK):  # empty: created just now, or by a run that was killed
            raise self._taken
        if not found:
            self._file.write(LOCK_MARK)
        *self.notes, _torn = self._file.readall().split(b"\n")
        return bool(found)


@contextlib.contextmanager
def written_alone(path: Path, flag: str) -> Iterator[None]:
    """Hold the lock of a file, or of a folder of files, while the block lasts.

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
    """Return the error for a user's file that has a temporary name."""
    return OutputError(
        f"{path} was not made by roadseg, which needs this name while it writes {flag} {target}; "
        f"move it away, or choose another {flag}"
    )


def identity(path: Path) -> tuple[int, int] | None:
    """Return a key that is equal for all names and links of a file; None if there is no file."""
    try:
        state = path.stat()
    except (OSError, ValueError):
        return None
    return state.st_dev, state.st_ino


def check_named(name: object, what: str) -> None:
    """Refuse an empty name, as a variable that is not set gives: it would mean the folder here.

    Raises:
        ConfigError: It is empty.
    """
    if name == "":
        raise ConfigError(f"{what} is empty; give one, or . for the folder here")


def check_not_input(path: Path, flag: str, *inputs: Path) -> None:
    """Check early that an output file is none of the inputs, by whatever name.

    Raises:
        ConfigError: It is.
    """
    for source in inputs:
        if identity(path) == identity(source) is not None:
            raise ConfigError(f"{flag} is the input, {source}; choose another name")


def check_new(path: Path, flag: str, suffixes: Sequence[str], *, overwrite: bool) -> None:
    """Check early that the file of an option can be written.

    Raises:
        OutputError: Its suffix is none of those, it exists, or its folder cannot be written to.
    """
    if path.suffix.lower() not in suffixes:
        raise OutputError(f"{flag} {path} must end in {' or '.join(suffixes)}; choose another name")
    if path.is_dir():
        raise OutputError(f"{flag} {path} is a folder; give a file name")
    if os.path.lexists(path) and not overwrite:
        raise OutputError(f"{flag} {path} exists; choose another name or add --overwrite")
    check_writable(path)


def check_replaceable(path: Path) -> None:
    """Raise `OutputError` if a path, or what it leads to, is a pipe, a socket or a device."""
    if kind := special_kind(path):
        raise OutputError(f"{path} is a {kind}, which no file may replace; choose another name")


def special_kind(path: Path) -> str | None:
    """Return what a path leads to, one of `SPECIAL`; None for a file, a folder or nothing."""
    try:
        return SPECIAL.get(stat.S_IFMT(path.stat().st_mode))
    except (OSError, ValueError):
        return None


def check_writable(path: Path) -> None:
    """Raise `OutputError` if no file of this path can be written."""
    check_replaceable(path)
    with output_errors(path):
        trial = own_path(path, f"new-{os.urandom(4).hex()}")
        io.FileIO(trial, "xb").close()
        trial.unlink()


def shipped(folder: str, name: str) -> Path:
    """Return a shipped file: installed as package data, or in a folder of the checkout."""
    package = Path(__file__).parent
    installed = package / folder / name
    return installed if installed.is_file() else package.parent / folder / name


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
