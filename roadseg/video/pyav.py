"""The one place where PyAV's versions differ: how they read tags and what a rational is.

PyAV 18 gives a `Fraction`, or None where nothing is known; PyAV 19 gives an `AVRational`, which is
zero or has no denominator there. Both are false then, and both multiply and divide exactly.
"""

from collections.abc import Mapping
from fractions import Fraction
from typing import Any, Protocol

import av

TAGS_IN_ANY_CODE: dict[str, Any] = (
    {"metadata_errors": "replace"} if int(av.__version__.partition(".")[0]) < 19 else {}
)
"""Has PyAV 18 take tags that are not UTF-8; PyAV 19 always does, and gives surrogates for them."""


class Rational(Protocol):
    """What PyAV gives for a rate, a time base or an aspect ratio."""

    @property
    def numerator(self) -> int:
        """What is divided."""
        ...

    @property
    def denominator(self) -> int:
        """What it is divided by."""
        ...


def open_for_reading(source: Any, **options: Any) -> av.container.InputContainer:
    """Open a file, an address or a file object, with tags in any code.

    Args:
        source: What `av.open` takes.
        options: More of what `av.open` takes.
    """
    plain = str.__str__(source) if isinstance(source, str) else source  # PyAV 19 wants no subclass
    container: av.container.InputContainer = av.open(plain, "r", **TAGS_IN_ANY_CODE, **options)
    return container


def exact(number: Rational | None) -> Fraction | None:
    """Return a rate, a time base or an aspect ratio; None where it is not known."""
    return Fraction(number.numerator, number.denominator) if number else None


def all_legible(tags: Mapping[str, str]) -> dict[str, str]:
    """Return tags whose names and texts are legible."""
    return {legible(name): legible(text) for name, text in tags.items()}


def legible(text: str) -> str:
    """Return a tag's text with a replacement character for every byte that is not UTF-8."""
    return text.encode(errors="surrogateescape").decode(errors="replace")
