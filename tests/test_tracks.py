"""One car is one car: numbers of objects along a film, and the boxes that show them."""

from collections import Counter
from collections.abc import Iterator
from dataclasses import replace

import cv2
import numpy as np
import pytest
from conftest import SAMPLE, WEIGHTS
from moving import SIZE_HW, FlickeringBackend, panning

from roadseg.errors import ConfigError
from roadseg.infer.config import InferConfig
from roadseg.infer.offline import infer
from roadseg.infer.stats import measured, read_stats, write_stats
from roadseg.infer.tracks import LEAST_SIGHTINGS, follow_objects, renumbered
from roadseg.paint.boxes import Boxed
from roadseg.paint.config import OverlayConfig
from roadseg.paint.overlay import Overlay
from roadseg.segmentation.config import ModelConfig
from roadseg.segmentation.flow import Motion
from roadseg.segmentation.label import label
from roadseg.segmentation.neighbours import Follower
from roadseg.spec import CLASS_NAMES, IGNORE_INDEX, ModelSpec
from roadseg.video.frame import FrameStats, Region, SegmentedFrame
from roadseg.video.picture import ColorSpace, Painter, Picture

SPEC = ModelSpec(arch="unet", width=4)
CAR = CLASS_NAMES.index("car")


def car(left: int, moved: float | None = 0.0, top: int = 50, name: str = "car") -> Region:
    return Region(
        name=name,
        left=left,
        top=top,
        width=30,
        height=20,
        pixels=500,
        across_road=None,
        moved=None if moved is None else (moved, 0.0),
    )


def numbers(*frames: list[Region]) -> list[list[int | None]]:
    """Numbers of the objects in frames at 10 Hz."""
    stats = [
        FrameStats(pts=index, time_s=index / 10, shares={}, objects=tuple(objects))
        for index, objects in enumerate(frames)
    ]
    return [[o.track for o in frame.objects] for frame in renumbered(stats)]


def test_object_has_its_number_from_the_third_sighting_on_however_fast_it_moves() -> None:
    found = numbers(*([car(60 * n, moved=60.0)] for n in range(6)))
    assert found == [[None]] * (LEAST_SIGHTINGS - 1) + [[1]] * 4


def test_objects_keep_their_numbers_when_they_pass_each_other() -> None:
    frames = ([car(20 * n, 20.0, top=40), car(200 - 20 * n, -20.0, top=50)] for n in range(10))
    assert numbers(*frames)[2:] == [[1, 2]] * 8


def test_object_that_is_hidden_for_a_while_is_the_same_and_one_that_stays_away_is_not() -> None:
    seen = [[car(10 * n, 10.0)] for n in range(24)]
    for hidden, last in ((8, 1), (13, 2)):
        frames = [[] if 6 <= n < 6 + hidden else objects for n, objects in enumerate(seen)]
        assert numbers(*frames)[5] == [1]
        assert numbers(*frames)[-1] == [last]


def test_another_class_and_another_scene_are_other_objects() -> None:
    cars = [[car(50)] for _ in range(4)]
    assert numbers(*cars, *([car(50, name="sign")] for _ in range(4)))[-1] == [2]
    assert numbers(*cars, [car(50, moved=None)], *cars)[-1] == [2]


def labelled(steps: list[int]) -> Iterator[SegmentedFrame]:
    """A camera that turns: what it sees moves by so many columns to the left."""
    left = 250
    for number, frame in enumerate(panning(steps)):
        left -= steps[number] if number else 0
        class_map = np.full(SIZE_HW, IGNORE_INDEX, np.uint8)
        class_map[80:120, left : left + 50] = CAR
        yield SegmentedFrame(frame, class_map, SPEC)


def test_object_moves_as_the_picture_below_it_does() -> None:
    items = list(follow_objects(measured(labelled([6] * 5), min_region=0.0)))
    assert items[0].stats.objects[0].moved is None
    for item in items[1:]:
        assert item.stats.objects[0].moved == pytest.approx((-6, 0), abs=0.5)
    assert [item.stats.objects[0].track for item in items] == [None, None, 1, 1, 1]


@pytest.fixture
def searched(monkeypatch) -> Counter[tuple[int, int]]:
    """How often flow was searched for, from one picture back to another."""
    counts: Counter[tuple[int, int]] = Counter()
    search = Motion.between

    def note(motion: Motion, later: np.ndarray, earlier: np.ndarray) -> np.ndarray:
        counts[hash(later.tobytes()), hash(earlier.tobytes())] += 1
        return search(motion, later, earlier)

    monkeypatch.setattr(Motion, "between", note)
    return counts


@pytest.mark.parametrize("ways", [{}, {"every": 1}, {"every": 1, "steady": 0}, {"realtime": True}])
def test_flow_is_searched_for_once_a_pair_of_frames(tmp_path, searched, ways) -> None:
    place = tmp_path / "seen.jsonl"
    infer(
        InferConfig(
            source=SAMPLE,
            out=None,
            stats=place,
            weights=WEIGHTS,
            size_hw=(96, 160),
            end_s=0.4,
            **ways,
        )
    )
    objects = [o for stats in read_stats(place) for o in stats.objects if stats.pts]
    assert objects and all(o.moved for o in objects)
    assert len(searched) >= 9 and set(searched.values()) == {1}


@pytest.mark.parametrize("every", [1, 3])
def test_what_labelling_found_of_the_motion_is_what_would_be_found_anew(searched, every) -> None:
    scenes = *panning([0, 3, 4, 5, 6]), *panning([0, 5, 5, 5], seed=1)
    frames = [replace(frame, pts=number) for number, frame in enumerate(scenes)]
    found = list(label(iter(frames), FlickeringBackend(()), ModelConfig(every=every)))
    searched.clear()
    brought = list(map(Follower().flow, found))
    assert not searched
    anew = list(map(Follower().flow, (replace(item, link=None) for item in found)))
    assert searched.total() == len(frames) - 1
    for flow, other in zip(brought, anew, strict=True):
        np.testing.assert_array_equal(flow, other)
    assert [number for number, flow in enumerate(brought) if flow is None] == [0, 5]


@pytest.mark.parametrize("suffix", [".jsonl", ".csv"])
def test_numbers_depend_on_nothing_but_what_is_written(tmp_path, suffix) -> None:
    place = tmp_path / f"seen{suffix}"
    infer(
        InferConfig(
            source=SAMPLE, out=None, stats=place, weights=WEIGHTS, size_hw=(96, 160), end_s=1
        )
    )
    written = list(read_stats(place))
    assert len(written) == 25
    again = tmp_path / f"again{suffix}"
    write_stats(again, renumbered(written))
    assert again.read_bytes() == place.read_bytes()
    tracks = {o.track for frame in written for o in frame.objects if o.name == "car"} - {None}
    assert 0 < len(tracks) < sum(len(frame.objects) for frame in written) / 5


def test_boxes_need_the_statistics_to_go_on() -> None:
    config = InferConfig(source=SAMPLE, out=SAMPLE.with_name("o.mp4"), boxes=True)
    with pytest.raises(ConfigError, match="add --stats to both runs"):
        replace(config, resume=True)
    replace(config, resume=True, stats=SAMPLE.with_name("o.csv"))


class Plain:
    """A painter that paints nothing."""

    def draw(self, picture: Picture, *_: object) -> Picture:
        canvas = Picture.empty(picture.size_hw, picture.space)
        for plane in canvas.planes:
            plane[:] = 100
        return canvas


@pytest.mark.parametrize("top", [0, 60, 108])
def test_box_and_number_are_drawn_where_the_object_is_even_at_the_edge(top) -> None:
    region = replace(car(170, top=top), track=7)
    picture = Picture.empty((128, 200), ColorSpace())
    drawn = Boxed(Plain(), SPEC, [region]).draw(picture, np.zeros((128, 200), np.uint8))
    luma = drawn.planes[0]
    level = ColorSpace().yuv(np.array([SPEC.palette[CAR]], np.uint8))[0, 0]
    assert (luma[top + 19, 170:200] == level).all() and (
        luma[top + 18 : top + 20, 170] == level
    ).all()
    assert (luma[:, :168] == 100).all()
    assert (luma != 100).sum() > 150  # the label too
    unknown = Boxed(Plain(), SPEC, [car(170, top=top)]).draw(picture, np.zeros((128, 200)))
    assert (unknown.planes[0] != 100).sum() < 110


@pytest.mark.parametrize("side_by_side", [False, True])
def test_legend_lies_above_the_boxes(side_by_side) -> None:
    overlay = Overlay(SPEC, OverlayConfig(), side_by_side=side_by_side)
    picture = Plain().draw(Picture.empty((128, 200), ColorSpace()))
    class_map = np.full((128, 200), CAR, np.uint8)
    left, legend = overlay.left_of(picture), overlay.legend(picture, None)
    region = replace(car(0, top=0), width=150, height=60, track=7)

    def corner(painter: Painter) -> np.ndarray:
        luma, *_ = painter.draw(picture, class_map).planes
        rows, columns = legend.layers[0].kept.shape
        return luma[legend.top :, left + legend.left :][:rows, :columns]

    bare = corner(overlay)
    assert (corner(Boxed(overlay, SPEC, [region], left, legend)) == bare).all()
    assert (corner(Boxed(overlay, SPEC, [region], left)) != bare).any()


def test_boxes_of_painted_classes_stand_in_the_painted_half(tmp_path) -> None:
    config = InferConfig(
        source=SAMPLE,
        out=tmp_path / "%d.png",
        weights=WEIGHTS,
        size_hw=(192, 320),
        end_s=0.16,
        side_by_side=True,
        alpha=0.0,
        outline=False,
        legend="none",
    )
    infer(config)
    bare = cv2.imread(str(tmp_path / "3.png"))
    infer(replace(config, boxes=True, overwrite=True))
    boxed = cv2.imread(str(tmp_path / "3.png"))
    infer(replace(config, boxes=True, classes=("road",), overwrite=True))
    assert (cv2.imread(str(tmp_path / "3.png")) == bare).all()
    changed = (boxed != bare).any(axis=2)
    assert changed[:, 960:].any() and not changed[:, :956].any()
