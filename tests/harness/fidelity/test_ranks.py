"""Intervals over tasks: against formulas of their own, and how often they hold the truth."""

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from stepcredit.harness.fidelity.ranks import clustered, clustered_mean, rank_correlation


def test_rank_correlations_by_hand() -> None:
    """1 - 6 sum(d^2) / (n (n^2 - 1)); d = 0, 1, -1, 0."""
    found = rank_correlation(np.array([1.0, 2.0, 3.0, 9.0]), np.array([0.1, 0.3, 0.2, 0.4]))
    assert found == pytest.approx(1 - 6 * 2 / (4 * 15))
    assert rank_correlation(np.array([1.0, 2.0]), np.array([1.0, 2.0])) is None
    assert rank_correlation(np.array([1.0, 1.0, 1.0]), np.array([1.0, 2.0, 3.0])) is None


def test_equal_tasks_give_the_textbook_interval() -> None:
    """Means 0, 1, 2, 5 of four tasks: 2 +- t(0.975, 3) sqrt(14 / 3 / 4), t = 3.1824 as tables have it."""
    found = clustered_mean({"a": [-1.0, 1.0], "b": [1.0, 1.0], "c": [0.0, 4.0], "d": [5.0, 5.0]})
    assert (found.value, found.tasks, found.count) == (2.0, 4, 8)
    assert found.high - found.value == pytest.approx(3.1824 * (14 / 3 / 4) ** 0.5, rel=1e-4)
    assert found.low == pytest.approx(4.0 - found.high)


def test_a_single_task_has_no_interval() -> None:
    found = clustered_mean({"a": [0.0, 1.0], "b": []})
    assert (found.value, found.tasks) == (0.5, 1)
    assert np.isnan(found.low)
    assert np.isnan(found.p_value)
    assert found.described() == {"value": 0.5, "low": None, "high": None, "tasks": 1, "count": 2}
    assert np.isnan(clustered_mean({}).value)


@settings(deadline=None)
@given(st.lists(st.floats(-5, 5), min_size=3, max_size=9), st.floats(0.5, 3), st.floats(-3, 3))
def test_intervals_move_with_their_unit(means: list[float], scale: float, shift: float) -> None:
    one = clustered([np.array([mean]) for mean in means], lambda rows: float(rows.mean()))
    other = clustered([np.array([scale * mean + shift]) for mean in means], lambda rows: float(rows.mean()))
    assert other.low == pytest.approx(scale * one.low + shift, abs=1e-9)
    assert other.high == pytest.approx(scale * one.high + shift, abs=1e-9)


@pytest.mark.parametrize("tasks", [8, 24])
def test_intervals_hold_the_truth_about_as_often_as_they_say(tasks: int) -> None:
    """2,000 studies of unequal tasks: 93 to 97%; the standard error of a share of 95% is half a point."""
    rng, held = np.random.default_rng(0), 0
    for _ in range(2000):
        own = {
            str(task): 0.1 + rng.normal(0, 0.3) + rng.uniform(-0.6, 0.6, size=rng.integers(1, 9))
            for task in range(tasks)
        }
        found = clustered_mean({task: list(values) for task, values in own.items()})
        held += found.low <= 0.1 <= found.high
    assert 0.93 <= held / 2000 <= 0.97
