"""What the live page needs of HTTP: its requests, and responses that other sites cannot use."""

import secrets
from dataclasses import dataclass
from http import HTTPStatus
from urllib.parse import parse_qs, urlsplit

HEADERS = {
    "Cache-Control": "no-store",
    "Content-Security-Policy": "default-src 'self'; img-src 'self' data:; frame-ancestors 'none'",
    "Cross-Origin-Resource-Policy": "same-origin",
    "Referrer-Policy": "no-referrer",
    "X-Content-Type-Options": "nosniff",
}
"""Headers of every response: other sites may not read it, embed it or learn its address."""
BOUNDARY = f"roadseg-{secrets.token_hex(16)}"
"""Boundary between the parts of a form; random, so that no part contains it."""
HEAD_END = b"\r\n\r\n"
"""What ends the head of a request."""


@dataclass(frozen=True)
class Request:
    """A request."""

    method: str
    path: str
    query: dict[str, list[str]]
    """Values of each field, by its name."""
    host: str
    """Host that the request names, without a port; empty if it names none."""


def parse_request(head: bytes) -> Request | None:
    """Parse a request's line and its Host header; None if it is not HTTP."""
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


def response(status: HTTPStatus, body: bytes | None = None, kind: str = "text/plain") -> bytes:
    """Return a response.

    Args:
        status: Its status.
        body: Its body; None is the status in words.
        kind: Type of the body.
    """
    body = status.phrase.encode() if body is None else body
    headers = HEADERS | {"Content-Type": kind, "Content-Length": str(len(body))}
    lines = [f"HTTP/1.1 {status.value} {status.phrase}"]
    lines += [f"{name}: {value}" for name, value in headers.items()]
    return "\r\n".join([*lines, "", ""]).encode() + body


def part(name: str, data: bytes) -> bytes:
    """Return one part of the body that `form` responds with."""
    head = (
        f'--{BOUNDARY}\r\nContent-Disposition: form-data; name="{name}"; filename="{name}"\r\n'
        "Content-Type: application/octet-stream\r\n\r\n"
    )
    return head.encode() + data + b"\r\n"


def form(parts: bytes) -> bytes:
    """Return the response whose body is a form of some parts."""
    body = parts + f"--{BOUNDARY}--\r\n".encode()
    return response(HTTPStatus.OK, body, f"multipart/form-data; boundary={BOUNDARY}")
