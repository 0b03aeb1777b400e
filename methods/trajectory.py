"""What a rollout leaves behind: steps, trajectories, the group that was drawn for one task."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from enum import StrEnum
from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray


class StopReason(StrEnum):
    """Why an episode ended."""

    SUCCESS = "success"
    TURN_LIMIT = "turn_limit"
    CONTEXT_LIMIT = "context_limit"
    FAILURE = "failure"
    ENV_FAILURE = "env_failure"


class Span(NamedTuple):
    """Half-open range of positions in a step's response tokens."""

    start: int
    end: int


@dataclass(frozen=True, slots=True)
class Step:
    """One agent turn.

    Attributes:
        prompt_ids: [P] every token visible before the turn.
        response_ids: [T] the tokens that the policy drew.
        logprobs: [T] their log-probabilities under the policy and temperature that drew them.
        think: the reasoning's tokens inside the response, tags excluded; None where there is none.
        action: the action's tokens inside the response, tags excluded; None where there is none.
        action_text: the action as sent to the environment.
        valid: whether the environment admitted it.
        truncated: whether the response hit its token limit before it closed its action.
        observation: what the environment answered.
        state_key: identifies the state that the action was taken in.
        seed: seed of the turn's draws.
        action_tag: name of the tags that the action stands between; empty where there is no action.
        tagged: the action's tokens with its tags; None where there is none.
        text: the whole response as text; empty where nobody told it.
        penalty: what the turn itself costs, apart from the episode's reward; see `objective.penalised`.
        untold_ids: the prompt without the words that say what the task is; only for methods that need it, see `Needs`.
    """

    prompt_ids: NDArray[np.int64]
    response_ids: NDArray[np.int64]
    logprobs: NDArray[np.float32]
    think: Span | None
    action: Span | None
    action_text: str
    valid: bool
    truncated: bool
    observation: str
    state_key: str
    seed: int
    action_tag: str = "action"
    tagged: Span | None = None
    text: str = ""
    penalty: float = 0.0
    untold_ids: NDArray[np.int64] | None = None


@dataclass(frozen=True, slots=True)
class Trajectory:
    """One episode.

    Attributes:
        index: its place in the group.
        metrics: the environment's numbers about it.
        failure: what went wrong where it ended with `env_failure`, in a sentence.
        continuations: returns of fresh episodes of the policy from the state before each step, and of none after the
            last; only for methods that need them, see `Needs`.
    """

    task_id: str
    subset: str
    index: int
    steps: tuple[Step, ...]
    reward: float
    success: bool
    stop: StopReason
    metrics: Mapping[str, float] = field(default_factory=dict)
    continuations: tuple[tuple[float, ...], ...] | None = None
    failure: str = ""

    @property
    def response_tokens(self) -> int:
        """T: the number of tokens that can carry credit."""
        return sum(len(step.response_ids) for step in self.steps)


@dataclass(frozen=True, slots=True)
class GoldenTurn:
    """A turn of a reference trajectory: what it did, and what the environment answered."""

    action_text: str
    observation: str


@dataclass(frozen=True, slots=True)
class Group:
    """The trajectories of one task, drawn from one policy with one prompt.

    Attributes:
        golden: the benchmark's reference trajectory, which succeeds; only for methods that need it, see `Needs`.
        skill: a text about tasks of this type; likewise.
        foreign: successful trajectories of the update's other tasks; likewise.
    """

    task_id: str
    trajectories: tuple[Trajectory, ...]
    golden: tuple[GoldenTurn, ...] | None = None
    skill: str | None = None
    foreign: tuple[Trajectory, ...] = ()

    @property
    def mixed(self) -> bool:
        """Whether some, but not all, trajectories succeed."""
        return len({trajectory.success for trajectory in self.trajectories}) == 2
