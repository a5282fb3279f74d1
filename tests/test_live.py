"""The live mode on real sources: films, cameras on loopback that stall and hang up, signals."""

import json
import os
import re
import signal
import subprocess
import sys
import threading
import time
from dataclasses import replace
from fractions import Fraction
from itertools import pairwise
from pathlib import Path
from types import SimpleNamespace

import av
import numpy as np
import pytest
from cameras import Camera, transport_stream
from conftest import SAMPLE, WEIGHTS, ended, patience

import roadseg.video.read.cameras
import roadseg.video.read.capture
from roadseg.errors import ConfigError, OutputError, VideoError
from roadseg.infer.config import LiveConfig
from roadseg.infer.live import LiveSession, Meter
from roadseg.video.frame import Arrival
from roadseg.video.read.capture import parse_source
from roadseg.video.read.source import probe

SMALL = (32, 64)


def times_s(path: Path) -> list[float]:
    with av.open(path) as container:
        packets = container.demux(video=0)
        return sorted(float(p.pts * p.time_base) for p in packets if p.pts is not None)


def config(source: object, **settings: object) -> LiveConfig:
    return LiveConfig(source=str(source), weights=WEIGHTS, size_hw=SMALL, **settings)  # type: ignore[arg-type]


@pytest.fixture(scope="module")
def clip(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A second of the sample."""
    path = tmp_path_factory.mktemp("clip") / "clip.mp4"
    with av.open(SAMPLE) as source, av.open(path, "w") as target:
        stream = target.add_stream_from_template(source.streams.video[0])
        for packet in source.demux(video=0):
            if packet.pts is not None and packet.pts * packet.time_base < 1:
                packet.stream = stream
                target.mux(packet)
    return path


@pytest.fixture
def brief(monkeypatch) -> None:
    """Less patience with a silent source than users want."""
    monkeypatch.setattr(roadseg.video.read.capture, "READ_TIMEOUT_S", 0.3)


def test_film_loses_no_frame_however_slow_the_viewer(clip) -> None:
    taken = []
    with LiveSession(config(clip), print) as session:
        for item, reading in session:
            taken.append(item.frame.time_s)
            assert reading.dropped == 0
    assert taken == pytest.approx(times_s(clip))
    summary = session.summary()
    assert (summary.frames, summary.dropped) == (25, 0)


def test_film_as_a_camera_plays_at_its_own_rate(clip) -> None:
    since = time.monotonic()
    with LiveSession(config(clip, as_camera=True), print) as session:
        for item, _ in session:
            assert item.frame.arrival.time_s - since >= item.frame.time_s
    summary = session.summary()
    assert summary.frames + summary.dropped == 25
    assert summary.frames >= 1


def test_film_that_loops_goes_on_at_its_end_until_it_is_stopped(clip, tmp_path) -> None:
    taken = []
    recording = config(clip, every=2, loop=True, out=tmp_path / "loop.mp4")
    with LiveSession(recording, print) as session:
        for item, _ in session:
            taken.append(item)
            if len(taken) == 60:
                break
    times = [item.frame.time_s for item in taken]
    assert times == pytest.approx([n / 25 for n in range(60)])
    looked = [n for n, item in enumerate(taken) if item.by_network]
    assert max(b - a for a, b in pairwise(looked)) == 2  # and sooner at the cut back to the start
    assert len(times_s(tmp_path / "loop.mp4")) >= 60


def test_camera_has_no_end_to_begin_again_at() -> None:
    with pytest.raises(ConfigError, match="--loop is for video files"):
        LiveSession(config("rtsp://127.0.0.1:1/none", loop=True), print)


def test_view_moves_labels_along_between_looks_and_waits_for_no_frame(clip) -> None:
    with LiveSession(config(clip, every=2), print) as session:
        looked = [item.by_network for item, _ in session]
    assert len(looked) == 25 and all(looked[::2])
    # Of the others, only some whose flow is torn.
    assert session.summary().network_frames == sum(looked) < 18


def test_real_time_is_kept_by_looking_less(clip) -> None:
    with LiveSession(config(clip, as_camera=True, realtime=True), print) as session:
        numbers = [item.frame.arrival.number for item, _ in session]
    summary = session.summary()
    assert numbers == sorted(set(numbers))
    assert 1 <= summary.network_frames <= summary.frames == len(numbers)


@pytest.mark.usefixtures("brief")
def test_newest_frame_wins_and_the_delay_stays_bounded() -> None:
    behind = []
    with Camera() as camera:
        camera.send(10)
        with LiveSession(config(camera.url), print) as session:
            for count, (item, reading) in enumerate(session):
                behind.append(camera.sent - item.frame.arrival.number)
                assert reading.dropped == item.frame.arrival.number - count
                if count == 40:
                    break
                camera.send(10)  # ten come while one is looked at
                threading.Event().wait(0.03)
    assert camera.sent == 410
    assert max(behind) <= 150  # a few stages hold one each; a queue would reach 360
    assert session.summary().dropped >= 200


@pytest.mark.usefixtures("brief")
def test_lost_camera_is_opened_again_and_the_recording_goes_on(tmp_path) -> None:
    notices: list[str] = []
    out = tmp_path / "street.mp4"
    with Camera() as camera:
        camera.send(5)
        with LiveSession(config(camera.url, out=out), notices.append) as session:
            frames = iter(session)
            next(frames)
            camera.hang_up()
            assert camera.connections.acquire(timeout=patience(20)) and camera.connections.acquire(
                timeout=patience(20)
            )
            camera.send(5)
            while (
                next(frames)[0].frame.rgb().mean() < 4.5
            ):  # until one of the second connection comes
                pass
    assert re.search(r"is lost \(.+\); trying again in 0\.5 s", notices[0])
    assert any(notice.endswith("is back") for notice in notices)
    assert session.summary().recorded == (out,)
    recorded = times_s(out)
    assert recorded[0] == 0 and all(a < b for a, b in pairwise(recorded))
    assert recorded[-1] >= 0.5  # the time without a picture is in the recording


@pytest.mark.usefixtures("brief")
def test_stream_that_is_joined_in_the_middle_waits_for_a_keyframe(tmp_path) -> None:
    stream = transport_stream(tmp_path / "film.ts")
    packets_of_188_bytes = len(stream) // 188
    taken = []
    with Camera("video/mp2t") as camera:
        camera.send_bytes(stream[packets_of_188_bytes // 3 * 188 :])
        with LiveSession(config(camera.url), print) as session:
            for item, _ in session:
                taken.append(item)
                if round(float(item.frame.rgb().mean())) >= 95:
                    break  # the last that can be had: grey levels run up to 99
    assert min(float(item.frame.rgb().mean()) for item in taken) > 30  # none from before the middle
    assert all(a.frame.pts < b.frame.pts for a, b in pairwise(taken))


def test_camera_whose_pixels_are_not_square_is_seen_and_recorded_in_its_shape(tmp_path) -> None:
    out = tmp_path / "wide.mp4"
    with Camera("video/mp2t") as camera:
        camera.send_bytes(transport_stream(tmp_path / "film.ts", pixel_aspect=Fraction(2)))
        with LiveSession(config(camera.url, out=out), print) as session:
            item, _ = next(iter(session))
    assert item.frame.pixel_aspect == 2 and item.frame.shown_hw == (64, 192)
    assert probe(out).pixel_aspect == 2


@pytest.mark.usefixtures("brief")
def test_stalled_camera_counts_as_lost_after_a_while() -> None:
    lost = threading.Event()
    notices: list[str] = []

    def notify(notice: str) -> None:
        notices.append(notice)
        lost.set()

    with Camera() as camera:
        camera.send(5)
        with LiveSession(config(camera.url), notify) as session:
            next(iter(session))
            assert lost.wait(patience(20))
    assert "is lost (nothing came in time); trying again" in notices[0]


def test_waits_between_attempts_grow_up_to_a_limit() -> None:
    waits: list[float] = []

    class Clock:
        def wait(self, seconds: float) -> None:
            waits.append(seconds)
            if len(waits) == 9:
                raise KeyboardInterrupt

    with Camera() as camera:
        camera.send(5)
        frames = roadseg.video.read.capture.capture(
            parse_source(camera.url), stop=Clock(), notify=print, at_its_own_rate=False
        )
        next(frames)
        camera.hang_up()
    with pytest.raises(KeyboardInterrupt):
        list(frames)
    assert waits == [0.5, 1, 2, 4, 8, 16, 30, 30, 30]


@pytest.mark.parametrize(
    ("source", "said"),
    [
        ("none.mp4", r"none\.mp4 does not exist, nor does such a camera"),
        ("http://127.0.0.1:9/", r"http://127.0.0.1:9/ cannot be opened \(Connection refused\)"),
        ("rtsp://me:secret@127.0.0.1:9/", r"rtsp://me:\*\*\*@127.0.0.1:9/ cannot be opened"),
        ("/dev/video97", r"/dev/video97 cannot be opened \(No such file"),
    ],
)
def test_source_that_is_not_there_is_an_error_at_once(source, said) -> None:
    with pytest.raises(VideoError, match=said), LiveSession(config(source), print) as session:
        next(iter(session))


@pytest.mark.usefixtures("brief")
def test_source_of_sound_alone_is_an_error(tmp_path) -> None:
    path = tmp_path / "sound.ts"
    with av.open(path, "w") as container:
        stream = container.add_stream("aac", rate=8000, layout="mono")
        for number in range(20):
            silence = av.AudioFrame.from_ndarray(np.zeros((1, 1024), np.float32), "fltp", "mono")
            silence.sample_rate, silence.pts = 8000, number * 1024
            container.mux(stream.encode(silence))
        container.mux(stream.encode(None))
    with Camera("video/mp2t") as camera:
        camera.send_bytes(path.read_bytes())
        camera.hang_up()
        session = LiveSession(config(camera.url), print)
        with pytest.raises(VideoError, match=r"cannot be opened \(it has no video\)"), session:
            list(session)


@pytest.mark.parametrize(
    ("text", "uri", "is_film"),
    [
        ("0", "/dev/video0", False),
        ("/dev/video2", "/dev/video2", False),
        ("rtsp://camera/street", "rtsp://camera/street", False),
        ("drive.mp4", "drive.mp4", True),
        ("0.mp4", "0.mp4", True),
    ],
)
@pytest.mark.skipif(sys.platform != "linux", reason="cameras are devices of Linux")
def test_kind_of_a_source_is_told_by_its_name(tmp_path, monkeypatch, text, uri, is_film) -> None:
    monkeypatch.chdir(tmp_path)
    for name in ("drive.mp4", "0.mp4"):
        Path(name).touch()
    source = parse_source(text)
    assert (source.uri, source.is_film) == (uri, is_film)


@pytest.mark.skipif(sys.platform != "linux", reason="cameras are devices of Linux")
def test_camera_is_found_by_a_part_of_its_name(tmp_path, monkeypatch) -> None:
    monkeypatch.setattr(roadseg.video.read.cameras, "LIST", tmp_path)
    devices = {0: ("Integrated Camera: IR", 0), 2: ("BRIO 4K", 0), 3: ("BRIO 4K", 1), 10: ("HD", 0)}
    for number, (name, index) in devices.items():
        folder = tmp_path / f"video{number}"
        folder.mkdir()
        (folder / "name").write_text(f"{name}\n")
        (folder / "index").write_text(f"{index}\n")
    assert parse_source("brio").uri == "/dev/video2"
    (tmp_path / "video10" / "index").unlink()  # as some drivers have it
    assert parse_source("HD") == parse_source("10")
    with pytest.raises(
        VideoError, match=r"I names more than one camera.*: 0 \(.*\), 2 \(BRIO 4K\)$"
    ):
        parse_source("I")
    with pytest.raises(VideoError, match=r"logi does not exist.*: 0 \(.*\), 2 \(.*\), 10 \(HD\)$"):
        parse_source("logi")
    monkeypatch.setattr(roadseg.video.read.cameras, "LIST", tmp_path / "none")
    with pytest.raises(VideoError, match=r"the number of a camera: there is none here$"):
        parse_source("brio")


@pytest.mark.skipif(sys.platform != "linux", reason="cameras are devices of Linux")
def test_camera_whose_name_is_cut_within_a_letter_is_found(tmp_path, monkeypatch) -> None:
    monkeypatch.setattr(roadseg.video.read.cameras, "LIST", tmp_path)
    folder = tmp_path / "video1"
    folder.mkdir()
    (folder / "name").write_bytes("Rückfahrkamera an der Heckklappé".encode()[:31] + b"\xc3\n")
    (folder / "index").write_text("0\n")
    assert parse_source("rückfahr").uri == "/dev/video1"


@pytest.mark.parametrize(
    ("system", "listed", "brio"),
    [
        (
            "win32",
            [
                ("@device_pnp_usb_1", "Integrated Camera", ["video"]),
                ("@device_cm_wave", "Microphone (BRIO)", ["audio"]),
                ("@device_pnp_usb_2", "Logitech BRIO", ["video"]),
            ],
            ("video=@device_pnp_usb_2", "dshow", {}),
        ),
        (
            "darwin",
            [
                ("0", "FaceTime HD Camera", ["video"]),
                ("1", "Logitech BRIO", ["video"]),
                ("2", "Capture screen 0", ["video"]),
                ("0", "MacBook Microphone", ["audio"]),
            ],
            ("1:none", "avfoundation", {"framerate": "30"}),
        ),
    ],
)
def test_cameras_of_other_systems_are_those_that_ffmpeg_lists(
    monkeypatch, system, listed, brio
) -> None:
    names = ("name", "description", "media_types")
    devices = [SimpleNamespace(**dict(zip(names, device, strict=True))) for device in listed]
    monkeypatch.setattr("sys.platform", system)
    monkeypatch.setattr(av, "enumerate_input_devices", lambda _format: devices)
    source = parse_source("brio")
    assert (source.uri, source.format, source.options) == brio
    assert source == parse_source("1") and source.label == "Logitech BRIO"
    with pytest.raises(VideoError, match=r"no camera 2; .* a camera: 0 \(.*\), 1 \(Log.* BRIO\)$"):
        parse_source("2")

    def none(_format: str) -> list[object]:
        raise av.FFmpegError(5, "Input/output error")

    monkeypatch.setattr(av, "enumerate_input_devices", none)
    with pytest.raises(VideoError, match=r"there is no camera 0; .* there is none here$"):
        parse_source("0")


def test_segments_follow_each_other_and_go_on_counting(tmp_path, clip) -> None:
    settings = {"out": tmp_path / "drive.mp4", "segment_s": 0.4}
    for run in range(2):
        with LiveSession(config(clip, **settings), print) as session:
            list(session)
        names = [path.name for path in session.summary().recorded]
        assert names == [f"drive-{run * 3 + n:04d}.mp4" for n in (1, 2, 3)]
    lengths = [len(times_s(tmp_path / f"drive-{n:04d}.mp4")) for n in range(1, 7)]
    assert lengths == [10, 10, 5] * 2
    assert times_s(tmp_path / "drive-0002.mp4") == pytest.approx([i / 25 for i in range(10)])


def test_recording_shows_the_overlay_and_survives_a_break(tmp_path, clip) -> None:
    out = tmp_path / "drive.mkv"
    settings = replace(config(clip, out=out, alpha=1.0), size_hw=(160, 288))
    with LiveSession(settings, print) as session:
        for count, _ in enumerate(session):
            if count == 5:
                break
    assert 6 <= len(times_s(out)) <= 25
    with av.open(out) as container:
        picture = next(container.decode(video=0)).to_ndarray(format="rgb24")
    assert np.abs(picture[-20:, 200:].mean(axis=(0, 1)) - (128, 64, 128)).max() < 30  # road


def test_existing_recording_is_not_touched(tmp_path, clip) -> None:
    out = tmp_path / "drive.mp4"
    out.write_text("precious")
    with pytest.raises(VideoError, match="--overwrite"):
        LiveSession(config(clip, out=out), print)
    assert out.read_text() == "precious"
    with pytest.raises(OutputError, match="cannot be written"):
        LiveSession(config(clip, out=tmp_path / "no" / "drive.mp4"), print)


def test_settings_that_make_no_sense_are_refused(tmp_path) -> None:
    with pytest.raises(ConfigError, match="--segment is 0"):
        config(SAMPLE, out=tmp_path / "o.mp4", segment_s=0)
    with pytest.raises(ConfigError, match="without --out"):
        config(SAMPLE, segment_s=5)
    with pytest.raises(ConfigError, match="is the input"):
        config(SAMPLE, out=SAMPLE)


def test_meter_counts_what_came_and_was_not_shown() -> None:
    meter = Meter()
    for number in (0, 1, 5, 9):
        reading = meter.count(Arrival(number, time.monotonic()))
    assert reading.dropped == 6
    assert 0 <= reading.age_s < 10 and reading.fps > 0


def live(*args: object, cwd: Path) -> subprocess.Popen[str]:
    return subprocess.Popen(
        [sys.executable, "-m", "roadseg", "live", *map(str, args)],
        cwd=cwd,
        env={**os.environ, "COLUMNS": "100", "NO_COLOR": "1", "TERM": "dumb"},
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
    )


@pytest.mark.usefixtures("heeds_signals")
@pytest.mark.parametrize(("sent", "code"), [(signal.SIGINT, 130), (signal.SIGTERM, 143)])
def test_signal_ends_the_run_and_keeps_the_recording(tmp_path, sent, code) -> None:
    with Camera() as camera:
        camera.send(5)
        args = ["--out", "street.mp4", "--size", "64x32", "--listen", "127.0.0.1:0"]
        deadline = time.monotonic() + patience(60)
        with ended(live(camera.url, *args, cwd=tmp_path)) as process:
            assert process.stderr.readline().startswith("open http://127.0.0.1:")
            while not (tmp_path / "roadseg-part.street.mp4").exists():  # it is well under way
                assert process.poll() is None and time.monotonic() < deadline
                camera.send(1)
                time.sleep(0.02)
            process.send_signal(sent)
            camera.send(1)
            output, errors = process.communicate(timeout=patience(30))
    assert process.returncode == code, errors
    assert "Traceback" not in errors
    assert "recorded street.mp4" in output and " dropped; the network predicted " in output
    assert times_s(tmp_path / "street.mp4")
    assert [p.name for p in tmp_path.iterdir()] == ["street.mp4"]


def test_summary_can_be_json(tmp_path, clip) -> None:
    process = live(clip, "--no-serve", "--out", "o.mp4", "--size", "64x32", "--json", cwd=tmp_path)
    output, errors = process.communicate(timeout=patience(60))
    assert (process.returncode, errors) == (0, "")
    summary = json.loads(output)
    assert (summary["frames"], summary["dropped"], summary["recorded"]) == (25, 0, ["o.mp4"])
    assert [stage["name"] for stage in summary["stages"]] == ["capture", "segment", "record"]


@pytest.mark.parametrize(
    ("args", "message"),
    [
        (["none.mp4"], "none.mp4 does not exist"),
        ([SAMPLE, "--no-serve"], "--no-serve leaves nothing to see"),
        ([SAMPLE, "--listen", "here"], "--listen is 'here'"),
        ([SAMPLE, "--classes", "cat", "--no-serve", "--out", "o.mp4"], "names cat"),
    ],
)
def test_mistakes_are_named(tmp_path, args, message) -> None:
    process = live("--listen", "127.0.0.1:0", *args, cwd=tmp_path)
    output, errors = process.communicate(timeout=patience(60))
    assert (process.returncode, output) == (1, "")
    assert message in errors and "Traceback" not in errors
    assert list(tmp_path.iterdir()) == []
