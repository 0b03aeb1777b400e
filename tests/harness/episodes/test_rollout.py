"""Laws of rollouts: transcripts that continue, exact spans, typed stops, seeds that decide everything."""

from dataclasses import replace
from typing import cast

import numpy as np
import pytest

from stepcredit.envs.contract import Benchmark, EnvError, Observation, StepResult
from stepcredit.harness.engine.cache import Heads
from stepcredit.harness.engine.cached import TransformersEngine
from stepcredit.harness.episodes.player import Player
from stepcredit.harness.episodes.rollout import rollout
from stepcredit.harness.model.policy import Policy
from stepcredit.harness.seeds import turn_seed
from stepcredit.methods.contract import Group, StopReason, Trajectory
from tests.harness.support import DRAWS, SPEC, TASKS, ToyEnv, Toys, plain_logprobs, toy_groups, toy_player, toy_policy

POLICY = toy_policy()
GROUPS = toy_groups(POLICY)
TRAJECTORIES = [trajectory for group in GROUPS for trajectory in group.trajectories]


def bits(groups: list[Group]) -> list[tuple[bytes, bytes]]:
    steps = [step for group in groups for trajectory in group.trajectories for step in trajectory.steps]
    return [(step.response_ids.tobytes(), step.logprobs.tobytes()) for step in steps]


def tokens(trajectory: Trajectory) -> list[list[int]]:
    return [step.response_ids.tolist() for step in trajectory.steps]


def test_groups_hold_every_task_and_trajectory_in_order() -> None:
    assert [group.task_id for group in GROUPS] == [task.id for task in TASKS]
    assert all([t.index for t in group.trajectories] == list(range(SPEC.group)) for group in GROUPS)
    assert {trajectory.stop for trajectory in TRAJECTORIES} == {StopReason.SUCCESS, StopReason.TURN_LIMIT}


def test_each_prompt_is_the_last_one_with_its_response_and_the_observation() -> None:
    for trajectory in TRAJECTORIES:
        for step, after in zip(trajectory.steps, trajectory.steps[1:], strict=False):
            grown = [*step.prompt_ids, *step.response_ids, *POLICY.transcript.following(step.observation)]
            assert after.prompt_ids.tolist() == grown
        assert np.shares_memory(trajectory.steps[0].prompt_ids, trajectory.steps[-1].prompt_ids)


def test_spans_cut_the_action_out_of_the_response() -> None:
    for trajectory in TRAJECTORIES:
        for step in trajectory.steps:
            assert step.truncated == (step.action is None)
            if step.action is None:
                assert (step.action_text, step.valid) == ("", False)
            else:
                cut = step.response_ids[step.action.start : step.action.end]
                assert b"".join(map(POLICY.transcript.token_bytes, cut)).decode().strip() == step.action_text
                assert POLICY.transcript.token_bytes(int(step.response_ids[step.action.end])) == b"</action>"


def test_logprobs_are_those_of_a_plain_forward_pass() -> None:
    for trajectory in TRAJECTORIES[:: SPEC.group]:
        for step in trajectory.steps:
            text = np.concatenate([step.prompt_ids, step.response_ids])
            np.testing.assert_allclose(
                step.logprobs, plain_logprobs(POLICY.model, text, len(step.response_ids)), atol=1e-5
            )


def test_turns_have_the_seeds_of_their_names() -> None:
    for trajectory in TRAJECTORIES:
        expected = [turn_seed(0, 0, trajectory.task_id, trajectory.index, k) for k in range(len(trajectory.steps))]
        assert [step.seed for step in trajectory.steps] == expected


def test_same_seed_same_bits_and_other_seed_other_tokens() -> None:
    assert bits(toy_groups(POLICY)) == bits(GROUPS)
    assert bits(toy_groups(POLICY, run_seed=1)) != bits(GROUPS)


def test_a_task_does_not_depend_on_which_others_are_drawn_with_it() -> None:
    alone = rollout(toy_player(POLICY), TASKS[1:2], SPEC, DRAWS)[0]
    assert [tokens(t) for t in alone.trajectories] == [tokens(t) for t in GROUPS[1].trajectories]


class SmallEngine(TransformersEngine):
    def rows(self, tokens: int) -> int:
        assert tokens == SPEC.max_context_tokens
        return 5


def test_a_task_does_not_depend_on_how_many_the_engine_holds_together() -> None:
    player = Player(POLICY, SmallEngine(POLICY.model), cast(Benchmark, Toys()))
    parted = [trajectory for group in rollout(player, TASKS, SPEC, DRAWS) for trajectory in group.trajectories]
    assert [tokens(trajectory) for trajectory in parted] == [tokens(trajectory) for trajectory in TRAJECTORIES]


def test_an_engine_holds_sixteen_gigabytes_of_keys_and_values() -> None:
    """Two layers, two heads of 32 in float32: 1,024 bytes a token; a sequence that is longer than all is held alone."""
    assert TransformersEngine(POLICY.model).rows(2**14) == 2**34 // (2**14 * 1024)
    assert TransformersEngine(POLICY.model).rows(2**40) == 1
    assert Heads(query=16, kv=2, layers=36, size=128).bytes_per_token(2) == 36_864  # Qwen2.5-3B in bfloat16


def test_reward_is_one_on_success_and_zero_otherwise() -> None:
    assert all(t.reward == float(t.success) == float(t.stop is StopReason.SUCCESS) for t in TRAJECTORIES)
    assert all(len(t.steps) == SPEC.max_turns for t in TRAJECTORIES if t.stop is StopReason.TURN_LIMIT)


def test_an_environment_that_breaks_ends_its_own_episodes_only() -> None:
    def make(name: str) -> ToyEnv:
        return ToyEnv(name, fails_at=1 if name == TASKS[0].id else None)

    groups = rollout(toy_player(POLICY, make), TASKS, SPEC, DRAWS)
    for trajectory in groups[0].trajectories:
        assert (trajectory.stop, trajectory.reward) == (StopReason.ENV_FAILURE, 0.0)
        assert [step.observation == "" for step in trajectory.steps] == [False, True]
        assert trajectory.failure == "the toy broke"
    assert [tokens(t) for t in groups[1].trajectories] == [tokens(t) for t in GROUPS[1].trajectories]


@pytest.mark.parametrize("limit", [16, 40, 60])
def test_no_transcript_outgrows_the_context(limit: int) -> None:
    spec = SPEC.model_copy(update={"max_context_tokens": limit})
    groups = toy_groups(POLICY, spec=spec)
    stops = {trajectory.stop for group in groups for trajectory in group.trajectories}
    assert StopReason.CONTEXT_LIMIT in stops
    for group in groups:
        for trajectory in group.trajectories:
            assert all(len(step.prompt_ids) + len(step.response_ids) <= limit for step in trajectory.steps)


def test_greedy_trajectories_of_a_group_are_equal() -> None:
    groups = toy_groups(POLICY, spec=SPEC.model_copy(update={"temperature": 0.0}))
    assert all(tokens(t) == tokens(group.trajectories[0]) for group in groups for t in group.trajectories)


def test_weights_decide_the_tokens() -> None:
    other: Policy = toy_policy(seed=1)
    assert bits(toy_groups(other)) != bits(GROUPS)


class WordyEnv(ToyEnv):
    """Says more than anybody wants to read, and ends it properly."""

    def step(self, action: str) -> StepResult:
        return replace(
            super().step(action), observation=Observation("you see " * 30 + "</mug>", (), "</mug>"), done=False
        )


@pytest.mark.parametrize("limit", [16, 20, 31, 1000])
def test_a_long_observation_is_cut_before_its_closing_words(limit: int) -> None:
    spec = SPEC.model_copy(update={"max_observation_tokens": limit, "max_context_tokens": 2048})
    suffix = len(POLICY.transcript.generation_suffix)
    whole = POLICY.transcript.following("you see " * 30 + "</mug>")
    for group in rollout(toy_player(POLICY, WordyEnv), TASKS, spec, DRAWS):
        for trajectory in group.trajectories:
            for step, after in zip(trajectory.steps, trajectory.steps[1:], strict=False):
                shown = after.prompt_ids[len(step.prompt_ids) + len(step.response_ids) :].tolist()
                assert len(shown) == min(limit + suffix, len(whole))
                assert b"".join(map(POLICY.transcript.token_bytes, shown[:-suffix])).endswith(b"</mug>")
                assert shown[-suffix:] == list(POLICY.transcript.generation_suffix)


def test_actions_are_announced_together_before_they_are_taken() -> None:
    toys = Toys()
    groups = rollout(Player.of(POLICY, cast(Benchmark, toys)), TASKS, SPEC, DRAWS)
    by_turn = [
        [t.steps[turn].action_text for group in groups for t in group.trajectories if turn < len(t.steps)]
        for turn in range(SPEC.max_turns)
    ]
    assert toys.announced == [actions for actions in by_turn if actions]


class PricedEnv(ToyEnv):
    """Pays for the way as well."""

    def step(self, action: str) -> StepResult:
        return replace(super().step(action), reward=0.25)

    @property
    def metrics(self) -> dict[str, float]:
        return {"commands": float(len(self._commands))}


def test_the_environments_reward_and_numbers_are_the_trajectorys() -> None:
    for group in rollout(toy_player(POLICY, PricedEnv), TASKS, SPEC, DRAWS):
        for trajectory in group.trajectories:
            assert trajectory.reward == (0.25 if trajectory.success else 0.0)
            assert trajectory.metrics == {"commands": len(trajectory.steps)}


@pytest.mark.parametrize("reward", [float("nan"), float("inf"), float("-inf")])
def test_a_reward_that_is_no_finite_number_names_the_environment(reward: float) -> None:
    class Unfinished(ToyEnv):
        def step(self, action: str) -> StepResult:
            return replace(super().step(action), reward=reward)

    with pytest.raises(EnvError, match=rf"Unfinished gave task 'toy/\d' the reward {reward} at step \d"):
        rollout(toy_player(POLICY, Unfinished), TASKS, SPEC, DRAWS)
