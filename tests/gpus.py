"""A GPU for measurements that is the CPU, with streams that do nothing, and its driver."""

from collections.abc import Iterator
from contextlib import contextmanager, nullcontext
from itertools import count
from typing import Any

import torch

from roadseg.measure.gpu_cuda import Cuda
from roadseg.measure.gpu_meter import GpuMeter

TICK_MS = 0.5


class HostEvent:
    """Its time is that of a clock that ticks whenever an event is recorded."""

    def __init__(self, clock: Iterator[int]) -> None:
        self._clock = clock
        self.ticks: int | None = None

    def record(self, _stream: object = None) -> None:
        self.ticks = next(self._clock)

    def synchronize(self) -> None:
        assert self.ticks is not None, "waits for what was never asked for"

    def elapsed_time(self, later: "HostEvent") -> float:
        return TICK_MS * (later.ticks - self.ticks)


class HostStream:
    def __init__(self) -> None:
        self.waited_for: list[HostEvent] = []

    def wait_event(self, event: HostEvent) -> None:
        assert event.ticks is not None, "waits for what was not recorded yet"
        self.waited_for.append(event)


class HostGpu(Cuda):
    """The CPU, as measurements see a GPU."""

    def __init__(self, meter: GpuMeter | None = None) -> None:
        super().__init__(torch.device("cpu"))
        self._clock = count()
        self._meter = meter

    def stream(self) -> HostStream:
        return HostStream()

    def on(self, _stream: HostStream) -> Any:
        return nullcontext()

    def event(self) -> HostEvent:
        return HostEvent(self._clock)

    def on_host(self, shape: tuple[int, ...]) -> torch.Tensor:
        return torch.empty(shape, dtype=torch.uint8)

    def synchronize(self) -> None:
        pass

    def peak_bytes(self) -> int:
        return 1 << 20

    @contextmanager
    def meter(self) -> Iterator[GpuMeter | None]:
        yield self._meter


class Report:
    """What a driver reports under names."""

    def __init__(self, **values: Any) -> None:
        self.__dict__ |= values


class Nvml:
    """A driver that knows one GPU, whose power counter has been read before."""

    class NVMLError(Exception):
        pass

    NVML_CLOCK_SM, NVML_CLOCK_MEM, NVML_TEMPERATURE_GPU = 1, 2, 0
    BUS_ID = b"00000000:65:00.0"

    def __init__(self, *, silent: tuple[str, ...] = (), reasons: int = 0x1 | 0x4) -> None:
        self._silent = silent
        self._joules = count(7, 2)
        self._reasons = reasons
        self.open = 0

    def nvmlInit(self) -> None:  # noqa: N802
        self.open += 1

    def nvmlShutdown(self) -> None:  # noqa: N802
        self.open -= 1

    def __getattr__(self, function: str) -> Any:
        answers = {
            "nvmlDeviceGetHandleByPciBusId": lambda bus_id: self._found(bus_id),
            "nvmlDeviceGetTotalEnergyConsumption": lambda _: 1000 * next(self._joules),
            "nvmlDeviceGetUtilizationRates": lambda _: Report(gpu=80, memory=40),
            "nvmlDeviceGetMemoryInfo": lambda _: Report(used=3 << 30),
            "nvmlDeviceGetPowerUsage": lambda _: 250_000,
            "nvmlDeviceGetClockInfo": lambda _, kind: {1: 1500, 2: 2600}[kind],
            "nvmlDeviceGetMaxClockInfo": lambda _, _kind: 1980,
            "nvmlDeviceGetTemperature": lambda _, _kind: 61,
            "nvmlDeviceGetCurrentClocksThrottleReasons": lambda _: self._reasons,
        }
        if function not in answers:
            raise AttributeError(function)
        return self._refused if function in self._silent else answers[function]

    def _refused(self, *_: object) -> None:
        raise self.NVMLError("Not Supported")

    def _found(self, bus_id: bytes) -> str:
        if bus_id != self.BUS_ID:
            raise self.NVMLError("Not Found")
        return "the GPU"
