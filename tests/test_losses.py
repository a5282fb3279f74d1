import pytest

pytest.importorskip("torch")

import numpy as np
import torch
from hypothesis import given
from hypothesis import strategies as st

from roadseg.spec import IGNORE_INDEX
from roadseg.train.losses import (
    CLASS_WEIGHTS,
    LOSSES,
    cross_entropy,
    cross_entropy_and_dice,
    cross_entropy_and_lovasz,
    cross_entropy_dice_and_boundary,
    hard_cross_entropy,
)

every_loss = pytest.mark.parametrize("loss", LOSSES.values(), ids=LOSSES)


def perfect(target: torch.Tensor) -> torch.Tensor:
    known = target.masked_fill(target == IGNORE_INDEX, 0)
    return torch.nn.functional.one_hot(known, 5).permute(0, 3, 1, 2).float() * 60


@every_loss
def test_right_answer_costs_nothing_and_a_wrong_one_does(loss) -> None:
    target = torch.randint(0, 5, (2, 6, 7))
    target[0, 0] = IGNORE_INDEX
    assert loss(perfect(target), target, torch.ones(5)) == pytest.approx(0, abs=1e-5)
    assert loss(perfect((target + 1) % 5), target, torch.ones(5)) > 1


@every_loss
def test_unlabelled_pixels_do_not_enter(loss) -> None:
    logits = torch.randn(1, 5, 6, 7)
    target = torch.randint(0, 5, (1, 6, 7))
    target[:, 3:] = IGNORE_INDEX
    changed = logits.clone()
    changed[:, :, 3:] = torch.randn(1, 5, 3, 7) * 9
    torch.manual_seed(1)
    first = loss(logits, target, torch.ones(5))
    torch.manual_seed(1)
    torch.testing.assert_close(loss(changed, target, torch.ones(5)), first)


@every_loss
def test_batch_without_a_labelled_pixel_costs_nothing(loss) -> None:
    logits = torch.randn(1, 5, 4, 4, requires_grad=True)
    value = loss(logits, torch.full((1, 4, 4), IGNORE_INDEX), torch.ones(5))
    value.backward()
    assert value == 0 and logits.grad is not None and not logits.grad.any()


@every_loss
@pytest.mark.parametrize("sets", [None, torch.tensor([[False, False, True]])], ids=["", "sets"])
def test_batch_of_classes_that_weigh_nothing_has_a_finite_loss(loss, sets) -> None:
    weights = torch.tensor([1.0, 2.0, 0.0])
    logits = torch.randn(1, 3, 4, 4, requires_grad=True)
    target = torch.full((1, 4, 4), 2)
    if sets is not None:
        target[:, :2] = 3
    loss(logits, target, weights, sets).backward()
    assert logits.grad is not None and logits.grad.isfinite().all()


def test_hard_examples_are_never_those_that_weigh_nothing() -> None:
    target = torch.tensor([[[0, 2, 2, 2]]])
    logits = perfect(target)[:, :3]  # all losses are 0, so none is harder than another
    assert hard_cross_entropy(logits, target, torch.tensor([1.0, 1.0, 0.0])) == 0


@every_loss
def test_a_step_down_the_gradient_lowers_the_loss(loss) -> None:
    logits = torch.randn(2, 5, 8, 8, requires_grad=True)
    target = torch.randint(0, 5, (2, 8, 8))
    torch.manual_seed(0)
    before = loss(logits, target, torch.ones(5))
    before.backward()
    torch.manual_seed(0)
    assert loss(logits.detach() - logits.grad, target, torch.ones(5)) < before


def test_hard_examples_are_the_quarter_with_the_largest_loss() -> None:
    logits = torch.randn(1, 5, 8, 8)
    target = torch.randint(0, 5, (1, 8, 8))
    each = torch.nn.functional.cross_entropy(logits, target, reduction="none").flatten()
    expected = each.sort(descending=True).values[:16].mean()
    torch.testing.assert_close(hard_cross_entropy(logits, target, torch.ones(5)), expected)


def test_dice_of_certain_answers_is_that_of_sets() -> None:
    target = torch.tensor([[[0, 0, 0, 1], [1, 1, 0, 0]]])
    answer = torch.tensor([[[0, 0, 1, 1], [1, 0, 0, 0]]])
    logits = torch.nn.functional.one_hot(answer, 5).permute(0, 3, 1, 2).float() * 60
    dice = [2 * 4 / (5 + 5), 2 * 2 / (3 + 3)]
    expected = 1 - sum(dice) / 2
    extra = cross_entropy_and_dice(logits, target, torch.ones(5)) - cross_entropy(
        logits, target, torch.ones(5)
    )
    assert extra == pytest.approx(expected, abs=1e-4)


def test_lovasz_of_certain_answers_is_one_minus_iou() -> None:
    # At the corners of the cube the Lovász extension equals the set function (equation 7).
    target = torch.tensor([[[0, 0, 0, 1], [1, 1, 0, 0]]]).repeat(1, 40, 40)
    answer = torch.tensor([[[0, 0, 1, 1], [1, 0, 0, 0]]]).repeat(1, 40, 40)
    logits = torch.nn.functional.one_hot(answer, 5).permute(0, 3, 1, 2).float() * 60
    extra = cross_entropy_and_lovasz(logits, target, torch.ones(5)) - cross_entropy(
        logits, target, torch.ones(5)
    )
    expected = 1 - (4 / 6 + 2 / 4) / 2
    assert extra == pytest.approx(expected, abs=0.01)  # it draws its pixels at random


@pytest.mark.parametrize(("off_px", "found"), [(0, 1), (2, 1), (3, 0)])
def test_boundary_is_found_within_its_tolerance(off_px: int, found: int) -> None:
    target = (torch.arange(24) >= 12).long().expand(1, 24, 24)
    answer = (torch.arange(24) >= 12 + off_px).long().expand(1, 24, 24)
    assert _boundary_part(target, answer) == pytest.approx(1 - found, abs=1e-4)


STEP, STRIP = range(12, 24), range(4, 7)


@pytest.mark.parametrize(
    ("true", "found", "unlabelled", "f1"),
    [
        ((*STEP,), (*STRIP, *STEP), (), 0.5),  # precision 1/3, recall 1
        ((*STRIP, *STEP), (*STEP,), (), 0.5),  # precision 1, recall 1/3
        ((*STEP,), (*STRIP, *STEP), range(3, 8), 1),
    ],
)
def test_boundary_counts_what_is_too_much_and_what_is_missed(true, found, unlabelled, f1) -> None:
    target, answer = torch.zeros(2, 1, 24, 24, dtype=torch.long)
    target[..., list(true)] = 1
    target[..., list(unlabelled)] = IGNORE_INDEX
    answer[..., list(found)] = 1
    assert _boundary_part(target, answer) == pytest.approx(1 - f1, abs=1e-4)


def _boundary_part(target: torch.Tensor, answer: torch.Tensor) -> float:
    """Return what the boundary adds to the loss of a certain answer."""
    logits = torch.nn.functional.one_hot(answer, 5).permute(0, 3, 1, 2).float() * 60
    losses = (cross_entropy_dice_and_boundary, cross_entropy_and_dice)
    with_it, without = (loss(logits, target, torch.ones(5)) for loss in losses)
    return float(with_it - without)


@given(st.lists(st.integers(0, 10**9), min_size=2, max_size=12).filter(any))
def test_rarer_classes_never_weigh_less(pixels) -> None:
    counts = np.array(pixels)
    shared = np.full(len(pixels), max(counts.sum(), 1))
    order = np.argsort(counts)
    for name, weigh in CLASS_WEIGHTS.items():
        weights = weigh(counts, shared)
        assert weights.dtype == np.float32 and np.isfinite(weights).all()
        present = weights[order][counts[order] > 0]
        assert (np.diff(present) <= 1e-5 * abs(present[:-1])).all(), name


def test_median_frequency_is_over_the_pictures_with_the_class() -> None:
    weights = CLASS_WEIGHTS["median"](np.array([60, 30, 10, 0]), np.array([100, 100, 20, 0]))
    frequency = np.array([0.6, 0.3, 0.5])
    expected = 0.5 / frequency
    np.testing.assert_allclose(weights[:3], expected / expected.mean(), rtol=1e-6)
    assert weights[3] == 0


SETS = torch.tensor([[1, 1, 0, 0, 0], [0, 0, 1, 0, 1]], dtype=torch.bool)
"""Classes 0 and 1, and classes 2 and 4; their ids in a target are 5 and 6."""


@every_loss
def test_sets_that_no_pixel_has_change_nothing(loss) -> None:
    logits, target = torch.randn(2, 5, 8, 8), torch.randint(0, 5, (2, 8, 8))
    target[0, 0] = IGNORE_INDEX
    weights = torch.rand(5) + 0.5
    torch.manual_seed(0)
    without = loss(logits, target, weights)
    torch.manual_seed(0)
    torch.testing.assert_close(loss(logits, target, weights, SETS), without)


def test_cross_entropy_of_a_set_is_that_of_the_sum_of_its_probabilities() -> None:
    logits = torch.randn(2, 5, 4, 3, dtype=torch.float64)
    target = torch.randint(0, 7, (2, 4, 3))
    target[0, 0, 0] = IGNORE_INDEX
    weights = torch.rand(5, dtype=torch.float64) + 0.5
    allowed = torch.cat([torch.eye(5, dtype=torch.bool), SETS])
    total, whole = 0.0, 0.0
    for place in (target != IGNORE_INDEX).nonzero().tolist():
        n, row, column = place
        member = allowed[target[n, row, column]]
        weight = weights[member].mean()
        probability = logits[n, :, row, column].softmax(0)[member].sum()
        total, whole = total - weight * probability.log(), whole + weight
    torch.testing.assert_close(cross_entropy(logits, target, weights, SETS), total / whole)


def test_cross_entropy_of_a_set_stays_finite_where_it_is_all_but_excluded() -> None:
    logits = torch.tensor([-400.0, -500.0, 0, 300, 0]).reshape(1, 5, 1, 1).requires_grad_()
    value = cross_entropy(logits, torch.full((1, 1, 1), 5), torch.ones(5), SETS)
    value.backward()
    assert value.item() == pytest.approx(700) and torch.isfinite(logits.grad).all()


@every_loss
def test_any_class_of_its_set_costs_a_pixel_nothing_and_others_do(loss) -> None:
    target = torch.randint(0, 5, (1, 8, 8))
    target[0, :3] = 5
    answers = target.clone()
    answers[0, :3] = torch.randint(0, 2, (3, 8))
    assert loss(perfect(answers), target, torch.ones(5), SETS) == pytest.approx(0, abs=1e-4)
    answers[0, :3] = 3
    assert loss(perfect(answers), target, torch.ones(5), SETS) > 1


@every_loss
def test_batch_of_sets_alone_still_teaches(loss) -> None:
    logits = torch.zeros(1, 5, 8, 8, requires_grad=True)
    loss(logits, torch.full((1, 8, 8), 6), torch.ones(5), SETS).backward()
    told = logits.grad.sum(dim=(0, 2, 3)).sign().tolist()
    assert told == [1, 1, -1, 1, -1]  # down with the others, up with the set's own


def test_dice_counts_a_class_where_a_set_excludes_it() -> None:
    target = torch.tensor([[[0, 0, 6, 6]]])
    right = perfect(torch.tensor([[[0, 0, 4, 2]]]))
    wrong = perfect(torch.tensor([[[0, 0, 0, 2]]]))
    dice = [
        cross_entropy_and_dice(logits, target, torch.ones(5), SETS)
        - cross_entropy(logits, target, torch.ones(5), SETS)
        for logits in (right, wrong)
    ]
    assert dice == [pytest.approx(0, abs=1e-4), pytest.approx(1 - 2 * 2 / (3 + 2), abs=1e-4)]
