"""The recorded runs of measurements, and what the documents say of them."""

import json

import pytest
from conftest import ROOT, script

from roadseg.measure.results import speeds_of
from roadseg.measure.targets import scores_of

marks, speed, steady = map(script, ("marks", "speed", "steady"))
README = ROOT / "benchmarks" / "README.md"
RECORDS = speed.records()


def test_the_readmes_tables_are_those_of_the_records() -> None:
    assert marks.split(README, speed.MARK)[1] == speed.markdown(RECORDS)


@pytest.mark.parametrize("mark", script("revisions").RECORDS)
def test_old_and_new_in_the_readme_are_those_of_the_record(mark) -> None:
    assert marks.split(README, mark)[1] == script("revisions").markdown(mark)


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


def test_steady_labels_in_the_documents_are_those_of_the_records(tmp_path) -> None:
    measured, timed = steady._read("accuracy"), steady._read("speed")
    shown = marks.split(steady.PAGE, steady.MARK)[1]
    assert shown == steady.markdown(measured, timed)
    assert list(measured["backends"]) == list(timed["fps"]) == list(steady.MODELS)
    steady.page(tmp_path / "steady.html")
    assert "openvino, 8 bits" in (tmp_path / "steady.html").read_text()


def test_what_redact_hides_is_in_the_documents_as_in_the_record() -> None:
    redact = script("redact")
    shown = marks.split(redact.PAGE, redact.MARK)[1]
    assert shown == redact.drawn(json.loads(redact.RECORD.read_text()))
