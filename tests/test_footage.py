"""Files as cameras write them: clocks that jump, sound that no format holds, several cameras."""

import re
from collections.abc import Callable
from dataclasses import replace
from fractions import Fraction
from itertools import pairwise
from pathlib import Path

import av
import pytest
from conftest import script
from films import Film, frame_times, packets, repacked

from roadseg.errors import ConfigError, VideoError
from roadseg.infer.config import InferConfig
from roadseg.infer.offline import infer
from roadseg.video.errors import read_errors, write_errors
from roadseg.video.read import decode
from roadseg.video.read.demux import intact_packets
from roadseg.video.read.read_log import ReadLog
from roadseg.video.write.part import with_dts

CASES = Path(__file__).parent / "cases"
STEP_S = Fraction(1, 25)


def sound_packets(path: Path) -> int:
    with av.open(path) as container:
        if not container.streams.audio:
            return 0
        return sum(packet.dts is not None for packet in container.demux(audio=0))


@pytest.mark.parametrize(
    ("name", "suffix", "frames", "sound", "said"),
    [
        ("alaw.mkv", ".mkv", 50, 95, None),
        ("mjpeg_adpcm.avi", ".mkv", 50, 16, None),
        ("amr.3gp", ".mkv", 50, 101, None),
        ("gps_text.mp4", ".mkv", 50, 95, None),
        ("private.ts", ".mp4", 200, 346, "has a stream that begins late"),
        ("cat_back.ts", ".mp4", 100, 190, "restarts or jumps once, first at 2.00 s"),
        ("wrap.ts", ".mp4", 50, 95, None),
        ("wrap.ts", ".mkv", 50, 95, None),
        ("silent_audio.ts", ".mp4", 50, 0, "aac sound, is announced and never comes"),
        ("h264_b.avi", ".mp4", 50, 95, None),
        ("dupdts.mkv", ".mp4", 50, 95, None),
        ("rear_then_front.mkv", ".mp4", 50, 95, r"others stay behind: 0 \(160x90\)"),
    ],
)
def test_film_as_cameras_write_it_is_labelled_whole(
    plain, tmp_path, name, suffix, frames, sound, said
) -> None:
    out = tmp_path / f"out{suffix}"
    result = infer(replace(plain, source=CASES / name, out=out))
    times = frame_times(out)
    assert len(times) == frames and times[0] < 1
    assert all(abs(b - a - STEP_S) <= Fraction(1, 1000) for a, b in pairwise(times))
    assert sound_packets(out) == sound
    with av.open(out) as container:
        assert container.streams.video[0].width == 320
    if name == "private.ts" and not result.warnings:
        said = None  # PyAV 19 passes over streams that it did not know, and older ones now and then
    assert len(result.warnings) == (said is not None)
    if said:
        assert re.search(said, result.warnings[0])


def times_of(config: InferConfig) -> list[Fraction]:
    infer(replace(config, overwrite=True))
    return frame_times(config.out)


@pytest.mark.parametrize("name", ["cat_back.ts", "wrap.ts", "private.ts", "h264_b.avi"])
@pytest.mark.parametrize(("start_s", "end_s"), [(0.4, 1.2), (1.6, 2.6), (1.0, None)])
def test_cuts_are_counted_on_the_bridged_clock(plain, name, start_s, end_s) -> None:
    config = replace(plain, source=CASES / name)
    whole = times_of(config)
    since = [time - whole[0] for time in whole]
    wanted = [t for t in since if start_s - 0.001 <= t < (end_s or 99) - 0.001]
    if not wanted:
        with pytest.raises(VideoError, match="no frame between --start and --end"):
            infer(replace(config, start_s=start_s, end_s=end_s, overwrite=True))
        return
    cut = times_of(replace(config, start_s=start_s, end_s=end_s))
    assert [round(1000 * t) for t in cut] == [round(1000 * (t - wanted[0])) for t in wanted]


def joined(path: Path, parts: list[tuple[Path, float]], form: str) -> Path:
    """One file of several films whose clocks were moved by some seconds, as if cameras wrote it."""
    with av.open(path, "w", format=form, container_options={"avoid_negative_ts": "disabled"}) as to:
        streams: list[av.stream.Stream] = []
        for part, moved_s in parts:
            with av.open(part) as source:
                streams = streams or [
                    to.add_stream_from_template(s, opaque=True) for s in source.streams
                ]
                for packet in source.demux():
                    if packet.dts is not None:
                        units = int(moved_s / packet.time_base)
                        packet.pts, packet.dts = packet.pts + units, packet.dts + units
                        packet.stream = streams[packet.stream.index]
                        to.mux(packet)
    return path


def appended(path: Path, parts: list[tuple[Path, float]], form: str) -> Path:
    """The same as bytes put behind bytes, where clocks go back."""
    pieces = [
        joined(path.with_name(f"{i}-{path.name}"), [part], form) for i, part in enumerate(parts)
    ]
    path.write_bytes(b"".join(piece.read_bytes() for piece in pieces))
    return path


@pytest.mark.parametrize("shifts_s", [(0, 0), (0, 900, 30), (90_000, 5, 5), (20, 0, 20, 0)])
def test_parts_of_a_film_follow_each_other_with_their_sound(plain, tmp_path, shifts_s) -> None:
    film = Film(sounds=1, times=tuple(range(20)), options=(("g", "5"),))
    part = film.write(tmp_path / "part.mp4")
    source = appended(tmp_path / "film.ts", [(part, shift) for shift in shifts_s], "mpegts")
    result = infer(replace(plain, source=source))
    times = frame_times(plain.out)
    assert len(times) == 20 * len(shifts_s)
    assert all(abs(b - a - Fraction(1, 10)) <= Fraction(1, 1000) for a, b in pairwise(times))
    assert any("restarts or jumps" in warning for warning in result.warnings)
    heard = [time for time, _ in packets(plain.out, "audio")]
    assert abs((heard[-1] - heard[0]) - (times[-1] - times[0])) < Fraction(1, 4)
    assert len(heard) == sound_packets(part) * len(shifts_s)


@pytest.mark.parametrize(("form", "suffix"), [("matroska", ".mkv"), ("mp4", ".mp4")])
def test_clock_that_leaps_a_day_in_a_file_is_bridged(plain, tmp_path, form, suffix) -> None:
    part = Film(sounds=1, times=tuple(range(20))).write(tmp_path / "part.mp4")
    source = joined(tmp_path / f"film{suffix}", [(part, 0), (part, 86400)], form)
    infer(replace(plain, source=source))
    times = frame_times(plain.out)
    assert len(times) == 40 and times[-1] - times[0] < 5
    cut = times_of(replace(plain, source=source, start_s=3.0))
    assert [round(10 * t) for t in cut] == list(range(len(cut))) and len(cut) == 10


def test_a_long_gap_between_pictures_is_no_jump(plain, tmp_path) -> None:
    source = Film(times=(0, 1, 2, 1500, 1501)).write(tmp_path / "film.mkv")
    result = infer(replace(plain, source=source))
    assert frame_times(plain.out) == frame_times(source) and result.warnings == ()


@pytest.mark.parametrize("suffix", [".mp4", ".mkv"])
def test_times_below_zero_lead_up_to_the_others(plain, tmp_path, suffix) -> None:
    part = Film(sounds=1, times=tuple(range(20)), options=(("g", "5"),)).write(tmp_path / "p.mp4")
    source = joined(tmp_path / "film.mkv", [(part, -0.7)], "matroska")
    with av.open(source) as container:
        assert next(container.decode(video=0)).pts is None  # Matroska cannot say it
    out = tmp_path / f"out{suffix}"
    result = infer(replace(plain, source=source, out=out))
    times = frame_times(out)
    assert [round(10 * (time - times[0])) for time in times] == list(range(20))
    assert result.warnings == () and sound_packets(out) == sound_packets(source)


@pytest.mark.parametrize(("first_s", "is_kept"), [(1.5, True), (4.0, True), (40.0, False)])
def test_sound_before_the_pictures_is_kept_or_said_to_be_lost(
    plain, tmp_path, first_s, is_kept
) -> None:
    times = tuple(range(round(10 * first_s), round(10 * first_s) + 10))
    source = Film(sounds=1, times=times).write(tmp_path / "film.ts")
    result = infer(replace(plain, source=source))
    lost = sound_packets(source) - sound_packets(plain.out)
    said = [re.search("sound begins (.*) s before its pictures", w) for w in result.warnings]
    assert (lost == 0, len(said)) == (is_kept, not is_kept)
    assert all(abs(float(found[1]) - first_s) < 0.3 for found in said)
    shown = frame_times(plain.out)
    assert abs(shown[0] - (first_s if is_kept else 0)) < Fraction(1, 4)
    assert [round(10 * (time - shown[0])) for time in shown] == list(range(10))


@pytest.mark.parametrize(
    "length", [b"inf:00000:00000000", b"00:nan:00000000000", b"-9:00:01.000000000"]
)
def test_length_that_no_film_has_is_not_believed(plain, length) -> None:
    film = Film(times=range(0, 100, 10)).write(plain.source.with_suffix(".mkv"))
    data, stated = film.read_bytes(), re.compile(rb"\d\d:\d\d:\d\d\.\d{9}")
    assert stated.search(data)
    film.write_bytes(stated.sub(length, data))
    result = infer(replace(plain, source=film))
    assert result.frames == 10 and not result.warnings


def rewritten(
    source: Path, path: Path, number: int, change: Callable[[bytes], bytes | None]
) -> Path:
    """The same pictures, of which the packet of a number has other bytes, or is missing."""
    with av.open(source) as film, av.open(path, "w") as target:
        stream = target.add_stream_from_template(film.streams.video[0])
        for place, packet in enumerate(p for p in film.demux(video=0) if p.size):
            data = change(bytes(packet)) if place == number % 30 else bytes(packet)
            if data is None:
                continue
            copy = av.Packet(data)
            copy.pts, copy.dts, copy.time_base = packet.pts, packet.dts, packet.time_base
            copy.is_keyframe, copy.stream = packet.is_keyframe, stream
            target.mux(copy)
    return path


HEVC = Film(
    codec="libx265",
    times=tuple(range(30)),
    options=(("x265-params", "log-level=none:keyint=10:min-keyint=10:open-gop=0"),),
)
LONG_GOPS = {"hevc": HEVC, "h264": Film(times=tuple(range(30)), options=(("g", "10"),))}


def half(data: bytes) -> bytes:
    return data[: len(data) // 2]


def nothing(_data: bytes) -> None:
    pass


@pytest.mark.parametrize(
    ("suffix", "number", "change"), [(".mp4", 0, half), (".mp4", 13, half), (".ts", 0, nothing)]
)
@pytest.mark.parametrize("codec", LONG_GOPS)
def test_every_frame_that_a_decoder_drops_is_counted(
    plain, tmp_path, codec, suffix, number, change
) -> None:
    film = LONG_GOPS[codec].write(tmp_path / "film.mp4")
    source = rewritten(film, tmp_path / f"bad{suffix}", number, change)
    result = infer(replace(plain, source=source))
    with av.open(source) as container:
        there = sum(bool(packet.size) for packet in container.demux(video=0))
    found = [re.search(r"damaged: (\d+) of .* and (\d+) of its frames", w) for w in result.warnings]
    counted = sum(int(match[1]) for match in found if match)
    assert counted == there - result.frames
    assert found or result.frames == there


@pytest.mark.parametrize("codec", ["hevc", "ffv1", "mpeg4"])
def test_bad_last_packet_costs_one_frame_alone(plain, tmp_path, codec) -> None:
    film = {**LONG_GOPS, "mpeg4": Film(codec="mpeg4", times=tuple(range(30)))}
    film["ffv1"] = Film(codec="ffv1", times=tuple(range(30)))
    intact = film[codec].write(tmp_path / "film.mkv")
    source = rewritten(intact, tmp_path / "bad.mkv", -1, lambda data: b"\xff" * 3 + data[3:9])
    result = infer(replace(plain, source=source))
    assert result.frames == 29
    assert any("damaged: 1 of its packets" in warning for warning in result.warnings)


def test_frames_that_too_long_a_group_costs_with_a_bad_last_packet_are_counted(
    plain, tmp_path, monkeypatch
) -> None:
    monkeypatch.setattr(decode, "MOST_KEPT", 5)
    intact = LONG_GOPS["hevc"].write(tmp_path / "film.mkv")
    source = rewritten(intact, tmp_path / "bad.mkv", -1, lambda data: b"\xff" * 3 + data[3:9])
    result = infer(replace(plain, source=source))
    assert 20 <= result.frames <= 29
    assert any(f"damaged: {30 - result.frames} of its" in warning for warning in result.warnings)


def test_frames_that_an_edit_list_hides_between_others_are_said_to_be_missing(
    plain, tmp_path
) -> None:
    pieces = "frag_keyframe+empty_moov+delay_moov+default_base_moof"
    film = Film(times=tuple(range(20)), options=(("g", "5"),)).write(tmp_path / "film.mp4")
    part = repacked(film, tmp_path / "part.mp4", movflags=pieces)
    plain.source.write_bytes(2 * part.read_bytes())
    result = infer(plain)
    hidden = [re.search(r"hides (\d+) frames between others", w) for w in result.warnings]
    assert result.frames + sum(int(match[1]) for match in hidden if match) == 40


def test_decoding_times_that_matroska_lacks_are_not_behind_their_own_pictures(tmp_path) -> None:
    times = [(0, None), (160, None), (80, None), (40, 40), (120, 80)]
    made = []
    with av.open(Film().write(tmp_path / "film.mkv")) as container:
        stream = container.streams.video[0]
        for pts, dts in times:
            packet = av.Packet(b"picture")
            packet.stream, packet.pts, packet.dts = stream, pts, dts
            made.append(packet)
        found = [(packet.pts, packet.dts) for packet in with_dts(iter(made))]
    assert [pts for pts, _ in found] == [pts for pts, _ in times]
    assert all(dts <= pts for pts, dts in found)
    assert all(a < b for (_, a), (_, b) in pairwise(found))


@pytest.mark.parametrize("suffix", [".mp4", ".mkv", ".webm"])
@pytest.mark.parametrize("sound", ["auto", "copy", "aac", "none"])
def test_sound_is_what_was_asked_for(plain, tmp_path, sound, suffix) -> None:
    out = tmp_path / f"out{suffix}"
    result = infer(replace(plain, source=CASES / "alaw.mkv", out=out, sound=sound))
    encoded = "opus" if suffix == ".webm" else "aac"
    copied = "pcm_alaw" if suffix == ".mkv" else None
    wanted = {"auto": copied or encoded, "copy": copied, "aac": encoded, "none": None}[sound]
    with av.open(out) as container:
        names = [stream.codec_context.name for stream in container.streams.audio]
        heard_s = sum(f.samples / f.sample_rate for f in container.decode(audio=0)) if names else 0
    assert names == ([] if wanted is None else [wanted])
    assert wanted is None or abs(heard_s - 2) < 0.1
    left_out = sound == "copy" and wanted is None
    assert ["pcm_alaw sound, cannot go into" in w for w in result.warnings] == [True] * left_out


def test_sound_encoded_twice_has_the_same_bytes(plain, tmp_path) -> None:
    config = replace(plain, source=CASES / "mjpeg_adpcm.avi")
    found = []
    for name in ("a.mp4", "b.mp4"):
        infer(replace(config, out=tmp_path / name))
        found.append(packets(tmp_path / name, "audio"))
    assert found[0] == found[1] and len(found[0]) > 20


@pytest.mark.parametrize("suffix", [".mp4", ".mkv"])
@pytest.mark.parametrize("sound", ["auto", "aac"])
def test_resumed_film_with_a_jump_is_the_one_of_an_unbroken_run(
    plain, tmp_path, sound, suffix
) -> None:
    part = Film(sounds=1, times=tuple(range(60)), options=(("g", "5"),)).write(tmp_path / "p.mp4")
    source = appended(tmp_path / "film.ts", [(part, 0), (part, 900)], "mpegts")
    whole, broken = (tmp_path / f"{name}{suffix}" for name in ("whole", "broken"))
    config = replace(plain, source=source, out=broken, sound=sound)
    infer(replace(config, out=whole))

    def stop(done: int, _total: int | None) -> None:
        if done == 90:
            raise InterruptedError

    with pytest.raises(InterruptedError):
        infer(config, stop)
    assert infer(replace(config, resume=True)).kept_frames > 0
    assert frame_times(broken) == frame_times(whole)
    assert packets(broken, "audio") == packets(whole, "audio")


def test_sound_that_is_not_known_is_refused() -> None:
    with pytest.raises(ConfigError, match="--sound is 'mp3'; use one of: auto, copy, aac, none"):
        InferConfig(source=Path("film.mp4"), out=Path("out.mp4"), sound="mp3")


def test_stream_chooses_the_camera(plain) -> None:
    config = replace(plain, source=CASES / "rear_then_front.mkv")
    result = infer(replace(config, stream=0))
    with av.open(plain.out) as container:
        assert container.streams.video[0].width == 160
    assert any("others stay behind: 1 (320x180)" in warning for warning in result.warnings)
    with pytest.raises(ConfigError, match=r"--stream is 2; the video streams of .* are: 0 \(160"):
        infer(replace(config, stream=2, overwrite=True))


def test_gps_text_goes_along_into_matroska(plain, tmp_path) -> None:
    out = tmp_path / "out.mkv"
    infer(replace(plain, source=CASES / "gps_text.mp4", out=out))
    assert [data.decode() for _, data in packets(out, "subtitle")] == [
        data[2:].decode() for _, data in packets(CASES / "gps_text.mp4", "subtitle") if data[2:]
    ]


class Stumbling:
    """A file whose reading fails once, for no reason that FFmpeg knows."""

    def __init__(self, container: av.container.InputContainer) -> None:
        self._container = container
        self._has_failed = False

    def demux(self, *streams):
        for number, packet in enumerate(self._container.demux(*streams)):
            yield packet
            if number == 2 and not self._has_failed:
                self._has_failed = True
                raise RuntimeError


def test_any_failure_to_read_is_a_damaged_place(tmp_path) -> None:
    log = ReadLog()
    with av.open(Film().write(tmp_path / "film.mp4")) as container:
        found = list(intact_packets(Stumbling(container), [container.streams.video[0]], log))
    assert len(found) == 10 and log.damaged_packets == 1


def test_a_bad_packet_of_sound_is_left_out_and_counted(plain, tmp_path) -> None:
    source = Film(sounds=1).write(tmp_path / "film.ts")
    data = source.read_bytes()
    headers = [match.start() for match in re.finditer(rb"\xff\xf1", data)]
    place = headers[len(headers) // 2]
    source.write_bytes(data[:place] + b"\0\0" + data[place + 2 :])
    result = infer(replace(plain, source=source))
    assert result.frames == 10 and sound_packets(plain.out) >= len(headers) - 3
    assert result.warnings == (
        f"{source}: 1 packets of sound, subtitles or data are damaged; they were left out",
    )


@pytest.mark.parametrize("path", [Path("film.mp4"), "https://example.org/film.mp4"])
def test_advice_fits_what_was_read(path) -> None:
    with pytest.raises(VideoError) as caught, read_errors(path):
        raise av.InvalidDataError(1, "Invalid data")
    assert ("ffmpeg" in str(caught.value)) == isinstance(path, Path)


@pytest.mark.parametrize("name", ["film.mp4", "film.mkv"])
def test_advice_fits_what_was_written(name) -> None:
    with pytest.raises(VideoError) as caught, write_errors(Path(name)):
        raise av.InvalidDataError(1, "Invalid data")
    assert ("ends in .mkv" in str(caught.value)) == (name == "film.mp4")


@pytest.mark.timeout(600)  # a hang of one of them is seen in the fuzz itself
def test_damaged_films_end_in_a_film_or_a_sentence() -> None:
    record = script("fuzz").fuzz(60, seed=7)
    assert record["faults"] == []
    assert record["outcomes"]["film"] > 30
