"""Statistics as Parquet: those of the JSON lines, in files that others' readers take."""

import importlib.util
import os
from collections.abc import Iterator
from dataclasses import replace
from datetime import UTC, date, datetime

import pytest
from conftest import SAMPLE
from films import Film
from test_batch import Killed, batch_of, drive

from roadseg.errors import BackendUnavailable
from roadseg.infer import stats_parquet
from roadseg.infer.batch.films import BatchConfig
from roadseg.infer.batch.partition import any_date, partition
from roadseg.infer.config import InferConfig
from roadseg.infer.offline import infer
from roadseg.infer.stats import read_stats
from roadseg.infer.stats_parquet import write_parquet
from roadseg.video.frame import FrameStats, Region
from roadseg.video.write.part import part_path

dataset = pytest.importorskip("pyarrow.dataset")
pq = pytest.importorskip("pyarrow.parquet")

FILM = Film(times=tuple(range(24)), options=(("g", "10"),))
DAY_S = datetime(2026, 8, 1, 6, tzinfo=UTC).timestamp()


def test_parquet_has_what_the_json_lines_have(tmp_path) -> None:
    places = [tmp_path / name for name in ("stats.jsonl", "stats.parquet")]
    for place in places:
        infer(InferConfig(source=SAMPLE, out=None, stats=place, every=4, end_s=0.6))
    lines, rows = map(list, map(read_stats, places))
    assert rows == lines
    assert any(o.track is not None and o.moved for frame in rows for o in frame.objects)
    assert sorted(path.name for path in tmp_path.iterdir()) == ["stats.jsonl", "stats.parquet"]


def test_columns_have_plain_types_and_encodings(tmp_path) -> None:
    box = {"left": 1, "top": 2, "width": 3, "height": 4, "pixels": 5}
    region = Region(name="car", **box, across_road=None, moved=(0.5, -1.0), track=7)
    frame = FrameStats(pts=1, time_s=0.5, shares={"road": 0.25}, objects=(region,))
    write_parquet(tmp_path / "stats.parquet", [frame])
    file = pq.ParquetFile(tmp_path / "stats.parquet")
    columns = [file.metadata.row_group(0).column(i) for i in range(file.metadata.num_columns)]
    assert {c.physical_type for c in columns} <= {"INT32", "INT64", "DOUBLE", "BYTE_ARRAY"}
    assert {c.compression for c in columns} == {"SNAPPY"}
    assert {e for c in columns for e in c.encodings} <= {"PLAIN", "RLE", "RLE_DICTIONARY"}
    assert [c.path_in_schema for c in columns][:3] == ["pts", "time_s", "shares.road"]
    assert list(read_stats(tmp_path / "stats.parquet")) == [frame]


def test_long_films_are_written_a_group_of_rows_at_a_time(tmp_path, monkeypatch) -> None:
    monkeypatch.setattr(stats_parquet, "ROWS_AT_ONCE", 4)
    frames = [FrameStats(pts=i, time_s=i / 10, shares={"road": 0.0}, objects=()) for i in range(10)]
    write_parquet(tmp_path / "stats.parquet", frames)
    assert pq.ParquetFile(tmp_path / "stats.parquet").metadata.num_row_groups == 3
    assert list(read_stats(tmp_path / "stats.parquet")) == frames


def test_an_unfinished_run_is_gone_on_with(plain, tmp_path) -> None:
    long = Film(times=tuple(range(0, 400)), options=(("g", "10"),))
    long.write(plain.source)
    config = replace(plain, stats=tmp_path / "stats.parquet")

    def stop(done: int, _total: int | None) -> None:
        if done == 200:
            raise Killed

    with pytest.raises(Killed):
        infer(config, stop)
    assert not config.stats.exists()
    assert part_path(config.out).exists()
    result = infer(replace(config, resume=True))
    assert result.kept_frames > 0
    assert [frame.time_s for frame in read_stats(config.stats)] == [t / 10 for t in long.times]
    assert not [path for path in tmp_path.iterdir() if path.name.startswith("roadseg-")]


def test_a_missing_pyarrow_is_one_sentence_before_the_work(plain, monkeypatch) -> None:
    FILM.write(plain.source)
    found = importlib.util.find_spec
    monkeypatch.setattr(stats_parquet, "find_spec", lambda n: None if n == "pyarrow" else found(n))
    stats = plain.source.with_name("stats.parquet")
    with pytest.raises(BackendUnavailable, match=r"run: pip install '\.\[parquet\]'"):
        infer(replace(plain, stats=stats))
    assert not list(plain.source.parent.glob("roadseg-*"))


@pytest.fixture
def batch(plain, tmp_path) -> BatchConfig:
    for name in ("a", "night/c, d=1 ü"):
        path = tmp_path / "films" / f"{name}.mp4"
        path.parent.mkdir(parents=True, exist_ok=True)
        FILM.write(path)
        os.utime(path, (DAY_S, DAY_S))
    return batch_of(plain, tmp_path, stats="stats.parquet")


def files_of(batch: BatchConfig) -> Iterator[str]:
    folder = batch.out / batch.dataset
    return (p.relative_to(folder).as_posix() for p in sorted(folder.rglob("*")) if p.is_file())


def test_a_batch_makes_a_data_set_partitioned_by_date_and_film(batch) -> None:
    assert len(drive(batch).done) == 2
    assert list(files_of(batch)) == [
        "date=2026-08-01/film=a.mp4/part-0.parquet",
        "date=2026-08-01/film=night%2Fc, d%3D1 ü.mp4/part-0.parquet",
    ]
    table = dataset.dataset(batch.out / "stats.parquet", partitioning="hive").to_table()
    films = table.column("film").to_pylist()
    assert {f: films.count(f) for f in films} == {"a.mp4": 24, "night/c, d=1 ü.mp4": 24}
    assert drive(batch).done_before == 2
    assert not list(batch.out.rglob("*.stats.parquet"))


def test_duckdb_reads_the_data_set_and_its_partitions(batch) -> None:
    duckdb = pytest.importorskip("duckdb")
    drive(batch)
    files = batch.out / "stats.parquet" / "*" / "*" / "*.parquet"
    asked = (
        f"SELECT date, film, count(*), avg(shares.road) FROM '{files}' GROUP BY ALL ORDER BY film"
    )
    rows = duckdb.sql(asked).fetchall()
    assert [row[:3] for row in rows] == [
        (date(2026, 8, 1), "a.mp4", 24),
        (date(2026, 8, 1), "night/c, d=1 ü.mp4", 24),
    ]
    assert all(0 <= row[3] <= 1 for row in rows)


def test_a_film_of_another_day_in_the_place_of_one_takes_its_rows_away(batch, tmp_path) -> None:
    drive(batch)
    later = DAY_S + 86400
    os.utime(tmp_path / "films" / "a.mp4", (later, later))
    assert [record.film for record in drive(batch).done] == ["a.mp4"]
    assert "date=2026-08-02/film=a.mp4/part-0.parquet" in list(files_of(batch))
    assert "date=2026-08-01/film=a.mp4/part-0.parquet" not in list(files_of(batch))


def test_the_day_is_that_which_the_camera_wrote(batch, tmp_path) -> None:
    import av

    source, target = tmp_path / "films" / "a.mp4", tmp_path / "films" / "b.mp4"
    with av.open(source) as read, av.open(target, "w") as written:
        written.metadata["creation_time"] = "2025-02-03T23:59:59.000000Z"
        stream = written.add_stream_from_template(read.streams.video[0])
        for packet in read.demux(video=0):
            if packet.dts is not None:
                packet.stream = stream
                written.mux(packet)
    drive(batch)
    assert "date=2025-02-03/film=b.mp4/part-0.parquet" in list(files_of(batch))


def test_a_film_in_chunks_has_the_rows_of_one_run(batch, plain, tmp_path) -> None:
    long = Film(times=tuple(range(0, 1300, 10)), options=(("g", "10"),))
    long.write(tmp_path / "films" / "a.mp4")
    drive(batch_of(plain, tmp_path, stats="stats.parquet", chunk_s=30.0))
    (found,) = batch.out.glob(any_date("stats.parquet", "a.mp4"))
    whole = tmp_path / "whole.jsonl"
    config = replace(plain, source=tmp_path / "films" / "a.mp4", stats=whole, out=None)
    infer(config)
    assert list(read_stats(found)) == list(read_stats(whole))


def test_a_film_without_a_date_lies_where_hive_puts_what_is_not_known() -> None:
    name = partition("s.parquet", "a.mp4", None)
    assert name == "s.parquet/date=__HIVE_DEFAULT_PARTITION__/film=a.mp4/part-0.parquet"
