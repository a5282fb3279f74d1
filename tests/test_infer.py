"""The whole pipeline on the real clip, checked against what FFmpeg says of input and output."""

import threading
from dataclasses import replace
from fractions import Fraction
from itertools import pairwise
from pathlib import Path

import av
import cv2
import numpy as np
import pytest
from conftest import SAMPLE, WEIGHTS
from films import Film, frame_times, packets, pictures, repacked, with_wide_pixels

from roadseg.errors import ConfigError, OutputError, VideoError
from roadseg.infer.config import InferConfig
from roadseg.infer.offline import InferResult, infer
from roadseg.spec import PALETTES

ROAD, SKY = 3, 0


@pytest.fixture(scope="module")
def whole(tmp_path_factory: pytest.TempPathFactory) -> tuple[InferConfig, InferResult, list]:
    folder = tmp_path_factory.mktemp("whole")
    config = InferConfig(
        source=SAMPLE,
        out=folder / "overlay.mp4",
        weights=WEIGHTS,
        masks=folder / "masks",
        outline=False,
    )
    seen: list[tuple[int, int | None]] = []
    return config, infer(config, lambda done, total: seen.append((done, total))), seen


def test_every_frame_keeps_its_time(whole) -> None:
    config, result, seen = whole
    times = [time for time, _ in packets(SAMPLE, "video")]
    assert [time for time, _ in packets(config.out, "video")] == times
    assert result.frames == len(times) == 221
    assert seen == [(i, 221) for i in range(1, 222)]


def test_sound_is_copied_packet_by_packet(whole) -> None:
    config, _, _ = whole
    assert packets(config.out, "audio") == packets(SAMPLE, "audio")


def test_output_plays_in_a_browser(whole) -> None:
    config, _, _ = whole
    with av.open(config.out) as container:
        context = container.streams.video[0].codec_context
        assert (context.name, context.pix_fmt) == ("h264", "yuv420p")
        assert (context.width, context.height) == (960, 540)
    start = config.out.read_bytes()[:4096]
    assert start.index(b"moov") < 100  # the index stands in front, so playing starts at once


def test_pixels_of_known_frames_are_the_blend_of_picture_and_palette(whole) -> None:
    config, _, _ = whole
    numbers = (0, 110, 220)
    shown = zip(numbers, pictures(SAMPLE, numbers), pictures(config.out, numbers), strict=True)
    palette = np.array(list(PALETTES["roadseg"].values()), np.float64)
    for number, original, painted in shown:
        class_map = cv2.imread(str(config.masks / f"{number:06d}.png"), cv2.IMREAD_GRAYSCALE)
        assert class_map.shape == (540, 960)
        expected = (original + palette[class_map]) / 2
        below_the_legend = slice(300, None)
        difference = np.abs(painted - expected)[below_the_legend]
        assert difference.mean() < 4  # what x264 loses at this quality, chroma at half size


def test_road_lies_below_and_sky_above(whole) -> None:
    config, result, _ = whole
    class_map = cv2.imread(str(config.masks / "000110.png"), cv2.IMREAD_GRAYSCALE)
    assert (class_map[480:, 300:660] == ROAD).mean() > 0.95
    assert (class_map[:100, 300:660] == SKY).mean() > 0.95
    assert result.class_shares["road"] > 0.2 and result.class_shares["sky"] > 0.2
    assert sum(result.class_shares.values()) + result.unsure_share == pytest.approx(1)


def test_summary_says_where_the_time_went(whole) -> None:
    _, result, _ = whole
    labelling = ["luma", "motion", "keyframes", "segment", "labels", "enlarge"]
    assert [s.name for s in result.stages] == [
        "decode",
        *labelling,
        "view",
        "masks",
        "overlay",
        "encode",
    ]
    assert all(s.items == 221 for s in result.stages)
    for stats in result.stages:
        assert stats.busy_s + stats.starved_s + stats.blocked_s <= result.wall_s
    assert result.bottleneck == max(result.stages, key=lambda s: s.busy_s).name
    assert result.warnings == ()


def test_alpha_zero_gives_the_source_back(tmp_path) -> None:
    config = InferConfig(
        source=SAMPLE,
        out=tmp_path / "o.mkv",
        weights=WEIGHTS,
        alpha=0,
        outline=False,
        legend="none",
        end_s=0.2,
        size_hw=(96, 160),
    )
    assert infer(config).frames == 5
    original, copy = pictures(SAMPLE, [3])[0], pictures(config.out, [3])[0]
    assert cv2.PSNR(original, copy) > 38
    assert np.abs(original.mean(axis=(0, 1)) - copy.mean(axis=(0, 1))).max() < 0.7  # no tint


def test_cut_begins_at_zero_and_has_the_frames_between(tmp_path) -> None:
    config = InferConfig(
        source=SAMPLE,
        out=tmp_path / "o.mp4",
        weights=WEIGHTS,
        start_s=1.0,
        end_s=2.0,
        size_hw=(96, 160),
        side_by_side=True,
    )
    assert infer(config).frames == 25
    assert frame_times(config.out) == [Fraction(i, 25) for i in range(25)]
    copy, original = pictures(config.out, [0])[0], pictures(SAMPLE, [25])[0]
    assert copy.shape == (540, 1920, 3)
    assert cv2.PSNR(original, np.ascontiguousarray(copy[:, :960])) > 35
    sound = packets(config.out, "audio")
    expected = [data for time, data in packets(SAMPLE, "audio") if 1 <= time < 2]
    assert [data for _, data in sound] == expected
    assert 0 <= sound[0][0] < Fraction(1024, 48000)


@pytest.fixture
def quick(tmp_path) -> InferConfig:
    return InferConfig(
        source=SAMPLE, out=tmp_path / "o.mp4", weights=WEIGHTS, size_hw=(32, 64), end_s=1.0
    )


def test_looking_at_every_fourth_frame_keeps_all_of_them_in_order(quick) -> None:
    result = infer(replace(quick, every=4))
    # Every fourth, the last, and some for the first frames, whose flow is torn in part.
    assert result.frames == 25 and 7 < result.network_frames < 12
    assert frame_times(quick.out) == [Fraction(i, 25) for i in range(25)]


@pytest.mark.parametrize(("start_s", "end_s"), [(0.0, 0.3), (0.1, 0.33), (0.13, 0.5), (0.7, 9.0)])
def test_part_of_a_film_is_expected_to_have_the_frames_that_come(quick, start_s, end_s) -> None:
    told = []
    film = Film().write(quick.out.with_name("film.mkv"))
    config = replace(quick, source=film, start_s=start_s, end_s=end_s)
    infer(config, on_frame=lambda done, total: told.append((done, total)))
    assert told[-1] == (len(told), len(told))


def test_film_of_25_hertz_is_looked_at_at_every_second_frame_unless_told_otherwise(quick) -> None:
    assert infer(quick).network_frames == 13
    result = infer(replace(quick, every=1, overwrite=True))
    assert result.network_frames == result.frames == 25


def test_frame_rate_that_is_easy_to_reach_costs_no_look(quick) -> None:
    result = infer(replace(quick, fps_target=1))
    assert result.network_frames == result.frames == 25


def test_frame_rate_out_of_reach_makes_looks_rare(quick) -> None:
    result = infer(replace(quick, fps_target=100_000))
    assert result.frames == 25 and 3 <= result.network_frames <= 6


def test_film_without_sound_is_fine(tmp_path, quick) -> None:
    made = Film(codec="libvpx-vp9").write(tmp_path / "silent.webm")
    assert infer(replace(quick, source=made, end_s=None)).frames == 10
    with av.open(quick.out) as container:
        assert not container.streams.audio


def test_sound_that_mp4_cannot_hold_is_encoded_anew_and_copied_into_mov(tmp_path, quick) -> None:
    source = repacked(SAMPLE, tmp_path / "silent.mkv")
    film = tmp_path / "film.mov"
    with av.open(source) as pictures_only, av.open(film, "w") as target:
        video = target.add_stream_from_template(pictures_only.streams.video[0])
        audio = target.add_stream("pcm_alaw", rate=8000, layout="mono")
        silence = av.AudioFrame.from_ndarray(np.zeros((1, 800), np.int16), "s16", "mono")
        silence.sample_rate, silence.pts = 8000, 0
        for packet in pictures_only.demux(video=0):
            if packet.dts is not None:
                packet.stream = video
                target.mux(packet)
        target.mux(audio.encode(silence))
        target.mux(audio.encode(None))
    infer(replace(quick, source=film))
    with av.open(quick.out) as container:
        assert [stream.codec_context.name for stream in container.streams.audio] == ["aac"]
    infer(replace(quick, source=film, out=tmp_path / "o.mov"))
    assert packets(tmp_path / "o.mov", "audio") == packets(film, "audio")


def remuxed(path: Path, *, until: int | None = None, shift_s: int = 0) -> Path:
    """The sample in another container, sound and all."""
    with av.open(SAMPLE) as source, av.open(path, "w") as target:
        streams = {
            stream.index: target.add_stream_from_template(stream)
            for stream in (source.streams.video[0], source.streams.audio[0])
        }
        for packet in source.demux():
            if packet.dts is not None and packet.time_base is not None:
                shift = int(shift_s / packet.time_base)
                packet.pts, packet.dts = (packet.pts or 0) + shift, packet.dts + shift
                packet.stream = streams[packet.stream.index]
                target.mux(packet)
    if until is not None:
        path.write_bytes(path.read_bytes()[:until])
    return path


@pytest.mark.parametrize("suffix", [".ts", ".mkv"])
def test_cut_of_any_container_has_all_its_frames_and_sound(tmp_path, quick, suffix) -> None:
    source = remuxed(tmp_path / f"film{suffix}")
    result = infer(replace(quick, source=source, start_s=4.0, end_s=5.0))
    assert result.frames == 25 and result.warnings == ()
    assert frame_times(quick.out) == [Fraction(i, 25) for i in range(25)]
    sounds = [time for time, _ in packets(quick.out, "audio")]
    assert 45 <= len(sounds) <= 48 and 0 <= sounds[0] < Fraction(1, 20)


def test_cut_off_matroska_film_is_reported(tmp_path, quick) -> None:
    cut = remuxed(tmp_path / "cut.mkv", until=1_300_000)
    result = infer(replace(quick, source=cut, end_s=None))
    assert 50 < result.frames < 200
    assert any("ends early: it says 8.84 s" in warning for warning in result.warnings)


def test_clock_that_starts_anywhere_is_moved_to_zero(tmp_path, quick) -> None:
    source = remuxed(tmp_path / "late.ts", shift_s=20_000)
    infer(replace(quick, source=source, end_s=0.4))
    assert frame_times(quick.out) == [Fraction(i, 25) for i in range(10)]
    assert 0 <= packets(quick.out, "audio")[0][0] < Fraction(1, 20)


def test_sparse_film_is_not_said_to_end_early(tmp_path, quick) -> None:
    made = Film(times=(0, 1, 2, 3, 40, 50, 60)).write(tmp_path / "sparse.mp4")
    result = infer(replace(quick, source=made, start_s=2.0, end_s=None))
    assert (result.frames, result.warnings) == (3, ())


def test_pixels_that_are_not_square_stay_so(tmp_path, quick) -> None:
    flat = Film(size_hw=(64, 96)).write(tmp_path / "flat.mp4")
    made = with_wide_pixels(flat, tmp_path / "wide.mp4")
    result = infer(replace(quick, source=made, size_hw=None))
    with av.open(quick.out) as container:
        assert container.streams.video[0].sample_aspect_ratio == 2
    height, width = result.network_hw
    assert width / height == pytest.approx(3, rel=0.02)  # 96x64 of pixels twice as wide as high


def test_film_without_any_times_is_given_some(tmp_path, quick) -> None:
    raw = Film().write(tmp_path / "raw.h264")
    result = infer(replace(quick, source=raw, end_s=None))
    assert result.frames == 10
    assert any("frames no time" in warning for warning in result.warnings)
    assert all(a < b for a, b in pairwise(frame_times(quick.out)))


def test_cut_off_film_is_processed_as_far_as_it_goes(tmp_path, quick) -> None:
    # With the index in front, the first half still plays.
    front = repacked(SAMPLE, tmp_path / "front.mp4", movflags="faststart")
    cut = tmp_path / "cut.mp4"
    cut.write_bytes(front.read_bytes()[: front.stat().st_size // 2])
    result = infer(replace(quick, source=cut, end_s=None))
    assert 50 < result.frames < 200
    assert any("ends early: it says 8.84 s" in warning for warning in result.warnings)
    assert len(frame_times(quick.out)) == result.frames


def test_damage_in_the_middle_is_reported_and_survived(tmp_path, quick) -> None:
    made = Film(codec="png", pixel_format="rgb24").write(tmp_path / "made.mov")
    data = bytearray(made.read_bytes())
    middle = data.index(b"\x89PNG", len(data) // 2)
    data[middle : middle + 16] = bytes(16)
    damaged = tmp_path / "damaged.mov"
    damaged.write_bytes(data)
    result = infer(replace(quick, source=damaged, end_s=None))
    assert result.frames == 9
    assert any("1 of its packets did not decode" in warning for warning in result.warnings)


BAD_FILMS = {
    "missing": (None, "does not exist"),
    "empty": (b"", r"is empty \(0 bytes\)"),
    "text": (b"this is no film\n" * 50, "cannot be read as a video"),
    "headless": (SAMPLE.read_bytes()[100_000:120_000], "cannot be read as a video"),
    "beheaded": (SAMPLE.read_bytes()[:20_000], "holds no frame that decodes"),
}


@pytest.mark.parametrize("kind", BAD_FILMS)
def test_bad_film_is_refused_and_leaves_nothing(tmp_path, quick, kind) -> None:
    content, message = BAD_FILMS[kind]
    source = tmp_path / "bad.mp4"
    if content is not None:
        source.write_bytes(content)
    with pytest.raises(VideoError, match=message):
        infer(replace(quick, source=source))
    assert not quick.out.exists() and not list(tmp_path.glob(".*"))


def test_film_of_sound_alone_is_refused(tmp_path, quick) -> None:
    source = tmp_path / "sound.mp4"
    with av.open(SAMPLE) as film, av.open(source, "w") as target:
        stream = target.add_stream_from_template(film.streams.audio[0])
        for packet in film.demux(audio=0):
            if packet.dts is not None:
                packet.stream = stream
                target.mux(packet)
    with pytest.raises(VideoError, match="no video stream, only audio"):
        infer(replace(quick, source=source))


def test_existing_output_is_not_touched(quick) -> None:
    quick.out.write_text("precious")
    with pytest.raises(VideoError, match="--overwrite"):
        infer(quick)
    assert quick.out.read_text() == "precious"
    infer(replace(quick, overwrite=True))
    assert len(frame_times(quick.out)) == 25


def test_folder_of_masks_that_holds_files_is_not_touched(tmp_path, quick) -> None:
    masks = tmp_path / "masks"
    masks.mkdir()
    (masks / "000900.png").write_text("of a longer film")
    (masks / "notes.txt").write_text("precious")
    with pytest.raises(VideoError, match="--masks"):
        infer(replace(quick, masks=masks))
    infer(replace(quick, masks=masks, overwrite=True))
    names = sorted(path.name for path in masks.iterdir())
    assert names == [*(f"{i:06d}.png" for i in range(25)), "notes.txt"]


def test_masks_reach_a_folder_behind_a_link(tmp_path, quick) -> None:
    (tmp_path / "real").mkdir()
    (tmp_path / "link").symlink_to(tmp_path / "real")
    infer(replace(quick, masks=tmp_path / "link", end_s=0.2))
    assert len(list((tmp_path / "real").glob("*.png"))) == 5


@pytest.mark.parametrize(
    ("out", "said"),
    [
        ("no/such/folder/o.mp4", r"o\.mp4 cannot be written \(No such file"),
        ("o.avi", r"has the suffix '\.avi'"),
        ("folder.mp4", "is a folder"),
    ],
)
def test_output_that_cannot_be_written_is_refused(tmp_path, quick, out, said) -> None:
    (tmp_path / "folder.mp4").mkdir()
    with pytest.raises((OutputError, VideoError), match=said):
        infer(replace(quick, out=tmp_path / out))


def test_failure_in_the_middle_leaves_a_part_that_plays_and_no_thread(tmp_path, quick) -> None:
    def reader_fails(done: int, _total: int | None) -> None:
        if done == 5:
            raise RuntimeError("reader")

    masks = tmp_path / "masks"
    with pytest.raises(RuntimeError, match="reader"):
        infer(replace(quick, masks=masks), reader_fails)
    assert not quick.out.exists() and not list(masks.glob("*.png"))
    assert 5 <= len(frame_times(tmp_path / "roadseg-part.o.mp4")) <= 25
    assert not [t for t in threading.enumerate() if t.name.startswith("roadseg")]


def test_unknown_class_is_refused_and_leaves_nothing(tmp_path, quick) -> None:
    with pytest.raises(ConfigError, match="cat"):
        infer(replace(quick, classes=("cat",)))
    assert list(tmp_path.iterdir()) == []
