"""Addresses show no secrets, wherever they are shown, printed or written."""

import copy
import json
import re
import threading
import traceback
from collections.abc import Iterator
from dataclasses import replace
from functools import partial
from http.server import SimpleHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path

import pytest
from films import Film
from hypothesis import given
from hypothesis import strategies as st
from typer.testing import CliRunner

from roadseg.cli import app
from roadseg.data.camvid import download_camvid
from roadseg.errors import ConfigError, DatasetError, VideoError
from roadseg.infer.api import stream
from roadseg.infer.config import settings_record
from roadseg.video.url import Url, redacted

SECRET = "hunter2"
ADDRESSES = (
    "rtsp://me:{}@host/street",
    "rtsp://me:{}@[::1]:554/street",
    "rtsp://me:sl/ash?{}@host/street",
    "rtsp://me:at@{}@host/street",
    "https://{}@host/film.mp4",
    "https://host/film.mp4?password={}",
    "https://host/film.mp4?a=1&access_token={}&b=2",
    "https://host/film.mp4?p%61ssword={}",
    "https://host/film.mp4?X-Amz-Signature={}",
    "https://host/film.mp4#token={}",
    "https://host/film.mp4?x={}0123456789",
    "rtsp://host/user=admin_password={}_channel=1.sdp?real_stream",
)


def test_an_object_of_storage_is_shown_as_it_is_called() -> None:
    name = "s3://fleet/date=2026-08-01/film=night%2Fa_long_name.mp4"
    assert str(Url(name)) == name
    assert SECRET not in str(Url(f"s3://KEY:{SECRET}@fleet/x"))


@pytest.mark.parametrize("address", ADDRESSES)
def test_secret_is_shown_nowhere_and_kept_for_opening(address) -> None:
    url = Url(address.format(SECRET))
    for shown in (str(url), repr(url), f"{url}", f"{url:>9}", "%s %r" % (url, [url])):  # noqa: UP031
        assert SECRET not in shown and "***" in shown
    assert url == address.format(SECRET) and SECRET in url.encode().decode()
    assert copy.deepcopy(url) == url and type(copy.deepcopy(url)) is Url


@pytest.mark.parametrize(
    "address",
    [
        "rtsp://host:554/street",
        "https://host/a%20b.mp4?t=10#end",
        "http://h/x?a=b@c",
        "udp://@:5000",
    ],
)
def test_address_without_secrets_is_shown_as_it_is(address) -> None:
    assert str(Url(address)) == address.replace("udp://@", "udp://***@")
    assert Url("rtsp://host/street").fingerprint is None


@given(secret=st.text(st.characters(codec="ascii", categories=["L", "N"]), min_size=6))
def test_no_password_gets_through(secret) -> None:
    secret = f"Q{secret}Z"
    for address in ADDRESSES:
        assert secret not in redacted(address.format(secret))


class Quiet(SimpleHTTPRequestHandler):
    def log_message(self, *_: object) -> None:
        pass


@pytest.fixture
def film_url(tmp_path) -> Iterator[str]:
    """The address of a film, with secrets of both kinds."""
    folder = tmp_path / "served"
    folder.mkdir()
    Film(times=tuple(range(4))).write(folder / "film.mp4")
    server = ThreadingHTTPServer(("127.0.0.1", 0), partial(Quiet, directory=str(folder)))
    thread = threading.Thread(target=server.serve_forever, args=(0.01,))
    thread.start()
    yield f"http://me:{SECRET}@127.0.0.1:{server.server_port}/film.mp4?token={SECRET}"
    server.shutdown()
    thread.join()
    server.server_close()


def test_run_prints_and_writes_no_secret(plain, film_url, tmp_path, monkeypatch) -> None:
    made = tmp_path / "made"
    made.mkdir()
    monkeypatch.chdir(made)
    beside = ("--stats", "s.jsonl", "--report", "r.html", "--masks", "masks")
    common = (
        "infer",
        film_url,
        "--weights",
        str(plain.weights),
        "--steady",
        "0",
        "--size",
        "64x32",
    )
    result = CliRunner().invoke(app, [*common, *beside], catch_exceptions=False)
    as_json = CliRunner().invoke(app, [*common, "--json", "--out", "b.mkv"], catch_exceptions=False)
    assert result.exit_code == as_json.exit_code == 0
    assert (made / "film.overlay.mp4").is_file() and "127.0.0.1" in (made / "r.html").read_text()
    for printed in (result.output, as_json.output):
        assert SECRET not in printed
    for path in made.rglob("*"):
        assert SECRET not in path.name
        assert path.is_dir() or SECRET.encode() not in path.read_bytes()


def test_error_and_its_traceback_hold_no_secret() -> None:
    with pytest.raises(VideoError) as raised:
        list(stream(f"http://me:{SECRET}@127.0.0.1:9/film.mp4?token={SECRET}"))
    told = "".join(traceback.format_exception(raised.value))
    lines = [line for line in told.splitlines() if "127.0.0.1:9" in line and "stream(" not in line]
    assert lines and not any(SECRET in line for line in lines)


def test_an_address_that_cannot_be_is_refused() -> None:
    with pytest.raises(ConfigError, match=re.escape("https://[host/a.mp4 is no address that can")):
        Url.if_one("https://[host/a.mp4")
    assert Url.if_one("rtsp://me:pass[word@host/a.mp4")


@pytest.mark.parametrize("who", ["", f"me:{SECRET}@"])
def test_archive_that_cannot_be_fetched_is_named_without_secrets(who, tmp_path) -> None:
    with pytest.raises(DatasetError, match=r"127\.0\.0\.1:9.*token=\*\*\*") as raised:
        download_camvid(tmp_path / "CamVid", f"http://{who}127.0.0.1:9/x.zip?token={SECRET}")
    assert SECRET not in str(raised.value)


def test_unfinished_run_remembers_secrets_only_as_a_fingerprint(plain) -> None:
    records = [
        settings_record(replace(plain, source=f"https://host/film.mp4?key={secret}"))
        for secret in (SECRET, SECRET, "another")
    ]
    assert records[0] == records[1] != records[2]
    assert SECRET not in json.dumps(records)
    assert "source's secrets" not in settings_record(replace(plain, source=Path("film.mp4")))
