"""How far training moved a policy on fixed turns, and whether its seeds moved it the same way."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from itertools import combinations
from math import isnan, nan, sqrt

import numpy as np
import pandas as pd
from scipy import stats

from stepcredit.paper.results import Run
from stepcredit.paper.statistics import LEVEL, mean, student_t
from stepcredit.paper.tables import Ranged


@dataclass(frozen=True, slots=True)
class Drift:
    """Of the runs of one method.

    Attributes:
        by_seed: seed -> nats a turn that the policy has moved: the mean of log p before less log p after on its own
            turns before training, an unbiased estimate of their KL divergence.
        alike: mean correlation of two seeds' changes of the turns' log-probabilities; NaN for a single seed.
        p_alike: two-sided p of its being zero; NaN where it has no interval.
    """

    by_seed: dict[int, float]
    alike: Ranged
    p_alike: float = nan

    @property
    def moved(self) -> Ranged:
        """With Student's 95% interval over seeds, as far as it is not negative: a divergence never is."""
        values = list(self.by_seed.values())
        low, high = student_t(values) if len(values) > 1 else (nan, nan)
        return Ranged(mean(values), low if isnan(low) else max(0.0, low), high, signed=False)

    def within(self, other: Drift) -> float:
        """The least bound within which both have moved equally far, by two one-sided t-tests at 5% on common seeds."""
        common = sorted(self.by_seed.keys() & other.by_seed.keys())
        if len(common) < 2:
            return nan
        apart = [self.by_seed[seed] - other.by_seed[seed] for seed in common]
        spread = float(np.std(apart, ddof=1)) / sqrt(len(apart))
        return abs(mean(apart)) + float(stats.t.ppf(1 - LEVEL, len(apart) - 1)) * spread


def drift_of(runs: Sequence[Run]) -> Drift | None:
    """Of runs of different seeds; None if one of them kept no turns."""
    kept = {run.spec.seed: run.probes for run in runs}
    if not kept or any(probes is None or probes.empty for probes in kept.values()):
        return None
    known = {
        seed: probes.assign(change=probes["after"] - probes["before"])
        for seed, probes in kept.items()
        if probes is not None
    }
    by_seed = {seed: mean([float(value) for value in -frame["change"]]) for seed, frame in known.items()}
    return Drift(by_seed, *_alike(list(known.values())))


def _alike(frames: Sequence[pd.DataFrame]) -> tuple[Ranged, float]:
    """With a jackknife interval over tasks, and its p."""
    if len(frames) < 2:
        return Ranged(nan), nan
    tasks = frames[0]["task_id"].to_numpy()
    changes_SN = np.array([frame["change"].to_numpy(np.float64) for frame in frames])
    value, names = _correlation(changes_SN), sorted(set(tasks))
    if len(names) < 2 or np.isnan(value):
        return Ranged(value), nan
    without_C = np.array([_correlation(changes_SN[:, tasks != name]) for name in names])
    spread = sqrt((len(names) - 1) / len(names) * float(((without_C - without_C.mean()) ** 2).sum()))
    known = stats.t(len(names) - 1)
    reach = float(known.ppf(1 - LEVEL / 2)) * spread
    p_value = float(2 * known.sf(abs(value) / spread)) if spread else nan
    return Ranged(value, max(-1.0, value - reach), min(1.0, value + reach)), p_value


def _correlation(changes_SN: np.ndarray[tuple[int, ...], np.dtype[np.float64]]) -> float:
    if (changes_SN.std(1) == 0).any():
        return nan
    return mean([float(np.corrcoef(one_N, other_N)[0, 1]) for one_N, other_N in combinations(changes_SN, 2)])
