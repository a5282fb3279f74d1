"""Losses and class weights for training.

A loss takes logits (N, C, H, W) float32, a target (N, H, W) int64 in which `IGNORE_INDEX` is not
counted, and class weights (C,) float32, and returns a scalar; a batch without a labelled pixel has
loss 0, and so is the cross entropy where all that is labelled has weight 0. `LOSSES` and
`CLASS_WEIGHTS` name them for users.

Where labels do not distinguish all classes, a target holds ids of sets of classes too, from C up,
and the loss takes their members (S, C) bool. The cross entropy of such a pixel is minus the
logarithm of the sum of its classes' probabilities, and its weight the mean of theirs. Dice knows of
it that the other classes are not there; the Lovász and the boundary loss leave it out.
"""

from collections.abc import Callable
from dataclasses import dataclass, replace
from typing import Protocol

import numpy as np
import torch
import torch.nn.functional as F
from numpy.typing import NDArray
from torch import Tensor

from roadseg.spec import IGNORE_INDEX, choose

HARD_SHARE = 0.25
"""Share of pixels, those with the largest loss, of online hard example mining."""
LOVASZ_PIXELS = 2**17
"""Pixels of a batch, drawn at random, on which the Lovász loss is computed: it sorts them."""
BOUNDARY_PX = 2
"""Pixels by which an edge may be off in the boundary loss, along each axis."""


class Loss(Protocol):
    """A loss function."""

    def __call__(
        self, logits: Tensor, target: Tensor, class_weights: Tensor, sets: Tensor | None = None
    ) -> Tensor:
        """Return a scalar; see the module."""


def cross_entropy(
    logits: Tensor, target: Tensor, class_weights: Tensor, sets: Tensor | None = None
) -> Tensor:
    """Return the cross entropy, averaged over labelled pixels by the weights of their classes."""
    if not bool(_weights(target, class_weights, sets).any()):
        return logits.sum() * 0  # the mean of nothing would be NaN
    if sets is None:
        return F.cross_entropy(logits, target, weight=class_weights, ignore_index=IGNORE_INDEX)
    losses, weights = _weighted_losses(logits, target, class_weights, sets)
    return losses.sum() / weights.sum()


def _weighted_losses(
    logits: Tensor, target: Tensor, class_weights: Tensor, sets: Tensor | None
) -> tuple[Tensor, Tensor]:
    """Return weighted cross entropies and the weights, (N, H, W) both, 0 where unlabelled."""
    known = _of_one_class(target, logits.shape[1])
    losses = F.cross_entropy(
        logits, known, weight=class_weights, ignore_index=IGNORE_INDEX, reduction="none"
    )  # (N, H, W)
    weights = _weights(target, class_weights, sets)
    of_set = (target != known).nonzero(as_tuple=True)
    if sets is None or not len(of_set[0]):
        return losses, weights
    set_ids = target[of_set] - logits.shape[1]  # (P,)
    scores = logits.movedim(1, -1)[of_set]  # (P, C)
    inside = scores.masked_fill(~sets[set_ids], -torch.inf)
    set_losses = scores.logsumexp(dim=1) - inside.logsumexp(dim=1)  # (P,)
    return losses.index_put(of_set, set_losses * weights[of_set]), weights


def _weights(target: Tensor, class_weights: Tensor, sets: Tensor | None) -> Tensor:
    """Return the weight of each pixel, (N, H, W), 0 where it is unlabelled."""
    num_classes = len(class_weights)
    table = class_weights.new_zeros(IGNORE_INDEX + 1)
    table[:num_classes] = class_weights
    if sets is not None:
        table[num_classes:][: len(sets)] = (sets * class_weights).sum(dim=1) / sets.sum(dim=1)
    return table[target]


def _of_one_class(target: Tensor, num_classes: int) -> Tensor:
    """Return the target with sets of classes unlabelled."""
    return target.masked_fill(target >= num_classes, IGNORE_INDEX)


def hard_cross_entropy(
    logits: Tensor, target: Tensor, class_weights: Tensor, sets: Tensor | None = None
) -> Tensor:
    """Return the cross entropy of the hardest labelled pixels alone.

    Online hard example mining (Shrivastava et al., arXiv 1604.03540) as segmentation uses it: a
    fixed share of the pixels that count, those with the largest loss.
    """
    losses, weights = _weighted_losses(logits, target, class_weights, sets)
    counted = weights > 0
    kept = int(counted.sum() * HARD_SHARE)
    if kept == 0:
        return cross_entropy(logits, target, class_weights, sets)
    hardest = losses.detach().masked_fill(~counted, -1).flatten().topk(kept, sorted=False).indices
    return losses.flatten()[hardest].sum() / weights.flatten()[hardest].sum()


def cross_entropy_and_dice(
    logits: Tensor, target: Tensor, class_weights: Tensor, sets: Tensor | None = None
) -> Tensor:
    """Return the cross entropy plus 1 - soft Dice, averaged over the classes of the batch.

    Dice is that of V-Net (Milletari et al., arXiv 1606.04797, equation 1) with the sums over the
    batch, so that each class has the same say however few its pixels are.
    """
    num_classes = logits.shape[1]
    known = _of_one_class(target, num_classes)
    probabilities = logits.softmax(dim=1) * _known(target, num_classes, sets)  # (N, C, H, W)
    labelled = known != IGNORE_INDEX
    safe = known.masked_fill(~labelled, 0)  # (N, H, W)
    true = (probabilities.gather(1, safe[:, None])[:, 0] * labelled).flatten()
    hits = logits.new_zeros(num_classes).index_add(0, safe.flatten(), true)
    pixels = torch.bincount(known.flatten(), minlength=num_classes + 1)[:num_classes]
    squares = probabilities.square().sum(dim=(0, 2, 3))  # (C,)
    present = pixels > 0
    dice = 2 * hits / (squares + pixels).clamp(min=1)
    loss = cross_entropy(logits, target, class_weights, sets)
    return loss + (1 - dice[present]).mean() if bool(present.any()) else loss


def _known(target: Tensor, num_classes: int, sets: Tensor | None) -> Tensor:
    """Return where the label determines whether a class is there, (N, C or 1, H, W) bool.

    The label of one class does so for all classes; that of a set, only for those outside it.
    """
    if sets is None:
        return (target != IGNORE_INDEX)[:, None]
    table = sets.new_ones(IGNORE_INDEX + 1, num_classes)
    table[num_classes : num_classes + len(sets)] = ~sets
    table[IGNORE_INDEX] = False
    return table[target].movedim(-1, 1)


def cross_entropy_and_lovasz(
    logits: Tensor, target: Tensor, class_weights: Tensor, sets: Tensor | None = None
) -> Tensor:
    """Return the cross entropy plus the Lovász-Softmax loss over the classes of the batch.

    Berman, Triki and Blaschko, arXiv 1705.08790, equations 8 and 9 and algorithm 1: a convex
    stand-in for 1 - IoU. It is taken over a random part of the pixels.
    """
    loss = cross_entropy(logits, target, class_weights, sets)
    chosen = (target.flatten() < logits.shape[1]).nonzero().squeeze(1)
    if not chosen.numel():
        return loss
    chosen = chosen[torch.randint(chosen.numel(), (LOVASZ_PIXELS,), device=chosen.device)]
    ids = target.flatten()[chosen]  # (P,)
    pixels = logits.permute(0, 2, 3, 1).flatten(0, 2)[chosen]  # (P, C)
    present = torch.unique(ids)
    true = ids[:, None] == present  # (P, present)
    errors = (true.float() - pixels.softmax(dim=1)[:, present]).abs()  # (P, present)
    errors, order = errors.sort(dim=0, descending=True)
    true = true.gather(0, order)
    total = true.sum(dim=0)
    missed = total - true.cumsum(dim=0)
    jaccard = 1 - missed / (total + (~true).cumsum(dim=0))  # (P, present), of the first p errors
    steps = torch.diff(jaccard, dim=0, prepend=jaccard.new_zeros(1, len(present)))
    lovasz: Tensor = (errors * steps).sum(dim=0).mean()
    return loss + lovasz


def cross_entropy_dice_and_boundary(
    logits: Tensor, target: Tensor, class_weights: Tensor, sets: Tensor | None = None
) -> Tensor:
    """Return the cross entropy plus 1 - Dice plus 1 - boundary F1, averaged over classes.

    The last is that of Bokhovkin and Burnaev (arXiv 1905.07852, equations 1 to 5): what maximum
    pooling of the other classes adds is the inner edge of a class, soft where the prediction is. An
    edge is found if one of the other map is within `BOUNDARY_PX`. Edges of unlabelled areas are
    none of the picture's.
    """
    known = _of_one_class(target, logits.shape[1])
    labelled = (known != IGNORE_INDEX)[:, None].float()  # (N, 1, H, W)
    safe = known.masked_fill(known == IGNORE_INDEX, 0)
    predicted = logits.softmax(dim=1)  # (N, C, H, W)
    truth = F.one_hot(safe, logits.shape[1]).permute(0, 3, 1, 2).float()  # (N, C, H, W)
    inner = 1 - _widest(1 - labelled, 1)  # (N, 1, H, W)
    edges, true_edges = ((_widest(1 - m, 1) - (1 - m)) * inner for m in (predicted, truth))
    near, true_near = (_widest(m, BOUNDARY_PX) for m in (edges, true_edges))
    all_of_class = (0, 2, 3)
    true_total = true_edges.sum(dim=all_of_class)  # (C,)
    precision = (edges * true_near).sum(all_of_class) / edges.sum(all_of_class).clamp(min=1e-6)
    recall = (true_edges * near).sum(all_of_class) / true_total.clamp(min=1)
    f1 = 2 * precision * recall / (precision + recall).clamp(min=1e-6)
    loss = cross_entropy_and_dice(logits, target, class_weights, sets)
    present = true_total > 0
    return loss + (1 - f1[present]).mean() if bool(present.any()) else loss


def _widest(maps: Tensor, reach_px: int) -> Tensor:
    """Return the largest value within reach of each pixel, (N, C, H, W)."""
    return F.max_pool2d(maps, 2 * reach_px + 1, stride=1, padding=reach_px)


LOSSES: dict[str, Loss] = {
    "cross-entropy": cross_entropy,
    "ohem": hard_cross_entropy,
    "dice": cross_entropy_and_dice,
    "lovasz": cross_entropy_and_lovasz,
    "boundary": cross_entropy_dice_and_boundary,
}


def log_class_weights(
    pixels: NDArray[np.int64], shared_pixels: NDArray[np.int64]
) -> NDArray[np.float32]:
    """Return class weights 1 / ln(1.1 + frequency) with mean 1, as (C,) float32.

    The form is ENet's (Paszke et al., arXiv 1606.02147, section 5.2) with 1.1 for its 1.02, which
    favours rare classes less.

    Args:
        pixels: (C,) of each class in the split.
        shared_pixels: (C,) labelled pixels of the pictures that contain the class.
    """
    del shared_pixels
    frequency = pixels / max(int(pixels.sum()), 1)
    weights = 1 / np.log(1.1 + frequency)
    return np.asarray(weights / weights.mean(), np.float32)


def median_class_weights(
    pixels: NDArray[np.int64], shared_pixels: NDArray[np.int64]
) -> NDArray[np.float32]:
    """Return median frequency / frequency with mean 1, as (C,) float32; arguments as above.

    The frequency of a class is taken over the pictures that contain it (Eigen and Fergus, arXiv
    1411.4734, section 6.3.2; SegNet, arXiv 1511.00561, section 4). A class without pixels weighs 0.
    """
    present = pixels > 0
    frequency = pixels[present] / shared_pixels[present]
    weights = np.zeros(len(pixels))
    weights[present] = np.median(frequency) / frequency
    return np.asarray(weights / weights[present].mean(), np.float32)


def equal_class_weights(
    pixels: NDArray[np.int64], shared_pixels: NDArray[np.int64]
) -> NDArray[np.float32]:
    """Return 1 for every class, as (C,) float32; arguments as above."""
    del shared_pixels
    return np.ones(len(pixels), np.float32)


CLASS_WEIGHTS: dict[str, Callable[[NDArray[np.int64], NDArray[np.int64]], NDArray[np.float32]]] = {
    "log": log_class_weights,
    "median": median_class_weights,
    "none": equal_class_weights,
}


@dataclass(frozen=True, kw_only=True)
class Criterion:
    """A loss with its class weights and sets of classes."""

    loss: str
    """Its name in `LOSSES`."""
    class_weights: Tensor
    """(C,) float32."""
    sets: Tensor | None = None
    """(S, C) bool, members of the sets of classes that targets have ids of; None without any."""

    def __call__(self, logits: Tensor, target: Tensor) -> Tensor:
        """Return the loss of some logits (N, C, H, W)."""
        loss = choose(LOSSES, self.loss, "--loss")
        return loss(logits, target, self.class_weights, self.sets)

    @property
    def device(self) -> torch.device:
        """Where it is computed."""
        return self.class_weights.device

    def to(self, device: torch.device) -> "Criterion":
        """Return the same on a device."""
        sets = None if self.sets is None else self.sets.to(device)
        return replace(self, class_weights=self.class_weights.to(device), sets=sets)
