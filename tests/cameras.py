"""Live sources on loopback whose every frame, stall and loss is commanded by the test."""

import http.server
import queue
import threading
from fractions import Fraction
from pathlib import Path
from types import TracebackType
from typing import Self

import av
import cv2
import numpy as np


class Camera:
    """A network camera that sends MJPEG over HTTP: a frame whenever the test says so.

    The grey level of a frame is its number, modulo 200. Of another kind, it sends what it is given.
    """

    def __init__(self, kind: str = "multipart/x-mixed-replace; boundary=frame") -> None:
        self._kind = kind
        self._orders: queue.Queue[bytes | None] = queue.Queue()
        self._server = http.server.ThreadingHTTPServer(("127.0.0.1", 0), self._handler())
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

    def hang_up(self) -> None:
        """End the connection, or the next one there will be."""
        self._orders.put(None)

    def _handler(self) -> type[http.server.BaseHTTPRequestHandler]:
        camera = self

        class Handler(http.server.BaseHTTPRequestHandler):
            def do_GET(self) -> None:
                self.send_response(200)
                self.send_header("Content-Type", camera._kind)
                self.end_headers()
                camera.connections.release()
                while (data := camera._orders.get()) is not None:
                    try:
                        self.wfile.write(data)
                    except ConnectionError:
                        return

            def log_message(self, *_: object) -> None:
                pass

        return Handler


def _part(number: int) -> bytes:
    picture = np.full((64, 96, 3), number % 200, np.uint8)
    data = cv2.imencode(".jpg", picture)[1].tobytes()
    head = f"--frame\r\nContent-Type: image/jpeg\r\nContent-Length: {len(data)}\r\n\r\n"
    return head.encode() + data + b"\r\n"


def transport_stream(path: Path, seconds: int = 4) -> bytes:
    """A small film as MPEG-TS, as cameras send it: H.264 with a keyframe each half second."""
    with av.open(path, "w", format="mpegts") as container:
        stream = container.add_stream(
            "libx264", rate=25, options={"g": "12", "tune": "zerolatency"}
        )
        stream.width, stream.height, stream.pix_fmt = 96, 64, "yuv420p"
        for number in range(25 * seconds):
            picture = np.full((64, 96, 3), number % 200, np.uint8)
            frame = av.VideoFrame.from_ndarray(picture, format="rgb24")
            frame.pts, frame.time_base = number, Fraction(1, 25)
            container.mux(stream.encode(frame))
        container.mux(stream.encode(None))
    return path.read_bytes()
