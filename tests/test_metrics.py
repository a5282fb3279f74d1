import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from roadseg.measure.metrics import (
    CALIBRATION_BINS,
    Calibration,
    Scores,
    Sureness,
    boundary_f1,
    confusion_matrix,
)

NAMES = tuple("abcdefghijk")

maps = st.integers(0, 2**32 - 1).map(
    lambda seed: (
        np.random.default_rng(seed).integers(0, 12, (9, 11), np.uint8),
        np.random.default_rng(seed + 1).integers(0, 11, (9, 11), np.uint8),
    )
)


@given(maps)
def test_iou_equals_that_of_sets_of_pixels(pair) -> None:
    target, class_map = pair
    scores = Scores(class_names=NAMES, confusion=confusion_matrix(target, class_map, 11))
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
    halves = confusion_matrix(target[:4], class_map[:4], 11) + confusion_matrix(
        target[4:], class_map[4:], 11
    )
    np.testing.assert_array_equal(halves, confusion_matrix(target, class_map, 11))


@given(maps, st.permutations(range(11)))
def test_renaming_the_classes_changes_no_mean(pair, order) -> None:
    target, class_map = pair
    table = np.array([*order, 11], np.uint8)
    plain = Scores(class_names=NAMES, confusion=confusion_matrix(target, class_map, 11))
    renamed = Scores(
        class_names=NAMES, confusion=confusion_matrix(table[target], table[class_map], 11)
    )
    assert renamed.miou == pytest.approx(plain.miou)
    assert renamed.pixel_accuracy == pytest.approx(plain.pixel_accuracy)


def test_cross_entropy_equals_pytorch() -> None:
    torch = pytest.importorskip("torch")
    rng = np.random.default_rng(0)
    logits = rng.normal(size=(11, 9, 11)).astype(np.float32) * 5
    target = rng.integers(0, 12, (9, 11), np.uint8)
    found = Calibration.of(target, logits)
    expected = torch.nn.functional.cross_entropy(
        torch.from_numpy(logits)[None], torch.from_numpy(target)[None].long(), ignore_index=11
    )
    assert found.pixels.sum() == (target != 11).sum()
    assert found.cross_entropy == pytest.approx(expected.item(), rel=1e-5)


def test_nothing_labelled_gives_null_figures() -> None:
    nothing = np.full((4, 4), 11, np.uint8)
    summary = Scores(
        class_names=NAMES, confusion=confusion_matrix(nothing, np.zeros_like(nothing), 11)
    ).summary()
    assert summary["miou"] is None and summary["pixel_accuracy"] is None


@given(maps)
def test_precision_and_recall_are_those_of_sets_of_pixels(pair) -> None:
    target, class_map = pair
    scores = Scores(class_names=NAMES, confusion=confusion_matrix(target, class_map, 11))
    for c in range(11):
        true, found = target == c, (class_map == c) & (target != 11)
        if true.any() and found.any():
            assert scores.recall[c] == pytest.approx((true & found).sum() / true.sum())
            assert scores.precision[c] == pytest.approx((true & found).sum() / found.sum())


@given(st.integers(0, 2**32 - 1))
def test_parts_of_a_picture_add_up_in_confidence(seed) -> None:
    rng = np.random.default_rng(seed)
    logits = rng.normal(size=(5, 8, 9)).astype(np.float32) * 4
    target = rng.integers(0, 6, (8, 9), np.uint8)
    whole = Calibration.of(target, logits)
    halves = Calibration.of(target[:3], logits[:, :3]) + Calibration.of(target[3:], logits[:, 3:])
    assert halves.cross_entropy == pytest.approx(whole.cross_entropy)
    assert halves.calibration_error == pytest.approx(whole.calibration_error)


@given(st.integers(0, 2**32 - 1))
def test_calibration_error_is_that_of_its_definition(seed) -> None:
    torch = pytest.importorskip("torch")
    rng = np.random.default_rng(seed)
    logits = rng.normal(size=(4, 6, 7)).astype(np.float32) * 3
    target = rng.integers(0, 5, (6, 7), np.uint8)
    probabilities = torch.from_numpy(logits).softmax(dim=0).numpy()
    confidence, chosen = probabilities.max(axis=0), probabilities.argmax(axis=0)
    labelled = target < 4
    expected = 0.0
    for b in range(CALIBRATION_BINS):
        low, high = b / CALIBRATION_BINS, (b + 1) / CALIBRATION_BINS
        inside = labelled & (confidence >= low) & ((confidence < high) | (high == 1))
        if inside.any():
            gap = abs((chosen == target)[inside].mean() - confidence[inside].mean())
            expected += inside.sum() / labelled.sum() * gap
    # A confidence on the border of two bins may round into either.
    assert Calibration.of(target, logits).calibration_error == pytest.approx(expected, abs=1e-3)


def test_outlines_match_within_the_tolerance_and_not_beyond() -> None:
    target = np.zeros((360, 480), np.uint8)
    target[100:200, 100:200] = 1
    # 0.75 % of the diagonal of 600 pixels are 4.5. To the side, upper and lower edge still match.
    for shift, expected in ((0, 1.0), (4, 1.0), (20, 0.5)):
        found = boundary_f1(target, np.roll(target, shift, axis=1), 3)
        assert np.isnan(found[2])
        assert found[1] == pytest.approx(expected, abs=0.1 if expected < 1 else 1e-9)


def test_edge_against_the_unlabelled_is_no_boundary() -> None:
    target = np.zeros((60, 80), np.uint8)
    target[:, 40:] = 255
    assert np.isnan(boundary_f1(target, np.ones_like(target) * (target == 255), 2)).all()
    perfect = target.copy()
    perfect[:, 40:] = 1  # whatever is predicted there
    assert np.isnan(boundary_f1(target, perfect, 2)).all()


def test_class_that_is_missed_has_no_outline_right() -> None:
    target = np.zeros((60, 80), np.uint8)
    target[20:40, 20:40] = 1
    found = boundary_f1(target, np.zeros_like(target), 2)
    assert found[1] == 0 and found[0] == 0


def test_boundary_against_a_set_without_the_class_counts_and_within_one_does_not() -> None:
    target = np.full((40, 40), 3, np.uint8)  # the set of classes 1 and 2
    target[:, :20] = 0
    class_map = np.ones_like(target)
    class_map[:, :20] = 0
    members = np.array([[0, 1, 1]], bool)
    np.testing.assert_array_equal(boundary_f1(target, class_map, 3, members), [1.0, np.nan, np.nan])
    class_map[:, 20:28] = 0  # road reaches into the set
    assert boundary_f1(target, class_map, 3, members)[0] == 0
    target[target == 3] = 255
    assert boundary_f1(target, class_map, 3, members)[0] != 1  # against nothing there is no edge


def test_what_a_least_confidence_leaves_is_counted_pixel_by_pixel() -> None:
    rng = np.random.default_rng(3)
    confidence = rng.integers(0, 256, 500).astype(np.uint8)
    right = rng.random(500) < confidence / 255
    found = Sureness.of(confidence[:200], right[:200]) + Sureness.of(confidence[200:], right[200:])
    for least in (0.0, 0.5, 0.95):
        painted = confidence / 255 >= least
        assert found.painted(least) == pytest.approx(painted.mean())
        assert found.right(least) == pytest.approx(right[painted].mean())
    assert [row["min_confidence"] for row in found.summary()][:3] == [0, 0.05, 0.1]
    assert Sureness().summary()[0] == {"min_confidence": 0, "painted": 0, "right": None}
