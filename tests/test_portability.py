"""What every system has is enough: nothing of Unix or of one Python is needed at the start."""

import os
import subprocess
import sys

import pytest
from conftest import SAMPLE, patience, scene, write_pair

from roadseg.spec import CLASS_NAMES

WITHOUT_UNIX = """
import builtins, os, signal, sys, types

MODULES = {"fcntl", "grp", "posix", "pty", "pwd", "resource", "syslog", "termios", "tty"}
CALLS = {
    "chown", "fchmod", "fchown", "fork", "getloadavg", "getpgid", "getuid", "killpg", "mkfifo",
    "nice", "openpty", "pread", "pwrite", "sched_getaffinity", "sched_setaffinity", "setsid",
    "statvfs", "sysconf", "uname", "alarm", "pthread_kill", "pthread_sigmask", "setitimer",
    "siginterrupt", "sigwait",
}
SIGNALS_ANYWHERE = {"SIGABRT", "SIGFPE", "SIGILL", "SIGINT", "SIGSEGV", "SIGTERM"}
SIGNALS = {name for name in vars(signal) if name.startswith("SIG") and name[3] != "_"}

def bare(module):
    gone = CALLS | (SIGNALS - SIGNALS_ANYWHERE)
    left = types.ModuleType(module.__name__)
    vars(left).update({name: value for name, value in vars(module).items() if name not in gone})
    return left

usual_import, bared = builtins.__import__, {"os": bare(os), "signal": bare(signal)}

def import_as_elsewhere(name, globals=None, *rest, **named):
    # Ours alone: other packages look at sys.platform and then take what they know to be there.
    if globals and str(globals.get("__name__")).startswith("roadseg"):
        if name in MODULES:
            raise ModuleNotFoundError(f"No module named {name!r}")
        if name in bared:
            return bared[name]
    return usual_import(name, globals, *rest, **named)

def refuse_files_of_the_kernel(event, args):
    if event == "open" and str(args[0]).startswith(("/proc/", "/sys/")):
        raise FileNotFoundError(args[0])

builtins.__import__ = import_as_elsewhere
sys.addaudithook(refuse_files_of_the_kernel)
"""
IMPORT_ALL = """
import pkgutil, warnings
import roadseg

warnings.filterwarnings("error", category=DeprecationWarning, module="roadseg")
warnings.filterwarnings("error", category=SyntaxWarning, module="roadseg")
EXTRAS = {
    "efficientnet_lite_pytorch", "nncf", "onnx", "onnxruntime_ep_nv_tensorrt_rtx", "openvino",
    "safetensors", "tensorrt", "torch", "torch_tensorrt",
}
for module in pkgutil.walk_packages(roadseg.__path__, "roadseg."):
    if module.name == "roadseg.__main__":  # that would be a run
        continue
    try:
        __import__(module.name)
    except ModuleNotFoundError as error:
        if error.name not in EXTRAS:
            raise
"""


def python(code: str, *args: object) -> subprocess.CompletedProcess[str]:
    return subprocess.run(
        [sys.executable, "-c", code, *map(str, args)],
        capture_output=True,
        text=True,
        timeout=patience(60),
    )


def test_a_film_is_labelled_without_anything_of_unix(tmp_path) -> None:
    out = tmp_path / "out.mp4"
    beside = ("--stats", tmp_path / "stats.csv", "--report", tmp_path / "report.html")
    code = WITHOUT_UNIX + "from roadseg.cli import main; main()"
    done = python(code, "infer", SAMPLE, "--out", out, "--end", 0.2, "--size", "96x64", *beside)
    assert done.returncode == 0, done.stderr
    assert out.stat().st_size > 0


@pytest.mark.parametrize("system", [WITHOUT_UNIX, ""], ids=["elsewhere", "here"])
def test_every_module_imports_without_a_warning_of_what_will_go(system) -> None:
    done = python(system + IMPORT_ALL)
    assert done.returncode == 0, done.stderr


def test_a_machine_that_tells_little_is_recorded_all_the_same() -> None:
    code = "from roadseg.measure.machine_record import machine_record as record; r = record()"
    done = python(f"{WITHOUT_UNIX}{code}; assert r['memory_bytes'] is None and r['cores'] > 0")
    assert done.returncode == 0, done.stderr


def run_in_ascii(*command: str) -> None:
    """Run roadseg, or a line of Python, where the system's own encoding has no umlaut."""
    locale = {"LC_ALL": "C", "PYTHONCOERCECLOCALE": "0", "PYTHONUTF8": "0"}
    environment = {**os.environ, **locale, "PYTHONIOENCODING": "utf-8"}
    words = [sys.executable, *command]
    subprocess.run(words, env=environment, check=True, timeout=patience(60))


def test_pages_and_names_are_utf_8_whatever_the_system_writes_in(tmp_path) -> None:
    for seed, split in enumerate(("train", "val")):
        write_pair(tmp_path, split, "a", *scene(seed, 48, 64))
    names = ("Straße" if name == "road" else name for name in CLASS_NAMES)
    classes = "".join(f"{name},{number}\n" for number, name in enumerate(names))
    (tmp_path / "classes.csv").write_text(f"name,id\n{classes}", encoding="utf-8")
    page, yolo = tmp_path / "page.html", tmp_path / "yolo"
    run_in_ascii("-m", "roadseg", "data", "check", str(tmp_path), "--report", str(page), "--quiet")
    named = ("--classes", str(tmp_path / "classes.csv"), "--out", str(yolo), "--quiet")
    masks = str(tmp_path / "trainannot")
    run_in_ascii("-m", "roadseg", "masks", "convert", masks, "--to", "yolo-polygons", *named)
    for path in (page, yolo / "data.yaml"):
        assert "Straße" in path.read_text(encoding="utf-8")


def test_page_of_a_training_run_is_utf_8_whatever_the_system_writes_in(tmp_path) -> None:
    pytest.importorskip("torch")
    path = tmp_path / "curves.html"
    call = f"write_run_file(Path({str(path)!r}), chr(0xDF))"
    imports = "from pathlib import Path; from roadseg.train.run import write_run_file"
    run_in_ascii("-c", f"{imports}; {call}")
    assert path.read_text(encoding="utf-8") == "ß"
