"""The included models: what is said of them, held against their files and measured."""

import json
import shutil
import subprocess
from contextlib import closing

import pytest
from conftest import CAMVID, ROOT, script

from roadseg.backends.runtimes import open_backend, stated_spec
from roadseg.backends.weights import DEFAULT_MODEL, SHIPPED_MODELS, shipped_model
from roadseg.data.folder import FolderDataset
from roadseg.files import sha256_of
from roadseg.measure.evaluate import evaluate

marks, shipped = script("marks"), script("shipped")
RECORDS = shipped.records()
LOG = ROOT / "benchmarks" / "experiments" / "8-longer.json"
MOST_TRACKED_BYTES = 39 << 20
"""What has to travel to a machine without a network, with packages that lack there, fits 64 MiB."""


def test_tables_in_the_documents_are_those_of_the_records() -> None:
    shown = {"accuracy": marks.split(shipped.README, "accuracy")[1]}
    assert shown["accuracy"] == shipped.accuracy_table(RECORDS)
    assert marks.split(shipped.CARD, "files")[1] == shipped.files_table()
    for name, record in RECORDS.items():
        assert marks.split(shipped.CARD, f"figures of {name}")[1] == shipped.figures(record)


@pytest.mark.parametrize("name", SHIPPED_MODELS)
def test_records_are_of_the_included_files(name) -> None:
    path, record = shipped_model(name=name), RECORDS[name]
    assert record["sha256"] == sha256_of(path)
    stated = stated_spec(path).metrics["val"]
    for figure in ("miou", "mean_boundary_f1", "cross_entropy"):
        assert stated[figure] == pytest.approx(record["measured"]["camvid"][figure], abs=0.002)


def test_8_bits_are_of_the_default_and_lose_little() -> None:
    path = shipped_model("int8")
    report = json.loads(path.with_suffix(".onnx.json").read_text())
    assert report["sha256"] == sha256_of(path)
    assert report["build"]["source_sha256"] == sha256_of(shipped_model())
    assert report["parity"]["miou"] == pytest.approx(report["parity"]["source_miou"], abs=0.005)


def test_unet_lite_is_the_best_of_its_log() -> None:
    spec = stated_spec(shipped_model(name="unet-lite"))
    log = json.loads(LOG.read_text())["log"]
    best = max((entry for entry in log if "val" in entry), key=lambda entry: entry["val"]["miou"])
    assert spec.training["step"] == best["step"]
    assert spec.metrics["val"]["miou"] == pytest.approx(best["val"]["miou"], abs=0.002)


def test_the_default_does_better_where_neither_was_trained() -> None:
    default, reference = (RECORDS[name]["measured"] for name in (DEFAULT_MODEL, "unet-lite"))
    assert default["cityscapes"]["miou"] > reference["cityscapes"]["miou"]
    assert default["comma10k"]["iou"]["road"] > reference["comma10k"]["iou"]["road"]
    assert default["idd_lite"]["pixel_accuracy"] > reference["idd_lite"]["pixel_accuracy"]


@pytest.mark.skipif(not CAMVID.is_dir(), reason="CamVid is not beside the project")
@pytest.mark.parametrize("name", ["roads", "unet-lite"])  # the paper's takes four times as long
def test_weights_reach_on_val_what_they_claim(name) -> None:
    with closing(open_backend(shipped_model(name=name))) as backend:
        scores = evaluate(backend, FolderDataset.open(CAMVID, "val")).scores
    claimed = RECORDS[name]["measured"]["camvid"]
    assert scores.miou >= 0.75
    assert scores.miou == pytest.approx(claimed["miou"], abs=0.001)
    assert scores.calibration.cross_entropy == pytest.approx(claimed["cross_entropy"], abs=0.001)


@pytest.mark.skipif(not (ROOT / ".git").exists(), reason="this is no checkout")
def test_what_is_tracked_stays_small_enough_to_travel() -> None:
    git = shutil.which("git") or pytest.skip("git is not installed")
    listed = subprocess.run([git, "ls-files", "-z"], cwd=ROOT, capture_output=True, check=True)
    paths = [ROOT / name for name in listed.stdout.decode().split("\0") if name]
    # A link takes no more than its own bytes.
    assert sum(path.lstat().st_size for path in paths if path.is_file()) < MOST_TRACKED_BYTES
