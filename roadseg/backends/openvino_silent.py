"""OpenVINO, which reports nothing to anybody.

Imported by itself, it sends its version to Google, from a process forked beside running threads.
Where no network answers, that process may never end, nor then does ours.
"""

import sys

TELEMETRY = "openvino_telemetry"

loaded = sys.modules.get(TELEMETRY)
sys.modules[TELEMETRY] = None  # type: ignore[assignment]  # to OpenVINO, it is not installed
try:
    import openvino as ov
finally:
    del sys.modules[TELEMETRY]
    if loaded is not None:
        sys.modules[TELEMETRY] = loaded

__all__ = ["ov"]
