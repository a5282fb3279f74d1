"""Storage that speaks S3, on loopback: moto's server, for as long as tests need it."""

import contextlib
import threading
from collections.abc import Iterator
from pathlib import Path

import pytest

from roadseg.video.objects import storage

s3fs = pytest.importorskip("s3fs")
moto = pytest.importorskip("moto.server")
serving = pytest.importorskip("werkzeug.serving")

SECRET = "hunter2/hunter2"
DENIED = b"<Error><Code>AccessDenied</Code><Message>the key hunter2 may not</Message></Error>"


class Storage:
    """Moto's server, which may be told to refuse requests or not to heed conditions."""

    def __init__(self) -> None:
        self._app = moto.DomainDispatcherApplication(moto.create_backend_app)
        self.denied: str | None = None
        self.ignores_conditions = False
        self.requests: list[str] = []

    def __call__(self, environ, start_response):
        request = f"{environ['REQUEST_METHOD']} {environ['PATH_INFO']}"
        self.requests.append(f"{request} {environ.get('HTTP_RANGE', '')}".rstrip())
        if self.denied and self.denied in request:
            start_response("403 FORBIDDEN", [("Content-Type", "application/xml")])
            return [DENIED]
        if self.ignores_conditions:
            environ.pop("HTTP_IF_NONE_MATCH", None)
        return self._app(environ, start_response)


@contextlib.contextmanager
def served() -> Iterator[tuple[Storage, str]]:
    """Storage and its address."""
    app = Storage()
    _forget()
    made = serving.make_server("127.0.0.1", 0, app, threaded=True)
    thread = threading.Thread(target=made.serve_forever)
    thread.start()
    try:
        yield app, f"http://127.0.0.1:{made.port}"
    finally:
        made.shutdown()
        thread.join()
        made.server_close()
        _forget()


def _forget() -> None:
    """Have what is kept of storage used before be opened anew."""
    storage.cache_clear()
    s3fs.S3FileSystem.clear_instance_cache()


def access(address: str, folder: Path) -> dict[str, str]:
    """Variables with the keys to storage, whatever keys its user has."""
    return {
        "AWS_ENDPOINT_URL": address,
        "AWS_ACCESS_KEY_ID": "hunter2",
        "AWS_SECRET_ACCESS_KEY": SECRET,
        "AWS_DEFAULT_REGION": "us-east-1",
        "AWS_CONFIG_FILE": str(folder / "none"),
        "AWS_SHARED_CREDENTIALS_FILE": str(folder / "none"),
    }
