"""ONNX Runtime, which reports nothing to anybody.

Imported by itself, version 1.29 and newer give the machine an identifier in the user's cache folder
and send Microsoft the names and checksums of models, and how long they ran.
"""

import os

os.environ["ORT_DISABLE_TELEMETRY"] = "1"  # read when it is imported

import onnxruntime as ort

ort.disable_telemetry_events()  # on Windows, and where it had been imported before

__all__ = ["ort"]
