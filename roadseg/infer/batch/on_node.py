"""A task on a machine of a cluster: the same settings, the same model and the same folders there.

What a machine lacks is no fault of the video, and would fail every other video as well. So it ends
the batch with a sentence that names the machine.
"""

import platform
from dataclasses import dataclass, fields, replace
from pathlib import Path
from typing import Any

from roadseg.backends.runtimes import runtime_of
from roadseg.errors import ClusterError, ModelFileError
from roadseg.files import sha256_of, shipped
from roadseg.infer.batch.films import outputs_of
from roadseg.infer.batch.relay import Relay
from roadseg.infer.batch.workers import Outcome, outcome_of
from roadseg.infer.config import BONNET, BOX, InferConfig
from roadseg.spec import PALETTES


@dataclass(frozen=True)
class Pinned:
    """Settings with the model that is to be used wherever they are."""

    config: InferConfig
    sha256: str
    """Checksum of the weights."""
    relay: Relay | None = None
    """Where what comes of it goes; None is where the settings say."""


def absolute(config: InferConfig) -> InferConfig:
    """Return settings whose files are the same in any folder."""
    values = {field.name: getattr(config, field.name) for field in fields(config)}
    files: dict[str, Any] = {
        name: Path.cwd() / value for name, value in values.items() if isinstance(value, Path)
    }
    if config.palette not in PALETTES:
        files["palette"] = str(Path.cwd() / config.palette)
    files["ignore"] = tuple(
        text if text == BONNET or BOX.fullmatch(text) else str(Path.cwd() / text)
        for text in config.ignore
    )
    return replace(config, **files)


def pinned(config: InferConfig, threads: int, relay: Relay | None = None) -> Pinned:
    """Return settings with the runtime and the model that they mean here."""
    settings = replace(config, backend=runtime_of(config.weights, config.backend), threads=threads)
    return Pinned(settings, sha256_of(config.weights), relay)


def label_on_node(task: Pinned) -> Outcome:
    """Label a video or a chunk here, and return how that ended. A bug is raised."""
    try:
        _check_folders(task)
        config = replace(task.config, weights=_weights_here(task))
        outcome = task.relay.label(config) if task.relay else outcome_of(config)
    except ClusterError as error:
        return Outcome(machine=platform.node(), error=error)
    if outcome.ends_run or isinstance(outcome.error, ModelFileError):
        return replace(outcome, error=ClusterError(f"{platform.node()}: {outcome.error}"))
    return outcome


def _check_folders(task: Pinned) -> None:
    """See that the folders of a video and of its outputs are here."""
    source = task.config.source
    outputs = () if task.relay else outputs_of(task.config)
    for path in (*outputs, *([source] if isinstance(source, Path) else [])):
        if not path.parent.is_dir():
            raise ClusterError(
                f"{platform.node()} sees no {path.parent}; all machines of a cluster need the "
                "folders of the videos and of --out, at the same place, unless these are in a "
                "bucket"
            )


def _weights_here(task: Pinned) -> Path:
    """Return the file of the weights: where they are said to be, or as they are included here."""
    weights = task.config.weights
    for path in (weights, shipped("weights", weights.name)):
        if path.is_file() and sha256_of(path) == task.sha256:
            return path
    raise ClusterError(
        f"{platform.node()} has no {weights} with the checksum {task.sha256[:12]}; put the same "
        "file at the same place on all machines"
    )
