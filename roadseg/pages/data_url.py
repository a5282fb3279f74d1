"""Files inside a page."""

from base64 import b64encode


def data_url(kind: str, data: bytes) -> str:
    """Return a file as a URL, given its media type."""
    return f"data:{kind};base64,{b64encode(data).decode()}"
