"""Statistics against counting by hand; meters against threads, memory and files that really are."""

import json
import subprocess
import threading
import time
from collections.abc import Sequence
from mmap import mmap
from pathlib import Path

import numpy as np
import pytest
from conftest import ROOT, SAMPLE, patience

from roadseg.files import sha256_of
from roadseg.infer.stages import Parallel, Pipeline
from roadseg.measure import meters
from roadseg.measure.enlarged_film import enlarge_film
from roadseg.measure.machine_record import git_revision, machine_record
from roadseg.measure.many_cores import CORES, many_cores, scaling_of
from roadseg.measure.meters import (
    EnergyMeter,
    name_thread,
    named_cpu_s,
    peak_rss_bytes,
    reset_peak_rss,
)
from roadseg.measure.statistics import median_interval, percentiles, permutation_p, ratio_interval
from roadseg.video.read.read_log import ReadLog
from roadseg.video.read.source import decode, probe

needs_proc = pytest.mark.skipif(not Path("/proc/self").exists(), reason="there is no /proc")


def test_percentiles_are_those_of_the_sorted_samples() -> None:
    shuffled = np.random.default_rng(0).permutation(101)
    assert percentiles(shuffled.tolist()) == {"p50": 50, "p90": 90, "p95": 95, "p99": 99}


def test_rounds_that_do_not_overlap_are_as_improbable_as_counting_says() -> None:
    # Of the 70 ways to deal 8 rounds into two hands of 4 only 2 part low from high.
    assert permutation_p([1, 2, 3, 4], [5, 6, 7, 8]) == pytest.approx(2 / 70)
    assert permutation_p([5, 6, 7, 8], [1, 2, 3, 4]) == pytest.approx(2 / 70)
    assert permutation_p([3, 3, 3, 3], [3, 3, 3, 3]) == 1


def test_many_rounds_are_dealt_at_random_to_the_same_end() -> None:
    rng = np.random.default_rng(0)
    before, after = rng.normal(100, 3, 30), rng.normal(110, 3, 30)
    assert permutation_p(before, after) < 0.001
    assert permutation_p(before, rng.normal(100, 3, 30)) > 0.05


def test_interval_of_a_ratio_holds_the_truth_about_as_often_as_it_says() -> None:
    rng = np.random.default_rng(0)
    hits = 0
    for _ in range(100):
        found = ratio_interval(rng.normal(100, 5, 12), rng.normal(130, 5, 12))
        hits += found.low <= 1.3 <= found.high
    assert hits >= 88  # of the 95 of 100 promised, less what twelve samples and a median cost


def test_interval_of_one_value_is_that_value() -> None:
    found = median_interval([2.5])
    assert (found.median, found.low, found.high) == (2.5, 2.5, 2.5)


@needs_proc
def test_cpu_seconds_are_counted_by_the_name_of_the_thread_and_inherited() -> None:
    spun_s = []

    def spin() -> None:
        while time.thread_time() < 0.1:
            pass
        spun_s.append(time.thread_time())
        counted.wait()

    def open_library() -> None:
        name_thread("library")
        pool.start()

    counted = threading.Event()
    pool, opener = threading.Thread(target=spin), threading.Thread(target=open_library)
    opener.start()
    opener.join()
    deadline = time.monotonic() + patience(20)
    while not spun_s and time.monotonic() < deadline:
        time.sleep(0.005)
    found_s = named_cpu_s("library")
    counted.set()
    pool.join()
    assert found_s == pytest.approx(spun_s[0], abs=0.02)
    assert named_cpu_s("another") == 0


@needs_proc
def test_peak_memory_is_this_processs_own_and_can_begin_anew() -> None:
    reset_peak_rss()
    before = peak_rss_bytes()
    assert before is not None
    with mmap(-1, 64 * 2**20) as block:  # an array might lie where a freed one did
        np.frombuffer(block, np.uint8).fill(1)
        grown = peak_rss_bytes()
        assert grown is not None and grown - before > 0.9 * len(block)
    reset_peak_rss()
    after = peak_rss_bytes()
    assert after is not None and after < grown


def write_counters(folder: Path, values: Sequence[int]) -> None:
    names = ("package-0", "package-1", "psys")
    for number, (name, value) in enumerate(zip(names, values, strict=True)):
        counter = folder / f"intel-rapl:{number}"
        counter.mkdir(exist_ok=True)
        (counter / "name").write_text(f"{name}\n")
        (counter / "energy_uj").write_text(f"{value}\n")
        (counter / "max_energy_range_uj").write_text("1000000\n")


def test_energy_is_summed_over_packages_and_survives_a_counters_end(tmp_path, monkeypatch) -> None:
    monkeypatch.setattr(meters, "POWER", tmp_path)
    write_counters(tmp_path, [100_000, 900_000, 1_000])
    meter = EnergyMeter()
    write_counters(tmp_path, [350_000, 50_000, 900_000])  # the last is the whole platform's
    assert meter.joules() == pytest.approx(0.25 + 0.15)


def test_energy_is_unknown_where_the_machine_does_not_tell(tmp_path, monkeypatch) -> None:
    monkeypatch.setattr(meters, "POWER", tmp_path)
    assert EnergyMeter().joules() is None


def test_record_of_the_machine_is_json_and_knows_the_film_and_the_commit(tmp_path) -> None:
    record = json.loads(json.dumps(machine_record()))
    assert record["cores"] >= 1 and record["cpu"] and record["versions"]["numpy"] == np.__version__
    card = (ROOT / "samples" / "README.md").read_text()
    assert sha256_of(SAMPLE) in card
    assert git_revision(tmp_path) is None
    head = subprocess.run(["git", "rev-parse", "HEAD"], cwd=ROOT, capture_output=True, text=True)
    if head.returncode == 0:
        found = git_revision(ROOT)
        assert found is not None and head.stdout.startswith(found.removesuffix("-dirty"))


def film_result(stages: dict[str, tuple[float, bool]], cpu_s: float, frames: int = 30) -> dict:
    """What a film's job returns, of a pipeline whose frames take `cpu_s` of CPU."""
    return {
        "frames": frames,
        "warmup_frames": 10,
        "frames_at_s": [0.1 * n for n in range(frames)],
        "cpu_at_s": [cpu_s * n for n in range(frames)],
        "stages": [
            {"name": name, "items": frames, "cpu_s": frames * of_stage_s, "parallel": parallel}
            for name, (of_stage_s, parallel) in stages.items()
        ],
    }


def test_more_cores_help_until_the_largest_sequential_stage_is_the_limit() -> None:
    stages = {"decode": (0.002, False), "segment": (0.060, True), "encode": (0.010, False)}
    scaling = scaling_of([film_result(stages, 0.1)] * 3)
    assert scaling is not None and scaling.stage == "encode"
    assert scaling.sequential_share == pytest.approx(0.1)
    assert [scaling.fps(cores) for cores in CORES] == pytest.approx([40, 80, 100, 100])
    record = {
        "contenders": {"roadseg": {"job": "film"}, "live": {"job": "live"}},
        "rounds": [{"results": {"roadseg": film_result(stages, 0.1), "live": {}}}],
    }
    assert many_cores(record)["roadseg"]["fps"] == {"4": 40, "8": 80, "16": 100, "64": 100}


def test_record_that_does_not_tell_which_stages_are_parallel_has_no_limit() -> None:
    result = film_result({"encode": (0.01, False)}, 0.1)
    for stage in result["stages"]:
        del stage["parallel"]
    assert scaling_of([result]) is None


def test_pipeline_tells_which_stages_can_be_shared_on_a_single_core_too() -> None:
    def same(items):
        yield from items

    with Pipeline(range(3), same, Parallel(same, 1), names=["count", "a", "b"]) as pipeline:
        list(pipeline)
    assert [stats.parallel for stats in pipeline.stats] == [False, False, True]


def test_film_is_enlarged_with_its_times_kept(tmp_path) -> None:
    enlarge_film(SAMPLE, tmp_path / "large.mp4", (1080, 1920), seconds=0.2)
    info = probe(tmp_path / "large.mp4")
    small, large = (list(decode(probe(f), ReadLog(), end_s=0.2)) for f in (SAMPLE, info.path))
    assert info.size_hw == (1080, 1920) and len(large) == len(small) == 5
    assert [f.time_s for f in large] == pytest.approx([f.time_s for f in small])
    again = large[0].rgb((540, 960)).astype(int)
    assert abs(again - small[0].rgb()).mean() < 4  # the same picture, compressed once more
