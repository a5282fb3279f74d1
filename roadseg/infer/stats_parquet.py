"""Statistics of frames as Parquet: the fields of the JSON lines, in types that every reader has."""

from collections.abc import Iterable, Iterator
from dataclasses import asdict
from importlib.util import find_spec
from itertools import islice
from pathlib import Path
from typing import TYPE_CHECKING, Any

from roadseg.errors import BackendUnavailable
from roadseg.files import create, output_errors
from roadseg.video.frame import FrameStats

if TYPE_CHECKING:
    import pyarrow as pa

PARQUET_SUFFIX = ".parquet"
ROWS_AT_ONCE = 10_000
"""Frames of a row group: what lies in memory while a file is written or read."""


def is_parquet(place: Path) -> bool:
    """Return whether statistics of such a name are Parquet."""
    return place.suffix.lower() == PARQUET_SUFFIX


def check_pyarrow(place: Path) -> None:
    """Find out early whether Parquet can be written here.

    Raises:
        BackendUnavailable: It cannot.
    """
    if find_spec("pyarrow") is None:
        raise BackendUnavailable(
            f"--stats {place} is Parquet, and pyarrow is not installed; run: pip install "
            "'.[parquet]' in a checkout of roadseg, or end the name in .jsonl"
        )


def write_parquet(place: Path, stats: Iterable[FrameStats]) -> None:
    """Write the statistics of a video's frames, of which there is at least one.

    Raises:
        OutputError: The file cannot be written.
    """
    import pyarrow as pa
    import pyarrow.parquet as pq

    rows = (_row_of(frame) for frame in stats)
    first = list(islice(rows, ROWS_AT_ONCE))
    schema = _schema(first[0]["shares"])
    with output_errors(place), create(place) as file, pq.ParquetWriter(file, schema) as writer:
        while first:
            writer.write_batch(pa.RecordBatch.from_pylist(first, schema))
            first = list(islice(rows, ROWS_AT_ONCE))


def read_parquet(place: Path) -> Iterator[FrameStats]:
    """Yield the statistics in a file of ours."""
    import pyarrow.parquet as pq

    with pq.ParquetFile(place) as file:
        for batch in file.iter_batches(ROWS_AT_ONCE, use_threads=False):
            yield from map(_stats_of, batch.to_pylist())


def _schema(classes: Iterable[str]) -> "pa.Schema":
    """Return the columns; `docs/formats.md` has them too."""
    import pyarrow as pa

    pixels = [(name, pa.int32()) for name in ("left", "top", "width", "height", "pixels")]
    moved = pa.struct([("columns", pa.float64()), ("rows", pa.float64())])
    region = [
        ("name", pa.string()),
        *pixels,
        ("across_road", pa.float64()),
        ("moved", moved),
        ("track", pa.int64()),
    ]
    return pa.schema(
        [
            ("pts", pa.int64()),
            ("time_s", pa.float64()),
            ("shares", pa.struct([(name, pa.float64()) for name in classes])),
            ("objects", pa.list_(pa.struct(region))),
            ("unsure", pa.float64()),
        ]
    )


def _row_of(frame: FrameStats) -> dict[str, Any]:
    row = asdict(frame)
    for region in row["objects"]:
        if region["moved"]:
            region["moved"] = dict(zip(("columns", "rows"), region["moved"], strict=True))
    return row


def _stats_of(row: dict[str, Any]) -> FrameStats:
    for region in row["objects"]:
        if region["moved"]:
            region["moved"] = (region["moved"]["columns"], region["moved"]["rows"])
    return FrameStats.of_record(row)
