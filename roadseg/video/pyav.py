"""Differences between PyAV's versions, and from its type hints: tags, rationals, packets.

PyAV 18 returns a `Fraction`, or None for an unknown value; PyAV 19 returns an `AVRational`, which
is zero or has no denominator then. Unknown values are false in both, and both calculate exactly.
"""

from collections.abc import Mapping
from fractions import Fraction
from pathlib import Path
from typing import TYPE_CHECKING, Any, Protocol, TypeAlias

import av

if TYPE_CHECKING:
    Packet: TypeAlias = av.Packet[Any]
else:
    Packet = av.Packet  # generic in PyAV's type hints alone

TAGS_IN_ANY_CODE: dict[str, Any] = (
    {"metadata_errors": "replace"} if int(av.__version__.partition(".")[0]) < 19 else {}
)
"""Lets PyAV 18 read tags that are not UTF-8; PyAV 19 always does, with surrogate escapes."""


class Rational(Protocol):
    """PyAV's type of rates, time bases and aspect ratios."""

    @property
    def numerator(self) -> int:
        """The numerator."""
        ...

    @property
    def denominator(self) -> int:
        """The denominator."""
        ...


def open_for_reading(source: Any, **options: Any) -> av.container.InputContainer:
    """Open a file, an address or a file object, with tags in any encoding.

    Args:
        source: As for `av.open`.
        options: Further arguments of `av.open`.
    """
    plain = str.__str__(source) if isinstance(source, str) else source  # PyAV 19 wants no subclass
    if isinstance(source, Path):
        plain = source.absolute()  # FFmpeg takes 12:30.mp4 for an address
    container: av.container.InputContainer = av.open(plain, "r", **TAGS_IN_ANY_CODE, **options)
    return container


def exact(number: Rational | None) -> Fraction | None:
    """Return a rate, a time base or an aspect ratio as a fraction; None if it is unknown."""
    return Fraction(number.numerator, number.denominator) if number else None


def all_legible(tags: Mapping[str, str]) -> dict[str, str]:
    """Return tags with names and texts in valid Unicode."""
    return {legible(name): legible(text) for name, text in tags.items()}


def legible(text: str) -> str:
    """Return a text with a replacement character for every byte that is not UTF-8."""
    return text.encode(errors="surrogateescape").decode(errors="replace")
