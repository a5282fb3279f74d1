"""`roadseg evaluate --video` on a split of known motion and on a film."""

import io
import json
import re
from dataclasses import replace
from fractions import Fraction
from pathlib import Path

import cv2
import numpy as np
import pytest
from conftest import file_ids
from films import Film
from moving import FlickeringBackend, panning
from rich.console import Console
from test_cli import roadseg

from roadseg.cli.tables import film_table
from roadseg.data.folder import FolderDataset
from roadseg.measure.accuracy_page import film_page
from roadseg.measure.evaluate import evaluate_film, evaluate_split_as_film
from roadseg.segmentation.config import ModelConfig

FPS = Fraction(15)
ALONE = ModelConfig(steady=0)


@pytest.fixture
def split(tmp_path: Path) -> FolderDataset:
    """Two still drives of four and three pictures, labelled as the flickering network sees them."""
    target = np.zeros((216, 384), np.uint8)
    target[:, :192] = 3
    for drive, count in (("a", 4), ("b", 3)):
        for number, frame in enumerate(panning([0] * count, seed=ord(drive))):
            for folder, picture in (
                ("val", cv2.cvtColor(frame.rgb(), cv2.COLOR_RGB2BGR)),
                ("valannot", file_ids(target)),
            ):
                (tmp_path / folder).mkdir(exist_ok=True)
                cv2.imwrite(str(tmp_path / folder / f"{drive}_{number}.png"), picture)
    return FolderDataset.open(tmp_path, "val")


def test_flicker_is_seen_and_steadiness_cures_it(split) -> None:
    wrong = (2,)
    alone = evaluate_split_as_film(FlickeringBackend(wrong), split, FPS, ALONE)
    steady = evaluate_split_as_film(
        FlickeringBackend(wrong), split, FPS, replace(ALONE, steady=0.6)
    )
    assert alone.temporal.flip_rate > 0.2 and alone.temporal.flicker_rate > 0.2
    assert steady.temporal.flip_rate == steady.temporal.flicker_rate == 0
    assert alone.scores.miou < 0.9 < steady.scores.miou
    worst = [moment.miou < 0.9 for moment in alone.moments]
    assert worst == [False, False, True, False, False, False, False]


def test_totals_stay_in_their_rows_in_a_narrow_terminal(split) -> None:
    found = evaluate_split_as_film(FlickeringBackend(), split, FPS, ALONE)
    colors = dict.fromkeys(found.temporal.class_names, (0, 0, 0))
    console = Console(width=66, file=io.StringIO())
    console.print(film_table({"first.onnx": found, "second.onnx": found}, colors))
    text = console.file.getvalue()
    assert re.search(r"^│ pixels +│ .*\n│ that flip +│", text, re.MULTILINE)  # it is narrow
    assert re.search(r"^│ frames +│ +7 │ +│ +7 │", text, re.MULTILINE)
    assert re.search(r"^│ seen by +│ +7 │ +│ +7 │", text, re.MULTILINE)


def test_each_drive_is_a_film_of_its_own(split) -> None:
    found = evaluate_split_as_film(FlickeringBackend(), split, FPS, replace(ALONE, every=2))
    assert [m.by_network for m in found.moments] == [True, False, True, True, True, False, True]
    assert [np.isnan(m.consistency) for m in found.moments] == [
        True,
        *[False] * 3,
        True,
        False,
        False,
    ]
    assert found.network_frames == 5 and found.scores.miou > 0.99
    assert found.summary()["frames"] == 7


def test_film_without_labels_has_no_miou_and_says_so_on_the_page() -> None:
    found = evaluate_film(FlickeringBackend(), panning([0, 4, 4]), ALONE)
    assert found.summary()["miou"] is None and found.summary()["consistency"] > 0.9
    page = film_page({"flicker": found}, "film")
    assert "no labels to be right by" in page and "mIoU of each frame" not in page
    assert "Pixels that flip" in page


def test_command_measures_a_split_as_film(split, tmp_path) -> None:
    folder = split.image_paths[0].parent.parent
    args = ["evaluate", "--data", folder, "--video", "--every", "2"]
    done = roadseg(*args, "--json", "--report", "film.html", cwd=tmp_path)
    assert done.returncode == 0, done.stderr
    figures = json.loads(done.stdout)
    assert figures["frames"] == 7 and figures["network_frames"] == 5
    assert 0 <= figures["miou"] <= 1 and 0 <= figures["flip_rate"] <= 1
    assert "mIoU of each frame" in (tmp_path / "film.html").read_text()


def test_drives_that_stand_for_val_are_a_film_too(split, tmp_path) -> None:
    root = split.image_paths[0].parent.parent
    for folder in ("val", "valannot"):
        (root / folder).rename(root / folder.replace("val", "train"))
    measured = FolderDataset.open(root, "val")
    done = roadseg("evaluate", "--data", root, "--video", "--json", cwd=tmp_path)
    assert done.returncode == 0, done.stderr
    figures = json.loads(done.stdout)
    assert figures["frames"] == len(measured) and figures["miou"] is not None


def test_command_measures_a_film_without_labels(tmp_path) -> None:
    film = Film(size_hw=(64, 96)).write(tmp_path / "film.mp4")
    done = roadseg("evaluate", "--data", film, "--video", cwd=tmp_path)
    assert done.returncode == 0, done.stderr
    for word in ("film.mp4", "consistency", "pixels that flip", "absent"):
        assert word in done.stdout


def test_one_frame_alone_has_no_steadiness(tmp_path) -> None:
    film = Film(size_hw=(64, 96), times=(0,)).write(tmp_path / "film.mp4")
    done = roadseg("evaluate", "--data", film, "--video", cwd=tmp_path)
    assert done.returncode == 0, done.stderr
    assert re.search(r"pixels that flip +│ +absent", done.stdout) and "nan" not in done.stdout


def test_settings_of_films_are_refused_for_pictures(streets, tmp_path) -> None:
    done = roadseg("evaluate", "--data", streets, "--every", "2", cwd=tmp_path)
    assert done.returncode == 1 and "--video" in done.stderr
