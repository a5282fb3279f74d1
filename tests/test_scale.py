"""The arithmetic of scale is in its page."""

import json

import pytest
from conftest import ROOT, script
from typer.testing import CliRunner

PAGE = ROOT / "docs" / "scale.md"


def test_the_page_has_the_program_s_arithmetic() -> None:
    scale = script("scale")
    page = PAGE.read_text()
    for arguments in (["cost"], ["chunks"]):
        printed = CliRunner().invoke(scale.app, arguments)
        assert printed.exit_code == 0
        for line in printed.stdout.splitlines():
            assert line in page, f"docs/scale.md lacks what scale.py {arguments} prints"


def test_without_losses_chunks_cost_what_is_around_them_and_no_more() -> None:
    scale = script("scale")
    calm = scale.Cluster(
        machines=4,
        films=8,
        pace=0.5,
        around_s=1.0,
        start_s=0.0,
        losses_per_hour=1e-9,
        away_s=60.0,
    )
    spent, waited = scale.simulate(calm, 60)
    assert spent == pytest.approx(61 / 60)
    assert waited == pytest.approx(61 / 60)
    stormy = scale.Cluster(**{**vars(calm), "losses_per_hour": 2.0})
    assert scale.simulate(stormy, 3600)[0] > scale.simulate(stormy, 60)[0] > 61 / 60


def test_what_chunks_cost_on_the_page_is_in_the_record() -> None:
    chunks, marks = script("chunks"), script("marks")
    record = json.loads((ROOT / "benchmarks" / "chunks.json").read_text())
    assert marks.split(PAGE, "chunks")[1] == chunks.markdown(record)


def test_what_starts_once_weighs_less_in_a_longer_film() -> None:
    chunks = script("chunks")
    rounds = [{"start_cpu_s": 12.0, "cpu_s": 222.0}, {"start_cpu_s": 10.0, "cpu_s": 220.0}]
    taken = chunks.Taken.of(rounds, 100.0)
    assert taken == (11.0, pytest.approx(2.1))
    assert taken.cpu_s(1000.0) == pytest.approx(2111.0)
