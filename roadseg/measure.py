"""Measure a program and the machine it runs on, and tell a difference from noise.

Seconds of CPU are steadier than those of the clock, and ratios taken in one run steadier than
either: neighbours on a machine slow everything down alike. What a system does not tell is None
here, never a guess.
"""

import contextlib
import hashlib
import os
import platform
import subprocess
import threading
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from importlib.metadata import PackageNotFoundError, version
from itertools import combinations
from math import comb
from pathlib import Path
from typing import Any

import numpy as np

from roadseg.machine import core_count, cpu_flags, cpu_name

PERCENTILES = (50, 90, 95, 99)
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
PROCESS = Path("/proc/self")
POWER = Path("/sys/class/powercap")
RESAMPLES = 4000
"""Bootstrap samples of an interval, and random permutations where there are too many to try all."""
CONFIDENCE = 0.95
"""Share of intervals that hold the true value."""


@dataclass(frozen=True)
class Interval:
    """A median and where it lies for sure, as far as the samples tell."""

    median: float
    low: float
    high: float


def median_interval(values: Sequence[float]) -> Interval:
    """Return the median with its bootstrap interval (percentiles; Efron 1979)."""
    samples = np.asarray(values, np.float64)
    medians = np.median(_resampled(samples, np.random.default_rng(0)), axis=1)
    return _interval(float(np.median(samples)), medians)


def ratio_interval(before: Sequence[float], after: Sequence[float]) -> Interval:
    """Return the ratio of two medians, after over before, with its bootstrap interval."""
    rng = np.random.default_rng(0)
    first, second = np.asarray(before, np.float64), np.asarray(after, np.float64)
    ratios = np.median(_resampled(second, rng), axis=1) / np.median(_resampled(first, rng), axis=1)
    return _interval(float(np.median(second) / np.median(first)), ratios)


def _resampled(samples: np.ndarray, rng: np.random.Generator) -> np.ndarray:
    return samples[rng.integers(0, len(samples), (RESAMPLES, len(samples)))]


def _interval(median: float, drawn: np.ndarray) -> Interval:
    tail = (1 - CONFIDENCE) / 2
    low, high = np.quantile(drawn, [tail, 1 - tail])
    return Interval(median, float(low), float(high))


def permutation_p(before: Sequence[float], after: Sequence[float]) -> float:
    """Return how often chance alone parts two sets of samples as far as they are (Fisher 1935).

    All ways to deal the samples into two sets are tried, or many at random where there are too
    many. The distance is that of the means of the logarithms.
    """
    pooled = np.log(np.concatenate([before, after]))
    count, total = len(before), len(pooled)
    if comb(total, count) <= RESAMPLES:
        chosen = np.array(list(combinations(range(total), count)))
    else:
        rng = np.random.default_rng(0)
        dealt = (rng.permutation(total)[:count] for _ in range(RESAMPLES - 1))
        chosen = np.array([np.arange(count), *dealt])
    first = pooled[chosen].sum(axis=1)
    distances = np.abs((pooled.sum() - first) / (total - count) - first / count)
    observed = abs(pooled[count:].mean() - pooled[:count].mean())
    return float((distances >= observed * (1 - 1e-9)).mean())


def percentiles(samples: Sequence[float]) -> dict[str, float]:
    """Return the percentiles of samples by name, p50 and so on."""
    return {f"p{p}": float(np.percentile(samples, p)) for p in PERCENTILES}


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


def memory_bytes() -> int | None:
    """Return the machine's memory; None where the system does not tell, as Windows."""
    if not hasattr(os, "sysconf"):
        return None
    return os.sysconf("SC_PAGE_SIZE") * os.sysconf("SC_PHYS_PAGES")


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


def sha256_of(path: Path) -> str:
    """Return a file's checksum."""
    with path.open("rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()


def peak_rss_bytes() -> int | None:
    """Return the most memory that this process has held.

    Not `getrusage`: its figure starts at what the process held that started this one.
    """
    return _status_bytes("VmHWM:")


def rss_bytes() -> int | None:
    """Return the memory that this process holds."""
    return _status_bytes("VmRSS:")


def reset_peak_rss() -> None:
    """Begin to measure `peak_rss_bytes` anew, where the system lets us."""
    with contextlib.suppress(OSError):
        (PROCESS / "clear_refs").write_text("5")


def _status_bytes(field: str) -> int | None:
    for line in _lines(PROCESS / "status"):
        if line.startswith(field):
            return int(line.split()[1]) * 1024
    return None


def name_thread(name: str) -> None:
    """Give the running thread a name that the system keeps; threads it starts inherit it."""
    if PROCESS.exists():
        (PROCESS / "task" / str(threading.get_native_id()) / "comm").write_text(name)


def named_cpu_s(name: str) -> float | None:
    """Return the CPU seconds of all living threads of a name but the running one."""
    if not PROCESS.exists():
        return None
    own = str(threading.get_native_id())
    tasks = [task for task in (PROCESS / "task").iterdir() if task.name != own]
    named = [task for task in tasks if _lines(task / "comm") == [name]]
    return sum(_nanoseconds(task) for task in named) / 1e9


def _nanoseconds(task: Path) -> int:
    lines = _lines(task / "schedstat")
    return int(lines[0].split()[0]) if lines else 0


def busy_s() -> float | None:
    """Return the seconds that the machine's cores were at work since it started, all together."""
    for line in _lines(Path("/proc/stat")):
        user, nice, system, _idle, _wait, *rest = map(int, line.split()[1:])
        return (user + nice + system + sum(rest[:3])) / os.sysconf("SC_CLK_TCK")
    return None


class EnergyMeter:
    """Reads the counters of processor packages (RAPL), where the machine has them and tells."""

    def __init__(self) -> None:
        self._counters = [f for f in POWER.glob("*-rapl:?/energy_uj") if os.access(f, os.R_OK)]
        self._before = [int(counter.read_text()) for counter in self._counters]

    def joules(self) -> float | None:
        """Return the energy since the meter was made; None where nobody tells."""
        if not self._counters:
            return None
        used = 0
        for counter, before in zip(self._counters, self._before, strict=True):
            spent = int(counter.read_text()) - before
            if spent < 0:  # it begins anew at its end
                spent += int(counter.with_name("max_energy_range_uj").read_text())
            used += spent
        return used / 1e6


def _lines(path: Path) -> list[str]:
    """Return a file's lines; none where there is no such file, as on other systems."""
    try:
        return path.read_text().splitlines()
    except OSError:
        return []


def peak_flops() -> float:
    """Return the operations a second of a large matrix product in float32, on all cores."""
    side = 1536
    matrix = np.ones((side, side), np.float32)
    out = np.empty_like(matrix)
    return 2 * side**3 / _fastest_s(lambda: np.matmul(matrix, matrix, out=out))


def peak_bytes() -> float:
    """Return the bytes a second that a large copy reads and writes.

    One core copies; a large matrix times a vector, read by all cores, counts where it is faster.
    """
    side = 6144
    matrix, copied = np.ones((side, side), np.float32), np.zeros((side, side), np.float32)
    vector = np.ones(side, np.float32)
    copying_s = _fastest_s(lambda: np.copyto(copied, matrix))
    reading_s = _fastest_s(lambda: matrix @ vector)
    return max(2 * matrix.nbytes / copying_s, matrix.nbytes / reading_s)


def _fastest_s(function: Callable[[], object], times: int = 7) -> float:
    taken = []
    for _ in range(times):
        since = time.perf_counter()
        function()
        taken.append(time.perf_counter() - since)
    return min(taken)
