"""Positions in GoPro's telemetry, GPMF: https://github.com/gopro/gpmf-parser.

A packet is a tree of entries: four letters, a type, the size of a value and the number of values,
then the values, all of it big-endian and padded to four bytes.
"""

import struct
from collections.abc import Iterator
from typing import NamedTuple

NAME = "GoPro telemetry"
ROOT = b"DEVC"
"""Key of what every packet begins with."""
POSITION_KEYS = (b"GPS9", b"GPS5")
"""Streams of positions, the better one first; a camera that writes both measures alike."""
GPS9_FIX = 32 - 2
"""Place in a value of GPS9, of 32 bytes, of the kind of fix; 0 is none."""


class Entry(NamedTuple):
    """A key with its values, unread."""

    key: bytes
    kind: int
    size: int
    """Bytes of a value."""
    data: bytes


def places(data: bytes) -> list[tuple[float, float]]:
    """Return latitude and longitude of each position in a packet; none of a damaged one."""
    if not data.startswith(ROOT):
        return []
    found: dict[bytes, list[tuple[float, float]]] = {}
    try:
        for stream in _streams(data):
            for key in POSITION_KEYS:
                if key in stream:
                    found[key] = _places_of(stream, key)
    except (struct.error, LookupError, ValueError, ZeroDivisionError):
        return []
    return next((found[key] for key in POSITION_KEYS if found.get(key)), [])


def _streams(data: bytes) -> Iterator[dict[bytes, Entry]]:
    """Yield the entries of each stream, the innermost trees, by key."""
    for device in _entries(data):
        if device.key == ROOT:
            for stream in _entries(device.data):
                if stream.key == b"STRM":
                    yield {entry.key: entry for entry in _entries(stream.data)}


def _entries(data: bytes) -> Iterator[Entry]:
    """Yield the entries that follow each other; zeros end them."""
    place = 0
    while place + 8 <= len(data) and data[place : place + 4].strip(b"\0"):
        key, kind, size, number = struct.unpack_from(">4sBBH", data, place)
        begin, place = place + 8, place + 8 + -(-size * number // 4) * 4
        if begin + size * number > len(data):
            raise ValueError(f"{key!r} is cut off")
        yield Entry(key, kind, size, data[begin : begin + size * number])


def _places_of(stream: dict[bytes, Entry], key: bytes) -> list[tuple[float, float]]:
    fix = stream.get(b"GPSF")
    if fix and not int.from_bytes(fix.data):
        return []
    entry, (north, east) = stream[key], _scales(stream[b"SCAL"])
    values = (entry.data[n : n + entry.size] for n in range(0, len(entry.data), entry.size))
    return [
        (latitude / north, longitude / east)
        for value in values
        if key != b"GPS9" or any(value[GPS9_FIX:])
        for latitude, longitude in [struct.unpack_from(">2i", value)]
    ]


def _scales(entry: Entry) -> tuple[int, int]:
    """Return the divisors of latitude and longitude; one may stand for all values."""
    code = {2: "h", 4: "i"}[entry.size]
    scales = [scale for (scale,) in struct.iter_unpack(f">{code}", entry.data)]
    return scales[0], scales[min(1, len(scales) - 1)]
