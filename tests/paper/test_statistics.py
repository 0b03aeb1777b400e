import numpy as np
import pandas as pd
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from stepcredit.paper.statistics import Interval, paired_difference, student_t, success_rate, wilson


def frame(rows: list[tuple[int, str, bool]]) -> pd.DataFrame:
    return pd.DataFrame(rows, columns=["seed", "task_id", "success"])


def seeds_of(successes: dict[int, int], n: int) -> pd.DataFrame:
    return frame([(seed, f"t{task}", task < k) for seed, k in successes.items() for task in range(n)])


def test_student_t_of_three_values_by_hand():
    # mean 0.6, s = 0.1, t(0.975, 2) = 4.30265 from the printed table: half-width 4.30265 * 0.1 / sqrt(3) = 0.248414
    low, high = student_t([0.5, 0.6, 0.7])
    assert (low, high) == (pytest.approx(0.351586, abs=1e-6), pytest.approx(0.848414, abs=1e-6))


@pytest.mark.parametrize(
    ("successes", "n", "low", "high"),
    [(81, 263, 0.2553, 0.3662), (15, 148, 0.0624, 0.1605), (0, 20, 0.0, 0.1611), (1, 29, 0.0061, 0.1718)],
)
def test_wilson_gives_the_values_of_newcombe_1998_table_1(successes: int, n: int, low: float, high: float):
    assert wilson(successes, n) == (pytest.approx(low, abs=5e-5), pytest.approx(high, abs=5e-5))


@pytest.mark.parametrize("n", [1, 7, 150])
def test_wilson_mirrors_successes_and_failures(n: int):
    for k in range(n + 1):
        low, high = wilson(k, n)
        assert (1 - high, 1 - low) == (pytest.approx(wilson(n - k, n)[0]), pytest.approx(wilson(n - k, n)[1]))
        assert 0 <= low <= k / n <= high <= 1


def test_statistics_without_data_are_refused():
    with pytest.raises(ValueError, match="two values or more, got 1"):
        student_t([0.5])
    with pytest.raises(ValueError, match="got 0 of 0"):
        wilson(0, 0)


def test_seeds_and_tasks_are_both_a_sample():
    estimate = success_rate(seeds_of({0: 5, 1: 6, 2: 7}, 10))
    assert estimate is not None
    assert estimate.by_seed == (0.5, 0.6, 0.7)
    assert (estimate.interval, estimate.seeds, estimate.n) == (Interval.CROSSED, 3, 30)
    assert estimate.mean == pytest.approx(0.6)
    # By the naive sums of test_crossed.py; Student's t over the seeds alone gives 0.352 to 0.848.
    assert (estimate.low, estimate.high) == (pytest.approx(0.241136, abs=1e-6), pytest.approx(0.876251, abs=1e-6))


def test_one_seed_has_an_interval_over_tasks():
    estimate = success_rate(seeds_of({4: 81}, 263))
    assert estimate is not None
    assert estimate.interval is Interval.WILSON_TASKS
    assert (estimate.low, estimate.high) == wilson(81, 263)


def test_episodes_of_one_task_are_no_tasks():
    """Three tasks of four episodes: 4, 2 and 0 won. p = 1/2, V = (1/4 + 0 + 1/4) / 2 / 3 = 1/12, worth 3 trials."""
    wins = {"a": 4, "b": 2, "c": 0}
    estimate = success_rate(frame([(0, task, place < k) for task, k in wins.items() for place in range(4)]))
    assert estimate is not None
    assert (estimate.interval, estimate.n, estimate.by_seed) == (Interval.CLUSTERED_TASKS, 12, (0.5,))
    # Wilson with n = 3 and z = t(0.975, 2) = 4.30265: 1/2 -+ z / (1 + z z / 3) sqrt(1 / 12 + z z / 36)
    z = 4.302653
    half = z / (1 + z * z / 3) * (1 / 12 + z * z / 36) ** 0.5
    assert (estimate.low, estimate.high) == (pytest.approx(0.5 - half, abs=1e-6), pytest.approx(0.5 + half, abs=1e-6))


def test_several_episodes_a_task_are_one_value_of_a_seed_and_task():
    once = seeds_of({0: 5, 1: 6, 2: 7}, 10)
    four, one = success_rate(pd.concat([once] * 4)), success_rate(once)
    assert four is not None
    assert one is not None
    assert (four.mean, four.low, four.high, four.n) == (one.mean, one.low, one.high, 120)
    twice = paired_difference(pd.concat([once] * 2), seeds_of({0: 4, 1: 4, 2: 4}, 10))
    paired = paired_difference(once, seeds_of({0: 4, 1: 4, 2: 4}, 10))
    assert twice == paired


def test_more_episodes_narrow_what_is_luck():
    draws = np.random.default_rng(0).random((3, 60, 8)) < 0.5
    few, many = (
        success_rate(
            frame([(s, f"t{t}", bool(draws[s, t, m])) for s in range(3) for t in range(60) for m in range(samples)])
        )
        for samples in (1, 8)
    )
    assert few is not None
    assert many is not None
    assert many.high - many.low < 0.6 * (few.high - few.low)


def test_no_episodes_give_no_estimate():
    empty = seeds_of({}, 3)
    assert success_rate(empty) is None
    assert paired_difference(empty, seeds_of({0: 1}, 3)) is None


def test_paired_difference_by_hand():
    # Seed 0: tasks a, b won, c equal: (1 + 1 + 0) / 3. Seed 1: a lost: -1 / 3. Mean 1/6.
    ours = frame([(0, "a", True), (0, "b", True), (0, "c", False), (1, "a", False), (1, "b", True), (1, "c", True)])
    base = frame([(0, "a", False), (0, "b", False), (0, "c", False), (1, "a", True), (1, "b", True), (1, "c", True)])
    estimate = paired_difference(ours, base)
    assert estimate is not None
    assert estimate.by_seed == (2 / 3, -1 / 3)
    assert (estimate.mean, estimate.n, estimate.interval) == (pytest.approx(1 / 6), 6, Interval.T_SEEDS)
    # s = sqrt(0.5), t(0.975, 1) = 12.7062: half-width 12.7062 * sqrt(0.5) / sqrt(2) = 6.3531
    assert estimate.high - estimate.mean == pytest.approx(6.3531, abs=1e-4)
    assert estimate.p_value == pytest.approx(0.7952, abs=1e-4)  # 2 (1/2 - arctan(t) / pi), t = (1/6) / 0.5


@settings(deadline=None)
@given(st.lists(st.lists(st.integers(-1, 1), min_size=5, max_size=5), min_size=2, max_size=5))
def test_p_is_below_5_percent_where_the_interval_excludes_zero(differences: list[list[int]]):
    def episodes(wins: int) -> pd.DataFrame:
        places = [
            (seed, f"t{task}", value == wins) for seed, row in enumerate(differences) for task, value in enumerate(row)
        ]
        return frame(places)

    estimate = paired_difference(episodes(1), episodes(-1))
    assert estimate is not None
    assert estimate.excludes_zero == (estimate.p_value is not None and estimate.p_value < 0.05) or estimate.degenerate


def test_only_common_seeds_and_tasks_are_paired():
    ours = frame([(0, "a", True), (0, "b", True), (5, "a", True)])
    base = frame([(0, "a", False), (0, "z", True), (6, "a", True)])
    estimate = paired_difference(ours, base)
    assert estimate is not None
    assert (estimate.by_seed, estimate.n, estimate.interval) == ((1.0,), 1, Interval.T_TASKS)


def test_pairing_removes_the_difficulty_of_tasks():
    base = seeds_of({0: 40}, 100)
    ours = base.assign(success=base["success"] | (base["task_id"] == "t99"))
    estimate = paired_difference(ours, base)
    assert estimate is not None
    assert estimate.by_seed == (0.01,)
    # One of 100 differences is 1: s = 0.1, t(0.975, 99) = 1.98422, half-width 0.0198422; unpaired it were about 0.14.
    assert estimate.high - estimate.mean == pytest.approx(0.0198422, abs=1e-6)


@st.composite
def tables_and_shuffles(draw: st.DrawFn) -> tuple[pd.DataFrame, pd.DataFrame, pd.DataFrame]:
    """Episodes, and the same episodes cut into batches, shuffled within them, the batches in another order."""
    seeds, tasks = draw(st.integers(1, 4)), draw(st.integers(1, 9))
    outcomes = draw(st.lists(st.booleans(), min_size=seeds * tasks, max_size=seeds * tasks))
    base = draw(st.lists(st.booleans(), min_size=seeds * tasks, max_size=seeds * tasks))
    keys = [(seed, f"t{task}") for seed in range(seeds) for task in range(tasks)]
    whole = frame([(*key, success) for key, success in zip(keys, outcomes, strict=True)])
    baseline = frame([(*key, success) for key, success in zip(keys, base, strict=True)])
    order = np.random.default_rng(draw(st.integers(0, 2**32))).permutation(len(whole))
    cuts = sorted(draw(st.lists(st.integers(0, len(whole)), max_size=5)))
    batches = [whole.iloc[part] for part in np.split(order, cuts)]
    return whole, pd.concat(batches[::-1]), baseline


@settings(max_examples=40, deadline=None)
@given(tables_and_shuffles())
def test_aggregates_ignore_batches_and_row_order_bit_for_bit(tables: tuple[pd.DataFrame, pd.DataFrame, pd.DataFrame]):
    whole, shuffled, baseline = tables
    assert success_rate(shuffled) == success_rate(whole)
    assert paired_difference(shuffled, baseline) == paired_difference(whole, baseline)
    assert paired_difference(baseline, shuffled) == paired_difference(baseline, whole)


@settings(max_examples=40, deadline=None)
@given(tables_and_shuffles())
def test_swapping_the_methods_flips_the_difference(tables: tuple[pd.DataFrame, pd.DataFrame, pd.DataFrame]):
    ours, _, baseline = tables
    there, back = paired_difference(ours, baseline), paired_difference(baseline, ours)
    assert there is not None
    assert back is not None
    assert (back.mean, back.low, back.high) == (-there.mean, pytest.approx(-there.high), pytest.approx(-there.low))
