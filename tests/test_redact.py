"""Redacted films: what may be a person, a car or a sign is not to be seen, wherever it shows."""

import re
from collections.abc import Collection, Iterator
from dataclasses import replace
from fractions import Fraction
from pathlib import Path

import av
import brightness_backend
import cv2
import numpy as np
import pytest
from films import packets, pictures, rich_film
from moving import FIFTEENTH, SIZE_HW, panning
from typer.testing import CliRunner

from roadseg.backends.runtimes import CLASS_MAP, Answer, Output
from roadseg.cli import app
from roadseg.errors import ConfigError
from roadseg.infer.config import InferConfig
from roadseg.infer.offline import infer
from roadseg.paint.config import COVERS, Redaction
from roadseg.paint.cover import Cover
from roadseg.segmentation.hide import Suspected, covered, hold, not_ruled_out
from roadseg.spec import IGNORE_INDEX, ModelSpec
from roadseg.video.picture import Picture

CASES = Path(__file__).parent / "cases"
HEIGHT, WIDTH = 144, 256
STREET, PERSON, SIDE = 80, 220, 24
"""Levels of grey of a street and, by the backend for tests, of a pedestrian; the person's side."""


class Sure(brightness_backend.BrightnessBackend):
    """Says the class of a pixel by its brightness, and is sure of it."""

    def run(self, frames: np.ndarray, wants: Collection[Output] = CLASS_MAP) -> Answer:
        outputs = super().run(frames, wants).outputs
        return Answer({k: v * 20 if k == "logits" else v for k, v in outputs.items()})


def sure(path: Path, _name: str, _threads: int | None) -> Sure:
    return Sure(ModelSpec.from_json(path.read_text(), path))


def walk(path: Path, frames: int = 20) -> Path:
    """Somebody who walks from the left to the right of a street, at 10 Hz."""
    with av.open(path, "w") as container:
        stream = container.add_stream("libx264", rate=10, options={"crf": "8"})
        stream.height, stream.width, stream.pix_fmt = HEIGHT, WIDTH, "yuv420p"
        for number in range(frames):
            rgb = np.full((HEIGHT, WIDTH, 3), STREET, np.uint8)
            left = 20 + 8 * number
            rgb[60 : 60 + SIDE, left : left + SIDE] = PERSON
            container.mux(stream.encode(av.VideoFrame.from_ndarray(rgb, "rgb24")))
        container.mux(stream.encode(None))
    return path


@pytest.fixture
def redacting(plain) -> InferConfig:
    walk(plain.source)
    return replace(plain, redaction=Redaction(hold_s=0.2))


def test_person_is_black_in_every_frame_and_the_street_is_left_alone(redacting) -> None:
    result = infer(redacting, open_model=sure)
    shown = pictures(redacting.out)
    assert len(shown) == result.frames == result.network_frames == 20
    for number, picture in enumerate(shown):
        left = 20 + 8 * number
        assert picture.max() < 120
        assert picture[60 : 60 + SIDE, left : left + SIDE].max() < 16
        assert np.abs(picture[:40].astype(int) - STREET).max() < 8
    assert 0.02 < result.class_shares["hidden"] < 0.3


def test_unfinished_film_shows_no_more_than_the_whole_and_goes_on_alike(
    redacting, tmp_path
) -> None:
    def stop(done: int, _total: int | None) -> None:
        if done == 15:
            raise KeyboardInterrupt

    infer(replace(redacting, out=tmp_path / "whole.mp4"), open_model=sure)
    with pytest.raises(KeyboardInterrupt):
        infer(redacting, stop, open_model=sure)
    (part,) = tmp_path.glob("roadseg-part.*.mp4")
    assert 0 < len(pictures(part)) < 20
    assert max(picture.max() for picture in pictures(part)) < 120
    assert infer(replace(redacting, resume=True), open_model=sure).kept_frames
    for one, other in zip(pictures(redacting.out), pictures(tmp_path / "whole.mp4"), strict=True):
        assert ((one < 16) == (other < 16)).mean() > 0.995


def suspicions(seen: Collection[int], count: int = 9) -> Iterator[Suspected]:
    """A thing that moves 4 columns a frame to the left, and is suspected in some frames only."""
    spec = ModelSpec(arch="x", width=1, class_names=("hidden",), palette=((0, 0, 0),))
    for number, frame in enumerate(panning([4] * count)):
        mask = np.zeros(SIZE_HW, np.bool_)
        if number in seen:
            mask[80:120, 200 - 4 * number : 240 - 4 * number] = True
        yield Suspected(frame, spec, frame.picture.small_luma(), mask)


def test_what_is_missed_in_some_frames_stays_hidden_where_it_went() -> None:
    redaction = Redaction(hold_s=4.5 * float(FIFTEENTH))
    held = list(hold(suspicions({4}), redaction=redaction))
    assert [item.frame.pts for item in held] == list(range(9))
    for number, item in enumerate(held):
        place = np.s_[82:118, 202 - 4 * number : 238 - 4 * number]
        assert item.mask[place].mean() == (0 if number < 2 else pytest.approx(1, abs=0.02))


def test_what_is_far_away_in_time_hides_nothing() -> None:
    redaction = Redaction(hold_s=1.5 * float(FIFTEENTH))
    hidden = [i.mask.any() for i in hold(suspicions({4}), redaction=redaction)]
    assert hidden == [4 <= number <= 5 for number in range(9)]


def test_part_of_a_film_is_hidden_as_the_whole_is() -> None:
    redaction = Redaction(hold_s=2 * float(FIFTEENTH))
    whole = list(hold(suspicions({0, 3, 4, 8}), redaction=redaction))
    part = list(hold(list(suspicions({0, 3, 4, 8}))[2:], redaction=redaction))
    for one, other in zip(whole[4:], part[2:], strict=True):
        np.testing.assert_array_equal(one.mask, other.mask)


def test_place_stays_hidden_where_nobody_knows_where_things_went() -> None:
    scenes = [next(panning([0], seed=seed)) for seed in (1, 2)]
    mask = np.zeros(SIZE_HW, np.bool_)
    mask[80:120, 100:140] = True
    items = [
        Suspected(replace(frame, pts=n), None, frame.picture.small_luma(), mask & (n == 0))
        for n, frame in enumerate(scenes)
    ]
    _, after = hold(iter(items), redaction=Redaction())
    assert after.mask[mask].all()


def test_what_cannot_be_ruled_out_is_hidden() -> None:
    logits = np.zeros((3, 1, 5), np.float32)
    logits[0] = 4.0
    logits[2, 0] = (4.0, 2.0, -4.0, np.nan, 9.0)
    assert not_ruled_out(logits, [2], 0.1)[0].tolist() == [True, True, False, True, True]
    many = np.zeros((150, 1, 2), np.float32)
    many[7, 0, 0] = 1.0  # the likeliest, with a probability of 2 %
    assert not_ruled_out(many, [7], 0.5)[0].tolist() == [True, False]


def test_smallest_suspicion_is_hidden_at_the_size_of_the_picture() -> None:
    frame = next(panning([0]))
    mask = np.zeros((54, 96), np.bool_)
    mask[20, 30] = True
    (item,) = covered(iter([Suspected(frame, None, frame.picture.small_luma(), mask)]))
    assert (item.class_map != IGNORE_INDEX)[80:84, 120:124].all()


@pytest.mark.parametrize("cover", COVERS)
def test_covers_leave_no_detail_and_touch_nothing_else(cover) -> None:
    rng = np.random.default_rng(0)
    picture = Picture.from_rgb(rng.integers(0, 256, (241, 321, 3), dtype=np.uint8))
    class_map = np.full((241, 321), IGNORE_INDEX, np.uint8)
    class_map[61:151, 101:201] = 0
    drawn = Cover(Redaction(cover=cover)).draw(picture, class_map)
    hidden = class_map == 0
    np.testing.assert_array_equal(drawn.planes[0][~hidden], picture.planes[0][~hidden])
    assert drawn.planes[0][hidden].std() < 12 < 40 < picture.planes[0][hidden].std()
    for plane, source in zip(drawn.planes[1:], picture.planes[1:], strict=True):
        assert plane[30:76, 50:101].std() < 12 < source[30:76, 50:101].std()


def test_place_and_time_stay_behind_unless_they_are_asked_for(redacting, tmp_path) -> None:
    source = rich_film(tmp_path / "rich.mkv")
    for keep in (False, True):
        out = tmp_path / f"{keep}.mkv"
        kept = replace(redacting.redaction, keep_tags=keep)
        infer(replace(redacting, source=source, out=out, redaction=kept))
        with av.open(out) as container:
            kinds = [stream.type for stream in container.streams]
            assert kinds == ["video", "audio", "audio", *["subtitle"] * keep]
            tags = {name.lower() for s in (container, *container.streams) for name in s.metadata}
            assert ({"location", "creation_time", "language"} <= tags) == keep
            assert keep or tags <= {"duration", "encoder"}
            assert bool(container.chapters()) == keep
        written = out.read_bytes()
        for told in (b"+48.2082", b"To work", b"part 1", b"at 500"):
            assert (told in written) == keep
        assert packets(out, "audio")


def test_sound_can_be_left_out(redacting, tmp_path) -> None:
    out = tmp_path / "silent.mp4"
    infer(replace(redacting, source=CASES / "gps_text.mp4", out=out, sound="none"))
    with av.open(out) as container:
        assert [stream.type for stream in container.streams] == ["video"]


def test_model_that_knows_no_people_is_refused_before_anything_is_written(redacting) -> None:
    spec = ModelSpec(arch="x", width=1, class_names=("car", "sign"), palette=((0, 0, 0),) * 2)
    redacting.weights.write_text(spec.to_json())
    with pytest.raises(ConfigError, match="--hide names people, and the model knows nothing of"):
        infer(redacting, open_model=sure)
    assert not redacting.out.exists() and not list(redacting.out.parent.glob("*part*"))
    infer(replace(redacting, redaction=Redaction(hide=("cars",))), open_model=sure)


@pytest.mark.parametrize(
    "more",
    [
        {"masks": Path("masks")},
        {"stats": Path("s.csv")},
        {"report": Path("r.html")},
        {"side_by_side": True},
        {"every": 3},
        {"realtime": True},
        {"fps_target": 25.0},
        {"ignore": ("bonnet",)},
    ],
)
def test_what_would_show_more_or_see_less_is_refused(redacting, more) -> None:
    with pytest.raises(ConfigError, match="leave out every other output"):
        replace(redacting, **more)


@pytest.mark.parametrize(
    ("wrong", "message"),
    [
        ({"hide": ("plates",)}, "--hide is 'plates'; name some of: people, cars, signs"),
        ({"hide": ()}, "--hide is ''"),
        ({"cover": "white"}, "--cover is 'white'; use one of: black, pixelate, blur"),
        ({"probability": 0.0}, "--probability is 0.0"),
        ({"margin": -1.0}, "--margin is -1.0"),
        ({"hold_s": float("nan")}, "--hold is nan"),
    ],
)
def test_settings_out_of_range_are_refused(wrong, message) -> None:
    with pytest.raises(ConfigError, match=message):
        Redaction(**wrong)


def test_films_and_photos_get_names_of_their_own(redacting, tmp_path, monkeypatch) -> None:
    monkeypatch.chdir(tmp_path)
    cv2.imwrite("photo.jpg", np.full((48, 64, 3), 190, np.uint8))  # as bright as a car
    for source in ("film.mp4", "photo.jpg"):
        command = ["redact", source, "--weights", str(redacting.weights)]
        done = CliRunner().invoke(app, command, catch_exceptions=False)
        assert done.exit_code == 0, done.output
        assert re.search(r"^hidden: \d+\.\d% of the picture", done.output, re.MULTILINE)
    assert {p.name for p in tmp_path.glob("*.redacted.*")} == {
        "film.redacted.mp4",
        "photo.redacted.jpg",
    }


def test_pace_of_a_film_makes_no_difference_to_how_long_things_are_hidden() -> None:
    items = list(suspicions({4}))
    slow = [replace(i, frame=replace(i.frame, time_base=Fraction(1, 5))) for i in items]
    redaction = Redaction(hold_s=1.0)
    hidden = [i.mask.any() for i in hold(iter(slow), redaction=redaction)]
    assert hidden == [number >= 2 for number in range(9)]
