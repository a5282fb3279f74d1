"""Which films `roadseg infer` means by what it is given."""

from pathlib import Path

import cv2
import numpy as np
import pytest
from films import Film
from typer.testing import CliRunner

from roadseg.cli import app, main
from roadseg.cli.films import Beside, overlay_name, received
from roadseg.errors import ConfigError


def touch(folder: Path, *names: str) -> Path:
    folder.mkdir(exist_ok=True)
    for name in names:
        (folder / name).touch()
    return folder


def named(source: Path | str) -> list[str]:
    with received([str(source)]) as films:
        return [Path(film).name for film in films]


def test_folder_of_films_is_each_of_them_in_natural_order(tmp_path) -> None:
    drives = touch(tmp_path / "drives", "d10.mp4", "d2.MKV", "notes.txt", "d1.avi")
    assert named(drives) == ["d1.avi", "d2.MKV", "d10.mp4"]


def test_what_roadseg_wrote_into_a_folder_is_not_labelled_again(tmp_path) -> None:
    drives = touch(tmp_path / "drives", "d.mp4", "d.overlay.mp4", "roadseg-part.d.overlay.mp4")
    assert named(drives) == ["d.mp4"]


def test_what_macos_leaves_beside_films_is_passed_over(tmp_path) -> None:
    drives = touch(tmp_path / "drives", "d.mp4", "._d.mp4", ".DS_Store", "a.mp4", "._a.mp4")
    assert named(drives) == named(drives / "*.mp4") == ["a.mp4", "d.mp4"]
    assert named(drives / ".*.mp4") == ["._a.mp4", "._d.mp4"]  # asked for


def test_pattern_of_films_is_each_that_it_finds(tmp_path) -> None:
    drives = touch(tmp_path / "drives", "a10.mp4", "a9.mp4", "b.mp4", "a.txt")
    assert named(drives / "a*") == ["a9.mp4", "a10.mp4"]
    assert named(drives / "a*.txt") == ["a*.txt"]  # no film: told when it is read


def test_pattern_leaves_out_what_roadseg_wrote_unless_it_finds_nothing_else(tmp_path) -> None:
    drives = touch(tmp_path / "drives", "a.mp4", "a.overlay.mp4", "b.overlay.mp4")
    assert named(drives / "*.mp4") == ["a.mp4"]
    assert named(drives / "*.overlay.mp4") == ["a.overlay.mp4", "b.overlay.mp4"]


def test_film_named_twice_is_labelled_once(tmp_path) -> None:
    drives = touch(tmp_path / "drives", "a.mp4", "b.mp4")
    sources = [str(drives / "b.mp4"), str(drives), str(drives / "*.mp4")]
    with received(sources) as films:
        assert films == [drives / "b.mp4", drives / "a.mp4"]


@pytest.mark.parametrize("source", [".", "*"])
def test_folder_of_images_stays_one_film_and_films_in_it_are_mentioned(
    tmp_path, source, capsys
) -> None:
    pictures = touch(tmp_path / "pictures", "1.png", "2.png")
    assert named(pictures / source) == [(pictures / source).name]
    assert not capsys.readouterr().err
    touch(pictures, "a.mp4", "b.mp4")
    assert named(pictures / source) == [(pictures / source).name]
    assert "not 2 videos beside them; for those give a pattern" in capsys.readouterr().err


@pytest.mark.parametrize("source", ["0", "12", "/dev/video7"])
def test_camera_is_for_live(tmp_path, monkeypatch, source) -> None:
    monkeypatch.chdir(tmp_path)
    with pytest.raises(ConfigError, match=f"run: roadseg live {source}"):
        named(source)


def test_film_with_a_number_for_a_name_is_a_film(tmp_path, monkeypatch) -> None:
    monkeypatch.chdir(touch(tmp_path, "0"))
    assert named("0") == ["0"]


@pytest.mark.parametrize(
    ("source", "overlay"),
    [
        ("photo.jpg", "photo.overlay.jpg"),
        ("photo.JPEG", "photo.overlay.jpeg"),
        ("photo.png", "photo.overlay.png"),
        ("photo.tif", "photo.overlay.png"),
        ("drive.mp4", "drive.overlay.mp4"),
        ("drive.MKV", "drive.overlay.mkv"),
        ("drive.avi", "drive.overlay.mp4"),
    ],
)
def test_photo_becomes_a_photo_and_a_film_a_film(tmp_path, source, overlay) -> None:
    assert overlay_name(touch(tmp_path, source) / source) == Path(overlay)


def test_photo_and_folder_of_films_are_labelled_without_a_word_about_names(
    plain, tmp_path, monkeypatch
) -> None:
    monkeypatch.chdir(tmp_path)
    cv2.imwrite("photo.jpg", np.full((48, 64, 3), 90, np.uint8))
    (tmp_path / "drives").mkdir()
    for name in ("a", "b"):
        Film(times=(0, 1)).write(tmp_path / "drives" / f"{name}.mp4")
    common = ["--weights", str(plain.weights), "--stats", "seen.csv"]
    for arguments in (["photo.jpg"], ["drives", "--out", "labelled"]):
        done = CliRunner().invoke(app, ["infer", *arguments, *common], catch_exceptions=False)
        assert done.exit_code == 0, done.output
    assert cv2.imread("photo.overlay.jpg").shape == (48, 64, 3)
    names = {path.name for path in (tmp_path / "labelled").iterdir()}
    assert names == {"a.overlay.mp4", "b.overlay.mp4", "a.seen.csv", "b.seen.csv"}


@pytest.mark.parametrize(
    ("options", "message"),
    [
        (["--classes", "rod"], "--classes names rod"),
        (["--codec", "vp8"], "--codec is 'vp8'"),
        (["--stats", "seen.txt"], "must end in .jsonl or .csv"),
        (["--weights", "none.onnx"], "none.onnx, the model, does not exist"),
    ],
)
def test_mistake_in_the_options_of_several_films_is_told_once_and_before_what_exists(
    tmp_path, monkeypatch, options, message, capsys
) -> None:
    monkeypatch.chdir(touch(tmp_path, "a.mp4", "b.mp4", "a.overlay.mp4"))
    monkeypatch.setattr("sys.argv", ["roadseg", "infer", "a.mp4", "b.mp4", *options])
    with pytest.raises(SystemExit) as ended:
        main()
    assert ended.value.code == 1
    (line,) = capsys.readouterr().err.splitlines()
    assert message in line


def test_stats_go_into_a_folder_of_their_own_where_one_is_named() -> None:
    beside = Beside(masks=None, stats=Path("tables/s.csv"), report=Path("r.html"))
    own = beside.of("drive", Path("labelled"))
    assert own.stats == Path("tables/drive.s.csv")
    assert own.report == Path("labelled/drive.r.html")
