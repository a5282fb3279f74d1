"""Outputs get their names together, whenever a run is killed and whatever its user does then."""

import shutil
from dataclasses import replace
from pathlib import Path

import pytest
from films import Film

from roadseg.errors import OutputError, RoadsegError
from roadseg.infer.config import InferConfig
from roadseg.infer.offline import infer

OLD = b"old"
PRECIOUS = b"precious"


@pytest.fixture
def config(plain, tmp_path) -> InferConfig:
    """A run with three kinds of outputs, into a folder that holds nothing else."""
    folder = tmp_path / "out"
    folder.mkdir()
    Film(times=tuple(range(15))).write(plain.source)
    beside = {"masks": folder / "masks", "stats": folder / "stats.csv"}
    return replace(plain, out=folder / "out.mp4", preset="ultrafast", **beside)


def contents(folder: Path) -> dict[str, bytes]:
    """What all files hold, but for locks, which hold nothing without a process."""
    files = (path for path in folder.rglob("*") if path.is_file() and path.suffix != ".lock")
    return {path.relative_to(folder).as_posix(): path.read_bytes() for path in files}


def outputs_of(config: InferConfig) -> dict[str, bytes]:
    """What lies in the folder of the outputs; a film is not the same twice, to the bit."""
    found = contents(config.out.parent)
    return {name: b"" if name == config.out.name else data for name, data in found.items()}


def killed_at(name: str, config: InferConfig, monkeypatch) -> None:
    """Leave the folder as it is just before a file is renamed to, or made, this."""
    shot = config.out.parent.with_name("shot")
    rename = Path.rename

    def photograph(path: Path, target: Path) -> Path:
        if target.name == name and not shot.exists():
            shutil.copytree(config.out.parent, shot)
        return rename(path, target)

    with monkeypatch.context() as patched:
        patched.setattr(Path, "rename", photograph)
        infer(config)
    shutil.rmtree(config.out.parent)
    shot.rename(config.out.parent)


def whole(config: InferConfig) -> dict[str, bytes]:
    folder = config.out.parent
    infer(config)
    found = outputs_of(config)
    shutil.rmtree(folder)
    folder.mkdir()
    return found


MOMENTS = ["stats.csv", "000000.png", "000007.png", "out.mp4"]


@pytest.mark.parametrize("moment", MOMENTS)
def test_run_killed_while_names_are_given_goes_on_to_the_same(config, moment, monkeypatch) -> None:
    expected = whole(config)
    killed_at(moment, config, monkeypatch)
    before = contents(config.out.parent)
    if moment != MOMENTS[0]:  # some have their names
        with pytest.raises(OutputError, match=r"killed before all .* --overwrite .* --resume"):
            infer(config)
        assert contents(config.out.parent) == before
    assert infer(replace(config, resume=True)).kept_frames == 10
    assert outputs_of(config) == expected


@pytest.mark.parametrize("moment", [*MOMENTS, "roadseg-old.stats.csv", "roadseg-old.out.mp4"])
def test_old_files_come_back_until_all_new_ones_have_their_names(
    config, moment, monkeypatch
) -> None:
    expected = whole(config)
    old = {"stats.csv": OLD, "masks/000003.png": OLD, "masks/000099.png": OLD, "out.mp4": OLD}
    config.masks.mkdir()
    for name, data in old.items():
        (config.out.parent / name).write_bytes(data)
    killed_at(moment, replace(config, overwrite=True), monkeypatch)
    with pytest.raises(RoadsegError, match="exists"):
        infer(replace(config, resume=True))
    found = contents(config.out.parent)
    assert old.items() <= found.items()
    assert infer(replace(config, resume=True, overwrite=True)).kept_frames == 10
    assert outputs_of(config) == expected


@pytest.mark.parametrize("name", ["stats.csv", "masks/000003.png"])
@pytest.mark.parametrize("overwrite", [False, True])
def test_what_the_user_put_there_since_is_not_taken_for_ours(
    config, name, overwrite, monkeypatch
) -> None:
    killed_at("out.mp4", config, monkeypatch)
    theirs = config.out.parent / name
    state = theirs.stat()
    theirs.write_bytes(PRECIOUS.ljust(state.st_size))  # of the same size, and the same file
    with pytest.raises(RoadsegError, match="killed before all of its outputs had theirs"):
        infer(config)
    with pytest.raises(RoadsegError, match=r"exists|holds files|left no|lacks"):
        infer(replace(config, resume=True, overwrite=overwrite))
    assert theirs.read_bytes().startswith(PRECIOUS)
    assert infer(replace(config, overwrite=True)).frames == 15


def test_outputs_that_the_user_moved_away_are_not_missed_in_silence(config, monkeypatch) -> None:
    killed_at("out.mp4", config, monkeypatch)
    (config.masks / "000003.png").rename(config.out.parent / "mine.png")
    with pytest.raises(RoadsegError, match="left no class map"):
        infer(replace(config, resume=True))
    assert infer(replace(config, overwrite=True)).frames == 15


def test_run_killed_as_it_tidied_up_was_complete(config, monkeypatch) -> None:
    expected = whole(config)
    unlink, shot = Path.unlink, config.out.parent.with_name("shot")

    def photograph(path: Path, missing_ok: bool = False) -> None:
        if path.name == "roadseg-part.out.mp4.json" and config.out.exists():
            shutil.copytree(config.out.parent, shot)
        unlink(path, missing_ok=missing_ok)

    with monkeypatch.context() as patched:
        patched.setattr(Path, "unlink", photograph)
        infer(config)
    for resume, said in ((True, r"out\.mp4 is complete"), (False, "exists")):
        shutil.rmtree(config.out.parent)
        shutil.copytree(shot, config.out.parent)
        for _ in range(2):
            with pytest.raises(RoadsegError, match=said):
                infer(replace(config, resume=resume))
            assert outputs_of(config) == expected
            said = "exists"
