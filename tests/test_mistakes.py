"""What a user can mend is told in one line and ends with 1, whatever it is."""

import os
import subprocess
import sys
from dataclasses import replace
from fractions import Fraction
from pathlib import Path

import cv2
import numpy as np
import pytest
from conftest import SAMPLE, heeding_rights
from films import Film

from roadseg.cli import app
from roadseg.cli.options import class_names, parse_every, parse_rate, parse_size, parse_time
from roadseg.errors import ConfigError, ModelFileError, RoadsegError, VideoError
from roadseg.infer.api import stream
from roadseg.infer.offline import infer
from roadseg.measure import machine_record
from roadseg.measure.config import BenchConfig
from roadseg.measure.machine_record import own_revision
from roadseg.video.rates import image_rate


def write_pictures(folder: Path, count: int) -> Path:
    folder.mkdir()
    for number in range(count):
        cv2.imwrite(str(folder / f"{number}.png"), np.full((48, 64, 3), 60 * number, np.uint8))
    return folder


@pytest.mark.parametrize("name", ["frame.png", "a-%d-%d.jpg", "%06d-%d.png"])
def test_name_of_one_image_for_a_film_says_where_the_number_goes(name, tmp_path) -> None:
    source = Film(times=(0, 1)).write(tmp_path / "film.mp4")
    command = ["infer", source, "--out", tmp_path / name]
    code = "import sys; from roadseg.cli import main; main()"
    done = subprocess.run(
        [sys.executable, "-c", code, *map(str, command)], capture_output=True, text=True
    )
    assert (done.returncode, done.stderr.count("\n")) == (1, 1)
    assert "names one image, and there is one a frame" in done.stderr and "-%06d." in done.stderr


def test_one_picture_becomes_one_image(plain, tmp_path) -> None:
    picture = write_pictures(tmp_path / "one", 1) / "0.png"
    for number, source in enumerate((picture, picture.parent)):
        out = tmp_path / f"{number}.jpg"
        assert infer(replace(plain, source=source, out=out)).frames == 1
        assert cv2.imread(str(out)).shape == (48, 64, 3)
        with pytest.raises(VideoError, match="exists"):
            infer(replace(plain, source=source, out=out))
    infer(replace(plain, source=picture, out=out, overwrite=True))


def test_folder_named_like_a_picture_is_no_picture(plain, tmp_path) -> None:
    pictures = write_pictures(tmp_path / "pictures", 3)
    (pictures / "2.5.png").mkdir()
    for source in (pictures, pictures / "*.png"):
        assert infer(replace(plain, source=source, overwrite=True)).frames == 3


@pytest.mark.parametrize("name", ["a[.mp4", "a[1].mp4", "a**b[.mp4", "a**b[1].mp4", "[", "*"])
def test_missing_file_with_a_bracket_in_its_name_does_not_exist(plain, name, tmp_path) -> None:
    with pytest.raises(VideoError, match="does not exist"):
        infer(replace(plain, source=tmp_path / "none" / name))


@pytest.mark.parametrize("rate", ["0", "-1", "nan", "inf", "1/0", "1/3000000000", "1e300", "x"])
def test_rate_that_no_film_has_is_refused(rate) -> None:
    with pytest.raises(ConfigError, match="--fps is"):
        parse_rate(rate)
    if rate in ("0", "nan", "inf"):
        with pytest.raises(ConfigError, match="--fps is"):
            image_rate(float(rate))
        with pytest.raises(ConfigError, match=r"^image_fps is"):
            stream(SAMPLE, image_fps=float(rate))


@pytest.mark.parametrize("rate", ["0", "nan", "inf", "-15"])
def test_evaluate_refuses_such_a_rate(rate, streets, tmp_path) -> None:
    command = ["evaluate", "--data", str(streets), "--video", "--fps", rate]
    done = subprocess.run(
        [sys.executable, "-m", "roadseg", *command], capture_output=True, text=True, cwd=tmp_path
    )
    assert done.returncode == 1 and done.stderr.startswith("roadseg: --fps is")


@pytest.mark.parametrize(
    "rate", [Fraction(1, 3600), Fraction(24000, 1001), Fraction("23.976023976")]
)
def test_rate_of_any_film_can_be_written(plain, rate, tmp_path) -> None:
    source = write_pictures(tmp_path / "pictures", 3)
    assert infer(replace(plain, source=source, image_fps=rate)).frames == 3


@pytest.mark.parametrize("seconds", [float("nan"), float("inf"), 1e300, -1.0])
def test_time_beyond_any_film_is_refused(plain, seconds) -> None:
    with pytest.raises(RoadsegError, match="--start is"):
        replace(plain, start_s=seconds)
    with pytest.raises(RoadsegError, match="--seconds is"):
        BenchConfig(film=SAMPLE, film_s=seconds)


@pytest.mark.parametrize("text", ["32x", "32", "-32x32", "9" * 5000 + "x32", "32000000x32", "0x0"])
def test_size_of_no_picture_is_refused(text) -> None:
    with pytest.raises(ConfigError, match="--size is"):
        parse_size(text)


@pytest.mark.parametrize("text", ["9" * 5000 + ":30", "9" * 400 + ":30", "1:61", "nan:1", "1:nan"])
def test_time_of_no_film_is_refused(text) -> None:
    with pytest.raises(ConfigError, match="--start is"):
        parse_time(text, "--start")


@pytest.mark.parametrize("text", ["often", "", "-1", "2.5", "Auto", "9" * 5000])
def test_every_so_many_frames_that_is_no_number_is_refused(text) -> None:
    with pytest.raises(ConfigError, match=r"--every is .*, or auto"):
        parse_every(text)


ODD_NAMES = [
    "12:30.mp4",
    "concat:a|b.mp4",
    "a%d[1]*?.mp4",
    "a\nb\x1b[31m.mp4",
    "\udcff\U0001f697.mp4",
]


@pytest.mark.skipif(sys.platform != "linux", reason="other systems do not take such names")
@pytest.mark.parametrize("name", ODD_NAMES)
@pytest.mark.parametrize("suffix", [".mp4", ".mkv"])
def test_film_of_any_name_is_labelled_from_its_folder(
    plain, name, suffix, tmp_path, monkeypatch
) -> None:
    monkeypatch.chdir(tmp_path)
    source = Film(times=(0, 1, 2), sounds=1).write(tmp_path / "film.mp4").rename(name)
    outputs = {flag: Path(f"{name}{end}") for flag, end in (("stats", ".csv"), ("report", ".html"))}
    infer(replace(plain, source=source, out=Path(name).with_suffix(f".o{suffix}"), **outputs))
    assert all(path.is_file() for path in outputs.values())


LONG = "x" * 300


@pytest.mark.parametrize(
    "arguments",
    [
        [LONG],
        [SAMPLE, "--out", f"{LONG}.mp4"],
        [SAMPLE, "--out", f"{'x' * 245}.mp4"],  # with a prefix it is too long
        [SAMPLE, "--out", f"{LONG}/%06d.png"],
        [SAMPLE, "--masks", LONG],
        [SAMPLE, "--stats", f"{LONG}.csv"],
        [SAMPLE, "--weights", f"{LONG}.onnx"],
        [SAMPLE, "--palette", f"{LONG}.csv"],
        [SAMPLE, "--ignore", f"{LONG}.png"],
    ],
)
def test_name_that_is_too_long_is_one_line(arguments, tmp_path) -> None:
    done = subprocess.run(
        [sys.executable, "-m", "roadseg", "infer", *map(str, arguments), "--end", "0.1"],
        capture_output=True,
        text=True,
        cwd=tmp_path,
    )
    assert done.returncode == 1 and "Traceback" not in done.stderr
    assert done.stderr.startswith("roadseg: ") and not list(tmp_path.iterdir())


@pytest.mark.parametrize("name", ["-x.mp4", "--page.mp4"])
def test_file_that_begins_with_a_dash_is_named_as_one_can_give_it(name, tmp_path) -> None:
    (tmp_path / name).touch()
    command = [sys.executable, "-m", "roadseg", "infer", name]
    done = subprocess.run(command, capture_output=True, text=True, cwd=tmp_path)
    assert done.returncode == 2
    assert done.stderr.endswith(f"; the file is ./{name}; see roadseg infer --help\n")


@pytest.mark.parametrize(
    "words",
    [
        ["infer", ""],
        ["redact", ""],
        ["batch", "", "--out", "out"],
        ["batch", "films", "--out", ""],
        ["batch", "status", ""],
        ["evaluate", "--data", ""],
        ["data", "check", ""],
        ["train", "--data", "data", "--out", ""],
        ["train", "--data", "", "--out", "run"],
        ["train", "--data", "data", "--unlabelled", "", "--teacher", "unet-lite"],
    ],
)
def test_variable_that_is_not_set_does_not_name_the_current_folder(
    words, tmp_path, monkeypatch
) -> None:
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("MALLOC_MMAP_MAX_", "0")  # or a training would start anew with it
    Film().write(tmp_path / "a.mp4")
    with pytest.raises(ConfigError, match=r"is empty; give one, or \. for the folder here"):
        app(words, standalone_mode=False)
    assert [path.name for path in tmp_path.iterdir()] == ["a.mp4"]


@pytest.mark.parametrize(
    ("text", "names"),
    [("", ()), ("road", ("road",)), (" road, car,", ("road", "car")), (" ,", (" ,",))],
)
def test_comma_behind_the_last_name_is_none(text, names) -> None:
    assert class_names(text) == names


@pytest.mark.parametrize("folder", [".", "/", ""])
def test_folder_is_no_model_to_export(folder) -> None:
    with pytest.raises(ModelFileError, match=r"is a folder; give a model file from training"):
        app(["export", folder], standalone_mode=False)


@pytest.mark.parametrize(
    "arguments",
    [
        ["infer", "locked/a.mp4"],
        ["infer", SAMPLE, "--out", "locked/a.mp4"],
        ["infer", SAMPLE, "--out", "a.mp4", "--masks", "locked/masks"],
        ["infer", SAMPLE, "--no-film", "--stats", "locked/a.csv"],
        ["infer", SAMPLE, "--weights", "locked/a.onnx"],
        ["batch", "list.txt", "--out", "out", "--no-film", "--stats", "a.csv"],
        ["batch", "status", "locked/out"],
        ["data", "check", "locked"],
    ],
)
def test_folder_that_may_not_be_entered_is_one_line(arguments, tmp_path) -> None:
    (tmp_path / "locked").mkdir(mode=0o000)
    (tmp_path / "list.txt").write_text("locked/a.mp4\n")
    done = subprocess.run(
        [*heeding_rights(), sys.executable, "-m", "roadseg", *map(str, arguments)],
        capture_output=True,
        text=True,
        cwd=tmp_path,
    )
    said = done.stderr.partition("\n")[0]
    assert done.returncode == 1 and "Traceback" not in done.stderr, done.stderr
    assert said.startswith("roadseg: locked/") and "permissions" in said, done.stderr
    (tmp_path / "locked").chmod(0o700)


def test_closed_standard_input_is_said(tmp_path) -> None:
    code = "import sys; sys.stdin = None; from roadseg.cli import main; main()"
    done = subprocess.run(
        [sys.executable, "-c", code, "infer", "-"], capture_output=True, text=True, cwd=tmp_path
    )
    assert done.returncode == 1 and "standard input is a terminal, or closed" in done.stderr
    assert done.stderr.count("\n") == 1


def test_standard_input_that_there_is_no_room_for_is_said(tmp_path) -> None:
    limit = "import resource; resource.setrlimit(resource.RLIMIT_FSIZE, (1000, 1000))"
    done = subprocess.run(
        [sys.executable, "-c", f"{limit}; from roadseg.cli import main; main()", "infer", "-"],
        capture_output=True,
        cwd=tmp_path,
        input=bytes(100_000),
        env={**os.environ, "TMPDIR": str(tmp_path)},
    )
    said = done.stderr.decode()
    assert done.returncode == 1 and "stdin cannot be written (File too large)" in said, said
    assert said.count("\n") == 1 and not list(tmp_path.iterdir())


def test_revision_is_that_of_our_own_checkout_alone(tmp_path) -> None:
    package = tmp_path / "venv" / "roadseg"
    package.mkdir(parents=True)
    (package / "__init__.py").touch()
    (tmp_path / "theirs.py").touch()
    git = ["git", "-C", str(tmp_path), "-c", "user.name=a", "-c", "user.email=a@example.com"]
    for command in (["init", "-q"], ["add", "theirs.py"], ["commit", "-qm", "theirs"]):
        subprocess.run([*git, *command], check=True)
    assert machine_record.git_revision(package) is not None and own_revision(package) is None
    subprocess.run([*git, "add", str(package)], check=True)
    assert own_revision(package) == machine_record.git_revision(package)
