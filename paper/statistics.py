"""Means and 95% intervals. Pure functions of episodes; no result depends on the order of rows.

An episode frame has the columns `seed`, `task_id` and `success`, and one row for each seed and task.

Two kinds of noise are kept apart. With two seeds or more, the unit is the seed: an interval says how much
another training run would differ on the same tasks. With one seed there is no such information, and the
interval is over tasks: how much other tasks of the same kind would differ for the same weights. `Interval`
says which one an estimate has.

Counts are integers and sums are `math.fsum`, which rounds once, so that equal episodes give equal bits.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass
from enum import StrEnum

import pandas as pd
from scipy import stats

CONFIDENCE = 0.95


class Interval(StrEnum):
    """How an interval was made."""

    T_SEEDS = "Student t over seeds"
    WILSON_TASKS = "Wilson over tasks"
    T_TASKS = "Student t over tasks"


@dataclass(frozen=True, slots=True)
class Estimate:
    """A mean with its 95% interval; rates and differences are fractions, not points.

    Attributes:
        mean: mean over seeds of each seed's mean over its episodes.
        low: lower end of the interval.
        high: upper end of the interval.
        interval: how the interval was made.
        by_seed: each seed's mean, in the order of seeds.
        n: episodes, or pairs of episodes for a difference.
    """

    mean: float
    low: float
    high: float
    interval: Interval
    by_seed: tuple[float, ...]
    n: int

    @property
    def seeds(self) -> int:
        """Number of seeds behind the mean."""
        return len(self.by_seed)

    @property
    def degenerate(self) -> bool:
        """Whether all units are equal, so that the interval has no width and says nothing of noise."""
        return self.low == self.high

    @property
    def excludes_zero(self) -> bool:
        """Whether zero lies outside the interval."""
        return self.low > 0 or self.high < 0


def mean(values: Sequence[float]) -> float:
    """Arithmetic mean, rounded once."""
    return math.fsum(values) / len(values)


def student_t(values: Sequence[float]) -> tuple[float, float]:
    """95% interval of the mean of independent values: mean ± t(0.975, k - 1) * s / sqrt(k).

    Raises:
        ValueError: fewer than two values.
    """
    k = len(values)
    if k < 2:
        raise ValueError(f"a Student-t interval needs two values or more, got {k}")
    centre = mean(values)
    deviation = math.sqrt(math.fsum((value - centre) ** 2 for value in values) / (k - 1))
    half = float(stats.t.ppf((1 + CONFIDENCE) / 2, k - 1)) * deviation / math.sqrt(k)
    return centre - half, centre + half


def wilson(successes: int, n: int) -> tuple[float, float]:
    """Wilson's 95% score interval of a proportion (Wilson 1927); always inside [0, 1].

    Raises:
        ValueError: no trials, or more successes than trials.
    """
    if n < 1 or not 0 <= successes <= n:
        raise ValueError(f"a Wilson interval needs 0 <= successes <= n and n >= 1, got {successes} of {n}")
    z = float(stats.norm.ppf((1 + CONFIDENCE) / 2))
    share = successes / n
    centre = (share + z * z / (2 * n)) / (1 + z * z / n)
    half = z / (1 + z * z / n) * math.sqrt(share * (1 - share) / n + z * z / (4 * n * n))
    low = 0.0 if successes == 0 else centre - half
    high = 1.0 if successes == n else centre + half
    return low, high


def success_rate(episodes: pd.DataFrame) -> Estimate | None:
    """Mean over seeds of the success over a seed's episodes; None without episodes.

    Interval: Student's t over seeds; with one seed, Wilson's over tasks.
    """
    counts = episodes.groupby("seed")["success"].agg(["sum", "count"]).sort_index()
    if counts.empty:
        return None
    successes, totals = [int(k) for k in counts["sum"]], [int(n) for n in counts["count"]]
    by_seed = tuple(k / n for k, n in zip(successes, totals, strict=True))
    if len(by_seed) == 1:
        low, high = wilson(successes[0], totals[0])
        return Estimate(by_seed[0], low, high, Interval.WILSON_TASKS, by_seed, totals[0])
    low, high = student_t(by_seed)
    return Estimate(mean(by_seed), low, high, Interval.T_SEEDS, by_seed, sum(totals))


def metric_mean(episodes: pd.DataFrame, metric: str) -> Estimate | None:
    """Mean over seeds of the metric over a seed's episodes; None without episodes.

    Interval: Student's t over seeds; with one seed, Student's t over tasks (without width for a single one).
    """
    values = [[float(value) for value in rows] for _, rows in episodes.groupby("seed", sort=True)[metric]]
    if not values:
        return None
    by_seed = tuple(mean(of_seed) for of_seed in values)
    n = sum(len(of_seed) for of_seed in values)
    if len(by_seed) > 1:
        low, high = student_t(by_seed)
        return Estimate(mean(by_seed), low, high, Interval.T_SEEDS, by_seed, n)
    low, high = student_t(values[0]) if n > 1 else (by_seed[0], by_seed[0])
    return Estimate(by_seed[0], low, high, Interval.T_TASKS, by_seed, n)


def paired_difference(episodes: pd.DataFrame, baseline: pd.DataFrame) -> Estimate | None:
    """Success minus the baseline's success on the same seed and task; None without a pair.

    A seed's value is the mean over its pairs. Interval: Student's t over seeds; with one seed, Student's t
    over the tasks' differences (without width for a single pair).
    """
    keys = ["seed", "task_id"]
    pairs = episodes[[*keys, "success"]].merge(baseline[[*keys, "success"]], on=keys, validate="one_to_one")
    if pairs.empty:
        return None
    pairs["difference"] = pairs["success_x"].astype(int) - pairs["success_y"].astype(int)
    sums = pairs.groupby("seed")["difference"].agg(["sum", "count"]).sort_index()
    by_seed = tuple(int(d) / int(n) for d, n in zip(sums["sum"], sums["count"], strict=True))
    if len(by_seed) > 1:
        low, high = student_t(by_seed)
        return Estimate(mean(by_seed), low, high, Interval.T_SEEDS, by_seed, len(pairs))
    differences = [float(difference) for difference in pairs["difference"]]
    low, high = student_t(differences) if len(differences) > 1 else (by_seed[0], by_seed[0])
    return Estimate(by_seed[0], low, high, Interval.T_TASKS, by_seed, len(pairs))
