import contextlib
import functools
import importlib
import importlib.util
import os
import random
import shutil
import signal
import subprocess
import sys
import threading
import time
from collections.abc import Callable, Generator, Iterator
from pathlib import Path
from typing import Any

import cv2
import numpy as np
import pytest
import rtx
from brightness_backend import BRIGHTNESS
from hypothesis import settings
from typer.main import get_command

from roadseg.backends.machine import core_count
from roadseg.backends.runtimes import BACKENDS, CLASS_MAP, LOGITS, Backend, Runtime
from roadseg.cli import app, main
from roadseg.cli.train import TRAINING_ALLOCATOR
from roadseg.errors import BackendUnavailable
from roadseg.infer.config import InferConfig
from roadseg.segmentation.placement import laid
from roadseg.spec import IGNORE_INDEX, NUM_CLASSES
from roadseg.video.read.read_log import ReadLog
from roadseg.video.read.source import decode, probe
from roadseg.video.write.priority import kept_priority

torch = importlib.import_module("torch") if importlib.util.find_spec("torch") else None
ROOT = Path(__file__).parent.parent
SAMPLE = ROOT / "samples" / "drive.mp4"
WEIGHTS = ROOT / "weights" / "roads.onnx"
CHECKPOINT = ROOT / "weights" / "roads.safetensors"
CAMVID = ROOT.parent / "shared" / "data" / "CamVid"


settings.register_profile("roadseg", deadline=None)  # other jobs may run on the machine
settings.load_profile("roadseg")


@pytest.hookimpl(tryfirst=True)
def pytest_runtest_setup(item: pytest.Item) -> None:
    """Skip what needs a GPU or TensorRT-RTX where there is none, with the reason."""
    if item.get_closest_marker("gpu"):
        from roadseg.infer.device_cuda import refusal  # imports PyTorch, which need not be here

        if reason := refusal("cuda"):
            skip_or_fail(reason, "ROADSEG_REQUIRE_GPU")
    if item.get_closest_marker("tensorrt"):
        from roadseg.backends.tensorrt_engine import import_nvidia

        try:
            import_nvidia("torch_tensorrt")
        except BackendUnavailable as error:
            skip_or_fail(str(error), "ROADSEG_REQUIRE_TENSORRT")
    if item.get_closest_marker("rtx") and rtx.missing():
        skip_or_fail(
            f"no {', '.join(rtx.missing())}; CONTRIBUTING.md says how to get them",
            "ROADSEG_REQUIRE_RTX",
        )


def skip_or_fail(reason: str, variable: str) -> None:
    """Skip a test for want of something; fail it where a variable says that it must be there."""
    if os.environ.get(variable) == "1":
        pytest.fail(f"{reason}; {variable}=1 forbids skipping", pytrace=False)
    pytest.skip(reason)


def patience(seconds: float) -> float:
    """Seconds to wait for what takes that long at most on a machine with nothing else to do.

    A timeout is there to end a hang: on a busy machine it is longer by as much as the work is. The
    load may be that of many more cores than ours, so it counts up to a limit.
    """
    load = os.getloadavg()[0] if hasattr(os, "getloadavg") else 0.0
    return seconds * min(max(1.0, 2 * load / core_count()), 8.0)


def wait_until(holds: Callable[[], object], process: subprocess.Popen, seconds: float = 60) -> None:
    """Return as soon as something holds, which a process has to bring about that long at most."""
    deadline = time.monotonic() + patience(seconds)
    while not holds():
        assert process.poll() is None, process.communicate()
        assert time.monotonic() < deadline
        time.sleep(0.02)


def heeding_rights() -> tuple[str, ...]:
    """What comes before a command for which rights of files are to count, although it is root's."""
    if os.geteuid():
        return ()
    if shutil.which("setpriv") is None:
        pytest.skip("rights do not stop root, and setpriv is not there")
    return "setpriv", "--bounding-set=-dac_override,-dac_read_search"


@pytest.hookimpl(wrapper=True, tryfirst=True)  # so that pytest-timeout finds the marker
def pytest_runtest_protocol(item: pytest.Item) -> Generator[None, object, object]:
    """Give a test the time that it takes on a machine as busy as this one is now."""
    marker = item.get_closest_marker("timeout")
    seconds = marker.args[0] if marker else float(item.config.getini("timeout"))
    item.add_marker(pytest.mark.timeout(patience(seconds)), append=False)
    return (yield)


@pytest.fixture(scope="module")
def tab(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Any]:
    """A tab of Chromium, for all tests of a file."""
    from browser import CHROMIUM, browser  # which needs this module

    if CHROMIUM is None:
        pytest.skip("chromium is not installed")
    with browser(tmp_path_factory.mktemp("profile")) as page:
        yield page


@pytest.fixture
def heeds_signals() -> Iterator[None]:
    """Start processes that heed signals, even where this one was started to ignore them.

    Shells, `nohup` and supervisors start programs so, and processes pass it on.
    """
    usual = dict.fromkeys([signal.SIGTERM, signal.SIGHUP], signal.SIG_DFL)
    usual[signal.SIGINT] = signal.default_int_handler
    before = {number: signal.signal(number, handler) for number, handler in usual.items()}
    yield
    for number, handler in before.items():
        signal.signal(number, handler)


@contextlib.contextmanager
def ended(process: subprocess.Popen) -> Iterator[subprocess.Popen]:
    """Leave no process behind, however a test ends."""
    with process:
        try:
            yield process
        finally:
            process.kill()


@pytest.fixture(autouse=True)
def random_numbers_do_not_depend_on_other_tests() -> None:
    random.seed(0)
    np.random.seed(0)
    if torch is not None:
        torch.manual_seed(0)


@pytest.fixture(autouse=True)
def priority_does_not_depend_on_other_tests() -> Iterator[None]:
    """Undo what SVT-AV1 does to the thread of a test that makes a film with it, as root."""
    with kept_priority():
        yield


@pytest.fixture(autouse=True)
def no_thread_outlives_its_test() -> Iterator[None]:
    before = set(threading.enumerate())
    yield
    ours = [t for t in set(threading.enumerate()) - before if t.name.startswith("roadseg")]
    assert not ours, f"still alive: {ours}"


def script(name: str) -> Any:
    """Import a script of the benchmarks, which are in no package."""
    folder = ROOT / "benchmarks"
    spec = importlib.util.spec_from_file_location(name, folder / f"{name}.py")
    module = importlib.util.module_from_spec(spec)
    sys.path.append(str(folder))  # as Python does for the script that it runs
    try:
        spec.loader.exec_module(module)
    finally:
        sys.path.remove(str(folder))
    return module


def leaf_commands() -> dict[tuple[str, ...], Any]:
    """The commands by their names, those of groups with the group's before them."""
    found: dict[tuple[str, ...], Any] = {}

    def walk(command: Any, names: tuple[str, ...]) -> None:
        if hasattr(command, "commands"):
            for name, inner in command.commands.items():
                walk(inner, (*names, name))
        else:
            found[names] = command

    walk(get_command(app), ())
    return found


TERMINAL = ("COLUMNS", "FORCE_COLOR", "GITHUB_ACTIONS", "NO_COLOR", "PY_COLORS", "TERM")
"""Variables by which Rich and Typer choose the width and the codes of what they print."""


@pytest.fixture(autouse=True, scope="session")
def surroundings_make_no_difference(tmp_path_factory: pytest.TempPathFactory) -> Iterator[None]:
    """Have tests run what runs where nobody has tuned, and print what nobody has had coloured."""
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("XDG_CACHE_HOME", str(tmp_path_factory.mktemp("cache")))
        for name in TERMINAL:
            patch.delenv(name, raising=False)
        yield


@pytest.fixture
def in_process(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capfd: pytest.CaptureFixture[str]
) -> Callable[..., subprocess.CompletedProcess[str]]:
    """The command line in this process, for tests of what it says: a new one loads for seconds."""

    def roadseg(*args: object) -> subprocess.CompletedProcess[str]:
        monkeypatch.chdir(tmp_path)
        for name, value in TRAINING_ALLOCATOR.items():
            monkeypatch.setenv(name, value)  # or training starts the process again with them
        monkeypatch.setattr("sys.argv", ["roadseg", *map(str, args)])
        with pytest.raises(SystemExit) as end:
            main()
        return subprocess.CompletedProcess(args, int(end.value.code or 0), *capfd.readouterr())

    return roadseg


def sample_frames(network_hw: tuple[int, int], count: int) -> np.ndarray:
    """Frames of the sample, far apart, as a network takes them: (count, H, W, 3) RGB."""
    return _sample_frames(network_hw, count).copy()


@functools.cache
def _sample_frames(network_hw: tuple[int, int], count: int) -> np.ndarray:
    frames = list(decode(probe(SAMPLE), ReadLog()))
    apart = frames[:: len(frames) // count][:count]
    return np.concatenate([laid(frame, network_hw)[1] for frame in apart])


def both(backend: Backend, frames: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """Class maps and logits of frames, from one run of the network."""
    answer = backend.run(frames, (*CLASS_MAP, *LOGITS))
    return answer.class_map, answer.logits


def write_pair(root: Path, split: str, name: str, image: np.ndarray, target: np.ndarray) -> None:
    for folder, picture in (
        (split, cv2.cvtColor(image, cv2.COLOR_RGB2BGR)),
        (f"{split}annot", file_ids(target)),
    ):
        (root / folder).mkdir(parents=True, exist_ok=True)
        _, data = cv2.imencode(".png", picture)
        (root / folder / f"{name}.png").write_bytes(data.tobytes())


def scene(seed: int, height: int = 96, width: int = 128) -> tuple[np.ndarray, np.ndarray]:
    """A street of rectangles: sky, building, road, a car, an unlabelled corner."""
    rng = np.random.default_rng(seed)
    target = np.full((height, width), 3, np.uint8)
    horizon = int(rng.integers(height // 3, height // 2))
    target[:horizon] = 0
    target[horizon // 2 : horizon, : width // 2] = 1
    left = int(rng.integers(0, width // 2))
    target[horizon : horizon + height // 4, left : left + width // 4] = 8
    target[-6:, -6:] = IGNORE_INDEX
    colors = rng.integers(0, 256, (12, 3)) // 8 + np.linspace(0, 220, 12)[:, None].astype(int)
    noise = rng.integers(0, 12, (height, width, 3))
    return (colors[file_ids(target)] + noise).clip(0, 255).astype(np.uint8), target


def file_ids(target: np.ndarray) -> np.ndarray:
    """The ids that CamVid's label files have for a target."""
    return np.where(target == IGNORE_INDEX, NUM_CLASSES, target).astype(target.dtype)


@pytest.fixture(scope="session")
def streets(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A tiny data set in the SegNet layout."""
    root = tmp_path_factory.mktemp("streets")
    for split, seeds in (("train", range(6)), ("val", range(6, 8))):
        for seed in seeds:
            write_pair(root, split, f"{seed:03d}", *scene(seed))
    return root


@pytest.fixture
def plain(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> InferConfig:
    """Settings to label a film without a network and with nothing drawn on it."""
    monkeypatch.setitem(BACKENDS, "brightness", Runtime((".json",), "brightness_backend", ""))
    weights = tmp_path / "model" / "brightness.json"
    weights.parent.mkdir()
    weights.write_text(BRIGHTNESS.to_json())
    return InferConfig(
        source=tmp_path / "film.mp4",
        out=tmp_path / "out.mp4",
        weights=weights,
        steady=0,
        alpha=0,
        outline=False,
        legend="none",
    )
