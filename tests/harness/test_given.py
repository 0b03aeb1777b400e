"""What methods are given beyond the rollouts: reference trajectories that succeed, fresh episodes from every state."""

from dataclasses import replace

import pytest

from envs import load_benchmark
from envs.contract import Benchmark, EnvError
from harness.continuations import Continuations, with_continuations
from harness.engine import TransformersEngine
from harness.errors import UserError
from harness.given import golden_turns
from harness.policy import load_policy
from harness.rollout import rollout
from harness.seeds import continuation_seed, turn_seed
from harness.spec import RolloutSpec
from methods.contract import Group

ALFWORLD = load_benchmark("alfworld", "mini")
POLICY = load_policy("tiny", ALFWORLD)
TASKS = ALFWORLD.panel("train").tasks[::70][:3]
SPEC = RolloutSpec(group=2, max_turns=12)
GREEDY = SPEC.model_copy(update={"temperature": 0.0})


def groups_of(spec: RolloutSpec) -> list[Group]:
    return rollout(POLICY, TransformersEngine(POLICY.model), ALFWORLD.make, TASKS, spec, 0, 0)


def continued(
    groups: list[Group], spec: RolloutSpec, count: int = 2, update: int = 0, benchmark: Benchmark = ALFWORLD
) -> list[Group]:
    engine, wanted = TransformersEngine(POLICY.model), Continuations(count, 0, update)
    return with_continuations(POLICY, engine, benchmark, TASKS[: len(groups)], groups, spec, wanted)


def returns(groups: list[Group]) -> list[object]:
    return [trajectory.continuations for group in groups for trajectory in group.trajectories]


@pytest.mark.parametrize(("name", "suite", "split"), [("alfworld", "mini", "train"), ("searchqa", "synthetic", "test")])
def test_reference_trajectories_succeed_and_show_what_was_seen(name: str, suite: str, split: str) -> None:
    benchmark = load_benchmark(name, suite)
    for task in benchmark.panel(split).tasks[::40]:
        turns = golden_turns(benchmark, task.id)
        env = benchmark.make(task.id)
        env.reset()
        results = [env.step(turn.action_text) for turn in turns]
        assert [turn.observation for turn in turns] == [result.observation.text for result in results]
        assert results[-1].success
        assert all(result.valid for result in results)


def test_a_reference_that_does_not_succeed_is_refused(monkeypatch: pytest.MonkeyPatch) -> None:
    benchmark = load_benchmark("alfworld", "mini")
    monkeypatch.setattr(benchmark, "solution", lambda task_id: ("look", "inventory"))
    with pytest.raises(UserError, match=r"the reference trajectory of 'mini/.* does not succeed: look; inventory"):
        golden_turns(benchmark, TASKS[0].id)


def test_an_unknown_task_has_no_reference() -> None:
    with pytest.raises(EnvError):
        load_benchmark("searchqa", "synthetic").solution("synthetic/test/nq/9999")


def test_greedy_episodes_go_on_as_the_trajectory_did() -> None:
    """From each of its states, a greedy policy reaches the end that it reached."""
    for group in continued(groups_of(GREEDY), GREEDY):
        for trajectory in group.trajectories:
            assert trajectory.continuations == ((trajectory.reward,) * 2,) * len(trajectory.steps)


@pytest.mark.parametrize("window", [None, 2])
def test_returns_do_not_depend_on_what_else_is_drawn(window: int | None) -> None:
    spec = SPEC.model_copy(update={"window": window})
    groups = groups_of(spec)
    found = continued(groups, spec)
    assert returns(found) == returns(continued(groups, spec))
    assert returns(found[:1]) == returns(continued(groups[:1], spec))
    more = returns(continued(groups[:1], spec, count=5))
    assert [tuple(step[:2] for step in steps) for steps in more] == returns(found[:1])
    assert {len(step) for steps in more for step in steps} == {5}
    assert returns(continued(groups, spec, update=1)) != returns(found)


def test_a_first_state_is_shared_by_the_group() -> None:
    for group in continued(groups_of(SPEC), SPEC):
        assert len({trajectory.continuations[0] for trajectory in group.trajectories if trajectory.continuations}) == 1


def test_no_seed_is_a_rollouts() -> None:
    rollouts = {turn_seed(0, 0, "a", i, k) for i in range(4) for k in range(4)}
    fresh = [
        continuation_seed(0, 0, s, n, "a", i, k) for s in range(4) for n in range(4) for i in (0, 1) for k in (0, 1)
    ]
    assert len({*fresh}) == len(fresh)
    assert rollouts.isdisjoint(fresh)


def test_an_environment_that_answers_otherwise_is_refused() -> None:
    group = groups_of(SPEC)[0]
    first = group.trajectories[0]
    changed = replace(first, steps=(replace(first.steps[0], observation="a different room"), *first.steps[1:]))
    with pytest.raises(UserError, match=r"step 0 of trajectory 0 is answered with .* 'a different room' before"):
        continued([replace(group, trajectories=(changed, *group.trajectories[1:]))], SPEC)
