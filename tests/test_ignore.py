"""What is left out of the picture: boxes, masks, and what never moves along a drive."""

import os
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path

import av
import cv2
import numpy as np
import pytest
from moving import texture

from roadseg.errors import ConfigError
from roadseg.infer.config import settings_record
from roadseg.infer.ignored import ignored_pixels, with_unmoving
from roadseg.infer.offline import infer
from roadseg.segmentation.unmoving import find_unmoving
from roadseg.spec import IGNORE_INDEX
from roadseg.video.read.source import probe

HEIGHT, WIDTH = 270, 480
BONNET, BAR, CLOCK = np.s_[230:, :], np.s_[:, :40], np.s_[6:16, 330:430]


def drive(pictures: int = 24, *, camera: bool, moves: bool = True) -> Iterator[np.ndarray]:
    """Pictures (H, W) of a scene that passes, with or without what belongs to a camera."""
    scene = texture(3, (HEIGHT, 2000))[..., 0]
    for number in range(pictures):
        left = 37 * number if moves else 0
        picture = scene[:, left : left + WIDTH].copy()
        if camera:
            picture[BONNET] = 20 + number % 3  # the light changes on it
            cv2.putText(picture, "12:34 26/11", (330, 16), cv2.FONT_HERSHEY_PLAIN, 1, 255)
            picture[BAR] = 0
        yield picture


def write(path: Path, pictures: Iterator[np.ndarray]) -> Path:
    with av.open(path, "w") as container:
        stream = container.add_stream("libx264", rate=10, options={"crf": "10"})
        stream.height, stream.width, stream.pix_fmt = HEIGHT, WIDTH, "yuv420p"
        for picture in pictures:
            rgb = np.repeat(picture[..., None], 3, axis=2)
            container.mux(stream.encode(av.VideoFrame.from_ndarray(rgb, "rgb24")))
        container.mux(stream.encode(None))
    return path


def test_bonnet_bar_and_clock_are_found_and_the_scene_is_not() -> None:
    found = find_unmoving(np.stack(list(drive(camera=True))))
    assert found[BONNET].mean() > 0.98 and found[BAR].mean() > 0.95 and found[CLOCK].mean() > 0.9
    assert not found[30:225, 45:].any() and not found[:, 45:310][:225].any()  # edges have a width


def test_nothing_is_found_where_all_moves_or_nothing_does_or_too_little_is_known() -> None:
    for pictures in (
        drive(camera=False),
        drive(camera=False, moves=False),
        drive(camera=True, moves=False),
        drive(7, camera=True),
    ):
        assert not find_unmoving(np.stack(list(pictures))).any()


def test_what_is_left_out_is_unlabelled_in_masks_and_statistics_and_unpainted(plain) -> None:
    write(plain.source, drive(6, camera=True))
    mask = np.zeros((HEIGHT, WIDTH), np.uint8)
    mask[BAR] = 255
    cv2.imwrite(str(plain.source.with_name("bar.png")), mask)
    given = ("0,230,480,40", str(plain.source.with_name("bar.png")))
    folder = plain.source.with_name("masks")
    out = plain.source.with_name("%d.png")
    painted = replace(plain, alpha=1.0, ignore=given, masks=folder, out=out)
    result = infer(painted)
    ids = cv2.imread(str(folder / "000003.png"), cv2.IMREAD_GRAYSCALE)
    left_out = np.zeros_like(mask, np.bool_)
    left_out[BAR] = left_out[BONNET] = True
    np.testing.assert_array_equal(ids == IGNORE_INDEX, left_out)
    assert sum(result.class_shares.values()) == pytest.approx(1 - left_out.mean())
    picture = cv2.imread(str(plain.source.with_name("3.png")), cv2.IMREAD_GRAYSCALE)
    assert picture[:220, :36].max() < 8 and abs(int(picture[250, 200]) - 20) < 8


def test_part_of_a_drive_leaves_out_what_the_whole_does(plain) -> None:
    write(plain.source, drive(40, camera=True))
    info = probe(plain.source)
    whole = with_unmoving(replace(plain, ignore=("bonnet",)), info)
    part = with_unmoving(replace(plain, ignore=("bonnet",), start_s=2.0, end_s=3.0), info)
    assert whole.unmoving == part.unmoving == settings_record(part)["unmoving"]
    pixels = ignored_pixels(part, info)
    assert pixels[BONNET].mean() > 0.95 and pixels[BAR].mean() > 0.9
    assert pixels[40:220, 60:].mean() < 0.01


@pytest.mark.parametrize(
    ("given", "message"),
    [
        ("bonet", "--ignore is 'bonet'"),
        ("1,2,3", "--ignore is '1,2,3'"),
        ("480,0,10,10", "has nothing of the picture, which is 480x270"),
        ("0,0,0,10", "has nothing of the picture"),
        ("film.mp4", "is no picture that can be read"),
        ("square.png", "is 50x50, and the video 480x270"),
    ],
)
def test_what_cannot_be_left_out_is_said(plain, given, message, monkeypatch) -> None:
    monkeypatch.chdir(plain.source.parent)
    write(plain.source, drive(2, camera=False))
    cv2.imwrite("square.png", np.zeros((50, 50), np.uint8))
    with pytest.raises(ConfigError, match=message):
        infer(replace(plain, ignore=(given,)))
    assert not plain.out.exists()


def test_mask_of_a_name_that_is_no_utf8_is_left_out_too(plain, monkeypatch) -> None:
    monkeypatch.chdir(plain.source.parent)
    write(plain.source, drive(2, camera=False))
    mask = np.zeros((HEIGHT, WIDTH), np.uint8)
    mask[BAR] = 255
    name = os.fsdecode(b"m\xe4sk.png")
    Path(name).write_bytes(cv2.imencode(".png", mask)[1])
    ignored = ignored_pixels(replace(plain, ignore=(name,)), probe(plain.source))
    np.testing.assert_array_equal(ignored, mask > 0)
