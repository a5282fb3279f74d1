"""All pages have one look: each fits a phone and a desk, and follows its reader's scheme."""

import re
from collections.abc import Callable
from fractions import Fraction

import numpy as np
import plotly.graph_objects as go
import pytest
from conftest import script
from plotly.offline import get_plotlyjs

from roadseg.data.page import data_page
from roadseg.measure.accuracy_page import evaluation_page, film_page
from roadseg.measure.metrics import Scores
from roadseg.measure.steadiness import FilmMoment, FilmScores, TemporalScores
from roadseg.pages.layout import Plot, page_html, plots_html
from roadseg.spec import SegClass
from roadseg.train.curves_page import curves_page
from roadseg.video.encoded import JpegQuality, encoded

experiments, speed, steady = script("experiments"), script("speed"), script("steady")
CLASSES = [SegClass(name=n, color=c) for n, c in {"a": (9, 9, 9), "b": (99, 0, 0)}.items()]
NAMES = tuple(c.name for c in CLASSES)
PICTURES = {"a picture": encoded(np.zeros((90, 900, 3), np.uint8), JpegQuality.PANEL)}
COUNTS = np.array([[900, 100], [50, 950]])
SCORES = Scores(class_names=NAMES, confusion=COUNTS, boundary_f1=np.array([0.5, 0.7]))
FILM = FilmScores(
    temporal=TemporalScores(class_names=NAMES, moved=COUNTS),
    scores=SCORES,
    moments=tuple(
        FilmMoment(
            time_s=float(Fraction(number, 15)),
            by_network=number % 2 == 0,
            consistency=0.9,
            flip_rate=0.02,
            miou=0.7,
        )
        for number in range(6)
    ),
)
PAGES: dict[str, Callable[[], str]] = {
    "accuracy": lambda: evaluation_page({"a model": SCORES}, "accuracy", PICTURES, CLASSES),
    "bench": lambda: speed.bench_page(next(iter(speed.records().values()))),
    "curves": lambda: curves_page(experiments.records()[0]["log"], "curves", PICTURES, []),
    "data": lambda: data_page("data", {"val": {"a": 0.4, "b": 0.6}}, ["one"], PICTURES, CLASSES),
    "experiments": lambda: experiments.experiments_page(experiments.records()),
    "film": lambda: film_page({"a model": FILM}, "film"),
    "steadiness": lambda: steady.steadiness_page(steady._read("accuracy"), steady._read("speed")),
}
UNDRAWN = "[...document.querySelectorAll('.plot')].filter((p) => !p.querySelector('.main-svg'))"
INK = "+getComputedStyle(document.querySelector('.xtick text')).fill.match(/[0-9]+/)[0]"


@pytest.mark.parametrize("name", PAGES)
def test_page_fits_the_screen_and_follows_its_scheme(tab, tmp_path, name) -> None:
    place = tmp_path / "page.html"
    place.write_text(PAGES[name]())
    tab.open(place.as_uri(), (390, 900), "dark")
    tab.wait_for(f"{UNDRAWN}.length === 0")
    assert tab.run("document.documentElement.scrollWidth") <= 390
    ground = tab.run("getComputedStyle(document.body).backgroundColor")
    assert int(re.findall(r"\d+", ground)[0]) < 64
    assert tab.run(INK) > 128
    light = {"name": "prefers-color-scheme", "value": "light"}
    tab.command("Emulation.setEmulatedMedia", features=[light])
    tab.wait_for(f"{INK} < 128")
    fetched = tab.run("performance.getEntriesByType('resource').map((entry) => entry.name)")
    assert not [url for url in fetched if not url.startswith("data:")]
    assert tab.errors == []


@pytest.mark.parametrize("name", PAGES)
def test_page_has_the_one_layout_and_brings_all_that_it_needs(name) -> None:
    page = PAGES[name]()
    assert page.count("<style>") == 1 and "prefers-color-scheme: dark" in page
    assert "<script src" not in page and "<link" not in page


@pytest.mark.parametrize("name", PAGES)
def test_plotting_library_travels_packed(name) -> None:
    assert len(PAGES[name]()) < 0.45 * len(get_plotlyjs())


def test_page_without_a_plot_has_no_plotting_library() -> None:
    page = data_page("data", {}, ["one"], PICTURES, CLASSES)
    assert "<script" not in page and "plots" not in page.split("<body>")[1]
    assert len(page) < 20_000


@pytest.mark.parametrize("lack", ["scripts", "decompression"])
def test_browser_that_cannot_draw_the_plots_says_so(tab, tmp_path, lack) -> None:
    place = tmp_path / "page.html"
    place.write_text(PAGES["data"]())
    place_of_it = "document.getElementById('undrawn')?.getBoundingClientRect()"
    said = f"{place_of_it}?.height > 0 && {place_of_it}.bottom <= innerHeight"  # seen at once
    tab.open(place.as_uri())
    tab.wait_for(f"{UNDRAWN}.length === 0")
    assert not tab.run(said)
    if lack == "scripts":
        tab.command("Emulation.setScriptExecutionDisabled", value=True)
        tab.open(place.as_uri())
        tab.command("Emulation.setScriptExecutionDisabled", value=False)
    else:
        gone = "delete window.DecompressionStream"
        added = tab.command("Page.addScriptToEvaluateOnNewDocument", source=gone)
        tab.open(place.as_uri())
        tab.command("Page.removeScriptToEvaluateOnNewDocument", **added)
    assert tab.run(said)
    assert tab.run("document.querySelector('.pictures img').naturalWidth") == 900
    tab.errors.clear()


def test_no_name_however_long_makes_a_page_wider_than_a_phone(tab, tmp_path) -> None:
    path = "/mnt/archive/" + 9 * "front_camera_0123456789_"
    shares = {path: {"a": 0.4, "b": 0.6}}
    pictures = dict.fromkeys([path], *PICTURES.values())
    record = next(iter(speed.records().values()))
    typed = {"settings": {**record["settings"], "weights": [f"{path}/unet-lite.onnx"]}}
    pages = (
        data_page(path, shares, [path], pictures, CLASSES),
        evaluation_page({path: SCORES, "b": SCORES}, path, pictures, CLASSES),
        speed.bench_page({**record, **typed, "film": {**record["film"], "name": path}}),
    )
    for number, page in enumerate(pages):
        place = tmp_path / f"{number}.html"
        place.write_text(page)
        tab.open(place.as_uri(), (390, 900))
        tab.wait_for(f"{UNDRAWN}.length === 0")
        assert tab.run("document.documentElement.scrollWidth") <= 390
    assert tab.errors == []


@pytest.mark.parametrize("width", [390, 1300])
def test_number_behind_the_longest_bar_is_seen(tab, tmp_path, width) -> None:
    place = tmp_path / "page.html"
    place.write_text(PAGES["data"]())
    tab.open(place.as_uri(), (width, 900))
    tab.wait_for(f"{UNDRAWN}.length === 0")
    right = (
        "Math.max(...[...document.querySelectorAll({})].map(e => e.getBoundingClientRect().right))"
    )
    assert tab.run(right.format("'.bartext'")) <= tab.run(right.format("'.main-svg'"))


def test_no_text_of_a_plot_becomes_html() -> None:
    name = '</script><script>alert(1)</script>"&'
    figure = go.Figure().add_bar(x=[1], y=["a"], name=name)
    page = page_html(name, plots_html([Plot(title=name, figure=figure, hint=name)]))
    assert "alert(1)</script>" not in page


def test_plot_without_data_is_left_out() -> None:
    assert "nothing" not in plots_html([Plot(title="nothing", figure=go.Figure())])


@pytest.mark.parametrize("name", ["accuracy", "data"])
def test_what_is_unlabelled_is_explained_beside_the_classes(name) -> None:
    legend = re.search(r'<p class="legend">(.*?)</p>', PAGES[name]())
    assert legend and re.findall(r"</i>(\w+)</span>", legend[1]) == ["a", "b", "unlabelled"]
