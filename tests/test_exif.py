"""Photos are labelled as viewers turn them, one by one or in a series."""

import struct
from pathlib import Path

import numpy as np
import pytest

import roadseg
from roadseg.video.read.images import exif_turn
from roadseg.video.read.read_log import ReadLog
from roadseg.video.read.source import decode, probe

Image = pytest.importorskip("PIL.Image", reason="Pillow writes Exif records")
ImageOps = pytest.importorskip("PIL.ImageOps")

KINDS = (".jpg", ".png", ".webp", ".tif")
HW = (64, 96)
PHOTO = np.zeros((*HW, 3), np.uint8)
PHOTO[:32, :48], PHOTO[:32, 48:], PHOTO[32:, :48] = (250, 20, 20), (20, 250, 20), (20, 20, 250)


def write_photo(path: Path, orientation: int) -> Path:
    """A photo of four colours that is to be turned."""
    image = Image.fromarray(PHOTO)
    exif = image.getexif()
    exif[0x0112] = orientation
    image.save(path, exif=exif)
    return path


def as_viewed(path: Path) -> np.ndarray:
    """(H, W, 3) RGB as Pillow turns it."""
    return np.asarray(ImageOps.exif_transpose(Image.open(path)).convert("RGB")).astype(int)


@pytest.mark.parametrize("orientation", range(1, 9))
@pytest.mark.parametrize("suffix", KINDS)
def test_photo_is_turned_as_viewers_turn_it(suffix, orientation, tmp_path) -> None:
    path = write_photo(tmp_path / f"photo{suffix}", orientation)
    info = probe(path)
    (frame,) = decode(info, ReadLog())
    expected = as_viewed(path)
    assert info.size_hw == expected.shape[:2] == (HW if orientation < 5 else HW[::-1])
    assert np.abs(frame.rgb().astype(int) - expected).mean() < 15  # of colour at half resolution


def test_photos_of_a_series_are_turned_each_for_itself(tmp_path) -> None:
    photos = [write_photo(tmp_path / f"{number}.jpg", number) for number in range(1, 5)]
    frames = list(decode(probe(tmp_path), ReadLog()))
    for path, frame in zip(photos, frames, strict=True):
        assert np.abs(frame.rgb().astype(int) - as_viewed(path)).mean() < 15


def test_film_and_picture_of_a_photo_have_the_same_labels_size(tmp_path) -> None:
    path = write_photo(tmp_path / "photo.jpg", 6)
    (result,) = roadseg.stream(path, size_hw=(64, 32), steady=0)
    assert result.class_map.shape == HW[::-1]
    assert roadseg.segment(path, size_hw=(64, 32)).class_map.shape == HW[::-1]


@pytest.mark.parametrize(
    "record",
    [
        b"",
        b"Exif\0\0II*\0",
        b"Exif\0\0II*\0" + struct.pack("<IH", 8, 65535),
        b"Exif\0\0MM\0*" + struct.pack(">IHHHIHH", 8, 1, 0x0112, 3, 1, 77, 0),
        b"Exif\0\0MM\0*" + struct.pack(">I", 2**32 - 1),
    ],
)
def test_damaged_record_turns_nothing(record) -> None:
    assert exif_turn(record) == (1, 0, 0, 1)


def test_record_may_have_either_order_of_bytes() -> None:
    for mark, order in ((b"II*\0", "<"), (b"MM\0*", ">")):
        entry = struct.pack(f"{order}IHHHIHH", 8, 1, 0x0112, 3, 1, 3, 0)
        assert exif_turn(b"\xff\xd8Exif\0\0" + mark + entry) == (-1, 0, 0, -1)
