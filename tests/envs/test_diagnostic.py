"""Diagnostic tasks: promises, exact advantages against formulas of their own and against sampled episodes."""

import random
from statistics import fmean

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from stepcredit.envs import family_of
from stepcredit.envs.contract import EnvError
from stepcredit.envs.diagnostic.benchmark import FAMILY, DiagnosticBenchmark
from stepcredit.envs.diagnostic.process import Process, State, advantages, best_actions, best_values, uniform, values
from stepcredit.envs.diagnostic.puzzles import Doors, Key, Needs, Puzzle, Tree
from stepcredit.envs.laws import benchmark_tests

COLOURS = ("black", "green", "red")

test_promises_of_critical_step = benchmark_tests(lambda: DiagnosticBenchmark("critical_step"), "train", "test")
test_promises_of_delayed_key = benchmark_tests(lambda: DiagnosticBenchmark("delayed_key"), "train", "test")
test_promises_of_chain_of_needs = benchmark_tests(lambda: DiagnosticBenchmark("chain_of_needs"), "train", "test")
test_promises_of_bandit_tree = benchmark_tests(lambda: DiagnosticBenchmark("bandit_tree"), "train", "test")
test_promises_of_null_causal = benchmark_tests(lambda: DiagnosticBenchmark("null_causal"), "train", "test")


def walked(process: Process, rng: random.Random) -> list[tuple[State, str]]:
    """A random episode: states and what was done there."""
    state, steps = process.start, list[tuple[State, str]]()
    while actions := process.actions(state):
        action = rng.choice(actions)
        steps.append((state, action))
        after, odds = zip(*process.outcomes(state, action), strict=True)
        (state,) = rng.choices(after, odds)
    return steps


@settings(deadline=None)
@given(st.integers(0, 4), st.integers(0, 99))
def test_one_step_of_a_critical_task_has_an_advantage(critical: int, seed: int) -> None:
    """1 - p for the door that leads out and -p for others, p being how likely the policy takes it."""
    house = Doors(COLOURS, critical, "red")
    for number, (state, action) in enumerate(walked(house, random.Random(seed))):
        expected = 0.0
        if number == critical:
            expected = 2 / 3 if action == "open red door" else -1 / 3
        assert advantages(house, uniform(house), state)[action] == pytest.approx(expected, abs=1e-12)


def test_values_are_those_of_the_policy() -> None:
    house = Doors(COLOURS, 2, "red")

    def skilled(state: State) -> dict[str, float]:
        return {"open red door": 0.8, "open green door": 0.15, "open black door": 0.05}

    assert values(house, skilled)[house.start] == pytest.approx(0.8)
    assert advantages(house, skilled, (2, 1))["open green door"] == pytest.approx(-0.8)


@settings(deadline=None)
@given(st.integers(0, 99))
def test_no_action_has_an_advantage_where_nothing_has_a_cause(seed: int) -> None:
    house = Doors(COLOURS, None, "white")
    for state, _ in walked(house, random.Random(seed)):
        assert set(advantages(house, uniform(house), state).values()) == {0.0}
    assert values(house, uniform(house))[house.start] == 0.5


def test_a_key_is_worth_what_comes_of_it_at_the_end() -> None:
    hall = Key(("bag", "jar", "vase"), "jar", hall=4)
    here = advantages(hall, uniform(hall), hall.start)
    assert here == {
        "search bag": pytest.approx(-1 / 6),
        "search jar": pytest.approx(1 / 3),
        "search vase": pytest.approx(-1 / 6),
    }
    for taken in range(1, 5):
        assert set(advantages(hall, uniform(hall), (taken, 1, 0)).values()) == {0.0}
    assert advantages(hall, uniform(hall), (5, 1, 0)) == {"go away": -0.5, "open door": 0.5}
    assert advantages(hall, uniform(hall), (5, 0, 0)) == {"go away": 0.0, "open door": 0.0}


def test_needs_come_in_order() -> None:
    """With three turns left and nothing done there is one way; put down cold, there is none."""
    task = Needs("egg", "pan")
    known = values(task, uniform(task))
    assert known[3, 0, 0, 0] == pytest.approx(1 / 64)
    assert known[2, 1, 1, 0] == pytest.approx(1 - (3 / 4) ** 4)
    assert advantages(task, uniform(task), (4, 1, 0, 0))["put egg"] == pytest.approx(-1 / 16)
    assert advantages(task, uniform(task), (2, 1, 1, 0))["heat egg"] == pytest.approx((1 - 0.75**3) - (1 - 0.75**4))
    assert best_actions(task, task.start, best_values(task)) == ("heat egg", "look at pan", "put egg", "take egg")
    assert best_actions(task, task.start, best_values(task, discount=0.9)) == ("take egg",)
    assert best_actions(task, (3, 0, 0, 0), best_values(task)) == ("take egg",)


def test_chance_is_no_merit() -> None:
    """At the last fork before the likely prize: 0.9 and 0.1 of 0.9 and 0.3, against the other way about."""
    tree = Tree(("blue", "red"), likely=5)
    here = advantages(tree, uniform(tree), (2, 2, 0))
    assert here["take red path"] == pytest.approx((0.9 * 0.9 + 0.1 * 0.3) - 0.6)
    assert here["take blue path"] == pytest.approx((0.1 * 0.9 + 0.9 * 0.3) - 0.6)
    assert tree.task == "find the prize, most likely at the end of red, blue, red."
    assert best_actions(tree, tree.start, best_values(tree)) == ("take red path",)


@pytest.mark.parametrize("suite", Puzzle)
def test_exact_values_are_what_sampled_episodes_find(suite: Puzzle) -> None:
    """4,000 uniform episodes of the environment itself; five standard errors."""
    benchmark, rng = DiagnosticBenchmark(suite), random.Random(suite)
    process = benchmark.process("train-003")
    ends = []
    for seed in range(4000):
        env = benchmark.make("train-003")
        actions, won = env.reset().actions, False
        while actions:
            env.chance(rng.randrange(1 << 60) + seed)
            result = env.step(rng.choice(actions))
            actions, won = result.observation.actions, result.success
        ends.append(won)
    exact = values(process, uniform(process))[process.start]
    assert fmean(ends) == pytest.approx(exact, abs=5 * (exact * (1 - exact) / 4000) ** 0.5)


@pytest.mark.parametrize("suite", ["critical_step", "delayed_key", "chain_of_needs"])
def test_the_true_advantages_name_the_step_that_matters(suite: str) -> None:
    """The advantages along an episode sum up to its outcome less its start's value: without chance nothing is lost."""
    benchmark = DiagnosticBenchmark(suite)
    for task in benchmark.panel("test").tasks:
        process, rng = benchmark.process(task.id), random.Random(task.id)
        known, steps = values(process, uniform(process)), walked(process, rng)
        total = sum(advantages(process, uniform(process), state)[action] for state, action in steps)
        (state, action) = steps[-1]
        ((end, _),) = process.outcomes(state, action)
        assert total == pytest.approx(float(process.won(end)) - known[process.start])


def test_an_action_that_is_not_admitted_changes_nothing() -> None:
    env = DiagnosticBenchmark("critical_step").make("train-000")
    first = env.reset()
    before = env.state_key
    result = env.step("open the window")
    assert (result.valid, result.done, env.state_key) == (False, False, before)
    assert result.observation.actions == first.actions


def test_the_door_it_comes_through() -> None:
    assert family_of("diagnostic") is FAMILY
    assert list(FAMILY.suites) == list(Puzzle)
    with pytest.raises(EnvError, match="unknown suite of diagnostic 'critical'"):
        family_of("diagnostic").load("critical", {})
    with pytest.raises(EnvError, match="has no option 'rooms'"):
        family_of("diagnostic").complete({"rooms": 3})
    with pytest.raises(EnvError, match="unknown split of diagnostic 'dev'"):
        DiagnosticBenchmark("null_causal").panel("dev")
    for wrong in ("train-96", "train-096", "dev-001", "walk"):
        with pytest.raises(EnvError, match=f"no task '{wrong}'; tasks are train-000 to test-047"):
            DiagnosticBenchmark("null_causal").make(wrong)
    with pytest.raises(EnvError, match="is a matter of chance"):
        DiagnosticBenchmark("null_causal").solution("test-001")
