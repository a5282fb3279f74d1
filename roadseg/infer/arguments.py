"""Arguments of Python code: checked as such, and named as such in errors.

Settings and stages name the flag of the command line that is at fault. Whoever calls a function has
given none.
"""

import contextlib
import re
from collections.abc import Iterator
from typing import Any

from roadseg.errors import ConfigError, RoadsegError
from roadseg.video.rates import LONGEST_S

FLAG = re.compile(r"(?<![\w-])--([a-z]+(?:-[a-z]+)*)")
ARGUMENTS = {"size": "size_hw", "start": "start_s", "end": "end_s", "fps": "image_fps"}
"""Arguments whose names are other than those of their flags."""


@contextlib.contextmanager
def speaking_of_arguments() -> Iterator[None]:
    """Name arguments in place of flags in what the block raises."""
    try:
        yield
    except RoadsegError as error:
        error.args = tuple(_with_arguments(said) for said in error.args)
        raise


def _with_arguments(said: Any) -> Any:
    if not isinstance(said, str):
        return said
    return FLAG.sub(lambda flag: ARGUMENTS.get(flag[1], flag[1].replace("-", "_")), said)


def check_size(size_hw: object, multiple: int) -> None:
    """Raise `ConfigError` if a size of the network's input is none."""
    if size_hw is None:
        return
    sides = size_hw if isinstance(size_hw, tuple | list) and len(size_hw) == 2 else ()
    if not sides or not all(isinstance(s, int) and s > 0 and s % multiple == 0 for s in sides):
        raise ConfigError(
            f"size_hw is {size_hw!r}; give height and width, both multiples of {multiple}, such "
            f"as ({12 * multiple}, {16 * multiple})"
        )


def check_names(argument: str, names: object) -> None:
    """Raise `ConfigError` if names of classes are one text, whose letters would be names."""
    if isinstance(names, str):
        raise ConfigError(f"{argument} is {names!r}; give a tuple of names, such as ({names!r},)")


def check_times(start_s: float, end_s: float | None) -> None:
    """Raise `ConfigError` if a video has no part between two times."""
    if not 0 <= start_s <= LONGEST_S:
        raise ConfigError(f"start_s is {start_s}; it must be 0 or more seconds of the video")
    if end_s is not None and not start_s < end_s <= LONGEST_S:
        raise ConfigError(f"end_s is {end_s} and start_s is {start_s}; end_s must be later")
