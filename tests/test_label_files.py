"""Labels are read as what they plainly are, however a tool has stored them."""

import io
import struct
import zlib
from pathlib import Path

import cv2
import numpy as np
import pytest
from conftest import file_ids, scene, write_pair
from hypothesis import given
from hypothesis import strategies as st

from roadseg.data.folder import FolderDataset, labels_without_picture
from roadseg.data.label_files import palette_of, read_label, with_indices_shown
from roadseg.data.meaning import CAMVID_COLORS, LabelMeaning
from roadseg.errors import DatasetError
from roadseg.spec import CLASS_NAMES, IGNORE_INDEX, NUM_CLASSES
from roadseg.video.png import SIGNATURE, chunk

Image = pytest.importorskip("PIL.Image", reason="Pillow writes PNGs with palettes")

CAMVID = LabelMeaning.camvid()
IDS = file_ids(scene(0)[1])
"""(H, W) ids as CamVid's label files have them."""
COLORS = np.array([CAMVID_COLORS[name][0] for name in CLASS_NAMES[: NUM_CLASSES + 1]], np.uint8)


def voc_palette() -> np.ndarray:
    """Pascal VOC's 256 colours: the bits of an id, dealt out to red, green and blue."""
    ids = np.arange(256)
    bits = [[(ids >> (3 * k + c) & 1) << (7 - k) for k in range(8)] for c in range(3)]
    return np.stack([sum(levels) for levels in bits], axis=1).astype(np.uint8)


def png(array: np.ndarray, palette: np.ndarray | None = None, **options: object) -> bytes:
    image, file = Image.fromarray(array), io.BytesIO()
    if palette is not None:
        image.putpalette(palette.tobytes())
    image.save(file, "PNG", **options)
    return file.getvalue()


def encoded(array: np.ndarray) -> bytes:
    return cv2.imencode(".png", array)[1].tobytes()


ALPHA = np.full((*IDS.shape, 1), 255, np.uint8)
STORED = {
    "ids": encoded(IDS),
    "ids in 16 bits": encoded(IDS.astype(np.uint16)),
    "three equal channels": png(np.dstack([IDS] * 3)),
    "three equal channels and alpha": png(np.concatenate([np.dstack([IDS] * 3), ALPHA], axis=2)),
    "grey and alpha": png(np.dstack([IDS, ALPHA])),
    "VOC's palette": png(IDS, voc_palette()),
    "VOC's palette of 16 entries": png(IDS, voc_palette()[:16], bits=4),
    "a transparent entry": png(IDS, voc_palette(), transparency=0),
    "a palette of CamVid's colours in another order": png(11 - IDS, COLORS[::-1].copy()),
    "RGB": png(COLORS[IDS]),
    "RGBA": png(np.concatenate([COLORS[IDS], ALPHA // 2], axis=2)),
    "RGB in 16 bits": encoded(COLORS[IDS][..., ::-1].astype(np.uint16) * 257),
}


@pytest.mark.parametrize("stored", STORED.values(), ids=STORED)
def test_the_same_label_is_read_from_every_kind_of_file(stored, tmp_path) -> None:
    (tmp_path / "label.png").write_bytes(stored)
    target = CAMVID.target(read_label(tmp_path / "label.png", CAMVID), tmp_path)
    np.testing.assert_array_equal(target, scene(0)[1])


def test_black_and_dark_red_of_vocs_palette_are_ids_and_no_building(tmp_path) -> None:
    (tmp_path / "label.png").write_bytes(png(IDS % 2, voc_palette()))
    np.testing.assert_array_equal(read_label(tmp_path / "label.png", CAMVID), IDS % 2)


@given(depth=st.sampled_from([1, 2, 4, 8]), size=st.integers(1, 256), seed=st.integers(0, 99))
def test_indices_are_those_that_were_written(depth, size, seed) -> None:
    rng = np.random.default_rng(seed)
    palette = rng.integers(1, 256, (min(size, 2**depth), 3)).astype(np.uint8)
    indices = rng.integers(0, len(palette), (5, 7)).astype(np.uint8)
    data = png(indices, palette, bits=depth)
    shown = cv2.imdecode(np.frombuffer(with_indices_shown(data), np.uint8), cv2.IMREAD_COLOR)
    np.testing.assert_array_equal(shown[..., 0], indices)
    np.testing.assert_array_equal(palette_of(data)[: len(palette)], palette)


@given(data=st.binary(max_size=80))
def test_bytes_that_are_no_label_are_refused(data, tmp_path_factory) -> None:
    path = tmp_path_factory.mktemp("label") / "label.png"
    for content in (data, STORED["VOC's palette"][:40] + data, STORED["ids"][: -len(data) or None]):
        path.write_bytes(content)
        try:
            assert read_label(path, CAMVID).dtype == np.uint8
        except DatasetError as error:
            assert str(path) in str(error)


def test_label_that_is_a_jpeg_within_is_refused(tmp_path) -> None:
    path = tmp_path / "label.png"
    path.write_bytes(cv2.imencode(".jpg", np.full((8, 8), 3, np.uint8))[1].tobytes())
    with pytest.raises(DatasetError, match=r"label\.png is a JPEG, which changes ids"):
        read_label(path, CAMVID)


def test_file_that_says_it_is_enormous_is_named(tmp_path) -> None:
    header = chunk(b"IHDR", struct.pack(">IIBBBBB", 100_000, 100_000, 8, 0, 0, 0, 0))
    (tmp_path / "label.png").write_bytes(SIGNATURE + header + chunk(b"IDAT", zlib.compress(b"")))
    with pytest.raises(DatasetError, match=r"label\.png cannot be read as a picture"):
        read_label(tmp_path / "label.png", CAMVID)


def test_label_may_end_in_upper_case(tmp_path) -> None:
    write_pair(tmp_path, "train", "a", *scene(0))
    label = tmp_path / "trainannot" / "a.png"
    label.rename(label.with_suffix(".PNG"))
    picture = tmp_path / "train" / "a.png"
    picture.rename(picture.with_suffix(".PNG"))
    assert len(FolderDataset.open(tmp_path, "train")) == 1
    folders = tmp_path / "train", tmp_path / "trainannot"
    assert labels_without_picture(*folders) == []
    (tmp_path / "trainannot" / "b.PNG").write_bytes(STORED["ids"])
    assert [p.name for p in labels_without_picture(*folders)] == ["b.PNG"]


def photo(rgb: np.ndarray, orientation: int) -> bytes:
    """A JPEG that is to be turned."""
    image, file = Image.fromarray(rgb), io.BytesIO()
    exif = image.getexif()
    exif[0x0112] = orientation
    image.save(file, "JPEG", exif=exif, quality=95)
    return file.getvalue()


def upright(stored: np.ndarray, orientation: int) -> np.ndarray:
    """What Exif 2.3 says that the eight orientations mean."""
    row, column = {1: (1, 1), 2: (1, -1), 3: (-1, -1), 4: (-1, 1)}.get(orientation, (0, 0))
    if row:
        return stored[::row, ::column]
    row, column = {5: (1, 1), 6: (1, -1), 7: (-1, -1), 8: (-1, 1)}[orientation]
    return stored.swapaxes(0, 1)[::row, ::column]


@pytest.mark.parametrize("orientation", range(1, 9))
@pytest.mark.parametrize("drawn", ["upright", "as stored"])
def test_photo_and_label_are_turned_alike(orientation, drawn, tmp_path) -> None:
    if drawn == "as stored" and orientation < 5:
        pytest.skip("the label's size does not tell")
    rgb, target = scene(0)
    label = upright(IDS, orientation) if drawn == "upright" else IDS
    for folder, name, data in (
        ("train", "a.jpg", photo(rgb, orientation)),
        ("trainannot", "a.png", encoded(np.ascontiguousarray(label))),
    ):
        (tmp_path / folder).mkdir()
        (tmp_path / folder / name).write_bytes(data)
    picture, found = FolderDataset.open(tmp_path, "train")[0]
    np.testing.assert_array_equal(found, upright(target, orientation))
    assert picture.shape[:2] == found.shape
    difference = np.abs(picture.astype(int) - upright(rgb, orientation)).mean()
    assert difference < 8  # JPEG


@pytest.mark.parametrize(
    "text",
    [
        "name,r,g,b\nroad,128,64,128\nsky,128,128,128\nVoid,0,0,0\n",
        "road,128,64,128\nsky,128,128,128\nVoid,0,0,0\n",
        "128,64,128,road\n128,128,128,sky\n\n0,0,0,Void\n",
        "r,g,b,name\n128,64,128,road\n128, 128, 128, sky\n0,0,0,Void\n",
        "Blue,Green,Red,Name\n128,64,128,road\n128,128,128,sky\n0,0,0,Void\n",
        "name,color\nroad,#804080\nsky,#808080\nVoid,#000000\n",
    ],
)
def test_colours_of_classes_are_read_from_numbers_too(text, tmp_path) -> None:
    (tmp_path / "classes.csv").write_text(text)
    meaning = LabelMeaning.of(tmp_path)
    assert [c.name for c in meaning.classes] == ["road", "sky", "Void"]
    assert meaning.colors == {(128, 64, 128): 0, (128, 128, 128): 1, (0, 0, 0): 2}
    assert meaning.ids == {} and IGNORE_INDEX not in meaning.colors.values()


@pytest.mark.parametrize("row", ["road,1,2,256", "road,1,2,", "road,a,2,3", "road,1,2,-3"])
def test_numbers_that_are_no_colour_are_named(row, tmp_path) -> None:
    (tmp_path / "classes.csv").write_text(f"name,r,g,b\nsky,1,2,3\n{row}\n")
    with pytest.raises(DatasetError, match="line 3 has the colour"):
        LabelMeaning.of(Path(tmp_path))
