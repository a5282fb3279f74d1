"""Cut an ONNX graph down to the outputs that are wanted: ONNX Runtime computes all of its nodes.

The fields are those of `onnx.proto`; a graph's nodes come after those that they take from.
"""

from collections.abc import Collection, Iterable, Iterator
from io import BytesIO
from typing import NamedTuple

from roadseg.backends.onnx_record import BYTES, VARINT, varint

GRAPH = 7
"""Field number of `ModelProto.graph`."""
NODE, OUTPUT = 1, 12
"""Field numbers in `GraphProto`."""
INPUTS, OUTPUTS, ATTRIBUTE = 1, 2, 5
"""Field numbers in `NodeProto`."""
NAME = 1
"""Field number of `ValueInfoProto.name`."""
SUBGRAPHS = (6, 11)
"""Field numbers in `AttributeProto` of a graph and of several."""
FIXED_BYTES = {1: 8, 5: 4}
"""Bytes of numbers of fixed length, by the kind of their field."""


class Field(NamedTuple):
    """A field of a message."""

    number: int
    value: bytes
    """Empty for a number."""
    raw: bytes
    """All of it, as it stands in the message."""


def cut_to(model: bytes, wanted: Collection[str]) -> bytes:
    """Return a model without the outputs that are not wanted, nor the nodes that only they need.

    One with graphs within its graph, as of branches and loops, is returned as it is.
    """
    return b"".join(
        _message(GRAPH, _cut_graph(field.value, set(wanted)))
        if field.number == GRAPH
        else field.raw
        for field in _fields(model)
    )


def _cut_graph(graph: bytes, needed: set[str]) -> bytes:
    fields = list(_fields(graph))
    nodes = {at: list(_fields(f.value)) for at, f in enumerate(fields) if f.number == NODE}
    if any(_has_subgraph(node) for node in nodes.values()):
        return graph
    dropped = {
        at
        for at, field in enumerate(fields)
        if field.number == OUTPUT and needed.isdisjoint(_texts(_fields(field.value), NAME))
    }
    for at in reversed(nodes):
        if needed.isdisjoint(_texts(nodes[at], OUTPUTS)):
            dropped.add(at)
        else:
            needed |= _texts(nodes[at], INPUTS)
    return b"".join(field.raw for at, field in enumerate(fields) if at not in dropped)


def _has_subgraph(node: Collection[Field]) -> bool:
    attributes = (_fields(field.value) for field in node if field.number == ATTRIBUTE)
    return any(part.number in SUBGRAPHS for attribute in attributes for part in attribute)


def _texts(fields: Iterable[Field], number: int) -> set[str]:
    return {field.value.decode() for field in fields if field.number == number}


def _fields(message: bytes) -> Iterator[Field]:
    """Yield the fields of a message. Raises `ValueError` on damage."""
    stream = BytesIO(message)
    start = 0
    while (tag := varint(stream)) is not None:
        number, kind = tag >> 3, tag & 7
        length = varint(stream) if kind in (VARINT, BYTES) else FIXED_BYTES.get(kind)
        if length is None:
            raise ValueError("no message of this kind")
        value = b"" if kind == VARINT else stream.read(length)
        end = stream.tell()
        yield Field(number, value, message[start:end])
        start = end


def _message(number: int, value: bytes) -> bytes:
    """Return a field that holds a message."""
    return _varint_of(number << 3 | BYTES) + _varint_of(len(value)) + value


def _varint_of(number: int) -> bytes:
    digits = [number >> shift & 0x7F for shift in range(0, max(number.bit_length(), 1), 7)]
    return bytes([*(digit | 0x80 for digit in digits[:-1]), digits[-1]])
