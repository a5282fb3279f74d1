"""The way of what a machine makes to a driver that writes to a bucket: they share no folder.

A machine works in a folder of its own, uploads what is complete, and leaves nothing behind. The
driver fetches it, and goes on as if it had been made where the driver is.
"""

import platform
from dataclasses import dataclass, fields, replace
from pathlib import Path

from roadseg.backends.tuned import cache_folder
from roadseg.errors import ClusterError, OutputError, RoadsegError
from roadseg.infer.batch.films import handed_over, outputs_of
from roadseg.infer.batch.own_folder import own_folder
from roadseg.infer.batch.store import Bucket
from roadseg.infer.batch.workers import Outcome, ends_run, outcome_of
from roadseg.infer.config import InferConfig
from roadseg.video.url import Url


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
        try:
            Bucket(self.bucket).check_access()
        except RoadsegError as error:
            raise ClusterError(f"{platform.node()}: {error}") from error
        try:
            with own_folder(cache_folder() / "batch" / "tasks") as folder:
                return self._label_in(folder, config)
        except OutputError as error:
            return _failed(error)

    def _label_in(self, folder: Path, config: InferConfig) -> Outcome:
        here = _moved(config, folder)
        outcome = outcome_of(here)
        if outcome.metrics is None or not outcome.metrics.frames:
            return outcome
        names = tuple(handed_over(config, self.out).values())
        try:
            files = dict(zip(outputs_of(here), names, strict=True))
            Bucket(self.bucket).take(files, replace=True)
        except RoadsegError as error:
            return _failed(error)
        return replace(outcome, handed_over=names)


def _failed(error: RoadsegError) -> Outcome:
    return Outcome(machine=platform.node(), error=error, ends_run=ends_run(error))


def _moved(config: InferConfig, folder: Path) -> InferConfig:
    """Return settings that write to a folder, from the beginning."""
    values = {field.name: getattr(config, field.name) for field in fields(config)}
    outputs = outputs_of(config)
    moved = {name: folder / value.name for name, value in values.items() if value in outputs}
    return replace(config, **moved, resume=False, overwrite=True)
