"""Folders for work that may be killed: what is left of one is removed when the next is made."""

import contextlib
import os
import re
import shutil
from collections.abc import Iterator
from pathlib import Path

from roadseg.errors import OutputError
from roadseg.files import OURS, Lock, make_folder, output_errors, own_path

FLAG = "--cluster"
"""What asks for them."""
NAME = re.compile(rf"{OURS}[0-9a-f]{{8}}")


@contextlib.contextmanager
def own_folder(home: Path) -> Iterator[Path]:
    """Give a new folder in another, which may be a place for all users; it is removed in the end.

    What is in it belongs to this process, as the system's lock on a file beside it says. After an
    error the lock's file stays, as processes of others may still write to the folder.

    Raises:
        OutputError: It cannot be made.
    """
    make_folder(home)
    folder = home / f"{OURS}{os.urandom(4).hex()}"
    with contextlib.ExitStack() as stack:
        with output_errors(folder):
            lock = stack.enter_context(Lock(_lock_path(folder), FLAG, folder))
        _sweep(home, folder)
        with output_errors(folder):
            folder.mkdir(mode=0o700)
        try:
            yield folder
        finally:
            shutil.rmtree(folder, ignore_errors=True)
        lock.remove()


def _lock_path(folder: Path) -> Path:
    return own_path(folder, "part", ".lock")


def _sweep(home: Path, own: Path) -> None:
    """Remove the folders of processes that are dead, as the system's locks tell."""
    before, after = _lock_path(home / "*").name.split("*")
    names = {path.name[len(before) : -len(after)] for path in home.glob(f"{before}*{after}")}
    for name in sorted(filter(NAME.fullmatch, names), key=lambda name: name != own.name):
        folder = home / name
        with (
            contextlib.suppress(OSError, OutputError),
            Lock(_lock_path(folder), FLAG, folder) as lock,
        ):
            if folder == own:
                return  # there are no locks here, which would keep this from those that live
            shutil.rmtree(folder, ignore_errors=True)
            lock.remove()
