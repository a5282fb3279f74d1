"""Batches in object storage, against moto's server: nothing half-written, nothing done twice."""

import json
import os
import platform
import re
import subprocess
import sys
import time
from collections.abc import Iterator
from dataclasses import asdict, replace
from pathlib import Path

import pytest
from conftest import patience
from films import Film, frame_times, packets
from storage import Storage, access, served
from test_batch import LONG, Killed, batch_of, drive, end_half_way, gone_on

from roadseg.cli.batch_films import Plan
from roadseg.cli.films import Beside
from roadseg.errors import (
    BackendUnavailable,
    ClusterError,
    ConfigError,
    OutputBusy,
    OutputError,
    VideoError,
)
from roadseg.infer.batch.driver import Driver
from roadseg.infer.batch.films import BatchConfig
from roadseg.infer.batch.lease import Lease, Terms, lease_path, machine_id, read_lease
from roadseg.infer.batch.listener import Listener, Progress, Summary
from roadseg.infer.batch.manifest import ManifestWriter, Record, read_manifest
from roadseg.infer.batch.on_node import absolute, label_on_node, pinned
from roadseg.infer.batch.own_file import ObjectFile, location_named, own_file
from roadseg.infer.batch.relay import Relay
from roadseg.infer.batch.report import report_of
from roadseg.infer.batch.status import status_of
from roadseg.infer.batch.store import scratch_folder
from roadseg.infer.batch.workers import Here, Outcome, Task
from roadseg.infer.config import InferConfig
from roadseg.infer.offline import infer
from roadseg.video import objects
from roadseg.video.objects import below, objects_in, storage
from roadseg.video.read.source import probe
from roadseg.video.url import Url

FILM = Film(times=tuple(range(24)), sounds=1, options=(("g", "10"),))


@pytest.fixture(scope="module")
def server() -> Iterator[tuple[Storage, str]]:
    with served() as found:
        yield found


@pytest.fixture
def remote(server, monkeypatch, tmp_path) -> Iterator[Storage]:
    """Storage with an empty bucket."""
    app, address = server
    cache = {"XDG_CACHE_HOME": str(tmp_path / "cache")}
    for name, value in (access(address, tmp_path) | cache).items():
        monkeypatch.setenv(name, value)
    app.denied, app.ignores_conditions = None, False
    storage().call_s3("create_bucket", Bucket="fleet")
    app.requests.clear()
    yield app
    app.denied = None
    storage().rm("fleet", recursive=True)


def put(path: Path, name: str) -> None:
    storage().put_file(str(path), f"fleet/{name}")


def get(name: str, folder: Path) -> Path:
    target = folder / Path(name).name
    storage().get_file(f"fleet/{name}", str(target))
    return target


def names(prefix: str) -> list[str]:
    return sorted(objects_in(Url(f"s3://fleet/{prefix}")))


@pytest.fixture
def batch(remote, plain, tmp_path) -> BatchConfig:
    assert not remote.requests
    FILM.write(tmp_path / "film.mp4")
    for name in ("a", "night/c"):
        put(tmp_path / "film.mp4", f"drives/{name}.mp4")
    return in_bucket(batch_of(plain, tmp_path), plain)


STATS = Beside(masks=None, stats=Path("stats.jsonl"), report=None)


def in_bucket(batch: BatchConfig, plain: InferConfig, beside: Beside = STATS) -> BatchConfig:
    """The batch with videos and outputs in a bucket."""
    bucket = Url("s3://fleet/out")
    kept = ("alpha", "outline", "legend", "weights", "steady", "crf", "every")
    plan = Plan(
        source=Url("s3://fleet/drives"),
        out=scratch_folder(bucket, "0/1"),
        bucket=bucket,
        beside=beside,
        settings={name: getattr(plain, name) for name in kept},
        no_film=False,
    )
    return replace(batch, out=plan.out, bucket=bucket, films=plan.films, dataset=plan.dataset)


OUTPUTS = [
    "a.overlay.mp4",
    "a.stats.jsonl",
    "manifest-0-of-1.jsonl",
    "night/c.overlay.mp4",
    "night/c.stats.jsonl",
]


def test_films_of_a_bucket_are_labelled_into_a_bucket_and_none_twice(
    batch, plain, tmp_path
) -> None:
    summary = drive(batch)
    assert sorted(record.film for record in summary.done) == ["a.mp4", "night/c.mp4"]
    assert names("out") == OUTPUTS  # neither a lease nor a part
    assert not batch.out.exists()
    infer(plain)  # the same film, from the disk
    found = get("out/night/c.overlay.mp4", tmp_path)
    assert frame_times(found) == frame_times(plain.out)
    assert packets(found, "audio") == packets(plain.out, "audio")
    assert drive(batch) == Summary(done=(), failed=(), done_before=2)
    assert status_of(batch.bucket).films["done"] == 2
    assert report_of(batch.bucket).status.frames == 2 * len(FILM.times)
    assert read_manifest(batch.shard.manifest(batch.bucket)).records[-1].outputs == (
        "s3://fleet/out/night/c.overlay.mp4",
        "s3://fleet/out/night/c.stats.jsonl",
    )


def test_what_is_done_costs_no_request_a_film(batch, remote) -> None:
    drive(batch)
    remote.requests.clear()
    drive(batch)
    assert not [request for request in remote.requests if "drives/" in request]


def test_another_film_in_the_place_of_one_is_labelled(batch, tmp_path) -> None:
    drive(batch)
    put(Film(times=tuple(range(30))).write(tmp_path / "longer.mp4"), "drives/a.mp4")
    assert [record.film for record in drive(batch).done] == ["a.mp4"]
    assert len(frame_times(get("out/a.overlay.mp4", tmp_path))) == 30


def test_objects_that_no_manifest_knows_are_not_replaced(batch, tmp_path) -> None:
    put(tmp_path / "film.mp4", "out/a.overlay.mp4")
    before = storage().info("fleet/out/a.overlay.mp4")["ETag"]
    frames: list[Progress] = []
    for _run in (1, 2):
        summary = drive(batch, frames.append)
        assert [record.film for record in summary.failed] == ["a.mp4"]
        assert "s3://fleet/out/a.overlay.mp4 exists" in summary.failed[0].error
    assert {at.film for at in frames} == {"night/c.mp4"}
    assert storage().info("fleet/out/a.overlay.mp4", refresh=True)["ETag"] == before


def test_a_film_is_read_from_its_middle_without_the_rest(remote, plain, monkeypatch) -> None:
    monkeypatch.setattr(objects, "READ_BYTES", 1 << 12)
    detailed = (("g", "10"), ("crf", "5"))
    long = Film(times=tuple(range(0, 600)), size_hw=(144, 256), options=detailed)
    long.write(plain.source)
    put(plain.source, "drives/long.mp4")
    remote.requests.clear()
    config = replace(plain, start_s=40.0, end_s=42.0)
    infer(config)
    local = frame_times(config.out)
    infer(replace(config, source=Url("s3://fleet/drives/long.mp4"), overwrite=True))
    assert frame_times(config.out) == local
    ranges = (r.partition("bytes=")[2].split("-") for r in remote.requests if "bytes=" in r)
    read_bytes = sum(int(last) + 1 - int(first) for first, last in ranges)
    assert 0 < read_bytes < plain.source.stat().st_size / 2


@pytest.mark.parametrize("chunk_s", [None, 30.0])
def test_a_driver_that_ends_goes_on_where_it_was(batch, plain, tmp_path, chunk_s) -> None:
    put(LONG.write(tmp_path / "long.mp4"), "drives/b.mp4")
    batch = replace(in_bucket(batch_of(plain, tmp_path, chunk_s=chunk_s), plain))
    end_half_way(batch)
    assert not [name for name in names("out") if name.startswith("b.")]
    summary, frames = gone_on(batch)
    assert sorted(record.film for record in summary.done) == ["b.mp4", "night/c.mp4"]
    assert frames <= 70
    infer(replace(plain, source=tmp_path / "long.mp4"))
    found = get("out/b.overlay.mp4", tmp_path)
    assert frame_times(found) == frame_times(plain.out)
    assert packets(found, "audio") == packets(plain.out, "audio")
    assert not batch.out.exists()


class Elsewhere(Here):
    """A machine that shares no folder with the driver."""

    def __init__(self, batch: BatchConfig, most: int | None = None) -> None:
        super().__init__(lambda *_: None)
        self._relay = Relay(batch.out, batch.bucket)
        self._most = most
        self.labelled: list[tuple[str, int | None]] = []

    def next_done(self) -> tuple[Task, Outcome]:
        task = self._tasks.popleft()
        if len(self.labelled) == self._most:
            raise Killed
        self.labelled.append((task.film, task.number))
        return task, label_on_node(pinned(absolute(task.config), 1, self._relay))


def test_what_a_machine_hands_over_outlives_the_driver(batch, plain, tmp_path, monkeypatch) -> None:
    put(LONG.write(tmp_path / "long.mp4"), "drives/b.mp4")
    batch = in_bucket(batch_of(plain, tmp_path, chunk_s=30.0), plain)
    first = Elsewhere(batch, most=3)
    with pytest.raises(Killed):
        Driver(batch, Listener(), first).run()
    assert first.labelled == [("a.mp4", 0), ("b.mp4", 0), ("b.mp4", 1)]
    assert len(names("out/roadseg-chunks.b.overlay.mp4")) == 4
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "another"))
    batch = in_bucket(batch_of(plain, tmp_path, chunk_s=30.0), plain)
    second = Elsewhere(batch)
    summary = Driver(batch, Listener(), second).run()
    assert sorted(record.film for record in summary.done) == ["b.mp4", "night/c.mp4"]
    assert not set(first.labelled) & set(second.labelled)
    records = read_manifest(batch.shard.manifest(batch.bucket)).records
    begun = {(r.state, r.machine) for r in records if r.chunk is not None}
    assert begun == {("running", ""), ("done", platform.node())}
    assert names("out") == sorted([*OUTPUTS, "b.overlay.mp4", "b.stats.jsonl"])
    infer(replace(plain, source=tmp_path / "long.mp4"))
    found = get("out/b.overlay.mp4", tmp_path)
    assert frame_times(found) == frame_times(plain.out)
    assert packets(found, "audio") == packets(plain.out, "audio")
    assert not batch.out.exists()
    assert not list(tmp_path.rglob("roadseg/batch/tasks/*"))


def test_a_machine_hands_over_what_cannot_be_split(batch, plain, tmp_path) -> None:
    pytest.importorskip("pyarrow")
    beside = Beside(masks=None, stats=Path("stats.parquet"), report=Path("report.html"))
    batch = in_bucket(batch_of(plain, tmp_path, chunk_s=30.0), plain, beside)
    for each in (batch, in_bucket(batch, plain, beside)):
        summary = Driver(each, Listener(), Elsewhere(each)).run()
    assert (len(summary.done), summary.done_before) == (0, 2)
    found = [name.partition("/date=")[0] for name in names("out")]
    made = ("a.overlay.mp4", "a.report.html", "night/c.overlay.mp4", "night/c.report.html")
    assert found == sorted(["manifest-0-of-1.jsonl", *made, *["stats.parquet"] * 2])
    assert not batch.out.exists()


def test_chunks_of_another_film_in_the_place_of_one_are_not_joined(batch, plain, tmp_path) -> None:
    put(LONG.write(tmp_path / "long.mp4"), "drives/a.mp4")
    batch = in_bucket(batch_of(plain, tmp_path, chunk_s=30.0), plain)
    with pytest.raises(Killed):
        Driver(batch, Listener(), Elsewhere(batch, most=2)).run()
    put(tmp_path / "film.mp4", "drives/a.mp4")
    Driver(batch, Listener(), Elsewhere(batch)).run()
    assert names("out") == OUTPUTS
    assert len(frame_times(get("out/a.overlay.mp4", tmp_path))) == len(FILM.times)


def test_a_machine_without_keys_is_named(batch, plain, remote) -> None:
    task = pinned(absolute(plain), 1, Relay(plain.out.parent, batch.bucket))
    remote.denied = "GET /fleet"
    outcome = label_on_node(task)
    assert isinstance(outcome.error, ClusterError)
    node = re.escape(platform.node())
    assert re.match(rf"{node}: s3://fleet/out may not be used \(AccessDen", str(outcome.error))


def test_a_machine_that_cannot_hand_over_says_so_and_keeps_nothing(
    batch, plain, remote, tmp_path
) -> None:
    FILM.write(plain.source)
    remote.denied = "PUT /fleet"
    outcome = Relay(plain.out.parent, batch.bucket).label(plain)
    with pytest.raises(OutputError, match=r"s3://fleet/out/.* may not be used"):
        raise outcome.error
    assert not list(tmp_path.rglob("roadseg/batch/tasks/*"))


def test_an_upload_that_is_refused_ends_in_a_sentence_and_is_made_up_for(batch, remote) -> None:
    remote.denied = "PUT /fleet/out/a.stats.jsonl"
    summary = drive(batch)
    (failed,) = summary.failed
    assert failed.error == (
        "s3://fleet/out/a.stats.jsonl may not be used (AccessDenied); check the keys, and that "
        "they may list, read and write there"
    )
    remote.denied = None
    assert [record.film for record in drive(batch).done] == ["a.mp4"]
    assert names("out") == OUTPUTS


def test_parquet_goes_to_partitions_below_the_address(batch, plain, tmp_path) -> None:
    pytest.importorskip("pyarrow")
    beside = replace(STATS, stats=Path("stats.parquet"))
    batch = in_bucket(batch_of(plain, tmp_path, stats="stats.parquet"), plain, beside)
    drive(batch)
    parts = [name for name in names("out") if name.endswith(".parquet")]
    assert len(parts) == 2
    assert parts[0].startswith("stats.parquet/date=20")
    assert parts[1].endswith("/film=night%2Fc.mp4/part-0.parquet")


def elsewhere(batch: BatchConfig, ends_in_s: float, machine: str = "far away") -> ObjectFile:
    """The lease of a driver on another machine."""
    file = own_file(lease_path(batch.shard.manifest(batch.location)))
    file.read()
    terms = Terms("other", "far", machine, time.time() + ends_in_s)
    file.write(json.dumps(asdict(terms)).encode())
    return file


def test_a_killed_driver_is_waited_for_until_its_lease_ends(batch) -> None:
    elsewhere(batch, 0.3, machine_id())  # there is no lock that would tell
    manifest = batch.shard.manifest(batch.location)
    waits: list[str] = []
    with Lease(manifest, waits.append, term_s=0.4):
        assert read_lease(manifest).driver != "other"
    assert "s3://fleet/out/manifest-0-of-1.jsonl is leased to far until" in waits[0]


def test_a_driver_that_lives_elsewhere_is_not_disturbed(batch) -> None:
    elsewhere(batch, 0.3)
    manifest = batch.shard.manifest(batch.location)
    with pytest.raises(OutputBusy, match=r"driven by another run on far .* one shard has one"):
        Lease(manifest, lambda _sentence: elsewhere(batch, 100.0), term_s=0.4).__enter__()
    assert names("out") == ["manifest-0-of-1.lease"]


def test_of_two_drivers_that_take_a_lease_at_once_one_is_refused(batch) -> None:
    lease = lease_path(batch.shard.manifest(batch.location))
    one, other = own_file(lease), own_file(lease)
    assert one.read() is None and other.read() is None
    one.write(b"one")
    with pytest.raises(OutputBusy, match="is written by another driver"):
        other.write(b"other")
    assert own_file(lease).read() == b"one"


def test_a_driver_whose_manifest_another_writes_stops_and_loses_no_line_of_it(batch) -> None:
    path = batch.shard.manifest(batch.location)
    line = Record(film="other.mp4", state="done", attempt=1, machine="far")

    def intrude(at: Progress) -> None:
        if at.film == "a.mp4" and at.done == 1:
            ManifestWriter(path, batch.settings).add(line)

    with pytest.raises(OutputBusy, match="is written by another driver"):
        drive(batch, intrude)
    assert [record.film for record in read_manifest(path).records] == ["a.mp4", "other.mp4"]


def test_storage_that_heeds_no_conditions_is_refused(batch, remote) -> None:
    remote.ignores_conditions = True
    with pytest.raises(OutputError, match="cannot keep two drivers apart"):
        drive(batch)


@pytest.mark.parametrize(
    ("denied", "kind", "said"),
    [
        ("GET /fleet", VideoError, r"s3://fleet/drives may not be used \(AccessDenied\)"),
        ("PUT /fleet", OutputError, r"manifest-0-of-1.lease may not be used \(AccessDenied\)"),
    ],
)
def test_missing_rights_are_a_sentence(batch, remote, denied, kind, said) -> None:
    remote.denied = denied
    with pytest.raises(kind, match=said) as error:
        batch.films() and drive(batch)
    assert "hunter2" not in str(error.value)


@pytest.mark.usefixtures("remote")
def test_a_missing_bucket_or_film_is_a_sentence() -> None:
    with pytest.raises(VideoError, match="s3://nowhere/x does not exist; check bucket and name"):
        objects_in(Url("s3://nowhere/x"))
    with pytest.raises(VideoError, match=r"s3://fleet/x.mp4 does not exist"):
        probe(Url("s3://fleet/x.mp4"))
    with pytest.raises(ConfigError, match="holds no manifest-"):
        status_of(Url("s3://fleet/out"))


@pytest.mark.usefixtures("remote")
def test_what_is_no_film_is_a_sentence(tmp_path) -> None:
    (tmp_path / "x.mp4").write_text("no film")
    put(tmp_path / "x.mp4", "x.mp4")
    with pytest.raises(VideoError, match="cannot be read as a video"):
        probe(Url("s3://fleet/x.mp4"))


def test_s3fs_that_is_not_installed_is_a_sentence(monkeypatch) -> None:
    monkeypatch.setitem(sys.modules, "s3fs", None)
    storage.cache_clear()
    with pytest.raises(BackendUnavailable, match=r"run: pip install '\.\[s3\]'"):
        objects_in(Url("s3://fleet/drives"))


@pytest.mark.parametrize(
    ("text", "said"),
    [
        ("s3://", "names no bucket"),
        ("s3://KEY:hunter2@fleet/x", r"has keys in it.*AWS_SECRET_ACCESS_KEY"),
        ("https://host/x", "is no folder; give one, or an address such as s3://"),
    ],
)
def test_addresses_that_are_none_are_named_without_their_secrets(text, said) -> None:
    with pytest.raises(ConfigError, match=said) as error:
        location_named(text)
    assert "hunter2" not in str(error.value)


def run(*arguments: str, **env: str) -> subprocess.CompletedProcess[str]:
    command = [str(Path(sys.executable).with_name("roadseg")), "batch", *arguments]
    env = {**os.environ, "COLUMNS": "200", "TERM": "dumb", **env}
    return subprocess.run(command, env=env, capture_output=True, text=True, timeout=patience(100))


def test_the_command_says_no_key_anywhere(remote, tmp_path) -> None:
    put(FILM.write(tmp_path / "film.mp4"), "drives/a.mp4")
    put(tmp_path / "film.mp4", "drives/b.mp4")
    remote.denied = "PUT /fleet/out/b"
    done = run("s3://fleet/drives", "--out", "s3://fleet/out", "--no-film", "--stats", "s.csv")
    assert done.returncode == 1
    assert done.stderr.endswith("roadseg: 1 of 2 videos were not labelled\n")
    assert names("out") == ["a.s.csv", "manifest-0-of-1.jsonl"]
    manifest = own_file(below(Url("s3://fleet/out"), "manifest-0-of-1.jsonl")).read()
    told = run("status", "s3://fleet/out", "--json")
    assert json.loads(told.stdout)["films"]["failed"] == 1
    assert "hunter2" not in done.stdout + done.stderr + told.stdout + manifest.decode()


@pytest.mark.usefixtures("remote")
def test_storage_that_does_not_answer_is_a_sentence() -> None:
    done = run("s3://fleet/x", "--out", "s3://fleet/out", AWS_ENDPOINT_URL="http://127.0.0.1:1")
    assert (done.returncode, done.stderr.count("\n")) == (1, 1)
    assert "s3://fleet/x cannot be reached; check the network, and AWS_ENDPOINT_URL" in done.stderr


@pytest.mark.usefixtures("batch")
def test_a_folder_of_pngs_does_not_go_to_a_bucket() -> None:
    done = run("s3://fleet/drives", "--out", "s3://fleet/out", "--masks", "ids")
    assert done.returncode == 1
    assert "give --masks a name in .mkv" in done.stderr
    assert names("out") == []
