"""The plain loop that a user would write otherwise: a script, which is in no package."""

import importlib.util
from pathlib import Path
from types import ModuleType


def loop_path() -> Path:
    """Return where the plain loop is: installed as package data, or in a checkout's benchmarks/."""
    package = Path(__file__).parent.parent
    installed = package / "benchmarks" / "loop.py"
    return installed if installed.is_file() else package.parent / "benchmarks" / "loop.py"


def plain_loop() -> ModuleType:
    """Import the plain loop."""
    spec = importlib.util.spec_from_file_location("loop", loop_path())
    assert spec is not None and spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module
