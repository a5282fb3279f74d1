"""Read what an ONNX file says about itself, without a runtime that would load all of it.

The file is one protocol buffer: fields, each a number, a kind and a value
(https://protobuf.dev/programming-guides/encoding/). The graph is passed over by its length.
"""

import io
import os
from collections.abc import Iterator
from pathlib import Path
from typing import BinaryIO

METADATA, KEY, VALUE = 14, 1, 2
"""Numbers of `ModelProto.metadata_props`, and in it of the key and the value."""
VARINT, BYTES = 0, 2
"""Kinds of fields that these messages have."""
LONGEST = 1 << 40
"""Bytes that no field of theirs has."""
LONGEST_RECORD = 1 << 24
"""Nor any that we read."""


def read_metadata(path: Path) -> dict[str, str]:
    """Return the metadata of an ONNX file by key; of what is none, nothing."""
    found = {}
    try:
        with path.open("rb") as file:
            for entry in _fields(file, METADATA):
                (key,), (value,) = (list(_fields(io.BytesIO(entry), n)) for n in (KEY, VALUE))
                found[key.decode()] = value.decode()
    except (OSError, ValueError):
        return {}
    return found


def _fields(message: BinaryIO, wanted: int) -> Iterator[bytes]:
    """Yield the values of the fields of one number. Raises `ValueError`."""
    while (tag := _varint(message)) is not None:
        number, kind = tag >> 3, tag & 7
        length = _varint(message)
        is_wanted = kind == BYTES and number == wanted
        if kind not in (VARINT, BYTES) or length is None:
            raise ValueError("no message of this kind")
        if kind == BYTES and length > (LONGEST_RECORD if is_wanted else LONGEST):
            raise ValueError("a field is too long to be one")
        if is_wanted:
            yield message.read(length)
        elif kind == BYTES:
            message.seek(length, os.SEEK_CUR)


def _varint(message: BinaryIO) -> int | None:
    """Read a number, seven bits a byte, the lowest first; None at the end."""
    value = shift = 0
    while byte := message.read(1):
        value |= (byte[0] & 0x7F) << shift
        shift += 7
        if byte[0] < 0x80:
            return value
        if shift > 63:
            raise ValueError("a number has more than 64 bits")
    return None
