"""Serve the live view as a page: each viewer asks for the newest frame when it has shown the last.

So a slow viewer gets fewer frames and never older ones, and the pipeline waits for nobody: showing
a frame leaves it where the server finds it. Pictures travel as JPEG beside the class map, and the
page paints them, so that every viewer has its own classes and opacity.

Without a token only this machine can connect, and only under a local name, lest a page of another
site reach it through a name that it points here (DNS rebinding). Elsewhere every path begins with
the token. Nothing can be changed through the server.

A connection that has shown no token costs little: there are few of them, the oldest makes room for
the newest, and each has but seconds. Nothing that comes over the network ends the run.
"""

import asyncio
import contextlib
import hmac
import ipaddress
import json
import secrets
import socket
import time
import zlib
from dataclasses import dataclass
from functools import cached_property
from http import HTTPStatus
from importlib.resources import files
from types import TracebackType
from typing import Any, Self
from urllib.parse import parse_qs, urlsplit

from roadseg.backends.machine import open_files_limit
from roadseg.errors import ServerError
from roadseg.infer.live import Reading
from roadseg.infer.loop_thread import LoopThread
from roadseg.infer.stats import count_pixels, shares_of
from roadseg.video.encoded import JpegQuality, encoded
from roadseg.video.frame import SegmentedFrame

ASSETS = {
    "": ("live.html", "text/html; charset=utf-8"),
    "page.css": ("page.css", "text/css; charset=utf-8"),
    "live.css": ("live.css", "text/css; charset=utf-8"),
    "live.js": ("live.js", "text/javascript; charset=utf-8"),
}
"""File and kind of what is served under a path."""
HEADERS = {
    "Cache-Control": "no-store",
    "Content-Security-Policy": "default-src 'self'; img-src 'self' data:; frame-ancestors 'none'",
    "Cross-Origin-Resource-Policy": "same-origin",
    "Referrer-Policy": "no-referrer",
    "X-Content-Type-Options": "nosniff",
}
"""What every answer carries: no other site may read it, embed it or learn its address."""
BOUNDARY = f"roadseg-{secrets.token_hex(16)}"
"""Stands between the parts of a frame; drawn at random, so that it is in none of them."""
PICTURE_WIDTH, CLASS_MAP_WIDTH = 1280, 960
"""Largest widths sent."""
NEWS_TIMEOUT_S = 10.0
"""A viewer that waits this long for a frame is given the last once more."""
TOKEN_TIMEOUT_S = 5.0
"""A connection that has not shown the token within this time is closed."""
IDLE_TIMEOUT_S = 60.0
"""So is one that has, and then asks for nothing for this time."""
SEND_TIMEOUT_S = 20.0
"""And so is one that does not take its answer within this time."""
ACCEPT_PAUSE_S = 0.2
"""Wait before the next connection is accepted where one could not be."""
BACKLOG = 128
"""Connections that may wait to be accepted."""
MAX_REQUEST_BYTES = 16_384
MAX_STRANGERS, MAX_VIEWERS = 32, 64
"""Connections at a time that have not shown the token, and that have."""
FILES_SHARE = 1 / 6
"""Share of the files that the process may open which strangers may take; viewers may take two."""
HEAD_END = b"\r\n\r\n"


@dataclass(frozen=True)
class Address:
    """Where to listen."""

    host: str = "127.0.0.1"
    """Name or number of an interface; 0.0.0.0 is all of them."""
    port: int = 8620
    """Port; 0 is any that is free."""

    @classmethod
    def parse(cls, text: str) -> Self:
        """Read an address as users write it, "HOST:PORT".

        Raises:
            ServerError: It is none.
        """
        host, _, port = text.rpartition(":")
        if not host or not port.isdecimal() or int(port) > 65535:
            raise ServerError(f"--listen is {text!r}; give HOST:PORT, such as 127.0.0.1:8620")
        return cls(host.strip("[]"), int(port))

    @property
    def is_local(self) -> bool:
        """Whether only this machine can reach it."""
        return _is_local(self.host)


@dataclass(frozen=True)
class Shown:
    """A frame as viewers get it; what is costly is made once, when the first viewer asks."""

    item: SegmentedFrame
    reading: Reading

    @cached_property
    def parts(self) -> bytes:
        """The picture as JPEG and the class map, as parts of a form."""
        height, width = self.item.frame.picture.size_hw
        shown_width = min(width, PICTURE_WIDTH)
        rgb = self.item.frame.rgb((round(height * shown_width / width), shown_width))
        jpeg = encoded(rgb, JpegQuality.LIVE)
        return _part("picture", jpeg) + _part("classes", self._deflated_class_map)

    @property
    def _deflated_class_map(self) -> bytes:
        return zlib.compress(self._small_class_map.tobytes(), 1)

    @cached_property
    def _small_class_map(self) -> Any:
        step = -(-self.item.class_map.shape[1] // CLASS_MAP_WIDTH)
        return self.item.class_map[::step, ::step]

    @cached_property
    def facts(self) -> dict[str, Any]:
        """What the page says about the frame."""
        spec = self.item.spec
        colors = ("#{:02x}{:02x}{:02x}".format(*color) for color in spec.palette)
        return {
            "classes": list(zip(spec.class_names, colors, strict=True)),
            "shares": list(shares_of(count_pixels(self.item), spec).values()),
            "map_hw": self._small_class_map.shape,
            "fps": self.reading.fps,
            "dropped": self.reading.dropped,
        }

    @property
    def age_s(self) -> float:
        """Time since the frame arrived."""
        assert self.item.frame.arrival is not None
        return time.monotonic() - self.item.frame.arrival.time_s


@dataclass(frozen=True)
class Request:
    """What a viewer asks for."""

    method: str
    path: str
    query: dict[str, list[str]]
    host: str


class PageServer:
    """The page, for as long as the block lasts.

    Args:
        address: Where to listen. Unless only this machine can reach it, the URL has a token in it.
        label: Name of the source.

    Raises:
        ServerError: The address cannot be listened on.
    """

    def __init__(self, address: Address, label: str) -> None:
        self._label = label
        self._is_local = address.is_local
        self._root = "/" if address.is_local else f"/{secrets.token_urlsafe(16)}/"
        self._listener = _listen(address)
        self.url = self._url()
        """The page's address."""
        self._shown: Shown | None = None
        self._notice, self._notice_s = "", 0.0
        self._version = 0
        self._news = asyncio.Event()
        self._assets = {
            name: _response(
                HTTPStatus.OK, files("roadseg.pages").joinpath("web", file).read_bytes(), kind
            )
            for name, (file, kind) in ASSETS.items()
        }
        self._strangers: dict[asyncio.WriteTransport, None] = {}
        self._viewers: set[asyncio.WriteTransport] = set()
        share = int(open_files_limit() * FILES_SHARE)
        self._most_strangers = min(MAX_STRANGERS, share)
        self._most_viewers = min(MAX_VIEWERS, 2 * share)
        self._loop = LoopThread(self._serve, "server")

    def __enter__(self) -> Self:
        self._loop.__enter__()
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        traceback: TracebackType | None,
    ) -> None:
        self._loop.__exit__(kind, error, traceback)

    def _url(self) -> str:
        host, port = self._listener.getsockname()[:2]
        if ipaddress.ip_address(host).is_unspecified:
            host = socket.gethostname()
        return f"http://{f'[{host}]' if ':' in host else host}:{port}{self._root}"

    def show(self, item: SegmentedFrame, reading: Reading) -> None:
        """Make a frame the newest."""
        self._shown = Shown(item, reading)
        assert item.frame.arrival is not None  # capture sees to it
        if item.frame.arrival.time_s > self._notice_s:  # not one that was on its way already
            self._notice = ""
        self._loop.call(self._announce)

    def notify(self, notice: str) -> None:
        """Show a sentence until a frame is shown that came after it. Any thread may call it."""
        self._notice, self._notice_s = notice, time.monotonic()
        self._loop.call(self._announce)

    def _announce(self) -> None:
        """Wake the viewers that wait. Runs on the loop's thread, as all below does."""
        self._version += 1
        self._news.set()
        self._news = asyncio.Event()

    async def _serve(self) -> None:
        """Accept one connection after the other, so that never more are open than are meant to."""
        loop = asyncio.get_running_loop()
        with self._listener:
            while True:
                try:
                    connection, _ = await loop.sock_accept(self._listener)
                    await self._take_up(connection)
                except OSError:  # it hung up at once, or the process has too many files open
                    await asyncio.sleep(ACCEPT_PAUSE_S)

    async def _take_up(self, connection: socket.socket) -> None:
        reader = asyncio.StreamReader(limit=MAX_REQUEST_BYTES)
        protocol = asyncio.StreamReaderProtocol(reader, self._attend)
        try:
            await asyncio.get_running_loop().connect_accepted_socket(lambda: protocol, connection)
        except OSError:
            connection.close()
            raise

    async def _attend(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        """Answer one connection's requests until it leaves or takes too long."""
        gone = (TimeoutError, OSError, asyncio.IncompleteReadError, asyncio.LimitOverrunError)
        self._admit(writer.transport)
        try:
            with contextlib.suppress(*gone):
                async with asyncio.timeout(TOKEN_TIMEOUT_S) as limit:
                    while True:
                        request = _parse_request(await reader.readuntil(HEAD_END))
                        writer.write(await self._answer(request, writer.transport, limit))
                        await writer.drain()
                        self._allow(IDLE_TIMEOUT_S, writer.transport, limit)
        finally:
            self._strangers.pop(writer.transport, None)
            self._viewers.discard(writer.transport)
            writer.transport.abort()

    def _admit(self, transport: asyncio.WriteTransport) -> None:
        """Count a connection among the strangers; the oldest of too many is closed."""
        self._strangers[transport] = None
        if len(self._strangers) > self._most_strangers:
            oldest = next(iter(self._strangers))
            del self._strangers[oldest]
            oldest.abort()

    def _allow(
        self, seconds: float, transport: asyncio.WriteTransport, limit: asyncio.Timeout
    ) -> None:
        """Give a viewer this time for what comes next; a stranger's time does not grow."""
        if transport in self._viewers:
            limit.reschedule(asyncio.get_running_loop().time() + seconds)

    async def _answer(
        self, request: Request | None, transport: asyncio.WriteTransport, limit: asyncio.Timeout
    ) -> bytes:
        """Return the answer to a request; whoever shows the token is a viewer from then on."""
        if request is None:
            return _response(HTTPStatus.BAD_REQUEST)
        if refusal := self._refusal(request, transport):
            return _response(refusal)
        self._strangers.pop(transport, None)
        self._viewers.add(transport)
        self._allow(NEWS_TIMEOUT_S + SEND_TIMEOUT_S, transport, limit)
        name = request.path[len(self._root) :]
        if request.method != "GET":
            return _response(HTTPStatus.METHOD_NOT_ALLOWED)
        if name == "frame":
            return await self._newest_frame(request.query.get("after", [""])[0])
        return self._assets.get(name) or _response(HTTPStatus.NOT_FOUND)

    def _refusal(self, request: Request, transport: asyncio.WriteTransport) -> HTTPStatus | None:
        """Return why a request gets no answer; the token comes before all else."""
        if not hmac.compare_digest(request.path[: len(self._root)].encode(), self._root.encode()):
            return HTTPStatus.NOT_FOUND
        if self._is_local and not _is_local(request.host):
            return HTTPStatus.FORBIDDEN
        if transport not in self._viewers and len(self._viewers) >= self._most_viewers:
            return HTTPStatus.SERVICE_UNAVAILABLE
        return None

    async def _newest_frame(self, seen: str) -> bytes:
        """Return the newest frame, or wait for one if it has been seen."""
        if seen == str(self._version):
            with contextlib.suppress(TimeoutError):  # then it is seen again, and found to be old
                await asyncio.wait_for(self._news.wait(), NEWS_TIMEOUT_S)
        facts: dict[str, Any] = {"version": self._version, "label": self._label}
        facts |= {"notice": self._notice}
        parts = b""
        if self._shown:
            parts = self._shown.parts
            facts |= self._shown.facts | {"age_s": self._shown.age_s}
        body = _part("facts", json.dumps(facts).encode()) + parts + f"--{BOUNDARY}--\r\n".encode()
        return _response(HTTPStatus.OK, body, f"multipart/form-data; boundary={BOUNDARY}")


def _listen(address: Address) -> socket.socket:
    try:
        family = socket.AF_INET6 if ":" in address.host else socket.AF_INET
        listener = socket.create_server(
            (address.host, address.port), family=family, backlog=BACKLOG
        )
    except OSError as error:
        reason = str(error.strerror).partition(" (while")[0]  # Python adds the address to it
        raise ServerError(
            f"{address.host}:{address.port} cannot be listened on ({reason}); choose "
            "another --listen, such as 127.0.0.1:0 for any free port"
        ) from error
    listener.setblocking(False)
    return listener


def _is_local(host: str) -> bool:
    """Return whether a name means this machine by itself, whatever a name server says."""
    if host == "localhost":
        return True
    try:
        return ipaddress.ip_address(host).is_loopback
    except ValueError:
        return False


def _parse_request(head: bytes) -> Request | None:
    """Read a request's line and its Host; None is no HTTP. Other headers do not matter here."""
    line, *headers = head.decode("latin-1").split("\r\n")
    method, _, rest = line.partition(" ")
    target, _, version = rest.partition(" ")
    if not version.startswith("HTTP/1."):
        return None
    fields = {name.lower(): value.strip() for name, _, value in (h.partition(":") for h in headers)}
    try:
        url, host = urlsplit(target), urlsplit(f"//{fields.get('host', '')}").hostname
    except ValueError:  # such as an unfinished [
        return None
    return Request(method, url.path, parse_qs(url.query), host or "")


def _response(status: HTTPStatus, body: bytes | None = None, kind: str = "text/plain") -> bytes:
    body = status.phrase.encode() if body is None else body
    headers = HEADERS | {"Content-Type": kind, "Content-Length": str(len(body))}
    lines = [f"HTTP/1.1 {status.value} {status.phrase}"]
    lines += [f"{name}: {value}" for name, value in headers.items()]
    return "\r\n".join([*lines, "", ""]).encode() + body


def _part(name: str, data: bytes) -> bytes:
    """Return one part of a form."""
    head = (
        f'--{BOUNDARY}\r\nContent-Disposition: form-data; name="{name}"; filename="{name}"\r\n'
        "Content-Type: application/octet-stream\r\n\r\n"
    )
    return head.encode() + data + b"\r\n"
