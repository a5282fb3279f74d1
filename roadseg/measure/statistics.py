"""Distinguish differences from noise: medians with intervals, and permutation tests."""

from collections.abc import Sequence
from dataclasses import dataclass
from itertools import combinations
from math import comb

import numpy as np

PERCENTILES = (50, 90, 95, 99)
RESAMPLES = 4000
"""Bootstrap samples of an interval, and random permutations where there are too many to try all."""
CONFIDENCE = 0.95
"""Confidence level of intervals."""


@dataclass(frozen=True)
class Interval:
    """A median and its confidence interval."""

    median: float
    low: float
    high: float


def median_interval(values: Sequence[float]) -> Interval:
    """Return the median with its bootstrap interval (percentiles; Efron 1979)."""
    samples = np.asarray(values, np.float64)
    medians = np.median(_resampled(samples, np.random.default_rng(0)), axis=1)
    return _interval(float(np.median(samples)), medians)


def ratio_interval(before: Sequence[float], after: Sequence[float]) -> Interval:
    """Return the ratio of two medians, after over before, with its bootstrap interval."""
    rng = np.random.default_rng(0)
    first, second = np.asarray(before, np.float64), np.asarray(after, np.float64)
    ratios = np.median(_resampled(second, rng), axis=1) / np.median(_resampled(first, rng), axis=1)
    return _interval(float(np.median(second) / np.median(first)), ratios)


def _resampled(samples: np.ndarray, rng: np.random.Generator) -> np.ndarray:
    return samples[rng.integers(0, len(samples), (RESAMPLES, len(samples)))]


def _interval(median: float, drawn: np.ndarray) -> Interval:
    tail = (1 - CONFIDENCE) / 2
    low, high = np.quantile(drawn, [tail, 1 - tail])
    return Interval(median, float(low), float(high))


def permutation_p(before: Sequence[float], after: Sequence[float]) -> float:
    """Return the p-value of a difference between two sets of samples (Fisher 1935).

    It is that of a permutation test of the means of the logarithms, exact for few samples and with
    random permutations for many.
    """
    pooled = np.log(np.concatenate([before, after]))
    count, total = len(before), len(pooled)
    if comb(total, count) <= RESAMPLES:
        chosen = np.array(list(combinations(range(total), count)))
    else:
        rng = np.random.default_rng(0)
        dealt = (rng.permutation(total)[:count] for _ in range(RESAMPLES - 1))
        chosen = np.array([np.arange(count), *dealt])
    first = pooled[chosen].sum(axis=1)
    distances = np.abs((pooled.sum() - first) / (total - count) - first / count)
    observed = abs(pooled[count:].mean() - pooled[:count].mean())
    return float((distances >= observed * (1 - 1e-9)).mean())


def percentiles(samples: Sequence[float]) -> dict[str, float]:
    """Return the percentiles of samples by name, p50 and so on."""
    return {f"p{p}": float(np.percentile(samples, p)) for p in PERCENTILES}
