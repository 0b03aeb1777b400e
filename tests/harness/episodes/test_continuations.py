"""Fresh episodes from every state: an oracle plays each on its own, and what is known about their returns holds."""

from collections.abc import Callable
from dataclasses import replace
from functools import partial

import numpy as np
import pytest

from stepcredit.envs import load_benchmark
from stepcredit.envs.contract import Env, StepResult
from stepcredit.harness.engine.choice import engine_of
from stepcredit.harness.engine.turns import TurnTracker
from stepcredit.harness.episodes import continuations
from stepcredit.harness.episodes.continuations import Continuations, with_continuations
from stepcredit.harness.episodes.player import Player
from stepcredit.harness.episodes.reward import paid
from stepcredit.harness.episodes.rollout import rollout
from stepcredit.harness.errors import UserError
from stepcredit.harness.model.policy import load_policy
from stepcredit.harness.seeds import Draws, continuation_seed, turn_seed
from stepcredit.harness.spec import ObjectiveSpec, RolloutSpec
from stepcredit.methods.contract import Group, Step, StopReason
from tests.harness.support import DRAWS, SPEC, TASKS, ToyEnv, toy_groups, toy_player, toy_policy

POLICY = toy_policy()
GROUPS = toy_groups(POLICY)
TURNS = RolloutSpec(group=2, max_turns=8)
Returns = list[tuple[tuple[float, ...], ...] | None]


class PatientEnv(ToyEnv):
    """Won by the third command, whatever it is; every second command is invalid."""

    def step(self, action: str) -> StepResult:
        result = super().step(action)
        number = len(self._commands)
        return replace(result, done=number == 3, success=number == 3, valid=number % 2 == 1)


def continued(
    groups: list[Group], wanted: Continuations, spec: RolloutSpec = SPEC, make: Callable[[str], Env] = ToyEnv
) -> Returns:
    found = with_continuations(toy_player(POLICY, make), TASKS[: len(groups)], groups, spec, wanted)
    return [trajectory.continuations for group in found for trajectory in group.trajectories]


def played_alone(past: tuple[Step, ...], task_id: str, seed_of: Callable[[str, int, int], int], index: int) -> float:
    """The return of one episode that goes on after `past`, turn by turn, every prompt read anew."""
    env = ToyEnv(task_id)
    prompt = POLICY.transcript.first(env.reset().text)
    for step in past:
        text = env.step(step.action_text).observation.text
        prompt += [*step.response_ids, *POLICY.transcript.following(text)]
    for turn in range(len(past), SPEC.max_turns):
        (sample,) = (
            engine_of(POLICY)
            .open([np.array(prompt)])
            .generate(
                seeds=[seed_of(task_id, index, turn)],
                new_tracker=lambda: TurnTracker(POLICY.transcript.token_bytes),
                max_tokens=SPEC.max_response_tokens,
                temperature=SPEC.temperature,
            )
        )
        result = env.step(sample.tracker.action_text)
        if result.done:
            return float(result.success)
        prompt += [*sample.token_ids, *POLICY.transcript.following(result.observation.text)]
    return 0.0


def test_each_is_the_episode_that_an_oracle_plays_alone() -> None:
    count, run_seed, update = 2, 3, 5
    expected: Returns = []
    for group in GROUPS[1:]:
        for trajectory in group.trajectories:
            values = []
            for k in range(len(trajectory.steps)):
                index = trajectory.index if k else 0  # all first states of a group are one
                seeds = [partial(continuation_seed, run_seed, update, k, sample) for sample in range(count)]
                past = trajectory.steps[:k]
                values.append(tuple(played_alone(past, trajectory.task_id, seed_of, index) for seed_of in seeds))
            expected.append(tuple(values))
    found = continued(GROUPS, Continuations(count, Draws(run_seed, update)))[SPEC.group :]
    assert found == expected
    assert {value for steps in found for values in steps or () for value in values} == {0.0, 1.0}


def test_neither_other_groups_nor_how_many_are_live_matter(monkeypatch: pytest.MonkeyPatch) -> None:
    wanted = Continuations(2, Draws(0, 0))
    found = continued(GROUPS, wanted)
    assert found[: SPEC.group] == continued(GROUPS[:1], wanted)
    more = continued(GROUPS, Continuations(5, Draws(0, 0)))
    assert [tuple(values[:2] for values in steps or ()) for steps in more] == found
    assert continued(GROUPS, Continuations(2, Draws(0, 1))) != found
    assert continued(GROUPS, Continuations(2, Draws(1, 0))) != found
    monkeypatch.setattr(continuations, "AT_A_TIME", 3)
    assert continued(GROUPS, wanted) == found


@pytest.mark.parametrize(("max_turns", "value"), [(2, 0.0), (3, 1.0), (4, 1.0)])
def test_turns_are_counted_from_the_start_of_the_episode(max_turns: int, value: float) -> None:
    """Three turns win. From the second state on, two more turns would do, if they were granted."""
    spec = SPEC.model_copy(update={"max_turns": max_turns})
    groups = rollout(toy_player(POLICY, PatientEnv), TASKS, spec, DRAWS)
    steps = min(max_turns, 3)
    assert continued(groups, Continuations(2, Draws(0, 0)), spec, PatientEnv) == [((value, value),) * steps] * 12


@pytest.mark.parametrize(("max_turns", "scale", "value"), [(2, 1.0, 0.0), (4, 1.0, 0.75), (4, 10.0, 9.75)])
def test_invalid_actions_cost_what_they_cost_the_trajectory(max_turns: int, scale: float, value: float) -> None:
    """One of three commands is invalid, before the state or after it; without a success there is no penalty."""
    pay = ObjectiveSpec(invalid_penalty=0.25, reward_scale=scale)
    spec = SPEC.model_copy(update={"max_turns": max_turns})
    groups = rollout(toy_player(POLICY, PatientEnv), TASKS, spec, DRAWS)
    assert {t.reward for group in paid(groups, pay) for t in group.trajectories} == {value}
    found = continued(groups, Continuations(1, Draws(0, 0), pay), spec, PatientEnv)
    assert {returns for steps in found for returns in steps or ()} == {(value,)}


def test_no_seed_is_a_rollouts_or_anothers() -> None:
    rollouts = {turn_seed(0, 0, "a", i, k) for i in range(4) for k in range(4)}
    fresh = [
        continuation_seed(0, 0, s, n, "a", i, k) for s in range(4) for n in range(4) for i in (0, 1) for k in (0, 1)
    ]
    assert len({*fresh}) == len(fresh)
    assert rollouts.isdisjoint(fresh)


def test_an_environment_that_does_not_repeat_itself_is_refused() -> None:
    group = GROUPS[0]
    second = group.trajectories[1]
    first, *others = second.steps
    changes = {
        r"trajectory 1 of 'toy/0' .* step 0 is answered with 'you see .*', not with 'a word'; .* repeats itself": [
            replace(first, observation="a word"),
            *others,
        ],
        "before step 0 it shows something else": [replace(first, prompt_ids=first.prompt_ids + 1), *others],
        "it ends with (success|turn_limit), not with failure": second.steps,
    }
    for message, steps in changes.items():
        stop = StopReason.FAILURE if steps is second.steps else second.stop
        changed = replace(second, steps=tuple(steps), stop=stop)
        trajectories = (group.trajectories[0], changed, *group.trajectories[2:])
        with pytest.raises(UserError, match=message):
            continued([replace(group, trajectories=trajectories)], Continuations(1, Draws(0, 0)))


@pytest.mark.parametrize(("name", "suite", "window"), [("alfworld", "mini", 2), ("searchqa", "synthetic", None)])
def test_greedy_episodes_of_real_tasks_go_on_as_the_trajectory_did(name: str, suite: str, window: int | None) -> None:
    benchmark = load_benchmark(name, suite)
    policy, tasks = load_policy("tiny", benchmark), benchmark.panel("train").tasks[::100][:4]
    player, spec = Player.of(policy, benchmark), TURNS.model_copy(update={"temperature": 0.0, "window": window})
    groups = rollout(player, tasks, spec, DRAWS)
    found = with_continuations(player, tasks, groups, spec, Continuations(2, Draws(0, 0)))
    assert {trajectory.success for group in groups for trajectory in group.trajectories} == {True, False}
    for trajectory in (trajectory for group in found for trajectory in group.trajectories):
        assert trajectory.continuations == ((trajectory.reward,) * 2,) * len(trajectory.steps)


@pytest.mark.parametrize("window", [None, 2])
def test_returns_in_real_rooms_do_not_depend_on_what_else_is_drawn(window: int | None) -> None:
    benchmark = load_benchmark("alfworld", "mini")
    policy, tasks = load_policy("tiny", benchmark), benchmark.panel("train").tasks[::70][:2]
    player, spec = Player.of(policy, benchmark), TURNS.model_copy(update={"window": window})
    groups = rollout(player, tasks, spec, DRAWS)
    wanted = Continuations(2, Draws(0, 0))
    both = with_continuations(player, tasks, groups, spec, wanted)
    alone = with_continuations(player, tasks[1:], groups[1:], spec, wanted)
    assert [t.continuations for t in both[1].trajectories] == [t.continuations for t in alone[0].trajectories]
    first, second = (trajectory.continuations for trajectory in both[0].trajectories)
    assert first is not None
    assert second is not None
    assert first[0] == second[0], "the first state is one"
