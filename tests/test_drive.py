"""The drive report: what is noted, and the page in a real browser."""

import base64
import json
import os
import re
from dataclasses import replace
from fractions import Fraction
from pathlib import Path

import cv2
import numpy as np
import pytest
from conftest import SAMPLE, WEIGHTS

from roadseg.errors import OutputError
from roadseg.infer.config import InferConfig
from roadseg.infer.depth import DepthLog
from roadseg.infer.drive import (
    EMBED_LIMIT_BYTES,
    MOST_POINTS,
    MOST_THUMBNAILS,
    DriveLog,
    SharesCurve,
    ShownFilm,
)
from roadseg.infer.drive_page import drive_page
from roadseg.infer.offline import infer
from roadseg.paint.config import OverlayConfig
from roadseg.spec import CLASS_NAMES, UNSURE, ModelSpec
from roadseg.video.frame import Frame, SegmentedFrame
from roadseg.video.picture import Picture

SPEC = ModelSpec(arch="unet", width=4)
ROAD, PEDESTRIAN, BICYCLIST = map(CLASS_NAMES.index, ("road", "pedestrian", "bicyclist"))
FPS = 10


def log(places: dict[int, tuple[int, int]], frames: int, first: int = 50) -> DriveLog:
    """A drive along a road over the lower half; at some frames a class stands at a column."""
    drive = DriveLog(OverlayConfig(legend="none"))
    for number in range(frames):
        class_map = np.zeros((60, 100), np.uint8)
        class_map[30:] = ROAD
        if number in places:
            class_id, column = places[number]
            class_map[35 : 50 + number % 5, column : column + 4] = class_id
        picture = np.full((60, 100, 3), 100, np.uint8)
        frame = Frame(Picture.from_rgb(picture), first + number, Fraction(1, FPS))
        drive.add(SegmentedFrame(frame, class_map, SPEC))
    return drive


def test_somebody_in_the_middle_of_the_road_is_a_moment() -> None:
    places = dict.fromkeys(range(20, 30), (PEDESTRIAN, 48))
    places |= dict.fromkeys(range(33, 40), (BICYCLIST, 40))  # within a second: the same moment
    places |= dict.fromkeys(range(80, 90), (BICYCLIST, 60))
    first, second = log(places, 100).record()["moments"]
    assert (first["start_s"], first["end_s"]) == (2.0, 3.9)
    assert first["names"] == ["bicyclist", "pedestrian"]
    assert first["peak_s"] == 2.4  # the first of the tallest, 35 to 53
    assert (second["start_s"], second["end_s"], second["names"]) == (8.0, 8.9, ["bicyclist"])


def test_somebody_at_the_edge_or_for_an_instant_is_none() -> None:
    places = dict.fromkeys(range(20, 30), (PEDESTRIAN, 5))  # at the kerb
    places |= dict.fromkeys((60, 61), (PEDESTRIAN, 48))  # a flicker
    assert log(places, 100).record()["moments"] == []


def test_speck_in_the_middle_of_the_road_is_nobody(monkeypatch) -> None:
    places = dict.fromkeys(range(20, 40), (BICYCLIST, 48))  # 76 pixels at most
    assert log(places, 100).record()["moments"]
    monkeypatch.setattr("roadseg.infer.drive.LEAST_SIZE", 80 / 6000)
    assert log(places, 100).record()["moments"] == []


def test_time_in_which_much_is_unsure_is_a_stretch_out_of_depth() -> None:
    depth = DepthLog()
    unsure = np.zeros(600)
    unsure[100:300], unsure[310:400] = 0.3, 0.2  # ten to forty seconds, with a clear second
    unsure[500:503] = 0.5  # a flash
    for number, share in enumerate(unsure):
        depth.add(number / FPS, share, lambda share=share: str(share).encode())
    (stretch,) = depth.stretches()
    assert 10 < stretch.start_s < 12 and 40 <= stretch.end_s < 43
    assert stretch.unsure == pytest.approx(0.3, abs=0.01) and stretch.thumbnail == b"0.3"


def test_report_names_what_the_network_is_unsure_of() -> None:
    drive = DriveLog(OverlayConfig(legend="none"))
    picture = Picture.from_rgb(np.full((60, 100, 3), 100, np.uint8))
    class_map = np.full((60, 100), ROAD, np.uint8)
    class_map[:30] = UNSURE
    for number in range(40):
        drive.add(SegmentedFrame(Frame(picture, number, Fraction(1, FPS)), class_map, SPEC))
    (stretch,) = drive.record()["out_of_depth"]
    assert (stretch["start_s"], stretch["end_s"], stretch["unsure"]) == (0, 3.9, 0.5)


def test_shares_of_every_class_add_up_at_every_time() -> None:
    record = log({}, 30).record()
    assert record["times_s"] == pytest.approx([n / FPS for n in range(30)])
    assert np.sum(record["shares"], axis=0) == pytest.approx(1, abs=1e-4)
    assert record["shares"][ROAD] == [0.5] * 30
    assert record["classes"][ROAD] == ("road", "rgb(128, 64, 128)")


def test_long_drives_keep_few_points_and_few_thumbnails() -> None:
    drive = log({}, 2500)
    record = drive.record()
    assert 300 < len(record["times_s"]) <= MOST_POINTS
    assert record["times_s"][-1] == pytest.approx(249.9, abs=0.5)
    times = [thumbnail["time_s"] for thumbnail in record["thumbnails"]]
    assert MOST_THUMBNAILS / 2 <= len(times) <= MOST_THUMBNAILS
    assert np.ptp(np.diff(times)) == 0 and times[0] == 0 and times[-1] > 200


def test_points_of_a_long_drive_are_means_over_all_its_frames() -> None:
    rng = np.random.default_rng(0)
    frames = rng.random((3 * MOST_POINTS + 7, 2))
    curve = SharesCurve()
    for number, shares in enumerate(frames):
        curve.add(number / FPS, shares)
    times_s, means = curve.points()
    each = len(frames) // len(times_s) + 1  # of 3,007 frames 4 make a point
    assert means[0] == pytest.approx(frames[:each].mean(axis=0))
    assert means[-1] == pytest.approx(frames[(len(means) - 1) * each :].mean(axis=0))
    assert times_s[:2] == pytest.approx([(each - 1) / 2 / FPS, (3 * each - 1) / 2 / FPS])


def test_moments_that_are_noise_keep_no_thumbnail() -> None:
    flickers = dict.fromkeys(range(0, 400, 20), (PEDESTRIAN, 48))
    drive = log(flickers | dict.fromkeys(range(200, 210), (BICYCLIST, 48)), 400)
    assert len(drive.moments) == 2  # the real one, and the last, which might have gone on
    assert [m["names"] for m in drive.record()["moments"]] == [["bicyclist"]]


def test_long_drives_keep_the_moments_with_most_to_see(monkeypatch) -> None:
    monkeypatch.setattr("roadseg.infer.drive.MOST_MOMENTS", 3)
    places = {}
    for second, column in ((2, 48), (5, 46), (8, 44), (11, 42), (14, 40)):
        number = second * FPS
        places |= dict.fromkeys(range(number, number + 6), (PEDESTRIAN, column))
    places |= dict.fromkeys(range(173, 180), (BICYCLIST, 50))
    drive = log(places, 200)
    record = drive.record()
    assert len(record["moments"]) == 3 and record["moments_left_out"] == 3
    assert record["moments"][-1]["names"] == ["bicyclist"]  # tallest at frame 174


def test_thumbnails_show_the_painted_picture() -> None:
    url = log({}, 1).record()["thumbnails"][0]["image"]
    data = np.frombuffer(base64.b64decode(url.partition(",")[2]), np.uint8)
    picture = cv2.imdecode(data, cv2.IMREAD_COLOR_RGB)
    assert picture.shape == (144, 240, 3)
    assert picture[130, 120].tolist() == pytest.approx([114, 82, 114], abs=4)  # half road


def test_no_text_of_the_user_becomes_html() -> None:
    name = '</script><script>alert(1)</script>"&'
    page = drive_page(log({}, 2).record() | {"film": name}, {name: name}, name)
    assert "alert(1)</script>" not in page
    found = re.search(r'<script type="application/json" id="record">(.*?)</script>', page, re.S)
    assert found and json.loads(found[1])["film"] == name


@pytest.fixture(scope="module")
def report(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("report")
    config = InferConfig(
        source=SAMPLE, out=folder / "my film.mp4", weights=WEIGHTS, size_hw=(96, 160), end_s=2.0
    )
    infer(replace(config, report=folder / "drive.html"))
    return folder / "drive.html"


def test_small_film_is_in_the_page(report) -> None:
    assert "data:video/mp4;base64," in report.read_text()


def test_large_film_is_linked(tmp_path, monkeypatch) -> None:
    monkeypatch.setattr("roadseg.infer.drive.EMBED_LIMIT_BYTES", 1000)
    (tmp_path / "films").mkdir()
    config = InferConfig(
        source=SAMPLE,
        out=tmp_path / "films" / "my film.mp4",
        weights=WEIGHTS,
        size_hw=(96, 160),
        end_s=0.4,
        report=tmp_path / "drive.html",
    )
    infer(config)
    assert '"film": "films/my%20film.mp4"' in (tmp_path / "drive.html").read_text()


def test_link_to_a_film_of_a_name_that_is_no_utf8_has_its_bytes(tmp_path) -> None:
    film = tmp_path / os.fsdecode(b"stra\xdfe.mp4")
    film.touch()
    os.truncate(film, EMBED_LIMIT_BYTES + 1)
    shown = ShownFilm(file=film, path=film, page=tmp_path / "pages" / "drive.html")
    assert shown.url() == "../stra%DFe.mp4"


@pytest.mark.parametrize(
    ("name", "said"),
    [("drive.pdf", r"must end in \.html"), ("taken.html", r"taken\.html exists.*--overwrite")],
)
def test_page_that_cannot_be_written_is_refused_at_once(tmp_path, name, said) -> None:
    (tmp_path / "taken.html").write_text("precious")
    config = InferConfig(
        source=SAMPLE, out=tmp_path / "o.mp4", weights=WEIGHTS, report=tmp_path / name
    )
    with pytest.raises(OutputError, match=said):
        infer(config)
    assert [p.name for p in tmp_path.iterdir()] == ["taken.html"]


@pytest.mark.parametrize("scheme", ["light", "dark"])
@pytest.mark.parametrize("width", [390, 500, 1300])
def test_page_fits_the_screen_and_follows_its_scheme(tab, report, scheme, width) -> None:
    tab.open(report.as_uri(), (width, 900), scheme)
    tab.wait_for("document.querySelector('#shares .legend')")
    assert tab.run("document.documentElement.scrollWidth") <= width
    ground = tab.run("getComputedStyle(document.body).backgroundColor")
    assert (int(re.findall(r"\d+", ground)[0]) < 64) == (scheme == "dark")
    ink = tab.run("getComputedStyle(document.querySelector('#shares .legendtext')).fill")
    assert (int(re.findall(r"\d+", ink)[0]) > 128) == (scheme == "dark")
    fetched = tab.run("performance.getEntriesByType('resource').map((entry) => entry.name)")
    assert not [url for url in fetched if not url.startswith("data:")]
    assert tab.errors == []


def test_thumbnail_jumps_to_its_time(tab, report) -> None:
    film = "document.querySelector('video')"
    tab.open(report.as_uri())
    tab.wait_for("document.querySelector('#thumbnails button')")
    if not tab.run(f"{film}.canPlayType('video/mp4; codecs=\"avc1.42E01E\"')"):
        pytest.skip("this chromium does not play H.264")
    tab.wait_for(f"{film}.readyState >= 1")
    tab.run("document.querySelectorAll('#thumbnails button')[1].click()")
    tab.wait_for(f"!{film}.seeking")
    assert tab.run(f"{film}.currentTime") == pytest.approx(1.0, abs=0.05)
    tab.wait_for("document.getElementById('shares').layout.shapes.at(-1).x0 > 0.9")
    facts = tab.run("document.querySelector('.facts').textContent")
    assert "221" not in facts and "50, labelled at" in facts
