"""Keep training experiments as JSON, and draw them: a table for the documents, a page of curves.

    python benchmarks/experiments.py add dice runs/dice --finding "Faster on val, equal held out."
    python benchmarks/experiments.py table
    python benchmarks/experiments.py page experiments.html

A record holds the command, the settings, the log and the finding; table and page are pure functions
of the records in `benchmarks/experiments/`, and for the speed of models of the runs of
`roadseg bench` in `benchmarks/results/`.
"""

import json
import platform
from collections.abc import Mapping, Sequence
from dataclasses import replace
from html import escape
from pathlib import Path
from typing import Annotated, Any

import marks
import plotly.graph_objects as go
import typer

from roadseg.data.source import DataSource
from roadseg.files import replacing
from roadseg.measure.results import Speed, speeds_of
from roadseg.pages.layout import Plot, page_html, plots_html, scaled, section_html
from roadseg.train.config import TrainConfig
from roadseg.train.curves_page import CURVES

FOLDER = Path(__file__).parent / "experiments"
RESULTS = Path(__file__).parent / "results"
PAGE = Path(__file__).parent.parent / "docs" / "measured.md"
MARK = "experiments"
"""Name of the table in the documents."""
MAIN_DATA = "CamVid"
OF_THE_MACHINE = ("workers",)
"""Settings on which no result depends."""
LINES = [
    {"color": color, "dash": dash}
    for dash in ("solid", "dot", "dash")
    for color in (
        *("#2a78b5", "#d1495b", "#2a9d8f", "#c58b2a", "#7a6fc2"),
        *("#8a8f3c", "#b06ab3", "#8a949e", "#c46a3a", "#4aa3c7"),
    )
]
"""Lines that can be told from each other, and are legible on light and on dark."""
app = typer.Typer(add_completion=False)


@app.command()
def add(
    name: str,
    run: Annotated[Path, typer.Argument(help="Folder of the run.")],
    finding: Annotated[str, typer.Option(help="One line: what was learnt.")],
) -> None:
    """Keep a run's settings and log under a name."""
    write(record_of(name, run, finding, "CPU"), FOLDER)


def record_of(name: str, run: Path, finding: str, processor: str) -> dict[str, Any]:
    """Return the record of the run in a folder, as far as it came on a CPU or GPU."""
    settings = TrainConfig.from_dict(json.loads((run / "config.json").read_text())).to_dict()
    records = [json.loads(line) for line in (run / "metrics.jsonl").read_text().splitlines()]
    settings["data"] = [_short(text) for text in settings["data"]]
    del settings["out"]
    return {
        "name": name,
        "command": command(name, settings),
        "finding": finding,
        "epochs_done": records[-1]["epoch"],
        "parameters": parameter_count(settings),
        "settings": settings,
        "machine": f"{platform.machine()}, {platform.system()}, {processor}",
        "log": _rounded(records),
    }


def _rounded(values: Any) -> Any:
    """Return JSON values with six digits of each number, which is more than a run's luck leaves."""
    if isinstance(values, dict):
        return {key: _rounded(value) for key, value in values.items()}
    if isinstance(values, list):
        return [_rounded(value) for value in values]
    return float(f"{values:.6g}") if isinstance(values, float) else values


@app.command()
def table() -> None:
    """Write the table of all records into the documents, and their commands by today's defaults."""
    for record in records():
        write({**record, "command": command(record["name"], record["settings"])}, FOLDER)
    marks.write(PAGE, MARK, markdown(records()))


def parameter_count(settings: dict[str, Any]) -> int:
    """Return how many weights the network has that a run trains on CamVid."""
    from roadseg.models.architectures import build_model

    config = TrainConfig.from_dict({**settings, "data": [MAIN_DATA], "out": "runs"})
    return sum(parameter.numel() for parameter in build_model(config.spec).parameters())


def write(record: dict[str, Any], folder: Path) -> None:
    """Write a record into a folder of them."""
    with replacing(folder / f"{record['name']}.json") as temporary:
        temporary.write_text(json.dumps(record) + "\n")


@app.command()
def page(out: Path) -> None:
    """Write a page that compares the curves of all records, and the speeds of models."""
    with replacing(out) as temporary:
        temporary.write_text(experiments_page(records(), speeds()))


def speeds() -> dict[str, list[Speed]]:
    """Return the speeds of models in every recorded run of `roadseg bench`."""
    found = {}
    for path in sorted(RESULTS.glob("*.json")):
        record = json.loads(path.read_text())
        machine = record["machine"]
        run = f"{path.stem}, {machine['cpu']}, {machine['cores']} cores, {record['film']['name']}"
        found[run] = speeds_of(record)
    return found


def records() -> list[dict[str, Any]]:
    """Return the records in the order of the numbers that their names begin with."""
    found = [json.loads(path.read_text()) for path in FOLDER.glob("*.json")]
    return sorted(found, key=_place)


def _place(record: dict[str, Any]) -> tuple[int, str]:
    number, _, name = record["name"].partition("-")
    return (int(number), name) if number.isdecimal() else (0, record["name"])


def command(name: str, settings: dict[str, Any]) -> str:
    """Return the command line that has these settings."""
    usual = _usual(settings)
    data = settings.get("data", [MAIN_DATA])  # old records are of before there could be several
    parts = ["roadseg train", *(f"--data {text}" for text in data), f"--out runs/{name}"]
    for key, value in settings.items():
        if key in ("data", *OF_THE_MACHINE):
            continue
        if key == "augment":
            changed = {k: v for k, v in value.items() if v != usual[key][k]}
            parts += [f"--augment {k}={_text(v)}" for k, v in changed.items()]
        elif value != usual[key]:
            parts.append(_flag(key, value))
    return " ".join(parts)


def _flag(key: str, value: Any) -> str:
    flag = "--" + key.removesuffix("_hw").replace("_", "-")
    if isinstance(value, bool):
        return flag if value else flag.replace("--", "--no-", 1)
    return f"{flag} {'x'.join(map(str, value[::-1])) if key.endswith('_hw') else value}"


def _usual(settings: dict[str, Any]) -> dict[str, Any]:
    """Return the settings that the command has without flags, for this architecture and start."""
    paths = {"data": (MAIN_DATA,), "out": Path("runs")}
    start = settings.get("start_from")  # old records are of before there was one
    arch = TrainConfig(**paths, arch=settings["arch"], start_from=start and Path(start))
    strided = replace(arch, output_stride=settings["output_stride"])
    return {
        **TrainConfig(**paths).to_dict(),
        "output_stride": arch.spec.output_stride,
        "width": strided.spec.width,
        "pretrained": arch.starts_from_imagenet,
    }


def _short(text: str) -> str:
    """Return the name of a data set without the folders that lead to it."""
    source = DataSource.parse(text)
    return text.replace(str(source.root), source.name, 1)


def _text(value: Any) -> str:
    return ",".join(map(str, value)) if isinstance(value, list) else str(value)


def markdown(found: list[dict[str, Any]]) -> str:
    """Return the records as a Markdown table: what they reached at their last validation."""
    lines = [
        "| experiment | parameters | epochs | val mIoU (%) | held-out mIoU (%) | finding |",
        "| --- | --- | --- | --- | --- | --- |",
    ]
    for record in found:
        last = [entry for entry in record["log"] if "val" in entry][-1]
        sequence = record["settings"]["holdout_sequence"]
        held = {
            sequence if split == "holdout" else split: figures["miou"]
            for split, figures in last.items()
            if isinstance(figures, dict) and split not in ("train", "val")
        }
        planned = record["settings"]["epochs"]
        cells = (
            record["name"],
            f"{record['parameters'] / 1e6:.1f} M" if record["parameters"] else "",
            str(planned) if last["epoch"] == planned else f"{last['epoch']} of {planned}",
            _percent(last["val"]["miou"]),
            ", ".join(f"{name}: {_percent(miou)}" for name, miou in held.items()),
            record["finding"],
        )
        lines.append(f"| {' | '.join(cells)} |")
    return "\n".join(lines) + "\n"


def _percent(miou: float | None) -> str:
    return "absent" if miou is None else f"{100 * miou:.1f}"


def experiments_page(
    experiments: Sequence[Mapping[str, Any]], speeds: Mapping[str, Sequence[Speed]] | None = None
) -> str:
    """Return the curves of several runs in the same figures as HTML, and how fast models are.

    Args:
        experiments: Each with its "name", "command", "finding" and "log".
        speeds: Speeds of models by the run of measurements that they are of.
    """
    plots = [_last_measured(experiments)]
    plots += [
        _compared(experiments, split, title)
        for split, title in (
            ("val", "mIoU on val (%)"),
            ("holdout", "mIoU on the held-out sequence (%)"),
        )
    ]
    listed = "".join(
        f"<li><b>{escape(e['name'])}</b>: {escape(e['finding'])}<br>"
        f"<code>{escape(e['command'])}</code></li>"
        for e in experiments
    )
    shown = speeds or {}
    plots += [_accuracy_by_speed(shown)] if shown else []
    tables = "".join(map(_speed_table, shown, shown.values()))
    findings = section_html("Findings", f"<ul>{listed}</ul>")
    return page_html("Experiments", plots_html(plots) + findings + tables)


def _accuracy_by_speed(speeds: Mapping[str, Sequence[Speed]]) -> Plot:
    """Draw the models of each run of measurements: to the right is faster, higher is better."""
    figure = go.Figure()
    for run, measured in speeds.items():
        for speed in measured:
            if speed.miou is not None:
                figure.add_scatter(
                    x=[speed.fps],
                    y=[100 * speed.miou],
                    name=speed.name,
                    mode="markers",
                    marker_size=11,
                    hovertemplate=f"{run}<br>{speed.name}<br>%{{x:.1f}} frames a second<br>half "
                    f"within {speed.p50_ms:.1f} ms, 95 % within {speed.p95_ms:.1f} ms<br>mIoU "
                    "%{y:.1f} %<extra></extra>",
                )
    figure.update_xaxes(rangemode="tozero")
    return Plot(title="mIoU on val (%) by frames a second", figure=figure, height_px=500)


def _speed_table(run: str, speeds: Sequence[Speed]) -> str:
    """Return the speeds of a run of measurements as HTML."""
    rows = "".join(
        f"<tr><td>{escape(speed.name)}</td><td>{speed.fps:.1f}</td><td>{speed.p50_ms:.1f}</td>"
        f"<td>{speed.p95_ms:.1f}</td><td>{'' if speed.miou is None else f'{100 * speed.miou:.1f}'}"
        "</td></tr>"
        for speed in speeds
    )
    heads = ("model alone", "frames a second", "latency p50, ms", "p95, ms", "mIoU on val, %")
    head = "".join(f"<th>{head}</th>" for head in heads)
    return section_html(f"Speed: {run}", f"<table><tr>{head}</tr>{rows}</table>")


def _compared(experiments: Sequence[Mapping[str, Any]], split: str, title: str) -> Plot:
    """Draw the mIoU of every run on one split by epoch."""
    figure = go.Figure()
    for number, experiment in enumerate(experiments):
        measured = [record for record in experiment["log"] if split in record]
        if measured:
            figure.add_scatter(
                x=[record["epoch"] for record in measured],
                y=[scaled(record[split]["miou"], 100) for record in measured],
                name=experiment["name"],
                mode="lines+markers",
                line=LINES[number % len(LINES)],
            )
    figure.update_xaxes(title_text="epoch")
    return Plot(title=title, figure=figure, height_px=_height_px(experiments))


def _height_px(experiments: Sequence[Mapping[str, Any]]) -> int:
    """Return the height of a plot with a line of text for each run."""
    return 150 + 20 * len(experiments)


def _last_measured(experiments: Sequence[Mapping[str, Any]]) -> Plot:
    """Draw what each run had reached when it was last measured, a row for each."""
    figure = go.Figure()
    for split in ("val", "holdout"):
        name, color = CURVES[split]
        last = {}
        for experiment in experiments:
            measured = [record[split]["miou"] for record in experiment["log"] if split in record]
            if measured:
                last[experiment["name"]] = scaled(measured[-1], 100)
        figure.add_scatter(
            x=list(last.values()),
            y=list(last),
            name=name,
            mode="markers",
            marker={"color": color, "size": 9},
        )
    names = [experiment["name"] for experiment in experiments]
    figure.update_yaxes(categoryarray=names, autorange="reversed", automargin=True, dtick=1)
    title = "mIoU where each was last measured (%)"
    return Plot(title=title, figure=figure, height_px=_height_px(experiments))


if __name__ == "__main__":
    app()
