"""Signals end the command line, also where a call into a library does not return."""

import signal
import subprocess
import sys
from pathlib import Path

import av
import onnx
import pytest
from conftest import SAMPLE, ended, patience, wait_until
from onnx import TensorProto, helper

from roadseg.spec import ModelSpec

pytestmark = pytest.mark.usefixtures("heeds_signals")


def write_endless_model(path: Path) -> Path:
    """A model of ours whose loop never ends."""
    value = helper.make_tensor_value_info
    body = helper.make_graph(
        [
            helper.make_node("Identity", ["on"], ["still_on"]),
            helper.make_node("Identity", ["before"], ["after"]),
        ],
        "body",
        [
            value("round", TensorProto.INT64, []),
            value("on", TensorProto.BOOL, []),
            value("before", TensorProto.UINT8, None),
        ],
        [value("still_on", TensorProto.BOOL, []), value("after", TensorProto.UINT8, None)],
    )
    one = helper.make_tensor("value", TensorProto.INT64, [1], [1])
    true = helper.make_tensor("value", TensorProto.BOOL, [], [True])
    nodes = [
        helper.make_node("Constant", [], ["true"], value=true),
        helper.make_node("Loop", ["", "true", "frames"], ["same"], body=body),
        helper.make_node("ReduceMax", ["same"], ["class_map"], axes=[3], keepdims=0),
        helper.make_node("Cast", ["class_map"], ["levels"], to=TensorProto.FLOAT),
        helper.make_node("Constant", [], ["axis"], value=one),
        helper.make_node("Unsqueeze", ["levels", "axis"], ["plane"]),
        helper.make_node("Concat", ["plane"] * 11, ["logits"], axis=1),
    ]
    graph = helper.make_graph(
        nodes,
        "endless",
        [value("frames", TensorProto.UINT8, [1, "height", "width", 3])],
        [
            value("class_map", TensorProto.UINT8, [1, "height", "width"]),
            value("logits", TensorProto.FLOAT, [1, 11, "height", "width"]),
        ],
    )
    model = helper.make_model(graph, opset_imports=[helper.make_opsetid("", 17)], ir_version=8)
    helper.set_model_props(model, {"roadseg": ModelSpec(arch="unet", width=1).to_json()})
    onnx.save(model, path)
    return path


@pytest.fixture
def hanging(tmp_path):
    """A run whose network does not come back from the first frame."""
    weights = write_endless_model(tmp_path / "endless.onnx")
    command = ["infer", str(SAMPLE), "--out", "o.mp4", "--weights", str(weights), "--steady", "0"]
    code = (
        "import roadseg.backends.onnxruntime as ours\n"
        "run = ours.OnnxRuntimeBackend.run\n"
        "def tell(self, *args):\n"
        "    print('called', flush=True)\n"
        "    return run(self, *args)\n"
        "ours.OnnxRuntimeBackend.run = tell\n"
        "from roadseg.cli import main\n"
        "main()\n"
    )
    process = subprocess.Popen(
        [sys.executable, "-c", code, *command, "--size", "64x32"],
        cwd=tmp_path,
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
    )
    yield process
    process.kill()
    process.communicate()


@pytest.mark.parametrize(
    ("first", "second", "code"),
    [(signal.SIGINT, signal.SIGINT, 130), (signal.SIGTERM, signal.SIGTERM, 143)],
)
def test_second_signal_ends_a_process_that_hangs(hanging, first, second, code) -> None:
    assert hanging.stdout.readline() == "called\n"
    hanging.send_signal(first)
    assert "stopping takes longer than usual; a second signal" in hanging.stderr.readline()
    hanging.send_signal(second)
    assert hanging.wait(patience(60)) == code


def run_main(body: str) -> subprocess.Popen[str]:
    """A process whose block, which signals end, is this code."""
    code = (
        f"import os, signal, sys, time\nfrom roadseg.cli.signals import ending_on_signals\n{body}\n"
    )
    return subprocess.Popen(
        [sys.executable, "-c", code], stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True
    )


@pytest.mark.parametrize("name", ["SIGINT", "SIGTERM", "SIGHUP"])
def test_signal_leaves_in_good_order_and_a_second_does_not_break_into_that(name) -> None:
    process = run_main(
        "try:\n"
        "    with ending_on_signals():\n"
        "        try:\n"
        f"            os.kill(os.getpid(), signal.{name})\n"
        "            time.sleep(60)\n"
        "        finally:\n"
        f"            os.kill(os.getpid(), signal.{name})\n"
        "            print('in good order', flush=True)\n"
        "except KeyboardInterrupt:\n"
        "    sys.exit(130)\n"
    )
    output, errors = process.communicate(timeout=patience(60))
    assert (output, errors) == ("in good order\n", "")
    assert process.returncode == 128 + getattr(signal, name)


def test_second_signal_ends_a_process_that_has_nobody_to_tell_what_takes_so_long() -> None:
    process = run_main(
        "import roadseg.cli.signals as signals\n"
        "signals.PATIENCE_S, signals.GRACE_S = 0.1, 0.1\n"
        "reader, writer = os.pipe()\n"
        "os.close(reader)\n"
        "os.dup2(writer, 2)\n"
        "with ending_on_signals():\n"
        "    try:\n"
        "        os.kill(os.getpid(), signal.SIGTERM)\n"
        "        time.sleep(60)\n"
        "    finally:\n"
        "        time.sleep(0.5)\n"
        "        os.kill(os.getpid(), signal.SIGTERM)\n"
        "        time.sleep(5)\n"
        "        print('only now', flush=True)\n"
    )
    assert process.communicate(timeout=patience(60))[0] == ""
    assert process.returncode == 143


def test_what_the_parent_ignores_stays_ignored() -> None:
    process = run_main(
        "signal.signal(signal.SIGHUP, signal.SIG_IGN)\n"
        "with ending_on_signals():\n"
        "    os.kill(os.getpid(), signal.SIGHUP)\n"
        "    print('still here', flush=True)\n"
    )
    assert process.communicate(timeout=patience(60))[0] == "still here\n"
    assert process.returncode == 0


def test_killed_recording_plays_and_is_not_recorded_over(tmp_path) -> None:
    command = [sys.executable, "-m", "roadseg", "live", str(SAMPLE), "--no-serve", "--out"]
    command += ["street.mp4", "--size", "64x32", "--as-camera", "--loop", "--steady", "0"]
    part = tmp_path / "roadseg-part.street.mp4"
    with ended(subprocess.Popen(command, cwd=tmp_path, stderr=subprocess.DEVNULL)) as process:
        wait_until(lambda: part.exists() and part.stat().st_size > 200_000, process)  # a second
    with av.open(part) as film:
        assert len(list(film.decode(video=0))) > 5
    again = subprocess.run(
        command, cwd=tmp_path, stderr=subprocess.PIPE, text=True, timeout=patience(60)
    )
    assert again.returncode == 1 and "a recording that was cut off" in again.stderr
    assert not (tmp_path / "street.mp4").exists() and part.exists()
