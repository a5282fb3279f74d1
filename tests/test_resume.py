"""Nothing is lost: what an unfinished run wrote plays, and another run goes on from it."""

import signal
import subprocess
import sys
from collections.abc import Iterable, Iterator
from dataclasses import replace
from fractions import Fraction
from pathlib import Path

import av
import cv2
import numpy as np
import pytest
from conftest import patience
from films import Film, frame_times, packets, pictures

import roadseg.video.write.film
from roadseg.errors import ConfigError, OutputError, VideoError
from roadseg.infer.config import InferConfig
from roadseg.infer.offline import infer
from roadseg.infer.steps import note_view
from roadseg.paint.in_view import HOLD_S
from roadseg.segmentation.config import ModelConfig
from roadseg.segmentation.label import warm_up_s
from roadseg.spec import ModelSpec
from roadseg.video.frame import Frame, SegmentedFrame
from roadseg.video.picture import Picture
from roadseg.video.write.part import (
    Kept,
    behind,
    cut_torn_head,
    measure_part,
    part_path,
    settings_path,
)

LONG = Film(times=tuple(t for t in range(130) if t % 7), sounds=1)


class Interrupted(Exception):
    pass


def interrupt_at(frame: int, config: InferConfig) -> None:
    def stop(done: int, _total: int | None) -> None:
        if done == frame:
            raise Interrupted

    with pytest.raises(Interrupted):
        infer(config, stop)


@pytest.fixture
def long(plain, tmp_path) -> InferConfig:
    beside = {"masks": tmp_path / "masks", "stats": tmp_path / "stats.jsonl"}
    config = replace(plain, alpha=0.5, crf=10, **beside)
    LONG.write(config.source)
    return config


def masks(config: InferConfig) -> Iterator[tuple[str, bytes]]:
    for path in sorted(config.masks.iterdir()):
        yield path.name, path.read_bytes()


def whole_of(config: InferConfig, suffix: str = ".mp4") -> InferConfig:
    """The same run to other places, never interrupted."""
    folder = config.out.parent
    return replace(
        config,
        out=folder / f"whole{suffix}",
        masks=folder / "whole",
        stats=config.stats.with_stem("whole"),
    )


def assert_same_film(one: InferConfig, other: InferConfig) -> None:
    assert frame_times(one.out) == frame_times(other.out)
    assert packets(one.out, "audio") == packets(other.out, "audio")
    assert list(masks(one)) == list(masks(other))
    assert one.stats.read_text() == other.stats.read_text()
    for a, b in zip(pictures(one.out), pictures(other.out), strict=True):
        assert cv2.PSNR(a, b) > 33  # the encoder began anew in between


@pytest.mark.parametrize(
    ("suffix", "renames"), [(".mp4", True), (".mkv", True), (".webm", True), (".mp4", False)]
)
def test_resumed_film_is_the_uninterrupted_one(
    long, tmp_path, monkeypatch, suffix, renames
) -> None:
    if not renames:  # as on Windows
        monkeypatch.setattr(roadseg.video.write.film, "RENAMES_OPEN_FILES", False)
    if suffix == ".webm":
        Film(times=LONG.times).write(long.source)  # it cannot hold the sound
    whole = whole_of(long, suffix)
    infer(whole)
    torn = replace(long, out=tmp_path / f"torn{suffix}", resume=True)
    interrupt_at(70, torn)
    interrupt_at(100, torn)
    result = infer(torn)
    assert result.frames == len(LONG.times) and 60 <= result.kept_frames <= 105
    if suffix == ".webm":
        assert frame_times(torn.out) == frame_times(whole.out)
        assert list(masks(torn)) == list(masks(whole))
        assert torn.stats.read_text() == whole.stats.read_text()
    else:
        assert_same_film(torn, whole)
    assert not part_path(torn.out).exists() and not settings_path(torn.out).exists()
    assert not [path for path in tmp_path.iterdir() if "part" in path.name]


@pytest.mark.parametrize("share", [0.02, 0.3, 0.6, 0.97])
def test_part_torn_at_any_byte_plays_and_goes_on(long, share) -> None:
    whole = whole_of(long)
    infer(whole)
    interrupt_at(105, long)
    part = part_path(long.out)
    part.write_bytes(part.read_bytes()[: int(part.stat().st_size * share)])
    if share > 0.1:
        cut_torn_head(part)  # the only bytes that keep a part from playing
        with av.open(part) as container:
            assert next(container.decode(video=0)).width == 64
    result = infer(replace(long, resume=True))
    assert (result.kept_frames > 0) == (share > 0.1)
    assert_same_film(long, whole)


RUNNER = """
import os, signal, sys
from pathlib import Path
from roadseg.backends.runtimes import BACKENDS, Runtime
from roadseg.infer.config import InferConfig
from roadseg.infer.offline import infer
from roadseg.video.write.part import part_path

sys.path.insert(0, sys.argv[1])
BACKENDS["brightness"] = Runtime((".json",), "brightness_backend", "")
source, out, weights, masks, stats = map(Path, sys.argv[3:])

def die(*_):
    part = part_path(out)
    if part.exists() and part.stat().st_size >= int(sys.argv[2]):
        os.kill(os.getpid(), signal.SIGKILL)

infer(InferConfig(source=source, out=out, weights=weights, masks=masks, stats=stats, crf=10,
    outline=False, legend="none", resume=True, steady=0), die)
"""
"""A run whose process is killed at the frame by which its part has a size."""


def kill_at(config: InferConfig, size: int) -> None:
    files = (config.source, config.out, config.weights, config.masks, config.stats)
    arguments = (Path(__file__).parent, size, *files)
    done = subprocess.run(
        [sys.executable, "-c", RUNNER, *map(str, arguments)], timeout=patience(60), check=False
    )
    assert done.returncode == -signal.SIGKILL


@pytest.mark.parametrize("killed_at", [(70_000, 110_000), (0, 50_000)])
def test_killed_run_leaves_a_part_that_plays_and_goes_on(long, killed_at) -> None:
    Film(times=tuple(range(400)), sounds=1).write(long.source)
    whole = whole_of(long)
    infer(whole)
    for size in killed_at:
        kill_at(long, size)
        if size:
            with av.open(part_path(long.out)) as container:
                assert next(container.decode(video=0)).width == 64
    result = infer(replace(long, resume=True))
    assert result.frames == 400 and 0 < result.kept_frames < 400
    assert_same_film(long, whole)


def test_cut_is_resumed_where_it_stood(long) -> None:
    cut = replace(long, start_s=3.0, end_s=12.0)
    whole = whole_of(cut)
    infer(whole)
    interrupt_at(60, cut)
    assert infer(replace(cut, resume=True)).kept_frames > 20
    assert_same_film(cut, whole)


def test_other_settings_do_not_go_on(long) -> None:
    interrupt_at(50, long)
    with pytest.raises(ConfigError, match=r"other settings \(alpha\).*--resume"):
        infer(replace(long, resume=True, alpha=0.7))
    LONG.write(long.source)
    with pytest.raises(ConfigError, match="source's size and date"):
        infer(replace(long, resume=True))
    settings_path(long.out).unlink()
    with pytest.raises(VideoError, match="no readable record"):
        infer(replace(long, resume=True))
    assert part_path(long.out).exists()


@pytest.mark.parametrize(
    ("missing", "said"),
    [("masks", "no class map of"), ("stats", r"no .*roadseg-part\.stats\.jsonl")],
)
def test_what_the_unfinished_run_did_not_write_is_missed(long, missing, said) -> None:
    interrupt_at(50, replace(long, **{missing: None}))
    with pytest.raises(VideoError, match=said):
        infer(replace(long, resume=True))
    assert part_path(long.out).exists()


@pytest.mark.parametrize("torn", ["", "half a li"])
def test_stats_in_a_table_go_on_under_one_head(long, torn) -> None:
    long = replace(long, masks=None, stats=long.stats.with_suffix(".csv"))
    whole = replace(whole_of(long), masks=None)
    infer(whole)
    interrupt_at(70, long)
    with part_path(long.stats).open("a") as file:
        file.write(torn)
    assert infer(replace(long, resume=True)).kept_frames > 20
    assert long.stats.read_bytes() == whole.stats.read_bytes()
    assert not part_path(long.stats).exists()


def test_report_needs_a_run_of_its_own(long, tmp_path) -> None:
    with pytest.raises(ConfigError, match="--report, which needs the whole video"):
        replace(long, resume=True, report=tmp_path / "drive.html")


def test_without_a_part_resuming_is_beginning(long) -> None:
    result = infer(replace(long, resume=True))
    assert (result.frames, result.kept_frames) == (len(LONG.times), 0)


def test_run_that_does_not_begin_leaves_the_part_of_another_alone(long) -> None:
    interrupt_at(50, long)
    kept = part_path(long.out).read_bytes()
    with pytest.raises(ConfigError, match="cat"):
        infer(replace(long, classes=("cat",), overwrite=True))
    assert part_path(long.out).read_bytes() == kept


@pytest.mark.parametrize(
    ("given", "how"),
    [
        ({}, "--resume to go on"),
        ({"report": "drive.html"}, "--resume and leave out --report to go on"),
        ({"masks": "ids.mkv"}, "--resume and leave out --masks to go on"),
    ],
)
def test_without_resume_nothing_that_was_labelled_is_dropped(long, tmp_path, given, how) -> None:
    interrupt_at(105, long)
    kept = {path: path.read_bytes() for path in tmp_path.rglob("*") if path.is_file()}
    again = replace(long, **{name: tmp_path / file for name, file in given.items()})
    said = rf"part\.out\.mp4 holds \d+ s of video .*{how}.*--overwrite"
    with pytest.raises(OutputError, match=said):
        infer(again)
    assert {path: path.read_bytes() for path in tmp_path.rglob("*") if path.is_file()} == kept
    assert infer(replace(long, resume=True)).kept_frames > 20


def test_part_too_short_to_go_on_from_is_in_nobodys_way(long) -> None:
    interrupt_at(2, long)
    assert infer(long).frames == len(LONG.times)


def test_images_of_an_unfinished_run_are_not_dropped_either(long, tmp_path) -> None:
    images = replace(long, out=tmp_path / "images" / "%06d.png", masks=None, stats=None)
    interrupt_at(50, images)
    with pytest.raises(
        OutputError, match=r"holds \d+ images .* move them away, or add --overwrite"
    ):
        infer(replace(images, end_s=1.0))
    infer(replace(images, end_s=1.0, overwrite=True))
    assert len(list(images.out.parent.iterdir())) < 20


def test_with_overwrite_the_film_is_begun_anew(long) -> None:
    interrupt_at(50, long)
    result = infer(replace(long, alpha=0.3, overwrite=True))
    assert (result.frames, result.kept_frames) == (len(LONG.times), 0)
    assert np.abs(np.diff([float(t) for t in frame_times(long.out)])).max() < 0.3


@pytest.mark.parametrize("suffix", [".mp4", ".mov", ".mkv"])
def test_one_second_kept_is_enough_to_go_on_from(long, tmp_path, suffix) -> None:
    whole = whole_of(long, suffix)
    infer(whole)
    torn = replace(long, out=tmp_path / f"torn{suffix}", resume=True)
    interrupt_at(14, torn)
    assert 0 < infer(torn).kept_frames < 20
    assert_same_film(torn, whole)


def test_sound_that_ends_early_does_not_keep_pictures_back(long) -> None:
    Film(times=tuple(range(130)), sounds=1, sound_s=2.0).write(long.source)
    interrupt_at(125, long)
    assert measure_part(part_path(long.out)).frames >= 100


def test_head_of_a_piece_that_a_full_disk_tore_does_not_cost_the_part(long) -> None:
    interrupt_at(70, long)
    part = part_path(long.out)
    data = part.read_bytes()
    kept = measure_part(part).frames
    head = data.rindex(b"moof", 0, len(data) * 2 // 3) - 4
    for torn in (head + 1, head + 40):
        part.write_bytes(data[:torn])
        cut_torn_head(part)
        assert part.stat().st_size == head
        assert 0 < measure_part(part).frames < kept


@pytest.mark.skipif(not Path("/proc/self/mem").exists(), reason="needs a file that fails to read")
def test_part_that_cannot_be_read_is_not_taken_for_an_empty_one(tmp_path) -> None:
    part = tmp_path / "film.part.mp4"
    part.symlink_to("/proc/self/mem")  # opens, and gives an I/O error when it is read
    with pytest.raises(VideoError, match=r"film\.part\.mp4 cannot be read \(Input/output error\)"):
        measure_part(part)
    part.unlink()
    part.write_bytes(b"")
    assert measure_part(part).frames == 0


def test_kept_frames_lead_in_for_as_long_as_the_past_matters() -> None:
    assert warm_up_s(ModelConfig(steady=0)) == 0
    assert warm_up_s(ModelConfig(steady=0.6, min_confidence=0)) == 1
    assert warm_up_s(ModelConfig(steady=0.6)) == pytest.approx(1.24, abs=0.01)
    assert warm_up_s(ModelConfig(steady=0.9)) == pytest.approx(4.81, abs=0.01)
    picture = Picture.from_rgb(np.zeros((2, 2, 3), np.uint8))
    frames = [Frame(picture, pts, Fraction(1, 10)) for pts in range(60)]
    given = list(behind(iter(frames), Kept(40, 3.9), 1.0))
    assert [frame.pts for frame in given if frame.leads_in] == list(range(30, 40))
    assert [frame.pts for frame in given if not frame.leads_in] == list(range(40, 60))


def test_legend_after_a_join_names_what_it_would_without() -> None:
    spec = ModelSpec(arch="unet", width=4)
    picture, road = (
        Picture.from_rgb(np.zeros((16, 16, 3), np.uint8)),
        np.full((16, 16), 3, np.uint8),
    )
    frames = [Frame(picture, pts, Fraction(1, 10)) for pts in range(60)]

    def in_view(frames: Iterable[Frame]) -> list[tuple[int, frozenset[int] | None]]:
        """What is in view by time; there is a car for a moment, at 3.5 s."""
        maps = {frame.pts: np.where(frame.pts == 35, 8, road).astype(np.uint8) for frame in frames}
        items = (SegmentedFrame(frame, maps[frame.pts], spec) for frame in frames)
        return [(item.frame.pts, item.in_view) for item in note_view(items)]

    whole = in_view(frames)
    assert [pts for pts, ids in whole if 8 in ids] == list(range(35, 56))
    assert in_view(list(behind(iter(frames), Kept(40, 3.9), HOLD_S))) == whole[40:]
