"""The way of what a machine makes to a driver that writes to a bucket: they share no folder.

A machine works in a folder of its own, uploads what is complete, and leaves nothing behind. The
driver fetches it, and goes on as if it had been made where the driver is.
"""

import contextlib
import os
import platform
import shutil
from collections.abc import Iterator
from dataclasses import dataclass, fields, replace
from pathlib import Path

from roadseg.backends.tuned import cache_folder
from roadseg.errors import ClusterError, OutputError, RoadsegError
from roadseg.files import Lock, make_folder, own_path, written_alone
from roadseg.infer.batch.films import handed_over, outputs_of
from roadseg.infer.batch.store import Bucket
from roadseg.infer.batch.workers import Outcome, is_full, outcome_of
from roadseg.infer.config import InferConfig
from roadseg.video.url import Url

FLAG = "--cluster"
"""What asks for the folders of tasks."""


@dataclass(frozen=True)
class Relay:
    """The way to a driver."""

    out: Path
    """The driver's folder, which other machines do not see."""
    bucket: Url
    """Address at which all see the same."""

    def label(self, config: InferConfig) -> Outcome:
        """Label a video or a chunk here, and upload what comes of it. A bug is raised.

        Raises:
            ClusterError: The bucket cannot be used from here.
        """
        bucket = Bucket(self.bucket)
        try:
            bucket.check_access()
        except RoadsegError as error:
            raise ClusterError(f"{platform.node()}: {error}") from error
        try:
            with own_folder() as folder:
                here = _moved(config, folder)
                outcome = outcome_of(here)
                if outcome.metrics is None or not outcome.metrics.frames:
                    return outcome
                names = tuple(handed_over(config, self.out).values())
                bucket.take(dict(zip(outputs_of(here), names, strict=True)), replace=True)
                return replace(outcome, handed_over=names)
        except RoadsegError as error:
            return Outcome(machine=platform.node(), error=error, is_full=is_full(error))


def _moved(config: InferConfig, folder: Path) -> InferConfig:
    """Return settings that write to a folder, from the beginning."""
    values = {field.name: getattr(config, field.name) for field in fields(config)}
    outputs = outputs_of(config)
    moved = {name: folder / value.name for name, value in values.items() if value in outputs}
    return replace(config, **moved, resume=False, overwrite=True)


@contextlib.contextmanager
def own_folder() -> Iterator[Path]:
    """Give a folder for a task; that of one that was killed is removed by the next on the machine.

    Raises:
        OutputError: It cannot be made.
    """
    home = cache_folder() / "batch" / "tasks"
    make_folder(home)
    folder = home / os.urandom(8).hex()
    with written_alone(folder, FLAG):
        _sweep(home, folder)
        make_folder(folder)
        try:
            yield folder
        finally:
            shutil.rmtree(folder, ignore_errors=True)


def _sweep(home: Path, own: Path) -> None:
    """Remove the folders of tasks that are dead, as the system's locks tell."""
    before, after = own_path(home / "*", "part", ".lock").name.split("*")
    locks = {path.name[len(before) : -len(after)]: path for path in home.glob(f"{before}*{after}")}
    for name in sorted(locks, key=lambda name: name != own.name):
        with contextlib.suppress(OSError, OutputError), Lock(locks[name], FLAG, home) as lock:
            if name == own.name:
                return  # there are no locks here, which would keep this from those that live
            shutil.rmtree(home / name, ignore_errors=True)
            lock.remove()
