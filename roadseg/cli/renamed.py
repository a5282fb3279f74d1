"""Renamed options, whose old names work for one more version, with a hint."""

import re
from collections.abc import Sequence
from dataclasses import dataclass
from itertools import pairwise
from pathlib import Path

from roadseg.cli.console import complain
from roadseg.paint.config import LEGENDS, NO_LEGEND, OverlayConfig


@dataclass(frozen=True)
class Renamed:
    """An option with a new name."""

    old: str
    new: str
    value_suffix: str = ""
    """Suffix of the old option's values, where another option has its name now."""

    def matches(self, argument: str, following: str) -> bool:
        """Return whether this is what an argument, and the one that follows it, mean."""
        name, sign, value = argument.partition("=")
        return name == self.old and (value if sign else following).endswith(self.value_suffix)


@dataclass(frozen=True)
class OldSwitch:
    """A switch that became a value of an option."""

    old: str
    new: str
    """The option and its value, as one argument."""
    new_values: tuple[str, ...] = ()
    """Values of the option, if it has the switch's name."""

    def matches(self, argument: str, following: str) -> bool:
        """Return whether this is what an argument, and the one that follows it, mean."""
        return argument == self.old and not (self.new_values and _is_word(following))


def _is_word(argument: str) -> bool:
    """Return whether an argument is a value, rightly or wrongly spelt, and no option or file."""
    return bool(re.fullmatch(r"[a-z]+(-[a-z]+)*", argument)) and not Path(argument).exists()


REPORT = Renamed("--page", "--report")
LEGEND = (
    OldSwitch("--no-legend", f"--legend={NO_LEGEND}"),
    OldSwitch("--legend", f"--legend={OverlayConfig.legend}", new_values=LEGENDS),
)
RENAMED: dict[str, tuple[Renamed | OldSwitch, ...]] = {
    "bench": (REPORT, Renamed("--json", "--record", value_suffix=".json")),
    "check": (REPORT,),
    "compile": (Renamed("--runtime", "--backend"),),
    "evaluate": (REPORT,),
    "infer": LEGEND,
    "live": LEGEND,
}
"""By command."""


def with_new_names(command: str, arguments: Sequence[str]) -> list[str]:
    """Return arguments with new names in place of old ones, and print a hint for each."""
    options = list(arguments[: arguments.index("--")] if "--" in arguments else arguments)
    renamed = [_renamed(command, *pair) for pair in pairwise([*options, ""])]
    return [*renamed, *arguments[len(options) :]]


def _renamed(command: str, argument: str, following: str) -> str:
    for change in RENAMED.get(command, ()):
        if change.matches(argument, following):
            complain(f"hint: {change.old} is {change.new} now; the next version drops the old name")
            return change.new + argument.removeprefix(change.old)
    return argument
