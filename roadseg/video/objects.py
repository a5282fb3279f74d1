"""Objects in storage that speaks S3, such as `s3://bucket/drives/one.mp4`, through s3fs.

Keys come from where Amazon's programs look for them (the environment, `~/.aws`, the machine's role)
and never from an address; `AWS_ENDPOINT_URL` names storage of others.
"""

import contextlib
import functools
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any, TypeGuard

import av

from roadseg.errors import BackendUnavailable, ConfigError, RoadsegError, VideoError
from roadseg.files import FULL
from roadseg.video.url import OBJECT_SCHEME, Url

SCHEME = f"{OBJECT_SCHEME}://"
READ_BYTES = 4 << 20
"""Bytes that are asked for at once: a request takes as long as a few megabytes do."""
CONNECT_TIMEOUT_S, READ_TIMEOUT_S = 10, 60
"""Seconds of silence after which storage counts as dead."""
TRIES = 3
"""Requests that are made before storage counts as dead."""


def is_object(place: object) -> TypeGuard[Url]:
    """Return whether something is the address of an object, or of several."""
    return isinstance(place, Url) and place.given.startswith(SCHEME)


def named_objects(text: str) -> Url | None:
    """Return the address of objects, or None for a text that is another address or a path.

    Raises:
        ConfigError: It names no bucket, or has keys in it.
    """
    if not text.startswith(SCHEME):
        return None
    url = Url(text)
    bucket, _, prefix = text.removeprefix(SCHEME).partition("/")
    if not bucket:
        raise ConfigError(f"{url} names no bucket; give an address such as s3://bucket/drives")
    if "@" in bucket:
        raise ConfigError(
            f"{url} has keys in it, which others could read; put them into AWS_ACCESS_KEY_ID and "
            "AWS_SECRET_ACCESS_KEY, or into ~/.aws/credentials"
        )
    return Url(f"{SCHEME}{bucket}/{prefix}".rstrip("/"))


def below(url: Url, name: str) -> Url:
    """Return the address of an object below another address."""
    return Url(f"{url.given}/{name}")


@functools.cache
def storage() -> Any:
    """Return s3fs's file system, one for all threads.

    Raises:
        BackendUnavailable: s3fs is not installed.
    """
    try:
        import s3fs
    except ImportError as error:
        raise BackendUnavailable(
            "addresses that begin with s3:// need s3fs, which is not installed; run: pip install "
            "'.[s3]' in a checkout of roadseg"
        ) from error
    limits = {
        "connect_timeout": CONNECT_TIMEOUT_S,
        "read_timeout": READ_TIMEOUT_S,
        "retries": {"total_max_attempts": TRIES},
    }
    return s3fs.S3FileSystem(config_kwargs=limits)


def readable(source: Path | str) -> Any:
    """Return what PyAV opens for a source: an object as a file that seeks, all else as it is.

    Raises:
        RoadsegError: The object cannot be read.
    """
    if not is_object(source):
        return source
    with object_errors(source):
        return storage().open(source.given, "rb", block_size=READ_BYTES, cache_type="readahead")


def objects_in(url: Url) -> dict[str, Url]:
    """Return the objects below an address as they are now, by their names below it.

    Raises:
        VideoError: They cannot be listed.
    """
    with object_errors(url):
        storage().invalidate_cache()
        root = url.given.removeprefix(SCHEME)
        paths = [path for path in storage().find(root) if not path.endswith("/")]
        if not paths:
            storage().ls(root.partition("/")[0])  # an error, if there is no such bucket
    names = (path.removeprefix(root).lstrip("/") for path in paths)
    return {name: below(url, name) for name in names if name}


def state_of(url: Url, *, listed: bool = False) -> tuple[int, int]:
    """Return the size of an object in bytes and its date in nanoseconds since 1970.

    Args:
        url: Its address.
        listed: Whether it may be as old as when objects were last listed.

    Raises:
        VideoError: There is none, or it may not be read.
    """
    with object_errors(url):
        info = storage().info(url.given, **({} if listed else {"refresh": True}))
        if info["type"] != "file":
            raise FileNotFoundError(url)
    return info["size"], int(info["LastModified"].timestamp()) * 10**9


def get_object(**at: str) -> tuple[str, bytes]:
    """Return an object's tag, which changes when it is written, and what it holds.

    Args:
        at: Its `Bucket` and `Key`.
    """
    from fsspec.asyn import sync

    answer = storage().call_s3("get_object", **at)
    with contextlib.closing(answer["Body"]) as body:
        return answer["ETag"], sync(storage().loop, body.read)


def put_object(data: bytes, **request: str) -> str:
    """Write an object and return its tag.

    Args:
        data: What it is to hold.
        request: Its `Bucket` and `Key`, and a condition, `IfMatch` or `IfNoneMatch`.
    """
    return str(storage().call_s3("put_object", Body=data, **request)["ETag"])


@contextlib.contextmanager
def object_errors(url: Url, kind: type[RoadsegError] = VideoError) -> Iterator[None]:
    """Translate the errors of storage; what else goes wrong stays as it is.

    Args:
        url: Address that is used.
        kind: Error that is raised. It quotes nothing that storage says, which may hold keys.
    """
    try:
        yield
    except (RoadsegError, av.FFmpegError):
        raise
    except Exception as error:
        if (sentence := _sentence(error)) is None:
            raise
        raise kind(f"{url} {sentence}") from error


def code_of(error: BaseException) -> str:
    """Return the storage's code for an error, such as `NoSuchBucket`; nothing if it gave none."""
    for each in (error, error.__cause__):
        if response := getattr(each, "response", None):
            return str(response.get("Error", {}).get("Code", ""))
    return ""


def _sentence(error: Exception) -> str | None:
    """Return what is wrong and what to do, or None for what is no error of storage."""
    if isinstance(error, PermissionError):
        return (
            f"may not be used ({code_of(error) or 'no access'}); check the keys, and that they may "
            "list, read and write there"
        )
    if isinstance(error, FileNotFoundError):
        return "does not exist; check bucket and name"
    if (sentence := _client_sentence(error)) is not None:
        return sentence
    if isinstance(error, OSError) and error.errno not in FULL:
        return f"cannot be used ({code_of(error) or type(error).__name__}); try again later"
    return None


def _client_sentence(error: Exception) -> str | None:
    """Return the same for what botocore raises before storage has answered."""
    if "botocore" not in sys.modules:
        return None
    from botocore import exceptions as boto

    no_keys = (boto.NoCredentialsError, boto.PartialCredentialsError, boto.CredentialRetrievalError)
    if isinstance(error, (*no_keys, boto.ProfileNotFound)):
        return (
            "needs keys, and there are none; set AWS_ACCESS_KEY_ID and AWS_SECRET_ACCESS_KEY, or "
            "put them into ~/.aws/credentials"
        )
    if isinstance(error, (boto.ConnectionError, boto.HTTPClientError)):
        return (
            "cannot be reached; check the network, and AWS_ENDPOINT_URL where the storage is not "
            "Amazon's"
        )
    if isinstance(error, boto.BotoCoreError):
        return f"cannot be used ({type(error).__name__}); check the address and ~/.aws/config"
    return None
