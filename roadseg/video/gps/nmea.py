"""Positions in NMEA 0183 sentences, which dashcams write as subtitles or as data."""

import re
from functools import reduce
from operator import xor

NAME = "NMEA sentences"
SENTENCE = re.compile(
    rb"\$(?P<body>[A-Z]{2}(?P<kind>RMC|GGA|GLL),[\x20-\x7e]*?)\*(?P<sum>[0-9A-F]{2})"
)
"""A sentence with a position and its checksum, by whatever talker: GP, GN, GL, ..."""
PLACES = {b"RMC": (1, 3, 2), b"GGA": (1, 2, 6), b"GLL": (5, 1, 6)}
"""Fields of each kind: the time, the latitude with three more for the rest, and the state."""
NO_FIX = (b"", b"V", b"0")
"""States of a receiver that knows no position."""


def places(data: bytes) -> list[tuple[float, float]]:
    """Return latitude and longitude of each position in a packet.

    Sentences of one time are one position.
    """
    by_time: dict[bytes, tuple[float, float]] = {}
    for sentence in SENTENCE.finditer(data):
        body = sentence["body"]
        if reduce(xor, body) != int(sentence["sum"], 16):
            continue
        fields = body.split(b",")
        time, place, state = PLACES[sentence["kind"]]
        if len(fields) <= max(place + 3, state) or fields[state] in NO_FIX:
            continue
        try:
            north, east = (
                _degrees(*fields[place : place + 2]),
                _degrees(*fields[place + 2 : place + 4]),
            )
        except ValueError:
            continue
        by_time[fields[time]] = (north, east)
    return list(by_time.values())


def _degrees(text: bytes, side: bytes) -> float:
    """Return degrees from "ddmm.mmmm" and a letter, negative to the south and to the west.

    Raises:
        ValueError: It is no such number.
    """
    degrees, minutes = divmod(float(text), 100)
    return (degrees + minutes / 60) * (-1 if side in (b"S", b"W") else 1)
