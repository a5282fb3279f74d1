"""Network addresses that hide their secrets when they are shown.

An address is opened as it was given; shown, printed or written, it has asterisks in place of
passwords and tokens. Whatever looks like a secret is hidden.
"""

import re
from typing import Self
from urllib.parse import unquote, urlsplit

from roadseg.errors import ConfigError

HIDDEN = "***"
SECRET_NAMES = re.compile(
    r"pass|pwd|pw$|secret|token|key|auth|sig|cred|session|sid$|pin$|jwt|hash|code|^user|login",
    re.IGNORECASE,
)
"""Matches the names of secret values."""
OBJECT_SCHEME = "s3"
"""Scheme of addresses without secrets behind the host: `date=2026-08-01` is a folder there."""
LONGEST_PLAIN = 16
"""Length above which a value counts as a token, whatever its name."""
VALUE = re.compile(r"(?P<name>[^/?&;#=]+)=(?P<value>[^/?&;#]*)")
"""A named value in a path, a query or a fragment."""


class Url(str):
    """An address: its value is the given one, and `str` of it hides the secrets."""

    __slots__ = ()

    @classmethod
    def if_one(cls, text: str) -> Self | None:
        """Return a text as an address, or None if it is not one.

        Raises:
            ConfigError: It is one that cannot be.
        """
        if "://" not in text:
            return None
        try:
            urlsplit(redacted(text))  # as it is shown: a password may have any character
        except ValueError as error:
            raise ConfigError(
                f"{redacted(text)} is no address that can be ({error}); check its host"
            ) from error
        return cls(text)

    @property
    def given(self) -> str:
        """The address as it was given, for libraries that call `str`."""
        return str.__str__(self)

    @property
    def fingerprint(self) -> str | None:
        """A slow hash, equal only for the same secrets; None for an address without any."""
        salt = redacted(self).encode()
        if salt == self.encode():
            return None
        import hashlib  # it loads OpenSSL, and every command imports this module

        return hashlib.scrypt(self.encode(), salt=salt, n=1 << 14, r=8, p=1, dklen=16).hex()

    def __str__(self) -> str:
        """Return it without its secrets."""
        return redacted(self)

    def __repr__(self) -> str:
        """Return it quoted, without its secrets."""
        return repr(redacted(self))

    def __format__(self, spec: str) -> str:
        """Return it without its secrets, in an f-string."""
        return format(redacted(self), spec)


def redacted(address: str) -> str:
    """Return an address with asterisks in place of passwords, tokens and the like."""
    scheme, _, rest = str.partition(address, "://")
    host_length = re.search(r"[/?#]|$", rest).start()  # type: ignore[union-attr]
    if "@" not in rest[:host_length] and "@" in rest and not _is_host(rest[:host_length]):
        host_length = len(rest)  # a password with a slash in it
    before, at, host = rest[:host_length].rpartition("@")
    user, colon, _ = before.partition(":")
    shown_user = f"{user}:{HIDDEN}" if colon else HIDDEN
    shown_rest = rest[host_length:]
    if scheme != OBJECT_SCHEME:
        shown_rest = VALUE.sub(_shown_value, shown_rest)
    return f"{scheme}://{shown_user if at else ''}{at}{host}{shown_rest}"


def _is_host(text: str) -> bool:
    """Return whether a text can be a host, with or without a port."""
    try:
        return urlsplit(f"//{text}").port is not None or ":" not in text
    except ValueError:
        return False


def _shown_value(match: re.Match[str]) -> str:
    name, value = unquote(match["name"]), match["value"]
    is_secret = SECRET_NAMES.search(name) or len(value) > LONGEST_PLAIN
    return f"{match['name']}={HIDDEN}" if is_secret and value else match[0]
