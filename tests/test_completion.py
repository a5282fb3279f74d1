"""What bash offers while a command line is typed."""

import os
import shutil
import subprocess
import sys
from pathlib import Path

import pytest
from conftest import patience

ROADSEG = Path(sys.executable).with_name("roadseg")
COMPLETE = """
source <("$0" --show-completion)
COMP_WORDS=("$@") COMP_CWORD=$(($# - 1))
_roadseg_completion "$0"
printf '%s\\n' "${COMPREPLY[@]}"
"""

pytestmark = pytest.mark.skipif(shutil.which("bash") is None, reason="bash is not installed")


@pytest.mark.parametrize(
    ("line", "offered"),
    [
        ("roadseg inf", ["infer"]),
        ("roadseg batch ", ["report", "run", "status"]),
        ("roadseg infer --mask", ["--mask-format", "--masks"]),
        ("roadseg infer --palette co", ["colorblind"]),
        ("roadseg infer --mask-format ", ["grey", "palette"]),
        ("roadseg infer --codec hev", ["hevc"]),
        ("roadseg live 0 --legend top", ["top-left", "top-right"]),
        ("roadseg redact --cover b", ["black", "blur"]),
        ("roadseg evaluate --weights u", ["unet", "unet-lite"]),
        ("roadseg bench --backend on", ["onnxruntime", "onnxruntime-rtx"]),
        ("roadseg compile u", ["unet", "unet-lite"]),
        ("roadseg compile --backend t", ["tensorrt"]),
        ("roadseg train --arch d", ["deeplabv3plus"]),
        ("roadseg masks convert drive --to co", ["coco-rle"]),
        ("roadseg infer --palette mine.c", [""]),  # bash offers files
        ("roadseg infer dri", [""]),
    ],
)
def test_commands_options_and_names_are_offered_and_else_files(line, offered) -> None:
    done = subprocess.run(
        ["bash", "-c", COMPLETE, str(ROADSEG), *line.split(" ")],
        env={**os.environ, "COLUMNS": "100", "TERM": "dumb"},
        capture_output=True,
        text=True,
        timeout=patience(60),
    )
    assert done.stderr == ""
    assert sorted(done.stdout.removesuffix("\n").split("\n")) == offered
