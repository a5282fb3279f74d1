"""Read the metadata of an ONNX file without a runtime, which would load the whole graph.

The file is one protocol buffer: fields, each a number, a kind and a value
(https://protobuf.dev/programming-guides/encoding/). The graph is skipped by its length.
"""

import io
import os
from collections.abc import Iterator
from pathlib import Path
from typing import BinaryIO

METADATA, KEY, VALUE = 14, 1, 2
"""Field numbers of `ModelProto.metadata_props`, and of the key and the value in it."""
VARINT, BYTES = 0, 2
"""Kinds of fields in these messages."""
LONGEST = 1 << 40
"""Length in bytes above which a field is taken for damage."""
LONGEST_RECORD = 1 << 24
"""The same for a field of metadata."""


def read_metadata(path: Path) -> dict[str, str]:
    """Return the metadata of an ONNX file by key; empty for any other file."""
    found = {}
    try:
        with path.open("rb") as file:
            for entry in _fields(file, METADATA):
                # What is empty may be left out.
                key, value = (b"".join(_fields(io.BytesIO(entry), n)) for n in (KEY, VALUE))
                found[key.decode()] = value.decode()
    except (OSError, ValueError):
        return {}
    return found


def _fields(message: BinaryIO, wanted: int) -> Iterator[bytes]:
    """Yield the values of the fields with one number. Raises `ValueError` on damage."""
    while (tag := varint(message)) is not None:
        number, kind = tag >> 3, tag & 7
        length = varint(message)
        is_wanted = kind == BYTES and number == wanted
        if kind not in (VARINT, BYTES) or length is None:
            raise ValueError("no message of this kind")
        if kind == BYTES and length > (LONGEST_RECORD if is_wanted else LONGEST):
            raise ValueError("a field is too long to be one")
        if is_wanted:
            yield message.read(length)
        elif kind == BYTES:
            message.seek(length, os.SEEK_CUR)


def varint(message: BinaryIO) -> int | None:
    """Read a number, seven bits a byte, lowest first; None at the end of the file."""
    value = shift = 0
    while byte := message.read(1):
        value |= (byte[0] & 0x7F) << shift
        shift += 7
        if byte[0] < 0x80:
            return value
        if shift > 63:
            raise ValueError("a number has more than 64 bits")
    return None
