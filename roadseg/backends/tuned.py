"""The model file and the runtime that `roadseg doctor --tune` found to be the fastest here.

The choice lies in the user's cache folder, and counts for as long as the machine, the versions and
the models are those that were measured.
"""

import json
import os
import sys
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import Any

from roadseg import __version__
from roadseg.backends.machine import core_count, cpu_kind, cpu_name
from roadseg.backends.weights import digest_of, files_of, shipped_model
from roadseg.errors import ModelFileError, OutputError
from roadseg.files import make_folder, replacing

CHOICE_FORMAT = 1
RUNTIMES = ("onnxruntime", "openvino")
"""Runtimes that are tried, which are packages of the same name."""


@dataclass(frozen=True, kw_only=True)
class Choice:
    """What labels fastest on this machine."""

    weights: Path
    """Model file, which says the precision."""
    backend: str
    """Runtime, a key of `roadseg.backends.runtimes.BACKENDS`."""


def cache_folder() -> Path:
    """Return the folder in which this system has users' programs keep what can be made anew.

    Raises:
        OutputError: The user has no home folder, as one who is but a number in a container.
    """
    if sys.platform == "win32":
        base = os.environ.get("LOCALAPPDATA") or _home() / "AppData" / "Local"
    elif sys.platform == "darwin":
        base = _home() / "Library" / "Caches"
    else:
        base = os.environ.get("XDG_CACHE_HOME") or _home() / ".cache"
    return Path(base) / "roadseg"


def _home() -> Path:
    try:
        return Path.home()
    except RuntimeError as error:
        raise OutputError("this user has no home folder; set HOME to a folder of theirs") from error


def kept_folder(name: str) -> Path | None:
    """Return a folder in there for a runtime's own files, made; None where none can be made."""
    try:
        folder = cache_folder() / name
        make_folder(folder)
    except OutputError:
        return None
    return folder


def choice_file() -> Path:
    """Return where the choice is kept.

    Raises:
        OutputError: The user has no home folder.
    """
    return cache_folder() / "tuned.json"


def circumstances() -> dict[str, Any]:
    """Return what a choice depends on, as JSON values."""
    return {
        "cpu": cpu_name(),
        "instructions": cpu_kind(),
        "cores": core_count(),
        "roadseg": __version__,
        **{name: _version(name) for name in RUNTIMES},
        **{precision: _digest(shipped_model(precision)) for precision in ("fp32", "int8")},
    }


def _version(package: str) -> str | None:
    from importlib.metadata import PackageNotFoundError, version  # slow, and seldom wanted

    try:
        return version(package)
    except PackageNotFoundError:
        return None


def _digest(model: Path) -> str | None:
    return digest_of(model) if all(path.is_file() for path in files_of(model)) else None


def keep_choice(choice: Choice, trials: list[dict[str, Any]]) -> None:
    """Write a choice down, with what was measured.

    Raises:
        OutputError: There is no cache folder, or it cannot be written to.
    """
    record = {
        "format": CHOICE_FORMAT,
        "weights": str(choice.weights),
        "weights_sha256": digest_of(choice.weights),
        "backend": choice.backend,
        "made_for": circumstances(),
        "trials": trials,
    }
    make_folder(cache_folder())
    with replacing(choice_file()) as temporary:
        temporary.write_text(json.dumps(record, indent=2) + "\n")


def kept_choice() -> Choice | None:
    """Return the choice that was kept; None if there is none.

    Raises:
        ModelFileError: There is one that does not hold any more.
    """
    try:
        data = choice_file().read_bytes()
    except (OSError, OutputError):
        return None
    outdated = partial(_outdated, choice_file())
    try:
        record = json.loads(data)
        choice = Choice(weights=Path(record["weights"]), backend=record["backend"])
        made_for, digest = dict(record["made_for"]), record["weights_sha256"]
    except (ValueError, KeyError, TypeError, RecursionError) as error:
        raise outdated("it is damaged") from error
    if choice.backend not in RUNTIMES:
        raise outdated("it is damaged")
    now = circumstances()
    changed = [name for name in now if made_for.get(name) != now[name]]
    if changed:
        raise outdated(f"changed since: {', '.join(changed)}")
    if _digest(choice.weights) != digest:
        raise outdated(f"{choice.weights} is not what was measured")
    return choice


def _outdated(path: Path, why: str) -> ModelFileError:
    return ModelFileError(
        f"{path}, the choice of doctor --tune, does not hold here ({why}); run roadseg doctor "
        "--tune again, or remove it"
    )
