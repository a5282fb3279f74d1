import numpy as np
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

from roadseg.metrics import Scores, confusion_matrix, cross_entropy

maps = st.integers(0, 2**32 - 1).map(
    lambda seed: (
        np.random.default_rng(seed).integers(0, 12, (9, 11), np.uint8),
        np.random.default_rng(seed + 1).integers(0, 11, (9, 11), np.uint8),
    )
)


@given(maps)
def test_iou_equals_that_of_sets_of_pixels(pair) -> None:
    target, class_map = pair
    scores = Scores(confusion=confusion_matrix(target, class_map))
    labelled = target != 11
    for c in range(11):
        truth = set(map(tuple, np.argwhere((target == c) & labelled)))
        found = set(map(tuple, np.argwhere((class_map == c) & labelled)))
        if truth | found:
            assert scores.iou[c] == pytest.approx(len(truth & found) / len(truth | found))
        else:
            assert np.isnan(scores.iou[c])


@given(maps)
def test_halves_add_up_to_the_whole(pair) -> None:
    target, class_map = pair
    halves = confusion_matrix(target[:4], class_map[:4]) + confusion_matrix(
        target[4:], class_map[4:]
    )
    np.testing.assert_array_equal(halves, confusion_matrix(target, class_map))


@given(maps, st.permutations(range(11)))
def test_renaming_the_classes_changes_no_mean(pair, order) -> None:
    target, class_map = pair
    table = np.array([*order, 11], np.uint8)
    plain = Scores(confusion=confusion_matrix(target, class_map))
    renamed = Scores(confusion=confusion_matrix(table[target], table[class_map]))
    assert renamed.miou == pytest.approx(plain.miou)
    assert renamed.pixel_accuracy == pytest.approx(plain.pixel_accuracy)


def test_cross_entropy_equals_pytorch() -> None:
    rng = np.random.default_rng(0)
    logits = rng.normal(size=(11, 9, 11)).astype(np.float32) * 5
    target = rng.integers(0, 12, (9, 11), np.uint8)
    total, pixels = cross_entropy(target, logits)
    expected = torch.nn.functional.cross_entropy(
        torch.from_numpy(logits)[None], torch.from_numpy(target)[None].long(), ignore_index=11
    )
    assert pixels == (target != 11).sum()
    assert total / pixels == pytest.approx(expected.item(), rel=1e-5)


def test_nothing_labelled_gives_null_figures() -> None:
    nothing = np.full((4, 4), 11, np.uint8)
    summary = Scores(confusion=confusion_matrix(nothing, np.zeros_like(nothing))).summary()
    assert summary["miou"] is None and summary["pixel_accuracy"] is None
