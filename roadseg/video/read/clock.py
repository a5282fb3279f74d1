"""The clocks of streams: their units, and whether they run straight through a file."""

from itertools import pairwise

import av

from roadseg.video.pyav import Packet

BROADCAST_GAP_S, FILE_GAP_S = 10.0, 600.0
"""Step forward above which a clock has jumped, in broadcast formats and in others, whose long gaps
may be intended."""
CLOCKS_JUMP = 0x0200
"""FFmpeg's flag AVFMT_TS_DISCONT, of formats whose clocks may jump."""


def clocks_jump(container: av.container.InputContainer) -> bool:
    """Return whether a file has a broadcast format, such as MPEG-TS."""
    return bool(container.format.flags & CLOCKS_JUMP)


def has_straight_clock(container: av.container.InputContainer, stream: av.stream.Stream) -> bool:
    """Return whether, by the file's index, times grow with the position in the file."""
    entries = list(stream.index_entries)
    if clocks_jump(container) or not entries:
        return False
    longest = FILE_GAP_S / unit_of(stream)
    return all(
        a.pos <= b.pos and b.timestamp - a.timestamp <= longest for a, b in pairwise(entries)
    )


def unit_of(item: av.stream.Stream | Packet) -> float:
    """Return the seconds of a unit of time of a stream or packet."""
    unit = item.time_base
    assert unit is not None  # streams of a file that is read have one
    return unit.numerator / unit.denominator
