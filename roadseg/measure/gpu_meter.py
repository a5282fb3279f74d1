"""What a GPU's driver reports while something runs: load, power, energy, clocks, memory.

NVML tells it, through the package nvidia-ml-py, which need not be installed. Samples are taken
between frames or calls, on the thread that measures. A value that is not reported is None.
"""

import contextlib
import time
from collections import Counter
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from importlib import import_module
from typing import Any, cast

import numpy as np

from roadseg.measure.record import GpuSeen

SAMPLE_S = 0.1
"""Seconds between samples, at least; the driver renews its own several times a second."""
THROTTLED_BY = {
    0x4: "power limit",
    0x8: "slowdown by the hardware",
    0x20: "temperature limit",
    0x40: "thermal slowdown by the hardware",
    0x80: "power brake",
}
"""Reasons for which clocks are low, by NVML's bit; that the GPU is idle is none of them."""


class GpuMeter:
    """Samples one GPU.

    Args:
        nvml: The module `pynvml`, initialised.
        handle: The GPU, as it calls it.
    """

    def __init__(self, nvml: Any, handle: Any) -> None:
        self._nvml = nvml
        self._handle = handle
        self.restart()

    def restart(self) -> None:
        """Forget all samples, as what came before was warm-up."""
        self._samples: dict[str, list[float]] = {}
        self._throttled: Counter[str] = Counter()
        self._count = 0
        self._next_s = 0.0
        self._energy_mj = self._read("nvmlDeviceGetTotalEnergyConsumption")

    def sample(self) -> None:
        """Take a sample, unless the last one was just now."""
        if (now_s := time.monotonic()) < self._next_s:
            return
        self._next_s = now_s + SAMPLE_S
        self._count += 1
        for name, value in self._values():
            if value is not None:
                self._samples.setdefault(name, []).append(float(value))
        reasons = self._read("nvmlDeviceGetCurrentClocksThrottleReasons") or 0
        self._throttled.update(name for bit, name in THROTTLED_BY.items() if reasons & bit)

    def _values(self) -> Iterator[tuple[str, float | None]]:
        nvml, read = self._nvml, self._read
        utilisation, memory = read("nvmlDeviceGetUtilizationRates"), read("nvmlDeviceGetMemoryInfo")
        milliwatts = read("nvmlDeviceGetPowerUsage")
        yield "utilisation", None if utilisation is None else utilisation.gpu / 100
        yield "watts", None if milliwatts is None else milliwatts / 1000
        yield "sm_mhz", read("nvmlDeviceGetClockInfo", nvml.NVML_CLOCK_SM)
        yield "memory_mhz", read("nvmlDeviceGetClockInfo", nvml.NVML_CLOCK_MEM)
        yield "memory_bytes", None if memory is None else memory.used
        yield "celsius", read("nvmlDeviceGetTemperature", nvml.NVML_TEMPERATURE_GPU)

    def _read(self, function: str, *arguments: Any) -> Any:
        """Return what the driver reports; None where it does not."""
        with contextlib.suppress(self._nvml.NVMLError):
            return getattr(self._nvml, function)(self._handle, *arguments)
        return None

    def result(self) -> GpuSeen:
        """Return what was seen since the start: means, most memory, and joules by the counter."""
        self.sample()
        energy_mj = self._read("nvmlDeviceGetTotalEnergyConsumption")
        known = None not in (energy_mj, self._energy_mj)
        seen = {name: float(np.mean(values)) for name, values in self._samples.items()}
        if "memory_bytes" in seen:
            seen["memory_bytes"] = max(self._samples["memory_bytes"])
        return {
            **cast("GpuSeen", seen),
            "joules": (energy_mj - self._energy_mj) / 1000 if known else None,
            "sm_mhz_limit": self._read("nvmlDeviceGetMaxClockInfo", self._nvml.NVML_CLOCK_SM),
            "throttled": {name: n / self._count for name, n in self._throttled.items()},
            "samples": self._count,
        }


@contextmanager
def gpu_meter(uuid: str, load: Callable[[str], Any] = import_module) -> Iterator[GpuMeter | None]:
    """Give a meter of a GPU; None where NVML is missing or does not know it.

    Args:
        uuid: The GPU's name, which begins with "GPU-".
        load: Imports a module.
    """
    try:
        nvml = load("pynvml")
    except ImportError:
        yield None
        return
    try:
        nvml.nvmlInit()
    except nvml.NVMLError:
        yield None
        return
    try:
        yield _named(nvml, uuid)
    finally:
        nvml.nvmlShutdown()


def _named(nvml: Any, uuid: str) -> GpuMeter | None:
    try:
        return GpuMeter(nvml, nvml.nvmlDeviceGetHandleByUUID(uuid.encode()))
    except nvml.NVMLError:
        return None
