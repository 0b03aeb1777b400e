"""What an agent sees before a turn: windows of the last turns, admissible actions, limits."""

from collections.abc import Mapping
from typing import Self

import numpy as np
import pytest

from stepcredit.envs.contract import Observation, StepResult
from stepcredit.harness.engine.stretches import TokenSequence, stretches_of
from stepcredit.harness.episodes.prompts import new_prompt
from stepcredit.harness.episodes.rollout import rollout
from stepcredit.harness.errors import UserError
from stepcredit.harness.model.policy import Policy
from stepcredit.harness.setup.settings import build_spec
from stepcredit.harness.spec import History, Overlong, RolloutSpec
from stepcredit.methods.contract import StopReason, Trajectory
from tests.harness.support import DRAWS, SPEC, TASKS, plain_logprobs, toy_groups, toy_player, toy_policy

POLICY = toy_policy()
WINDOW = SPEC.model_copy(update={"window": 2, "show_actions": True, "max_turns": 6, "max_context_tokens": 512})


def text_of(policy: Policy, tokens: np.ndarray) -> str:
    return b"".join(policy.transcript.token_bytes(int(token)) for token in tokens).decode()


def seen(spec: RolloutSpec, *texts: str) -> list[str]:
    """The prompts before each turn, when the agent answers a, b, c, ... and sees these observations."""
    prompt = new_prompt(POLICY.transcript, spec)
    assert prompt.begin(Observation(texts[0], ("go", "look")))
    prompts = [text_of(POLICY, prompt.tokens)]
    for name, text in zip("abcdef", texts[1:], strict=False):
        assert prompt.extend(POLICY.transcript.response(name), Observation(text, ("go", "look")), name) is not None
        prompts.append(text_of(POLICY, prompt.tokens))
    return prompts


def test_a_window_shows_the_task_the_last_turns_and_the_admissible_actions() -> None:
    first, second, _, fourth = seen(WINDOW, "task", "o1", "o2", "o3")
    actions = "\nAdmissible actions: go, look"
    assert first == f"<|obs|>task{actions}<|act|>"
    assert second == f"<|obs|>task<|act|>a<|obs|>o1{actions}<|act|>"
    assert fourth == f"<|obs|>task\no1<|act|>b<|obs|>o2<|act|>c<|obs|>o3{actions}<|act|>"


def test_a_window_of_actions_is_one_message_without_reasoning() -> None:
    first, second, third, fourth = seen(
        WINDOW.model_copy(update={"history": History.ACTIONS}), "task", "o1", "o2", "o3"
    )
    actions, begin = "\nAdmissible actions: go, look", "The last of them, and what you see now:"
    assert first == f"<|obs|>task{actions}<|act|>"
    assert second == f"<|obs|>task\nYou have taken 1 step. {begin}\nAction 1: a\nObservation 2: o1{actions}<|act|>"
    past = "Action 1: a\nObservation 2: o1\nAction 2: b"
    assert third == f"<|obs|>task\nYou have taken 2 steps. {begin}\n{past}\nObservation 3: o2{actions}<|act|>"
    past = "Observation 2: o1\nAction 2: b\nObservation 3: o2\nAction 3: c"
    assert fourth == f"<|obs|>task\nYou have taken 3 steps. {begin}\n{past}\nObservation 4: o3{actions}<|act|>"


@pytest.mark.parametrize("history", History)
def test_a_prompt_that_is_too_long_loses_its_beginning_or_ends_the_episode(history: History) -> None:
    limits = {"window": 2, "history": history, "max_context_tokens": 40, "max_response_tokens": 12}
    whole = new_prompt(POLICY.transcript, SPEC.model_copy(update=limits | {"max_context_tokens": 512}))
    cut = new_prompt(POLICY.transcript, SPEC.model_copy(update=limits | {"overlong": Overlong.CUT}))
    ends = new_prompt(POLICY.transcript, SPEC.model_copy(update=limits))
    for prompt in (whole, cut, ends):
        assert prompt.begin(Observation("task", ()))
    answer = Observation("you see a long thing, too long", ())
    response = POLICY.transcript.response("a")
    assert whole.extend(response, answer, "a") is not None
    assert cut.extend(response, answer, "a") is not None
    assert ends.extend(response, answer, "a") is None
    assert len(cut.tokens) == 40 - 12 < len(whole.tokens)
    np.testing.assert_array_equal(cut.tokens, whole.tokens[-28:])


def test_windowed_rollouts_of_actions_are_scored_and_trained_as_drawn() -> None:
    spec = WINDOW.model_copy(update={"history": History.ACTIONS})
    steps = [step for group in toy_groups(POLICY, spec=spec) for t in group.trajectories for step in t.steps]
    for step in steps[::7]:
        text = np.concatenate([step.prompt_ids, step.response_ids])
        np.testing.assert_allclose(step.logprobs, plain_logprobs(POLICY.model, text, len(step.response_ids)), atol=1e-5)


@pytest.mark.parametrize(
    ("settings", "sentence"),
    [
        (("rollout.history=actions",), "rollout.history=actions needs rollout.window"),
        (("rollout.overlong=cut",), "rollout.overlong=cut needs rollout.window"),
        (
            ("rollout.history=actions", "rollout.window=2", "rollout.max_observation_tokens=64"),
            "rollout.max_observation_tokens cuts messages, and rollout.history=actions has none to cut",
        ),
    ],
)
def test_what_has_no_effect_is_refused(settings: tuple[str, ...], sentence: str) -> None:
    with pytest.raises(UserError, match=f"^{sentence}"):
        build_spec(model="tiny", benchmark="alfworld", suite=None, method="grpo", seed=0, overrides=settings)


def test_a_window_of_no_turns_shows_the_task_and_the_present() -> None:
    spec = WINDOW.model_copy(update={"window": 0, "show_actions": False})
    assert seen(spec, "task", "o1") == ["<|obs|>task<|act|>", "<|obs|>task\no1<|act|>"]


def test_a_running_transcript_may_list_the_actions_too() -> None:
    spec = WINDOW.model_copy(update={"window": None})
    actions = "\nAdmissible actions: go, look"
    assert seen(spec, "task", "o1")[1] == f"<|obs|>task{actions}<|act|>a<|obs|>o1{actions}<|act|>"


def windowed() -> list[Trajectory]:
    return [trajectory for group in toy_groups(POLICY, spec=WINDOW) for trajectory in group.trajectories]


def test_windowed_rollouts_draw_from_the_prompt_that_they_record() -> None:
    trajectories = windowed()
    assert max(len(trajectory.steps) for trajectory in trajectories) > 4
    for trajectory in trajectories[::3]:
        for step in trajectory.steps:
            text = np.concatenate([step.prompt_ids, step.response_ids])
            expected = plain_logprobs(POLICY.model, text, len(step.response_ids))
            np.testing.assert_allclose(step.logprobs, expected, atol=1e-5)


@pytest.mark.parametrize("window", [None, 2])
def test_stretches_hold_every_response_token_once_and_in_order(window: int | None) -> None:
    spec = WINDOW.model_copy(update={"window": window, "show_actions": False})
    for group in toy_groups(POLICY, spec=spec):
        for trajectory in group.trajectories:
            stretches = stretches_of(trajectory)
            read = [int(t) for steps in stretches for s in [TokenSequence.of(steps)] for t in s.ids[s.response_T]]
            assert read == [int(token) for step in trajectory.steps for token in step.response_ids]
            assert len(stretches) == 1 if window is None else len(stretches) == max(1, len(trajectory.steps) - 2)


class LongEnv:
    """Never ends, and says the same long thing again and again."""

    def __init__(self, name: str) -> None:
        self._name = name

    def reset(self) -> Observation:
        return Observation(self._name, ())

    def step(self, action: str) -> StepResult:
        return StepResult(Observation("shelf " * 20, ()), False, False, True)

    def clone(self) -> Self:
        return type(self)(self._name)

    @property
    def state_key(self) -> str:
        return self._name

    @property
    def metrics(self) -> Mapping[str, float]:
        return {}


def test_a_window_outlasts_a_context_that_a_transcript_fills() -> None:
    player = toy_player(POLICY, LongEnv)
    spec = SPEC.model_copy(update={"max_turns": 8, "max_context_tokens": 128})
    for window, stop in ((None, StopReason.CONTEXT_LIMIT), (1, StopReason.TURN_LIMIT)):
        (group, *_) = rollout(player, TASKS, spec.model_copy(update={"window": window}), DRAWS)
        assert {trajectory.stop for trajectory in group.trajectories} == {stop}
