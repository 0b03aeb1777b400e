"""Means and 95% intervals. Pure functions of episodes; no result depends on the order of rows.

An episode frame has the columns `seed`, `task_id` and `success`, and a row for each episode. Where a seed has several
of one task, they are one value in what follows, their mean: tasks are what is independent, not their episodes.

Rates and changes are taken over seeds and tasks at once: an interval says what the mean of other runs on other such
tasks would be (`crossed`). Differences between methods are paired by seed and task, and taken over seeds on this panel.
With one seed there is nothing to say of other runs, and the interval is over tasks: `Interval` says which one it is.

Counts are integers and sums are `math.fsum`, which rounds once, so that equal episodes give equal bits.
"""

from __future__ import annotations

import math
from bisect import bisect_left
from collections.abc import Sequence
from dataclasses import dataclass
from enum import StrEnum

import numpy as np
import pandas as pd
from numpy.typing import NDArray
from scipy import optimize, stats

from stepcredit.paper.crossed import (
    Errors,
    clustered_rate,
    crossed_means,
    crossed_rates,
    paired_errors,
    paired_means,
    wilson_interval,
)

CONFIDENCE = 0.95
LEVEL = 0.05
POWER = 0.8


class Interval(StrEnum):
    """How an interval was made."""

    CROSSED = "crossed over seeds and tasks"
    T_SEEDS = "Student t over seeds, no narrower than that of the episodes' noise"
    WILSON_TASKS = "Wilson over tasks"
    CLUSTERED_TASKS = "Wilson over tasks, of several episodes each"
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
        errors: standard errors of a difference over seeds; None for other estimates.
    """

    mean: float
    low: float
    high: float
    interval: Interval
    by_seed: tuple[float, ...]
    n: int
    errors: Errors | None = None

    @property
    def p_value(self) -> float | None:
        """Of no difference, two-sided; None for a single seed, which says nothing of others, and without any spread."""
        known = [(error, freedom) for error, freedom in self.errors.parts if error > 0.0] if self.errors else []
        return max((float(2 * stats.t.sf(abs(self.mean) / error, freedom)) for error, freedom in known), default=None)

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
    z = np.array(stats.norm.ppf((1 + CONFIDENCE) / 2))
    low, high = wilson_interval(np.array(successes / n), np.array(float(n)), z)
    return float(low), float(high)


def success_rate(episodes: pd.DataFrame) -> Estimate | None:
    """Mean over seeds of the success over a seed's episodes; None without episodes.

    Interval: over seeds and tasks, of the tasks that all seeds have; with one seed, Wilson's over tasks, whose episodes
    count as many as their spread over tasks makes them worth.
    """
    counts = episodes.groupby("seed")["success"].agg(["sum", "count"]).sort_index()
    if counts.empty:
        return None
    successes, totals = [int(k) for k in counts["sum"]], [int(n) for n in counts["count"]]
    by_seed = tuple(k / n for k, n in zip(successes, totals, strict=True))
    n, grid_SN = sum(totals), _grid(episodes, "success")
    if len(by_seed) > 1:
        low, high = (float(end) for end in crossed_rates(grid_SN, n))
        return Estimate(mean(by_seed), low, high, Interval.CROSSED, by_seed, n)
    if n == grid_SN.size:
        return Estimate(by_seed[0], *wilson(successes[0], n), Interval.WILSON_TASKS, by_seed, n)
    low, high = (float(end) for end in clustered_rate(grid_SN[0], n))
    return Estimate(by_seed[0], low, high, Interval.CLUSTERED_TASKS, by_seed, n)


def metric_mean(episodes: pd.DataFrame, metric: str) -> Estimate | None:
    """Mean over seeds of the metric over a seed's episodes; None without episodes.

    Interval: over seeds and tasks; with one seed, Student's t over tasks (without width for a single one).
    """
    values = [[float(value) for value in rows] for _, rows in episodes.groupby("seed", sort=True)[metric]]
    if not values:
        return None
    by_seed = tuple(mean(of_seed) for of_seed in values)
    n, grid_SN = sum(len(of_seed) for of_seed in values), _grid(episodes, metric)
    if len(by_seed) > 1:
        low, high = (float(end) for end in crossed_means(grid_SN))
        return Estimate(mean(by_seed), low, high, Interval.CROSSED, by_seed, n)
    return _of_one_seed(grid_SN[0], by_seed, n)


def paired_difference(episodes: pd.DataFrame, baseline: pd.DataFrame) -> Estimate | None:
    """Success minus the baseline's success on the same seed and task; None without a pair.

    A seed's value is the mean over its tasks. Interval: Student's t over seeds, on this panel, no narrower than that of
    the episodes' noise; with one seed, Student's t over the tasks' differences (without width for a single pair).
    """
    pairs = _paired(episodes, baseline)
    if pairs.empty:
        return None
    by_seed, n, grid_SN = _means(pairs), int(pairs["count"].sum()), _grid(pairs, "difference")
    if len(by_seed) == 1:
        return _of_one_seed(grid_SN[0], by_seed, n)
    low, high = (float(end) for end in paired_means(grid_SN))
    return Estimate(mean(by_seed), low, high, Interval.T_SEEDS, by_seed, n, paired_errors(grid_SN))


def change(after: pd.DataFrame, before: pd.DataFrame) -> Estimate | None:
    """Success after less before, on the same seed and task; None without a pair.

    Interval: over seeds and tasks. Where the episodes before training are one luck that all seeds share, as they share
    the tasks, their noise is in the variance over tasks. With one seed it is over tasks.
    """
    pairs = _paired(after, before)
    if pairs.empty:
        return None
    by_seed, n, grid_SN = _means(pairs), int(pairs["count"].sum()), _grid(pairs, "difference")
    if len(by_seed) == 1:
        return _of_one_seed(grid_SN[0], by_seed, n)
    low, high = (float(end) for end in crossed_means(grid_SN))
    return Estimate(mean(by_seed), low, high, Interval.CROSSED, by_seed, n)


def holm(p_values: Sequence[float | None]) -> list[float | None]:
    """Corrected for their number (Holm 1979); None stays what it is and does not count."""
    known = sorted((value, place) for place, value in enumerate(p_values) if value is not None)
    found: list[float | None] = [None] * len(p_values)
    worst = 0.0
    for rank, (value, place) in enumerate(known):
        worst = max(worst, min(1.0, value * (len(known) - rank)))
        found[place] = worst
    return found


def detectable(errors: Errors) -> float:
    """The least true difference that is found in 80% of studies at 5%, two-sided, of those standard errors."""
    return max(float(error) * _reach(freedom) for error, freedom in errors.parts)


def seeds_for(difference: float, errors: Errors) -> int:
    """How many seeds find that difference in 80% of studies, if they spread as they did; 10,000 at most."""
    counts = range(2, 10_000)
    return 2 + bisect_left(counts, True, key=lambda k: detectable(errors.with_seeds(k)) <= difference)


def _reach(freedom: int) -> float:
    """Standard errors of a difference that is found in 80% of studies, by the noncentral t."""
    limit = float(stats.t.ppf((1 + CONFIDENCE) / 2, freedom))
    return float(optimize.brentq(lambda shift: stats.nct.sf(limit, freedom, shift) - POWER, 0.0, 200.0))


def _paired(episodes: pd.DataFrame, baseline: pd.DataFrame) -> pd.DataFrame:
    """A row for each seed and task that both have: the difference of their means, and how many pairs they make."""
    keys = ["seed", "task_id"]
    ours, theirs = (rows.groupby(keys)["success"].agg(["sum", "count"]) for rows in (episodes, baseline))
    both = ours.add_suffix("_ours").join(theirs.add_suffix("_theirs"), how="inner").reset_index()
    difference = both["sum_ours"] / both["count_ours"] - both["sum_theirs"] / both["count_theirs"]
    return both.assign(difference=difference, count=both[["count_ours", "count_theirs"]].min(axis="columns"))


def _means(pairs: pd.DataFrame) -> tuple[float, ...]:
    return tuple(mean(rows.tolist()) for _, rows in pairs.groupby("seed", sort=True)["difference"])


def _of_one_seed(values_N: NDArray[np.float64], by_seed: tuple[float, ...], n: int) -> Estimate:
    """Student's t over tasks; without width for a single one."""
    low, high = student_t(values_N.tolist()) if len(values_N) > 1 else (by_seed[0], by_seed[0])
    return Estimate(by_seed[0], low, high, Interval.T_TASKS, by_seed, n)


def _grid(episodes: pd.DataFrame, column: str) -> NDArray[np.float64]:
    """[S, N] of the tasks that all seeds have, both in order."""
    table = episodes.pivot_table(index="seed", columns="task_id", values=column, aggfunc="mean").sort_index()
    return table.dropna(axis="columns").sort_index(axis="columns").to_numpy(np.float64)
