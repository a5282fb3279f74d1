"""Chunks of PNG files, for what OpenCV neither reads nor writes: palettes."""

import struct
from collections.abc import Iterator
from zlib import crc32

SIGNATURE = b"\x89PNG\r\n\x1a\n"
"""First bytes of every PNG file."""
PALETTE_TYPE = 3
"""Colour type of a file with a palette."""


def chunks(data: bytes) -> Iterator[tuple[bytes, bytes]]:
    """Yield the names and contents of a file's chunks; none if it is not a PNG file."""
    place = len(SIGNATURE) if data.startswith(SIGNATURE) else len(data)
    while place + 8 <= len(data):
        length = int.from_bytes(data[place : place + 4], "big")
        yield data[place + 4 : place + 8], data[place + 8 : place + 8 + length]
        place += length + 12


def chunk(name: bytes, content: bytes) -> bytes:
    """Return a chunk with its length and checksum."""
    checksum = crc32(name + content)
    return struct.pack(">I", len(content)) + name + content + struct.pack(">I", checksum)
