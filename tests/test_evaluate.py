"""Measuring on pictures: which are the worst, where they are wrong, and the page about it."""

import io
import json
import re
from dataclasses import replace
from fractions import Fraction
from typing import Any

import cv2
import numpy as np
from brightness_backend import BrightnessBackend
from conftest import scene, write_pair
from rich.console import Console

from roadseg.backends.runtimes import CLASS_MAP
from roadseg.cli.tables import comparison_table, score_table
from roadseg.cli.train import _epoch_line
from roadseg.data.folder import FolderDataset
from roadseg.deploy.parity import Sample
from roadseg.measure.accuracy_page import evaluation_page, film_headline, headline
from roadseg.measure.evaluate import (
    Evaluation,
    PictureScore,
    evaluate,
    evaluate_split_as_film,
    worst_together,
    wrong_pixels,
)
from roadseg.measure.metrics import (
    Calibration,
    Scores,
    SetScores,
    boundary_f1,
    confusion_matrix,
)
from roadseg.measure.steadiness import FilmScores, TemporalScores
from roadseg.paint.panels import compare_pictures
from roadseg.segmentation.config import ModelConfig
from roadseg.segmentation.predict import predict_alone
from roadseg.spec import BuildRecord, ModelSpec, SegClass, css_color
from roadseg.video.frame import Frame
from roadseg.video.read.upright import picture_of

OWN = tuple(
    SegClass(name=name, color=color)
    for name, color in (("road", (128, 64, 128)), ("tram <old>", (1, 2, 250)))
)
EPOCH = {"epoch": 1, "train": {"loss": 0.5}}


def scores(target: np.ndarray, class_map: np.ndarray) -> Scores:
    names = tuple(c.name for c in OWN)
    logits = np.stack([class_map == 0, class_map == 1]).astype(np.float32)
    return Scores(
        class_names=names,
        confusion=confusion_matrix(target, class_map, 2),
        calibration=Calibration.of(target, logits),
        boundary_f1=boundary_f1(target, class_map, 2),
    )


def test_worst_pictures_are_those_of_all_models_together() -> None:
    def of(*mious: float) -> Evaluation:
        pictures = (PictureScore(index=i, name=str(i), miou=m) for i, m in enumerate(mious))
        nothing = Scores(class_names=("a",), confusion=np.zeros((1, 1), np.int64))
        return Evaluation(scores=nothing, pictures=tuple(pictures))

    assert worst_together([of(0.5, 0.1, 0.9, 0.4)], 2) == [1, 3]
    assert worst_together([of(0.5, 0.1, 0.9, 0.4), of(0.1, 0.9, 0.9, 0.4)], 3) == [0, 3, 1]
    assert worst_together([of(0.5, float("nan"), 0.1)], 3) == [2, 0]
    assert [p.name for p in of(0.5, float("nan"), 0.1).worst(1)] == ["2"]


def recorder(fixed_hw: tuple[int, int] | None = None) -> Any:
    """A network that keeps what it is given, and perhaps takes frames of one size alone."""
    build = fixed_hw and BuildRecord(
        source_sha256="",
        runtime="tensorrt",
        runtime_version=None,
        device=None,
        precision="float16",
        shape=(1, *fixed_hw),
        fixed_shape=True,
    )
    backend = BrightnessBackend(ModelSpec(arch="brightness", width=1, build=build or None))
    backend.given, run = [], backend.run
    backend.run = lambda frames, wants=CLASS_MAP: backend.given.append(frames) or run(frames, wants)
    return backend


def test_network_is_given_the_same_pixels_whoever_asks(streets) -> None:
    data = FolderDataset.open(streets, "val")
    measured, labelled, filmed = recorder(), recorder(), recorder()
    evaluate(measured, data)
    frames = [Frame.still(picture_of(picture)) for picture, _ in data]
    list(predict_alone(iter(frames), labelled, ModelConfig(steady=0)))
    evaluate_split_as_film(filmed, data, Fraction(15), ModelConfig(steady=0))
    samples = [Sample.of(frame, labelled.given[0].shape[1:3]).frame[None] for frame in frames]
    for ways in zip(measured.given, labelled.given, filmed.given, samples, strict=True):
        for way in ways:
            np.testing.assert_array_equal(way, ways[0])


def test_network_of_a_fixed_size_is_measured_at_that_size(streets) -> None:
    backend = recorder(fixed_hw=(64, 160))
    evaluate(backend, FolderDataset.open(streets, "val"))
    assert {frames.shape for frames in backend.given} == {(1, 64, 160, 3)}


def test_wrong_pixels_are_labelled_ones_that_differ() -> None:
    target = np.array([[0, 1, 255, 1]], np.uint8)
    found = wrong_pixels(target, np.array([[0, 0, 1, 1]], np.uint8), np.eye(2, dtype=bool))
    np.testing.assert_array_equal(found, [[255, 0, 255, 255]])


def test_pixels_of_a_set_are_wrong_outside_it() -> None:
    allowed = np.array([[1, 0, 0], [0, 1, 0], [0, 0, 1], [1, 0, 1]], bool)
    target = np.array([[3, 3, 3, 1]], np.uint8)
    found = wrong_pixels(target, np.array([[0, 1, 2, 1]], np.uint8), allowed)
    np.testing.assert_array_equal(found, [[255, 1, 255, 255]])


def test_page_shows_classes_that_camvid_lacks() -> None:
    target = np.array([[0, 0, 1, 1], [0, 1, 1, 255]], np.uint8)
    class_map = np.array([[0, 1, 1, 1], [0, 0, 1, 1]], np.uint8)
    found = scores(target, class_map)
    alone = evaluation_page({"mine": found}, "mine on val", {"worst": b"jpeg"}, OWN)
    bars = json.dumps([css_color(label.color) for label in OWN])
    assert alone.count(f'"color": {bars}') == 2
    assert "on black, what of it is wrong" in alone and "tram &lt;old&gt;</span>" in alone
    both = evaluation_page({"mine": found, "other": found}, "both", {"worst": b"jpeg"}, OWN)
    assert "below mine and other" in both


def test_what_could_not_be_measured_is_called_absent() -> None:
    nothing, names = np.zeros((2, 2), np.int64), tuple(c.name for c in OWN)
    sets = SetScores(names=("both",), members=np.ones((1, 2), bool), confusion=nothing[:1] + 9)
    found = Scores(class_names=names, confusion=nothing, sets=sets, boundary_f1=np.full(2, np.nan))
    still = TemporalScores(class_names=names, moved=nothing)
    film = FilmScores(temporal=still, scores=found, moments=())
    assert "mIoU absent, pixel accuracy 100.0%, boundary F1 absent" in headline(found)
    assert "consistency absent, absent of pixels flip" in film_headline(film)
    told = [headline(found), film_headline(film), _epoch_line(EPOCH | {"val": found.summary()})]
    console = Console(file=io.StringIO(), width=200)
    colors = {c.name: c.color for c in OWN}
    for table in (score_table(found, colors), comparison_table({"a": found, "b": found}, colors)):
        console.print(table)
    assert "absent" in console.file.getvalue()
    assert not re.search(r"\bnan\b", "".join([*told, console.file.getvalue()]))


def test_panels_lie_in_rows_and_labels_let_the_picture_through() -> None:
    picture, target = scene(0)  # (96, 128)
    target = np.minimum(target, 10)
    picture = cv2.GaussianBlur(picture, (0, 0), 5)
    palette = [(8 * i, 255 - 8 * i, 0) for i in range(11)]
    maps = [target] * 3
    panels = _decoded(compare_pictures(picture, maps, palette, columns=2))
    assert panels.shape == (2 * 100, 2 * 132, 3)  # with a white frame
    thin = _decoded(compare_pictures(picture, [target], palette, share=0.25))
    assert thin.shape == (100, 2 * 132, 3)
    thin = thin[2:-2, 134:-2]
    expected = 0.75 * picture + 0.25 * np.asarray(palette)[target]
    assert np.abs(thin - expected).mean() < 6  # a JPEG halves the sides of colour
    assert np.abs(thin - picture.astype(float)).mean() > 20


def _decoded(data: bytes) -> np.ndarray:
    return cv2.cvtColor(cv2.imdecode(np.frombuffer(data, np.uint8), 1), cv2.COLOR_BGR2RGB)


def test_pictures_that_the_network_sees_together_score_as_one_by_one(tmp_path) -> None:
    from test_sets import answering  # or a skip: it needs PyTorch

    for index, (height, width) in enumerate([(48, 64), (48, 64), (32, 64), (48, 64), (64, 64)]):
        _, target = scene(index, height, width)
        picture = np.repeat(np.roll(target % 11, index, axis=0)[..., None], 3, axis=2)
        write_pair(tmp_path, "val", f"a_{index}", picture, target)
    dataset = FolderDataset.open(tmp_path, "val")
    alone, together = (evaluate(answering(), dataset, (64, 64), batch_size=size) for size in (1, 3))
    assert together == replace(alone, scores=together.scores)
    assert together.scores.summary() == alone.scores.summary()
    assert [p.name for p in together.pictures] == [p.stem for p in dataset.image_paths]
