"""Losses and class weights for training."""

import numpy as np
import torch.nn.functional as F
from numpy.typing import NDArray
from torch import Tensor

from roadseg.classes import IGNORE_INDEX


def log_class_weights(
    pixels_per_class: NDArray[np.int64], softness: float = 1.1
) -> NDArray[np.float32]:
    """Return class weights 1 / ln(softness + frequency) with mean 1, as (C,) float32.

    The form is ENet's (Paszke et al., arXiv 1606.02147, section 5.2, with softness 1.02); a larger
    softness favours rare classes less.
    """
    frequency = pixels_per_class / max(int(pixels_per_class.sum()), 1)
    weights = 1 / np.log(softness + frequency)
    return np.asarray(weights / weights.mean(), np.float32)


def weighted_cross_entropy(logits: Tensor, target: Tensor, class_weights: Tensor) -> Tensor:
    """Return the cross entropy, averaged over labelled pixels by the weights of their classes.

    A batch without a labelled pixel has loss 0.

    Args:
        logits: (N, C, H, W) float32.
        target: (N, H, W) int64; `IGNORE_INDEX` is not counted.
        class_weights: (C,) float32.
    """
    if bool((target == IGNORE_INDEX).all()):
        return logits.sum() * 0  # the mean of nothing would be NaN
    return F.cross_entropy(logits, target, weight=class_weights, ignore_index=IGNORE_INDEX)
