"""Train a series of models on this machine's GPU, several side by side, and keep their records.

    python benchmarks/gpu_train.py benchmarks/series.toml --data-root DATA --at-once 4

A series is a TOML file with a table for each run: settings of `roadseg train`, and a `finding`. Its
data sets are folders in `--data-root`. Every step runs in a process of its own with a limit on its
time, prints a line, and adds what it found to `RUNS/series.json`. A run is kept as `experiments.py`
does, as far as it came; the same command goes on with runs that are not done. Needs PyTorch, PyAV
and Plotly, and no network. Without a GPU, tiny runs on made-up pictures show that all of it works.
"""

import json
import sys
import time
import tomllib
from collections.abc import Mapping
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from pathlib import Path
from typing import Annotated, Any

import cv2
import experiments
import numpy as np
import typer
from gpu_check import ended, last_words

from roadseg.backends.machine import core_count
from roadseg.data.source import DataSource
from roadseg.files import replacing
from roadseg.train.config import TrainConfig

Found = dict[str, Any]
Settings = Mapping[str, Any]

TINY = {
    "epochs": 1,
    "batch_size": 12,
    "crop_hw": [64, 64],
    "size_hw": [64, 96],
    "eval_every": 1,
    "pictures": 1,
    "pretrained": False,
}
"""Settings of a run that is done in seconds on a CPU."""
NOT_TINY = ("start_from", "holdout_sequence", "accumulate", "workers")
"""Settings that tiny runs leave out, as they ask for files, data or cores."""
STEP_LIMIT_S = 300.0
"""Limit on the steps that are no runs."""
LOADER_S = 2.0
"""Seconds of the CPU over which the loader is measured."""
MACHINE = "machine"
LOADER = "loader"
app = typer.Typer(add_completion=False)


@dataclass(frozen=True)
class Series:
    """Runs by name, and where they are made."""

    runs: Mapping[str, Settings]
    """Settings of each run, with its finding."""
    out: Path
    """Folder of all runs."""
    records: Path
    """Folder of the records."""
    limit_s: float
    """Limit on the time of a run."""

    def settings_path(self, name: str) -> Path:
        """Return the file with a run's settings, as `roadseg train --config` takes it."""
        return self.out / f"{name}.settings.json"

    def write_settings(self) -> None:
        """Write the settings of all runs."""
        self.out.mkdir(parents=True, exist_ok=True)
        for name, run in self.runs.items():
            settings = {key: value for key, value in run.items() if key != "finding"}
            settings["out"] = str(self.out / name)
            with replacing(self.settings_path(name)) as temporary:
                temporary.write_text(json.dumps(settings))


@app.command()
def series(
    path: Annotated[Path, typer.Argument(help="The series.", metavar="SERIES.toml")],
    data_root: Annotated[Path, typer.Option(help="Folder that the data sets are in.")] = Path(),
    out: Annotated[Path, typer.Option(help="Folder of the runs.")] = Path("runs"),
    at_once: Annotated[int, typer.Option(help="Runs side by side on the GPU.")] = 3,
    limit_s: Annotated[float, typer.Option(help="Seconds that a run may take.")] = 540,
    records: Annotated[Path, typer.Option(help="Folder of the records.")] = experiments.FOLDER,
) -> None:
    """Train all runs of a series and keep their records."""
    runs = tomllib.loads(path.read_text())
    found = {MACHINE: run_apart([sys.executable, __file__, MACHINE], STEP_LIMIT_S)}
    if "failed" in found[MACHINE]:
        sys.exit(found[MACHINE]["failed"])
    if "gpu" in found[MACHINE]:
        runs = {name: placed(run, data_root, at_once) for name, run in runs.items()}
    else:
        runs = {name: tiny(run, out / "made-up") for name, run in runs.items()}
        records = out / "records"
    whole = Series(runs=runs, out=out, records=records, limit_s=limit_s)
    whole.write_settings()
    records.mkdir(parents=True, exist_ok=True)
    _tell(MACHINE, found, out)
    first = whole.settings_path(next(iter(runs)))
    found[LOADER] = run_apart([sys.executable, __file__, LOADER, str(first)], STEP_LIMIT_S)
    _tell(LOADER, found, out)
    with ThreadPoolExecutor(at_once) as pool:
        gpu = found[MACHINE].get("gpu", "CPU")
        waiting = {name: pool.submit(train_and_keep, whole, name, gpu) for name in runs}
        for name, result in waiting.items():
            found[name] = result.result()
            _tell(name, found, out)


@app.command()
def machine() -> None:
    """Print what is there, as JSON."""
    import gpu_check

    print(json.dumps(gpu_check.machine()))


@app.command()
def loader(settings: Path) -> None:
    """Print how many samples a core of this machine prepares, as JSON."""
    print(json.dumps(loader_speed(TrainConfig.from_dict(json.loads(settings.read_text())))))


def loader_speed(config: TrainConfig) -> Found:
    """Measure the samples that one core prepares in a second, from decoded pictures."""
    import torch

    from roadseg.train.loader import batches, keep_opencv_on_one_thread
    from roadseg.train.splits import TrainData

    torch.set_num_threads(1)
    keep_opencv_on_one_thread()
    data = TrainData.open(config)
    made = batches(data.mixture, data.sampling(config), epochs=10**6, first_step=0, workers=0)
    for _ in range(data.mixture.steps_per_epoch):  # reads every picture once
        next(made)
    samples, started_s = 0, time.process_time()
    while (taken_s := time.process_time() - started_s) < LOADER_S:
        samples += len(next(made)[0])
    rate = samples / taken_s
    return {"samples_a_core_second": rate, "samples_a_minute_of_16_cores": rate * 16 * 60}


def placed(run: Settings, root: Path, at_once: int) -> Settings:
    """Return the settings of a run with its data where they are, and its share of the cores."""
    workers = max(core_count() // at_once - 1, 1)
    return {"workers": workers, **run, "data": [_below(root, text) for text in run["data"]]}


def _below(root: Path, text: str) -> str:
    source = DataSource.parse(text)
    return text.replace(str(source.root), str(root / source.root), 1)


def tiny(run: Settings, folder: Path) -> Settings:
    """Return a run that ends in seconds, on made-up pictures in a folder."""
    make_up(folder)
    kept = {key: value for key, value in run.items() if key not in NOT_TINY}
    shares = [DataSource.parse(text).share for text in run["data"]]
    data = [str(folder) if share is None else f"{folder}={share:g}" for share in shares]
    return {**kept, **TINY, "data": data}


def make_up(folder: Path) -> None:
    """Write a few labelled pictures of coloured tiles."""
    rng = np.random.default_rng(0)
    colors = rng.integers(0, 256, (12, 3))
    for split, count in (("train", 8), ("val", 2)):
        for kind in (split, f"{split}annot"):
            (folder / kind).mkdir(parents=True, exist_ok=True)
        for number in range(count):
            label = np.kron(rng.integers(0, 12, (6, 8)), np.ones((16, 16), int))
            for kind, picture in ((split, colors[label]), (f"{split}annot", label)):
                _, data = cv2.imencode(".png", picture.astype(np.uint8))
                (folder / kind / f"a_{number}.png").write_bytes(data.tobytes())


def train_and_keep(series: Series, name: str, gpu: str) -> Found:
    """Train a run, from where it was left, and keep its record."""
    settings = str(series.settings_path(name))
    command = [sys.executable, "-m", "roadseg", "train", "--config", settings, "--quiet"]
    found = run_apart(command, series.limit_s)
    log = series.out / name / "metrics.jsonl"
    epochs = [json.loads(line) for line in log.read_text().splitlines()] if log.exists() else []
    if any("val" in epoch for epoch in epochs):
        record = experiments.record_of(name, series.out / name, series.runs[name]["finding"], gpu)
        experiments.write(record, series.records)
        measured = [epoch for epoch in epochs if "val" in epoch][-1]
        found |= {"epoch": measured["epoch"], "val_miou": measured["val"]["miou"]}
    return found


def run_apart(command: list[str], limit_s: float) -> Found:
    """Run a process; return the JSON that it prints, if any, and how it went."""
    started_s = time.monotonic()
    done = ended(command, limit_s)
    if done is None:
        return {"stopped": f"not done after {limit_s:g} s"}
    found: Found = json.loads(done.stdout) if done.stdout else {}
    if done.returncode:
        found["failed"] = last_words(done)
    return found | {"took_s": round(time.monotonic() - started_s, 1)}


def _tell(name: str, found: Mapping[str, Found], out: Path) -> None:
    """Print what a step found, and write all that is known."""
    print(f"{name}: {json.dumps(found[name])[:300]}", flush=True)
    with replacing(out / "series.json") as temporary:
        temporary.write_text(json.dumps(found, indent=2) + "\n")


if __name__ == "__main__":
    if len(sys.argv) > 1 and sys.argv[1] not in (MACHINE, LOADER):
        sys.argv.insert(1, "series")
    app()
