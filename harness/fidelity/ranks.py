"""Rank correlations within trajectories, and means with intervals over tasks."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray
from scipy.stats import spearmanr

from stepcredit.harness.seeds import seed_for

_RESAMPLES = 2000
_FEWEST_STEPS = 3


@dataclass(frozen=True, slots=True)
class Estimate:
    """A mean with a 95% interval: percentiles of means over tasks drawn again (a cluster bootstrap)."""

    value: float
    low: float
    high: float
    tasks: int
    count: int


def rank_correlation(one_K: NDArray[np.float64], other_K: NDArray[np.float64]) -> float | None:
    """Spearman's, within one trajectory; None for fewer than three steps, or where either says the same of all."""
    if len(one_K) < _FEWEST_STEPS or np.ptp(one_K) == 0.0 or np.ptp(other_K) == 0.0:
        return None
    return float(spearmanr(one_K, other_K).statistic)


def clustered_mean(values: Mapping[str, Sequence[float]], name: str) -> Estimate:
    """The mean of all values, by task; the interval's draws are named."""
    own = [np.asarray(found, dtype=np.float64) for found in values.values() if len(found)]
    if not own:
        return Estimate(np.nan, np.nan, np.nan, 0, 0)
    sums_C, counts_C = np.array([found.sum() for found in own]), np.array([len(found) for found in own])
    rng = np.random.default_rng(seed_for("bootstrap", name))
    drawn_RC = rng.integers(0, len(own), size=(_RESAMPLES, len(own)))
    means_R = sums_C[drawn_RC].sum(-1) / counts_C[drawn_RC].sum(-1)
    low, high = np.quantile(means_R, [0.025, 0.975])
    return Estimate(float(sums_C.sum() / counts_C.sum()), float(low), float(high), len(own), int(counts_C.sum()))
