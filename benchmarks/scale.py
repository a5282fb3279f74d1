"""What a thousand or a million hours of video take, from what was measured; and the best chunks.

    python benchmarks/scale.py cost --price-vcpu 0.02
    python benchmarks/scale.py chunks --losses-per-hour 0.05

Both are pure functions of the records below and of what is assumed: the prices, and how often
machines are lost. `docs/scale.md` shows them, and says what is measured.
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

FOLDER = Path(__file__).parent
RECORD = FOLDER / "results" / "3-full-hd.json"
WAYS = FOLDER / "revisions.json"
GPU = FOLDER / "gpu" / "h200.json"
FULL_HD_FPS = 30
STATS_BYTES, MASK_BYTES = 915, 6_150
"""Bytes of a frame in `--stats` and `--masks ids.mkv`: the whole sample, enlarged to 1080p."""
LENGTHS_S = (30, 60, 120, 300, 600, 1200, 3600)
AS_GOOD = 0.005
"""Part of the least time by which lengths differ that are as good as each other."""
app = typer.Typer(add_completion=False)


def cpu_s_a_frame(result: Mapping[str, Any]) -> float:
    """Return the CPU seconds of a frame once queues and encoder are full."""
    first = result["warmup_frames"]
    cpu_at_s = result["cpu_at_s"]
    return float((cpu_at_s[-1] - cpu_at_s[first - 1]) / (len(cpu_at_s) - first))


@dataclass(frozen=True)
class Measured:
    """What the records say of a frame of 1080p."""

    stages_s: Mapping[str, float]
    """CPU seconds of each stage alone."""
    film_s: float
    """CPU seconds of all stages together, with an overlay."""
    bare_share: float
    """Part of that which `--no-film --stats` takes."""
    fps: float
    """Frames a second of the video."""
    out_bytes: float
    """Bytes of a frame in the overlay."""
    start_s: float
    """Seconds to open the model and label a first frame."""

    def hour_s(self, frame_s: float, segment_s: float) -> float:
        """Return the core seconds for an hour of 1080p30.

        Args:
            frame_s: CPU seconds of a frame.
            segment_s: The part of them for the network, which looks by the second and not by the
                frame.
        """
        return 3600 * (FULL_HD_FPS * (frame_s - segment_s) + self.fps * segment_s)

    def stages_of_hour_s(self) -> dict[str, float]:
        """Return the core seconds for an hour of 1080p30 by stage."""
        stages = self.stages_s.items()
        return {n: self.hour_s(s, s if n == "segment" else 0.0) for n, s in stages}

    def film_of_hour_s(self) -> float:
        """Return the core seconds for an hour of 1080p30, all stages together."""
        return self.hour_s(self.film_s, self.stages_s["segment"])


def read() -> Measured:
    """Return the medians of the records' rounds."""
    record, ways = (json.loads(path.read_text()) for path in (RECORD, WAYS))
    rounds = [r["results"] for r in record["rounds"]]
    films = [r["roadseg"] for r in rounds]
    stages = [r["stages"]["stages_alone"] for r in rounds]
    film_ms, bare_ms = (
        median(ways["cases"][name]["cpu_ms"]["new"])
        for name in ("1080p", "1080p, --stats --no-film")
    )
    return Measured(
        stages_s={n: median(cpu_s_a_frame(s[n]) for s in stages) for n in stages[0]},
        film_s=median(cpu_s_a_frame(film) for film in films),
        bare_share=bare_ms / film_ms,
        fps=record["film"]["fps"],
        out_bytes=median(film["out_bytes"] / film["frames"] for film in films),
        start_s=median(s["segment"]["frames_at_s"][0] for s in stages),
    )


def measured_gpu_fps() -> float:
    """Return the 1080p frames a second on the GPU that was measured, statistics alone."""
    ways = json.loads(GPU.read_text())["full HD on the GPU"]
    return float(ways["statistics alone"]["fps_under_way"])


@app.command()
def cost(
    price_vcpu: Annotated[float, typer.Option(help="Of a core for an hour.")] = 0.02,
    price_gpu: Annotated[float, typer.Option(help="Of a GPU with its host for an hour.")] = 3.0,
    gpu_fps: Annotated[
        float, typer.Option(help="1080p frames a second on it, statistics alone; an H200's.")
    ] = measured_gpu_fps(),
    price_gb: Annotated[float, typer.Option(help="Of a gigabyte kept for a month.")] = 0.02,
) -> None:
    """Print what hours of 1080p30 video take."""
    measured = read()
    stages, film_s = measured.stages_of_hour_s(), measured.film_of_hour_s()
    bare_s = film_s * measured.bare_share
    rows = {
        **stages,
        "all, each alone": sum(stages.values()),
        "all together": film_s,
        "without an overlay (`--no-film --stats`)": bare_s,
    }
    print("| stage | core seconds for an hour of 1080p30 |\n| --- | --- |")
    for name, seconds in rows.items():
        print(f"| {name} | {seconds:,.0f} |")
    frames = 3600 * FULL_HD_FPS
    bytes_a_frame = {
        "overlay": measured.out_bytes,
        "class maps (`--masks ids.mkv`)": MASK_BYTES,
        "statistics (`--stats`)": STATS_BYTES,
    }
    print("\n| what is kept | GB for an hour | 1,000 hours, a month | 1,000,000 hours, a month |")
    print("| --- | --- | --- | --- |")
    for name, count in bytes_a_frame.items():
        gb = frames * count / 1e9
        print(f"| {name} | {gb:.2f} | {gb * 1e3 * price_gb:,.0f} | {gb * 1e6 * price_gb:,.0f} |")
    prices = [seconds / 3600 * price_vcpu for seconds in (film_s, bare_s)]
    prices.append(FULL_HD_FPS / gpu_fps * price_gpu)
    print("\n| hours of video | cores, with overlay | cores, `--no-film` | GPUs, `--no-film` |")
    print("| --- | --- | --- | --- |")
    for hours in (1_000, 1_000_000):
        print(f"| {hours:,} |", " | ".join(f"{hours * price:,.0f}" for price in prices), "|")


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
    """Seconds to a chunk's first frame."""
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
    machines: int = 200,
    films: Annotated[int, typer.Option(help="Videos of an hour.")] = 1000,
    cores: Annotated[int, typer.Option(help="Of a machine.")] = 2,
    away_s: Annotated[float, typer.Option(help="Until a lost machine is replaced.")] = 120.0,
) -> None:
    """Print what chunks of each length cost, and which are as good as the best."""
    measured = read()
    pace = measured.film_of_hour_s() / 3600 / cores
    usual = ModelConfig()
    around_s = warm_up_s(usual) + look_ahead_s(usual)
    cluster = Cluster(machines, films, pace, around_s, measured.start_s, losses_per_hour, away_s)
    print("| chunk | machine time over the least | with idle machines at the end |")
    print("| --- | --- | --- |")
    found = list(overheads(cluster))
    for chunk_s, spent, waited in found:
        print(f"| {chunk_s} s | {spent - 1:.1%} | {waited - 1:.1%} |")
    least = min(waited for _, _, waited in found)
    good = [f"{chunk_s} s" for chunk_s, _, waited in found if waited < least + AS_GOOD]
    print(f"\nas good as the best: {', '.join(good)}")


if __name__ == "__main__":
    app()
