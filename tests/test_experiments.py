"""The recorded experiments, and what the documents say of them."""

import json
import shlex

import pytest
from conftest import leaf_commands, script

from roadseg.train.config import TrainConfig

experiments = script("experiments")
RECORDS = experiments.records()


def test_the_table_in_the_documents_is_that_of_the_records() -> None:
    shown = script("marks").split(experiments.PAGE, experiments.MARK)[1]
    assert shown == experiments.markdown(RECORDS)


@pytest.mark.parametrize("record", RECORDS, ids=lambda record: record["name"])
def test_the_command_of_a_record_parses_and_has_its_settings(record) -> None:
    assert record["command"] == experiments.command(record["name"], record["settings"])
    words = shlex.split(record["command"])
    leaf_commands()["train",].make_context("train", words[2:])
    TrainConfig.from_dict({"data": "d", **record["settings"], "out": "o"})


def test_a_run_is_kept_with_its_command_and_drawn(tmp_path, monkeypatch) -> None:
    run = tmp_path / "run"
    run.mkdir()
    config = TrainConfig.from_dict(
        {
            "data": ["some/CamVid", "some/abroad:idd_lite=0.25"],
            "out": "y",
            "epochs": 2,
            "crop_hw": [64, 96],
            "augment": {"mix": 0.5, "scale": [1.0, 1.5]},
            "pretrained": False,
            "holdout_sequence": "0001TP",
        }
    )
    (run / "config.json").write_text(json.dumps(config.to_dict()))
    measured = {"val": {"miou": 0.5}, "holdout": {"miou": 0.25}, "abroad": {"miou": None}}
    entry = {"epoch": 1, **measured}
    (run / "metrics.jsonl").write_text(json.dumps(entry) + "\n")
    monkeypatch.setattr(experiments, "FOLDER", tmp_path)
    experiments.add("mine", run, finding="It <works>.")
    (record,) = experiments.records()
    assert record["parameters"] > 3e6
    assert record["command"] == (
        "roadseg train --data CamVid --data abroad:idd_lite=0.25 --out runs/mine "
        "--no-pretrained --epochs 2 --crop 96x64 --augment scale=1.0,1.5 --augment mix=0.5 "
        "--holdout-sequence 0001TP"
    )
    assert (
        "| mine | 3.5 M | 1 of 2 | 50.0 | 0001TP: 25.0, abroad: absent | It <works>. |"
        in experiments.markdown([record])
    )
    experiments.page(tmp_path / "page.html")
    page = (tmp_path / "page.html").read_text()
    assert "It &lt;works&gt;." in page and '"mine"' in page


def test_page_sets_the_speed_of_recorded_models_beside_the_curves(tmp_path) -> None:
    experiments.page(tmp_path / "page.html")
    page = (tmp_path / "page.html").read_text()
    for run, measured in experiments.speeds().items():
        assert f"Speed: {run}" in page
        for speed in measured:
            assert f"<td>{speed.name}</td><td>{speed.fps:.1f}</td>" in page
    assert experiments.speeds()
