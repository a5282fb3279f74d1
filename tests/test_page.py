"""The live page in a real browser, served by a real run of the program's parts."""

import time
from collections.abc import Callable, Iterator
from fractions import Fraction
from pathlib import Path

import cv2
import numpy as np
import pytest
from browser import CHROMIUM, Page
from conftest import patience
from films import pictures

from roadseg.infer.live import Reading
from roadseg.infer.server import Address, PageServer
from roadseg.paint.config import OverlayConfig
from roadseg.spec import PALETTES, UNSURE, ModelSpec, css_color
from roadseg.video.frame import Arrival, Frame, SegmentedFrame
from roadseg.video.picture import Picture

pytestmark = pytest.mark.skipif(CHROMIUM is None, reason="chromium is not installed")

SPEC = ModelSpec(arch="unet", width=4)
SKY, ROAD = SPEC.palette[0], SPEC.palette[3]
GREY = 200


def show(server: PageServer, level: int = GREY, *, unsure_rows: int = 0, car_px: int = 0) -> None:
    """Sky above, road below, over plain grey; the top may be too unsure, and a car in the sky."""
    class_map = np.zeros((90, 160), np.uint8)
    class_map[45:] = 3
    class_map[20 : 20 + car_px, 40 : 40 + car_px] = 8
    class_map[:unsure_rows] = UNSURE
    picture = np.full((90, 160, 3), level, np.uint8)
    frame = Frame(Picture.from_rgb(picture), 0, Fraction(1), arrival=Arrival(0, time.monotonic()))
    server.show(SegmentedFrame(frame, class_map, SPEC), Reading(fps=21.5, age_s=0.05, dropped=7))


@pytest.fixture
def page(tab: Page) -> Iterator[tuple[Page, PageServer]]:
    tab.errors.clear()
    with PageServer(Address(port=0), "<b>drive</b>.mp4") as server:
        show(server)
        tab.open(server.url)
        tab.wait_for("frame")
        yield tab, server
        assert tab.errors == []
        tab.open("about:blank")


def pixel(tab: Page, x: int, y: int) -> list[int]:
    return tab.run(f"[...view.getImageData({x}, {y}, 1, 1).data].slice(0, 3)")


def blended(color: tuple[int, int, int], opacity: float, level: int = GREY) -> list[float]:
    return [level * (1 - opacity) + c * opacity for c in color]


def saved(tab: Page, folder: Path, act: Callable[[], None], name: str) -> Path:
    """Act, and return the file that the page saves then."""
    tab.command("Browser.setDownloadBehavior", behavior="allow", downloadPath=str(folder))
    act()
    deadline = time.monotonic() + patience(20)
    while not (found := list(folder.glob(name))):
        assert time.monotonic() < deadline
        tab.run("new Promise(requestAnimationFrame)")
    return found[0]


def test_picture_is_painted_in_the_classes_colours(page) -> None:
    tab, _ = page
    assert pixel(tab, 80, 20) == pytest.approx(blended(SKY, 0.5), abs=3)  # what JPEG loses
    assert pixel(tab, 80, 70) == pytest.approx(blended(ROAD, 0.5), abs=3)
    assert pixel(tab, 80, 45) == pytest.approx([235] * 3, abs=3)  # the line between them
    assert tab.run("document.getElementById('fps').textContent") == "21.5"
    assert tab.run("document.getElementById('dropped').textContent") == "7"
    assert tab.run("document.getElementById('age').textContent").endswith(" ms")


def test_name_of_the_source_is_text_and_nothing_else(page) -> None:
    tab, _ = page
    assert tab.run("document.getElementById('label').textContent") == "<b>drive</b>.mp4"
    assert tab.run("document.querySelector('b')") is None


def test_share_that_is_left_unpainted_is_said(page) -> None:
    tab, server = page
    said = "document.getElementById('unsure').textContent"
    assert tab.run(said) == "too unsure to be painted: 0.0 %"
    show(server, unsure_rows=9)
    tab.wait_for(f"{said} === 'too unsure to be painted: 10.0 %'")


def test_class_that_is_switched_off_shows_the_picture(page) -> None:
    tab, _ = page
    names = tab.run("[...document.querySelectorAll('#classes label')].map((l) => l.textContent)")
    assert [name.split("5")[0].split("0")[0] for name in names] == list(SPEC.class_names)
    tab.run("document.querySelectorAll('#classes input')[3].click()")
    assert pixel(tab, 80, 70) == pytest.approx([GREY] * 3, abs=3)
    assert pixel(tab, 80, 20) == pytest.approx(blended(SKY, 0.5), abs=3)
    tab.run("document.getElementById('none').click()")
    assert pixel(tab, 80, 20) == pytest.approx([GREY] * 3, abs=3)
    tab.run("document.getElementById('all').click()")
    assert pixel(tab, 80, 70) == pytest.approx(blended(ROAD, 0.5), abs=3)


def test_opacity_and_outline_follow_the_viewer(page) -> None:
    tab, _ = page
    tab.run(
        "document.getElementById('opacity').value = 100;"
        "document.getElementById('opacity').dispatchEvent(new Event('input'))"
    )
    assert pixel(tab, 80, 70) == pytest.approx(ROAD, abs=1)
    tab.run("document.getElementById('outline').click()")
    assert pixel(tab, 80, 44) == pytest.approx(SKY, abs=1)


@pytest.mark.parametrize(("car_px", "is_outlined"), [(1, False), (6, True)])
def test_specks_have_no_outline(page, car_px, is_outlined) -> None:
    tab, server = page
    show(server, car_px=car_px)
    tab.wait_for("frame.facts.shares[8] > 0")
    around = [pixel(tab, x, y) for x, y in ((40, 20), (40 + car_px, 20), (40, 20 + car_px))]
    assert [color == [235] * 3 for color in around] == [is_outlined] * 3
    assert pixel(tab, 80, 45) == [235] * 3  # the horizon


def test_new_frames_and_notices_arrive_by_themselves(page) -> None:
    tab, server = page
    show(server, level=20)
    tab.wait_for("view.getImageData(80, 20, 1, 1).data[0] < 100")
    server.notify("the camera is lost")
    tab.wait_for("document.getElementById('notice').textContent === 'the camera is lost'")
    show(server)
    tab.wait_for("document.getElementById('notice').textContent === ''")


def test_page_says_when_nothing_new_comes(page, monkeypatch) -> None:
    tab, server = page
    monkeypatch.setattr("roadseg.infer.server.NEWS_TIMEOUT_S", 0.1)
    show(server)  # so that the next wait is a short one
    tab.wait_for("document.getElementById('notice').textContent === 'No new frame for a while.'")
    server.notify("the camera is lost")
    tab.wait_for("document.getElementById('notice').textContent === 'the camera is lost'")


def test_timeline_runs_along(page) -> None:
    tab, server = page
    for wanted in (2, 3):
        while tab.run("samples.length") < wanted:  # it takes a sample at times
            show(server)
    colors = tab.run(
        "(() => { const c = document.getElementById('timeline');"
        "const get = (y) => [...c.getContext('2d').getImageData(c.width - 2, y, 1, 1).data];"
        "return [get(Math.round(c.height / 4)), get(Math.round(c.height * 3 / 4))]; })()"
    )
    assert colors == [[*SKY, 255], [*ROAD, 255]]


def test_snapshot_is_the_painted_picture(page, tmp_path) -> None:
    tab, _ = page
    click = "document.getElementById('snapshot').click()"
    path = saved(tab, tmp_path, lambda: tab.run(click), "roadseg-*.png")
    picture = cv2.imdecode(np.frombuffer(path.read_bytes(), np.uint8), cv2.IMREAD_COLOR_RGB)
    assert picture.shape == (90, 160, 3)
    assert picture[70, 80].tolist() == pytest.approx(blended(ROAD, 0.5), abs=3)


@pytest.mark.parametrize("scheme", ["light", "dark"])
@pytest.mark.parametrize("width", [390, 500, 1300])
def test_page_fits_the_screen_and_follows_its_scheme(page, scheme, width) -> None:
    tab, server = page
    tab.open(server.url, (width, 900), scheme)
    tab.wait_for("frame")
    assert tab.run("document.documentElement.scrollWidth") <= width
    shares = "[...document.querySelectorAll('#classes span')]"
    tab.run(f"{shares}.forEach((share) => share.textContent = '88.8 %')")
    lines = tab.run("[...document.querySelectorAll('#classes label')].map((l) => l.offsetHeight)")
    assert len(set(lines)) == 1  # the longest name and its share fit into one
    inside = "s.getBoundingClientRect().right <= s.closest('form').getBoundingClientRect().right"
    assert tab.run(f"{shares}.every((s) => {inside})")
    ground = tab.run("getComputedStyle(document.body).backgroundColor")
    darkest = max(map(int, ground.removeprefix("rgb(").removesuffix(")").split(",")))
    assert (darkest < 64) == (scheme == "dark")
    above = "document.querySelector('main > section').getBoundingClientRect().top"
    under = "document.querySelector('header').getBoundingClientRect().bottom"
    assert tab.run(f"{above} - {under}") <= 16  # the picture is what the page is for


def press(tab: Page, key: str) -> None:
    for kind in ("keyDown", "keyUp"):
        tab.command("Input.dispatchKeyEvent", type=kind, key=key)


def test_keys_switch_classes_and_save_a_snapshot(page, tmp_path) -> None:
    tab, _ = page
    press(tab, "4")
    assert pixel(tab, 80, 70) == pytest.approx([GREY] * 3, abs=3)
    press(tab, "4")
    assert pixel(tab, 80, 70) == pytest.approx(blended(ROAD, 0.5), abs=3)
    assert saved(tab, tmp_path, lambda: press(tab, "s"), "roadseg-*.png")


def test_space_holds_the_picture_until_it_is_pressed_again(page, monkeypatch) -> None:
    tab, server = page
    monkeypatch.setattr("roadseg.infer.server.ABSENCE_S", 0.2)
    press(tab, " ")
    tab.wait_for("document.getElementById('state').textContent === 'paused'")
    show(server, level=20)
    while server.is_watched:  # until the request that was under way is answered, and no other came
        tab.run("new Promise(requestAnimationFrame)")
    assert pixel(tab, 80, 70) == pytest.approx(blended(ROAD, 0.5), abs=3)
    press(tab, " ")
    show(server, level=20)
    tab.wait_for("view.getImageData(80, 20, 1, 1).data[0] < 100")
    assert tab.run("document.getElementById('pause').getAttribute('aria-pressed')") == "false"


def test_palette_is_each_viewers_choice(page) -> None:
    tab, _ = page
    names = tab.run("[...document.getElementById('palette').options].map((o) => o.text)")
    assert names == ["as started", *PALETTES]
    tab.run(
        "document.getElementById('palette').value = 'colorblind';"
        "document.getElementById('palette').dispatchEvent(new Event('change'))"
    )
    road = PALETTES["colorblind"]["road"]
    assert pixel(tab, 80, 70) == pytest.approx(blended(road, 0.5), abs=3)
    swatch = "getComputedStyle(document.querySelectorAll('#classes i')[3]).backgroundColor"
    assert tab.run(swatch) == css_color(road)


def test_recording_is_a_film_of_what_is_seen(page, tmp_path) -> None:
    tab, server = page
    press(tab, "r")
    tab.wait_for("document.getElementById('record').getAttribute('aria-pressed') === 'true'")
    tab.wait_for("recorder.state === 'recording'")
    for level in (20, 120, 220, 20):
        show(server, level)
        tab.wait_for(f"Math.abs(view.getImageData(80, 20, 1, 1).data[0] - {level / 2 + 64}) < 8")
    path = saved(tab, tmp_path, lambda: press(tab, "r"), "roadseg-*.webm")
    shown = [picture.shape for picture in pictures(path)]
    assert shown and set(shown) == {(90, 160, 3)}


def test_full_screen_shows_the_whole_picture(page) -> None:
    tab, _ = page
    click = "document.getElementById('full').click()"
    tab.command("Runtime.evaluate", expression=click, userGesture=True)
    tab.wait_for("document.fullscreenElement?.id === 'stage'")
    tab.wait_for("document.getElementById('view').clientHeight === innerHeight")
    press(tab, "f")
    tab.wait_for("document.fullscreenElement === null")


def test_stale_picture_looks_stale_and_a_new_one_does_not(page) -> None:
    tab, server = page
    tab.wait_for("document.getElementById('stage').classList.contains('stale')")
    assert tab.run("document.getElementById('state').textContent").endswith(" s old")
    assert "grayscale" in tab.run("getComputedStyle(document.getElementById('view')).filter")
    show(server)
    tab.wait_for("!document.getElementById('stage').classList.contains('stale')")
    assert tab.run("document.getElementById('state').textContent") == ""


@pytest.mark.parametrize("size_wh", [(844, 390), (1920, 800)])
def test_picture_fills_wide_screens_and_phones_held_across(page, size_wh) -> None:
    tab, server = page
    tab.open(server.url, size_wh)
    tab.wait_for("frame")
    root = "document.documentElement"
    assert tab.run(f"[{root}.scrollWidth, {root}.scrollHeight]") == list(size_wh)
    width, height = tab.run("[view.canvas.clientWidth, view.canvas.clientHeight]")
    assert width > 0.65 * size_wh[0] and height > 0.65 * size_wh[1]
    assert (
        tab.run("document.getElementById('snapshot').getBoundingClientRect().bottom") < size_wh[1]
    )


def test_page_begins_as_the_command_line_says(tab) -> None:
    overlay = OverlayConfig(alpha=0.8, outline=False, only=("road", "car"))
    with PageServer(Address(port=0), "drive.mp4", overlay) as server:
        show(server)
        tab.open(server.url)
        tab.wait_for("frame")
        assert pixel(tab, 80, 70) == pytest.approx(blended(ROAD, 0.8), abs=3)
        assert pixel(tab, 80, 20) == pytest.approx([GREY] * 3, abs=3)
        assert tab.run("document.getElementById('opacity-value').textContent") == "80 %"
        boxes = "[...document.querySelectorAll('#classes input')]"
        checked = tab.run(f"{boxes}.map((box) => box.checked)")
        assert [id_ for id_, is_checked in enumerate(checked) if is_checked] == [3, 8]
        tab.open("about:blank")


def test_page_says_when_the_program_has_ended(tab) -> None:
    with PageServer(Address(port=0), "drive.mp4") as server:
        show(server)
        tab.open(server.url)
        tab.wait_for("frame")
    tab.wait_for("document.getElementById('notice').textContent.startsWith('roadseg does not')")
    tab.open("about:blank")
