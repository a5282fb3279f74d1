"""Engines of TensorRT-RTX, and what is kept in the user's cache folder for them and TensorRT's."""

import json
from dataclasses import asdict, replace

import pytest

pytest.importorskip("torch")

from test_tensorrt import RECORD, SPEC

from roadseg.backends import tensorrt_rtx as rtx_parts
from roadseg.backends.nvidia import Gpu
from roadseg.backends.tensorrt_engine import EngineRecord, load_engine, save_engine
from roadseg.deploy.build_tensorrt import _timings
from roadseg.errors import BackendUnavailable, ModelFileError

RTX_RECORD = replace(
    RECORD,
    gpu="NVIDIA GeForce RTX 4070",
    tensorrt="1.5.0.114",
    library="tensorrt_rtx",
    capabilities=((8, 0), (8, 6), (8, 9), (12, 0), (12, 1)),
)


@pytest.mark.parametrize(
    ("change", "said"),
    [
        ({}, None),
        ({"gpu": "NVIDIA GeForce RTX 3060", "capability": (8, 6)}, None),
        ({"gpu": "NVIDIA GeForce RTX 5090", "capability": (12, 0)}, None),
        (
            {"gpu": "Tesla T4", "capability": (7, 5)},
            r"for compute capability 8\.0, 8\.6, 8\.9, 12\.0, 12\.1 and TensorRT-RTX 1\.5\.0\.114; "
            r"this machine has Tesla T4 \(compute capability 7\.5\)",
        ),
        ({"tensorrt": "1.7.1.116"}, r"and TensorRT-RTX 1\.7\.1\.116"),
        ({"library": "tensorrt"}, r"and TensorRT 1\.5"),
    ],
)
def test_engine_of_tensorrt_rtx_runs_on_every_gpu_that_it_was_built_for(
    tmp_path, change, said
) -> None:
    path = tmp_path / "rtx.engine"
    save_engine(path, b"not really an engine", RTX_RECORD, SPEC)
    _, record, _ = load_engine(path)
    assert record == RTX_RECORD
    here = replace(RTX_RECORD, **change)
    if said is None:
        record.check_runs_on(here, path)
    else:
        with pytest.raises(ModelFileError, match=said):
            record.check_runs_on(here, path)


def test_record_of_an_older_version_is_one_of_tensorrt(tmp_path) -> None:
    values = {n: v for n, v in asdict(RECORD).items() if n not in ("library", "capabilities")}
    assert EngineRecord.from_json(json.dumps(values), tmp_path) == RECORD
    with pytest.raises(ModelFileError, match=r"damaged engine record .*its library is 'os'"):
        EngineRecord.from_json(json.dumps({**values, "library": "os"}), tmp_path)


@pytest.mark.parametrize(
    ("capability", "expected"),
    [((8, 9), rtx_parts.PORTABLE), ((12, 1), rtx_parts.PORTABLE), ((7, 5), rtx_parts.TURING)],
)
def test_turing_has_an_engine_of_its_own(capability, expected) -> None:
    assert rtx_parts.targets_for(Gpu("some GPU", capability)) == expected
    assert capability in expected


def test_gpu_that_tensorrt_rtx_does_not_know_is_refused() -> None:
    said = r"7\.5, 8\.0, .* here is NVIDIA H100 \(compute capability 9\.0\); use the extra tensorrt"
    with pytest.raises(BackendUnavailable, match=said):
        rtx_parts.targets_for(Gpu("NVIDIA H100", (9, 0)))


class Compiled:
    """TensorRT-RTX's cache of kernels, and the settings that it is put into."""

    def __init__(self, kernels: bytes = b"") -> None:
        self.kernels = kernels
        self.used: Compiled | None = None

    def create_runtime_cache(self) -> "Compiled":
        return Compiled()

    def set_runtime_cache(self, cache: "Compiled") -> None:
        self.used = cache

    def deserialize(self, kernels: bytes) -> bool:
        self.kernels = kernels
        return True

    def serialize(self) -> bytes:
        return self.kernels


def test_kernels_are_kept_from_run_to_run(tmp_path, monkeypatch) -> None:
    monkeypatch.setattr(rtx_parts, "kept_folder", lambda _name: tmp_path)
    path = rtx_parts.cache_file("0" * 64)
    first, second = Compiled(), Compiled()
    cache = rtx_parts.KernelCache(first, path)
    cache.save()
    assert not path.exists()  # nothing ran
    first.used.kernels = b"compiled"
    cache.save()
    assert path.read_bytes() == b"compiled"
    cache = rtx_parts.KernelCache(second, path)
    assert second.used.kernels == b"compiled"
    path.unlink()
    cache.save()
    assert not path.exists()  # nothing is new
    second.used.kernels = b"more"
    path.mkdir()  # takes no file
    cache.save()
    rtx_parts.KernelCache(second, None).save()


def test_timings_are_kept_for_the_next_build_on_such_a_gpu(tmp_path, monkeypatch) -> None:
    kept, build = tmp_path / "kept", tmp_path / "build"
    kept.mkdir()
    build.mkdir()
    monkeypatch.setattr("roadseg.deploy.build_tensorrt.kept_folder", lambda _name: kept)
    with _timings(RECORD, build) as cache:
        assert not cache.exists()
        cache.write_bytes(b"timed")
    cache.unlink()
    with _timings(replace(RECORD, gpu="NVIDIA A10"), build) as cache:
        assert not cache.exists()
    with _timings(RECORD, build) as cache:
        assert cache.read_bytes() == b"timed"
    assert len(list(kept.iterdir())) == 1
