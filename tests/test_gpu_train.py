"""A series of training runs, on a machine without a GPU."""

import json
import subprocess
import sys

import pytest

pytest.importorskip("torch")

import torch
from conftest import ROOT, patience, script

from roadseg.train.config import TrainConfig

gpu_train = script("gpu_train")
TWO = """
[2-plain]
finding = "What is a single data set worth?"
data = ["CamVid"]
arch = "unet"
width = 4

[10-mixed]
finding = "What are two worth?"
data = ["CamVid", "idd_lite:idd_lite=0.5"]
arch = "unet"
width = 4
holdout_sequence = "0001TP"
"""


def test_series_trains_side_by_side_and_keeps_records(tmp_path) -> None:
    if torch.cuda.is_available():
        pytest.skip("there is a GPU here, and its runs are not tiny")
    (tmp_path / "two.toml").write_text(TWO)
    program = ROOT / "benchmarks" / "gpu_train.py"
    done = subprocess.run(
        [sys.executable, program, "two.toml", "--out", "runs", "--at-once", "2"],
        cwd=tmp_path,
        capture_output=True,
        text=True,
        timeout=patience(100),
    )
    assert done.returncode == 0, done.stderr
    found = json.loads((tmp_path / "runs" / "series.json").read_text())
    assert list(found) == ["machine", "loader", "2-plain", "10-mixed"]
    assert found["loader"]["samples_a_core_second"] > 0
    gpu_train.experiments.FOLDER = tmp_path / "runs" / "records"
    records = gpu_train.experiments.records()
    assert [record["name"] for record in records] == ["2-plain", "10-mixed"]
    assert len(records[1]["settings"]["data"]) == 2
    table = gpu_train.experiments.markdown(records)
    assert "single data set" in table and "two worth" in table


def test_run_that_takes_too_long_is_stopped_and_told() -> None:
    endless = [sys.executable, "-c", "import signal; signal.pause()"]
    assert gpu_train.run_apart(endless, 0.5) == {"stopped": "not done after 0.5 s"}


def test_what_a_run_lacks_is_told() -> None:
    failing = [sys.executable, "-c", "import sys; sys.exit('no pictures')"]
    assert gpu_train.run_apart(failing, patience(60))["failed"] == "no pictures"


def test_runs_of_the_included_series_have_settings_that_fit(tmp_path) -> None:
    runs = gpu_train.tomllib.loads((ROOT / "benchmarks" / "series.toml").read_text())
    for run in runs.values():
        placed = dict(gpu_train.placed(run, tmp_path, 3))
        assert placed.pop("finding")
        assert placed["data"][0] == str(tmp_path / "CamVid")
        TrainConfig.from_dict({**placed, "out": "o"})
