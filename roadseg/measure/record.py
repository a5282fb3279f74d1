"""What a record of `roadseg bench` holds: JSON values, as `bench` returns them and files keep them.

These types are for readers and for the type checker; nothing is converted. A key that may be
missing came with a later version, or is there under the conditions that are given.
"""

from typing import Any, NotRequired, TypedDict


class GpuSeen(TypedDict, total=False):
    """What the driver of a GPU reported while it was at work; what it did not is missing."""

    utilisation: float
    """Share of the time at work, mean."""
    watts: float
    """Power, mean."""
    sm_mhz: float
    """Clock, mean."""
    memory_mhz: float
    """Clock of the memory, mean."""
    memory_bytes: float
    """Most memory in use."""
    celsius: float
    """Temperature, mean."""
    joules: float | None
    """Energy, by its counter."""
    sm_mhz_limit: float | None
    """Highest clock."""
    throttled: dict[str, float]
    """Share of the time that clocks were held down, by the reason."""
    samples: int
    """How often it was asked."""


class CallsResult(TypedDict):
    """A model alone: its calls one after the other; on a GPU, its queries."""

    open_s: float
    """Seconds to open it."""
    first_call_s: float
    warmup_calls_s: list[float]
    calls_s: list[float]
    """Seconds of each call, once it is warm."""
    batch: int
    """Frames a call."""
    cpu_s: float
    """CPU seconds of those calls."""
    peak_rss_bytes: int | None
    """Most memory of the process."""
    joules: float | None
    """Energy of the processor in those calls; None where its counters cannot be read."""


class ModelResult(CallsResult):
    """Of the jobs "model", "plain" and "peer"."""

    started_s: float
    """Seconds from the start of the process until the model is opened."""


class GpuModelResult(CallsResult):
    """Of the job "gpu"."""

    calls_a_query: int
    parts_ms: dict[str, list[float]]
    """Milliseconds of each part of each call."""
    peak_gpu_bytes: int
    """Most memory that PyTorch took of the GPU."""
    gpu: GpuSeen | None
    """None if it is not metered."""


class FramesResult(TypedDict):
    """Frames as they were done, one after the other."""

    frames: int
    warmup_frames: int
    """How many of the first count as warm-up."""
    frames_at_s: list[float]
    """When each was done, in seconds since the start of the process."""
    cpu_at_s: list[float]
    """CPU seconds of the process by then."""
    wall_s: float
    """Seconds until all was done."""
    cpu_s: float
    """CPU seconds by then."""
    peak_rss_bytes: int | None
    """Most memory of the process."""
    joules: float | None
    """Energy of the processor; None where its counters cannot be read."""
    gpu: NotRequired[GpuSeen | None]
    """None if none is at work, or it is not metered."""


class ModelShare(TypedDict):
    """What the model takes of a pipeline."""

    model_calls_s: list[float]
    """Seconds of each call."""
    model_cpu_s_a_frame: float | None
    """CPU seconds a frame, once all replicas are warm."""


class VideoResult(FramesResult, ModelShare):
    """A video that was labelled and written."""

    out_bytes: int
    """Size of what was written."""


class StepResult(TypedDict):
    """A step of the plain loop, frame by frame."""

    wall_s: list[float]
    cpu_s: list[float]


class LoopResult(VideoResult):
    """Of the job "loop"."""

    steps: dict[str, StepResult]


class FilmResult(VideoResult):
    """Of the job "film"."""

    stages: NotRequired[list[dict[str, Any]]]
    """Fields of a `StageStats` for each stage."""
    network_hw: NotRequired[tuple[int, int]]
    device: NotRequired[str]
    decoder: NotRequired[str]
    encoder: NotRequired[str | None]
    """The encoder in hardware, if one was at work."""


class StageResult(FramesResult):
    """A stage alone, fed from memory."""

    grown_rss_bytes: int | None
    """Most memory of the process, less what it had before."""


class StagesResult(ModelShare):
    """Of the job "stages"."""

    stages_alone: dict[str, StageResult]
    decoder: NotRequired[str]
    encoder: NotRequired[str | None]


class LiveResult(TypedDict):
    """Of the job "live": a value for each frame that was shown."""

    rate_fps: float
    """Frames a second of the camera."""
    warmup_frames: int
    """How many of the first count as warm-up."""
    ages_s: list[float]
    """Seconds from its arrival to its labels."""
    dropped: list[int]
    """Frames that were dropped by then."""
    shown_at_s: list[float]
    """When it was shown, in seconds since the first one was."""
    peak_rss_bytes: int | None


class CommandResult(TypedDict):
    """Of the job "command"."""

    command_s: float
    """Seconds from the command's start to its end."""
    frames: int | None


class MachineResult(TypedDict):
    """Of the job "machine"."""

    flops_a_s: float
    bytes_a_s: float


class GpuMachineResult(TypedDict):
    """Of the job "gpu machine"."""

    half_flops_a_s: float
    single_flops_a_s: float
    bytes_a_s: float
    """Within the GPU, read and written."""
    in_bytes_a_s: float
    """From the CPU."""
    out_bytes_a_s: float
    """To the CPU."""


class Check(TypedDict, total=False):
    """What was found of a case when it was compared with the reference."""

    equal_share: float
    """Share of pixels in which it decides as the reference does."""
    runtime: str
    """What ran it."""
    val_miou: float | None
    """Mean IoU on validation pictures in the model's record, 0..1."""
    error: str
    """Why it is not measured, if it is not."""
    kind: str
    """Class of the exception behind the error, if there was one."""


class RoundRecord(TypedDict):
    """A round, in which every case is measured once."""

    others_cpu_share: float | None
    """Share of the machine's cores that other processes took; None if it does not report it."""
    results: dict[str, Any]
    """Result of each case by name, of the type of its job; or its "error"."""


class Record(TypedDict):
    """A run of measurements."""

    format: int
    """`roadseg.measure.results.RECORD_FORMAT`."""
    made_by: str
    at: str
    """When it was made, by ISO 8601."""
    machine: dict[str, Any]
    """What `machine_record` returns."""
    gpus: NotRequired[dict[str, dict[str, Any]]]
    """What is known of each GPU, by its device."""
    film: dict[str, Any]
    """What `film_record` returns of the video."""
    settings: dict[str, Any]
    """Fields of the `BenchConfig`."""
    defaults: NotRequired[dict[str, str]]
    """What a user gets who chooses nothing: the file of the weights."""
    reference: str
    """The model and the runtime whose class maps all others are compared with."""
    checks: dict[str, Check]
    """What was found of each case, by name."""
    roles: dict[str, str]
    """Names of the cases by their role in the targets."""
    contenders: dict[str, dict[str, Any]]
    """What each case is, by name: its job and settings."""
    work: dict[str, dict[str, Any]]
    """Fields of a `Work` for each model in ONNX."""
    layers: NotRequired[dict[str, dict[str, Any]]]
    """Work of each layer of each checkpoint."""
    rounds: list[RoundRecord]
    many_cores: NotRequired[dict[str, dict[str, Any]]]
    """How each way to run the pipeline scales, by the name of its case."""
