"""Every kind of film that people have, made here and held against what PyAV says of both ends."""

import mmap
import shutil
from dataclasses import replace
from fractions import Fraction
from itertools import pairwise
from pathlib import Path

import av
import cv2
import numpy as np
import pytest
from films import Film, frame_times, packets, pictures, repacked, rich_film
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from roadseg.errors import ConfigError, RoadsegError, VideoError
from roadseg.infer.config import InferConfig
from roadseg.infer.offline import infer


def planes(path: Path) -> list[tuple[np.ndarray, ...]]:
    """Y, U and V of each frame, to the bit."""
    found = []
    with av.open(path) as container:
        for frame in container.decode(video=0):
            rows = [
                np.frombuffer(memoryview(p), np.uint8).reshape(p.height, -1) for p in frame.planes
            ]
            found.append(tuple(r[:, : p.width] for r, p in zip(rows, frame.planes, strict=True)))
    return found


def tags(path: Path) -> tuple[int, int, int, int]:
    """Matrix, range, primaries and transfer of the first frame."""
    with av.open(path) as container:
        frame = next(container.decode(video=0))
        return (
            int(frame.colorspace),
            int(frame.color_range),
            int(frame.color_primaries),
            int(frame.color_trc),
        )


CODECS = {
    "h264": (".mp4", Film()),
    "h264 without B-frames": (".mov", Film(options=(("bf", "0"),))),
    "h264 in a transport stream": (".ts", Film()),
    "hevc": (".mp4", Film(codec="libx265", options=(("x265-params", "log-level=none"),))),
    "mpeg4": (".mp4", Film(codec="mpeg4")),
    "mpeg4 with B-frames": (".mkv", Film(codec="mpeg4", options=(("bf", "2"),))),
    "mpeg2": (".mpg", Film(codec="mpeg2video", time_base=Fraction(1, 25), times=tuple(range(12)))),
    "mjpeg": (".avi", Film(codec="mjpeg", pixel_format="yuvj420p", color=(5, 2, 2, 2))),
    "vp8": (".webm", Film(codec="libvpx", options=(("b", "1000000"),))),
    "vp9": (".webm", Film(codec="libvpx-vp9", options=(("b", "1000000"),))),
    "av1": (".mp4", Film(codec="libsvtav1", size_hw=(64, 64), options=(("preset", "12"),))),
    "ffv1": (".mkv", Film(codec="ffv1")),
}


@pytest.mark.parametrize("kind", CODECS)
def test_film_of_every_codec_keeps_its_times_and_pictures(
    plain, tmp_path, kind, monkeypatch
) -> None:
    monkeypatch.setenv("SVT_LOG", "1")
    suffix, film = CODECS[kind]
    source = film.write(tmp_path / f"film{suffix}")
    result = infer(replace(plain, source=source, crf=10))
    original = frame_times(source)
    moved = original[0] if original[0] > 1 else 0  # a far start becomes zero
    assert frame_times(plain.out) == [time - moved for time in original]
    assert result.warnings == () and len(original) >= 10
    for one, other in zip(pictures(source), pictures(plain.out), strict=True):
        assert cv2.PSNR(one, other) > 30


TIMES = {
    "constant": tuple(range(10)),
    "variable": (0, 1, 5, 6, 13, 14, 15, 40),
    "one frame": (0,),
    "two frames": (0, 3),
    "late start": tuple(range(5, 15)),
    "far start": tuple(range(500, 510)),
}


@pytest.mark.parametrize("suffix", [".mp4", ".mkv"])
@pytest.mark.parametrize("kind", TIMES)
def test_every_frame_keeps_its_time(plain, tmp_path, kind, suffix) -> None:
    source = Film(times=TIMES[kind], sounds=1).write(tmp_path / "film.mkv")
    out = tmp_path / f"out{suffix}"
    infer(replace(plain, source=source, out=out))
    moved = 50 if kind == "far start" else 0
    assert frame_times(out) == [Fraction(t, 10) - moved for t in TIMES[kind]]


@pytest.mark.parametrize("time_base", [Fraction(1, 30), Fraction(1001, 30000), Fraction(1, 90000)])
def test_odd_time_bases_are_kept(plain, time_base) -> None:
    Film(time_base=time_base, times=(0, 1, 2, 4, 7, 11)).write(plain.source)
    infer(plain)
    assert frame_times(plain.out) == frame_times(plain.source)


SPACES = [(1, 1, 1, 1), (6, 1, 6, 6), (5, 1, 5, 6), (6, 2, 6, 6), (1, 2, 1, 13), (9, 1, 9, 14)]


@pytest.mark.parametrize("color", SPACES)
@pytest.mark.parametrize("size", [(48, 64), (48, 66), (50, 70)])
def test_untouched_pictures_are_the_decoders_to_the_bit(plain, color, size) -> None:
    Film(color=color, size_hw=size).write(plain.source)
    infer(replace(plain, crf=0))  # lossless in H.264
    assert tags(plain.out) == color
    for one, other in zip(planes(plain.source), planes(plain.out), strict=True):
        for a, b in zip(one, other, strict=True):
            np.testing.assert_array_equal(a, b)


def test_pixels_that_no_class_paints_are_the_decoders_to_the_bit(plain, tmp_path) -> None:
    Film().write(plain.source)
    infer(replace(plain, crf=0, alpha=0.7, classes=("road",), masks=tmp_path / "masks"))
    for number, (one, other) in enumerate(
        zip(planes(plain.source), planes(plain.out), strict=True)
    ):
        path = tmp_path / "masks" / f"{number:06d}.png"
        others = cv2.imread(str(path), cv2.IMREAD_GRAYSCALE) != 3
        assert 0 < others.mean() < 1
        for a, b, mask in zip(one, other, (others, *[others[::2, ::2]] * 2), strict=True):
            np.testing.assert_array_equal(a[mask], b[mask])


def test_film_of_class_ids_has_the_masks_and_the_times(plain, tmp_path) -> None:
    Film(times=(0, 1, 5, 6, 30), size_hw=(50, 66)).write(plain.source)
    ids = tmp_path / "ids.mkv"
    infer(replace(plain, masks=tmp_path / "masks"))
    infer(replace(plain, masks=ids, overwrite=True))
    assert frame_times(ids) == frame_times(plain.source)
    with av.open(ids) as container:
        maps = [frame.to_ndarray() for frame in container.decode(video=0)]
    for class_map, path in zip(maps, sorted((tmp_path / "masks").iterdir()), strict=True):
        np.testing.assert_array_equal(class_map, cv2.imread(str(path), cv2.IMREAD_GRAYSCALE))
    with pytest.raises(VideoError, match=r"--masks .* exists"):
        infer(replace(plain, masks=ids, out=tmp_path / "other.mp4"))


FORMATS = {
    "4:2:2": Film(pixel_format="yuv422p"),
    "4:4:4": Film(pixel_format="yuv444p"),
    "10 bits": Film(pixel_format="yuv420p10le"),
    "10 bits, HDR": Film(
        codec="libx265",
        pixel_format="yuv420p10le",
        color=(9, 1, 9, 16),
        options=(("x265-params", "log-level=none"),),
    ),
    "4:4:4 of 10 bits": Film(pixel_format="yuv444p10le", color=(1, 1, 1, 1)),
    "full range": Film(pixel_format="yuv444p", color=(6, 2, 6, 6)),
    "grey": Film(codec="ffv1", pixel_format="gray"),
    "RGB": Film(codec="ffv1", pixel_format="bgr0"),
    "odd size": Film(codec="ffv1", size_hw=(49, 65)),
}


@pytest.mark.parametrize("kind", FORMATS)
def test_other_formats_keep_their_colours(plain, tmp_path, kind) -> None:
    source = FORMATS[kind].write(tmp_path / "film.mkv")
    result = infer(replace(plain, source=source, crf=4))
    height, width = FORMATS[kind].size_hw
    for one, other in zip(pictures(source), pictures(plain.out), strict=True):
        assert other.shape == (height + height % 2, width + width % 2, 3)
        shown = other[:height, :width]
        assert np.abs(one.astype(int) - shown).mean() < 4  # colour has half the sides
        assert np.abs(one.mean(axis=(0, 1)) - shown.mean(axis=(0, 1))).max() < 1.6
    deep = "10" in kind
    assert [("10 bits a sample" in w) for w in result.warnings] == [True] * deep
    if FORMATS[kind].color:
        assert tags(plain.out) == FORMATS[kind].color


@pytest.mark.parametrize("degrees", [0, 90, 180, 270])
@pytest.mark.parametrize("mirrored", [False, True])
def test_film_comes_out_upright(plain, tmp_path, degrees, mirrored) -> None:
    flat = Film(size_hw=(48, 80)).write(tmp_path / "flat.mp4")
    repacked(flat, plain.source, lambda _, s: s.set_display_rotation(degrees, hflip=mirrored))
    infer(replace(plain, crf=4))
    for original, copy in zip(pictures(flat), pictures(plain.out), strict=True):
        turned = np.rot90(original, degrees // 90)  # both count anticlockwise
        expected = turned[:, ::-1] if mirrored else turned
        assert copy.shape == expected.shape
        assert cv2.PSNR(np.ascontiguousarray(expected), copy) > 33


@pytest.mark.parametrize("suffix", [".mp4", ".mov", ".mkv"])
@pytest.mark.parametrize("sounds", [0, 1, 2])
def test_all_sound_is_copied_packet_by_packet(plain, tmp_path, sounds, suffix) -> None:
    source = Film(sounds=sounds, times=tuple(range(30))).write(tmp_path / f"film{suffix}")
    out = tmp_path / f"out{suffix}"
    infer(replace(plain, source=source, out=out))
    with av.open(out) as container:
        assert [s.type for s in container.streams] == ["video"] + ["audio"] * sounds
    for number in range(sounds):
        assert packets(out, "audio", number) == packets(source, "audio", number)


def copy_all(source: av.container.InputContainer, target: av.container.OutputContainer) -> None:
    streams = [target.add_stream_from_template(s, opaque=True) for s in source.streams]
    for packet in source.demux():
        if packet.dts is not None:
            packet.stream = streams[packet.stream.index]
            target.mux(packet)


def with_edit_list(source: Path, path: Path, hidden_s: Fraction) -> Path:
    """The same film in which an edit list hides the beginning."""
    as_it_is = {"avoid_negative_ts": "disabled", "use_editlist": "1"}
    with av.open(source) as film, av.open(path, "w", container_options=as_it_is) as target:
        streams = [target.add_stream_from_template(s, opaque=True) for s in film.streams]
        for packet in film.demux():
            if packet.dts is not None:
                units = int(hidden_s / packet.time_base)
                packet.pts, packet.dts = packet.pts - units, packet.dts - units
                packet.stream = streams[packet.stream.index]
                target.mux(packet)
    return path


@pytest.mark.parametrize("suffix", [".mp4", ".mkv"])
@pytest.mark.parametrize("start", [0.0, 0.5])
def test_what_an_edit_list_hides_stays_hidden(plain, tmp_path, suffix, start) -> None:
    film = Film(times=tuple(range(30)), sounds=1, options=(("g", "8"),))
    bare = film.write(tmp_path / "bare.mp4")
    source = with_edit_list(bare, plain.source, Fraction("1.2"))
    out = tmp_path / f"out{suffix}"
    result = infer(replace(plain, source=source, out=out, crf=4, start_s=start))
    first = 12 + round(start * 10)
    assert frame_times(out) == [Fraction(i, 10) for i in range(30 - first)]
    for one, other in zip(pictures(bare)[first:], pictures(out), strict=True):
        assert cv2.PSNR(one, other) > 33
    tail = [data for time, data in packets(bare, "audio") if time >= Fraction(first, 10)]
    heard = [(time, data) for time, data in packets(out, "audio") if time >= 0]
    assert [data for _, data in heard] == tail
    assert 0 <= heard[0][0] < Fraction(1, 5)
    assert (result.frames, result.warnings) == (30 - first, ())
    if suffix == ".mkv":  # it has no way to hide more than what a decoder starts with
        assert len(packets(out, "audio")) <= len(tail) + 2


def test_sound_that_comes_first_stays_where_it_is(plain, tmp_path) -> None:
    late = Film(times=tuple(range(8, 30)), sounds=1).write(tmp_path / "late.mp4")
    source = tmp_path / "film.mkv"
    with av.open(late) as film, av.open(source, "w") as target:  # sound is the first stream
        streams = {s.index: target.add_stream_from_template(s) for s in reversed(film.streams)}
        for packet in film.demux():
            if packet.dts is not None:
                packet.stream = streams[packet.stream.index]
                target.mux(packet)
    with av.open(source) as film:
        assert [s.type for s in film.streams] == ["audio", "video"]
    assert packets(source, "audio")[0][0] < frame_times(source)[0] - Fraction(1, 2)
    for suffix in (".mp4", ".mkv"):
        out = tmp_path / f"out{suffix}"
        infer(replace(plain, source=source, out=out))
        assert frame_times(out) == frame_times(source)
        assert packets(out, "audio") == packets(source, "audio")


def test_frame_of_8k_goes_through(plain) -> None:
    columns = np.tile(np.arange(16, 235, dtype=np.uint8).repeat(36)[:7680], (4320 * 3 // 2, 1))
    with av.open(plain.source, "w") as container:
        stream = container.add_stream("libx264", rate=10, options={"preset": "ultrafast"})
        stream.width, stream.height = 7680, 4320
        container.mux(stream.encode(av.VideoFrame.from_ndarray(columns, "yuv420p")))
        container.mux(stream.encode(None))
    result = infer(replace(plain, preset="ultrafast", crf=18))
    assert result.frames == 1
    for one, other in zip(planes(plain.source)[0], planes(plain.out)[0], strict=True):
        assert other.shape == one.shape and one.shape[1] in (7680, 3840)
        assert np.abs(one[::9, ::9].astype(int) - other[::9, ::9]).max() < 8


def test_subtitles_chapters_and_tags_are_copied(plain, tmp_path) -> None:
    source = rich_film(tmp_path / "rich.mkv")
    out = tmp_path / "out.mkv"
    infer(replace(plain, source=source, out=out))
    assert packets(out, "subtitle") == packets(source, "subtitle")
    with av.open(out) as copy, av.open(source) as original:
        kept = {k.lower(): v for k, v in copy.metadata.items()}
        assert kept["title"] == "To work" and kept["location"] == "+48.2082+016.3738/"
        assert kept["creation_time"].startswith("2024-05-06T07:08:09")
        assert [s.metadata.get("language") for s in copy.streams.audio] == ["deu", "fra"]
        assert [
            (c["start"] * c["time_base"], c["end"] * c["time_base"], c["metadata"])
            for c in copy.chapters()
        ] == [
            (c["start"] * c["time_base"], c["end"] * c["time_base"], c["metadata"])
            for c in original.chapters()
        ]


def test_chapters_and_tags_survive_in_mp4(plain, tmp_path) -> None:
    rich = rich_film(tmp_path / "rich.mkv")
    with (
        av.open(rich) as words,
        av.open(tmp_path / "bare.mp4") as source,
        av.open(plain.source, "w") as target,
    ):
        target.metadata.update(words.metadata)
        target.set_chapters(words.chapters())
        copy_all(source, target)
    infer(replace(plain, start_s=1.0, end_s=5.0))
    with av.open(plain.out) as copy:
        assert copy.metadata["creation_time"].startswith("2024-05-06T07:08:09")
        assert copy.metadata["title"] == "To work"
        found = [
            (float(c["start"] * c["time_base"]), c["metadata"]["title"]) for c in copy.chapters()
        ]
    assert found == [(0.0, "part 0"), (1.0, "part 1"), (3.0, "part 2")]


def test_subtitles_that_the_format_cannot_hold_stay_behind_with_a_word(plain, tmp_path) -> None:
    source = rich_film(tmp_path / "rich.mkv")
    result = infer(replace(plain, source=source))
    assert any("srt subtitles, cannot go into mp4; it was left out" in w for w in result.warnings)
    assert frame_times(plain.out) == frame_times(source)


@pytest.mark.parametrize(
    ("suffix", "codec", "found"),
    [
        (".mp4", None, "h264"),
        (".mp4", "hevc", "hevc"),
        (".mkv", "vp9", "vp9"),
        (".webm", None, "vp9"),
        (".webm", "av1", "libdav1d"),
        (".mp4", "av1", "libdav1d"),
    ],
)
def test_codec_goes_by_suffix_or_choice(plain, tmp_path, suffix, codec, found, capfd) -> None:
    Film(size_hw=(64, 64)).write(plain.source)
    out = tmp_path / f"o{suffix}"
    infer(replace(plain, out=out, codec=codec, crf=20))
    assert frame_times(out) == frame_times(plain.source)
    with av.open(out) as container:
        assert container.streams.video[0].codec_context.name == found
    for one, other in zip(pictures(plain.source), pictures(out), strict=True):
        assert cv2.PSNR(one, other) > 24
    assert capfd.readouterr() == ("", "")


@pytest.mark.parametrize(
    ("change", "said"),
    [
        ({"codec": "xvid"}, r"--codec is 'xvid'; \.mp4 takes one of: h264"),
        ({"crf": 99}, "--crf is 99; for h264 it must be from 0"),
        ({"preset": "fastest"}, "--preset is 'fastest'; h264 has: ultrafast"),
    ],
)
def test_encodings_that_do_not_exist_are_refused(plain, change, said) -> None:
    Film().write(plain.source)
    with pytest.raises(ConfigError, match=said):
        infer(replace(plain, **change))


def test_quality_and_preset_change_the_size(plain, tmp_path) -> None:
    Film(times=tuple(range(30)), size_hw=(96, 128)).write(plain.source)
    sizes = []
    for number, change in enumerate(({"crf": 10}, {"crf": 40}, {"crf": 10, "preset": "slow"})):
        out = tmp_path / f"{number}.mp4"
        infer(replace(plain, out=out, **change))
        sizes.append(out.stat().st_size)
    assert sizes[1] < sizes[0] and sizes[2] != sizes[0]


def test_size_is_held_to_about_the_sources(plain) -> None:
    noise = Film(times=tuple(range(80)), size_hw=(96, 128), options=(("crf", "38"),))
    noise.write(plain.source)
    infer(replace(plain, alpha=0.5, outline=True))
    assert plain.out.stat().st_size < 2.5 * plain.source.stat().st_size


@pytest.fixture(scope="module")
def front(tmp_path_factory) -> Path:
    """A film with its index in front, so that what is there of it reads."""
    path = tmp_path_factory.mktemp("front") / "film.mp4"
    film = Film(times=tuple(range(40)), sounds=1, options=(("g", "8"),)).write(path)
    front = path.with_name("front.mp4")
    with av.open(film) as source, av.open(front, "w", options={"movflags": "faststart"}) as target:
        copy_all(source, target)
    return front


@pytest.mark.parametrize("tenth", range(10))
def test_film_cut_off_anywhere_gives_what_is_there_or_a_sentence(plain, front, tenth) -> None:
    data = front.read_bytes()
    plain.source.write_bytes(data[: len(data) * tenth // 10])
    try:
        result = infer(plain)
    except VideoError as error:
        assert tenth < 5 and str(plain.source) in str(error)
        return
    if tenth < 9:  # half a second may be missing unsaid
        assert any("ends early" in warning for warning in result.warnings)
    times = frame_times(plain.out)
    assert set(times) <= set(frame_times(front)) and times == sorted(times)
    assert result.frames < 40


def test_flipped_bits_are_counted_and_survived(plain, front) -> None:
    data = bytearray(front.read_bytes())
    for place in range(len(data) // 2, len(data), 997):
        data[place] ^= 0x55
    plain.source.write_bytes(data)
    result = infer(plain)
    assert result.frames >= 20
    assert any(" s" in w and "is damaged" in w for w in result.warnings)
    assert all(a < b for a, b in pairwise(frame_times(plain.out)))
    with pytest.raises(VideoError, match=r"is damaged at \d.*--strict"):
        infer(replace(plain, strict=True, overwrite=True))


def test_times_that_go_back_are_put_right(plain, tmp_path) -> None:
    film = Film(codec="mjpeg", pixel_format="yuvj420p").write(tmp_path / "film.mkv")
    jumbled = tmp_path / "jumbled.mkv"
    as_it_is = {"avoid_negative_ts": "disabled"}
    with av.open(film) as source, av.open(jumbled, "w", options=as_it_is) as target:
        stream = target.add_stream_from_template(source.streams.video[0])
        for number, packet in enumerate(source.demux(video=0)):
            if packet.dts is not None:
                packet.dts = packet.pts - 1000
                packet.pts -= 250 if number == 5 else 0
                packet.stream = stream
                target.mux(packet)
    result = infer(replace(plain, source=jumbled))
    assert result.frames == 10
    assert all(a < b for a, b in pairwise(frame_times(plain.out)))
    assert any("no time, or one before" in warning for warning in result.warnings)


def test_film_that_changes_its_size_stays_one_film(plain, tmp_path) -> None:
    sizes = (48, 64), (96, 128)
    films = [Film(size_hw=size).write(tmp_path / f"{size[0]}.h264") for size in sizes]
    source = tmp_path / "film.h264"
    source.write_bytes(b"".join(film.read_bytes() for film in films))
    result = infer(replace(plain, source=source))
    assert result.frames == 20
    assert any("changes its size; 10 frames were brought to 64x48" in w for w in result.warnings)
    assert {picture.shape for picture in pictures(plain.out)} == {(48, 64, 3)}


def test_interlaced_film_is_named(plain) -> None:
    options = (("flags", "+ilme+ildct"), ("x264-params", "tff=1"))
    Film(options=options).write(plain.source)
    result = infer(plain)
    assert result.frames == 10
    assert any("is interlaced" in warning for warning in result.warnings)


@pytest.mark.skipif(not Path("/proc/self/statm").exists(), reason="needs Linux's /proc")
def test_memory_stays_flat_over_thousands_of_frames(plain) -> None:
    Film(times=tuple(range(2000)), size_hw=(144, 192)).write(plain.source)
    pages: dict[int, int] = {}

    def measure(done: int, _total: int | None) -> None:
        if done in (600, 1950):
            pages[done] = int(Path("/proc/self/statm").read_text().split()[1])

    infer(replace(plain, alpha=0.5), measure)
    grown_bytes = (pages[1950] - pages[600]) * mmap.PAGESIZE
    assert grown_bytes < 20e6  # those frames are 56 MB as YUV alone, and busy threads take some


@pytest.fixture(scope="module")
def tiny(tmp_path_factory) -> bytes:
    return (
        Film(size_hw=(16, 16), times=(0, 1, 2, 3), sounds=1)
        .write(tmp_path_factory.mktemp("tiny") / "tiny.mkv")
        .read_bytes()
    )


@pytest.mark.parametrize("sound", ["auto", "aac"])
def test_sound_of_a_kind_that_nobody_knows_does_not_cost_the_film(plain, tiny, sound) -> None:
    assert tiny.count(b"A_AAC") == 1
    plain.source.write_bytes(tiny.replace(b"A_AAC", b"A_NEW"))
    result = infer(replace(plain, sound=sound))
    assert result.frames == len(frame_times(plain.out)) == 4
    assert any("cannot go into mp4; it was left out" in warning for warning in result.warnings)


@settings(max_examples=40, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(data=st.data())
def test_any_bytes_end_in_a_film_or_a_sentence(plain: InferConfig, tiny: bytes, data) -> None:
    mutated = bytearray(tiny)
    for place, value in data.draw(
        st.lists(st.tuples(st.integers(0, len(tiny) - 1), st.integers(0, 255)), max_size=12)
    ):
        mutated[place] = value
    cut = data.draw(st.integers(0, len(tiny)))
    plain.source.write_bytes(mutated[:cut] if data.draw(st.booleans()) else mutated)
    try:
        infer(replace(plain, overwrite=True))
    except RoadsegError:
        pass
    else:
        assert frame_times(plain.out)
    for left in plain.out.parent.glob("roadseg-*"):
        left.unlink()
    shutil.rmtree(plain.out, ignore_errors=True)
