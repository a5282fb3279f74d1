"""The page about a batch: it adds up, and stays small however many films there are."""

import json
import subprocess
import sys
from dataclasses import replace
from pathlib import Path

import pytest
from conftest import SAMPLE, patience
from films import Film

from roadseg.infer.batch.chunks import Metrics, chunk_config, chunks_of, join, label
from roadseg.infer.batch.chunks import make_chunk_folder as make_folder_of_chunks
from roadseg.infer.batch.report import MOST_LISTED, MOST_PERIODS, periods_of, report_of
from roadseg.infer.batch.report_page import report_page
from roadseg.infer.config import InferConfig
from roadseg.infer.drive import PEOPLE
from roadseg.infer.stats import read_stats

SETTINGS = {"weights": "unet-lite.onnx abc", "palette": "roadseg"}


def film(name: str, *, state: str = "done", **metrics: object) -> dict[str, object]:
    record = {"film": name, "state": state, "attempt": 1, "machine": "m"}
    record |= {"at": "2026-11-26T10:00:00.000+00:00"}
    if state == "failed":
        return record | {"error": f"{name} <b>is torn</b>"}
    return record | {"metrics": {"frames": 100, "video_s": 10.0, "cpu_s": 40.0, **metrics}}


def manifest(folder: Path, films: list[dict[str, object]]) -> Path:
    head = {"roadseg_manifest": 1, "version": "0", "settings": SETTINGS}
    lines = [head, {"listed": len(films), "at": "2026-11-26T09:00:00+00:00"}, *films]
    path = folder / "manifest-0-of-1.jsonl"
    path.write_text("".join(json.dumps(line) + "\n" for line in lines))
    return path


def test_hours_shares_people_and_failures_are_those_of_all_films(tmp_path) -> None:
    one = {"class_shares": {"road": 0.5, "sky": 0.5}, "recorded": "2026-08-01T06:00:00+00:00"}
    other = {"class_shares": {"road": 0.1, "sky": 0.9}, "recorded": "2026-08-02T06:00:00+00:00"}
    films = [
        film("a.mp4", **one, people_s=2.5),
        film("b.mp4", **other, people_s=0.0, video_s=30.0),
        film("c.mp4"),
        film("d.mp4", state="failed"),
    ]
    report = report_of(manifest(tmp_path, films))
    assert report.status.video_s == 50.0
    assert report.class_shares == {"road": 0.16, "sky": 0.64}  # c.mp4 has seconds, and no share
    assert [(p.at, p.video_s, p.class_shares["road"]) for p in report.periods] == [
        ("2026-08-01T06:00", 10.0, 0.5),
        ("2026-08-02T06:00", 30.0, 0.1),
    ]
    assert [(f.film, f.people_s) for f in report.with_people] == [("a.mp4", 2.5)]
    assert (report.with_people_count, report.unmeasured_count) == (1, 1)
    page = report_page(report, "Batch out")
    assert "d.mp4 &lt;b&gt;is torn&lt;/b&gt;" in page
    assert "Videos with people on the road (1)" in page
    assert "not known of 1 without --stats in .jsonl or .parquet" in page
    assert "50.0 seconds" in page and "2.0 minutes" in page and "Seconds of video over time" in page


def test_one_point_in_time_is_no_course_of_time(tmp_path) -> None:
    recorded = "2026-08-01T06:00:00+00:00"
    films = [film(name, class_shares={"road": 1.0}, recorded=recorded) for name in ("a", "b")]
    page = report_page(report_of(manifest(tmp_path, films)), "Batch out")
    assert "over time" not in page and "Shares of classes in all videos" in page


def test_a_page_of_many_films_is_hardly_larger_than_one_of_few(tmp_path) -> None:
    def size(count: int) -> int:
        shares = dict.fromkeys(("road", "sky", "tree", "car", "building"), 0.2)
        films = [
            film(
                f"film{n:05d}.mp4",
                class_shares=shares,
                people_s=1.0 + n,
                recorded=f"20{n % 50:02d}-{n % 12 + 1:02d}-{n % 28 + 1:02d}T{n % 24:02d}:00:00",
            )
            for n in range(count)
        ]
        films += [film(f"torn{n}.mp4", state="failed") for n in range(count)]
        return len(report_page(report_of(manifest(tmp_path, films)), "title").encode())

    few, many = size(300), size(5000)
    assert many - few < 50_000
    report = report_of(tmp_path)
    assert len(report.periods) <= MOST_PERIODS
    assert len(report.with_people) == len(report.failed) == MOST_LISTED
    assert report.with_people[0].film == "film04999.mp4"
    assert "and 4,900 more" in report_page(report, "title")


def test_names_of_failed_videos_have_room_on_a_phone(tab, tmp_path) -> None:
    failed = film("b/broken.mp4", state="failed") | {"error": 9 * "no video at all; "}
    manifest(tmp_path, [failed])
    page = tmp_path / "report.html"
    page.write_text(report_page(report_of(tmp_path), "title"))
    tab.open(page.as_uri(), (390, 900))
    assert tab.run("document.querySelector('.listed td').offsetWidth") >= 110
    assert tab.run("document.documentElement.scrollWidth") <= 390


@pytest.mark.parametrize(
    ("dates", "periods"),
    [
        (["2026-08-01T06:30:59", "2026-08-01T06:30:01"], ["2026-08-01T06:30"]),
        ([f"2026-08-01T{n // 60:02d}:{n % 60:02d}:00" for n in range(300)], 5),
        ([f"2026-{n % 12 + 1:02d}-{n % 28 + 1:02d}T{n % 23:02d}" for n in range(3000)], 84),
        ([f"{1990 + n // 12}-{n % 12 + 1:02d}-01T00" for n in range(400)], 34),
        ([None], []),
    ],
)
def test_periods_are_the_finest_that_fit_on_a_curve(dates, periods) -> None:
    found = [period.at for period in periods_of(Metrics(recorded=date) for date in dates)]
    assert found == periods or len(found) == periods
    assert found == sorted(found)


def test_what_a_run_notes_of_people_is_what_its_statistics_say(tmp_path) -> None:
    config = InferConfig(
        source=SAMPLE, out=None, stats=tmp_path / "stats.jsonl", every=4, end_s=6.0
    )
    make_folder_of_chunks(config)
    chunks = chunks_of(config, 2.0)
    assert len(chunks) > 1
    metrics = join(config, chunks, [label(chunk_config(config, chunk)) for chunk in chunks])
    seen = sum(
        any(o.name in PEOPLE and 0.2 <= (o.across_road or 0) <= 0.8 for o in frame.objects)
        for frame in read_stats(config.stats)
    )
    assert metrics.people_s == pytest.approx(seen / (metrics.frames / metrics.video_s), abs=0.3)
    assert metrics.recorded


def test_csv_says_nothing_of_where_people_are(plain, tmp_path) -> None:
    Film().write(plain.source)
    assert label(replace(plain, out=None, stats=tmp_path / "s.csv")).people_s is None


def test_the_command_writes_the_page_and_replaces_none_unasked(tmp_path) -> None:
    manifest(tmp_path, [film("a.mp4", class_shares={"road": 1.0})])
    command = [str(Path(sys.executable).with_name("roadseg")), "batch", "report", "."]

    def run(*more: str) -> subprocess.CompletedProcess[str]:
        return subprocess.run(
            [*command, *more], cwd=tmp_path, capture_output=True, text=True, timeout=patience(60)
        )

    assert run("--out", "fleet.html").stdout == "report: fleet.html\n"
    assert f"<h1>Batch {tmp_path.name}</h1>" in (tmp_path / "fleet.html").read_text()
    again = run("--out", "fleet.html")
    assert (again.returncode, "fleet.html exists" in again.stderr) == (1, True)
