"""Give all outputs of a run their names together, though files are renamed one by one.

What is to get a name is noted before the first is renamed, in the lock file of the run's first
place, and that all have their names after the last. A run that is killed in between leaves the
notes, by which the next one takes the names back, or removes what is left of the work.
"""

import contextlib
import json
import os
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path

from roadseg.errors import OutputError
from roadseg.files import Lock, output_errors
from roadseg.infer.output_places import Place, clear, put_back

ALL_NAMED = b"all have their names"
"""The second note, after that of the files."""

State = list[int]
"""Size and date of a file, as in JSON: unlike its number, no other file gets them, and the file
loses them when it is changed."""
Files = Mapping[str, State]
"""Files of a place, by the last part of their names."""


def publish(places: Sequence[Place], lock: Lock) -> None:
    """Rename all complete outputs to their targets, or none of them on an error.

    Existing targets are put aside first, and restored on an error. The first place, that of a
    video, is the last to get its name.

    Args:
        places: All places of the run.
        lock: That of the first place.

    Raises:
        OutputError: A file cannot be renamed.
    """
    with contextlib.ExitStack() as undo:
        undo.callback(lock.forget_notes)
        with output_errors(places[0].lock):
            lock.note(json.dumps({_key(place): _files(place) for place in places}).encode())
        for place in reversed(places):
            with output_errors(place.target):
                for path, target in (*place.taken(), *place.whole_files()):
                    target.parent.mkdir(exist_ok=True)
                    path.rename(target)
                    undo.callback(target.rename, path)
        with output_errors(places[0].lock):
            lock.note(ALL_NAMED)
        undo.pop_all()


def settle(places: Sequence[Place], lock: Lock, advice: str | None) -> bool:
    """Clear up after a run that was killed while its outputs got their names.

    If not all had them, they are taken back, so that the run is one that can be resumed or begun
    anew. What has changed since is left alone.

    Args:
        places: All places of this run; of the killed one, other places stay as they are.
        lock: That of the first place.
        advice: What to do if some have their names and may not lose them; None takes them back.

    Returns:
        Whether there was such a run, and all of its outputs had their names.

    Raises:
        OutputError: Outputs have their names that may not lose them.
    """
    if not lock.notes:
        return False
    noted: dict[str, Files] = json.loads(lock.notes[0])
    all_named = ALL_NAMED in lock.notes[1:]
    known = {place: noted[_key(place)] for place in places if _key(place) in noted}
    if all_named:
        for place in known:
            remove_work(place)
    else:
        named = [(place, target) for place in known for target in _named(place, known[place])]
        if named and advice:
            raise _half_published(*named[0], advice)
        for place, target in named:
            _take_back(place, target)
        for place in known:
            put_back(place)
    with output_errors(places[0].lock):
        lock.forget_notes()
    return all_named


def remove_work(place: Place) -> None:
    """Remove all temporary files of a place once its outputs have their names.

    Raises:
        OutputError: A file cannot be removed.
    """
    clear(place, keep_part=False)
    with output_errors(place.target):
        place.remove([place.aside])


def _key(place: Place) -> str:
    """Return a name for a place that does not depend on where a run is started."""
    return os.path.join(os.path.realpath(place.lock.parent), place.lock.name)  # noqa: PTH118


def _files(place: Place) -> Files:
    return {target.name: _state(path) for path, target in place.whole_files()}


def _state(path: Path) -> State:
    state = path.lstat()
    return [state.st_size, state.st_mtime_ns]


def _named(place: Place, files: Files) -> Iterator[Path]:
    """Yield the files of a run that have their final names, and are as they were."""
    for target, _ in place.taken():
        was_renamed = not os.path.lexists(place.whole_name(target))
        if was_renamed and _state(target) == files.get(target.name):
            yield target


def _take_back(place: Place, target: Path) -> None:
    whole = place.whole_name(target)
    with output_errors(target):
        whole.parent.mkdir(exist_ok=True)
        target.rename(whole)


def _half_published(place: Place, target: Path, advice: str) -> OutputError:
    return OutputError(
        f"{place.flag} {target} has its name from a run that was killed before all of its outputs "
        f"had theirs; {advice}"
    )
