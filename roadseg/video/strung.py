"""Films strung together in one WMV or FLV file, of which FFmpeg reads the first alone.

Those in an MP4 file are found by `has_another_film` in `boxes.py`.
"""

import os
from pathlib import Path

ASF_HEADER = bytes.fromhex("3026b2758e66cf11a6d900aa0062ce6c")
"""Name of the object that a WMV or ASF file begins with."""
ASF_HEAD_BYTES = 24
"""Header of an object: name and length, sixteen and eight bytes."""
FLV = b"FLV"
"""What an FLV file begins with."""
FLV_TAGS = (8, 9, 18)
"""Kinds of tags in an FLV file: sound, pictures, data."""
FLV_HEAD_BYTES, FLV_TAIL_BYTES = 11, 4
"""Header of a tag, and what repeats its length behind it."""


def has_another_asf(path: Path) -> bool:
    """Return whether a WMV or ASF film follows another in a file."""
    begin = 0
    with path.open("rb") as file:
        size = file.seek(0, os.SEEK_END)
        while begin < size:
            file.seek(begin)
            head = file.read(ASF_HEAD_BYTES)
            if begin and head.startswith(ASF_HEADER):
                return True
            length = int.from_bytes(head[16:], "little")
            if length < ASF_HEAD_BYTES:  # as of the pictures of a recording that was cut off
                return False
            begin += length
    return False


def has_another_flv(path: Path, last_tag: int) -> bool:
    """Return whether an FLV film follows another in a file.

    Args:
        path: The file, which may be of another format.
        last_tag: Offset of the last tag that FFmpeg found: a film may have a million.
    """
    begin = last_tag
    with path.open("rb") as file:
        if file.read(len(FLV)) != FLV:
            return False
        while True:
            file.seek(begin)
            head = file.read(FLV_HEAD_BYTES)
            if begin and head.startswith(FLV):
                return True
            if not head or head[0] not in FLV_TAGS:
                return False
            begin += FLV_HEAD_BYTES + int.from_bytes(head[1:4], "big") + FLV_TAIL_BYTES
