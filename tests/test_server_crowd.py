"""The live view among strangers: idle connections by the hundred, and files that run out."""

import contextlib
import http.client
import os
import signal
import socket
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import av
import pytest
from conftest import SAMPLE
from test_server import LOCAL, READING, get, item

import roadseg.infer.server
from roadseg.infer.server import PageServer

resource = pytest.importorskip("resource")
LIVE = """
import resource, sys
from roadseg.cli import main
limit = int(sys.argv.pop(1))
resource.setrlimit(resource.RLIMIT_NOFILE, (limit, resource.getrlimit(resource.RLIMIT_NOFILE)[1]))
main()
"""


@contextlib.contextmanager
def live_run(out: Path, open_files: int) -> Iterator[tuple[subprocess.Popen[str], int]]:
    """A recording of a camera by the command line, and the port of its page."""
    source = (str(SAMPLE), "--as-camera", "--size", "64x32", "--legend", "none")
    page = ("--serve", "--listen", "127.0.0.1:0", "--out", str(out))
    command = [sys.executable, "-c", LIVE, str(open_files), "live", *source, *page]
    with subprocess.Popen(command, stderr=subprocess.PIPE, text=True) as process:
        try:
            yield process, int(process.stderr.readline().rstrip("/\n").rpartition(":")[2])
        finally:
            process.kill()


@contextlib.contextmanager
def idle_connections(port: int, count: int) -> Iterator[None]:
    with contextlib.ExitStack() as stack:
        for _ in range(count):
            connection = socket.create_connection(("127.0.0.1", port), timeout=30)
            stack.enter_context(contextlib.closing(connection))
        yield


@pytest.fixture
def many_files() -> Iterator[None]:
    """Allow this process the sockets of a crowd."""
    soft, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    if hard != resource.RLIM_INFINITY and hard < 2000:
        pytest.skip(f"this process may open {hard} files, and the crowd needs 2000")
    resource.setrlimit(resource.RLIMIT_NOFILE, (max(soft, 2000), hard))
    yield
    resource.setrlimit(resource.RLIMIT_NOFILE, (soft, hard))


@pytest.mark.usefixtures("many_files", "heeds_signals")
@pytest.mark.parametrize(("open_files", "crowd"), [(128, 200), (1024, 1100)])
def test_idle_crowd_neither_locks_viewers_out_nor_ends_the_recording(
    tmp_path, open_files, crowd
) -> None:
    with (
        live_run(tmp_path / "drive.mp4", open_files) as (process, port),
        idle_connections(port, crowd),
    ):
        pictures = 0
        while pictures < 3:
            viewer = http.client.HTTPConnection("127.0.0.1", port, timeout=30)
            with contextlib.closing(viewer):
                status, body = get(viewer, "/frame")
                assert status == 200
                pictures += b'name="picture"' in body
        process.send_signal(signal.SIGINT)
        assert process.wait(60) == 130
        assert "Traceback" not in process.stderr.read()
    with av.open(tmp_path / "drive.mp4") as film:
        assert sum(1 for _ in film.decode(video=0)) > 0


def test_connection_without_token_is_soon_closed_and_a_viewer_is_not(monkeypatch) -> None:
    monkeypatch.setattr(roadseg.infer.server, "TOKEN_TIMEOUT_S", 0.2)
    with PageServer(LOCAL, "drive.mp4") as page:
        port = int(page.url.rstrip("/").rpartition(":")[2])
        viewer = http.client.HTTPConnection("127.0.0.1", port, timeout=30)
        with contextlib.closing(viewer), socket.create_connection(("127.0.0.1", port), 30) as idle:
            assert get(viewer, "/")[0] == 200
            idle.sendall(b"GET / HT")  # and never more
            with contextlib.suppress(ConnectionResetError):
                assert idle.recv(1) == b""
            assert get(viewer, "/")[0] == 200


def test_strangers_take_no_place_of_a_viewer(monkeypatch) -> None:
    monkeypatch.setattr(roadseg.infer.server, "MAX_STRANGERS", 2)
    monkeypatch.setattr(roadseg.infer.server, "MAX_VIEWERS", 1)
    with PageServer(LOCAL, "drive.mp4") as page, contextlib.ExitStack() as stack:
        port = int(page.url.rstrip("/").rpartition(":")[2])
        first, second = (
            stack.enter_context(
                contextlib.closing(http.client.HTTPConnection("127.0.0.1", port, timeout=30))
            )
            for _ in range(2)
        )
        assert get(first, "/")[0] == 200
        stack.enter_context(idle_connections(port, 8))
        assert get(second, "/")[0] == 503  # the viewers are one already
        assert get(first, "/")[0] == 200


def test_page_answers_again_once_files_can_be_opened(monkeypatch) -> None:
    monkeypatch.setattr(roadseg.infer.server, "ACCEPT_PAUSE_S", 0.01)
    limit = resource.getrlimit(resource.RLIMIT_NOFILE)
    with PageServer(LOCAL, "drive.mp4") as page, socket.socket() as viewer:
        next_file = os.dup(viewer.fileno())
        os.close(next_file)
        resource.setrlimit(resource.RLIMIT_NOFILE, (next_file, limit[1]))
        try:
            viewer.connect(("127.0.0.1", int(page.url.rstrip("/").rpartition(":")[2])))
            viewer.sendall(b"GET / HTTP/1.1\r\nHost: localhost\r\n\r\n")
            viewer.settimeout(0.3)
            with pytest.raises(TimeoutError):
                viewer.recv(1)
        finally:
            resource.setrlimit(resource.RLIMIT_NOFILE, limit)
        viewer.settimeout(30)
        assert viewer.recv(15) == b"HTTP/1.1 200 OK"


def test_fault_of_the_page_is_raised_only_when_the_run_is_over(monkeypatch) -> None:
    def broken(*_: object) -> bytes:
        raise ZeroDivisionError("a fault of ours")

    monkeypatch.setattr(PageServer, "_refusal", broken)
    shown = []
    with pytest.raises(ZeroDivisionError), PageServer(LOCAL, "drive.mp4") as page:
        port = int(page.url.rstrip("/").rpartition(":")[2])
        viewer = http.client.HTTPConnection("127.0.0.1", port, timeout=30)
        with contextlib.closing(viewer), pytest.raises(http.client.RemoteDisconnected):
            get(viewer, "/")
        for level in range(3):
            page.show(item(level), READING)
            shown.append(level)
        raise KeyboardInterrupt  # the usual end
    assert shown == [0, 1, 2]
