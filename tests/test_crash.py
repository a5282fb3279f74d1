"""Cut off at its writes, or killed at any moment, a run goes on to what a whole run gives."""

import pytest
from conftest import script

from roadseg.backends.runtimes import BACKENDS, Runtime

crash = script("crash")
POINTS, KILLS = 7, 2
"""Of each case; `benchmarks/crash.py` tries more."""
MOST_LOST_S = 2.5
"""Two seconds, and the frames on their way, which are a tenth of a second each."""
STEP = 9
"""Of the changes of names at which processes are killed."""


@pytest.fixture(autouse=True)
def backend(monkeypatch) -> None:
    monkeypatch.setitem(BACKENDS, "brightness", Runtime((".json",), "brightness_backend", ""))


@pytest.mark.timeout(600)  # several processes and dozens of runs
@pytest.mark.parametrize("name", crash.CASES)
def test_cut_off_anywhere_a_run_goes_on_to_the_same_film(name) -> None:
    result = crash.run_case(crash.CASES[name], POINTS, KILLS)
    assert result["differences"] == []
    assert result["points"] == POINTS
    assert result["worst_loss_s"] <= MOST_LOST_S


@pytest.mark.timeout(600)
@pytest.mark.parametrize("overwrite", [False, True])
def test_killed_while_outputs_get_their_names_a_run_goes_on_to_the_same_files(overwrite) -> None:
    result = crash.run_names(STEP, overwrite=overwrite)
    assert result["differences"] == []
    assert result["kills"] > 4
