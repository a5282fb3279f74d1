"""A small file that one driver writes and all read: in a folder, or an object in a bucket."""

import os
from pathlib import Path
from typing import Protocol

from roadseg.errors import ConfigError, OutputBusy, OutputError
from roadseg.files import check_named, output_errors, replacing, special_kind
from roadseg.video.objects import (
    below,
    code_of,
    get_object,
    named_objects,
    object_errors,
    put_object,
    storage,
)
from roadseg.video.url import Url

Location = Path | Url
"""A path, or the address of an object."""
REFUSED = ("PreconditionFailed", "ConditionalRequestConflict")
"""Codes of storage for a write whose condition does not hold."""


class OwnFile(Protocol):
    """A file that one driver writes and all read."""

    def read(self) -> bytes | None:
        """Return what it holds, None if it is not there. Raises `OutputError`."""
        ...

    def write(self, data: bytes) -> None:
        """Replace what it holds, seen whole or not at all. Raises `OutputError`."""
        ...

    def append(self, line: bytes) -> None:
        """Add a line, which is kept when this returns. Raises `OutputError`."""
        ...

    def remove(self) -> None:
        """Remove it, if it is there. Raises `OutputError`."""
        ...


def own_file(location: Location) -> OwnFile:
    """Return the file at a location."""
    return LocalFile(location) if isinstance(location, Path) else ObjectFile(location)


def location_named(text: str) -> Location:
    """Return the location that a user names.

    Raises:
        ConfigError: It is empty, as a variable that is not set, or an address of another kind than
            object storage.
    """
    check_named(text, "the name of a folder")
    if objects := named_objects(text):
        return objects
    if address := Url.if_one(text):
        raise ConfigError(f"{address} is no folder; give one, or an address such as s3://bucket/x")
    return Path(text)


def inside(location: Location, name: str) -> Location:
    """Return the location of a file in a folder, or below an address."""
    return location / name if isinstance(location, Path) else below(location, name)


def with_suffix(location: Location, suffix: str) -> Location:
    """Return the location of a file beside another, with another suffix."""
    if isinstance(location, Path):
        return location.with_suffix(suffix)
    return Url(location.given.rpartition(".")[0] + suffix)


class LocalFile:
    """A file in a folder.

    Args:
        path: Its path.
    """

    def __init__(self, path: Path) -> None:
        self._path = path

    def read(self) -> bytes | None:
        """Return what it holds, None if it is not there."""
        if kind := special_kind(self._path):  # which might never end
            raise OutputError(f"{self._path} is a {kind}; a file is needed there, give its name")
        try:
            return self._path.read_bytes()
        except FileNotFoundError:
            return None
        except OSError as error:
            raise OutputError(
                f"{self._path} cannot be read ({error.strerror}); check that it is a readable file"
            ) from error

    def write(self, data: bytes) -> None:
        """Replace what it holds."""
        with replacing(self._path) as temporary:
            temporary.write_bytes(data)

    def append(self, line: bytes) -> None:
        """Add a line, which is on the disk when this returns."""
        with output_errors(self._path), self._path.open("ab") as file:
            file.write(line)
            file.flush()
            os.fsync(file.fileno())

    def remove(self) -> None:
        """Remove it, if it is there."""
        with output_errors(self._path):
            self._path.unlink(missing_ok=True)


class ObjectFile:
    """An object, which nothing can be added to: it is written whole each time.

    A write is refused if anybody else wrote the object since it was last read or written here. So
    two drivers that take it for theirs destroy nothing: the slower one is told.

    Args:
        url: Its address.
    """

    def __init__(self, url: Url) -> None:
        self._url = url
        bucket, key, _ = storage().split_path(url.given)
        self._at = {"Bucket": bucket, "Key": key}
        self._held = b""
        self._tag: str | None = None

    def read(self) -> bytes | None:
        """Return what it holds, None if it is not there."""
        with object_errors(self._url, OutputError):
            try:
                self._tag, self._held = get_object(**self._at)
            except FileNotFoundError as error:
                if code_of(error) != "NoSuchKey":
                    raise
                self._tag, self._held = None, b""
        return None if self._tag is None else self._held

    def write(self, data: bytes) -> None:
        """Replace what it holds.

        Raises:
            OutputBusy: Somebody else wrote it meanwhile.
            OutputError: It cannot be written.
        """
        with object_errors(self._url, OutputError):
            try:
                self._tag = put_object(data, **self._at, **self._condition())
            except OSError as error:
                if code_of(error) not in REFUSED:
                    raise
                if self.read() != data:  # else it was written, and only the answer was lost
                    raise OutputBusy(
                        f"{self._url} is written by another driver; one shard has one driver: "
                        "wait for its end, or choose another --shard"
                    ) from error
        self._held = data

    def _condition(self) -> dict[str, str]:
        return {"IfNoneMatch": "*"} if self._tag is None else {"IfMatch": self._tag}

    def append(self, line: bytes) -> None:
        """Write it with a line more."""
        self.write(self._held + line)

    def remove(self) -> None:
        """Remove it, if it is there."""
        with object_errors(self._url, OutputError):
            storage().call_s3("delete_object", **self._at)
            self._tag, self._held = None, b""

    def check_conditions(self) -> None:
        """See that storage refuses a write whose condition does not hold; some heeds none.

        Raises:
            OutputError: It does not, so that two drivers could do one shard.
        """
        with object_errors(self._url, OutputError):
            try:
                put_object(self._held, **self._at, IfNoneMatch="*")
            except OSError as error:
                if code_of(error) not in REFUSED:
                    raise
                return
        raise OutputError(
            f"{self._url} was replaced by a write that asked for a new object (If-None-Match), so "
            "this storage cannot keep two drivers apart; use one that heeds it, or a folder"
        )
