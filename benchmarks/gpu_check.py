"""Find out in one command what of roadseg works on this machine's GPU, and how fast.

    python benchmarks/gpu_check.py [RECORD.json [SECONDS [STEP...]]]
    python benchmarks/gpu_check.py --table

Every step runs in a process of its own with a limit on its time, prints a line, and adds what it
found to the record, or what it lacks. SECONDS are those for all of them. With names of steps, these
are measured anew, in the order given, on the machine of a record that is there. Needs no network,
and of the packages PyTorch and PyAV alone. `--table` writes the records in `benchmarks/gpu/` into
`docs/measured.md`.
"""

import json
import math
import os
import subprocess
import sys
import time
from collections.abc import Callable, Sequence
from functools import partial
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any, NamedTuple

ROOT = Path(__file__).parent.parent
FILM = ROOT / "samples" / "drive.mp4"
MODEL = ROOT / "weights" / "roads.safetensors"
RECORDS = Path(__file__).parent / "gpu"
PAGE = ROOT / "docs" / "measured.md"
HW = (320, 576)
BATCHES = (1, 8, 32)
LEAST_S = 1.0
"""Seconds over which a rate is taken."""
COMPARED = 200
"""Frames whose class maps are compared with those in FP32."""
MEASURED_EVERY = 1000
"""Frames between two measurements of the memory."""
STARTED = 200
"""Frames of a film after which it is under way."""
WARM_UPS = 5
DRIVER_LIBRARIES = "/usr/local/nvidia/lib64"
"""Where containers have the driver's libraries, that of NVDEC among them."""

Found = dict[str, Any]


class Lacking(Exception):
    """What a step needs and the machine has not."""


class Step(NamedTuple):
    """A step of the check."""

    run: Callable[[], Found]
    limit_s: float


def machine() -> Found:
    """Say what is there."""
    import av
    import torch

    from roadseg.backends.machine import core_count, cpu_name

    found: Found = {
        "python": sys.version.partition(" ")[0],
        "torch": torch.__version__,
        "av": av.__version__,
        "cpu": f"{cpu_name()}, {core_count()} cores",
        "cuda": torch.version.cuda,
    }
    if torch.cuda.is_available():
        gpu = torch.cuda.get_device_properties(0)
        found["gpu"] = f"{gpu.name}, {gpu.total_memory >> 20} MiB, sm {gpu.major}.{gpu.minor}"
    return found


def tests() -> Found:
    """Run the tests that need a GPU."""
    need_gpu()
    command = [sys.executable, "-m", "pytest", "-q", "-m", "gpu", "-p", "no:cacheprovider", "tests"]
    done = subprocess.run(command, cwd=ROOT, capture_output=True, text=True, check=False)  # noqa: S603
    lines = done.stdout.strip().splitlines()
    return {"passed": done.returncode == 0, "said": lines[-12:]}


def ceilings() -> Found:
    """Measure what the GPU can do: multiply matrices, and copy."""
    need_gpu()
    from roadseg.measure.gpu_cuda import ceilings as measure
    from roadseg.measure.gpu_cuda import first

    return measure(first())


def decode() -> Found:
    """Decode the film onto the GPU."""
    torch = need_gpu()
    from roadseg.video.read.decode_cuda import decode
    from roadseg.video.read.read_log import ReadLog
    from roadseg.video.read.source import probe

    log = ReadLog()
    started = time.perf_counter()
    count = sum(1 for _ in decode(probe(FILM), log, device=torch.device("cuda", 0)))
    torch.cuda.synchronize()
    seconds = time.perf_counter() - started
    return {"fps": count / seconds, "decoder": log.decoder, "refused": log.off_gpu}


def network(*, cuda_graph: bool = True, compiled: bool = False) -> Found:
    """Run the network in half precision on frames that lie on the GPU, at several batches."""
    torch = need_gpu()
    from roadseg.backends import torch_compiled
    from roadseg.backends.torch import TorchBackend, open_model
    from roadseg.models.checkpoint import load_model

    net, spec = load_model(MODEL)
    reference = TorchBackend(net.cuda(), spec)
    opened = partial(open_model, cuda_graph=cuda_graph)
    backend = torch_compiled.open_model(MODEL) if compiled else opened(MODEL)
    found: Found = {}
    for batch in BATCHES:
        frames = film_frames(batch).cuda()
        maps = [b.run(frames).outputs["class_map"] for b in (backend, reference)]
        found[f"batch {batch}"] = {
            "fps": batch * rate(partial(backend.run, frames)),
            "equal_to_fp32": float((maps[0] == maps[1]).double().mean()),
            "memory_mib": torch.cuda.max_memory_allocated() >> 20,
        }
    return found


def agreement() -> Found:
    """Compare the class maps of a film in half precision with those in FP32, frame by frame."""
    need_gpu()
    from roadseg.backends.torch import TorchBackend, open_model
    from roadseg.models.checkpoint import load_model

    network, spec = load_model(MODEL)
    backends = open_model(MODEL), TorchBackend(network.cuda(), spec)
    equal: list[float] = []
    for frames in film_frames(COMPARED, COMPARED).cuda().split(BATCHES[1]):
        found, expected = (backend.run(frames).outputs["class_map"] for backend in backends)
        equal += (found == expected).flatten(1).double().mean(dim=1).tolist()
    return {"frames": len(equal), "mean": sum(equal) / len(equal), "least": min(equal)}


def waits() -> Found:
    """Count what a film waits for on the GPU: for all of its work, for a stream, for an event."""
    torch = need_gpu()
    from torch.profiler import ProfilerActivity, profile

    with TemporaryDirectory() as folder, profile(activities=[ProfilerActivity.CUDA]) as profiler:
        found = labelled(FILM, "cuda", stats=Path(folder) / "stats.csv")
    calls = {e.key: e.count for e in profiler.key_averages() if "Synchronize" in e.key}
    return {"frames": found["frames"], "waits": calls, "torch": torch.__version__}


def film(device: str) -> Found:
    """Label the whole film, and say which stage was at work longest."""
    if device != "cpu":
        need_gpu()
    with TemporaryDirectory() as folder:
        return labelled(FILM, device, out=Path(folder) / "out.mp4")


def labelled(
    source: Path,
    device: str,
    on_frame: Callable[[int, int | None], None] = lambda _done, _total: None,
    **settings: Any,
) -> Found:
    """Label a film, and say which stage was at work longest."""
    from roadseg.infer.config import InferConfig
    from roadseg.infer.offline import infer

    config = InferConfig(**{"out": None, **settings}, source=source, weights=MODEL, device=device)
    done_s: list[float] = []

    def note(done: int, total: int | None) -> None:
        done_s.append(time.perf_counter())
        on_frame(done, total)

    result = infer(config, note)
    under_way = done_s[STARTED:]
    return {
        "frames": result.frames,
        "fps": result.fps,
        "fps_under_way": (len(under_way) - 1) / (under_way[-1] - under_way[0])
        if len(under_way) > STARTED
        else None,
        "device": result.device,
        "decoder": result.decoder,
        "encoder": result.encoder,
        "busy_s": {stage.name: round(stage.busy_s, 3) for stage in result.stages},
        "warnings": list(result.warnings),
    }


def full_hd() -> Found:
    """Label a film in full HD, with an overlay and without."""
    need_gpu()
    from full_hd import SIZES_HW, write_enlarged

    with TemporaryDirectory() as folder:
        source = Path(folder) / "source.mp4"
        write_enlarged(source, FILM, SIZES_HW["1080p"], 100, {"preset": "ultrafast", "crf": "23"})
        long = looped(source, 10, Path(folder) / "long.mp4")
        return {
            "statistics alone": labelled(long, "cuda", stats=Path(folder) / "stats.csv"),
            "with an overlay": labelled(long, "cuda", out=Path(folder) / "out.mp4"),
        }


def flat_memory() -> Found:
    """Label 10,000 frames, and say what memory the GPU and the process held along the way."""
    torch = need_gpu()
    held: list[tuple[int, int]] = []

    def note(done: int, _total: int | None) -> None:
        if done % MEASURED_EVERY == 0:
            pages = int(Path("/proc/self/statm").read_text().split()[1])
            resident = pages * os.sysconf("SC_PAGE_SIZE")
            held.append((torch.cuda.memory_reserved() >> 20, resident >> 20))

    with TemporaryDirectory() as folder:
        long = looped(FILM, 46, Path(folder) / "long.mp4")
        found = labelled(long, "cuda", note, out=Path(folder) / "out.mp4", preset="ultrafast")
    return found | {"gpu_and_process_mib": held}


def looped(film: Path, times: int, path: Path) -> Path:
    """Write a film several times over without encoding it anew, and return its path."""
    import av

    with av.open(str(path), "w") as container:
        streams: dict[int, Any] = {}
        for turn in range(times):
            with av.open(str(film)) as source:
                if turn == 0:
                    streams = {
                        s.index: container.add_stream_from_template(s) for s in source.streams
                    }
                for packet in source.demux():
                    if packet.dts is not None:
                        packet.pts += turn * packet.stream.duration
                        packet.dts += turn * packet.stream.duration
                        packet.stream = streams[packet.stream.index]
                        container.mux(packet)
    return path


def bench(*options: str) -> Found:
    """Run `roadseg bench` on the GPU, as it is typed, and keep what it found in short."""
    need_gpu()
    try:
        import plotly  # noqa: F401  # the pages of the bench are drawn with it
    except ImportError as error:
        raise Lacking("plotly is not installed") from error
    arguments = ["bench", str(FILM), "--weights", str(MODEL), "--device", "cuda:0", "--json"]
    command = [sys.executable, "-m", "roadseg", *arguments, "--quick", *options]
    done = subprocess.run(command, cwd=ROOT, capture_output=True, text=True, check=False)  # noqa: S603
    if done.returncode:
        raise RuntimeError(done.stderr.strip()[-500:])
    return in_short(json.loads(done.stdout))


def in_short(record: Found) -> Found:
    """Return what a record of `roadseg bench` says of GPUs: medians over its rounds."""
    from roadseg.measure.advice import advice_on
    from roadseg.measure.results import rounds_of, spread
    from roadseg.measure.targets import ceilings as bounds

    rounds = rounds_of(record)
    cases = {}
    for name, case in record["contenders"].items():
        if "device" in case:
            metrics = dict.fromkeys(m for measured in rounds for m in measured.get(name, {}))
            found = {metric: spread(rounds, name, metric) for metric in metrics}
            cases[name] = {metric: v.median for metric, v in found.items() if v}
    advice = advice_on(record)
    return {
        "gpus": record["gpus"],
        "cases": cases,
        "reached": {f"{b.name}, {b.by}": round(b.reached.median, 3) for b in bounds(record)},
        "advice": advice.command if advice else None,
        "not measured": {n: c["error"] for n, c in record["checks"].items() if "error" in c},
    }


def engines() -> Found:
    """Build the engines that are missing, and measure them beside PyTorch."""
    need_gpu()
    from roadseg.backends.tensorrt_engine import import_nvidia
    from roadseg.errors import BackendUnavailable

    try:
        import_nvidia("torch_tensorrt")
    except BackendUnavailable as error:
        raise Lacking(str(error)) from error
    return bench("--engine", "auto", "--backend", "torch", "--backend", "tensorrt")


def power() -> Found:
    """Ask NVML what the GPU does while nothing is done."""
    need_gpu()
    from roadseg.measure.gpu_cuda import first

    with first().meter() as meter:
        if meter is None:
            raise Lacking("NVML reports nothing of it; run: pip install nvidia-ml-py")
        return meter.result()


STEPS = {
    "machine": Step(machine, 60),
    "power": Step(power, 60),
    "ceilings": Step(ceilings, 60),
    "decode": Step(decode, 60),
    "half": Step(partial(network, cuda_graph=False), 90),
    "graphs": Step(network, 90),
    "agreement": Step(agreement, 90),
    "film on the GPU": Step(partial(film, "cuda"), 90),
    "full HD on the GPU": Step(full_hd, 120),
    "waits": Step(waits, 90),
    "10,000 frames": Step(flat_memory, 180),
    "tests": Step(tests, 240),
    "compiled": Step(partial(network, compiled=True), 240),
    "bench": Step(partial(bench, "--backend", "torch"), 180),
    "bench by batch": Step(
        partial(
            bench,
            *("--backend", "torch", "--cuda-graph", "both"),
            *(option for batch in BATCHES for option in ("--batch", str(batch))),
        ),
        240,
    ),
    "bench of streams": Step(
        partial(bench, "--backend", "torch", "--scenario", "streams=4", "--scenario", "streams=16"),
        180,
    ),
    "bench, compiled": Step(partial(bench, "--backend", "torch-compiled"), 300),
    "bench of engines": Step(engines, 300),
}
"""In the order in which they matter, should the time run out."""


def need_gpu() -> Any:
    """Return PyTorch. Raises `Lacking` if it has no GPU here."""
    try:
        import torch
    except ImportError as error:
        raise Lacking("PyTorch is not installed") from error
    from roadseg.infer.device_cuda import refusal

    if reason := refusal("cuda"):
        raise Lacking(reason)
    return torch


def film_frames(count: int, different: int = 8) -> Any:
    """Return frames of the film as the network takes them: (count, H, W, 3).

    The first ones, as many as are to be different, over and over.
    """
    from itertools import cycle, islice

    import torch

    from roadseg.segmentation.placement import laid
    from roadseg.video.read.read_log import ReadLog
    from roadseg.video.read.source import decode as decode_film
    from roadseg.video.read.source import probe

    first = list(islice(decode_film(probe(FILM), ReadLog()), different))
    pictures = [torch.from_numpy(laid(frame, HW)[1]) for frame in first]
    return torch.cat(list(islice(cycle(pictures), count)))


def rate(call: Callable[[], object]) -> float:
    """Return how many calls a second the GPU gets done."""
    import torch

    for _ in range(WARM_UPS):
        call()
    torch.cuda.synchronize()
    started, count = time.perf_counter(), 0
    while time.perf_counter() - started < LEAST_S:
        call()
        count += 1
        if count % 10 == 0:
            torch.cuda.synchronize()
    torch.cuda.synchronize()
    return count / (time.perf_counter() - started)


def report_one(name: str) -> None:
    """Run a step in this process and print what it found as a line of JSON."""
    try:
        found = STEPS[name].run()
    except Lacking as lack:
        found = {"lacks": str(lack)}
    print(json.dumps(found))


def environment() -> dict[str, str]:
    """Return this process's environment, with which roadseg and the GPU's decoder are found."""
    paths = {"PYTHONPATH": str(ROOT), "LD_LIBRARY_PATH": DRIVER_LIBRARIES}
    return os.environ | {
        name: os.pathsep.join(filter(None, [os.environ.get(name), path]))
        for name, path in paths.items()
    }


def ended(command: list[str], limit_s: float) -> "subprocess.CompletedProcess[str] | None":
    """Run a process with roadseg and the GPU's decoder found; None if it is not done in time."""
    try:
        return subprocess.run(  # noqa: S603
            command,
            env=environment(),
            capture_output=True,
            text=True,
            check=False,
            timeout=limit_s,
        )
    except subprocess.TimeoutExpired:
        return None


def last_words(done: "subprocess.CompletedProcess[str]") -> str:
    """Return the end of what a process that failed said."""
    return done.stderr.strip()[-1500:] or f"exit code {done.returncode}"


def run_apart(name: str, most_s: float = math.inf) -> Found:
    """Run a step in a process of its own; what becomes of it never ends the check."""
    limit_s = min(STEPS[name].limit_s, most_s)
    if limit_s <= 0:
        return {"failed": "no time was left"}
    done = ended([sys.executable, __file__, "--step", name], limit_s)
    if done is None:
        return {"failed": f"not done after {limit_s:.2g} s"}
    try:
        found: Found = json.loads(done.stdout.strip().splitlines()[-1])
    except (IndexError, ValueError):
        return {"failed": last_words(done)}
    return found


def table(found: Found) -> str:
    """Return what a record says, in short, as a Markdown table; only what was measured is in it."""
    rows = [("", found["machine"]["gpu"]), ("---", "---")]
    rows += [(what, text) for what, text in _rows(found) if text]
    return "".join(f"| {what} | {text} |\n" for what, text in rows)


def _rows(found: Found) -> list[tuple[str, str]]:
    """Return what was asked and what was found, empty where it was not measured."""
    most, decoder = found.get("ceilings", {}), found.get("decode", {})
    films = {"the sample, 960x540, to a video": found.get("film on the GPU", {})}
    for kind, measured in found.get("full HD on the GPU", {}).items():
        if isinstance(measured, dict):
            films[f"full HD, {kind}"] = measured
    half, graphs = found.get("half", {}), found.get("graphs", {})
    return [
        ("processor, PyTorch", f"{found['machine']['cpu']}; {found['machine']['torch']}"),
        (
            "matrix products in half precision, copies",
            f"{most['half_flops_a_s'] / 1e12:.0f} TFLOP/s, {most['bytes_a_s'] / 1e12:.1f} TB/s"
            if "bytes_a_s" in most
            else "",
        ),
        ("NVDEC, 960x540, opened anew", f"{decoder['fps']:.0f} fps" if "fps" in decoder else ""),
        ("network, 576x320, batch 1, 8 and 32", _by_batch(half, "fps", "{:.0f}")),
        ("the same as a CUDA graph", _by_batch(graphs, "fps", "{:.0f}")),
        ("pixels that FP32 decides alike", _alike(found.get("agreement", {}))),
        *((what, _speed(film)) for what, film in films.items() if "fps" in film),
        ("waits for all of the GPU's work in 221 frames", _waits(found.get("waits", {}))),
        ("memory of GPU and process over 10,000 frames", _memory(found.get("10,000 frames", {}))),
        ("`pytest -m gpu`", ", ".join(found.get("tests", {}).get("said", [])[-1:])),
    ]


def _alike(found: Found) -> str:
    if "mean" not in found:
        return ""
    return f"{found['mean']:.2%} of {found['frames']} frames, {found['least']:.2%} of the worst"


def _speed(film: Found) -> str:
    text = f"{film['fps']:.0f} fps over {film['frames']} frames, start-up included"
    under_way = film.get("fps_under_way")
    return f"{text}; {under_way:.0f} once under way" if under_way else text


def _waits(found: Found) -> str:
    return str(found["waits"].get("cudaDeviceSynchronize", 0)) if "waits" in found else ""


def _memory(found: Found) -> str:
    held = found.get("gpu_and_process_mib")
    if not held:
        return ""
    (first_gpu, first_process), (last_gpu, last_process) = held[0], held[-1]
    return (
        f"{first_gpu} and {first_process} MiB after {_frames_at(1)} frames, "
        f"{last_gpu} and {last_process} MiB after {_frames_at(len(held))}"
    )


def _frames_at(number: int) -> str:
    return f"{number * MEASURED_EVERY:,}"


def _by_batch(found: Found, metric: str, form: str) -> str:
    values = [found[f"batch {batch}"][metric] for batch in BATCHES if f"batch {batch}" in found]
    return ", ".join(map(form.format, values)) + (" fps" if values and metric == "fps" else "")


def write_tables() -> None:
    """Write the tables of all records into the page."""
    from marks import write

    for path in sorted(RECORDS.glob("*.json")):
        write(PAGE, path.stem, table(json.loads(path.read_text())))


def begun(record: Path, names: Sequence[str]) -> Found:
    """Return what is known before the steps named, or all of them, are run."""
    unknown = set(names) - STEPS.keys()
    if unknown:
        raise SystemExit(f"no step is called {', '.join(unknown)}; they are {', '.join(STEPS)}")
    if not names:
        if record.exists():
            raise SystemExit(f"{record} exists; name the steps to measure anew, or another record")
        return {}
    if not record.exists():
        raise SystemExit(f"{record} does not exist; leave out the steps, and it is begun with all")
    found: Found = json.loads(record.read_text())
    known, here = (of.get("gpu") for of in (found["machine"], run_apart("machine")))
    if here != known:
        raise SystemExit(f"{record} is of {known}, and here is {here}; begin another record")
    return found


def main(record: Path, most_s: float, names: Sequence[str]) -> None:
    """Run steps, all unless some are named, print a line for each, and write the record after each.

    Raises:
        SystemExit: There is no such step, or the record is another machine's or would be lost.
    """
    found = begun(record, names)
    end = time.perf_counter() + most_s
    for name in names or STEPS:
        started = time.perf_counter()
        found[name] = run_apart(name, end - started)
        found[name]["took_s"] = round(time.perf_counter() - started, 1)
        record.write_text(json.dumps(found, indent=2) + "\n")
        print(f"{name}: {json.dumps(found[name])[:300]}", flush=True)
    print(f"recorded in {record}")


if __name__ == "__main__":
    if sys.argv[1:2] == ["--step"]:
        report_one(sys.argv[2])
    elif sys.argv[1:] == ["--table"]:
        write_tables()
    else:
        given = dict(enumerate(sys.argv))
        main(Path(given.get(1, "gpu_check.json")), float(given.get(2, "inf")), sys.argv[3:])
