"""rliable's aggregates: by their definitions with loops, by laws, and where they are shown."""

from pathlib import Path

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from hypothesis.extra import numpy as hnp
from scipy import stats

from stepcredit.paper.results import load_study
from stepcredit.paper.secondary import (
    improvement,
    interquartile_mean,
    profile,
    resampled,
    secondary_plots,
    secondary_tables,
)
from stepcredit.paper.tables import Ranged
from tests.paper.support import write_study

SHARES = st.sampled_from([0.0, 0.1, 0.25, 0.5, 0.7, 1.0])
SCORES = hnp.arrays(np.float64, st.tuples(st.integers(2, 5), st.just(4)), elements=SHARES)


def test_the_middle_half_by_hand() -> None:
    """Eight scores: the two lowest and the two highest are left out."""
    assert interquartile_mean(np.array([[0.0, 0.1, 0.2, 0.3], [0.4, 0.5, 0.9, 1.0]])) == pytest.approx(1.4 / 4)


@settings(max_examples=60, deadline=None)
@given(SCORES, SCORES)
def test_improvement_is_the_mann_whitney_statistic_over_the_pairs(ours: np.ndarray, theirs: np.ndarray) -> None:
    pairs = len(ours) * len(theirs)
    shares = [stats.mannwhitneyu(ours[:, task], theirs[:, task]).statistic / pairs for task in range(4)]
    assert improvement(ours, theirs) == pytest.approx(sum(shares) / 4)
    assert improvement(ours, theirs) + improvement(theirs, ours) == pytest.approx(1.0)


@settings(max_examples=60, deadline=None)
@given(SCORES)
def test_a_profile_counts_what_is_above(scores: np.ndarray) -> None:
    levels = np.array([0.0, 0.2, 0.5, 1.0])
    expected = [sum(value > level for value in scores.ravel()) / scores.size for level in levels]
    assert profile(scores, levels).tolist() == pytest.approx(expected)


def test_resampling_keeps_to_its_task_and_repeats() -> None:
    scores = np.array([[0.0, 1.0], [0.2, 0.8], [0.4, 0.9]])
    low, high = resampled("one", lambda own: own.mean(0), scores)
    assert (scores.min(0) <= low).all()
    assert (low < high).all()
    assert (high <= scores.max(0) + 1e-12).all()
    again = resampled("one", lambda own: own.mean(0), scores)
    assert (again[0].tolist(), again[1].tolist()) == (low.tolist(), high.tolist())
    draws = np.random.default_rng(0).random((3, 2))
    named = {name: float(resampled(name, np.mean, draws)[0]) for name in ("one", "another")}
    assert named["one"] != named["another"]


def test_they_stand_beside_methods_with_several_runs(tmp_path: Path) -> None:
    study = load_study(write_study(tmp_path / "many", seeds=3))
    (table,) = secondary_tables(study)
    assert [row[0] for row in table.rows] == ["GRPO", "OPD", "StepOPSD"]
    for row in table.rows[1:]:
        better = row[3]
        assert isinstance(better, Ranged)
        assert 0.0 <= better.low <= better.value <= better.high <= 1.0
    assert "nothing is concluded" in " ".join(table.notes)
    assert [plot.name for plot in secondary_plots(study)] == ["profiles"]
    single = load_study(write_study(tmp_path / "single", seeds=1))
    assert (secondary_tables(single), secondary_plots(single)) == ([], [])
