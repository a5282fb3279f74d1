"""A batch of films: nothing is done twice, nothing is lost, and a bad film stops no other."""

import json
import os
import signal
import subprocess
import sys
import time
from collections.abc import Callable, Sequence
from dataclasses import asdict, replace
from pathlib import Path

import pytest
from conftest import ROOT, heeding_rights, patience
from films import Film, frame_times, packets

from roadseg.cli.batch_films import Plan
from roadseg.cli.films import Beside
from roadseg.errors import BackendUnavailable, ClusterError, ConfigError, OutputBusy, OutputError
from roadseg.infer.batch.driver import Driver
from roadseg.infer.batch.films import BatchConfig, Shard, common_settings
from roadseg.infer.batch.lease import Lease, Terms, lease_path, machine_id, read_lease
from roadseg.infer.batch.listener import Listener, Progress, Summary
from roadseg.infer.batch.manifest import manifests_of, merged, read_manifest
from roadseg.infer.batch.status import INTERRUPTED, WAITING, status_of
from roadseg.infer.batch.workers import Here, Outcome, Task
from roadseg.infer.config import InferConfig
from roadseg.infer.offline import infer

FILM = Film(times=tuple(range(24)), sounds=1, options=(("g", "10"),))
LONG = Film(times=tuple(range(0, 1300, 10)), sounds=1, options=(("g", "10"),))
"""It gives several chunks."""
OnFrame = Callable[[Progress], None]


class Killed(BaseException):
    """Stands for the program's end, whatever it was doing."""


def nothing(_at: Progress) -> None:
    pass


def batch_of(config: InferConfig, folder: Path, stats: str = "stats.jsonl", **more) -> BatchConfig:
    """A batch of the films in a folder; its films have the settings of `config`."""
    names = ("alpha", "outline", "legend", "weights", "steady", "crf", "every")
    settings = {name: getattr(config, name) for name in names}
    plan = Plan(
        source=folder / "films",
        out=folder / "out",
        beside=Beside(masks=None, stats=Path(stats), report=None),
        settings=settings,
        no_film=False,
    )
    chunk_s = more.get("chunk_s")
    common = common_settings(replace(config, stats=Path(stats)), chunk_s)
    return BatchConfig(
        out=plan.out, films=plan.films, settings=common, dataset=plan.dataset, **more
    )


@pytest.fixture
def batch(plain, tmp_path) -> BatchConfig:
    for name in ("a", "b", "night/c"):
        path = tmp_path / "films" / f"{name}.mp4"
        path.parent.mkdir(parents=True, exist_ok=True)
        FILM.write(path)
    return batch_of(plain, tmp_path)


def drive(batch: BatchConfig, on_frame: OnFrame = nothing, **told) -> Summary:
    return Driver(batch, Listener(progress=on_frame, **told)).run()


def end_half_way(batch: BatchConfig) -> None:
    """End a driver in the middle of b.mp4, which is `LONG`; in chunks, in the third."""

    def stop(at: Progress) -> None:
        later = at.chunk is None or at.chunk == 2
        if at.film == "b.mp4" and at.done == (100 if at.chunk is None else 10) and later:
            raise Killed

    with pytest.raises(Killed):
        drive(batch, stop)


def gone_on(batch: BatchConfig) -> tuple[Summary, int]:
    """Drive a batch; return what was done, and how many frames of b.mp4 were labelled."""
    work = {"frames": 0}

    def count(at: Progress) -> None:
        work["frames"] += at.film == "b.mp4"

    return drive(batch, count), work["frames"]


def labelled(batch: BatchConfig) -> tuple[list[str], Summary]:
    """Drive a batch; return the films that were worked on."""
    seen: dict[str, None] = {}

    def note(at: Progress) -> None:
        seen[at.film] = None

    summary = drive(batch, note)
    return list(seen), summary


def names(records) -> list[str]:
    return sorted(record.film for record in records)


def test_all_films_are_labelled_in_folders_as_they_lie_and_none_twice(batch) -> None:
    summary = drive(batch)
    assert names(summary.done) == ["a.mp4", "b.mp4", "night/c.mp4"]
    for name in ("a", "b", "night/c"):
        assert len(frame_times(batch.out / f"{name}.overlay.mp4")) == len(FILM.times)
        assert len((batch.out / f"{name}.stats.jsonl").read_text().splitlines()) == len(FILM.times)
    films, again = labelled(batch)
    assert films == []
    assert again == Summary(done=(), failed=(), done_before=3)


def test_a_bad_film_stops_no_other_and_is_given_up_in_the_end(batch, tmp_path) -> None:
    (tmp_path / "films" / "aa.mp4").write_text("no film")
    errors: list[Exception] = []
    for attempt in (1, 2, 3):
        summary = drive(batch, failed=errors.append)
        assert [(r.film, r.attempt) for r in summary.failed] == [("aa.mp4", attempt)]
    assert "cannot be read as a video" in str(errors[-1])
    before = batch.shard.manifest(batch.out).read_text().count('"running"')
    summary = drive(batch, failed=errors.append)
    assert "given up at attempt 3; mend it, or add --attempts 4" in str(errors[-1])
    assert batch.shard.manifest(batch.out).read_text().count('"running"') == before
    (tmp_path / "films" / "aa.mp4").write_bytes((tmp_path / "films" / "a.mp4").read_bytes())
    assert names(drive(batch).done) == ["aa.mp4"]  # another film in its place begins anew


def test_files_that_no_manifest_knows_are_replaced_by_no_run(batch) -> None:
    mine = batch.out / "b.overlay.mp4"
    mine.parent.mkdir()
    mine.write_text("mine")
    for _run in (1, 2):
        summary = drive(batch)
        assert [record.film for record in summary.failed] == ["b.mp4"]
        assert "b.overlay.mp4 exists, and no manifest there knows of it" in summary.failed[0].error
        assert mine.read_text() == "mine"
    mine.unlink()
    assert names(drive(batch).done) == ["b.mp4"]


def test_a_bug_in_one_film_stops_no_other(batch) -> None:
    def fail(at: Progress) -> None:
        if at.film == "b.mp4":
            raise ZeroDivisionError("a bug")

    summary = drive(batch, fail)
    assert names(summary.done) == ["a.mp4", "night/c.mp4"]
    assert [record.error for record in summary.failed] == ["ZeroDivisionError: a bug"]


@pytest.mark.parametrize("chunk_s", [None, 30.0])
def test_what_was_half_done_is_gone_on_with(batch, tmp_path, plain, chunk_s) -> None:
    LONG.write(tmp_path / "films" / "b.mp4")
    batch = replace(batch_of(plain, tmp_path, chunk_s=chunk_s), shard=Shard())
    end_half_way(batch)
    assert merged(manifests_of(batch.out))["b.mp4"].last.state == "stopped"
    summary, frames = gone_on(batch)
    assert names(summary.done) == ["b.mp4", "night/c.mp4"]
    assert frames <= 70
    whole = replace(plain, source=tmp_path / "films" / "b.mp4")
    infer(whole)
    out = batch.out / "b.overlay.mp4"
    assert frame_times(out) == frame_times(whole.out)
    assert packets(out, "audio") == packets(whole.out, "audio")
    assert [path for path in batch.out.iterdir() if path.name.startswith("roadseg-")] == []


def test_films_that_appear_meanwhile_are_labelled_and_those_that_vanish_are_named(
    batch, tmp_path
) -> None:
    def change(at: Progress) -> None:
        if at.film == "a.mp4" and at.done == 1:
            FILM.write(tmp_path / "films" / "late.mp4")
            (tmp_path / "films" / "b.mp4").unlink()

    summary = drive(batch, change)
    assert names(summary.done) == ["a.mp4", "late.mp4", "night/c.mp4"]
    assert [(r.film, "does not exist" in r.error) for r in summary.failed] == [("b.mp4", True)]


def test_a_film_that_grows_while_it_is_labelled_is_not_called_done(batch, tmp_path) -> None:
    def grow(at: Progress) -> None:
        if at.film == "a.mp4" and at.done == 1:
            with (tmp_path / "films" / "a.mp4").open("ab") as file:
                file.write(b"more")

    summary = drive(batch, grow)
    assert [record.film for record in summary.failed] == ["a.mp4"]
    assert "changed while it was labelled" in summary.failed[0].error
    assert names(drive(batch).done) == ["a.mp4"]


def test_a_full_disk_ends_the_driver_with_its_sentence(batch, monkeypatch) -> None:
    from roadseg.infer.batch import workers

    def fill(_config, _on_frame):
        raise OutputError("the disk is full") from OSError(28, "No space left on device")

    monkeypatch.setattr(workers, "label", fill)
    with pytest.raises(OutputError, match="the disk is full"):
        drive(batch)
    assert merged(manifests_of(batch.out))["a.mp4"].last.state == "stopped"
    monkeypatch.undo()


def test_a_missing_package_ends_the_driver_and_is_no_attempt_at_a_film(batch, monkeypatch) -> None:
    from roadseg.infer.batch import workers

    def lack(_config, _on_frame):
        raise BackendUnavailable("pyarrow is not installed")

    with monkeypatch.context() as patch:
        patch.setattr(workers, "label", lack)
        for _attempt in range(batch.attempts + 1):
            with pytest.raises(BackendUnavailable, match="pyarrow is not installed"):
                drive(batch)
    assert names(drive(batch).done) == ["a.mp4", "b.mp4", "night/c.mp4"]


def test_what_the_user_has_is_not_replaced_and_what_is_ours_is(batch) -> None:
    batch.out.mkdir()
    mine = batch.out / "a.overlay.mp4"
    mine.write_text("mine")
    summary = drive(batch)
    assert [record.film for record in summary.failed] == ["a.mp4"]
    assert "exists" in summary.failed[0].error
    assert mine.read_text() == "mine"
    (batch.out / "b.stats.jsonl").unlink()
    mine.unlink()
    assert names(drive(batch).done) == ["a.mp4", "b.mp4"]


def test_shards_share_the_films_out_without_a_gap_and_status_merges_them(batch, tmp_path) -> None:
    for number in range(6):
        FILM.write(tmp_path / "films" / f"film{number}.mp4")
    shards = [Shard.parse(f"{number}/3") for number in range(3)]
    films: list[str] = []
    for shard in shards:
        films += names(drive(replace(batch, shard=shard)).done)
    assert sorted(films) == sorted(batch.films())
    status = status_of(batch.out)
    assert status.films["done"] == len(films)
    assert status.frames == len(films) * len(FILM.times)
    assert status_of(shards[0].manifest(batch.out)).films["done"] < len(films)
    assert drive(batch).done_before == len(films)  # in one part too, all are done
    assert status_of(batch.out).films[WAITING] == 0  # they are not counted in both


@pytest.mark.parametrize("pattern", ["a{}.mp4", "GH01{:04}.MP4", "night/{}.mkv", "{:03}/front.mp4"])
def test_no_shard_of_numbered_films_is_empty_or_twice_as_large(pattern) -> None:
    films = [pattern.format(number) for number in range(100)]
    of_shard = [sum(map(Shard(number, 16).has, films)) for number in range(16)]
    assert sum(of_shard) == len(films)
    assert all(0 < count < 2 * len(films) / 16 for count in of_shard)


@pytest.mark.parametrize("text", ["2/2", "1", "-1/2", "a/b", "0/0", ""])
def test_a_shard_that_is_none_is_named(text) -> None:
    with pytest.raises(ConfigError, match=r"--shard is .*give I/N"):
        Shard.parse(text)


def test_other_settings_are_refused_before_anything_is_done(batch) -> None:
    drive(batch)
    other = {**batch.settings, "crf": "30"}
    for shard in (Shard(), Shard(1, 2)):
        with pytest.raises(ConfigError, match=r"begun with other settings \(crf\)"):
            drive(replace(batch, settings=other, shard=shard))


def test_a_manifest_of_another_version_is_refused_and_left_as_it_is(batch) -> None:
    batch.out.mkdir()
    path = batch.shard.manifest(batch.out)
    for text, said in (
        ('{"roadseg_manifest": 2}\n', "form 2, and this version of roadseg reads form 1"),
        ("my notes\n", "is no manifest of roadseg"),
        ("7\n", "is no manifest of roadseg"),
        ("{}\n", "is no manifest of roadseg"),
    ):
        path.write_text(text)
        with pytest.raises(ConfigError, match=said):
            drive(batch)
        assert path.read_text() == text


def test_a_pipe_is_no_manifest_and_is_not_waited_for(tmp_path) -> None:
    os.mkfifo(tmp_path / "pipe")
    with pytest.raises(OutputError, match="is a named pipe; a file is needed there"):
        status_of(tmp_path / "pipe")


def test_a_line_that_a_crash_tore_is_dropped_and_a_damaged_one_is_named(batch) -> None:
    drive(batch)
    path = batch.shard.manifest(batch.out)
    torn = b'{"film": "a.mp4", "sta'
    with path.open("ab") as file:
        file.write(torn)
    assert status_of(batch.out).films["done"] == 3
    drive(batch)
    whole = path.read_bytes()
    for line in whole.splitlines():
        json.loads(line)
    for damaged in (torn, b"\0" * 80, b"7", b'{"film": "a.mp4"}'):
        path.write_bytes(whole.replace(b"\n", b"\n" + damaged + b"\n", 1))
        with pytest.raises(ConfigError, match=r"line 2 of .*manifest-0-of-1.jsonl is damaged"):
            status_of(batch.out)


def test_a_second_driver_of_a_shard_is_refused(batch) -> None:
    def second(at: Progress) -> None:
        if at.done == 1:
            with pytest.raises(OutputBusy, match="written by another run"):
                drive(batch)

    assert len(drive(batch, second).done) == 3


def test_a_driver_of_another_division_is_refused_while_one_runs(batch) -> None:
    halves = replace(batch, shard=Shard(0, 2))

    def second(at: Progress) -> None:
        if at.done == 1:
            with pytest.raises(OutputBusy, match=r"-0-of-1\.jsonl is leased .* --shard the same"):
                drive(halves)

    assert len(drive(batch, second).done) == 3
    assert [path.name for path in batch.out.glob("manifest*")] == ["manifest-0-of-1.jsonl"]
    assert not drive(halves).failed


def elsewhere(batch: BatchConfig, ends_in_s: float) -> Path:
    """The lease of a driver on another machine."""
    batch.out.mkdir(exist_ok=True)
    path = lease_path(batch.shard.manifest(batch.out))
    terms = Terms("other", "far", "far away", time.time() + ends_in_s)
    path.write_text(json.dumps(asdict(terms)))
    return path


CLOCKS_S = (0.2, -3600.0, 3600.0)
"""When the lease of a driver elsewhere ends by our clock, its own being right, late or early."""


@pytest.mark.parametrize("ends_in_s", CLOCKS_S)
def test_a_driver_that_died_elsewhere_is_waited_for(batch, ends_in_s) -> None:
    elsewhere(batch, ends_in_s)
    manifest = batch.shard.manifest(batch.out)
    waits: list[str] = []
    with Lease(manifest, waits.append, term_s=0.4):
        assert read_lease(manifest).driver != "other"
    assert len(waits) == 1
    assert "is leased to far until" in waits[0]


@pytest.mark.parametrize("ends_in_s", CLOCKS_S)
def test_a_driver_that_lives_elsewhere_is_not_disturbed(batch, ends_in_s) -> None:
    path = elsewhere(batch, ends_in_s)
    renewed = replace_terms(path, until_s=time.time() + ends_in_s + 0.1)
    lease = Lease(
        batch.shard.manifest(batch.out), lambda _sentence: path.write_text(renewed), term_s=0.4
    )
    with pytest.raises(OutputBusy, match=r"driven by another run on far .* one shard has one"):
        lease.__enter__()
    assert json.loads(path.read_text())["driver"] == "other"


def replace_terms(path: Path, **values) -> str:
    return json.dumps(json.loads(path.read_text()) | values)


def test_a_driver_whose_lease_was_taken_over_stops(batch) -> None:
    manifest = batch.shard.manifest(batch.out)
    batch.out.mkdir()
    with Lease(manifest, term_s=0.03) as lease:
        assert read_lease(manifest).machine_id == machine_id()
        elsewhere(batch, 100.0)
        deadline = time.monotonic() + patience(20)
        with pytest.raises(OutputBusy, match="driven by far"):
            while time.monotonic() < deadline:
                lease.check()
    assert read_lease(manifest).driver == "other"


KILLED = """
import os, signal, sys
from pathlib import Path
sys.path[:0] = [{tests!r}]
from roadseg.backends.runtimes import BACKENDS, Runtime
BACKENDS["brightness"] = Runtime((".json",), "brightness_backend", "")
import test_batch
from roadseg.infer.config import InferConfig
folder = Path({folder!r})
config = InferConfig(source="", out=folder / "out.mp4", weights=folder / "model/brightness.json",
    steady=0, alpha=0, outline=False, legend="none")
def die(at):
    if at.film == "b.mp4" and at.done == 20:
        os.kill(os.getpid(), signal.SIGKILL)
test_batch.drive(test_batch.batch_of(config, folder), die)
"""


def test_a_driver_that_is_killed_is_followed_by_another_at_once(batch, tmp_path) -> None:
    code = KILLED.format(tests=str(ROOT / "tests"), folder=str(tmp_path))
    killed = subprocess.run([sys.executable, "-c", code], timeout=patience(100), check=False)
    assert killed.returncode == -signal.SIGKILL
    status = status_of(batch.out)
    assert (status.films["done"], status.films[WAITING]) == (1, 1)
    path = lease_path(batch.shard.manifest(batch.out))
    path.write_text(replace_terms(path, until_s=0))
    assert status_of(batch.out).films[INTERRUPTED] == 1
    path.write_text(replace_terms(path, until_s=time.time() + 100))
    waits: list[str] = []
    summary = drive(batch, waits=waits.append)
    assert not waits  # the kernel knows that its process is gone
    assert {record.film: record.attempt for record in summary.done} == {
        "b.mp4": 2,
        "night/c.mp4": 1,
    }
    assert len(frame_times(batch.out / "b.overlay.mp4")) == len(FILM.times)


def test_a_film_that_kills_the_program_each_time_is_given_up(batch) -> None:
    drive(batch)
    add_running(batch, {"machine": "x"})
    summary = drive(batch)
    assert "ended the program each time" in summary.failed[0].error


def test_a_machine_whose_out_is_another_folder_is_named(batch) -> None:
    class Apart(Here):
        def next_done(self) -> tuple[Task, Outcome]:
            task, outcome = super().next_done()
            task.config.stats.unlink()
            return task, replace(outcome, machine="far")

    sentence = r"far labelled a.mp4 into .*out, and nothing is there; --out must be the same folder"
    with pytest.raises(ClusterError, match=sentence):
        Driver(batch, Listener(), Apart(lambda *_: None)).run()


@pytest.mark.parametrize(
    "lines", [[{"machine": ""}], [{"machine": "x"}, {"machine": "", "chunk": 0}]]
)
def test_a_driver_killed_while_a_cluster_labels_is_no_fault_of_the_film(batch, lines) -> None:
    drive(batch)
    add_running(batch, *lines)
    assert [(record.film, record.attempt) for record in drive(batch).done] == [("b.mp4", 3)]


def add_running(batch: BatchConfig, *lines: dict) -> None:
    """Have the manifest end as that of a driver that was killed at the third attempt."""
    path = batch.shard.manifest(batch.out)
    source = merged([read_manifest(path)])["b.mp4"].last.source
    told = {"film": "b.mp4", "state": "running", "attempt": 3, "source": source}
    with path.open("a") as file:
        for line in lines:
            file.write(json.dumps({**told, **line, "at": "2999-01-01T00:00:00+00:00"}) + "\n")


def run(*arguments: str, cwd: Path, before: Sequence[str] = ()) -> subprocess.CompletedProcess[str]:
    command = [*before, str(Path(sys.executable).with_name("roadseg")), "batch", *arguments]
    env = {**os.environ, "COLUMNS": "100", "TERM": "dumb"}
    return subprocess.run(
        command, cwd=cwd, env=env, capture_output=True, text=True, timeout=patience(100)
    )


def test_the_command_labels_a_list_and_says_how_it_went(tmp_path) -> None:
    films = tmp_path / "films"
    films.mkdir()
    FILM.write(films / "a.mp4")
    secret = "https://user:hunter2@localhost:1/film.mp4?token=hunter2"
    lines = ["films/a.mp4", "# drives", "", "films/gone.mp4", secret, " films/a.mp4"]
    (tmp_path / "list.txt").write_text("\r\n".join(lines), encoding="utf-8-sig")
    done = run("list.txt", "--out", "out", "--stats", "s.csv", "--no-film", cwd=tmp_path)
    assert done.returncode == 1
    assert "films/gone.mp4 does not exist" in done.stderr
    assert done.stderr.endswith("roadseg: 2 of 3 videos were not labelled\n")
    assert (tmp_path / "out" / "films" / "a.s.csv").read_text().count("\n") == 1 + len(FILM.times)
    manifest = (tmp_path / "out" / "manifest-0-of-1.jsonl").read_text()
    assert "hunter2" not in manifest + done.stderr + done.stdout
    told = run("status", "out", "--json", cwd=tmp_path)
    assert json.loads(told.stdout)["films"]["failed"] == 2
    assert "videos done" in run("status", "out", cwd=tmp_path).stdout


def written_as(source: Path) -> dict[str, str]:
    """What each video of a folder or a list is written as, by its name in the batch."""
    beside = Beside(masks=None, stats=Path("s.csv"), report=None)
    out = source.parent / "out"
    films = Plan(source=source, out=out, beside=beside, settings={}, no_film=False).films()
    for config in films.values():
        assert config.out and config.stats
        assert config.stats.name.removesuffix("s.csv") in config.out.name
    return {name: str(config.out.relative_to(out)) for name, config in films.items() if config.out}


def test_names_that_are_alike_are_kept_apart(tmp_path) -> None:
    folder = tmp_path / "films"
    folder.mkdir()
    for name in ("2026.11.01.mp4", "2026.11.02.mp4", "clip.mov", "clip.mp4", "other.mp4"):
        (folder / name).touch()
    assert written_as(folder) == {
        "2026.11.01.mp4": "2026.11.01.overlay.mp4",
        "2026.11.02.mp4": "2026.11.02.overlay.mp4",
        "clip.mov": "clip.mov.overlay.mp4",
        "clip.mp4": "clip.mp4.overlay.mp4",
        "other.mp4": "other.overlay.mp4",
    }


def test_films_of_a_list_that_have_one_name_are_told_apart_by_their_places(tmp_path) -> None:
    lines = ("/a/x.mp4", "/b/x.mp4", "/b/../b/x.mp4", "/b/y.mp4", "./c/x.mp4", "c/x.mp4")
    hosts = ("https://u:hunter2@h/1/v.m3u8", "https://h/../2/v.m3u8?token=hunter2")
    (tmp_path / "list.txt").write_text("\n".join(lines + hosts))
    assert written_as(tmp_path / "list.txt") == {
        "a/x.mp4": "a/x.overlay.mp4",
        "b/x.mp4": "b/x.overlay.mp4",
        "y.mp4": "y.overlay.mp4",
        "c/x.mp4": "c/x.overlay.mp4",
        "h/1/v.m3u8": "h/1/v.overlay.mp4",
        "2/v.m3u8": "2/v.overlay.mp4",
    }


def test_what_macos_leaves_on_a_card_is_passed_over(tmp_path) -> None:
    for name in ("a.mp4", "._a.mp4", "DCIM/b.mp4", "DCIM/._b.mp4", ".Trashes/501/c.mp4"):
        path = tmp_path / "card" / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.touch()
    assert written_as(tmp_path / "card").keys() == {"a.mp4", "DCIM/b.mp4"}


def test_folders_that_may_not_be_read_fail_as_videos_do_and_stop_none(tmp_path) -> None:
    films = tmp_path / "films"
    for name in ("locked", "lost+found"):
        (films / name).mkdir(parents=True, mode=0)
    FILM.write(films / "a.mp4")
    options = ("--out", "out", "--stats", "s.csv", "--no-film")
    done = run("films", *options, cwd=tmp_path, before=heeding_rights())
    assert done.stderr == (
        "roadseg: films/locked may not be read; change its permissions\n"
        "roadseg: 1 of 2 videos were not labelled\n"
    )
    assert done.returncode == 1
    done = run("films/locked", *options, cwd=tmp_path, before=heeding_rights())
    assert done.stderr == "roadseg: films/locked may not be read; change its permissions\n"


OPTIONS = {
    "--every": ("4", "every", "4"),
    "--start": ("0:00.2", "start_s", "0.2"),
    "--end": ("0:00.8", "end_s", "0.8"),
    "--fps": ("30000/1001", "image_fps", "30000/1001"),
    "--size": ("96x64", "size_hw", "(64, 96)"),
    "--classes": ("road,car", "classes", "('road', 'car')"),
    "--ignore": ("0,0,8,8", "ignore", "('0,0,8,8',)"),
    "--crf": ("30", "crf", "30"),
    "--steady": ("0.3", "steady", "0.3"),
}
"""An option of each group, and all that are not written as they are kept: text, field, value."""


def test_the_command_takes_options_as_infer_does(tmp_path) -> None:
    FILM.write(tmp_path / "a.mp4")
    given = [word for option, (text, *_) in OPTIONS.items() for word in (option, text)]
    done = run(".", "--out", "out", *given, cwd=tmp_path)
    assert (done.returncode, done.stderr) == (0, "")
    begun = (tmp_path / "out" / "manifest-0-of-1.jsonl").read_text().splitlines()[0]
    settings = json.loads(begun)["settings"]
    assert {field: settings[field] for _, field, _ in OPTIONS.values()} == {
        field: value for _, field, value in OPTIONS.values()
    }


@pytest.mark.parametrize(
    ("arguments", "said"),
    [
        (["nowhere", "--out", "out"], "nowhere does not exist; give a folder or a list"),
        (["empty", "--out", "out"], "empty has no video in it"),
        (["film.mp4", "--out", "out"], "run: roadseg infer film.mp4"),
        (["films", "--out", "out", "--chunk", "3"], "--chunk is 3; it must be 30 seconds or more"),
        (["films", "--out", "out", "--chunk", "0"], "--chunk is 0; it must be 30 seconds or more"),
        (["films", "--out", "out", "--attempts", "0"], "--attempts is 0"),
        (["films", "--out", "out", "--stats", "x/s.csv"], "give a name alone, such as s.csv"),
        (["list.txt", "--out", "out"], "v?id=1 and https://h/v?id=2 would both be written as out/"),
        (["list.bin", "--out", "out"], "list.bin cannot be read as a list (there is a zero in it)"),
        (["status", "nowhere"], "nowhere does not exist; give a manifest"),
        (["status", "empty"], "empty holds no manifest-"),
    ],
)
def test_mistakes_get_a_sentence(arguments, said, tmp_path, monkeypatch) -> None:
    from roadseg.cli import app
    from roadseg.errors import RoadsegError

    monkeypatch.chdir(tmp_path)
    for name in ("empty/x.txt", "films/a.mp4", "film.mp4"):
        path = tmp_path / name
        path.parent.mkdir(exist_ok=True)
        path.write_text("")
    Path("list.bin").write_bytes(b"a\0b.mp4\n")
    Path("list.txt").write_text("https://h/v?id=1\nhttps://h/v?id=2\n")
    with pytest.raises(RoadsegError) as error:
        app(["batch", *arguments], standalone_mode=False)
    assert said in str(error.value)
    assert not (tmp_path / "out").exists()
