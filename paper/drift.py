"""How far training moved a policy on fixed turns, and whether its seeds moved it the same way."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from itertools import combinations
from math import nan, sqrt

import numpy as np
import pandas as pd
from scipy import stats

from stepcredit.paper.results import Run
from stepcredit.paper.statistics import mean, student_t
from stepcredit.paper.tables import Ranged

_LEVEL = 0.05


@dataclass(frozen=True, slots=True)
class Drift:
    """Of the runs of one method.

    Attributes:
        by_seed: seed -> nats a turn that the policy has moved: the mean of log p before less log p after on its own
            turns before training, an unbiased estimate of their KL divergence.
        alike: mean correlation of two seeds' changes of the turns' log-probabilities; NaN for a single seed.
    """

    by_seed: dict[int, float]
    alike: Ranged

    @property
    def moved(self) -> Ranged:
        """With Student's 95% interval over seeds."""
        values = list(self.by_seed.values())
        low, high = student_t(values) if len(values) > 1 else (nan, nan)
        return Ranged(mean(values), low, high, signed=False)

    def within(self, other: Drift) -> float:
        """The least bound within which both have moved equally far, by two one-sided t-tests at 5% on common seeds."""
        common = sorted(self.by_seed.keys() & other.by_seed.keys())
        if len(common) < 2:
            return nan
        apart = [self.by_seed[seed] - other.by_seed[seed] for seed in common]
        spread = float(np.std(apart, ddof=1)) / sqrt(len(apart))
        return abs(mean(apart)) + float(stats.t.ppf(1 - _LEVEL, len(apart) - 1)) * spread


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
    return Drift(by_seed, _alike(list(known.values())))


def _alike(frames: Sequence[pd.DataFrame]) -> Ranged:
    """With a jackknife interval over tasks."""
    if len(frames) < 2:
        return Ranged(nan)
    tasks = frames[0]["task_id"].to_numpy()
    changes_SN = np.array([frame["change"].to_numpy(np.float64) for frame in frames])
    value, names = _correlation(changes_SN), sorted(set(tasks))
    if len(names) < 2 or np.isnan(value):
        return Ranged(value)
    without_C = np.array([_correlation(changes_SN[:, tasks != name]) for name in names])
    spread = sqrt((len(names) - 1) / len(names) * float(((without_C - without_C.mean()) ** 2).sum()))
    reach = float(stats.t.ppf(0.975, len(names) - 1)) * spread
    return Ranged(value, max(-1.0, value - reach), min(1.0, value + reach))


def _correlation(changes_SN: np.ndarray[tuple[int, ...], np.dtype[np.float64]]) -> float:
    if (changes_SN.std(1) == 0).any():
        return nan
    return mean([float(np.corrcoef(one_N, other_N)[0, 1]) for one_N, other_N in combinations(changes_SN, 2)])
