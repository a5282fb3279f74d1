"""A GPU for measurements that is the CPU, with streams that do nothing, and its driver."""

from collections.abc import Iterator
from contextlib import contextmanager, nullcontext
from itertools import count
from typing import Any

import torch
from test_results import a_record, a_round, alone, calls, film

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
    UUID = b"GPU-5de6a1b6-0000-4000-8000-000000000000"

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
            "nvmlDeviceGetHandleByUUID": lambda uuid: self._found(uuid),
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

    def _found(self, uuid: bytes) -> str:
        if uuid != self.UUID:
            raise self.NVMLError("Not Found")
        return "the GPU"


FACTS = {
    **{"name": "NVIDIA H100 80GB HBM3", "memory_bytes": 80 << 30, "compute_capability": "9.0"},
    **{"multiprocessors": 132, "cuda": "13.0", "cudnn": 91900},
}
"""Of a GPU, as a record has them."""


def gpu_record(rounds: int = 3) -> dict[str, Any]:
    """A record of measurements on a CPU and a GPU, whose metrics are known beforehand."""
    record = a_record([_with_gpu(a_round()) for _ in range(rounds)])
    chosen = {"weights": "m.safetensors", "backend": "torch", "device": "cuda:0"}
    chosen |= {"size_hw": [320, 576]}
    record["machine"] |= {
        **{"memory_bytes": 128 << 30, "flags": ["avx2"], "gpu": ["NVIDIA H100 80GB HBM3, 580.1"]},
        **{"system": "Linux 6", "python": "3.12.3", "versions": {"torch": "2.11.0"}},
        "revision": "0123456789ab",
    }
    record["film"] |= {"size_hw": [540, 960], "fps": 25.0, "sha256": "0" * 64}
    record["settings"] |= {"film_s": 4.0}
    record |= {
        **{"at": "2026-11-26T12:00:00+00:00", "reference": "m.safetensors torch"},
        **{"gpus": {"cuda:0": FACTS}, "defaults": {"weights": "m.int8.onnx"}, "many_cores": {}},
        "layers": {
            "m.safetensors": {
                "layers": [
                    {"flops": 4_000_000_000, "frame_bytes": 4_000_000, "weight_bytes": 1_000_000},
                    {"flops": 1_000_000_000, "frame_bytes": 40_000_000, "weight_bytes": 0},
                ]
            }
        },
    }
    record["contenders"]["roadseg"] |= {"mode": {}, "backend": "auto"}
    record["contenders"]["live"] |= {"rate": 25.0}
    for scenario, batch in QUERIES:
        name = gpu_case(scenario, batch)
        case = {**chosen, "scenario": scenario, "batch": batch, "cuda_graph": None}
        record["contenders"][name] = {"job": "gpu", **case}
        record["checks"][name] = {"equal_share": 0.9991, "val_miou": 0.77, "runtime": "torch"}
    record["contenders"] |= {
        "roadseg cuda:0": {"job": "film", **chosen, "mode": {}},
        "stages cuda:0": {"job": "stages", **chosen},
        "machine cuda:0": {"job": "gpu machine", "device": "cuda:0"},
    }
    return record


QUERIES = (("single", 1), ("single", 8), ("offline", 1), ("offline", 8))


def gpu_case(scenario: str, batch: int) -> str:
    return f"m.safetensors torch cuda:0 {scenario} x{batch}"


def _with_gpu(measured: dict[str, Any]) -> dict[str, Any]:
    """A round in which the GPU is at work too: 1000 frames a second, offline ten times that."""
    meter = GpuMeter(Nvml(), "the GPU")
    meter.sample()
    gpu = meter.result()
    results = measured["results"]
    for scenario, batch in QUERIES:
        fps = 1000 * batch * (10 if scenario == "offline" else 1)
        results[gpu_case(scenario, batch)] = {
            **calls(fps / batch),
            "batch": batch,
            "parts_ms": {"copy_in": [0.05], "compute": [0.8], "copy_out": [0.02]},
            "peak_gpu_bytes": 1 << 30,
            "gpu": gpu,
        }
    stages = {
        "decode": alone(900, 0.001),
        "segment": alone(1500, 0.001),
        "encode": alone(400, 0.01),
    }
    results |= {
        "roadseg cuda:0": film(360, 0.02, 0.001) | {"gpu": gpu},
        "stages cuda:0": {"stages_alone": stages, "model_cpu_s_a_frame": 0.001},
        "machine cuda:0": {
            **{"half_flops_a_s": 700e12, "single_flops_a_s": 50e12, "bytes_a_s": 2e12},
            **{"in_bytes_a_s": 50e9, "out_bytes_a_s": 52e9},
        },
    }
    return measured
