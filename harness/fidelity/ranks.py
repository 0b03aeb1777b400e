"""Rank correlations within trajectories, and statistics with intervals over tasks."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from math import isnan

import numpy as np
from numpy.typing import NDArray
from scipy.stats import spearmanr
from scipy.stats import t as student

_FEWEST_STEPS = 3
_LEVEL = 0.95


@dataclass(frozen=True, slots=True)
class Estimate:
    """A statistic with a 95% interval over tasks: jackknife over tasks, Student's t with one degree of freedom less.

    Attributes:
        value: from all rows.
        stderr: NaN for a single task.
        tasks: how many have rows.
        count: rows.
    """

    value: float
    stderr: float
    tasks: int
    count: int

    @property
    def low(self) -> float:
        """The interval's lower end."""
        return self.value - self._reach

    @property
    def high(self) -> float:
        """The interval's upper end."""
        return self.value + self._reach

    @property
    def p_value(self) -> float:
        """Two-sided, of zero; NaN where nothing varies over tasks."""
        if not self.stderr > 0.0:
            return float("nan")
        return float(2.0 * student.sf(abs(self.value) / self.stderr, self.tasks - 1))

    def described(self) -> dict[str, float | int | None]:
        """As JSON has it: null where a number is not known."""
        numbers = {"value": self.value, "low": self.low, "high": self.high}
        known = {name: None if isnan(number) else round(number, 6) for name, number in numbers.items()}
        return {**known, "tasks": self.tasks, "count": self.count}

    @property
    def _reach(self) -> float:
        if self.tasks < 2:
            return float("nan")
        return float(student.ppf(0.5 + _LEVEL / 2.0, self.tasks - 1)) * self.stderr


_NOTHING = Estimate(float("nan"), float("nan"), 0, 0)


def rank_correlation(one_K: NDArray[np.float64], other_K: NDArray[np.float64]) -> float | None:
    """Spearman's, within one trajectory; None for fewer than three steps, or where either says the same of all."""
    if len(one_K) < _FEWEST_STEPS or np.ptp(one_K) == 0.0 or np.ptp(other_K) == 0.0:
        return None
    return float(spearmanr(one_K, other_K).statistic)


def clustered(parts: Sequence[NDArray[np.float64]], statistic: Callable[[NDArray[np.float64]], float]) -> Estimate:
    """A statistic of rows [N, ...] that come by task, one array each; tasks without rows do not count."""
    own = [part for part in parts if len(part)]
    if not own:
        return _NOTHING
    value, count = statistic(np.concatenate(own)), sum(len(part) for part in own)
    if len(own) == 1:
        return Estimate(value, float("nan"), 1, count)
    without_C = np.array([statistic(np.concatenate([*own[:c], *own[c + 1 :]])) for c in range(len(own))])
    spread = float(((without_C - without_C.mean()) ** 2).sum())
    return Estimate(value, float(np.sqrt((len(own) - 1) / len(own) * spread)), len(own), count)


def clustered_mean(values: Mapping[str, Sequence[float]]) -> Estimate:
    """The mean of all values, which come by task."""
    return clustered(
        [np.asarray(found, dtype=np.float64) for found in values.values()], lambda rows: float(rows.mean())
    )
