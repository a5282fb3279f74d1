"""Where what a batch wrote lies in the end: a folder that all machines see, or a bucket."""

import contextlib
import hashlib
import os
from collections.abc import Iterable, Mapping
from fnmatch import fnmatchcase
from pathlib import Path
from typing import Protocol

from roadseg.backends.tuned import cache_folder
from roadseg.errors import OutputError
from roadseg.files import make_folder, output_errors, replacing
from roadseg.infer.batch.own_file import Location
from roadseg.video.objects import below, object_errors, objects_in, storage
from roadseg.video.url import Url

UPLOADS_AT_ONCE = 2
"""Parts of a large file that are in memory on their way to a bucket."""


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


class Bucket:
    """A bucket, or what lies below an address in one.

    Objects appear when they are complete. What is there is known from when it was last listed, so
    that thousands of videos cost one request a thousand of them.

    Args:
        url: The address.
    """

    def __init__(self, url: Url) -> None:
        self._url = url
        self._names: set[str] = set()
        self._folders: set[str] = set()

    def refresh(self) -> None:
        """List the objects."""
        with object_errors(self._url, OutputError):
            names = objects_in(self._url)
        self._names, self._folders = set(), set()
        self.note(names)

    def note(self, names: Iterable[str]) -> None:
        """Take notice of objects that others have put there."""
        for name in names:
            self._names.add(name)
            self._folders.add(name.rpartition("/")[0])

    def has(self, name: str) -> bool:
        """Return whether there is an object of a name."""
        return name in self._names

    def address(self, name: str) -> str:
        """Return the address of an object."""
        return str(below(self._url, name))

    def take(self, outputs: Mapping[Path, str], *, replace: bool) -> None:
        """Upload files, and remove them once all are there."""
        for name in outputs.values():
            check_free(self, name, replace=replace)
        for path, name in outputs.items():
            self._upload(path, name, replace=replace)
        for path in outputs:
            path.unlink()

    def _upload(self, path: Path, name: str, *, replace: bool) -> None:
        how = {"mode": "overwrite" if replace else "create", "max_concurrency": UPLOADS_AT_ONCE}
        target = below(self._url, name)
        with object_errors(target, OutputError):
            try:
                storage().put_file(str(path), target.given, **how)
            except FileExistsError as error:
                raise _exists(self, name) from error
        self.note([name])

    def fetch(self, objects: Mapping[Path, str]) -> None:
        """Download objects to files, which they replace. Raises `OutputError`."""
        for path, name in objects.items():
            source = below(self._url, name)
            with replacing(path) as temporary, object_errors(source, OutputError):
                storage().get_file(source.given, str(temporary))

    def clear(self, folder: str) -> None:
        """Remove all objects in a folder, unless none is known. Raises `OutputError`."""
        if folder not in self._folders:
            return
        place = below(self._url, folder)
        with object_errors(place, OutputError):
            for name, target in objects_in(place).items():
                storage().rm_file(target.given)
                self._names.discard(f"{folder}/{name}")
        self._folders.discard(folder)

    def check_access(self) -> None:
        """See that this machine has keys to the bucket and reaches it. Raises `OutputError`."""
        bucket, key, _ = storage().split_path(self._url.given)
        with object_errors(self._url, OutputError):
            storage().call_s3("list_objects_v2", Bucket=bucket, Prefix=key, MaxKeys=1)

    def remove(self, pattern: str, *, but: str) -> None:
        """Remove objects."""
        for name in sorted(n for n in self._names if n != but and fnmatchcase(n, pattern)):
            target = below(self._url, name)
            with object_errors(target, OutputError):
                storage().rm_file(target.given)
            self._names.discard(name)


def scratch_folder(url: Url, shard: str) -> Path:
    """Return where a driver works on what goes to a bucket: the same folder each time."""
    key = hashlib.sha256(f"{url.given} {shard}".encode()).hexdigest()
    return cache_folder() / "batch" / key[:16]


def remove_empty(folder: Path) -> None:
    """Remove a folder and those in it, as far as they are empty."""
    for path in (*sorted(folder.rglob("*"), reverse=True), folder):
        if path.is_dir():
            with contextlib.suppress(OSError):
                path.rmdir()


def store_at(location: Location) -> Store:
    """Return the store at a path or an address."""
    return Folder(location) if isinstance(location, Path) else Bucket(location)


def check_free(store: Store, name: str, *, replace: bool) -> None:
    """Raise `OutputError` if there is an output of a name, unless it is to be replaced."""
    if store.has(name) and not replace:
        raise _exists(store, name)


def _exists(store: Store, name: str) -> OutputError:
    return OutputError(
        f"{store.address(name)} exists, and no manifest there knows of it; move it away, or add "
        "--overwrite"
    )
