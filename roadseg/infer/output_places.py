"""Places of outputs, each with all names that it needs: its target and its temporary names.

| name | of `out.mp4` | for |
| --- | --- | --- |
| target | `out.mp4` | the complete output |
| part | `roadseg-part.out.mp4` | what a stage writes, and `--resume` goes on from |
| whole | `roadseg-whole.out.mp4` | what is renamed to the target: of some outputs, the part |
| aside | `roadseg-old.out.mp4` | what had the target's name, until all outputs have theirs |
| lock | `roadseg-part.out.mp4.lock` | who writes there |

Of images, part and aside are folders.

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
"""An old and a new name."""


@dataclass(frozen=True)
class FilePlace:
    """One file."""

    flag: str
    """Option that asks for it."""
    target: Path
    """Its name."""
    is_film: bool = False
    """Whether it is the video, whose part is copied into its final form."""
    is_parquet: bool = False
    """Whether it is Parquet, whose part is JSON lines: nothing is added to Parquet once written."""
    lasts: bool = True
    """Whether another run can resume from its part."""

    @property
    def lock(self) -> Path:
        """File of the lock."""
        return own_path(self.target, "part", ".lock")

    @property
    def part(self) -> Path:
        """File that a stage writes to."""
        return (
            own_path(self.target, "part", ".jsonl") if self.is_parquet else part_path(self.target)
        )

    @property
    def whole(self) -> Path:
        """File that is renamed to the target in the end."""
        return whole_path(self.target) if self.is_film or self.is_parquet else self.part

    @property
    def lasting(self) -> tuple[Path, ...]:
        """Names of files that another run resumes from."""
        record = (settings_path(self.target),) if self.is_film else ()
        return (self.part, *record) if self.lasts else ()

    @property
    def passing(self) -> tuple[Path, ...]:
        """Names of files that no other run needs."""
        if self.is_film:
            return self.whole, temporary_path(self.part)
        if self.is_parquet:
            return (self.whole,)
        return () if self.lasts else (self.part,)

    @property
    def aside(self) -> Path:
        """Name of the replaced target, until all outputs are published."""
        return own_path(self.target, "old")

    def names(self) -> list[Path]:
        """Return every name that a run may write to."""
        return [self.target, self.lock, *self.lasting, *self.passing, self.aside]

    def taken(self) -> list[Move]:
        """Return the existing target, with the name that it is put aside under."""
        return [(self.target, self.aside)] if os.path.lexists(self.target) else []

    def put_aside(self) -> list[Move]:
        """Return the target that a killed run put aside, with its old name."""
        return [(self.aside, self.target)] if os.path.lexists(self.aside) else []

    def whole_files(self) -> list[Move]:
        """Return the complete file, with its target."""
        return [(self.whole, self.target)]

    def whole_name(self, _target: Path) -> Path:
        """Return the name that the complete file had before it got that of its target."""
        return self.whole

    def could_be_work(self, path: Path) -> bool:
        """Return whether a run could have created what has a temporary name."""
        return path.is_file() and not path.is_symlink()

    def remove(self, work: Iterable[Path]) -> None:
        """Remove files with temporary names."""
        for path in work:
            path.unlink(missing_ok=True)


@dataclass(frozen=True)
class SeriesPlace:
    """Images, one a frame; like a `FilePlace` with folders for files."""

    flag: str
    target: Path
    """Pattern of their names."""

    @property
    def lock(self) -> Path:
        """File of the lock, the same for all patterns that can have an image in common."""
        return own_path(self._key, "part", ".lock")

    @property
    def part(self) -> Path:
        """Pattern that a stage writes to."""
        return self.lasting[0] / self.target.name

    @property
    def lasting(self) -> tuple[Path, ...]:
        """Folder of images that another run resumes from."""
        return (part_path(self._key),)

    @property
    def passing(self) -> tuple[Path, ...]:
        """Names of what no other run needs."""
        return ()

    @property
    def aside(self) -> Path:
        """Folder of the replaced images, until all outputs are published."""
        return own_path(self._key, "old")

    @property
    def _key(self) -> Path:
        # A temporary name among images must not look like one of them.
        return self.target.with_name(name_key(self.target).replace(".", "-"))

    def names(self) -> list[Path]:
        """Return every existing name that a run may write to."""
        patterns = (self.target, self.part, self.aside / self.target.name)
        return [self.lock, *(path for pattern in patterns for _, path in stills_of(pattern))]

    def taken(self) -> list[Move]:
        """Return the existing images, with the names that they are put aside under."""
        return [(path, self.aside / path.name) for _, path in stills_of(self.target)]

    def put_aside(self) -> list[Move]:
        """Return the images that a killed run put aside, with their old names."""
        return self._moves_from(self.aside)

    def whole_files(self) -> list[Move]:
        """Return the complete images, with their targets."""
        return self._moves_from(self.part.parent)

    def whole_name(self, target: Path) -> Path:
        """Return the name that a complete image had before it got that of its target."""
        return self.part.with_name(target.name)

    def _moves_from(self, folder: Path) -> list[Move]:
        stills = stills_of(folder / self.target.name)
        return [(path, self.target.with_name(path.name)) for _, path in stills]

    def could_be_work(self, path: Path) -> bool:
        """Return whether a run could have created what has a temporary name."""
        return path.is_dir() and not path.is_symlink()

    def remove(self, work: Iterable[Path]) -> None:
        """Remove the images from folders with temporary names; other files in them stay."""
        for folder in work:
            remove_stills(folder / self.target.name)


Place = FilePlace | SeriesPlace


@contextlib.contextmanager
def holding(place: Place) -> Iterator[Lock]:
    """Hold the lock of a place while the block lasts, and give it.

    Raises:
        OutputError: Another run holds it, or a user's file has a temporary name.
    """
    with contextlib.ExitStack() as stack:
        with output_errors(place.target):
            if isinstance(place, SeriesPlace):
                stack.callback(_remove_empty, _make_folders(place.target.parent))
            lock = stack.enter_context(Lock(place.lock, place.flag, place.target))
        try:
            check_work(place, is_ours=lock.was_there)
        except OutputError:
            if not lock.was_there:  # or the next run would take the user's file for ours
                lock.remove()
            raise
        try:
            yield lock
        finally:
            if not any(map(os.path.lexists, _work(place))):
                lock.remove()


def check_work(place: Place, *, is_ours: bool) -> None:
    """Check that temporary names are free, or belong to work of an earlier run.

    Args:
        place: Place.
        is_ours: Whether an earlier run held it.

    Raises:
        OutputError: Something else has such a name.
    """
    for path in _work(place):
        if os.path.lexists(path) and not (is_ours and place.could_be_work(path)):
            raise foreign(path, place.flag, place.target)


def put_back(place: Place) -> bool:
    """Restore what a killed run put aside, where its name is free; return whether there was any."""
    with output_errors(place.target):
        lost = [move for move in place.put_aside() if not os.path.lexists(move[1])]
        for path, target in lost:
            path.rename(target)
    return bool(lost)


def clear(place: Place, *, keep_part: bool) -> None:
    """Remove the temporary files of a run that ended, but for targets that are put aside.

    Args:
        place: Place.
        keep_part: Keep the files that another run resumes from.
    """
    with output_errors(place.target):
        place.remove(place.passing if keep_part else (*place.lasting, *place.passing))


def _work(place: Place) -> tuple[Path, ...]:
    return (*place.lasting, *place.passing, place.aside)


def _make_folders(path: Path) -> list[Path]:
    """Create a folder and its parents; return those created, the innermost first."""
    missing = [folder for folder in (path, *path.parents) if not folder.exists()]
    path.mkdir(parents=True, exist_ok=True)
    return missing


def _remove_empty(folders: Iterable[Path]) -> None:
    with contextlib.suppress(OSError):
        for folder in folders:
            folder.rmdir()
