"""A CPU is told by what the kernel says of it."""

import os

import pytest

from roadseg.backends.machine import (
    core_count,
    cpu_kind,
    cpu_name,
    has_bfloat16_units,
    has_int8_units,
    limited_cores,
    memory_bytes,
)
from roadseg.backends.weights import default_weights, shipped_model


@pytest.mark.parametrize(
    ("flags", "kind", "fast"),
    [
        ("fpu sse2", "", False),
        ("sse2 avx avx2", " with AVX2", False),
        ("avx2 avx_vnni", " with AVX-VNNI", True),
        ("avx2 avx512f avx512_vnni", " with AVX-512 VNNI", True),
        ("avx2 avx512f", " with AVX-512", False),
    ],
)
def test_best_instruction_set_is_found(tmp_path, flags, kind, fast) -> None:
    told = tmp_path / "cpuinfo"
    told.write_text(
        f"processor\t: 0\nmodel name\t: Some CPU\nflags\t\t: {flags}\n\nprocessor : 1\n"
    )
    assert cpu_kind(told).endswith(kind)
    assert (" with " in cpu_kind(told)) == bool(kind)
    assert has_int8_units(told) == fast
    assert cpu_name(told) == "Some CPU"


@pytest.mark.parametrize(
    ("flags", "has"), [("avx512f avx512_bf16", True), ("amx_bf16", True), ("avx512_vnni", False)]
)
def test_bfloat16_is_known_by_its_flags(tmp_path, flags, has) -> None:
    told = tmp_path / "cpuinfo"
    told.write_text(f"flags : {flags}\n")
    assert has_bfloat16_units(told) == has


@pytest.mark.parametrize("file", ["memory.max", "memory/memory.limit_in_bytes"])
def test_memory_is_that_of_the_container(tmp_path, file) -> None:
    machine = memory_bytes(tmp_path)
    (tmp_path / file).parent.mkdir(exist_ok=True)
    for text, found in (("max\n", machine), (f"{2**30}\n", 2**30), (f"{2**62}\n", machine)):
        (tmp_path / file).write_text(text)
        assert memory_bytes(tmp_path) == found


@pytest.mark.parametrize(
    ("files", "cores"),
    [
        ({}, 16),
        ({"cpu.max": "max 100000\n"}, 16),
        ({"cpu.max": "200000 100000\n"}, 2),
        ({"cpu.max": "50000 100000\n"}, 1),
        ({"cpu.max": "250000 100000\n"}, 3),
        ({"cpu.max": "6400000 100000\n"}, 16),
        ({"cpu/cpu.cfs_quota_us": "-1\n", "cpu/cpu.cfs_period_us": "100000\n"}, 16),
        ({"cpu/cpu.cfs_quota_us": "400000\n", "cpu/cpu.cfs_period_us": "100000\n"}, 4),
    ],
)
def test_cores_are_those_that_the_container_keeps_at_work(
    tmp_path, monkeypatch, files, cores
) -> None:
    monkeypatch.setattr(os, "sched_getaffinity", lambda _: range(16), raising=False)
    for name, text in files.items():
        (tmp_path / name).parent.mkdir(exist_ok=True)
        (tmp_path / name).write_text(text)
    assert core_count(groups=tmp_path) == cores
    assert core_count(2, tmp_path) == min(cores, 2)
    assert limited_cores(tmp_path) == (None if cores == 16 else cores)


def test_system_that_tells_nothing_gets_the_model_that_runs_anywhere(tmp_path, monkeypatch) -> None:
    assert not has_int8_units(tmp_path / "none")
    assert cpu_name(tmp_path / "none")
    monkeypatch.setattr("roadseg.backends.weights.has_int8_units", lambda: False)
    assert default_weights() == shipped_model("fp32")
    monkeypatch.setattr("roadseg.backends.weights.has_int8_units", lambda: True)
    assert default_weights() == shipped_model("int8")
    assert all(shipped_model(precision).is_file() for precision in ("fp32", "int8"))
