"""Make the included models, measure them, and write what the documents say of them.

    python benchmarks/shipped.py make roads runs/a/best.safetensors runs/b/best.safetensors
    python benchmarks/shipped.py make roads weights/roads.safetensors --size 768x384
    python benchmarks/shipped.py measure roads
    python benchmarks/shipped.py tables

`make` writes every form of a model to `weights/`, `measure` a record of each to
`benchmarks/accuracy/`, and `tables` the tables in README and model cards, which are pure functions
of records and files. The first two need the data: CamVid, idd_lite and abroad, in one folder.
"""

import json
from collections.abc import Mapping, Sequence
from contextlib import closing
from dataclasses import dataclass, replace
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Annotated, Any

import typer
from marks import write

from roadseg.backends.runtimes import Backend, open_backend
from roadseg.backends.weights import DEFAULT_MODEL, SHIPPED_MODELS, shipped_model
from roadseg.cli.options import parse_size
from roadseg.data.source import DataSource
from roadseg.files import replacing, sha256_of
from roadseg.measure.evaluate import evaluate, label_space

ROOT = Path(__file__).parent.parent
WEIGHTS = ROOT / "weights"
RECORDS = Path(__file__).parent / "accuracy"
README, CARD = ROOT / "README.md", WEIGHTS / "README.md"
CAMVID = "CamVid"
Data = Annotated[Path, typer.Option(help="Folder with CamVid, idd_lite and abroad.")]
Names = Annotated[list[str] | None, typer.Argument(help="Models; all unless they are named.")]
Size = Annotated[
    str | None, typer.Option(help="Network input that it is measured for; that of its training.")
]
USUAL_DATA = ROOT.parent / "shared" / "data"
app = typer.Typer(add_completion=False)


@dataclass(frozen=True, kw_only=True)
class Pictures:
    """Labelled pictures on which the models are compared."""

    what: str
    """What they show."""
    source: str
    """Where they lie in the folder of the data, as `roadseg evaluate --data` takes it."""
    split: str
    """Their split."""
    figures: Mapping[str, tuple[str, ...]]
    """What is told of them: names, each with its keys in a record."""


MEASURED = {
    "camvid": Pictures(
        what="CamVid val: a drive that training knows",
        source=CAMVID,
        split="val",
        figures={"mIoU": ("miou",), "boundary F1": ("mean_boundary_f1",)},
    ),
    "idd_lite": Pictures(
        what="idd_lite: drives in India, held out",
        source="idd_lite:idd_lite",
        split="val",
        figures={"road IoU": ("iou", "road"), "pixels within their group": ("pixel_accuracy",)},
    ),
    "cityscapes": Pictures(
        what="Cityscapes: Aachen, abroad",
        source="abroad/cityscapes",
        split="train",
        figures={"mIoU": ("miou",)},
    ),
    "comma10k": Pictures(
        what="comma10k: US highways, abroad",
        source="abroad/comma10k:comma10k",
        split="train",
        figures={"road IoU": ("iou", "road")},
    ),
}
"""The pictures by their name in the records."""


@app.command()
def make(name: str, checkpoints: list[Path], data: Data = USUAL_DATA, size: Size = None) -> None:
    """Write an included model in each of its forms.

    Weights are stored in half precision. Of several checkpoints the mean of the weights is taken
    (model soups, Wortsman et al., arXiv 2203.05482). The default comes in 8 bits and as a
    checkpoint too, the others in one form.
    """
    from roadseg.deploy.compile import CompileConfig, compile_model
    from roadseg.deploy.export import export_onnx
    from roadseg.models.checkpoint import save_model

    network, spec = _mean_of(checkpoints)
    if size:
        spec = replace(spec, size_hw=parse_size(size))
    exported = WEIGHTS / f"{name}.onnx"
    with TemporaryDirectory() as folder:
        checkpoint = (WEIGHTS if name == DEFAULT_MODEL else Path(folder)) / f"{name}.safetensors"
        save_model(checkpoint, network, spec, half=True)
        with closing(open_backend(checkpoint)) as model:
            metrics = {"val": _summary(model, data, MEASURED["camvid"])}
        save_model(checkpoint, network, replace(spec, metrics=metrics), half=True)
        export_onnx(checkpoint, exported, "half")
    if name == DEFAULT_MODEL:
        out = WEIGHTS / f"{name}.int8.onnx"
        found = compile_model(
            CompileConfig(
                model=exported,
                runtime="onnxruntime",
                data=data / CAMVID,
                out=out,
                portable=True,
            )
        )
        print(f"{out}: mIoU {found.parity.miou:.4f}, {found.parity.source_miou:.4f} before")


def _mean_of(checkpoints: Sequence[Path]) -> tuple[Any, Any]:
    """Return the network with the mean of the weights of some checkpoints, and its record."""
    from roadseg.models.checkpoint import load_model

    (network, spec), *others = map(load_model, checkpoints)
    if not others:
        return network, spec
    states = [network.state_dict(), *(other.state_dict() for other, _ in others)]
    mean = {
        key: sum(state[key].double() for state in states).div(len(states)).to(first.dtype)
        for key, first in states[0].items()
    }
    network.load_state_dict(mean)
    parts = [spec.training, *(other.training for _, other in others)]
    return network, replace(spec, training={"mean_of": parts})


@app.command()
def measure(names: Names = None, data: Data = USUAL_DATA) -> None:
    """Measure models on all pictures, in FP32 on ONNX Runtime, and keep a record of each."""
    for name in names or SHIPPED_MODELS:
        path = shipped_model(name=name)
        with closing(open_backend(path, "onnxruntime")) as model:
            found = {key: _summary(model, data, pictures) for key, pictures in MEASURED.items()}
        record = {"model": name, "sha256": sha256_of(path), "measured": found}
        with replacing(RECORDS / f"{name}.json") as temporary:
            temporary.write_text(json.dumps(record, indent=1) + "\n")
        print(f"{name}: {json.dumps({key: values['miou'] for key, values in found.items()})}")


def _summary(model: Backend, data: Path, pictures: Pictures) -> dict[str, Any]:
    """Return a model's scores on some pictures as JSON values, and how many there are."""
    dataset = DataSource.single(str(data / pictures.source)).open(pictures.split)
    dataset = dataset.in_terms_of(label_space(model.spec, dataset))
    return {"pictures": len(dataset), **evaluate(model, dataset).scores.summary()}


@app.command()
def tables() -> None:
    """Write the tables into README and model cards."""
    found = records()
    write(README, "accuracy", accuracy_table(found))
    write(CARD, "files", files_table())
    for name, record in found.items():
        write(CARD, f"figures of {name}", figures(record))


def records() -> dict[str, dict[str, Any]]:
    """Return the records of the models by name, the default first."""
    return {name: json.loads((RECORDS / f"{name}.json").read_text()) for name in SHIPPED_MODELS}


def accuracy_table(found: Mapping[str, Mapping[str, Any]]) -> str:
    """Return the figures of all models, a column each, as a Markdown table."""
    rows = [["pictures", "figure", *(f"`{name}`" for name in found)]]
    rows.append(["---"] * len(rows[0]))
    for key, pictures in MEASURED.items():
        measured = [record["measured"][key] for record in found.values()]
        what = f"{pictures.what} ({measured[0]['pictures']})"
        for figure, keys in pictures.figures.items():
            rows.append([what, figure, *(_percent(_at(values, keys)) for values in measured)])
    return _table(rows)


def figures(record: Mapping[str, Any]) -> str:
    """Return a model's figures on CamVid's val as sentences and a table of the classes."""
    val = record["measured"]["camvid"]
    rows = [["class", "IoU (%)", "precision (%)", "recall (%)", "boundary F1 (%)"], ["---"] * 5]
    by_class = [val[metric] for metric in ("iou", "precision", "recall", "boundary_f1")]
    for name in val["iou"]:
        rows.append([name, *(f"{100 * values[name]:.1f}" for values in by_class)])
    summary = (
        f"**{100 * val['miou']:.1f} % mIoU**, {100 * val['pixel_accuracy']:.1f} % of pixels "
        f"right, cross entropy {val['cross_entropy']:.3f}, boundary F1 "
        f"{100 * val['mean_boundary_f1']:.1f} %, calibration error "
        f"{100 * val['calibration_error']:.1f} %.\n"
    )
    return f"{summary}{_in_8_bits(record['model'])}\n{_table(rows)}"


def _in_8_bits(name: str) -> str:
    """Return what was found of a model in 8 bits, if it is included."""
    report = shipped_model("int8", name).with_suffix(".onnx.json")
    if not report.is_file():
        return ""
    built = json.loads(report.read_text())
    parity, layers = built["parity"], built["layers"]
    return (
        f"\nIn 8 bits it keeps **{100 * parity['miou']:.1f} % mIoU** and decides alike in "
        f"{100 * parity['agreement']:.1f} % of pixels; {layers['int8']} of its "
        f"{sum(layers.values())} convolutions are executed in 8 bits.\n"
    )


def files_table() -> str:
    """Return the files in `weights/` with their sizes and digests as a Markdown table."""
    rows = [["file", "bytes", "sha256", "source", "licence"], ["---"] * 5]
    for path in sorted(path for path in WEIGHTS.iterdir() if path != CARD):
        source, licence = next(told for suffix, told in ORIGINS.items() if path.match(f"*{suffix}"))
        rows.append([path.name, str(path.stat().st_size), sha256_of(path), source, licence])
    return _table(rows)


RESEARCH = "research use, see below"
ORIGINS = {
    ".int8.onnx": ("`roadseg compile`, see below", RESEARCH),
    ".int8.onnx.json": ("what that found", "MIT"),
    ".onnx": ("`roadseg export --store half` of what `roadseg train` gave, see below", RESEARCH),
    ".safetensors": ("`roadseg train`, see below; in half precision", RESEARCH),
    ".curves.png": ("the run's curves, drawn from its log", "MIT"),
}
"""Source and licence of a file in `weights/` by the end of its name."""


def _at(values: Any, keys: Sequence[str]) -> float:
    """Return the metric that lies behind some keys."""
    for key in keys:
        values = values[key]
    return float(values)


def _percent(share: float) -> str:
    return f"{100 * share:.1f} %"


def _table(rows: Sequence[Sequence[str]]) -> str:
    return "".join(f"| {' | '.join(row)} |\n" for row in rows)


if __name__ == "__main__":
    app()
