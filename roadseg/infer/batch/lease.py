"""The right to drive a shard, for a time: a second driver of the same shard is refused.

On one machine the driver holds the system's lock on a file, which ends with its process. Machines
that share no locks go by a lease, a file that says until when it holds and that its driver renews.
A driver that died elsewhere is waited for until its lease ends; one that lives renews it meanwhile,
and is left alone whatever the machines' clocks say. In a bucket there are no locks, and a lease is
taken and renewed by conditional writes.
"""

import contextlib
import json
import os
import platform
import threading
import time
from collections.abc import Callable, Iterable
from dataclasses import asdict, dataclass
from datetime import UTC, datetime
from pathlib import Path
from types import TracebackType
from typing import Self

from roadseg.errors import OutputBusy, OutputError
from roadseg.files import written_alone
from roadseg.infer.batch.manifest import division_of
from roadseg.infer.batch.own_file import Location, ObjectFile, OwnFile, own_file, with_suffix
from roadseg.infer.stages import WatchThread

TERM_S = 60.0
"""How long a lease holds: what a driver that was killed on another machine costs."""
BOOT_FILE = Path("/proc/sys/kernel/random/boot_id")
"""Distinguishes machines of the same name."""


@dataclass(frozen=True)
class Terms:
    """What a lease says."""

    driver: str
    """Whose it is, by a random number."""
    machine: str
    """Name of that one's machine."""
    machine_id: str
    """What no other machine has."""
    until_s: float
    """When it ends, in seconds since 1970."""

    def __str__(self) -> str:
        until = datetime.fromtimestamp(self.until_s, UTC).isoformat(timespec="seconds")
        return f"{self.machine} until {until}"


class Lease:
    """A lease on a shard, renewed while the block lasts.

    Args:
        manifest: The shard's manifest.
        on_wait: Called with a sentence if the lease of a driver elsewhere must end first.
        term_s: How long it holds.

    Raises:
        OutputBusy: Another driver has it.
        OutputError: It cannot be written.
    """

    def __init__(
        self,
        manifest: Location,
        on_wait: Callable[[str], None] = lambda _sentence: None,
        term_s: float = TERM_S,
    ) -> None:
        self._manifest = manifest
        self._file = own_file(lease_path(manifest))
        self._on_wait = on_wait
        self._term_s = term_s
        self._driver = os.urandom(8).hex()
        self._ended = threading.Event()
        self._lost: str | None = None

    def __enter__(self) -> Self:
        with contextlib.ExitStack() as stack:
            if isinstance(self._manifest, Path):
                stack.enter_context(written_alone(self._manifest, "--out"))
            self._wait_for_others()
            self._write()
            stack.callback(self._give_up)
            if isinstance(self._file, ObjectFile):
                self._file.check_conditions()
            stack.enter_context(WatchThread(self._keep, self._ended.set, "lease"))
            self._exits = stack.pop_all()
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        traceback: TracebackType | None,
    ) -> None:
        self._exits.close()

    def check(self) -> None:
        """See that the lease is still ours.

        Raises:
            OutputBusy: It is another's, as it could not be renewed in time.
        """
        if self._lost:
            raise OutputBusy(
                f"{self._manifest} is driven by {self._lost} now, as this driver could not renew "
                "its lease in time; nothing is lost, and the other one goes on"
            )

    def _wait_for_others(self) -> None:
        """Wait until the lease of a driver on another machine ends, and see that it is not renewed.

        By a clock that is wrong it may have ended although that driver lives, so it is watched for
        longer than passes between two renewals.
        """
        found = self._read()
        has_lock = isinstance(self._manifest, Path)
        if found is None or (has_lock and found.machine_id == machine_id()):
            return  # no driver, or one that is dead, as we have the lock
        left_s = max(found.until_s - time.time(), self._term_s / 2)
        self._on_wait(
            f"{self._manifest} is leased to {found}; waiting to see whether it is renewed"
        )
        time.sleep(min(left_s, self._term_s))
        now = self._read()
        if now is not None and now != found:
            raise OutputBusy(
                f"{self._manifest} is driven by another run on {now}, which renews its lease; "
                "one shard has one driver: wait for its end, or choose another --shard"
            )

    def _keep(self) -> None:
        """Renew the lease until the block ends, or it is another's."""
        while not self._ended.wait(self._term_s / 3):
            found = self._read()
            if found is not None and found.driver != self._driver:
                self._lost = str(found)
                return
            with contextlib.suppress(OutputError):  # a full disk: it may have room the next time
                self._write()

    def _write(self) -> None:
        until_s = time.time() + self._term_s
        terms = Terms(self._driver, platform.node(), machine_id(), until_s)
        self._file.write(json.dumps(asdict(terms)).encode() + b"\n")

    def _read(self) -> Terms | None:
        return _terms(self._file)

    def _give_up(self) -> None:
        found = self._read()
        if found is not None and found.driver == self._driver:
            self._file.remove()


def lease_path(manifest: Location) -> Location:
    """Return the file of the lease on a shard."""
    return with_suffix(manifest, ".lease")


def read_lease(manifest: Location) -> Terms | None:
    """Return what the lease on a shard says; None if there is none that can be read."""
    return _terms(own_file(lease_path(manifest)))


def valid_lease(manifest: Location) -> Terms | None:
    """Return what the lease on a shard says; None if there is none, or it has ended."""
    terms = read_lease(manifest)
    return terms if terms is not None and terms.until_s > time.time() else None


def check_division(manifest: Location, all_manifests: Iterable[Location]) -> None:
    """See that no driver has a shard of another division, whose videos are these too.

    Args:
        manifest: The manifest of a shard.
        all_manifests: Those of all shards that there have been.

    Raises:
        OutputBusy: One has.
    """
    for other in all_manifests:
        if division_of(other) != division_of(manifest) and (terms := valid_lease(other)):
            raise OutputBusy(
                f"{other} is leased to a driver on {terms}, and {manifest} divides the same videos "
                "in another way; wait for that driver's end, or give --shard the same number of "
                "parts"
            )


def _terms(file: OwnFile) -> Terms | None:
    try:
        return Terms(**json.loads(file.read() or b""))
    except (OutputError, ValueError, TypeError):
        return None


def machine_id() -> str:
    """Return what no other machine has, containers of one machine included."""
    try:
        boot = BOOT_FILE.read_text().strip()
    except OSError:
        boot = ""
    return f"{platform.node()} {boot}".strip()
