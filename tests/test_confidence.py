"""How sure labels are, and what is left out as too unsure."""

import json
from dataclasses import replace

import numpy as np
import pytest
from brightness_backend import BrightnessBackend
from conftest import SAMPLE, WEIGHTS, script
from moving import FlickeringBackend, panning

import roadseg
from roadseg.errors import ConfigError
from roadseg.infer.config import InferConfig
from roadseg.infer.offline import infer
from roadseg.infer.steps import labelling
from roadseg.paint.config import Redaction
from roadseg.segmentation.confidence import Confidence
from roadseg.segmentation.config import ModelConfig
from roadseg.segmentation.darkness import trust
from roadseg.segmentation.label import label, warm_up_s
from roadseg.segmentation.maps import Maps
from roadseg.segmentation.placement import Placement
from roadseg.segmentation.predict import predict_alone
from roadseg.spec import UNSURE, AdoptionRecord, ModelSpec
from roadseg.video.frame import Frame
from roadseg.video.picture import ColorSpace, Picture
from roadseg.video.read.upright import picture_of

GRID_HW = (80, 120)
PLACEMENT = Placement.fit((320, 480), (320, 480))
SKY, ROAD, CAR = 0, 3, 8


def logits_of(ids: np.ndarray, probability: np.ndarray) -> np.ndarray:
    """Logits (C, h, w) of which the classes have these probabilities, and all others the rest."""
    logits = np.zeros((11, *ids.shape), np.float32)
    rest = (1 - probability) / 10
    np.put_along_axis(logits, ids[None].astype(int), np.log(probability / rest)[None], axis=0)
    return logits


def found(ids: np.ndarray, probability: np.ndarray, level: int | np.ndarray = 128) -> np.ndarray:
    """Confidence (h, w) in a picture of a level of grey, or of some (H, W)."""
    picture = picture_of(np.full((320, 480, 3), np.expand_dims(level, -1), np.uint8))
    return Confidence.of(logits_of(ids, probability), PLACEMENT, picture).plane[0] / 255


def test_confidence_is_the_mean_over_the_cells_around_of_the_same_class() -> None:
    rng = np.random.default_rng(0)
    ids = rng.integers(0, 3, GRID_HW)
    probability = rng.uniform(0.3, 0.99, GRID_HW)
    plane = found(ids, probability)
    for y, x in rng.integers(2, 78, (50, 2)):
        around = np.s_[y - 2 : y + 3, x - 2 : x + 3]
        same = ids[around] == ids[y, x]
        assert plane[y, x] == pytest.approx(probability[around][same].mean(), abs=0.003)


def test_doubt_along_an_edge_is_no_doubt_and_a_drop_on_the_glass_is() -> None:
    ids, probability = np.full(GRID_HW, SKY), np.full(GRID_HW, 0.97)
    ids[40:] = ROAD
    probability[39:41] = 0.5  # where two classes meet
    ids[20:22, 50:56], probability[20:22, 50:56] = CAR, 0.5  # a drop
    unsure = found(ids, probability) < 0.7
    assert unsure[20:22, 50:56].all()
    unsure[20:22, 50:56] = False
    assert not unsure.any()


def test_in_a_large_part_that_is_black_only_what_is_nearly_certain_stands() -> None:
    level = np.full((320, 480), 60)
    level[:160] = np.random.default_rng(0).integers(0, 8, (160, 480))  # a night's sky, with noise
    level[240:256, 240:256] = 0  # a tyre
    ids = np.full(GRID_HW, ROAD)
    likely = found(ids, np.full(GRID_HW, 0.85), level) < ModelConfig.min_confidence
    assert likely[:38].all() and not likely[42:].any()
    assert (found(ids, np.full(GRID_HW, 0.97), level) > ModelConfig.min_confidence).all()


def test_black_is_black_in_either_range_of_brightness() -> None:
    luma = np.full((216, 384), 20, np.uint8)
    assert trust(luma, ColorSpace(full_range=False)) is not None
    assert trust(luma, ColorSpace(full_range=True)) is None


class HesitantBackend(FlickeringBackend):
    """Sure of the left half, unsure of the right one."""

    def _decide(self, frames: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
        class_map, logits = super()._decide(frames)
        logits[:, 0, :, logits.shape[3] // 2 :] = 0.2
        return class_map, logits


@pytest.mark.parametrize("steady", [0.0, 0.6])
def test_class_map_has_the_strongest_class_and_what_is_shown_does_not(steady) -> None:
    config = ModelConfig(steady=steady, every=1)
    every, sure = (
        next(label(panning([0]), HesitantBackend(), replace(config, min_confidence=least)))
        for least in (0, 0.7)
    )
    np.testing.assert_array_equal(sure.class_map, every.class_map)
    assert every.shown is every.labels and every.confidence is None
    unsure = sure.shown == UNSURE
    np.testing.assert_array_equal(sure.shown[~unsure], every.class_map[~unsure])
    assert unsure[:, 200:].all() and not unsure[:, :180].any()


def test_strongest_class_is_dropped_where_only_what_is_shown_is_wanted() -> None:
    both, shown = (
        next(predict_alone(panning([0]), HesitantBackend(), ModelConfig(), maps))
        for maps in (Maps.FULL, Maps.FULL | Maps.SHOWN)
    )
    assert both.sure_labels is not None and shown.sure_labels is None
    np.testing.assert_array_equal(shown.labels, both.shown)
    assert shown.nbytes == both.nbytes - both.labels.nbytes


def test_statistics_leave_out_the_same_whatever_size_they_are_counted_at() -> None:
    frames = [Frame.still(Picture.from_rgb(np.zeros((432, 768, 3), np.uint8)))]
    shares = []
    for maps in (Maps.FULL, Maps.FULL | Maps.SHOWN, Maps.FULL | Maps.COARSE, Maps.COARSE):
        (item,) = predict_alone(iter(frames), HesitantBackend(), ModelConfig(), maps)
        counted = item.shown if item.coarse_map is None else item.coarse_map
        shares.append(np.mean(counted == UNSURE))
    assert shares == pytest.approx([0.5] * 4, abs=0.02)


def test_what_is_left_out_does_not_flicker_with_the_network() -> None:
    class Doubting(FlickeringBackend):
        """Unsure of everything in single frames."""

        def _decide(self, frames: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
            class_map, logits = super()._decide(frames)
            return class_map, logits * (0.2 if self.calls in (4, 8) else 1.5)

    def shown(steady: float) -> np.ndarray:
        config = ModelConfig(steady=steady, every=1)
        return np.stack([i.shown for i in label(panning([0] * 10), Doubting(), config)])

    assert (shown(0.0) == UNSURE).mean(axis=(1, 2)).max() > 0.9
    assert not (shown(0.6) == UNSURE).any()


def test_part_of_a_video_begins_early_enough_for_the_confidence_too() -> None:
    config = ModelConfig(steady=0.3)
    assert warm_up_s(replace(config, min_confidence=0)) == 1.0
    assert 0.8 ** (15 * warm_up_s(config)) == pytest.approx(1 / 64)
    assert warm_up_s(ModelConfig(steady=0)) == 0


def test_of_a_model_that_gives_ids_everything_is_shown() -> None:
    record = AdoptionRecord(
        source="a.onnx",
        source_sha256="",
        layout="nchw",
        channels="rgb",
        mean=(0, 0, 0),
        std=(1, 1, 1),
        output="ids",
        output_kind="ids",
        side_multiple=32,
        fixed_size=False,
    )
    backend = BrightnessBackend(ModelSpec(arch="adopted", width=0, adopted=record))
    for config in (ModelConfig(steady=0, keeps_confidence=True), ModelConfig(every=1)):
        (item,) = label(panning([0]), backend, config)
        assert item.confidence is None and item.shown is item.labels


def test_redacted_video_does_not_ask_how_sure_the_network_is(tmp_path) -> None:
    config = InferConfig(source=SAMPLE, out=tmp_path / "o.mp4", redaction=Redaction())
    assert labelling(config).keys() == labelling(replace(config, min_confidence=0)).keys()
    assert "labels" not in labelling(config)  # where the confidence would come from


def test_infer_writes_the_strongest_classes_and_counts_the_sure_ones(tmp_path) -> None:
    settings = {
        "source": SAMPLE,
        "weights": WEIGHTS,
        "size_hw": (96, 160),
        "end_s": 0.2,
        "every": 1,
    }
    records = {}
    for least in (0.0, 0.9):
        stats = tmp_path / f"{least}.jsonl"
        masks = tmp_path / str(least)
        infer(InferConfig(out=None, masks=masks, stats=stats, min_confidence=least, **settings))
        records[least] = [json.loads(line) for line in stats.read_text().splitlines()]
    masks = [sorted((tmp_path / str(least)).iterdir()) for least in records]
    assert [p.read_bytes() for p in masks[0]] == [p.read_bytes() for p in masks[1]]
    for every, sure in zip(*records.values(), strict=True):
        assert every["unsure"] == 0 < sure["unsure"] < 0.6
        left_out = sum(every["shares"].values()) - sum(sure["shares"].values())
        assert left_out == pytest.approx(sure["unsure"], abs=1e-4)


def test_python_says_how_sure_it_is() -> None:
    picture = np.random.default_rng(0).integers(0, 255, (120, 200, 3)).astype(np.uint8)
    result = roadseg.segment(picture, weights=WEIGHTS, size_hw=(96, 160), min_confidence=0.9)
    assert result.confidence.shape == (120, 200) and result.confidence.dtype == np.float32
    unsure = result.confidence < 0.9
    assert sum(result.class_shares.values()) == pytest.approx(1 - unsure.mean(), abs=0.001)
    untouched = result.overlay(legend=False)[unsure] == result.picture[unsure]
    assert unsure.any() and untouched.mean() > 0.95
    painted = roadseg.segment(picture, weights=WEIGHTS, size_hw=(96, 160), min_confidence=0)
    np.testing.assert_array_equal(painted.confidence, result.confidence)
    assert sum(painted.class_shares.values()) == pytest.approx(1)
    with pytest.raises(ConfigError, match="min_confidence is 2; it must be from 0 to below 1"):
        roadseg.segment(picture, weights=WEIGHTS, min_confidence=2)


def test_least_confidence_is_the_one_chosen_by_the_record() -> None:
    unsure = script("unsure")
    record = json.loads(unsure.RECORD.read_text())
    assert unsure.chosen(record) == ModelConfig.min_confidence
    assert unsure.admissible(record)
