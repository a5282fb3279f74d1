"""Live sources of the network, RTSP and what the ffmpeg program sends: stalls and restarts."""

import contextlib
import shutil
import signal
import socket
import subprocess
import threading
import time
from collections.abc import Callable, Iterator
from itertools import chain, islice
from pathlib import Path

import numpy as np
import pytest
from cameras import RtspCamera, transport_stream
from conftest import WEIGHTS, patience

import roadseg.video.read.capture
from roadseg.errors import VideoError
from roadseg.infer.config import LiveConfig
from roadseg.infer.live import LiveSession

FPS = 25
FILM_S = 4
PROBED = 40
"""Frames of an RTSP camera that FFmpeg reads to know it, and some more."""


def config(source: str, **settings: object) -> LiveConfig:
    return LiveConfig(source=source, weights=WEIGHTS, size_hw=(32, 64), **settings)  # type: ignore[arg-type]


@pytest.fixture(autouse=True)
def brief(monkeypatch) -> None:
    """Less patience with a silent source than users want."""
    monkeypatch.setattr(roadseg.video.read.capture, "READ_TIMEOUT_S", 0.5)


def grey(item) -> int:
    return round(float(item.frame.rgb().mean()))


def test_rtsp_camera_that_hangs_up_is_opened_again() -> None:
    notices: list[str] = []
    seen = []
    with RtspCamera() as camera:
        camera.send(PROBED)
        with LiveSession(config(camera.url), notices.append) as session:
            frames = iter(session)
            seen.append(grey(next(frames)[0]))
            camera.hang_up()
            assert camera.connections.acquire(timeout=patience(20)) and camera.connections.acquire(
                timeout=patience(20)
            )
            camera.send(PROBED)
            while (level := grey(next(frames)[0])) < PROBED + 2:  # one of the second connection
                seen.append(level)
    assert seen == sorted(seen)
    assert "is lost" in notices[0] and notices[-1].endswith("is back")


def test_rtsp_camera_with_a_slow_viewer_stays_new() -> None:
    behind = []
    with RtspCamera() as camera:
        camera.send(PROBED)
        with LiveSession(config(camera.url), print) as session:
            for count, (item, _) in enumerate(session):
                behind.append((camera.sent - grey(item)) % 200)
                if count == 30:
                    break
                camera.send(3)  # three come while one is looked at
                threading.Event().wait(0.05)
    assert max(behind) <= 40  # a few stages hold one each; a queue would reach 70
    assert session.summary().dropped >= 30


def free_port() -> int:
    with socket.create_server(("127.0.0.1", 0)) as server:
        return server.getsockname()[1]


KINDS = {
    "MPEG-TS over TCP": ("tcp://127.0.0.1:{}", "?listen=1", ("-c", "copy", "-f", "mpegts")),
    "MPEG-TS over UDP": ("udp://127.0.0.1:{}", "?pkt_size=1316", ("-c", "copy", "-f", "mpegts")),
    "MPEG-TS over HTTP": ("http://127.0.0.1:{}/a.ts", "", ("-c", "copy", "-f", "mpegts")),
    "MJPEG over HTTP": ("http://127.0.0.1:{}/a", "", ("-q:v", "2", "-f", "mpjpeg")),
}


@contextlib.contextmanager
def sending(film: Path, kind: str, port: int) -> Iterator[subprocess.Popen[bytes]]:
    """Send a film again and again, each time to the next who connects, at its own rate."""
    address, options, form = KINDS[kind]
    listen = ("-listen", "1") if kind.endswith("HTTP") else ()
    source = ("-re", "-stream_loop", "-1", "-i", str(film))
    target = address.format(port) + options
    process = subprocess.Popen(
        ["ffmpeg", "-v", "error", *source, *form, *listen, target],
        stdin=subprocess.DEVNULL,
        stderr=subprocess.DEVNULL,
    )
    try:
        yield process
    finally:
        process.kill()
        process.wait()


@pytest.fixture(scope="module")
def film(tmp_path_factory) -> Path:
    if shutil.which("ffmpeg") is None:
        pytest.skip("the ffmpeg program is not installed")
    path = tmp_path_factory.mktemp("film") / "film.ts"
    transport_stream(path, FILM_S)
    return path


@contextlib.contextmanager
def session_of(address: str, notify: Callable[[str], None]) -> Iterator[Iterator]:
    """The frames of a source that is just coming up."""
    deadline = time.monotonic() + patience(20)
    while True:
        session = LiveSession(config(address), notify)
        frames = iter(session)
        try:
            with session:
                first = next(frames)
                yield chain([first], frames)
                return
        except VideoError:
            assert time.monotonic() < deadline
            time.sleep(0.05)


def lag_s(item) -> float:
    """How far behind the sender a frame is, but for a constant; each frame has its number on it."""
    return (time.monotonic() - grey(item) / FPS) % FILM_S


@pytest.mark.parametrize("kind", KINDS)
def test_source_that_stalls_and_starts_anew_is_followed_without_growing_delay(film, kind) -> None:
    port, notices, lost = free_port(), [], threading.Event()
    address = KINDS[kind][0].format(port)

    def notify(notice: str) -> None:
        notices.append(notice)
        lost.set()

    with contextlib.ExitStack() as sender:
        process = sender.enter_context(sending(film, kind, port))
        with session_of(address, notify) as frames:
            lags = []
            for item, _ in islice(frames, 20):
                lags.append(lag_s(item))
                threading.Event().wait(0.15)  # a slow viewer: three or four come meanwhile
            process.send_signal(signal.SIGSTOP)
            assert lost.wait(patience(20))
            sender.close()
            sender.enter_context(sending(film, kind, port))
            while not notices[-1].endswith("is back"):
                again, _ = next(frames)
    grown_s = np.unwrap(np.array(lags), period=FILM_S)
    assert grown_s[-5:].max() - grown_s[:5].min() < 1.0  # a queue would have grown to 2 s
    assert "is lost" in notices[0]
    assert again.frame.pts > item.frame.pts
