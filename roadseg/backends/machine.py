"""Properties of this machine that model files and measurements depend on."""

import contextlib
import os
import platform
from collections.abc import Iterable, Sequence
from functools import lru_cache
from math import ceil
from pathlib import Path

CPU_FILE = Path("/proc/cpuinfo")
INSTRUCTION_SETS = (
    ("avx512_vnni", "AVX-512 VNNI"),
    ("avx_vnni", "AVX-VNNI"),
    ("avx512f", "AVX-512"),
    ("avx2", "AVX2"),
)
"""The kernel's flag and the usual name of each set, the best for networks first."""
INT8_SETS = ("AVX-512 VNNI", "AVX-VNNI")
"""Sets that add up products of 8-bit numbers without overflow."""
BFLOAT16_FLAGS = frozenset({"avx512_bf16", "amx_bf16"})
"""The kernel's flags of instructions that multiply in bfloat16."""

CONTROL_GROUPS = Path("/sys/fs/cgroup")
"""Where a container finds its limits."""
MEMORY_LIMIT_FILES = (("memory.max",), ("memory/memory.limit_in_bytes",))
"""Files with the limit in bytes, by control groups of version 2 and 1."""
CPU_QUOTA_FILES = (("cpu.max",), ("cpu/cpu.cfs_quota_us", "cpu/cpu.cfs_period_us"))
"""Files with the CPU time that may be taken in a period, and the period, by the same."""
UNLIMITED_FILES = 1 << 20
"""Stands for no limit on open files."""


def cpu_kind(cpu_file: Path = CPU_FILE) -> str:
    """Return the architecture and the best of `INSTRUCTION_SETS` that the CPU has."""
    flags = cpu_flags(cpu_file)
    best = next((name for flag, name in INSTRUCTION_SETS if flag in flags), None)
    return f"{platform.machine()} with {best}" if best else platform.machine()


def has_int8_units(cpu_file: Path = CPU_FILE) -> bool:
    """Return whether 8-bit networks are known to be fast and exact on this CPU."""
    return cpu_kind(cpu_file).endswith(INT8_SETS)


def has_bfloat16_units(cpu_file: Path = CPU_FILE) -> bool:
    """Return whether this CPU is known to multiply in bfloat16, faster than in FP32."""
    return not BFLOAT16_FLAGS.isdisjoint(cpu_flags(cpu_file))


def cpu_name(cpu_file: Path = CPU_FILE) -> str:
    """Return the CPU's model name, or its architecture where the system does not report one."""
    return _fields(cpu_file).get("model name", platform.processor() or platform.machine())


def cpu_flags(cpu_file: Path = CPU_FILE) -> frozenset[str]:
    """Return the kernel's flags of the CPU's features."""
    fields = _fields(cpu_file)
    return frozenset(fields.get("flags", fields.get("Features", "")).split())  # the latter on ARM


def open_files_limit() -> int:
    """Return how many files and connections this process may have open at a time."""
    try:
        import resource  # not on Windows
    except ImportError:
        return UNLIMITED_FILES
    limit = resource.getrlimit(resource.RLIMIT_NOFILE)[0]
    return UNLIMITED_FILES if limit == resource.RLIM_INFINITY else limit


def core_count(most: int | None = None, groups: Path = CONTROL_GROUPS) -> int:
    """Return the cores that this process may use, or that it is to use at most.

    Of a container with a limit on CPU time, they are as many as that keeps at work.
    """
    if hasattr(os, "sched_getaffinity"):  # not on macOS and Windows
        cores = len(os.sched_getaffinity(0))
    else:
        cores = os.cpu_count() or 1
    return min(cores, most or cores, _cores_of_quota(groups) or cores)


def limited_cores(groups: Path = CONTROL_GROUPS) -> int | None:
    """Return `core_count` where a limit on CPU time sets it, of which runtimes know nothing.

    None stands for as many as a runtime takes by itself.
    """
    cores = core_count(groups=groups)
    return cores if cores == _cores_of_quota(groups) else None


@lru_cache(maxsize=4)
def _cores_of_quota(groups: Path) -> int | None:
    """Return how many cores a limit on CPU time keeps at work; None if there is none."""
    quota, period = _numbers(groups, CPU_QUOTA_FILES) or (-1, 1)
    return max(ceil(quota / period), 1) if quota > 0 else None


def memory_bytes(groups: Path = CONTROL_GROUPS) -> int | None:
    """Return the memory that this process may take; None where it is not reported, as on Windows.

    It is the machine's, or the limit of the container that the process runs in.
    """
    try:
        machine = os.sysconf("SC_PAGE_SIZE") * os.sysconf("SC_PHYS_PAGES")
    except (AttributeError, ValueError):
        return None
    return min([machine, *_numbers(groups, MEMORY_LIMIT_FILES)])


def _numbers(groups: Path, versions: Iterable[Sequence[str]]) -> list[int]:
    """Return the numbers in the files of the first version that is there; none without a limit."""
    for names in versions:
        with contextlib.suppress(OSError, ValueError):  # where there is no limit, it says "max"
            return [int(word) for name in names for word in (groups / name).read_text().split()]
    return []


@lru_cache(maxsize=4)
def _fields(cpu_file: Path) -> dict[str, str]:
    """Return Linux's record of the first CPU; other systems have none."""
    try:
        text = cpu_file.read_text()
    except OSError:
        return {}
    lines = (line.partition(":") for line in text.partition("\n\n")[0].splitlines())
    return {key.strip(): value.strip() for key, _, value in lines}
