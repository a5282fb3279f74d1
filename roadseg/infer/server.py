"""Serve the live view as a page, whose viewers request the newest frame one after the other.

A slow viewer gets fewer frames and never older ones. The pipeline waits for no viewer: it only
replaces the frame that the server sends. Pictures are sent as JPEG beside the class map, and the
page paints them, so that every viewer chooses classes and opacity.

Without a token only this machine can connect, and only under a local name, as a page of another
site could use a name that resolves to this machine (DNS rebinding). Elsewhere every path begins
with the token. The server is read-only.

Connections without the token are limited: there are few, the oldest is closed for the newest, and
each has a few seconds. Nothing that comes over the network ends the run.
"""

import asyncio
import contextlib
import hmac
import ipaddress
import json
import re
import secrets
import socket
import threading
import time
from dataclasses import dataclass
from functools import partial
from http import HTTPStatus
from importlib.resources import files
from types import TracebackType
from typing import Any, Self

from roadseg.backends.machine import open_files_limit
from roadseg.errors import ServerError
from roadseg.infer.http import HEAD_END, Request, form, parse_request, part, response
from roadseg.infer.live import Reading
from roadseg.infer.loop_thread import LoopThread
from roadseg.infer.shown import Shown
from roadseg.paint.config import OverlayConfig
from roadseg.video.frame import SegmentedFrame

ASSETS = {
    "": ("live.html", "text/html; charset=utf-8"),
    "page.css": ("page.css", "text/css; charset=utf-8"),
    "live.css": ("live.css", "text/css; charset=utf-8"),
    "live.js": ("live.js", "text/javascript; charset=utf-8"),
}
"""File and kind of what is served under a path."""
NEWS_TIMEOUT_S = 10.0
"""Time after which a viewer that waits for a frame gets the last one again."""
TOKEN_TIMEOUT_S = 5.0
"""Time after which a connection without the token is closed."""
IDLE_TIMEOUT_S = 60.0
"""Time without a request after which a viewer's connection is closed."""
ABSENCE_S = 3.0
"""Time without a request for a frame after which nobody is watching."""
SEND_TIMEOUT_S = 20.0
"""Time within which a viewer must receive a response."""
ACCEPT_PAUSE_S = 0.2
"""Wait after a connection could not be accepted."""
BACKLOG = 128
"""Connections that may wait to be accepted."""
MAX_REQUEST_BYTES = 16_384
MAX_STRANGERS, MAX_VIEWERS = 32, 64
"""Most connections at a time without the token, and with it."""
FILES_SHARE = 1 / 6
"""Share of the process's open files for connections without the token; viewers have twice that."""


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
            ServerError: It is not one.
        """
        host, _, port = text.rpartition(":")
        is_port = re.fullmatch(r"\d{1,5}", port) and int(port) <= 65535
        if not (host and is_port and _is_name(host)):
            raise ServerError(f"--listen is {text!r}; give HOST:PORT, such as 127.0.0.1:8620")
        return cls(host.strip("[]"), int(port))

    @property
    def is_local(self) -> bool:
        """Whether only this machine can reach it."""
        return _is_local(self.host)


class PageServer:
    """The page, for as long as the block lasts.

    Args:
        address: Where to listen. Unless only this machine can reach it, the URL has a token in it.
        label: Name of the source.
        overlay: What viewers see at first; they choose alpha, outline and classes themselves.

    Raises:
        ServerError: The address cannot be listened on.
    """

    def __init__(self, address: Address, label: str, overlay: OverlayConfig | None = None) -> None:
        self._label = label
        self._overlay = overlay or OverlayConfig()
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
            name: response(
                HTTPStatus.OK, files("roadseg.pages").joinpath("web", file).read_bytes(), kind
            )
            for name, (file, kind) in ASSETS.items()
        }
        self._strangers: dict[asyncio.WriteTransport, None] = {}
        self._viewers: set[asyncio.WriteTransport] = set()
        self._watched = threading.Event()
        self._absence: asyncio.TimerHandle | None = None
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
        self._loop.call(partial(self._replace, Shown(item, reading, self._overlay)))

    def notify(self, notice: str) -> None:
        """Show a sentence until a later frame is shown. Any thread may call it."""
        self._loop.call(partial(self._replace_notice, notice, time.monotonic()))

    @property
    def is_watched(self) -> bool:
        """Whether somebody asked for a frame a moment ago, or waits for one."""
        return self._watched.is_set()

    def wait_for_viewer(self) -> None:
        """Return as soon as somebody is watching, or nobody can any more."""
        self._watched.wait()

    def _replace(self, shown: Shown) -> None:
        """Make a frame the newest. This and all methods below run on the loop's thread.

        So no answer is half of one frame and half of the next.
        """
        self._shown = shown
        assert shown.item.frame.arrival is not None  # capture sees to it
        if shown.item.frame.arrival.time_s > self._notice_s:  # not an earlier one
            self._notice = ""
        self._announce()

    def _replace_notice(self, notice: str, now_s: float) -> None:
        self._notice, self._notice_s = notice, now_s
        self._announce()

    def _announce(self) -> None:
        """Wake the viewers that wait."""
        self._version += 1
        self._news.set()
        self._news = asyncio.Event()

    async def _serve(self) -> None:
        """Accept connections one after the other, which keeps to the limits."""
        loop = asyncio.get_running_loop()
        with self._listener, contextlib.ExitStack() as stack:
            stack.callback(self._watched.set)  # nobody waits for viewers that cannot come
            while True:
                try:
                    connection, _ = await loop.sock_accept(self._listener)
                    await self._take_up(connection)
                except OSError:  # it was closed at once, or too many files are open
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
        """Answer a connection's requests until it is closed or times out."""
        gone = (TimeoutError, OSError, asyncio.IncompleteReadError, asyncio.LimitOverrunError)
        self._admit(writer.transport)
        try:
            with contextlib.suppress(*gone):
                async with asyncio.timeout(TOKEN_TIMEOUT_S) as limit:
                    while True:
                        request = parse_request(await reader.readuntil(HEAD_END))
                        writer.write(await self._answer(request, writer.transport, limit))
                        await writer.drain()
                        self._allow(IDLE_TIMEOUT_S, writer.transport, limit)
        finally:
            self._strangers.pop(writer.transport, None)
            self._viewers.discard(writer.transport)
            writer.transport.abort()

    def _admit(self, transport: asyncio.WriteTransport) -> None:
        """Add a connection without the token; close the oldest if there are too many."""
        self._strangers[transport] = None
        if len(self._strangers) > self._most_strangers:
            oldest = next(iter(self._strangers))
            del self._strangers[oldest]
            oldest.abort()

    def _allow(
        self, seconds: float, transport: asyncio.WriteTransport, limit: asyncio.Timeout
    ) -> None:
        """Extend a viewer's time; that of a connection without the token is fixed."""
        if transport in self._viewers:
            limit.reschedule(asyncio.get_running_loop().time() + seconds)

    async def _answer(
        self, request: Request | None, transport: asyncio.WriteTransport, limit: asyncio.Timeout
    ) -> bytes:
        """Return the response to a request; a connection with the token becomes a viewer."""
        if request is None:
            return response(HTTPStatus.BAD_REQUEST)
        if refusal := self._refusal(request, transport):
            return response(refusal)
        self._strangers.pop(transport, None)
        self._viewers.add(transport)
        self._allow(NEWS_TIMEOUT_S + SEND_TIMEOUT_S, transport, limit)
        name = request.path[len(self._root) :]
        if request.method != "GET":
            return response(HTTPStatus.METHOD_NOT_ALLOWED)
        if name == "frame":
            self._note_viewer(NEWS_TIMEOUT_S + ABSENCE_S)
            frame = await self._newest_frame(request.query.get("after", [""])[0])
            self._note_viewer(ABSENCE_S)
            return frame
        return self._assets.get(name) or response(HTTPStatus.NOT_FOUND)

    def _note_viewer(self, seconds: float) -> None:
        """Note that somebody is watching, and will be for a while."""
        if self._absence:
            self._absence.cancel()
        self._absence = asyncio.get_running_loop().call_later(seconds, self._watched.clear)
        self._watched.set()

    def _refusal(self, request: Request, transport: asyncio.WriteTransport) -> HTTPStatus | None:
        """Return the error of a refused request; the token is checked first."""
        if not hmac.compare_digest(request.path[: len(self._root)].encode(), self._root.encode()):
            return HTTPStatus.NOT_FOUND
        if self._is_local and not _is_local(request.host):
            return HTTPStatus.FORBIDDEN
        if transport not in self._viewers and len(self._viewers) >= self._most_viewers:
            return HTTPStatus.SERVICE_UNAVAILABLE
        return None

    async def _newest_frame(self, seen: str) -> bytes:
        """Return the newest frame; wait for one if the viewer has seen it."""
        if seen == str(self._version):
            with contextlib.suppress(TimeoutError):  # then the viewer gets the old one
                # Not `wait_for`: in Python 3.11 news that come just then hide the end of the page.
                async with asyncio.timeout(NEWS_TIMEOUT_S):
                    await self._news.wait()
        facts: dict[str, Any] = {"version": self._version, "label": self._label}
        facts |= {"notice": self._notice}
        parts = b""
        if self._shown:
            parts = self._shown.parts
            facts |= self._shown.facts | {"age_s": self._shown.age_s}
        return form(part("facts", json.dumps(facts).encode()) + parts)


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


def _is_name(host: str) -> bool:
    """Return whether a text can be the name of a host, as sockets take it."""
    try:
        host.encode("idna")
    except UnicodeError:
        return False
    return True


def _is_local(host: str) -> bool:
    """Return whether a name is local without a name server."""
    if host == "localhost":
        return True
    try:
        return ipaddress.ip_address(host).is_loopback
    except ValueError:
        return False
