"""The plain loop that a user would write without roadseg: a script outside the package."""

import importlib.util
from types import ModuleType

from roadseg.files import shipped


def plain_loop() -> ModuleType:
    """Import the plain loop."""
    importlib.import_module("roadseg.backends.onnxruntime_silent")  # before the loop imports it
    spec = importlib.util.spec_from_file_location("loop", shipped("benchmarks", "loop.py"))
    assert spec is not None and spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module
