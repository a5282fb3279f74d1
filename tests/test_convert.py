"""Class maps in the formats of other programs, read back by what those programs read them with."""

import json
import re
from pathlib import Path
from xml.etree import ElementTree

import cv2
import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from typer.testing import CliRunner

from roadseg.cli import app
from roadseg.data.convert import (
    CITYSCAPES_IDS,
    FORMATS,
    class_names_in,
    convert,
    find_masks,
    read_masks,
)
from roadseg.data.meaning import LabelMeaning
from roadseg.data.networks import NETWORKS, read_class_list
from roadseg.data.regions import coco_counts, run_lengths
from roadseg.data.sets import classes_named
from roadseg.errors import ConfigError, DatasetError
from roadseg.spec import CLASS_NAMES
from roadseg.video.png import SIGNATURE, chunk

NAMES = CLASS_NAMES[:-1]
ROAD, CAR, SKY, UNLABELLED = map(CLASS_NAMES.index, ("road", "car", "sky", "unlabelled"))


def scene(seed: int) -> np.ndarray:
    """Sky, road, cars on it, one of them with a hole, and a part without a label."""
    ids = np.full((60, 100), SKY, np.uint8)
    ids[30:] = ROAD
    ids[35 + seed : 50, 10:30] = CAR
    ids[40:45, 15:20] = ROAD
    ids[:10, 80:] = UNLABELLED
    cv2.circle(ids, (70, 45), 9, CAR, -1)
    return ids


@pytest.fixture
def masks(tmp_path) -> dict[str, np.ndarray]:
    """Masks as `roadseg infer` writes them, in the folder `masks`."""
    (tmp_path / "masks").mkdir()
    written = {f"{number:06d}": scene(number) for number in range(2)}
    for stem, ids in written.items():
        cv2.imwrite(str(tmp_path / "masks" / f"{stem}.png"), ids)
    return written


def converted(folder: Path, kind: str) -> Path:
    out = folder / f"out{FORMATS[kind].suffix}"
    found = read_masks(find_masks(folder / "masks"), "frames/{}.jpg")
    convert(found, kind, out, CLASS_NAMES)
    return out


@given(st.lists(st.integers(0, 40_000), min_size=1, max_size=30), st.booleans())
def test_counts_are_those_of_cocos_own_library(lengths, starts) -> None:
    mask = pytest.importorskip("pycocotools.mask")
    runs = [np.full(length, (number % 2 == 1) ^ starts) for number, length in enumerate(lengths)]
    flat = np.concatenate([*runs, [False]])
    size = [len(flat), 1]
    theirs = mask.encode(np.asfortranarray(flat[:, None].astype(np.uint8)))
    assert coco_counts(run_lengths(flat)) == theirs["counts"].decode()
    assert theirs["size"] == size


@pytest.mark.filterwarnings("ignore:__array__ implementation:DeprecationWarning")  # pycocotools'
def test_coco_reads_every_class_pixel_by_pixel(tmp_path, masks, capsys) -> None:
    coco = pytest.importorskip("pycocotools.coco").COCO(str(converted(tmp_path, "coco-rle")))
    capsys.readouterr()  # it prints
    assert [c["name"] for c in coco.loadCats(coco.getCatIds())] == list(NAMES)
    for image, (stem, ids) in zip(coco.loadImgs(coco.getImgIds()), masks.items(), strict=True):
        assert image["file_name"] == f"frames/{stem}.jpg"
        annotations = coco.loadAnns(coco.getAnnIds(image["id"]))
        assert {a["category_id"] - 1 for a in annotations} == {SKY, ROAD, CAR}
        for annotation in annotations:
            member = ids == annotation["category_id"] - 1
            assert np.array_equal(coco.annToMask(annotation), member)
            assert annotation["area"] == member.sum()
            rows, columns = np.nonzero(member)
            left, top, width, height = annotation["bbox"]
            assert (left, top) == (columns.min(), rows.min())
            assert (width, height) == (np.ptp(columns) + 1, np.ptp(rows) + 1)


def redrawn(shapes: list[tuple[int, np.ndarray]]) -> np.ndarray:
    ids = np.full((60, 100), UNLABELLED, np.uint8)
    for class_id, points in shapes:
        cv2.fillPoly(ids, [np.rint(points).astype(np.int32)], class_id)
    return ids


def test_polygons_of_yolo_draw_the_class_map_again(tmp_path, masks) -> None:
    out = converted(tmp_path, "yolo-polygons")
    assert (out / "data.yaml").read_text().endswith('  9: "pedestrian"\n  10: "bicyclist"\n')
    for stem, ids in masks.items():
        shapes = []
        for line in (out / "labels" / f"{stem}.txt").read_text().splitlines():
            class_id, *numbers = line.split()
            shares = np.array(numbers, float).reshape(-1, 2)
            assert shares.min() >= 0 and shares.max() <= 1 and len(shares) >= 3
            shapes.append((int(class_id), shares * (100, 60) - 0.5))
        again = redrawn(shapes)
        assert np.mean(again[ids != UNLABELLED] == ids[ids != UNLABELLED]) > 0.98


def test_any_name_of_a_class_is_text_to_yolo(tmp_path) -> None:
    yaml = pytest.importorskip("yaml")
    names = ["no", "sign: stop", "#1", "1", "weiß", 'say "hi"', "back\\slash"]
    convert([], "yolo-polygons", tmp_path / "yolo", names)
    told = yaml.safe_load((tmp_path / "yolo" / "data.yaml").read_text(encoding="utf-8"))
    assert told["names"] == dict(enumerate(names))


def test_label_studio_gets_polygons_in_percent(tmp_path, masks) -> None:
    tasks = json.loads(converted(tmp_path, "label-studio").read_text())
    for task, (stem, ids) in zip(tasks, masks.items(), strict=True):
        assert task["data"] == {"image": f"frames/{stem}.jpg"}
        (prediction,) = task["predictions"]
        shapes = []
        for result in prediction["result"]:
            assert (result["type"], result["original_width"]) == ("polygonlabels", 100)
            (name,) = result["value"]["polygonlabels"]
            points = np.array(result["value"]["points"]) / 100 * (100, 60) - 0.5
            shapes.append((NAMES.index(name), points))
        again = redrawn(shapes)
        assert np.mean(again[ids != UNLABELLED] == ids[ids != UNLABELLED]) > 0.98


def test_cvat_gets_every_class_pixel_by_pixel(tmp_path, masks) -> None:
    root = ElementTree.parse(converted(tmp_path, "cvat")).getroot()
    assert root.findtext("version") == "1.1"
    for image, (stem, ids) in zip(root.iterfind("image"), masks.items(), strict=True):
        assert image.attrib["name"] == f"frames/{stem}.jpg"
        again = np.full_like(ids, UNLABELLED)
        for mask in image.iterfind("mask"):
            left, top, width, height = (
                int(mask.attrib[name]) for name in ("left", "top", "width", "height")
            )
            counts = [int(count) for count in mask.attrib["rle"].split(",")]
            flat = np.repeat(np.arange(len(counts)) % 2 == 1, counts).reshape(height, width)
            box = again[top : top + height, left : left + width]
            box[flat] = NAMES.index(mask.attrib["label"])
        assert np.array_equal(again, ids)


def test_cityscapes_gets_its_own_ids(tmp_path, masks) -> None:
    out = converted(tmp_path, "cityscapes")
    for stem, ids in masks.items():
        again = cv2.imread(str(out / f"{stem}_gtFine_labelIds.png"), cv2.IMREAD_UNCHANGED)
        assert again.dtype == np.uint8 and set(np.unique(again)) == {0, 7, 23, 26}
        for class_id, theirs in ((SKY, 23), (ROAD, 7), (CAR, 26), (UNLABELLED, 0)):
            assert np.array_equal(again == theirs, ids == class_id)


def test_masks_with_a_palette_are_the_same_masks(tmp_path, masks) -> None:
    image = pytest.importorskip("PIL.Image")
    grey = converted(tmp_path, "coco-rle").read_bytes()
    for stem, ids in masks.items():
        colored = image.fromarray(ids, "P")
        colored.putpalette([level for level in range(255, -1, -1) for _ in range(3)])
        colored.save(tmp_path / "masks" / f"{stem}.png")
    (tmp_path / "out.json").unlink()
    assert converted(tmp_path, "coco-rle").read_bytes() == grey


@pytest.mark.usefixtures("masks")
def test_classes_of_other_models_have_their_own_names(tmp_path) -> None:
    names = [f"class {number}" for number in range(12)]
    (tmp_path / "classes.csv").write_text("name\n" + "\n".join(names))
    words = ["masks", "convert", str(tmp_path / "masks"), "--to", "coco-rle"]
    words += ["--out", str(tmp_path / "own.json"), "--classes", str(tmp_path / "classes.csv")]
    result = CliRunner().invoke(app, words)
    assert result.exit_code == 0 and "2 masks as coco-rle" in result.output
    record = json.loads((tmp_path / "own.json").read_text())
    assert [c["name"] for c in record["categories"]] == names
    with pytest.raises(ConfigError, match="--to cityscapes knows"):
        convert(
            read_masks(find_masks(tmp_path / "masks"), "{}"), "cityscapes", tmp_path / "c", names
        )
    assert not list(tmp_path.glob("roadseg-*"))


@pytest.mark.parametrize(
    ("kind", "out", "said"),
    [
        ("voc", "out.json", "--to is 'voc'; use one of: coco-rle"),
        ("coco-rle", "out.xml", r"end its name in \.json"),
        ("coco-rle", "taken.json", "exists; choose another name or add --overwrite"),
        ("cityscapes", "masks", "exists; choose another name$"),
    ],
)
def test_mistakes_are_named_before_anything_is_written(tmp_path, masks, kind, out, said) -> None:
    (tmp_path / "taken.json").write_text("precious")
    words = [
        "masks",
        "convert",
        str(tmp_path / "masks"),
        "--to",
        kind,
        "--out",
        str(tmp_path / out),
    ]
    result = CliRunner().invoke(app, words)
    assert isinstance(result.exception, ConfigError)
    with pytest.raises(ConfigError, match=said):
        raise result.exception
    assert (tmp_path / "taken.json").read_text() == "precious"
    assert len(list((tmp_path / "masks").iterdir())) == len(masks)


def test_files_that_are_no_masks_are_named(tmp_path) -> None:
    (tmp_path / "._a.png").write_bytes(b"of macOS")
    with pytest.raises(DatasetError, match="holds no masks"):
        find_masks(tmp_path)
    cv2.imwrite(str(tmp_path / "photo.png"), np.zeros((4, 4, 3), np.uint8))
    with pytest.raises(DatasetError, match=r"photo\.png is no mask"):
        list(read_masks(find_masks(tmp_path), "{}"))
    (tmp_path / "photo.png").write_bytes(SIGNATURE + chunk(b"IHDR", b"short"))
    with pytest.raises(DatasetError, match=r"photo\.png cannot be read as a picture"):
        list(read_masks(find_masks(tmp_path), "{}"))


@pytest.mark.parametrize("kind", FORMATS)
def test_ids_without_a_name_are_refused_and_nothing_is_written(tmp_path, kind) -> None:
    (tmp_path / "masks").mkdir()
    ids = scene(0)
    ids[0, 0] = 255  # is none at all
    cv2.imwrite(str(tmp_path / "masks" / "a.png"), ids)
    converted(tmp_path, kind)
    ids[0, 0] = len(CLASS_NAMES)
    cv2.imwrite(str(tmp_path / "masks" / "b.png"), ids)
    before = sorted(tmp_path.iterdir())
    with pytest.raises(
        DatasetError, match=r"b\.png has the id 12, and there are names for 0 to 11"
    ):
        convert(
            read_masks(find_masks(tmp_path / "masks"), "{}"), kind, tmp_path / "new", CLASS_NAMES
        )
    assert sorted(tmp_path.iterdir()) == before


@pytest.mark.parametrize(
    "rows",
    [
        "name,id,color\nroad,0,#804080\nunlabelled,255,#000000\ncar,1,#400080\n",
        "name\nunlabelled\nroad\ncar\n",
        "name,color\nroad,#804080\nroad|car,#400080\n",
    ],
)
def test_names_are_those_of_a_model_that_was_trained_with_the_class_file(tmp_path, rows) -> None:
    path = tmp_path / "classes.csv"
    path.write_text(rows)
    assert class_names_in(path) == tuple(c.name for c in classes_named(LabelMeaning.read(path)))
    assert class_names_in(path) == ("road", "car")


@pytest.mark.parametrize(
    ("rows", "said"),
    [
        ("road,1\ncar,0\n", "the id 1 to road; a model that was trained with it has 0 road, 1 car"),
        ("road,0\ncar,7\n", "the id 7 to car; a model"),
        ("road,0\ncar,1\ncar,2\n", "the id 2 to car; a model"),
        ("unlabelled,0\nroad,1\ncar,2\n", "the id 1 to road; a model"),
        ("road|car,0\npole,1\n", "it has 0 road, 1 car, 2 pole; give a file with these ids"),
        ("road,0\ncar,1\nbus,1\n", "the id 1 to car and to bus"),
        ("", "names 0 classes; give from 2"),
    ],
)
def test_class_file_whose_ids_are_not_those_of_a_model_is_refused(tmp_path, rows, said) -> None:
    path = tmp_path / "classes.csv"
    path.write_text(f"name,id\n{rows}")
    with pytest.raises(DatasetError, match=re.escape(said)):
        class_names_in(path)


@pytest.mark.parametrize("name", ["mapillary", "coco-stuff"])
def test_class_list_of_a_network_names_all_its_ids(name) -> None:
    known = {number: found.name for number, found in read_class_list(name).items()}
    assert dict(enumerate(class_names_in(NETWORKS / f"{name}.csv"))) == known


def test_every_class_of_ours_has_an_id_in_cityscapes() -> None:
    assert set(CITYSCAPES_IDS) == set(NAMES)
