"""The live view's server, over real sockets."""

import contextlib
import http.client
import itertools
import json
import socket
import threading
import time
import zlib
from collections.abc import Callable, Iterator
from dataclasses import replace
from email import message_from_bytes
from fractions import Fraction
from urllib.parse import urlsplit

import cv2
import numpy as np
import pytest
from conftest import patience

from roadseg.errors import ServerError
from roadseg.infer.live import Reading
from roadseg.infer.server import Address, PageServer
from roadseg.spec import ModelSpec
from roadseg.video.frame import Arrival, Frame, SegmentedFrame
from roadseg.video.picture import Picture

SPEC = ModelSpec(arch="unet", width=4)
READING = Reading(fps=12.5, age_s=0.04, dropped=3)
LOCAL = Address(port=0)


def item(level: int = 90, size_hw: tuple[int, int] = (48, 64)) -> SegmentedFrame:
    picture = Picture.from_rgb(np.full((*size_hw, 3), level, np.uint8))
    class_map = np.zeros(size_hw, np.uint8)
    class_map[size_hw[0] // 2 :] = 3
    frame = Frame(picture, 0, Fraction(1, 25), arrival=Arrival(0, time.monotonic()))
    return SegmentedFrame(frame, class_map, SPEC)


@pytest.fixture
def page() -> Iterator[PageServer]:
    with PageServer(LOCAL, "drive.mp4") as server:
        yield server


@pytest.fixture
def connect() -> Iterator[Callable[[PageServer], http.client.HTTPConnection]]:
    """Opens connections that are closed when the test is over."""
    with contextlib.ExitStack() as stack:

        def connect(page: PageServer) -> http.client.HTTPConnection:
            port = urlsplit(page.url).port
            connection = http.client.HTTPConnection("127.0.0.1", port, timeout=30)
            return stack.enter_context(contextlib.closing(connection))

        yield connect


def get(connection: http.client.HTTPConnection, path: str, **headers: str) -> tuple[int, bytes]:
    connection.request("GET", path, headers=headers)
    response = connection.getresponse()
    return response.status, response.read()


def frame(connection: http.client.HTTPConnection, after: object = "") -> dict[str, bytes]:
    """The parts of the newest frame, read by the standard library's parser of mail."""
    connection.request("GET", f"/frame?after={after}")
    response = connection.getresponse()
    head = f"Content-Type: {response.headers['Content-Type']}\r\n\r\n".encode()
    message = message_from_bytes(head + response.read())
    return {
        str(part.get_param("name", header="content-disposition")): part.get_payload(decode=True)
        for part in message.get_payload()
    }  # type: ignore[union-attr, return-value]


def test_frame_carries_picture_classes_and_facts(page, connect) -> None:
    page.show(item(), READING)
    parts = frame(connect(page))
    facts = json.loads(parts["facts"])
    assert (facts["label"], facts["fps"], facts["dropped"]) == ("drive.mp4", 12.5, 3)
    assert facts["classes"][3] == ["road", "#804080"]
    assert facts["shares"][0] == facts["shares"][3] == 0.5
    assert facts["age_s"] >= 0
    picture = cv2.imdecode(np.frombuffer(parts["picture"], np.uint8), cv2.IMREAD_COLOR)
    assert picture.shape == (48, 64, 3) and abs(int(picture.mean()) - 90) <= 1
    ids = np.frombuffer(zlib.decompress(parts["classes"]), np.uint8).reshape(facts["map_hw"])
    np.testing.assert_array_equal(ids, item().class_map)


def test_large_frame_is_sent_smaller(page, connect) -> None:
    page.show(item(size_hw=(2160, 3840)), READING)
    parts = frame(connect(page))
    assert json.loads(parts["facts"])["map_hw"] == [540, 960]
    picture = cv2.imdecode(np.frombuffer(parts["picture"], np.uint8), cv2.IMREAD_COLOR)
    assert picture.shape == (720, 1280, 3)


def test_picture_is_sent_with_square_pixels(page, connect) -> None:
    wide = item()
    page.show(replace(wide, frame=replace(wide.frame, pixel_aspect=Fraction(4, 3))), READING)
    picture = frame(connect(page))["picture"]
    decoded = cv2.imdecode(np.frombuffer(picture, np.uint8), cv2.IMREAD_COLOR)
    assert decoded.shape == (48, 85, 3)


def test_viewer_who_has_seen_a_frame_waits_for_the_next(page, connect) -> None:
    page.show(item(90), READING)
    viewer = connect(page)
    seen = json.loads(frame(viewer)["facts"])["version"]
    viewer.request("GET", f"/frame?after={seen}")
    page.show(item(200), READING)
    assert viewer.getresponse().status == 200


def test_answer_is_of_one_frame_whatever_is_shown_meanwhile(page, connect) -> None:
    shown = itertools.cycle([item(size_hw=(720, 1280)), item(size_hw=(600, 960))])
    page.show(next(shown), READING)
    done = threading.Event()

    def run() -> None:
        while not done.wait(0.005):
            page.show(next(shown), READING)

    running, viewer = threading.Thread(target=run), connect(page)
    running.start()
    try:
        for _ in range(30):
            parts = frame(viewer)
            height, width = json.loads(parts["facts"])["map_hw"]
            assert len(zlib.decompress(parts["classes"])) == height * width
    finally:
        done.set()
        running.join()


def test_slow_viewer_keeps_nobody_waiting_and_gets_the_newest(page, connect) -> None:
    big = item(size_hw=(720, 1280))
    for plane in big.frame.picture.planes:
        plane[:] = np.random.default_rng(0).integers(0, 256, plane.shape)
    page.show(big, READING)
    slow, quick = connect(page), connect(page)
    slow.request("GET", "/frame?after=")  # and it does not read the answer
    for level in range(100):
        page.show(item(level), READING)
        frame(quick)
    slow.getresponse().read()
    for viewer in (slow, quick):
        picture = frame(viewer)["picture"]
        decoded = cv2.imdecode(np.frombuffer(picture, np.uint8), cv2.IMREAD_COLOR)
        assert abs(int(decoded.mean()) - 99) <= 1


def test_run_can_wait_until_somebody_watches_and_while_nobody_does(
    page, connect, monkeypatch
) -> None:
    monkeypatch.setattr("roadseg.infer.server.ABSENCE_S", 0.1)
    assert not page.is_watched
    waiting = threading.Thread(target=page.wait_for_viewer)
    waiting.start()
    page.show(item(), READING)
    assert waiting.is_alive()
    frame(connect(page))
    waiting.join(patience(20))
    assert not waiting.is_alive()
    deadline = time.monotonic() + patience(20)
    while page.is_watched:
        assert time.monotonic() < deadline


def test_end_of_the_page_ends_the_wait_for_viewers() -> None:
    with PageServer(LOCAL, "drive.mp4") as page:
        pass
    page.wait_for_viewer()


def test_notice_reaches_viewers_until_a_later_frame_comes(page, connect) -> None:
    on_its_way = item()
    page.notify("rtsp://camera is lost")
    page.show(on_its_way, READING)
    assert json.loads(frame(connect(page))["facts"])["notice"] == "rtsp://camera is lost"
    page.show(item(), READING)
    assert json.loads(frame(connect(page))["facts"])["notice"] == ""


@pytest.mark.parametrize(
    ("path", "kind"),
    [
        ("/", b"<!doctype html>"),
        ("/page.css", b":root"),
        ("/live.css", b":root"),
        ("/live.js", b"// "),
    ],
)
def test_page_has_all_it_needs(page, connect, path, kind) -> None:
    status, body = get(connect(page), path)
    assert status == 200 and body.startswith(kind)
    assert b"http://" not in body and b"https://" not in body  # nothing comes from elsewhere


@pytest.mark.parametrize(
    ("host", "status"),
    [
        ("127.0.0.1:1", 200),
        ("localhost:8620", 200),
        ("[::1]:8620", 200),
        ("evil.example", 403),
        ("evil.example:8620", 403),
        ("127.0.0.1.evil.example", 403),
        ("192.168.1.5", 403),
        ("[", 400),
        ("", 403),
    ],
)
def test_name_that_somebody_points_here_is_refused(page, connect, host, status) -> None:
    assert get(connect(page), "/", Host=host)[0] == status


def test_address_that_others_reach_needs_the_token(connect) -> None:
    with PageServer(Address("0.0.0.0", 0), "drive.mp4") as page:
        token = page.url.split("/")[3]
        assert len(token) >= 20
        paths = ("/", "/frame", f"/{token[:-1]}!/", f"/{token}/", f"/{token}/live.js")
        viewer = connect(page)
        assert [get(viewer, path)[0] for path in paths] == [404, 404, 404, 200, 200]


def test_answers_may_not_be_read_or_embedded_by_other_sites(page, connect) -> None:
    connection = connect(page)
    connection.request("GET", "/")
    headers = connection.getresponse().headers
    assert "default-src 'self'" in headers["Content-Security-Policy"]
    assert "frame-ancestors 'none'" in headers["Content-Security-Policy"]
    assert headers["Cross-Origin-Resource-Policy"] == "same-origin"
    assert headers["Referrer-Policy"] == "no-referrer"
    assert "Access-Control-Allow-Origin" not in headers


@pytest.mark.parametrize(
    ("sent", "status"),
    [
        (b"GET /../config.py HTTP/1.1\r\nHost: localhost\r\n\r\n", b"404"),
        (b"GET /live.html HTTP/1.1\r\nHost: localhost\r\n\r\n", b"404"),
        (b"POST / HTTP/1.1\r\nHost: localhost\r\n\r\n", b"405"),
        (b"nonsense\r\n\r\n", b"400"),
        (b"\xff\xfe\r\n\r\n", b"400"),
        (b"GET / HTTP/1.1\r\nHost: localhost\r\nX: " + b"x" * 70_000, b""),
    ],
)
def test_strange_requests_are_refused(page, connect, sent, status) -> None:
    with socket.create_connection(("127.0.0.1", urlsplit(page.url).port), 30) as connection:
        connection.sendall(sent)
        try:
            answer = connection.recv(4096)
        except ConnectionError:  # hung up on
            answer = b""
        assert answer[9:12] == status
    assert get(connect(page), "/")[0] == 200


def test_leaving_ends_every_connection_and_the_thread(connect) -> None:
    with PageServer(LOCAL, "drive.mp4") as page:
        page.show(item(), READING)
        waiting, idle = connect(page), connect(page)
        seen = json.loads(frame(waiting)["facts"])["version"]
        waiting.request("GET", f"/frame?after={seen}")
        idle.connect()
    with pytest.raises((ConnectionError, http.client.RemoteDisconnected)):
        waiting.getresponse()
    assert not [t for t in threading.enumerate() if t.name.startswith("roadseg")]
    with pytest.raises(ConnectionRefusedError):
        connect(page).connect()


def test_page_ends_at_once_where_a_frame_comes_just_before(connect) -> None:
    for _ in range(8):  # whether they come together is a matter of luck
        with PageServer(LOCAL, "drive.mp4") as page:
            page.show(item(), READING)
            viewer = connect(page)
            seen = json.loads(frame(viewer)["facts"])["version"]
            viewer.request("GET", f"/frame?after={seen}")
            get(connect(page), "/")  # is answered after the other was read
            since_s = time.monotonic()
            page.show(item(), READING)
        assert time.monotonic() - since_s < patience(10)


@pytest.mark.parametrize("host", ["a..b", "ä" * 70])
def test_name_that_no_host_can_have_is_refused(host) -> None:
    with pytest.raises(ServerError, match=r"; give HOST:PORT, such as 127\.0\.0\.1:8620"):
        Address.parse(f"{host}:0")


def test_address_in_use_says_what_to_do(page) -> None:
    port = urlsplit(page.url).port
    assert port
    with pytest.raises(ServerError, match=r"cannot be listened on \(Address .*127\.0\.0\.1:0 for"):
        PageServer(Address(port=port), "drive.mp4")


@pytest.mark.parametrize("text", ["8620", "localhost", "localhost:", ":8620", "a:b", "a:99999"])
def test_what_is_no_address_is_refused(text) -> None:
    with pytest.raises(ServerError, match="--listen"):
        Address.parse(text)


@pytest.mark.parametrize(
    ("text", "local"),
    [
        ("127.0.0.1:1", True),
        ("localhost:1", True),
        ("[::1]:1", True),
        ("0.0.0.0:1", False),
        ("[::]:1", False),
        ("192.168.0.9:1", False),
        ("myhost:1", False),
    ],
)
def test_only_loopback_is_local(text, local) -> None:
    assert Address.parse(text).is_local is local
