"""Places that a run writes to, each with every name that it needs: its own and those of the work.

All names of a place lie in one folder. So a complete file gets its name by being renamed, and the
file system itself decides whether two places are one, however they are spelled.
"""

import contextlib
import os
from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from pathlib import Path

from roadseg.errors import OutputError
from roadseg.files import Lock, foreign, output_errors, own_path, temporary_path
from roadseg.video.write.part import part_path, settings_path, whole_path
from roadseg.video.write.stills import name_key, remove_stills, stills_of

Move = tuple[Path, Path]
"""A name that something has, and the one that it is to take."""


@dataclass(frozen=True)
class FilePlace:
    """One file."""

    flag: str
    """Option that asks for it."""
    target: Path
    """Its name."""
    is_film: bool = False
    """Whether it is the video, whose part is copied before it is whole."""
    lasts: bool = True
    """Whether another run can go on from its part."""

    @property
    def lock(self) -> Path:
        """File by which a run has the place."""
        return own_path(self.target, "part", ".lock")

    @property
    def part(self) -> Path:
        """File that a stage writes to."""
        return part_path(self.target)

    @property
    def whole(self) -> Path:
        """File that takes the target's name in the end."""
        return whole_path(self.target) if self.is_film else self.part

    @property
    def lasting(self) -> tuple[Path, ...]:
        """Names of what another run goes on from."""
        record = (settings_path(self.target),) if self.is_film else ()
        return (self.part, *record) if self.lasts else ()

    @property
    def passing(self) -> tuple[Path, ...]:
        """Names of what no other run needs."""
        if self.is_film:
            return self.whole, temporary_path(self.part)
        return () if self.lasts else (self.part,)

    @property
    def aside(self) -> Path:
        """Name of what had the target's name, until all is in its place."""
        return own_path(self.target, "old")

    def names(self) -> list[Path]:
        """Return every name that a run may write to."""
        return [self.target, self.lock, *self.lasting, *self.passing, self.aside]

    def taken(self) -> list[Move]:
        """Return what has a name that the place gives, and where it is put aside."""
        return [(self.target, self.aside)] if os.path.lexists(self.target) else []

    def put_aside(self) -> list[Move]:
        """Return what a killed run put aside, with the name that it had."""
        return [(self.aside, self.target)] if os.path.lexists(self.aside) else []

    def whole_files(self) -> list[Move]:
        """Return what is whole, with the name that it takes."""
        return [(self.whole, self.target)]

    def could_be_work(self, path: Path) -> bool:
        """Return whether a run could have made what is at a name of the work."""
        return path.is_file() and not path.is_symlink()

    def remove(self, work: Iterable[Path]) -> None:
        """Remove what was made under names of the work."""
        for path in work:
            path.unlink(missing_ok=True)


@dataclass(frozen=True)
class SeriesPlace:
    """Images, one a frame; what is said of files under `FilePlace` holds of folders of them."""

    flag: str
    target: Path
    """Their name, with a place for their number in it."""

    @property
    def lock(self) -> Path:
        """File by which a run has the place, and all names that another pattern may share."""
        return own_path(self._key, "part", ".lock")

    @property
    def part(self) -> Path:
        """Pattern that a stage writes to."""
        return self.lasting[0] / self.target.name

    @property
    def lasting(self) -> tuple[Path, ...]:
        """Folder of what another run goes on from."""
        return (part_path(self._key),)

    @property
    def passing(self) -> tuple[Path, ...]:
        """Names of what no other run needs."""
        return ()

    @property
    def aside(self) -> Path:
        """Folder of what had the images' names, until all are in their place."""
        return own_path(self._key, "old")

    @property
    def _key(self) -> Path:
        # What lies among images must not be taken for one.
        return self.target.with_name(name_key(self.target).replace(".", "-"))

    def names(self) -> list[Path]:
        """Return every name that a run may write to and that something has."""
        patterns = (self.target, self.part, self.aside / self.target.name)
        return [self.lock, *(path for pattern in patterns for _, path in stills_of(pattern))]

    def taken(self) -> list[Move]:
        """Return what has a name that the place gives, and where it is put aside."""
        return [(path, self.aside / path.name) for _, path in stills_of(self.target)]

    def put_aside(self) -> list[Move]:
        """Return what a killed run put aside, with the names that it had."""
        return self._moves_from(self.aside)

    def whole_files(self) -> list[Move]:
        """Return what is whole, with the names that it takes."""
        return self._moves_from(self.part.parent)

    def _moves_from(self, folder: Path) -> list[Move]:
        stills = stills_of(folder / self.target.name)
        return [(path, self.target.with_name(path.name)) for _, path in stills]

    def could_be_work(self, path: Path) -> bool:
        """Return whether a run could have made what is at a name of the work."""
        return path.is_dir() and not path.is_symlink()

    def remove(self, work: Iterable[Path]) -> None:
        """Remove what was made under names of the work; what else is in a folder stays."""
        for folder in work:
            remove_stills(folder / self.target.name)


Place = FilePlace | SeriesPlace


@contextlib.contextmanager
def holding(place: Place) -> Iterator[None]:
    """Have a place for oneself while the block lasts.

    Raises:
        OutputError: Another run has it, or a name of the work is given to something of the user's.
    """
    with contextlib.ExitStack() as stack:
        with output_errors(place.target):
            if isinstance(place, SeriesPlace):
                stack.callback(_remove_empty, _make_folders(place.target.parent))
            lock = stack.enter_context(Lock(place.lock, place.flag, place.target))
        try:
            check_work(place, is_ours=lock.was_there)
        except OutputError:
            if not lock.was_there:  # else what is the user's would be taken for ours by the next
                lock.remove()
            raise
        try:
            yield
        finally:
            if not any(map(os.path.lexists, _work(place))):
                lock.remove()


def check_work(place: Place, *, is_ours: bool) -> None:
    """See that the names of the work are free, or given to work of our own.

    Args:
        place: Place.
        is_ours: Whether an earlier run had it.

    Raises:
        OutputError: A name is given to anything else.
    """
    for path in _work(place):
        if os.path.lexists(path) and not (is_ours and place.could_be_work(path)):
            raise foreign(path, place.flag, place.target)


def put_back(place: Place) -> bool:
    """Give the names back that a killed run took, where nothing has them; return if any."""
    with output_errors(place.target):
        lost = [move for move in place.put_aside() if not os.path.lexists(move[1])]
        for path, target in lost:
            path.rename(target)
    return bool(lost)


def publish(places: Iterable[Place]) -> None:
    """Give everything that is whole its name, or, where that fails, nothing.

    What has such a name is put aside first, and comes back on a failure.

    Raises:
        OutputError: A name cannot be given.
    """
    with contextlib.ExitStack() as undo:
        for place in places:
            with output_errors(place.target):
                for path, target in (*place.taken(), *place.whole_files()):
                    target.parent.mkdir(exist_ok=True)
                    path.rename(target)
                    undo.callback(target.rename, path)
        undo.pop_all()


def clear(place: Place, *, keep_part: bool) -> None:
    """Remove the work of a run that ended, but for what a failure left aside.

    Args:
        place: Place.
        keep_part: Leave what another run goes on from.
    """
    with output_errors(place.target):
        place.remove(place.passing if keep_part else (*place.lasting, *place.passing))


def _work(place: Place) -> tuple[Path, ...]:
    return (*place.lasting, *place.passing, place.aside)


def _make_folders(path: Path) -> list[Path]:
    """Make a folder and those above it; return those made, the innermost first."""
    missing = [folder for folder in (path, *path.parents) if not folder.exists()]
    path.mkdir(parents=True, exist_ok=True)
    return missing


def _remove_empty(folders: Iterable[Path]) -> None:
    with contextlib.suppress(OSError):
        for folder in folders:
            folder.rmdir()
