"""Where a drive went: telemetry of cameras, GPX, the way in the report, GeoJSON."""

import json
import os
import shutil
import sys
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
from telemetry import (
    camm5,
    camm6,
    gpmf,
    gpmf9,
    gpx,
    nmea,
    novatek,
    write_film,
    write_text_film,
)

from roadseg.errors import ConfigError
from roadseg.infer.config import InferConfig
from roadseg.infer.drive_geojson import write_geojson
from roadseg.infer.drive_page import drive_page
from roadseg.infer.offline import infer
from roadseg.paint.config import Redaction
from roadseg.video.gps import camm, exiftool
from roadseg.video.gps import gpmf as gpmf_form
from roadseg.video.gps import nmea as nmea_form
from roadseg.video.gps.telemetry import film_track
from roadseg.video.gps.track import LONGEST_GAP_S, Position, Track
from roadseg.video.read.source import probe

WAY = [[(-33.9 + s / 1000 + n * 1e-4, 18.4 - s / 500) for n in range(4)] for s in range(3)]
"""Four positions in each of three seconds, south and east."""
NEVER_SET = "0001-01-01T00:00:00+01:00"
"""Time of a clock that was never set: there is none such in UTC."""
SECONDS = [second + n / 4 for second in range(3) for n in range(4)]


def positions(track: Track | None) -> np.ndarray:
    assert track is not None
    return np.stack([track.times_s, track.latitudes, track.longitudes], axis=1)


def as_written() -> np.ndarray:
    places = [place for second in WAY for place in second]
    return np.array([(t, *place) for t, place in zip(SECONDS, places, strict=True)])


@pytest.mark.parametrize(
    ("form", "tag", "source"),
    [
        (gpmf, "gpmd", "GoPro telemetry"),
        (gpmf9, "gpmd", "GoPro telemetry"),
        (camm5, "camm", "CAMM telemetry"),
        (camm6, "camm", "CAMM telemetry"),
        (nmea, "text", "NMEA sentences"),
    ],
)
def test_positions_of_a_films_telemetry_are_spread_over_its_packets(
    tmp_path, form, tag, source
) -> None:
    film = write_film(tmp_path / "film.mp4", [form(places) for places in WAY], tag=tag)
    track = film_track(probe(film))
    assert track is not None and track.source == source
    assert positions(track) == pytest.approx(as_written(), abs=1e-6)


def test_positions_of_subtitles_are_found_too(tmp_path) -> None:
    film = write_text_film(tmp_path / "film.mkv", [nmea(places) for places in WAY])
    found = positions(film_track(probe(film)))
    assert found == pytest.approx(as_written(), abs=1e-6)


def test_dashcams_sentence_in_a_subtitle_of_mp4_is_found() -> None:
    film = Path(__file__).parent / "cases" / "gps_text.mp4"
    (found,) = positions(film_track(probe(film)))
    assert found == pytest.approx((0, 53 + 21.6802 / 60, -6 - 30.3371 / 60))


@pytest.mark.parametrize(
    "packet",
    [
        gpmf(WAY[0], fix=0),
        gpmf9(WAY[0], fix=0),
        camm6(WAY[0], fix=0),
        nmea(WAY[0], state="V"),
        gpmf([(0.0, 0.0)]),
    ],
    ids=["GPS5", "GPS9", "CAMM", "NMEA", "zero"],
)
def test_receiver_without_a_fix_has_no_position(tmp_path, packet) -> None:
    assert film_track(probe(write_film(tmp_path / "film.mp4", [packet]))) is None


@pytest.mark.parametrize("form", [gpmf, gpmf9, camm5, camm6, nmea])
def test_telemetry_cut_off_or_damaged_anywhere_breaks_nothing(form) -> None:
    whole = form(WAY[0])
    rng = np.random.default_rng(0)
    for length in range(len(whole)):
        noisy = bytearray(whole)
        noisy[int(rng.integers(len(whole)))] ^= int(rng.integers(1, 256))
        for data in (whole[:length], bytes(noisy)):
            for reads in (gpmf_form, camm, nmea_form):
                assert all(len(place) == 2 for place in reads.places(data))


def test_sentences_with_a_wrong_checksum_do_not_count() -> None:
    text = nmea(WAY[0][:1])
    assert len(nmea_form.places(text)) == 1
    assert nmea_form.places(text.replace(b"3354", b"3364")) == []


def test_film_without_telemetry_has_no_track(tmp_path) -> None:
    assert film_track(probe(write_film(tmp_path / "film.mp4", []))) is None


@pytest.fixture
def exiftool_here(tmp_path, monkeypatch) -> Path:
    """A program of ExifTool's name that prints what the real one says of a film by `novatek`."""
    record = {"SourceFile": "film.mp4"}
    for second, (north, east) in enumerate(place for places in WAY for place in places[:1]):
        record[f"Doc{second + 1}:GPSLatitude"], record[f"Doc{second + 1}:GPSLongitude"] = (
            north,
            east,
        )
        record[f"Doc{second + 1}:GPSDateTime"] = f"2026:05:01 08:00:{second + 7:02d}Z"
    path = tmp_path / "bin" / "exiftool"
    path.parent.mkdir()
    path.write_text(f"#!{sys.executable}\nprint({json.dumps([record])!r})\n")
    path.chmod(0o755)
    monkeypatch.setenv("PATH", f"{path.parent}{os.pathsep}{os.environ['PATH']}")
    return path


@pytest.mark.usefixtures("exiftool_here")
def test_positions_that_only_exiftool_knows_are_placed_by_the_receivers_clock(tmp_path) -> None:
    track = film_track(probe(write_film(tmp_path / "film.mp4", [])))
    expected = np.array([(second, *places[0]) for second, places in enumerate(WAY)])
    assert positions(track) == pytest.approx(expected) and track.source == "ExifTool"


@pytest.mark.parametrize("nothing", ["", None, [], "north"])
@pytest.mark.parametrize("tag", ["GPSLatitude", "GPSLongitude", "SampleTime"])
def test_sample_of_exiftool_that_tells_no_place_costs_no_other(tag, nothing) -> None:
    sample = {"GPSLatitude": 1.5, "GPSLongitude": 2, "SampleTime": 3}
    record = {f"Doc{n}:{name}": value for n in (1, 2) for name, value in sample.items()}
    record[f"Doc1:{tag}"] = nothing
    assert exiftool.positions_of(record) == [Position(3, 1.5, 2)]


@pytest.mark.parametrize("says", ["exit(1)", "print('[]')", "print('no JSON')", "print('[{}]')"])
def test_exiftool_that_fails_is_as_if_it_were_not_there(tmp_path, exiftool_here, says) -> None:
    exiftool_here.write_text(f"#!{sys.executable}\n{says}\n")
    assert film_track(probe(write_film(tmp_path / "film.mp4", []))) is None


@pytest.mark.skipif(shutil.which("exiftool") is None, reason="exiftool is not installed")
def test_exiftool_knows_the_positions_of_novateks_chips(tmp_path) -> None:
    film = novatek(tmp_path / "film.mp4", [places[0] for places in WAY])
    expected = np.array([(second, *places[0]) for second, places in enumerate(WAY)])
    assert positions(film_track(probe(film))) == pytest.approx(expected, abs=1e-5)


@pytest.mark.skipif(shutil.which("exiftool") is None, reason="exiftool is not installed")
@pytest.mark.parametrize(("form", "tag"), [(gpmf, "gpmd"), (gpmf9, "gpmd"), (camm6, "camm")])
def test_exiftool_reads_the_films_of_these_tests_alike(tmp_path, form, tag) -> None:
    film = write_film(tmp_path / "film.mp4", [form(places[:1]) for places in WAY], tag=tag)
    found = exiftool.exiftool_positions(film)
    assert np.array(found) == pytest.approx(positions(film_track(probe(film))))


def track(*rows: tuple[float, float, float]) -> Track:
    made = Track.of((Position(*row) for row in rows), "a test")
    assert made is not None
    return made


def test_position_between_two_is_on_the_line_between_them_unless_they_are_far_apart() -> None:
    way = track((0, 50, 10), (2, 52, 14), (2 + LONGEST_GAP_S + 1, 60, 20))
    assert way.at(1) == pytest.approx((51, 12)) and way.at(2) == pytest.approx((52, 14))
    assert way.at(5) is None and way.at(-0.1) is None and way.at(99) is None
    assert [len(part) for part in way.parts()] == [2, 1]


def test_way_across_the_date_line_does_not_go_around_the_earth() -> None:
    latitude, longitude = track((0, 0.5, 179.9), (2, 0.5, -179.9)).at(1.5) or (0, 0)
    assert (latitude, longitude) == pytest.approx((0.5, -179.95))
    part = track((0, 0.5, 179.9), (2, 0.5, -179.9), (4, 0.5, -179.7)).between(0, 4)
    assert positions(part)[:, 2] == pytest.approx([179.9, 180.1, 180.3])


def test_part_of_a_track_holds_nothing_outside_it() -> None:
    part = track(*((n, 50 + n / 10, 10) for n in range(10))).between(2.5, 4.5)
    expected = [(0, 50.25, 10), (0.5, 50.3, 10), (1.5, 50.4, 10), (2, 50.45, 10)]
    assert positions(part) == pytest.approx(np.array(expected))
    assert track((0, 50, 10), (1, 50, 10)).between(5, 6) is None


def test_thinned_track_keeps_its_ends() -> None:
    thin = track(*((n, 50 + n / 1000, 10) for n in range(1000))).thinned(300)
    assert len(thin.times_s) <= 301 and (thin.times_s[0], thin.times_s[-1]) == (0, 999)


@pytest.fixture
def drive(plain) -> InferConfig:
    """A film with telemetry, of which nothing but its GeoJSON is written."""
    write_film(plain.source, [gpmf(places) for places in WAY], begun="2026-05-01T08:00:00Z")
    return replace(plain, out=None, geojson=plain.source.with_suffix(".geojson"))


def names_beside(path: Path) -> list[str]:
    return sorted(beside.name for beside in path.parent.iterdir())


def features(config: InferConfig) -> list[dict]:
    infer(config)
    collection = json.loads(config.geojson.read_text())
    assert collection["type"] == "FeatureCollection"
    return collection["features"]


def test_geojson_has_the_way_with_its_times(drive) -> None:
    (way,) = features(drive)
    assert way["type"] == "Feature" and way["geometry"]["type"] == "LineString"
    expected = as_written()[:, :0:-1]
    assert np.array(way["geometry"]["coordinates"]) == pytest.approx(expected)
    assert way["properties"]["kind"] == "way"
    assert way["properties"]["times_s"] == SECONDS
    assert names_beside(drive.source) == ["film.geojson", "film.mp4", "model"]


def test_geojson_of_a_cut_has_no_position_outside_it(drive) -> None:
    (way,) = features(replace(drive, start_s=1.0, end_s=2.0))
    times_s = way["properties"]["times_s"]
    assert (times_s[0], times_s[-1]) == (0, 0.9)
    latitudes = [latitude for _, latitude in way["geometry"]["coordinates"]]
    assert min(latitudes) >= WAY[1][0][0] - 1e-6 and max(latitudes) < WAY[2][0][0]


def stretch_on(track: Track | None, path: Path) -> dict:
    """The feature of a stretch of forty seconds, from the first on."""
    stretch = {"start_s": 1.0, "end_s": 41.0, "unsure": 0.3}
    write_geojson(path, {"moments": [], "out_of_depth": [stretch]}, track)
    *_, feature = json.loads(path.read_text())["features"]
    assert feature["properties"] == {"kind": "out of its depth", **stretch}
    return feature


@pytest.mark.parametrize(
    ("places", "geometry"),
    [
        ([], None),
        ([(50, 7, 10)], None),
        ([(2, 7, 10)], {"type": "Point", "coordinates": [10, 7]}),
        (
            [(0, 6, 10), (2, 8, 10), (22, 9, 10), (44, 20, 10)],
            {"type": "LineString", "coordinates": [[10, 7], [10, 8], [10, 9], [10, 18.5]]},
        ),
        (
            [(1, 7, 10), (2, 7, 11), (33, 7, 12), (41, 7, 13)],
            {"type": "MultiLineString", "coordinates": [[[10, 7], [11, 7]], [[12, 7], [13, 7]]]},
        ),
    ],
)
def test_geojson_has_the_way_along_a_stretch_out_of_depth(tmp_path, places, geometry) -> None:
    way = track(*places) if places else None
    assert stretch_on(way, tmp_path / "drive.geojson")["geometry"] == geometry


def gpx_file(config: InferConfig, minute: int) -> InferConfig:
    """A track of the way, begun at a minute after eight."""
    path = config.source.with_suffix(".gpx")
    places = [(f"2026-05-01T08:{minute:02d}:{s:02d}Z", places[0]) for s, places in enumerate(WAY)]
    path.write_text(gpx(places))
    return replace(config, gpx=path)


def test_gpx_is_matched_by_the_films_time_of_recording(drive) -> None:
    (way,) = features(gpx_file(drive, minute=0))
    assert way["properties"]["times_s"] == [0, 1, 2]
    assert way["geometry"]["coordinates"][1] == pytest.approx(WAY[1][0][::-1])


def test_offset_into_the_gpx_wins_over_the_time_of_recording(drive) -> None:
    (way,) = features(replace(gpx_file(drive, minute=30), gpx_offset_s=0.5))
    assert way["properties"]["times_s"] == [0, 0.5, 1.5]


def test_gpx_of_another_time_is_refused_with_both_times(drive) -> None:
    with pytest.raises(ConfigError, match=r"08:30:00 to .*08:30:02, .*08:00:00 .*--gpx-offset"):
        infer(gpx_file(drive, minute=30))
    assert not drive.geojson.exists()


def test_offset_beyond_the_gpx_is_the_one_to_change(drive) -> None:
    with pytest.raises(ConfigError, match=r"; change --gpx-offset 90, the time in the track"):
        infer(replace(gpx_file(drive, minute=30), gpx_offset_s=90.0))


def test_film_that_does_not_tell_its_time_asks_for_the_offset(drive) -> None:
    write_film(drive.source, [])
    with pytest.raises(ConfigError, match=r"does not tell when it was recorded.*--gpx-offset"):
        infer(gpx_file(drive, minute=0))


@pytest.mark.parametrize(
    ("text", "said"),
    [
        ("no XML", "is no GPX"),
        ('<!DOCTYPE a [<!ENTITY b "b">]><gpx/>', "declares entities"),
        ("<gpx/>", "has no track points with times"),
        ('<gpx><trkpt lat="x" lon="1"><time>2026-05-01T08:00:00Z</time></trkpt></gpx>', "no track"),
        ('<gpx><trkpt lat="1" lon="1"><time>today</time></trkpt></gpx>', "no track"),
        (f'<gpx><trkpt lat="1" lon="1"><time>{NEVER_SET}</time></trkpt></gpx>', "no track"),
    ],
)
def test_bad_gpx_is_refused_in_one_sentence(drive, text, said) -> None:
    path = drive.source.with_suffix(".gpx")
    path.write_text(text)
    with pytest.raises(ConfigError, match=f"--gpx .*{said}[^\n]*give a GPX file"):
        infer(replace(drive, gpx=path))


def test_geojson_of_a_film_without_positions_is_refused_before_anything_is_written(drive) -> None:
    write_film(drive.source, [])
    with pytest.raises(ConfigError, match=r"tells no positions.*--gpx"):
        infer(drive)
    assert names_beside(drive.source) == ["film.mp4", "model"]


@pytest.mark.parametrize(
    ("settings", "said"),
    [
        (
            {"gpx": Path("a.gpx"), "geojson": None, "stats": Path("a.csv")},
            "nothing shows the track",
        ),
        ({"gpx_offset_s": 1.0}, "--gpx-offset is given without --gpx"),
        ({"gpx": Path(__file__), "gpx_offset_s": float("nan")}, "--gpx-offset is nan"),
        ({"gpx": Path(__file__), "gpx_offset_s": 1e12}, "--gpx-offset is 1000000000000.0; give"),
        ({"resume": True}, "--resume is given with --geojson"),
    ],
)
def test_settings_that_contradict_each_other_are_refused(drive, settings, said) -> None:
    with pytest.raises(ConfigError, match=said):
        replace(drive, **settings)


def test_gpx_is_an_input_that_no_output_replaces(drive) -> None:
    config = gpx_file(drive, minute=0)
    taken = config.gpx.rename(config.gpx.with_suffix(".json"))
    with pytest.raises(ConfigError, match="is the input"):
        infer(replace(config, gpx=taken, geojson=taken, overwrite=True))


@pytest.mark.parametrize(("no_map", "sources"), [(False, ["GoPro telemetry"]), (True, [])])
def test_report_shows_the_way_unless_told_otherwise(drive, no_map, sources) -> None:
    page = drive.source.with_suffix(".html")
    out = drive.source.with_name("out.mkv")  # which has no room for telemetry
    infer(replace(drive, geojson=None, out=out, report=page, no_map=no_map))
    record = json.loads(page.read_text().split('id="record">')[1].split("</script>")[0])
    assert [way["source"] for way in filter(None, [record["way"]])] == sources
    assert ("-33.9" in json.dumps(record)) == (not no_map)


def test_stats_and_masks_tell_no_place(drive, tmp_path) -> None:
    stats = tmp_path / "film.jsonl"
    infer(replace(drive, geojson=None, stats=stats, masks=tmp_path / "ids.mkv"))
    written = stats.read_bytes() + (tmp_path / "ids.mkv").read_bytes()
    assert b"-33.9" not in written and b"GPS5" not in written


def test_redacted_film_tells_no_place(drive) -> None:
    out = drive.source.with_name("redacted.mp4")
    assert b"GPS5" in drive.source.read_bytes()
    infer(replace(drive, geojson=None, out=out, redaction=Redaction()))
    assert b"GPS5" not in out.read_bytes()
    with pytest.raises(ConfigError, match="leave out every other output"):
        replace(drive, out=out, redaction=Redaction())


@pytest.fixture(scope="module")
def page(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A report of twenty seconds with a moment and a gap in the way."""
    parts = [
        [[n, 52.5 + n * 1e-4, 13.4] for n in range(5)],
        [[n, 52.5, 13.41] for n in (18, 19, 20)],
    ]
    pixel = "data:image/gif;base64,R0lGODlhAQABAAAAACwAAAAAAQABAAA="
    stretch = {"start_s": 3.0, "end_s": 12.0, "unsure": 0.3, "image": pixel}
    moment = {"start_s": 2.0, "end_s": 4.0, "peak_s": 2.5, "names": ["pedestrian"], "image": pixel}
    record = {
        "classes": [["sky", "rgb(70, 130, 180)"], ["road", "rgb(128, 64, 128)"]],
        "people": ["pedestrian"],
        "times_s": [float(n) for n in range(21)],
        "shares": [[0.5] * 21] * 2,
        "moments": [moment, {**moment, "peak_s": 10.0}],
        "moments_left_out": 0,
        "out_of_depth": [stretch],
        "thumbnails": [],
        "film": "",
        "way": {"source": "a test", "parts": parts},
    }
    path = tmp_path_factory.mktemp("page") / "drive.html"
    path.write_text(drive_page(record, {}, "a drive"))
    return path


@pytest.mark.parametrize("scheme", ["light", "dark"])
@pytest.mark.parametrize("width", [390, 1300])
def test_map_draws_the_way_true_to_scale_with_the_moments(tab, page, scheme, width) -> None:
    tab.open(page.as_uri(), (width, 900), scheme)
    tab.wait_for("document.querySelector('#way .legend')")
    assert tab.run("document.documentElement.scrollWidth") <= width
    ys = "document.getElementById('way').data[1].y"
    assert tab.run(f"{ys}[4] - {ys}[0]") == pytest.approx(44.5, abs=0.2)  # metres
    xs = "document.getElementById('way').data[1].x"
    assert tab.run(f"{xs}[7] - {xs}[0]") == pytest.approx(677.7, abs=2)
    seen = tab.run("document.getElementById('way').data[2].text")
    assert seen == ["0:02\N{EN DASH}0:04 pedestrian"]  # the other one lies in the gap
    seen_at = tab.run("document.getElementById('way').data[2].y[0]")
    assert seen_at == pytest.approx(tab.run(f"({ys}[2] + {ys}[3]) / 2"))
    axes = "document.getElementById('way')._fullLayout"
    scale = tab.run(f"{axes}.xaxis._m / {axes}.yaxis._m")
    assert abs(scale) == pytest.approx(1, rel=1e-3)
    assert tab.errors == []


def test_colour_bar_of_a_short_video_names_no_time_twice(tab, page, tmp_path) -> None:
    times = json.dumps([float(n) for n in range(21)])
    short = tmp_path / "short.html"
    short.write_text(page.read_text().replace(times, "[0.0, 1.5]"))
    tab.open(short.as_uri())
    tab.wait_for("document.querySelector('#way .legend')")
    ticks = tab.run("document.getElementById('way').data[1].marker.colorbar.ticktext")
    assert ticks == ["0:00", "0:01"] and tab.errors == []


def test_each_kind_of_stretch_has_a_row_of_its_own_above_the_curves(tab, page) -> None:
    tab.open(page.as_uri())
    tab.wait_for("document.querySelector('#shares .legend')")
    shapes = tab.run("document.getElementById('shares').layout.shapes")
    bars = [shape for shape in shapes if shape["type"] == "rect"]
    spans = [(bar["x0"], bar["x1"]) for bar in bars]
    assert spans == [(2, 4), (2, 4), (3, 12)]  # which would hide each other in one row
    assert bars[0]["y1"] <= bars[-1]["y0"]
    assert (
        tab.run("document.getElementById('stretches').innerText")
        == "0:03\N{EN DASH}0:12 unsure of 30 %"
    )


def test_report_without_a_way_has_no_map(tab, page, tmp_path) -> None:
    text = page.read_text()
    begin = text.index(', "way": {')
    end = text.index("</script>", begin)
    (tmp_path / "drive.html").write_text(text[:begin] + ', "way": null}' + text[end:])
    tab.open((tmp_path / "drive.html").as_uri())
    tab.wait_for("document.querySelector('#shares .legend')")
    assert tab.run("document.getElementById('map').hidden") and tab.errors == []
