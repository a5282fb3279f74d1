"""Options that had another name; the old ones go on working for one version, with a hint."""

from collections.abc import Sequence
from dataclasses import dataclass
from itertools import pairwise

from roadseg.cli.console import complain


@dataclass(frozen=True)
class Renamed:
    """An option with a new name."""

    old: str
    new: str
    value_suffix: str = ""
    """What a value must end in to be the old option's, where another option has its name now."""

    def matches(self, name: str, value: str) -> bool:
        """Return whether this is what a name on the command line, and what follows it, mean."""
        return name == self.old and value.endswith(self.value_suffix)


REPORT = Renamed("--page", "--report")
RENAMED = {
    "bench": (REPORT, Renamed("--json", "--record", value_suffix=".json")),
    "check": (REPORT,),
    "compile": (Renamed("--runtime", "--backend"),),
    "evaluate": (REPORT,),
}
"""By command."""


def with_new_names(command: str, arguments: Sequence[str]) -> list[str]:
    """Return arguments with the new names of options in place of old ones; each is hinted at."""
    options = list(arguments[: arguments.index("--")] if "--" in arguments else arguments)
    renamed = [_renamed(command, *pair) for pair in pairwise([*options, ""])]
    return [*renamed, *arguments[len(options) :]]


def _renamed(command: str, argument: str, following: str) -> str:
    name, sign, value = argument.partition("=")
    for change in RENAMED.get(command, ()):
        if change.matches(name, value if sign else following):
            complain(f"hint: {change.old} is {change.new} now; the next version drops the old name")
            return change.new + sign + value
    return argument
