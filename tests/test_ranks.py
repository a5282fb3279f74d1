"""Training in several processes."""

import errno
import os
import signal
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest

pytest.importorskip("torch")

import torch
from conftest import ended, patience

from roadseg.errors import ConfigError
from roadseg.settings import read_settings
from roadseg.train.config import TrainConfig
from roadseg.train.launch import launch
from roadseg.train.loader import Mixture, Sampling, batches
from roadseg.train.loop import train
from roadseg.train.ranks import Ranks, joined_ranks
from roadseg.train.run import load_state

RECIPE = """
data = ["{0}", "{0}=0.5"]
arch = "unet"
width = 4
epochs = 2
batch_size = 4
crop_hw = [64, 64]
size_hw = [32, 64]
eval_every = 1
pictures = 1
checkpoint_every_s = 0.0
amp = true
"""
DYING = """
import itertools, os, signal
from roadseg.cli import main

if (os.environ.get("RANK"), os.environ.get("TORCHELASTIC_RESTART_COUNT")) == ("1", "0"):
    from roadseg.train.ranks import PartSum

    write_to, steps = PartSum.write_to, itertools.count(1)

    def write_or_die(self, tensors):
        if next(steps) == 5:
            os.kill(os.getpid(), signal.SIGKILL)
        write_to(self, tensors)

    PartSum.write_to = write_or_die
main()
"""
"""A `roadseg` whose second rank is killed in its fifth step, when it is started first.

It has the first rank's part of that step by then, which is computed after the fourth is saved, and
without its own part no rank ends the step: the run goes on with the fifth, however slow a rank is.
"""


@pytest.fixture
def one_thread():
    """As many threads as each rank has, since the order of sums depends on it."""
    before = torch.get_num_threads()
    torch.set_num_threads(1)
    yield
    torch.set_num_threads(before)


@pytest.fixture
def recipe(streets, tmp_path) -> Path:
    path = tmp_path / "recipe.toml"
    path.write_text(RECIPE.format(streets))
    return path


def trained_alone(recipe: Path, out: Path, accumulate: int) -> None:
    values = {**read_settings(recipe), "accumulate": accumulate, "out": str(out)}
    train(TrainConfig.from_dict(values))


def assert_same_run(out: Path, other: Path) -> None:
    for name in ("best.safetensors", "metrics.jsonl"):
        assert (out / name).read_bytes() == (other / name).read_bytes(), name
    assert leaves(load_state(out / "last.pt")) == leaves(load_state(other / "last.pt"))


def leaves(value: Any, path: str = "") -> dict[str, Any]:
    """The values in nested containers by their paths, with the bytes of tensors."""
    if isinstance(value, torch.Tensor):
        return {path: value.numpy().tobytes()}
    if isinstance(value, list | tuple):
        value = dict(enumerate(value))
    if not isinstance(value, dict):
        return {path: value}
    return {p: v for key, part in value.items() for p, v in leaves(part, f"{path}/{key}").items()}


def run_dying(*command: str | Path, cwd: Path) -> subprocess.CompletedProcess[str]:
    (cwd / "dying.py").write_text(DYING)
    return subprocess.run(
        [sys.executable, *command],
        cwd=cwd,
        env={**os.environ, "OMP_NUM_THREADS": "1"},
        capture_output=True,
        text=True,
        timeout=patience(100),
    )


@pytest.mark.usefixtures("one_thread")
def test_killed_rank_ends_the_run_and_one_process_finishes_it_bit_for_bit(recipe, tmp_path) -> None:
    arguments = ("train", "--config", recipe, "--out", "run", "--devices", "2")
    done = run_dying("dying.py", *arguments, cwd=tmp_path)
    assert done.returncode == 1, done.stderr
    assert "process 1 of 2 was ended by SIGKILL" in done.stderr
    assert "Traceback" not in done.stderr and not done.stdout
    with pytest.raises(ConfigError, match="accumulate 2, now 1"):
        trained_alone(recipe, tmp_path / "run", accumulate=1)
    trained_alone(recipe, tmp_path / "run", accumulate=2)
    trained_alone(recipe, tmp_path / "whole", accumulate=2)
    assert_same_run(tmp_path / "run", tmp_path / "whole")


@pytest.mark.usefixtures("one_thread")
def test_torchrun_restarts_ranks_that_then_end_as_one_process_does(recipe, tmp_path) -> None:
    torchrun = ("-m", "torch.distributed.run", "--standalone", "--nproc-per-node=2")
    arguments = ("train", "--config", recipe, "--out", "run", "--accumulate", "4")
    done = run_dying(*torchrun, "--max-restarts=1", "dying.py", *arguments, cwd=tmp_path)
    assert done.returncode == 0, done.stderr
    assert done.stderr.count("epoch   2") == 1 and done.stdout.count("best mIoU") == 1
    assert "going on with step 5 of 6" in done.stderr
    trained_alone(recipe, tmp_path / "whole", accumulate=4)
    assert_same_run(tmp_path / "run", tmp_path / "whole")


LAUNCHING = """
import os, signal, sys, time
from roadseg.cli.signals import ending_on_signals
from roadseg.errors import PeerLost
from roadseg.train import launch

launch.PATIENCE_S = {patience_s}

def say(text):
    os.write(1, (text + os.linesep).encode())  # at once: print() may write the end of a line apart

def wait():
    while True:  # a signal just before signal.pause() would not end it
        time.sleep(0.1)

with ending_on_signals():
    if not launch.is_rank():
        try:
            sys.exit(launch.launch(2))
        except PeerLost as error:
            sys.exit(str(error))
    launch.end_with_launcher()
    {body}
"""


def launched(body: str, patience_s: float) -> subprocess.Popen[str]:
    """Two ranks that do this, and what started them."""
    return subprocess.Popen(
        [sys.executable, "-c", LAUNCHING.format(body=body, patience_s=patience_s)],
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
    )


@pytest.mark.parametrize(
    ("end", "code", "words"),
    [
        ("sys.exit(3)", 3, ""),
        ("os.kill(os.getpid(), signal.SIGKILL)", 1, "process 1 of 2 was ended by SIGKILL"),
    ],
)
def test_rank_that_never_answers_ends_when_another_has_failed(end, code, words) -> None:
    deaf = "signal.pthread_sigmask(signal.SIG_BLOCK, [2, 15]), wait()"
    with ended(launched(f"({end}) if launch.own_rank() else ({deaf})", 0.2)) as process:
        _, errors = process.communicate(timeout=patience(60))
    assert process.returncode == code and words in errors and "Traceback" not in errors


@pytest.mark.usefixtures("heeds_signals")
@pytest.mark.parametrize(("sent", "code"), [(signal.SIGINT, 130), (signal.SIGTERM, 143)])
def test_signal_reaches_each_rank_once(sent, code) -> None:
    body = "try: say('ready'), wait()\n    finally: say('left')"
    with ended(launched(body, patience(60))) as process:
        assert [process.stdout.readline() for _ in range(2)] == ["ready\n"] * 2
        process.send_signal(sent)
        output, errors = process.communicate(timeout=patience(60))
    assert output.split() == ["left", "left"], errors
    assert process.returncode in (code, -sent)


@pytest.mark.parametrize("error", [OSError(errno.EAGAIN, "no room"), KeyboardInterrupt()])
def test_ranks_that_were_begun_end_where_another_cannot_be(monkeypatch, error) -> None:
    begun: list[subprocess.Popen[bytes]] = []

    class OneProcess(subprocess.Popen):
        """A process, as on a system that starts one and no other."""

        def __init__(self, _command: list[str], **settings: Any) -> None:
            if begun:
                raise error
            super().__init__([sys.executable, "-c", "import time; time.sleep(600)"], **settings)
            begun.append(self)

    monkeypatch.setattr(subprocess, "Popen", OneProcess)
    words = r"process 1 of 2 cannot be started \(no room\).*--devices"
    with pytest.raises((ConfigError, KeyboardInterrupt), match=words if error.args else None):
        launch(2)
    assert begun[0].returncode == -signal.SIGTERM


def test_system_that_tells_of_no_ended_process_starts_none(monkeypatch) -> None:
    monkeypatch.delattr(os, "waitid")
    monkeypatch.setattr(subprocess, "Popen", None)
    with pytest.raises(ConfigError, match="torchrun --nproc-per-node 2 -m roadseg train and"):
        launch(2)


def test_ranks_end_with_what_started_them() -> None:
    with ended(launched("say('ready'), wait()", 0.2)) as process:
        assert [process.stdout.readline() for _ in range(2)] == ["ready\n"] * 2
        process.kill()
        # The ranks hold the other end of the pipe for as long as they live.
        process.communicate(timeout=patience(60))


def test_process_that_is_not_told_where_the_others_are_says_so(monkeypatch) -> None:
    monkeypatch.delenv("MASTER_ADDR", raising=False)
    monkeypatch.setenv("RANK", "0")
    monkeypatch.setenv("WORLD_SIZE", "2")
    with pytest.raises(ConfigError, match=r"MASTER_ADDR .* or unset WORLD_SIZE"), joined_ranks():
        pass


def test_each_rank_makes_its_parts_of_the_batch(streets) -> None:
    from roadseg.data.folder import FolderDataset
    from roadseg.train.config import AugmentConfig

    mixture = Mixture.of([FolderDataset.open(streets, "train")], [None], 6)
    sampling = Sampling(crop_hw=(32, 32), augmentation=AugmentConfig(), rare=(8,), seed=0)

    def frames_of(ranks: Ranks, parts: int) -> torch.Tensor:
        made = batches(
            mixture, sampling, epochs=1, first_step=0, workers=0, parts=parts, ranks=ranks
        )
        return next(iter(made))[0]

    whole = frames_of(Ranks(), 1)
    first, second = (frames_of(Ranks(rank=rank, count=2), 6) for rank in range(2))
    torch.testing.assert_close(first, whole[::2])
    torch.testing.assert_close(second, whole[1::2])


@pytest.mark.parametrize(
    ("changes", "processes", "words"),
    [
        ({"batch_size": 8}, 3, "3 processes cannot share a batch of 8"),
        ({"batch_size": 12, "accumulate": 3}, 2, "multiples of 2 parts"),
    ],
)
def test_batch_that_cannot_be_shared_is_refused(changes, processes, words) -> None:
    config = TrainConfig(data=("d",), out=Path("o"), **changes)
    with pytest.raises(ConfigError, match=words):
        config.shared_by(processes)
