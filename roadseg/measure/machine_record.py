"""The machine that a measurement was taken on, and the versions of what ran.

A value that the system does not report is None, never a guess.
"""

import platform
import subprocess
from importlib.metadata import PackageNotFoundError, version
from pathlib import Path
from typing import Any

from roadseg.backends.machine import core_count, cpu_flags, cpu_name, memory_bytes

PACKAGES = (
    "roadseg",
    "numpy",
    "onnxruntime",
    "openvino",
    "torch",
    "torch-tensorrt",
    "av",
    "opencv-python-headless",
)
"""Packages whose versions a timing depends on."""
CPU_FLAGS = (
    "avx2",
    "avx512f",
    "avx512_vnni",
    "avx512_bf16",
    "avx_vnni",
    "amx_int8",
    "asimd",
    "sve",
)
"""Instruction sets that decide how fast a network runs."""
PACKAGE = Path(__file__).parent


def machine_record() -> dict[str, Any]:
    """Return what a timing depends on: processor, system, versions, revision."""
    return {
        "cpu": cpu_name(),
        "flags": [flag for flag in CPU_FLAGS if flag in cpu_flags()],
        "cores": core_count(),
        "memory_bytes": memory_bytes(),
        "gpu": gpu_names(),
        "system": f"{platform.system()} {platform.release()}",
        "python": platform.python_version(),
        "versions": package_versions(),
        "revision": own_revision(),
    }


def gpu_names() -> list[str]:
    """Return NVIDIA's devices with their drivers, as nvidia-smi lists them."""
    query = "--query-gpu=name,driver_version"
    return _output(["nvidia-smi", query, "--format=csv,noheader"]).splitlines()


def package_versions() -> dict[str, str]:
    """Return the versions of those of `PACKAGES` that are installed."""
    found = {}
    for name in PACKAGES:
        try:
            found[name] = version(name)
        except PackageNotFoundError:
            continue
    return found


def own_revision(package: Path = PACKAGE) -> str | None:
    """Return the commit of the checkout that roadseg runs from, or None where it is installed.

    An environment may lie in a repository of another project; its commit says nothing of roadseg.
    """
    tracked = ["git", "-C", str(package), "ls-files", "--error-unmatch", "__init__.py"]
    return git_revision(package) if _output(tracked) else None


def git_revision(folder: Path) -> str | None:
    """Return the commit that a folder is checked out at, marked where files differ from it."""
    revision = _output(["git", "-C", str(folder), "describe", "--always", "--dirty", "--abbrev=12"])
    return revision.strip() or None


def _output(command: list[str]) -> str:
    """Return what a program prints, or nothing where it is missing or fails."""
    try:
        done = subprocess.run(command, capture_output=True, text=True, check=False)  # noqa: S603
    except OSError:
        return ""
    return done.stdout if done.returncode == 0 else ""
