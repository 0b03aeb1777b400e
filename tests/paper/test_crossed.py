"""Intervals over seeds and tasks: against naive sums, laws, and how often they hold the truth."""

import math

import numpy as np
import pytest
from hypothesis import example, given, settings
from hypothesis import strategies as st
from hypothesis.extra import numpy as hnp
from scipy import stats

from stepcredit.paper.coverage import coverage
from stepcredit.paper.crossed import Errors, crossed_means, crossed_rates, paired_errors, paired_means, variance
from stepcredit.paper.statistics import detectable, holm, seeds_for, wilson

TABLES = hnp.arrays(np.float64, st.tuples(st.integers(2, 5), st.integers(2, 8)), elements=st.sampled_from([0.0, 1.0]))


def naive(values: list[list[float]]) -> tuple[float, float, float, float]:
    """Mean, its crossed variance, its noise and its degrees of freedom, with loops and no arrays."""
    k, n = len(values), len(values[0])
    grand = sum(map(sum, values)) / (k * n)
    rows = [sum(row) / n for row in values]
    columns = [sum(row[j] for row in values) / k for j in range(n)]
    ms_s = n * sum((row - grand) ** 2 for row in rows) / (k - 1)
    ms_t = k * sum((column - grand) ** 2 for column in columns) / (n - 1)
    ms_r = sum((values[i][j] - rows[i] - columns[j] + grand) ** 2 for i in range(k) for j in range(n)) / (
        (k - 1) * (n - 1)
    )
    both = ms_s + ms_t - ms_r
    parts = ms_s**2 / (k - 1) + ms_t**2 / (n - 1) + ms_r**2 / ((k - 1) * (n - 1))
    satterthwaite = both**2 / parts if parts else n - 1.0
    freedom = math.sqrt(min(max(satterthwaite, k - 1), k * n) * (k - 1))
    return grand, max(both, ms_t) / (k * n), ms_r / (k * n), freedom


@settings(max_examples=60, deadline=None)
@given(TABLES)
def test_variances_are_those_of_naive_sums(table: np.ndarray) -> None:
    found = variance(table)
    expected = naive(table.tolist())
    assert (found.mean, found.crossed, found.noise) == pytest.approx(expected[:3], abs=1e-12)
    if found.crossed > 1e-12:
        assert float(found.freedom) == pytest.approx(expected[3], rel=1e-6)


def test_rates_by_hand() -> None:
    """Seeds of 5, 6 and 7 of 10: as many trials as p (1 - p) / V, Wilson's formula, Student's quantile."""
    table = np.array([[float(task < wins) for task in range(10)] for wins in (5, 6, 7)])
    mean, crossed, _, freedom = naive(table.tolist())
    n, z = mean * (1 - mean) / crossed, float(stats.t.ppf(0.975, freedom))
    centre, half = mean + z * z / (2 * n), z * math.sqrt(mean * (1 - mean) / n + z * z / (4 * n * n))
    low, high = crossed_rates(table)
    assert (float(low), float(high)) == pytest.approx(
        ((centre - half) / (1 + z * z / n), (centre + half) / (1 + z * z / n))
    )


@settings(max_examples=60, deadline=None)
@given(TABLES, st.integers(0, 2**32 - 1))
@example(np.array([[1.0, 0.0, 0.0], [0.0, 0.0, 1.0], [1.0, 1.0, 1.0], [0.0, 1.0, 0.0]]), 0)  # its variance is nothing
def test_rates_stay_within_0_and_1_and_know_no_order(table: np.ndarray, seed: int) -> None:
    low, high = crossed_rates(table)
    assert 0.0 <= low <= table.mean() <= high <= 1.0
    rng = np.random.default_rng(seed)
    mixed = table[rng.permutation(len(table))][:, rng.permutation(table.shape[1])]
    assert crossed_rates(mixed) == (pytest.approx(float(low)), pytest.approx(float(high)))
    assert crossed_rates(1.0 - table) == (pytest.approx(1.0 - float(high)), pytest.approx(1.0 - float(low)))


def test_where_all_fail_the_tasks_are_the_trials() -> None:
    low, high = crossed_rates(np.zeros((3, 40)))
    assert (float(low), float(high)) == pytest.approx(wilson(0, 40))


def test_many_tables_at_once_are_each_their_own() -> None:
    tables = (np.random.default_rng(0).random((7, 3, 12)) < 0.4).astype(float)
    low_R, high_R = crossed_rates(tables)
    for place, table in enumerate(tables):
        assert (low_R[place], high_R[place]) == (
            pytest.approx(float(crossed_rates(table)[0])),
            pytest.approx(float(crossed_rates(table)[1])),
        )


def test_seeds_that_agree_by_chance_are_not_precise() -> None:
    """Every seed's difference is 0, of 20 tasks each: noise of the episodes alone, t(0.975, 38) = 2.02439."""
    rng = np.random.default_rng(3)
    table = np.array([rng.permutation([1.0] * 5 + [-1.0] * 5 + [0.0] * 10) for _ in range(3)])
    low, high = paired_means(table)
    error = math.sqrt(naive(table.tolist())[2])
    assert float(paired_errors(table).of_noise) == pytest.approx(error)
    assert (float(low), float(high)) == pytest.approx((-2.02439 * error, 2.02439 * error), rel=1e-5)


def test_a_luck_that_all_seeds_share_is_in_the_interval_of_a_change() -> None:
    """Each task changes by the same in all seeds: over seeds there is no spread, over tasks there is."""
    table = np.tile(np.array([1.0, 0.0, 0.0, -1.0, 1.0, 1.0]), (3, 1))
    low, high = crossed_means(table)
    assert low < 0.0 < high


def test_intervals_hold_the_truth_as_often_as_they_say() -> None:
    """1,500 studies a cell, whose share has a standard error of 0.6 points at 95%."""
    for row in coverage():
        assert row.population >= 0.93
        assert row.panel >= 0.94
        assert 0.93 <= row.difference <= 0.99


def test_holm_by_hand() -> None:
    assert holm([0.01, None, 0.04, 0.03, 0.005]) == [
        pytest.approx(0.03),
        None,
        pytest.approx(0.06),
        pytest.approx(0.06),
        pytest.approx(0.02),
    ]
    assert holm([None]) == [None]
    assert holm([0.9, 0.8]) == [1.0, 1.0]
    assert holm([]) == []


@pytest.mark.parametrize("seeds", [3, 5, 10])
def test_what_a_study_can_find(seeds: int) -> None:
    """A difference of that size is found in 80% of 40,000 simulated studies."""
    shift = detectable(of_seeds(seeds))
    draws = shift + np.random.default_rng(seeds).standard_normal((40_000, seeds))
    found = stats.ttest_1samp(draws, 0.0, axis=1).pvalue < 0.05
    assert found.mean() == pytest.approx(0.8, abs=0.008)
    assert seeds_for(shift * 1.001, of_seeds(3)) == seeds


def of_seeds(seeds: int) -> Errors:
    """Seeds of deviation 1, whose episodes have no noise."""
    return Errors(np.array(1.0 / math.sqrt(seeds)), np.array(0.0), seeds, 2)
