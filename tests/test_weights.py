"""What the committed weights are said to reach; measured where CamVid is at hand."""

import json
from contextlib import closing

import pytest
from conftest import CAMVID, ROOT, WEIGHTS

from roadseg.backends.runtimes import open_backend
from roadseg.data.folder import FolderDataset
from roadseg.measure.evaluate import evaluate

CARD = (ROOT / "weights" / "README.md").read_text()
LOG = ROOT / "weights" / "unet-lite.metrics.jsonl"


def test_record_log_and_card_agree() -> None:
    with closing(open_backend(WEIGHTS)) as backend:
        spec = backend.spec
    records = [json.loads(line) for line in LOG.read_text().splitlines()]
    best = max((r for r in records if "val" in r), key=lambda r: r["val"]["miou"])
    assert spec.metrics["val"] == best["val"]
    assert spec.training["step"] == best["step"]
    for name, iou in best["val"]["iou"].items():
        assert f"| {name} | {iou * 100:.1f} |" in CARD
    assert f"{best['val']['miou'] * 100:.1f} % mIoU" in CARD
    assert f"{best['val']['miou'] * 100:.1f} % mIoU" in (ROOT / "README.md").read_text()


@pytest.mark.skipif(not CAMVID.is_dir(), reason="CamVid is not beside the project")
def test_weights_reach_on_val_what_they_claim() -> None:
    with closing(open_backend(WEIGHTS)) as backend:
        scores = evaluate(backend, FolderDataset.open(CAMVID, "val")).scores
        claimed = backend.spec.metrics["val"]
    assert scores.miou >= 0.75
    assert scores.miou == pytest.approx(claimed["miou"], abs=0.001)
    # The claim is from when evaluate resized pictures in RGB. They go the way of a film's frames
    # now, through YUV with a quarter of the colour samples, which cost 0.0028.
    assert scores.confidence.cross_entropy == pytest.approx(claimed["cross_entropy"], abs=0.004)
