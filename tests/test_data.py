import shutil
import struct
import zlib
from pathlib import Path

import cv2
import numpy as np
import pytest
from conftest import scene, write_pair

from roadseg.data.folder import FolderDataset
from roadseg.data.meaning import LabelMeaning
from roadseg.errors import DatasetError


def test_split_is_read_in_order_with_its_labels(streets) -> None:
    dataset = FolderDataset.open(streets, "train")
    assert len(dataset) == 6
    image, target = dataset[2]
    expected_image, expected_target = scene(2)
    np.testing.assert_array_equal(image, expected_image)
    np.testing.assert_array_equal(target, expected_target)


def test_missing_label_is_named(tmp_path) -> None:
    write_pair(tmp_path, "train", "a", *scene(0))
    (tmp_path / "trainannot" / "a.png").unlink()
    write_pair(tmp_path, "train", "b", *scene(1))
    with pytest.raises(DatasetError, match=r"1 of 2 .*a\.png"):
        FolderDataset.open(tmp_path, "train")


def test_label_of_another_size_is_named(tmp_path) -> None:
    image, target = scene(0)
    write_pair(tmp_path, "train", "odd", image, target[:-2])
    with pytest.raises(DatasetError, match=r"odd\.png is 128x94 and its picture is 128x96"):
        FolderDataset.open(tmp_path, "train").check()


def test_id_outside_the_classes_is_named(tmp_path) -> None:
    image, target = scene(0)
    target[0, 0] = 40
    write_pair(tmp_path, "train", "stray", image, target)
    with pytest.raises(DatasetError, match=r"stray\.png has the id 40"):
        FolderDataset.open(tmp_path, "train").check()


@pytest.mark.parametrize(
    ("label", "said"),
    [
        (np.full((96, 128), 3003, np.uint16), r"the value 3003 in 16 bits"),
        (np.full((96, 128, 3), 3003, np.uint16), r"the value 3003 in 16 bits"),
        (np.full((96, 128, 4), 33, np.uint8), r"the colour \[33, 33, 33\]"),
    ],
)
def test_label_that_is_no_map_of_ids_is_named(tmp_path, label, said) -> None:
    write_pair(tmp_path, "train", "odd", scene(0)[0], label)
    with pytest.raises(DatasetError, match=rf"odd\.png has {said}"):
        FolderDataset.open(tmp_path, "train").check()


def test_split_without_a_labelled_pixel_is_refused(tmp_path) -> None:
    write_pair(tmp_path, "val", "void", scene(0)[0], np.full((96, 128), 11, np.uint8))
    with pytest.raises(DatasetError, match="no pixel of val is labelled"):
        FolderDataset.open(tmp_path, "val").check()


def test_file_that_is_no_picture_is_named(tmp_path) -> None:
    write_pair(tmp_path, "train", "broken", *scene(0))
    (tmp_path / "train" / "broken.png").write_bytes(b"")
    with pytest.raises(DatasetError, match=r"broken\.png cannot be read"):
        FolderDataset.open(tmp_path, "train").check()


@pytest.mark.parametrize("folder", ["train", "trainannot"])
def test_file_that_the_system_does_not_give_is_named(tmp_path, folder) -> None:
    write_pair(tmp_path, "train", "a", *scene(0))
    dataset = FolderDataset.open(tmp_path, "train")
    path = tmp_path / folder / "a.png"
    path.unlink()
    path.symlink_to(tmp_path / "nowhere.png")
    with pytest.raises(DatasetError, match=rf"{folder}/a\.png cannot be read \(No such file"):
        dataset.check()


@pytest.mark.parametrize("made", [[], ["train"], ["train", "trainannot"]])
def test_missing_or_empty_split_is_refused(tmp_path, made) -> None:
    for name in made:
        (tmp_path / name).mkdir()
    with pytest.raises(DatasetError, match="train"):
        FolderDataset.open(tmp_path, "train")


def write_classes(root: Path, text: str) -> None:
    (root / "classes.csv").write_text(text)


def test_class_file_gives_names_order_colours_and_what_is_not_counted(tmp_path) -> None:
    label = np.array([[7, 9, 9, 200], [0, 7, 8, 200]], np.uint8)
    write_pair(tmp_path, "train", "a", np.zeros((2, 4, 3), np.uint8), label)
    write_classes(
        tmp_path,
        "name,id,color\nroad,7,#804080\ncar,9,#400080\ncar,8,#000001\nunlabelled,200,\nroad,0,\n",
    )
    dataset = FolderDataset.open(tmp_path, "train")
    assert [(c.name, c.color) for c in dataset.meaning.classes] == [
        ("road", (128, 64, 128)),
        ("car", (64, 0, 128)),
    ]
    np.testing.assert_array_equal(dataset[0][1], [[0, 1, 1, 255], [0, 0, 1, 255]])
    assert dataset.check().pixels.tolist() == [3, 3]


def test_class_file_may_be_spelt_in_american_and_british(tmp_path) -> None:
    write_pair(tmp_path, "train", "a", np.zeros((1, 2, 3), np.uint8), np.array([[1, 2]], np.uint8))
    write_classes(tmp_path, "name,id,colour\nroad,1,#804080\ncar,3,#400080\nunlabeled,2,\n")
    dataset = FolderDataset.open(tmp_path, "train")
    assert [c.color for c in dataset.meaning.classes] == [(128, 64, 128), (64, 0, 128)]
    np.testing.assert_array_equal(dataset[0][1], [[0, 255]])


def test_classes_without_colours_are_shown_in_camvids_or_in_different_ones(tmp_path) -> None:
    write_pair(tmp_path, "train", "a", *scene(0))
    names = ("road", "tram", "Unlabelled", "bus", "kerb")
    rows = "".join(f"{name},{i}\n" for i, name in enumerate(names))
    write_classes(tmp_path, f"Name,ID\n{rows}")
    classes = FolderDataset.open(tmp_path, "train").meaning.classes
    assert [c.name for c in classes] == ["road", "tram", "bus", "kerb"]
    assert classes[0].color == (128, 64, 128)
    assert len({c.color for c in classes} | {(0, 0, 0)}) == 5


def test_label_with_a_palette_counts_by_its_colours(tmp_path) -> None:
    write_pair(tmp_path, "train", "a", np.zeros((1, 2, 3), np.uint8), np.zeros((1, 2), np.uint8))
    chunks = {
        b"IHDR": struct.pack(">IIBBBBB", 2, 1, 8, 3, 0, 0, 0),
        b"PLTE": bytes((0, 0, 0, 128, 64, 128, 64, 0, 128)),
        b"IDAT": zlib.compress(bytes((0, 2, 1))),
        b"IEND": b"",
    }
    parts = (
        struct.pack(">I", len(body)) + kind + body + struct.pack(">I", zlib.crc32(kind + body))
        for kind, body in chunks.items()
    )
    (tmp_path / "trainannot" / "a.png").write_bytes(b"\x89PNG\r\n\x1a\n" + b"".join(parts))
    np.testing.assert_array_equal(FolderDataset.open(tmp_path, "train")[0][1], [[8, 3]])


def test_label_of_two_pictures_is_refused(tmp_path) -> None:
    write_pair(tmp_path, "train", "a", *scene(0))
    shutil.copy(tmp_path / "train" / "a.png", tmp_path / "train" / "a.jpg")
    with pytest.raises(DatasetError, match=r"a\.png in .* is the label of two pictures"):
        FolderDataset.open(tmp_path, "train")


def test_camvids_own_colours_become_the_eleven_classes(tmp_path) -> None:
    # Columns: Sky, Wall, LaneMkgsDriv, Truck_Bus, TrafficLight, Animal, by label_colors.txt.
    colors = [(128, 128, 128), (64, 192, 0), (128, 0, 192), (192, 128, 192), (0, 64, 64)]
    label = np.array([[*colors, (64, 128, 64)]], np.uint8)
    write_pair(tmp_path, "train", "a", np.zeros((1, 6, 3), np.uint8), label[..., ::-1])
    dataset = FolderDataset.open(tmp_path, "train")
    np.testing.assert_array_equal(dataset[0][1], [[0, 1, 3, 8, 6, 255]])


def test_all_thirty_two_colours_of_camvid_are_known() -> None:
    assert len(LabelMeaning.camvid().colors) == 32
    assert set(LabelMeaning.camvid().colors.values()) == {*range(11), 255}


def test_colour_without_a_meaning_is_named(tmp_path) -> None:
    label = np.zeros((2, 2, 3), np.uint8)
    label[1, 0] = (3, 2, 1)  # BGR
    write_pair(tmp_path, "train", "a", np.zeros((2, 2, 3), np.uint8), label)
    with pytest.raises(DatasetError, match=r"a\.png has the colour \[1, 2, 3\] at row 1, column 0"):
        FolderDataset.open(tmp_path, "train").check()


@pytest.mark.parametrize(
    ("text", "said"),
    [
        ("", "names 0 classes"),
        ("name,id,color\nroad,0,#804080\n", "names 1 classes"),
        ("name,id,color\nroad,0,\ncar,1,\nbus,1,\n", "gives the id 1 to car and to bus"),
        ("name;id;color\nroad;0;\n", "with commas between"),
        ("name,id\n\n,\nroad,0\n   \ncar,x\n", "line 6 has the id 'x'"),
        ("name,id\nroad,0\nRoad,1\n", "gives the name road to road and to Road"),
        ("name,id,color\nroad,,#804080\ncar,,#400080\nbus,,#400080\n", r"to car and to bus"),
        ("name,id,color\nroad,red,#804080\n", r"line 2 has the id 'red'"),
        ("name,id,color\nroad,0,#804080\ncar,1,blue\n", r"line 3 has the colour 'blue'"),
        ("id,color\n0,#804080\n", "begins with the columns id, color"),
        ("name,id,color\nroad,999,\n", r"the id '999'"),
        ("name,id\nroad|,0\ncar,1\n", r"the name 'road\|'; .* with \| between; correct it"),
        ("name,id\nroad|Unlabeled,0\ncar,1\n", r"'road\|Unlabeled'; .* but not unlabelled, with"),
        ("name,id\nro\aad,0\ncar,1\n", r"the name 'ro\\x07ad'; a name is text"),
    ],
)
def test_bad_class_file_is_refused_with_the_line(streets, tmp_path, text, said) -> None:
    shutil.copytree(streets, tmp_path / "data")
    write_classes(tmp_path / "data", text)
    with pytest.raises(DatasetError, match=said):
        FolderDataset.open(tmp_path / "data", "train")


def test_class_file_of_another_encoding_is_to_be_saved_anew(streets, tmp_path) -> None:
    for encoding in ("latin-1", "utf-16"):
        (tmp_path / "classes.csv").write_text("name,id\nStraße,0\nAuto,1\n", encoding=encoding)
        with pytest.raises(DatasetError, match=r"is not in UTF-8 .* save it as UTF-8"):
            FolderDataset.open(streets, "train", tmp_path / "classes.csv")


@pytest.mark.parametrize("suffix", [".JPG", ".jpeg", ".webp", ".bmp", ".tif"])
def test_pictures_of_other_formats_have_png_labels(tmp_path, suffix) -> None:
    write_pair(tmp_path, "train", "a", *scene(0))
    picture = cv2.imread(str(tmp_path / "train" / "a.png"))
    (tmp_path / "train" / "a.png").unlink()
    cv2.imwrite(str(tmp_path / "train" / f"a{suffix}"), picture)
    dataset = FolderDataset.open(tmp_path, "train")
    assert len(dataset) == 1 and dataset[0][0].shape == (96, 128, 3)


def test_counts_tell_frequency_presence_and_rarity(tmp_path) -> None:
    for name, label in (("a", [[0, 0, 0, 1]]), ("b", [[0] * 98 + [2, 255]])):
        target = np.array(label, np.uint8)
        write_pair(tmp_path, "train", name, np.zeros((*target.shape, 3), np.uint8), target)
    counts = FolderDataset.open(tmp_path, "train").check()
    assert counts.pixels[:3].tolist() == [101, 1, 1]
    assert counts.pictures[:3].tolist() == [2, 1, 1]
    assert counts.shared_pixels[:3].tolist() == [4 + 99, 4, 99]
    assert counts.rare == tuple(range(1, 11))
