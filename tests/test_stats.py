"""What is counted in a frame, against brute force and against what was drawn."""

import csv
import json
from dataclasses import replace
from fractions import Fraction
from pathlib import Path

import av
import cv2
import numpy as np
import pytest
from conftest import SAMPLE, WEIGHTS

from roadseg.errors import OutputError
from roadseg.infer.config import InferConfig
from roadseg.infer.offline import infer
from roadseg.infer.stats import measure
from roadseg.spec import CLASS_NAMES, NUM_CLASSES, ModelSpec
from roadseg.video.frame import Frame, SegmentedFrame
from roadseg.video.picture import ColorSpace, Picture

SPEC = ModelSpec(arch="unet", width=4)
ROAD, CAR, PEDESTRIAN = (CLASS_NAMES.index(name) for name in ("road", "car", "pedestrian"))


def item(class_map: np.ndarray) -> SegmentedFrame:
    frame = Frame(Picture.empty(class_map.shape, ColorSpace()), 7, Fraction(1, 10))
    return SegmentedFrame(frame, class_map.astype(np.uint8), SPEC)


def street() -> np.ndarray:
    """Road over the lower half of 100x200, from column 20 to column 179."""
    class_map = np.zeros((100, 200))
    class_map[50:, 20:180] = ROAD
    return class_map


def test_shares_are_those_of_the_pixels() -> None:
    class_map = np.random.default_rng(0).integers(0, NUM_CLASSES, (40, 50))
    stats = measure(item(class_map))
    assert (stats.pts, stats.time_s) == (7, 0.7)
    for i, name in enumerate(SPEC.class_names):
        assert stats.shares[name] == pytest.approx((class_map == i).mean(), abs=1e-6)


def test_boxes_enclose_the_objects_and_noise_is_left_out() -> None:
    class_map = street()
    class_map[40:60, 30:50] = CAR
    class_map[44:52, 150:170] = CAR
    class_map[10, 10] = CAR  # a stray pixel
    cars = measure(item(class_map)).objects
    boxes = [(o.name, o.left, o.top, o.width, o.height, o.pixels) for o in cars]
    assert boxes == [("car", 30, 40, 20, 20, 400), ("car", 150, 44, 20, 8, 160)]


def test_least_object_is_as_large_as_asked_for() -> None:
    class_map = street()
    class_map[40:60, 30:50] = CAR
    class_map[44:52, 150:170] = CAR
    least = 161 / class_map.size
    assert [o.pixels for o in measure(item(class_map), least).objects] == [400]


@pytest.mark.parametrize(
    ("left", "bottom", "across"), [(95, 80, 0.5), (20, 80, 0.03), (0, 80, -0.13), (95, 40, None)]
)
def test_place_across_the_road_is_that_of_the_foot(left, bottom, across) -> None:
    class_map = street()
    class_map[bottom - 20 : bottom, left : left + 10] = PEDESTRIAN
    (walker,) = measure(item(class_map)).objects
    assert walker.across_road == (None if across is None else pytest.approx(across, abs=0.03))


@pytest.fixture
def quick(tmp_path) -> InferConfig:
    return InferConfig(
        source=SAMPLE, out=tmp_path / "o.mp4", weights=WEIGHTS, size_hw=(96, 160), end_s=0.4
    )


@pytest.mark.parametrize("suffix", [".jsonl", ".csv"])
def test_file_has_a_line_a_frame_and_agrees_with_the_masks(tmp_path, quick, suffix) -> None:
    path, masks = tmp_path / f"drive{suffix}", tmp_path / "masks"
    infer(replace(quick, stats=path, masks=masks))
    with av.open(SAMPLE) as container:
        pts = sorted(p.pts for p in container.demux(video=0) if p.pts is not None)[:10]
    lines = read(path)
    assert [line["pts"] for line in lines] == pts
    assert [line["time_s"] for line in lines] == pytest.approx([i / 25 for i in range(10)])
    for number, line in enumerate(lines):
        class_map = cv2.imread(str(masks / f"{number:06d}.png"), cv2.IMREAD_GRAYSCALE)
        assert line["road"] == pytest.approx((class_map == ROAD).mean(), abs=1e-6)
        for left, top, width, height in line["cars"]:
            assert (class_map[top : top + height, left : left + width] == CAR).any()
    assert any(line["cars"] for line in lines)


def read(path: Path) -> list[dict]:
    """Either kind of file as the same records."""
    if path.suffix == ".jsonl":
        records = [json.loads(line) for line in path.read_text().splitlines()]
        box = ("left", "top", "width", "height")
        return [
            {
                **{key: r[key] for key in ("pts", "time_s")},
                "road": r["shares"]["road"],
                "cars": [[o[k] for k in box] for o in r["objects"] if o["name"] == "car"],
            }
            for r in records
        ]
    with path.open(newline="") as file:
        rows = list(csv.DictReader(file))
    assert list(rows[0]) == ["pts", "time_s", *SPEC.class_names, "objects", "tracks", "moves"]
    return [
        {
            "pts": int(row["pts"]),
            "time_s": float(row["time_s"]),
            "road": float(row["road"]),
            "cars": [
                list(map(int, o.split(":")[1:]))
                for o in row["objects"].split()
                if o.startswith("car:")
            ],
        }
        for row in rows
    ]


@pytest.mark.parametrize("film", [True, False])
def test_failure_leaves_a_half_file_only_beside_a_half_film(tmp_path, quick, film) -> None:
    def fails(done: int, _total: int | None) -> None:
        if done == 3:
            raise RuntimeError("reader")

    with pytest.raises(RuntimeError, match="reader"):
        infer(replace(quick, out=quick.out if film else None, stats=tmp_path / "drive.csv"), fails)
    names = ["drive.csv", "drive.csv.lock", "o.mp4", "o.mp4.json", "o.mp4.lock"]
    left = [f"roadseg-part.{name}" for name in names] if film else []
    assert sorted(path.name for path in tmp_path.iterdir()) == left


@pytest.mark.parametrize(
    ("name", "said"),
    [
        ("drive.txt", r"--stats .*drive\.txt must end in \.jsonl or \.csv"),
        ("taken.csv", r"--stats .*taken\.csv exists.*--overwrite"),
        ("no/drive.csv", r"drive\.csv cannot be written \(No such file"),
    ],
)
def test_file_that_cannot_be_written_is_refused_at_once(tmp_path, quick, name, said) -> None:
    (tmp_path / "taken.csv").write_text("precious")
    with pytest.raises(OutputError, match=said):
        infer(replace(quick, stats=tmp_path / name))
    assert (tmp_path / "taken.csv").read_text() == "precious"
    assert not quick.out.exists()


def test_regions_are_counted_where_there_are_more_than_16_bits_can_number() -> None:
    class_map = np.zeros((600, 600))
    class_map[::2, ::2] = CAR  # 90,000 of one pixel each
    class_map[100:200, 300:400] = CAR
    boxes = [(o.left, o.top, o.width, o.height) for o in measure(item(class_map)).objects]
    assert boxes == [(300, 100, 101, 101)]  # the pixels below and to the right touch it
