"""Where films come from besides files: series of images, the network."""

import os
import socket
from dataclasses import replace
from fractions import Fraction
from pathlib import Path

import cv2
import numpy as np
import pytest
from cameras import served
from conftest import SAMPLE
from films import Film, frame_times, packets, pictures, scene

from roadseg.errors import VideoError
from roadseg.infer.offline import infer
from roadseg.video.read import source as video_source


def write_images(folder: Path, count: int, suffix: str = ".png") -> Path:
    folder.mkdir()
    for number in range(count):
        path = folder / f"shot {number}%d{suffix}"
        cv2.imwrite(str(path), scene(number, (48, 64))[..., ::-1])
    return folder


@pytest.mark.parametrize("suffix", [".png", ".jpg", ".bmp", ".tif", ".webp"])
def test_images_come_in_natural_order_at_the_rate_asked_for(plain, tmp_path, suffix) -> None:
    folder = write_images(tmp_path / "shots", 12, suffix)
    (folder / "notes.txt").write_text("not an image")
    (folder / f"._shot 0%d{suffix}").write_text("macOS's own")
    result = infer(replace(plain, source=folder, image_fps=Fraction(30000, 1001), crf=4))
    assert (result.frames, result.warnings) == (12, ())
    assert frame_times(plain.out) == [i * Fraction(1001, 30000) for i in range(12)]
    for number, picture in enumerate(pictures(plain.out)):
        assert cv2.PSNR(picture, scene(number, (48, 64))) > 27  # colour has half the sides


EXIF = {
    number: b"Exif\0\0MM\0*\0\0\0\x08\0\x01\x01\x12\0\x03\0\0\0\x01" + bytes([0, number]) + bytes(6)
    for number in (1, 3, 6, 8)
}
"""Photos' headers by the orientation they tell."""


@pytest.mark.parametrize(("number", "clockwise"), [(1, 0), (6, 1), (3, 2), (8, 3)])
def test_photos_come_out_upright(plain, tmp_path, number, clockwise) -> None:
    (tmp_path / "shots").mkdir()
    picture = scene(0, (48, 64))
    data = cv2.imencode(".jpg", picture[..., ::-1])[1].tobytes()
    header = b"\xff\xe1" + (len(EXIF[number]) + 2).to_bytes(2, "big") + EXIF[number]
    (tmp_path / "shots" / "1.jpg").write_bytes(data[:2] + header + data[2:])
    infer(replace(plain, source=tmp_path / "shots", crf=4))
    expected = np.ascontiguousarray(np.rot90(picture, -clockwise))
    assert cv2.PSNR(pictures(plain.out)[0], expected) > 27


def test_images_of_a_pattern_and_a_cut(plain, tmp_path) -> None:
    folder = write_images(tmp_path / "shots", 20)
    (folder / "._shot 1.png").write_text("macOS's own")
    pattern = folder / "shot 1*.png"  # 1, 10, 11, ... 19
    assert infer(replace(plain, source=pattern)).frames == 11
    cut = replace(plain, source=folder, start_s=0.2, end_s=0.6, overwrite=True)
    assert infer(cut).frames == 10
    assert frame_times(plain.out) == [Fraction(i, 25) for i in range(10)]


def test_rate_of_images_is_told_to_change_nothing_in_a_video(plain) -> None:
    result = infer(replace(plain, source=SAMPLE, end_s=0.1, image_fps=Fraction(30)))
    assert result.warnings == (f"--fps 30 is for images; {SAMPLE} keeps its own times",)


def test_images_that_cannot_be_read_are_left_out_and_named(plain, tmp_path) -> None:
    folder = write_images(tmp_path / "shots", 6)
    (folder / "shot 2%d.png").write_bytes(b"no image")
    (folder / "shot 4%d.png").write_bytes(b"")
    result = infer(replace(plain, source=folder))
    assert frame_times(plain.out) == [Fraction(i, 25) for i in (0, 1, 3, 5)]
    assert any("2 of the images" in w and "shot 2%d.png" in w for w in result.warnings)
    with pytest.raises(VideoError, match="--strict"):
        infer(replace(plain, source=folder, strict=True, overwrite=True))


def test_pictures_of_which_a_part_is_missing_are_named(plain, tmp_path) -> None:
    folder = write_images(tmp_path / "shots", 3, ".jpg")
    assert infer(replace(plain, source=folder)).warnings == ()
    torn = folder / "shot 1%d.jpg"
    torn.write_bytes(torn.read_bytes()[:-300])
    series, single = (replace(plain, source=path, overwrite=True) for path in (folder, torn))
    said = f"1 of the images of {folder} could be read only in part, the first is {torn.name}"
    assert infer(series).warnings == (said,)
    assert infer(single).warnings == (f"{torn} is damaged; a part of the picture is missing",)
    with pytest.raises(VideoError, match="--strict"):
        infer(replace(series, strict=True))


@pytest.mark.parametrize("size_hw", [(1, 1), (1, 64), (3000, 1)], ids=str)
def test_pictures_a_pixel_wide_or_high_are_labelled_and_shown(plain, tmp_path, size_hw) -> None:
    cv2.imwrite(str(tmp_path / "a.png"), np.full((*size_hw, 3), 200, np.uint8))
    beside = {"report": tmp_path / "r.html", "stats": tmp_path / "s.csv"}
    config = replace(plain, source=tmp_path / "a.png", outline=True, **beside)
    assert infer(config).frames == 1
    (picture,) = pictures(config.out)
    assert picture.shape == (*(side + side % 2 for side in size_hw), 3)  # x264 takes even sides


@pytest.mark.skipif(not hasattr(os, "mkfifo"), reason="Windows has no pipes in folders")
def test_pipe_that_nobody_writes_to_is_not_waited_for(plain, tmp_path) -> None:
    pipe = tmp_path / "shot.png"
    os.mkfifo(pipe)
    for path in (pipe, Path(os.devnull)):
        with pytest.raises(VideoError, match="a video is read more than once; give a file"):
            infer(replace(plain, source=path))
    folder = write_images(tmp_path / "shots", 3)
    pipe.rename(folder / "shot 1.png")
    result = infer(replace(plain, source=folder))
    assert result.frames == 3
    assert "1 of the images" in result.warnings[0] and "is shot 1.png" in result.warnings[0]


def test_images_of_other_sizes_are_brought_to_the_firsts(plain, tmp_path) -> None:
    folder = write_images(tmp_path / "shots", 2)
    cv2.imwrite(str(folder / "z.png"), np.zeros((30, 50, 3), np.uint8))
    result = infer(replace(plain, source=folder))
    assert result.frames == 3
    assert any("1 frames were brought to 64x48" in warning for warning in result.warnings)


@pytest.mark.parametrize("name", ["empty", "empty/*.png", "*.nothing"])
def test_no_image_at_all_is_said(plain, tmp_path, name) -> None:
    (tmp_path / "empty").mkdir()
    with pytest.raises(VideoError, match=r"(finds|holds) no video and no image"):
        infer(replace(plain, source=tmp_path / name))


def test_folder_without_an_intact_image_is_said(plain, tmp_path) -> None:
    (tmp_path / "shots").mkdir()
    (tmp_path / "shots" / "a.png").write_bytes(b"no image")
    with pytest.raises(VideoError, match="no image that can be read"):
        infer(replace(plain, source=tmp_path / "shots"))


def test_film_from_the_network_has_its_sound(plain) -> None:
    Film(sounds=1, times=tuple(range(20))).write(plain.source)
    with served(plain.source.parent) as address:
        infer(replace(plain, source=f"{address}/film.mp4"))
        with pytest.raises(VideoError, match=r"none\.mp4 cannot be read as a video"):
            infer(replace(plain, source=f"{address}/none.mp4", out=plain.out.with_name("n.mp4")))
    assert frame_times(plain.out) == frame_times(plain.source)
    assert packets(plain.out, "audio") == packets(plain.source, "audio")


def test_film_in_segments_from_the_network_has_its_sound(plain, tmp_path) -> None:
    folder = tmp_path / "segments"
    folder.mkdir()
    film = Film(sounds=1, times=tuple(range(40)), options=(("g", "10"),))
    film.write(folder / "film.m3u8")
    assert len(list(folder.glob("*.ts"))) > 1
    with served(folder) as address:
        infer(replace(plain, source=f"{address}/film.m3u8"))
    assert np.diff(np.array(frame_times(plain.out))).tolist() == [Fraction(1, 10)] * 39
    sound = packets(plain.out, "audio")
    original = [
        data for segment in sorted(folder.glob("*.ts")) for _, data in packets(segment, "audio")
    ]
    assert len(sound) == len(original)


def test_address_that_stays_silent_is_given_up(plain, monkeypatch) -> None:
    monkeypatch.setattr(video_source, "NETWORK_TIMEOUT_S", 0.3)
    with socket.create_server(("127.0.0.1", 0)) as silent:
        address = f"http://127.0.0.1:{silent.getsockname()[1]}/film.mp4"
        with pytest.raises(VideoError, match="sent nothing for too long"):
            infer(replace(plain, source=address))
