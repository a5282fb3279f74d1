"""The recorded runs of measurements, and what the benchmarks' README says of them."""

import importlib.util
from typing import Any

import pytest
from conftest import ROOT

from roadseg.figures import scores_of, speeds_of

spec = importlib.util.spec_from_file_location("speed", ROOT / "benchmarks" / "speed.py")
speed: Any = importlib.util.module_from_spec(spec)
spec.loader.exec_module(speed)
RECORDS = speed.records()


def test_the_readmes_tables_are_those_of_the_records() -> None:
    readme = (ROOT / "benchmarks" / "README.md").read_text()
    assert readme.split(speed.BEGIN)[1].split(speed.END)[0] == speed.markdown(RECORDS)


@pytest.mark.parametrize("name", RECORDS)
def test_a_record_has_every_target_and_rounds_enough_to_be_compared(name) -> None:
    record = RECORDS[name]
    assert len(record["rounds"]) >= 4
    assert all(score.interval is not None for score in scores_of(record))
    assert record["machine"]["revision"] and speeds_of(record)


def test_a_records_page_is_drawn(tmp_path) -> None:
    name = next(iter(RECORDS))
    speed.page(name, tmp_path / "speed.html")
    assert RECORDS[name]["film"]["sha256"] in (tmp_path / "speed.html").read_text()
