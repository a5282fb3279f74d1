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
from roadseg.infer import stats as stats_module
from roadseg.infer.config import InferConfig
from roadseg.infer.offline import infer, maps_for
from roadseg.infer.stages import Pipeline
from roadseg.infer.stats import OBJECT_COLUMNS, measure
from roadseg.infer.steps import labelling
from roadseg.segmentation.enlarge import levels_of
from roadseg.segmentation.maps import Maps
from roadseg.segmentation.placement import Placement
from roadseg.spec import CLASS_NAMES, NUM_CLASSES, ModelSpec
from roadseg.video.frame import Frame, SegmentedFrame
from roadseg.video.picture import ColorSpace, Picture
from roadseg.video.read.read_log import ReadLog
from roadseg.video.read.source import decode, probe

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
        source=SAMPLE,
        out=tmp_path / "o.mp4",
        weights=WEIGHTS,
        size_hw=(96, 160),
        end_s=0.4,
        min_confidence=0,
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
        # Statistics are of the 160x90 pixels that the network sees of the frame.
        assert line["road"] == pytest.approx((class_map == ROAD).mean(), abs=2e-3)
        for left, top, width, height in line["cars"]:
            assert (class_map[top : top + height, left : left + width] == CAR).any()
    assert any(line["cars"] for line in lines)


def test_statistics_are_the_same_whatever_else_is_written(tmp_path, quick) -> None:
    beside: dict[str, dict] = {
        "alone": {"out": None},
        "masks": {"out": None, "masks": tmp_path / "masks"},
        "film": {},
    }
    for name, wanted in beside.items():
        infer(replace(quick, stats=tmp_path / f"{name}.jsonl", **wanted))
    alone, masks, film = (tmp_path / f"{name}.jsonl" for name in beside)
    assert alone.read_bytes() == masks.read_bytes() == film.read_bytes()


@pytest.mark.parametrize("steady", [0.0, 0.6])
@pytest.mark.parametrize(
    ("wanted", "shapes"),
    [
        (Maps.FULL, [(540, 960), None]),
        (Maps.COARSE, [(90, 160), (90, 160)]),
        (Maps.FULL | Maps.COARSE, [(540, 960), (90, 160)]),
    ],
)
def test_no_class_map_is_made_that_nobody_asked_for(quick, steady, wanted, shapes) -> None:
    stages = labelling(replace(quick, steady=steady), maps=wanted).values()
    with Pipeline(decode(probe(SAMPLE), ReadLog()), *stages, depth=2) as pipeline:
        found = next(iter(pipeline))
    maps = (found.class_map, found.coarse_map)
    assert [None if class_map is None else class_map.shape for class_map in maps] == shapes


def test_run_makes_the_maps_that_its_outputs_need(quick, tmp_path) -> None:
    stats, masks, report = (tmp_path / name for name in ("s.csv", "masks", "drive.html"))
    needs = {
        Maps.FULL: [{"masks": masks}, {"out": None, "masks": masks}],
        Maps.FULL | Maps.SHOWN: [{}],
        Maps.FULL | Maps.COARSE: [{"stats": stats, "masks": masks}],
        Maps.COARSE | Maps.SHOWN: [{"out": None, "stats": stats}],
        Maps.FULL | Maps.COARSE | Maps.SHOWN: [{"stats": stats}, {"report": report}],
    }
    for maps, outputs in needs.items():
        assert {maps_for(replace(quick, **wanted)) for wanted in outputs} == {maps}


def test_frame_is_counted_and_measured_once(quick, tmp_path, monkeypatch) -> None:
    done: list[str] = []

    def noted(name: str):
        work = getattr(stats_module, name)
        return lambda *args: (done.append(name), work(*args))[1]

    for name in ("count_ids", "measure"):
        monkeypatch.setattr(stats_module, name, noted(name))
    infer(replace(quick, stats=tmp_path / "drive.csv", report=tmp_path / "drive.html"))
    assert sorted(done) == ["count_ids"] * 10 + ["measure"] * 10


def test_objects_found_on_a_coarse_map_are_told_in_pixels_of_the_frame() -> None:
    class_map = street()
    class_map[40:60, 30:50] = CAR
    found = item(class_map)
    whole, coarse = (
        measure(replace(found, coarse_map=coarse_map))
        for coarse_map in (None, np.ascontiguousarray(found.class_map[::2, ::4]))
    )
    assert coarse.shares == whole.shares
    (car,), (same) = coarse.objects, whole.objects[0]
    assert (car.top, car.height) == (same.top, same.height)
    assert car.across_road == pytest.approx(same.across_road, abs=0.02)
    assert car.left == pytest.approx(same.left, abs=4) and car.width == pytest.approx(20, abs=4)
    assert car.pixels == pytest.approx(400, rel=0.2)


def test_statistics_of_what_the_network_sees_are_those_of_all_pixels_but_for_the_edges() -> None:
    """On class maps with slanted edges, three times as large as the network's input."""
    placement = Placement.fit((540, 960), (180, 320))
    rng = np.random.default_rng(0)
    for _ in range(5):
        logits = cv2.GaussianBlur(rng.normal(size=(45, 80, 11)).astype(np.float32), (0, 0), 4)
        levels = levels_of(np.ascontiguousarray(logits.transpose(2, 0, 1) * 60))
        fine, coarse = placement.enlarge(levels), placement.coarse.enlarge(levels)
        whole, sampled = (measure(replace(item(fine), coarse_map=m)) for m in (None, coarse))
        for name, share in whole.shares.items():
            assert sampled.shares[name] == pytest.approx(share, abs=2e-3)


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
    assert list(rows[0]) == ["pts", "time_s", *SPEC.class_names, *OBJECT_COLUMNS, "unsure"]
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
