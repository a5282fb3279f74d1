"""Sources on loopback: live ones whose every frame and stall a test commands, and a web server."""

import contextlib
import http.server
import queue
import re
import socketserver
import struct
import threading
from collections.abc import Callable, Iterator
from fractions import Fraction
from functools import partial
from pathlib import Path
from types import TracebackType
from typing import BinaryIO, Self

import av
import cv2
import numpy as np


class Commanded:
    """A server on loopback that sends what a test orders, until the test hangs up.

    Args:
        server: Makes the server, given its address and what handles a connection.
        handler: Handles one: it counts in `connections`, and then plays.
    """

    def __init__(
        self,
        server: Callable[..., socketserver.TCPServer],
        handler: type[socketserver.BaseRequestHandler],
    ) -> None:
        self._orders: queue.Queue[bytes | None] = queue.Queue()
        self._server = server(("127.0.0.1", 0), handler)
        self._thread = threading.Thread(target=self._server.serve_forever, args=(0.05,))
        self.connections = threading.Semaphore(0)
        self.sent = 0

    def __enter__(self) -> Self:
        self._thread.start()
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        traceback: TracebackType | None,
    ) -> None:
        self._server.shutdown()
        self._thread.join()
        for _ in range(20):
            self.hang_up()
        self._server.server_close()  # waits for the connections

    def hang_up(self) -> None:
        """End the connection, or the next one there will be."""
        self._orders.put(None)

    def play(self, connection: BinaryIO) -> None:
        """Send what is ordered down a connection, until it is hung up or lost."""
        self.connections.release()
        while (data := self._orders.get()) is not None:
            try:
                connection.write(data)
            except ConnectionError:
                return


class Camera(Commanded):
    """A network camera that sends MJPEG over HTTP: a frame whenever the test says so.

    The grey level of a frame is its number, modulo 200. Of another kind, it sends what it is given.
    """

    def __init__(self, kind: str = "multipart/x-mixed-replace; boundary=frame") -> None:
        self._kind = kind
        super().__init__(http.server.ThreadingHTTPServer, self._handler())

    @property
    def url(self) -> str:
        host, port = self._server.server_address[:2]
        return f"http://{host}:{port}/video.mjpg"

    def send(self, frames: int) -> None:
        for _ in range(frames):
            self._orders.put(_part(self.sent))
            self.sent += 1

    def send_bytes(self, data: bytes) -> None:
        self._orders.put(data)

    def _handler(self) -> type[http.server.BaseHTTPRequestHandler]:
        camera = self

        class Handler(http.server.BaseHTTPRequestHandler):
            def do_GET(self) -> None:
                self.send_response(200)
                self.send_header("Content-Type", camera._kind)
                self.end_headers()
                camera.play(self.wfile)

            def log_message(self, *_: object) -> None:
                pass

        return Handler


class RtspCamera(Commanded):
    """A network camera that speaks RTSP: H.264 down the connection, a frame when the test says so.

    The grey level of a frame is its number, modulo 200; each is a keyframe.
    """

    def __init__(self) -> None:
        super().__init__(socketserver.ThreadingTCPServer, self._handler())
        self._encoder = av.CodecContext.create("libx264", "w")
        self._encoder.width, self._encoder.height, self._encoder.pix_fmt = 96, 64, "yuv420p"
        self._encoder.time_base = Fraction(1, 25)
        self._encoder.options = {"g": "1", "tune": "zerolatency", "preset": "ultrafast"}
        self._packets = 0

    @property
    def url(self) -> str:
        return f"rtsp://127.0.0.1:{self._server.server_address[1]}/street"

    def send(self, frames: int) -> None:
        for _ in range(frames):
            picture = np.full((64, 96, 3), self.sent % 200, np.uint8)
            frame = av.VideoFrame.from_ndarray(picture, format="rgb24")
            frame.pts = self.sent
            (packet,) = self._encoder.encode(frame)
            units = re.split(b"\0?\0\0\1", bytes(packet))[1:]
            order = b""
            for unit in units:
                order += _rtp(self.sent, self._packets, unit, is_last=unit is units[-1])
                self._packets += 1
            self._orders.put(order)
            self.sent += 1

    def _handler(self) -> type[socketserver.StreamRequestHandler]:
        camera = self

        class Handler(socketserver.StreamRequestHandler):
            def handle(self) -> None:
                while (request := self._request()) is not None:
                    method, fields = request
                    body = SDP if method == "DESCRIBE" else ""
                    answer = {"CSeq": fields["cseq"], "Session": "1"}
                    if method == "SETUP":
                        answer["Transport"] = fields["transport"]
                    if body:
                        answer |= {"Content-Type": "application/sdp"}
                        answer |= {"Content-Length": str(len(body))}
                    lines = ["RTSP/1.0 200 OK", *(f"{k}: {v}" for k, v in answer.items()), "", body]
                    self.wfile.write("\r\n".join(lines).encode())
                    if method == "PLAY":
                        camera.play(self.wfile)
                        return

            def _request(self) -> tuple[str, dict[str, str]] | None:
                line = self.rfile.readline().decode()
                fields = {}
                while (field := self.rfile.readline().decode().strip()) != "":
                    name, _, value = field.partition(":")
                    fields[name.lower()] = value.strip()
                return (line.split()[0], fields) if line else None

        return Handler


SDP = (
    "v=0\r\no=- 0 0 IN IP4 127.0.0.1\r\ns=street\r\nt=0 0\r\nm=video 0 RTP/AVP 96\r\n"
    "a=rtpmap:96 H264/90000\r\na=fmtp:96 packetization-mode=1\r\na=control:stream\r\n"
)


def _rtp(frame: int, number: int, unit: bytes, *, is_last: bool) -> bytes:
    """One unit of H.264 as RTP (RFC 6184) between the lines of RTSP (RFC 2326, 10.12)."""
    kind = 96 | (0x80 if is_last else 0)
    head = struct.pack("!BBHII", 0x80, kind, number % 2**16, frame * 3600 % 2**32, 1)
    return b"$\0" + struct.pack("!H", len(head) + len(unit)) + head + unit


def _part(number: int) -> bytes:
    picture = np.full((64, 96, 3), number % 200, np.uint8)
    data = cv2.imencode(".jpg", picture)[1].tobytes()
    head = f"--frame\r\nContent-Type: image/jpeg\r\nContent-Length: {len(data)}\r\n\r\n"
    return head.encode() + data + b"\r\n"


def transport_stream(path: Path, seconds: int = 4, pixel_aspect: Fraction = Fraction(1)) -> bytes:
    """A small film as MPEG-TS, as cameras send it: H.264 with a keyframe each half second."""
    with av.open(path, "w", format="mpegts") as container:
        stream = container.add_stream(
            "libx264", rate=25, options={"g": "12", "tune": "zerolatency"}
        )
        stream.width, stream.height, stream.pix_fmt = 96, 64, "yuv420p"
        stream.codec_context.sample_aspect_ratio = pixel_aspect
        for number in range(25 * seconds):
            picture = np.full((64, 96, 3), number % 200, np.uint8)
            frame = av.VideoFrame.from_ndarray(picture, format="rgb24")
            frame.pts, frame.time_base = number, Fraction(1, 25)
            container.mux(stream.encode(frame))
        container.mux(stream.encode(None))
    return path.read_bytes()


class Quiet(http.server.SimpleHTTPRequestHandler):
    def log_message(self, *_args: object) -> None:
        pass


@contextlib.contextmanager
def served(folder: Path) -> Iterator[str]:
    """The address of a web server on a folder."""
    with http.server.ThreadingHTTPServer(
        ("127.0.0.1", 0), partial(Quiet, directory=folder)
    ) as server:
        thread = threading.Thread(target=server.serve_forever)
        thread.start()
        try:
            yield f"http://127.0.0.1:{server.server_address[1]}"
        finally:
            server.shutdown()
            thread.join()
