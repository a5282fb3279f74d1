"""The boxes that an MP4 or MOV file is made of."""

import os
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import BinaryIO

HEAD_BYTES = 8
"""Header of a box: length and name, four bytes each."""
LONG, TO_END = 1, 0
"""Lengths that say: the length follows in eight bytes; the box ends with the file."""


@dataclass(frozen=True)
class Box:
    """A box at the top of a file."""

    name: bytes
    begin: int
    """Offset of its first byte."""
    end: int
    """Offset behind its last byte, which is behind the file's if the box is torn."""


def boxes(file: BinaryIO) -> Iterator[Box]:
    """Yield the boxes at the top of a file, as far as they can be told.

    Args:
        file: The file, which may be truncated behind a box meanwhile.
    """
    begin, size = 0, file.seek(0, os.SEEK_END)
    while begin < size:
        file.seek(begin)
        head = file.read(HEAD_BYTES)
        length = int.from_bytes(head[:4], "big")
        if length == LONG:
            length = int.from_bytes(file.read(8), "big")
        elif length == TO_END:
            length = size - begin
        end = begin + max(length, HEAD_BYTES)
        yield Box(head[4:], begin, end)
        begin = end


def has_another_film(path: Path) -> bool:
    """Return whether a film follows another in a file, as where files were strung together.

    FFmpeg reads the first alone. It reads on where both are in fragments.
    """
    media, fragments, begins = False, False, False
    with path.open("rb") as file:
        for box in boxes(file):
            if box.name == b"ftyp":
                begins = media
            elif box.name == b"moof":
                if begins and not fragments:
                    return True
                begins, fragments, media = False, True, True
            elif box.name == b"mdat":
                if begins:
                    return True
                media = True
    return False
