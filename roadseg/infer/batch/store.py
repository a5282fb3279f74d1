"""Where what a batch wrote lies in the end: a folder that all machines see, or a bucket."""

import os
from collections.abc import Mapping
from pathlib import Path
from typing import Protocol

from roadseg.errors import OutputError
from roadseg.files import make_folder, output_errors


class Store(Protocol):
    """A place of outputs, each with a name below it."""

    def refresh(self) -> None:
        """Take notice of what others have put there or removed. Raises `OutputError`."""
        ...

    def has(self, name: str) -> bool:
        """Return whether there is an output of a name."""
        ...

    def address(self, name: str) -> str:
        """Return where an output lies, as users are told."""
        ...

    def take(self, outputs: Mapping[Path, str], *, replace: bool) -> None:
        """Take complete outputs, each of which is seen whole or not at all.

        Args:
            outputs: Their files, which are gone afterwards, and the names that they get.
            replace: Whether outputs of these names are replaced.

        Raises:
            OutputError: There is one of that name, or it cannot be put there.
        """
        ...

    def remove(self, pattern: str, *, but: str) -> None:
        """Remove outputs whose names match a pattern, except for one. Raises `OutputError`."""
        ...


class Folder:
    """A folder: what is written in its place has its name already.

    Args:
        path: The folder.
    """

    def __init__(self, path: Path) -> None:
        self._path = path

    def refresh(self) -> None:
        """Do nothing: the file system is asked each time."""

    def has(self, name: str) -> bool:
        """Return whether there is a file or folder of a name."""
        return os.path.lexists(self._path / name)

    def address(self, name: str) -> str:
        """Return the path of an output."""
        return str(self._path / name)

    def take(self, outputs: Mapping[Path, str], *, replace: bool) -> None:
        """Move outputs that lie elsewhere in the folder."""
        for path, name in outputs.items():
            target = self._path / name
            if path == target:
                continue
            check_free(self, name, replace=replace)
            make_folder(target.parent)
            with output_errors(target):
                path.replace(target)

    def remove(self, pattern: str, *, but: str) -> None:
        """Remove files, and the folder of each if nothing else is in it."""
        for path in self._path.glob(pattern):
            if path != self._path / but:
                with output_errors(path):
                    path.unlink()
                    if not any(path.parent.iterdir()):
                        path.parent.rmdir()


def check_free(store: Store, name: str, *, replace: bool) -> None:
    """Raise `OutputError` if there is an output of a name, unless it is to be replaced."""
    if store.has(name) and not replace:
        raise _exists(store, name)


def _exists(store: Store, name: str) -> OutputError:
    return OutputError(
        f"{store.address(name)} exists, and no manifest there knows of it; move it away, or add "
        "--overwrite"
    )
