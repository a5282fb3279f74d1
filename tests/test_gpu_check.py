"""The check of a machine with a GPU, where there is none."""

import json

import pytest

pytest.importorskip("torch")

import torch
from conftest import script
from gpus import gpu_case, gpu_record
from typer.main import get_command

from roadseg.cli import app

check = script("gpu_check")
STEPS = [name for name in check.STEPS if name != "machine"]


def test_the_machine_is_described() -> None:
    found = check.machine()
    assert found["torch"] == torch.__version__ and "cores" in found["cpu"]


@pytest.mark.parametrize("name", STEPS)
def test_each_step_says_what_it_lacks(name) -> None:
    if torch.cuda.is_available():
        pytest.skip("there is a GPU here")
    with pytest.raises(check.Lacking, match="no NVIDIA GPU"):
        check.STEPS[name].run()


def test_record_of_the_bench_is_kept_in_short() -> None:
    found = check.in_short(gpu_record())
    assert found["cases"][gpu_case("offline", 8)]["fps"] == pytest.approx(80_000)
    assert found["cases"]["roadseg cuda:0"]["watts"] == 250
    assert found["reached"]["slowest stage alone, roadseg cuda:0"] == 0.9
    assert found["advice"].startswith("roadseg infer VIDEO --device cuda:0")
    assert "roadseg" not in found["cases"]  # the CPU's are not what is asked for


@pytest.mark.parametrize("record", sorted(check.RECORDS.glob("*.json")), ids=lambda p: p.stem)
def test_table_in_the_documents_is_that_of_the_record(record) -> None:
    written = script("marks").split(check.PAGE, record.stem)[1]
    assert written == check.table(json.loads(record.read_text()))


def test_table_has_only_what_was_measured() -> None:
    machine = {"gpu": "a GPU", "cpu": "a CPU", "torch": "2.13"}
    films = {"statistics alone": {"frames": 100, "fps": 50.2}, "took_s": 3.0}
    found = {"machine": machine, "full HD on the GPU": films, "half": {"failed": "not done"}}
    text = check.table(found)
    assert "full HD, statistics alone | 50 fps over 100 frames" in text
    assert len(text.splitlines()) == 4 and "network" not in text


def test_bench_is_asked_for_every_scenario_and_batch_in_options_that_it_takes() -> None:
    known = {name for p in get_command(app).commands["bench"].params for name in p.opts}
    given = [step.run.args for step in check.STEPS.values() if hasattr(step.run, "args")]
    options = {word for words in given for word in words if str(word).startswith("--")}
    assert {"--scenario", "--batch", "--cuda-graph"} <= options <= known


def test_what_a_step_lacks_comes_from_its_own_process() -> None:
    if torch.cuda.is_available():
        pytest.skip("there is a GPU here")
    assert "no NVIDIA GPU" in check.run_apart("decode")["lacks"]


def test_a_step_that_takes_too_long_does_not_end_the_check(monkeypatch) -> None:
    monkeypatch.setitem(check.STEPS, "machine", check.STEPS["machine"]._replace(limit_s=0.01))
    assert check.run_apart("machine") == {"failed": "not done after 0.01 s"}


def test_steps_of_a_record_are_measured_anew_on_its_machine(tmp_path) -> None:
    record = tmp_path / "gpu.json"
    with pytest.raises(SystemExit, match=r"does not exist; leave out the steps"):
        check.main(record, 60, ["machine"])
    machine = check.run_apart("machine")
    record.write_text(json.dumps({"machine": machine, "decode": {"fps": 1.0}, "half": "kept"}))
    check.main(record, 60, ["decode"])
    found = json.loads(record.read_text())
    assert found["half"] == "kept" and "took_s" in found["decode"]
    assert found["decode"].get("fps") != 1.0
    with pytest.raises(SystemExit, match="exists; name the steps"):
        check.main(record, 60, [])
    with pytest.raises(SystemExit, match="no step is called decoding; they are machine, power"):
        check.main(record, 60, ["decoding"])
    record.write_text(json.dumps({"machine": {"gpu": "another"}}))
    with pytest.raises(SystemExit, match="is of another, and here is"):
        check.main(record, 60, ["decode"])
    assert json.loads(record.read_text()) == {"machine": {"gpu": "another"}}


def test_frames_are_as_the_network_takes_them() -> None:
    frames = check.film_frames(9)
    assert frames.shape == (9, *check.HW, 3) and frames.dtype == torch.uint8
    assert torch.equal(frames[0], frames[8])
