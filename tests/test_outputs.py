"""Where labelled films go besides files: standard output, images, nowhere at all."""

import json
import os
import subprocess
import sys
from dataclasses import replace
from fractions import Fraction
from pathlib import Path

import av
import cv2
import numpy as np
import pytest
from conftest import SAMPLE, WEIGHTS, patience
from films import Film, frame_times, packets, pictures, with_wide_pixels

from roadseg.cli.films import Beside, plan
from roadseg.cli.options import parse_time
from roadseg.data.label_files import read_label
from roadseg.data.meaning import LabelMeaning
from roadseg.errors import ConfigError, OutputError, RoadsegError, VideoError
from roadseg.infer.offline import infer
from roadseg.spec import PALETTES

QUICK = ("--end", "0.4", "--size", "96x64")


def roadseg(*args: object, cwd: Path, stdout: int = subprocess.PIPE) -> subprocess.Popen[bytes]:
    return subprocess.Popen(
        [sys.executable, "-m", "roadseg", *map(str, args)],
        cwd=cwd,
        env={**os.environ, "NO_COLOR": "1", "TERM": "dumb"},
        stdout=stdout,
        stderr=subprocess.PIPE,
    )


def with_subtitles(source: Path, path: Path) -> Path:
    """A Matroska film with a kind of subtitles that MP4 cannot hold."""
    with av.open(source) as film, av.open(path, "w") as target:
        target.metadata["title"] = "To work"
        streams = [target.add_stream_from_template(s) for s in film.streams]
        subtitles = target.add_mux_stream("subrip")
        subtitles.time_base = Fraction(1, 1000)
        for packet in film.demux():
            if packet.dts is not None:
                packet.stream = streams[packet.stream.index]
                target.mux(packet)
        words = av.Packet(b"hello")
        words.stream, words.time_base, words.pts, words.dts = subtitles, Fraction(1, 1000), 100, 100
        words.duration = 200
        target.mux(words)
    return path


@pytest.mark.parametrize("form", ["mp4", "matroska"])
def test_film_on_standard_output_plays_while_it_comes_and_lacks_nothing(tmp_path, form) -> None:
    source = Film(sounds=1, size_hw=(64, 96), times=(0, 1, 4, 5, 9)).write(tmp_path / "film.mp4")
    if form == "matroska":
        source = with_subtitles(source, tmp_path / "film.mkv")
    process = roadseg("infer", source, "--out", "-", "--size", "96x64", cwd=tmp_path)
    film, errors = process.communicate(timeout=patience(60))
    assert process.returncode == 0, errors
    assert b"standard output: 5 frames" in errors and b"in view: " in errors
    received = tmp_path / "received"
    received.write_bytes(film)
    with av.open(received) as container:
        assert form in container.format.name
        assert (form == "matroska") == (container.metadata.get("title") == "To work")
    assert frame_times(received) == frame_times(source)
    assert packets(received, "audio") == packets(source, "audio")
    if form == "matroska":
        assert packets(received, "subtitle") == packets(source, "subtitle")
    received.write_bytes(film[: len(film) * 9 // 10])  # the index is not at its end
    with av.open(received) as container:
        assert next(container.decode(video=0)).width == 96


def test_reader_that_goes_away_ends_the_run_without_a_traceback(tmp_path) -> None:
    process = roadseg("infer", SAMPLE, "--out", "-", "--size", "96x64", cwd=tmp_path)
    assert process.stdout.read(1000)
    process.stdout.close()
    errors = process.stderr.read()
    assert process.wait(timeout=patience(60)) == 1
    assert errors == b"stopped; whoever read the video is gone\n"
    process.stderr.close()
    assert list(tmp_path.iterdir()) == []


@pytest.mark.skipif(not Path("/dev/full").exists(), reason="needs Linux's /dev/full")
@pytest.mark.parametrize("args", [("--out", "-"), ("--no-film", "--stats", "drive.csv")])
def test_standard_output_that_is_full_is_one_line(tmp_path, args) -> None:
    with Path("/dev/full").open("wb") as full:
        process = roadseg("infer", SAMPLE, *QUICK, *args, cwd=tmp_path, stdout=full.fileno())
        _, errors = process.communicate(timeout=patience(60))
    assert process.returncode == 1
    assert errors.startswith(b"roadseg: standard output cannot be written (No space left")
    assert errors.count(b"\n") == 1


def test_film_is_not_sent_to_a_terminal(tmp_path) -> None:
    ours, theirs = os.openpty()
    process = roadseg("infer", SAMPLE, *QUICK, "--out", "-", cwd=tmp_path, stdout=theirs)
    _, errors = process.communicate(timeout=patience(60))
    os.close(theirs)
    os.close(ours)
    assert process.returncode == 1 and b"--out - is a terminal, or closed" in errors


@pytest.mark.parametrize("name", ["frames/%06d.png", "frames/at-%d.jpg", "new/er/%03d.JPG"])
def test_images_show_what_the_film_would(plain, tmp_path, name) -> None:
    Film().write(plain.source)
    result = infer(replace(plain, out=tmp_path / name, alpha=0.5))
    infer(replace(plain, alpha=0.5, crf=0))
    assert result.frames == 10
    folder = (tmp_path / name).parent
    names = [Path(name).name % number for number in range(10)]
    assert sorted(path.name for path in folder.iterdir()) == sorted(names)
    for file, picture in zip(names, pictures(plain.out), strict=True):
        image = cv2.imread(str(folder / file))[..., ::-1]
        assert cv2.PSNR(np.ascontiguousarray(image), picture) > 30


def test_images_have_square_pixels(plain, tmp_path) -> None:
    flat = Film(size_hw=(48, 64)).write(tmp_path / "flat.mp4")
    with_wide_pixels(flat, plain.source)
    infer(replace(plain, out=tmp_path / "%d.png"))
    assert cv2.imread(str(tmp_path / "0.png")).shape == (48, 128, 3)


def test_images_that_exist_are_not_touched_unless_asked(plain, tmp_path) -> None:
    Film(times=(0, 1, 2)).write(plain.source)
    out = tmp_path / "shots" / "s%d.png"
    out.parent.mkdir()
    for name in ("s1.png", "s7.png", "s07.png", "other.png"):
        (out.parent / name).write_text("precious")
    with pytest.raises(VideoError, match=r"s1\.png exists.*--overwrite"):
        infer(replace(plain, out=out))
    assert (out.parent / "s1.png").read_text() == "precious"
    infer(replace(plain, out=out, overwrite=True))
    names = {path.name for path in out.parent.iterdir()}
    assert names == {"s0.png", "s1.png", "s2.png", "s07.png", "other.png"}  # none of a longer film


def test_images_so_far_outlive_a_failure(plain, tmp_path) -> None:
    Film(times=tuple(range(30))).write(plain.source)

    def fail(done: int, _total: int | None) -> None:
        if done == 5:
            raise RuntimeError("reader")

    with pytest.raises(RuntimeError, match="reader"):
        infer(replace(plain, out=tmp_path / "shots" / "%d.png"), fail)
    assert not list((tmp_path / "shots").glob("*.png"))
    so_far = (tmp_path / "shots" / "roadseg-part.#-png").glob("*.png")
    whole = [cv2.imread(str(path)) for path in so_far]
    assert len(whole) >= 5 and all(image.shape == (48, 64, 3) for image in whole)


@pytest.mark.parametrize("palette", PALETTES)
def test_masks_in_colour_are_the_same_ids_to_a_reader_of_labels(plain, tmp_path, palette) -> None:
    Film(times=(0, 1, 2)).write(plain.source)
    config = replace(plain, out=None, palette=palette, masks=tmp_path / "grey")
    infer(config)
    infer(replace(config, masks=tmp_path / "colour", mask_format="palette"))
    names = sorted(path.name for path in (tmp_path / "grey").iterdir())
    assert names == sorted(path.name for path in (tmp_path / "colour").iterdir())
    meaning = LabelMeaning.camvid()
    for name in names:
        ids = cv2.imread(str(tmp_path / "grey" / name), cv2.IMREAD_UNCHANGED)
        shown = cv2.imread(str(tmp_path / "colour" / name), cv2.IMREAD_COLOR_RGB)
        colors = np.array(list(PALETTES[palette].values()), np.uint8)
        np.testing.assert_array_equal(shown, colors[ids])
        label = read_label(tmp_path / "colour" / name, meaning)
        np.testing.assert_array_equal(meaning.target(label, Path(name)), ids)


def test_masks_that_cannot_be_in_colour_are_refused(plain, tmp_path) -> None:
    with pytest.raises(ConfigError, match="--mask-format is 'rgb'; use one of: grey, palette"):
        replace(plain, masks=tmp_path / "masks", mask_format="rgb")
    Film(times=(0, 1, 2)).write(plain.source)
    with pytest.raises(ConfigError, match="--mask-format palette is for PNG files"):
        infer(replace(plain, masks=tmp_path / "masks.mkv", mask_format="palette"))


def test_no_film_gives_the_same_stats_and_masks_without_painting(plain, tmp_path) -> None:
    Film(times=(0, 1, 5)).write(plain.source)
    stats, masks = (tmp_path / "a.jsonl", tmp_path / "b.jsonl"), (tmp_path / "a", tmp_path / "b")
    infer(replace(plain, stats=stats[0], masks=masks[0]))
    plain.out.unlink()
    result = infer(replace(plain, out=None, stats=stats[1], masks=masks[1]))
    assert (result.out, result.frames) == (None, 3)
    assert [stage.name for stage in result.stages] == [
        "decode",
        "segment",
        "measure",
        "tracks",
        "view",
        "stats",
        "masks",
    ]
    assert stats[0].read_bytes() == stats[1].read_bytes()
    for name in ("000000.png", "000002.png"):
        assert (masks[0] / name).read_bytes() == (masks[1] / name).read_bytes()
    assert not plain.out.exists()


def test_cut_without_a_frame_is_said_even_without_a_film(plain, tmp_path) -> None:
    Film().write(plain.source)
    with pytest.raises(VideoError, match="no frame between --start and --end"):
        infer(replace(plain, out=None, stats=tmp_path / "a.csv", start_s=50))
    assert not (tmp_path / "a.csv").exists()


@pytest.mark.parametrize(
    ("change", "said"),
    [
        ({"out": None}, "--no-film leaves nothing to write; add --stats, --masks or --geojson"),
        ({"out": "-", "resume": True}, "--resume needs a video in a file, and there is --out -"),
        ({"out": None, "report": "r.html"}, "--report needs .* is --no-film; leave out one"),
        ({"out": None, "stats": "a.csv", "report": "r.html"}, "--report needs .* is --no-film"),
        ({"out": "%d.png", "report": "r.html"}, r"--report needs .* is --out .*%d\.png"),
        ({"out": "frame.png"}, r"frame\.png names one image.*frame-%06d\.png"),
        ({"out": "%d-%d.jpg"}, r"%d-%d\.jpg names one image"),
        ({"out": "frames"}, r"--out frames is a folder; .*such as frames/%06d\.png"),
        ({"out": "-", "codec": "xvid"}, "--codec is 'xvid'"),
    ],
)
def test_outputs_that_make_no_sense_are_refused(plain, tmp_path, monkeypatch, change, said) -> None:
    Film().write(plain.source)
    monkeypatch.chdir(tmp_path)
    paths = {n: Path(v) for n, v in change.items() if v and n in ("out", "stats", "report")}
    with pytest.raises(RoadsegError, match=said):
        infer(replace(plain, **{**change, **paths}))


@pytest.mark.parametrize(
    ("args", "said"),
    [
        (("--out", "-", "--json"), b"--json and --out - both want standard output"),
        (("--out", "o.mp4", "--no-film"), b"--no-film and --out o.mp4 contradict"),
        (("a.mp4", "--out", "-"), b"there are 2 videos; give a folder"),
        (("a.mp4", "--out", "%d.png"), b"there are 2 videos; give a folder"),
        (("--start", "1:70"), b"--start is '1:70'; give seconds, or a time such as 1:30"),
    ],
)
def test_options_that_make_no_sense_together_are_one_line(tmp_path, args, said) -> None:
    process = roadseg("infer", SAMPLE, *args, cwd=tmp_path)
    output, errors = process.communicate(timeout=patience(60))
    assert (process.returncode, output, errors.count(b"\n")) == (1, b"", 1)
    assert said in errors and list(tmp_path.iterdir()) == []


def test_several_films_have_stats_and_reports_of_their_own(tmp_path) -> None:
    (tmp_path / "other.mp4").write_bytes(SAMPLE.read_bytes())
    beside = ("--stats", "stats.csv", "--report", "report.html", "--out", "labelled")
    process = roadseg("infer", SAMPLE, "other.mp4", *QUICK, *beside, "--json", cwd=tmp_path)
    output, errors = process.communicate(timeout=patience(60))
    assert process.returncode == 0, errors
    assert [summary["frames"] for summary in json.loads(output)] == [10, 10]
    for film in ("drive", "other"):
        assert len((tmp_path / "labelled" / f"{film}.stats.csv").read_text().splitlines()) == 11
        page = (tmp_path / "labelled" / f"{film}.report.html").read_text()
        assert f"{film}.overlay.mp4" in page


def test_several_films_without_a_film_each_still_need_names_of_their_own(tmp_path) -> None:
    beside = Beside(masks=None, stats=Path("s.jsonl"), report=None)
    settings = {"weights": WEIGHTS}
    films = [tmp_path / "a.mp4", tmp_path / "b.mkv"]
    jobs = plan(films, None, beside, settings, no_film=True)
    assert [(job.out, job.stats) for job in jobs] == [
        (None, Path("a.s.jsonl")),
        (None, Path("b.s.jsonl")),
    ]
    with pytest.raises(ConfigError, match=r"a\.\w+ and .*a\.\w+ would both be written as a"):
        plan([films[0], Path("a.mov")], None, beside, settings, no_film=True)


@pytest.mark.parametrize(
    ("out", "path"),
    [
        (None, "a.overlay.mp4"),
        ("there.d", "there.d/a.overlay.mp4"),
        ("new/folder", "new/folder/a.overlay.mp4"),
        ("b.mp4", "b.mp4"),
        ("-", "-"),
        ("frames/%d", "frames/%d"),  # refused in its turn
    ],
)
def test_the_only_video_goes_into_a_folder_too(tmp_path, monkeypatch, out, path) -> None:
    monkeypatch.chdir(tmp_path)
    Path("there.d").mkdir()
    beside = Beside(masks=None, stats=None, report=None)
    (job,) = plan([Path("a.mp4")], out and Path(out), beside, {"weights": WEIGHTS})
    assert job.out == Path(path)
    assert Path("new/folder").is_dir() == (out == "new/folder")


@pytest.mark.parametrize(
    ("text", "seconds"),
    [("0", 0), ("90", 90), ("1.5", 1.5), ("1:30", 90), ("0:05.25", 5.25), ("1:02:03", 3723)],
)
def test_times_are_seconds_or_clock(text, seconds) -> None:
    assert parse_time(text, "--end") == seconds


@pytest.mark.parametrize(
    "text", ["", "soon", "1:", ":5", "1:60", "1:2:3:4", "-1:30", "1:-5", "1.5:3"]
)
def test_what_is_no_time_is_refused(text) -> None:
    with pytest.raises(ConfigError, match="--end is"):
        parse_time(text, "--end")


@pytest.mark.parametrize("suffix", [".mp4", ".mov", ".mkv"])
# A film is a few bytes longer where sound and picture come to the file in another order.
@pytest.mark.parametrize("missing", [30, 600, 5000])
def test_disk_that_is_full_at_the_very_end_is_no_success(plain, tmp_path, suffix, missing) -> None:
    resource = pytest.importorskip("resource")
    Film(times=tuple(range(60)), sounds=1).write(plain.source)
    config = replace(plain, out=tmp_path / f"out{suffix}")
    infer(config)
    size, most = config.out.stat().st_size, resource.getrlimit(resource.RLIMIT_FSIZE)
    config.out.unlink()
    resource.setrlimit(resource.RLIMIT_FSIZE, (size - missing, most[1]))  # stands in for the disk
    try:
        with pytest.raises(OutputError, match="cannot be written"):
            infer(config)
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, most)
    assert not config.out.exists()
    assert infer(replace(config, resume=True)).frames == 60
    assert len(frame_times(config.out)) == 60
