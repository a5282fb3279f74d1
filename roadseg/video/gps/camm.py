"""Positions in CAMM, the Camera Motion Metadata of 360-degree cameras.

See https://developers.google.com/streetview/publish/camm-spec. A sample is two reserved bytes, a
type, and the values of the type, all of it little-endian.
"""

import struct

NAME = "CAMM telemetry"
HEAD = struct.Struct("<HH")
PLAIN, FULL = struct.Struct("<2d"), struct.Struct("<di2d")
"""Values of a position: latitude and longitude, alone or after the time and the kind of fix."""
PLAIN_TYPE, FULL_TYPE = 5, 6
SIZES = {0: 12, 1: 8, 2: 12, 3: 12, 4: 12, PLAIN_TYPE: 24, FULL_TYPE: 56, 7: 12}
"""Bytes of the values of each type."""


def places(data: bytes) -> list[tuple[float, float]]:
    """Return latitude and longitude of each position in a packet; none if it is no CAMM."""
    found, place = [], 0
    while place + HEAD.size <= len(data):
        reserved, kind = HEAD.unpack_from(data, place)
        place += HEAD.size
        if reserved or kind not in SIZES or place + SIZES[kind] > len(data):
            return []
        if kind == PLAIN_TYPE:
            found.append(PLAIN.unpack_from(data, place))
        elif kind == FULL_TYPE:
            _time_s, fix, *where = FULL.unpack_from(data, place)
            found += [(where[0], where[1])] if fix else []
        place += SIZES[kind]
    return found
