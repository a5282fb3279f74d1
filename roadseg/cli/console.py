"""Print to the terminal, without control codes from the names of files and classes."""

import re
import shlex
from collections.abc import Mapping

import typer

STEERING = re.compile(
    "[\x00-\x08\x0b-\x1f\x7f-\x9f"  # control characters but tab and line feed
    "\u061c\u200e\u200f\u2028-\u202e\u2066-\u2069"  # what changes the direction or ends a line
    "\ud800-\udfff]"  # bytes of a file name that are no UTF-8
)
"""Characters that control the terminal."""
LEAST_SHOWN_SHARE = 0.005
"""Least share that is told."""


def visible(text: str) -> str:
    """Return a text with a question mark for each character that controls the terminal."""
    return STEERING.sub("?", text)


def echo(text: str, *, err: bool = False) -> None:
    """Print a text without control characters."""
    typer.echo(visible(text), err=err)


def complain(message: object) -> None:
    """Print an error or a warning on standard error, in one line whatever names are in it."""
    echo(f"roadseg: {message}".replace("\n", "?"), err=True)


def counted(count: int, what: str) -> str:
    """Return so many of something in words: 1 frame, 2 frames."""
    return f"{count} {what}" if count == 1 else f"{count} {what}s"


def typed(name: str) -> str:
    """Return the name of a file as it is typed in a command."""
    return shlex.quote(f"./{name}" if name.startswith("-") else name)


def shares_said(shares: Mapping[str, float]) -> list[str]:
    """Return shares with their names, the largest first, without those that are too small."""
    largest_first = sorted(shares.items(), key=lambda entry: -entry[1])
    return [f"{name} {share:.0%}" for name, share in largest_first if share >= LEAST_SHOWN_SHARE]
