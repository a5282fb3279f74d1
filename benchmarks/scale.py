"""What a thousand or a million hours of video take, from what one run took; and the best chunks.

    python benchmarks/scale.py cost --price-vcpu 0.02
    python benchmarks/scale.py chunks --losses-per-hour 0.05

Both are pure functions of a record in `benchmarks/results/` and of what is assumed, which the
output names as such. `docs/scale.md` shows them.
"""

import heapq
import json
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from random import Random
from statistics import median
from typing import Annotated, Any

import typer

from roadseg.segmentation.config import ModelConfig
from roadseg.segmentation.label import look_ahead_s, warm_up_s

RECORD = Path(__file__).parent / "results" / "2-several-at-once.json"
FULL_HD_PIXELS, FULL_HD_FPS = 1920 * 1080, 30
BY_PIXELS = ("decode", "labels", "overlay", "encode")
"""Stages whose work grows with the picture; the others work at the network's size."""
STATS_BYTES = 930
"""Bytes of a frame's line in `--stats`, and of its class map in `--masks ids.mkv` for each pixel:
the sample's first second, 25 frames of 960x540."""
MASK_BYTES_A_PIXEL = 0.0061
LENGTHS_S = (30, 60, 120, 300, 600, 1200, 3600)
app = typer.Typer(add_completion=False)


def cpu_s_a_frame(result: Mapping[str, Any]) -> float:
    """Return the CPU seconds of a frame once queues and encoder are full."""
    first = result["warmup_frames"]
    cpu_at_s = result["cpu_at_s"]
    return float((cpu_at_s[-1] - cpu_at_s[first - 1]) / (len(cpu_at_s) - first))


@dataclass(frozen=True)
class Measured:
    """What a record says of a frame."""

    stages_s: Mapping[str, float]
    """CPU seconds of each stage alone."""
    whole_s: Mapping[str, float]
    """CPU seconds of all together, by what ran."""
    pixels: int
    """Pixels of the video's frames."""
    out_bytes: float
    """Bytes of a frame in the overlay."""
    start_s: float
    """Seconds to open the model and label a first frame."""


def read(path: Path = RECORD) -> Measured:
    """Return the medians of a record's rounds."""
    record = json.loads(path.read_text())
    rounds = [r["results"] for r in record["rounds"]]
    stages = [r["stages"]["stages_alone"] for r in rounds]
    height, width = record["film"]["size_hw"]
    films = ("roadseg", "roadseg --every 4")
    return Measured(
        stages_s={n: median(cpu_s_a_frame(s[n]) for s in stages) for n in stages[0]},
        whole_s={n: median(cpu_s_a_frame(r[n]) for r in rounds) for n in films},
        pixels=height * width,
        out_bytes=median(r["roadseg"]["out_bytes"] / r["roadseg"]["frames"] for r in rounds),
        start_s=median(s["segment"]["frames_at_s"][0] for s in stages),
    )


def at_full_hd(measured: Measured) -> dict[str, float]:
    """Return the core seconds for an hour of 1080p30 by stage, where work by pixels grows so."""
    scale = FULL_HD_PIXELS / measured.pixels
    frames = 3600 * FULL_HD_FPS
    return {
        name: frames * seconds * (scale if name in BY_PIXELS else 1)
        for name, seconds in measured.stages_s.items()
    }


@app.command()
def cost(
    price_vcpu: Annotated[float, typer.Option(help="Of a core for an hour.")] = 0.02,
    price_gpu: Annotated[float, typer.Option(help="Of a GPU with its host for an hour.")] = 1.0,
    gpu_fps: Annotated[float, typer.Option(help="1080p frames a second on it; assumed.")] = 250.0,
    price_gb: Annotated[float, typer.Option(help="Of a gigabyte kept for a month.")] = 0.02,
) -> None:
    """Print what hours of 1080p30 video take."""
    measured = read()
    stages = at_full_hd(measured)
    print("| stage | core seconds for an hour of 1080p30 |\n| --- | --- |")
    for name, seconds in stages.items():
        print(f"| {name} | {seconds:,.0f} |")
    film = sum(stages.values())
    bare = film - stages["overlay"] - stages["encode"]
    print(f"| all | {film:,.0f} |\n| all without an overlay (`--no-film`) | {bare:,.0f} |\n")
    frames = 3600 * FULL_HD_FPS
    scale = FULL_HD_PIXELS / measured.pixels
    bytes_an_hour = {
        "overlay": frames * measured.out_bytes * scale,
        "class maps (`--masks ids.mkv`)": frames * MASK_BYTES_A_PIXEL * FULL_HD_PIXELS,
        "statistics (`--stats`)": frames * STATS_BYTES,
    }
    print("| what is kept | GB for an hour | 1,000 hours, a month | 1,000,000 hours, a month |")
    print("| --- | --- | --- | --- |")
    for name, count in bytes_an_hour.items():
        gb = count / 1e9
        print(f"| {name} | {gb:.2f} | {gb * 1e3 * price_gb:,.0f} | {gb * 1e6 * price_gb:,.0f} |")
    print("\n| hours of video | cores, with overlay | cores, `--no-film` | GPUs (assumed) |")
    print("| --- | --- | --- | --- |")
    for hours in (1_000, 1_000_000):
        on_cores = [hours * seconds / 3600 * price_vcpu for seconds in (film, bare)]
        on_gpus = hours * frames / gpu_fps / 3600 * price_gpu
        print(f"| {hours:,} | {on_cores[0]:,.0f} | {on_cores[1]:,.0f} | {on_gpus:,.0f} |")


@dataclass(frozen=True)
class Cluster:
    """What is simulated."""

    machines: int
    """Machines, each with a chunk at a time."""
    films: int
    """Videos of an hour."""
    pace: float
    """Seconds that a machine takes for a second of video."""
    around_s: float
    """Seconds of video that each chunk adds."""
    start_s: float
    """Seconds before a chunk's first frame."""
    losses_per_hour: float
    """Times that a machine is lost in an hour; its chunk is begun anew."""
    away_s: float
    """Seconds until a machine that was lost is replaced."""


def simulate(cluster: Cluster, chunk_s: float, seed: int = 0) -> tuple[float, float]:
    """Return the machine seconds spent and the seconds to the end, over what is needed at least.

    The first counts what was lost and done twice, the second idle machines at the end as well.
    """
    random = Random(seed)  # noqa: S311 - the same draw each time is what is wanted
    chunks = max(round(3600 / chunk_s), 1)
    left = cluster.films * chunks
    work_s = cluster.start_s + (3600 / chunks + cluster.around_s * (chunks > 1)) * cluster.pace
    free_at_s = [0.0] * cluster.machines
    spent_s = end_s = 0.0
    while left:
        now_s = heapq.heappop(free_at_s)
        lost_after_s = random.expovariate(cluster.losses_per_hour / 3600)
        if lost_after_s < work_s:
            spent_s += lost_after_s
            heapq.heappush(free_at_s, now_s + lost_after_s + cluster.away_s)
            continue
        spent_s += work_s
        left -= 1
        end_s = max(end_s, now_s + work_s)
        heapq.heappush(free_at_s, now_s + work_s)
    needed_s = cluster.films * 3600 * cluster.pace
    return spent_s / needed_s, end_s * cluster.machines / needed_s


def overheads(cluster: Cluster) -> Iterator[tuple[int, float, float]]:
    """Yield each chunk length with the means of what `simulate` returns."""
    for chunk_s in LENGTHS_S:
        runs = [simulate(cluster, chunk_s, seed) for seed in range(20)]
        yield chunk_s, *(sum(values) / len(runs) for values in zip(*runs, strict=True))


@app.command()
def chunks(
    losses_per_hour: Annotated[float, typer.Option(help="Losses of a machine in an hour.")] = 0.05,
    machines: int = 50,
    films: Annotated[int, typer.Option(help="Videos of an hour.")] = 200,
    cores: Annotated[int, typer.Option(help="Of a machine.")] = 8,
    away_s: Annotated[float, typer.Option(help="Until a lost machine is replaced.")] = 120.0,
) -> None:
    """Print what chunks of each length cost, and the best length."""
    measured = read()
    pace = sum(at_full_hd(measured).values()) / 3600 / cores
    usual = ModelConfig()
    around_s = warm_up_s(usual) + look_ahead_s(usual)
    cluster = Cluster(machines, films, pace, around_s, measured.start_s, losses_per_hour, away_s)
    print("| chunk | machine time over the least | with idle machines at the end |")
    print("| --- | --- | --- |")
    found = list(overheads(cluster))
    for chunk_s, spent, waited in found:
        print(f"| {chunk_s} s | {spent - 1:.1%} | {waited - 1:.1%} |")
    best = min(found, key=lambda row: row[2])[0]
    print(f"\nbest: chunks of {best} s")


if __name__ == "__main__":
    app()
