"""What a credit-assignment method is given and what it returns.

A method sees groups of trajectories and a rescorer. It returns credit per response token and knows
nothing of environments, training loops or files.
"""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from enum import StrEnum
from typing import Any, ClassVar, NamedTuple, Protocol

import numpy as np
from numpy.typing import NDArray
from pydantic import BaseModel, ConfigDict
from torch import Tensor


class MethodError(ValueError):
    """A method was asked for wrongly or returned something invalid: one sentence that says what to do."""


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


@dataclass(frozen=True, slots=True)
class Trajectory:
    """One episode. `index` is its place in the group; `metrics` are the environment's numbers about it."""

    task_id: str
    subset: str
    index: int
    steps: tuple[Step, ...]
    reward: float
    success: bool
    stop: StopReason
    metrics: Mapping[str, float] = field(default_factory=dict)

    @property
    def response_tokens(self) -> int:
        """T: the number of tokens that can carry credit."""
        return sum(len(step.response_ids) for step in self.steps)


@dataclass(frozen=True, slots=True)
class Group:
    """The trajectories of one task, drawn from one policy with one prompt."""

    task_id: str
    trajectories: tuple[Trajectory, ...]

    @property
    def mixed(self) -> bool:
        """Whether some, but not all, trajectories succeed."""
        return len({trajectory.success for trajectory in self.trajectories}) == 2


class Weights(StrEnum):
    """Which weights score a context."""

    LIVE = "live"
    STALE = "stale"


@dataclass(frozen=True, slots=True)
class ScoreRequest:
    """Log-probabilities of a trajectory's own response tokens, each step in its own context.

    Attributes:
        trajectory: whose tokens to score.
        weights: which policy scores.
        hindsight: text appended to every step's context; None leaves the contexts as they were.
    """

    trajectory: Trajectory
    weights: Weights
    hindsight: str | None = None


class Rescorer(Protocol):
    """Scores trajectories under other contexts and weights."""

    def score(self, requests: Sequence[ScoreRequest]) -> list[Tensor]:
        """One detached float32 tensor [T] a request, over all response tokens of its trajectory in order."""
        ...


@dataclass(frozen=True, slots=True)
class Credit:
    """A method's verdict on one trajectory.

    Attributes:
        advantage_T: [T] weight of each response token in the policy gradient.
        distill_T: [T] weight of each response token's (teacher - student) log-ratio in the auxiliary
            loss of methods that have one; None for the others.
        diagnostics: numbers worth recording, averaged over an update's trajectories.
    """

    advantage_T: Tensor
    distill_T: Tensor | None = None
    diagnostics: Mapping[str, float] = field(default_factory=dict)


class MethodConfig(BaseModel):
    """Base of every method's options. The defaults are the settings of the paper it names."""

    model_config = ConfigDict(frozen=True, extra="forbid", use_attribute_docstrings=True, allow_inf_nan=False)


@dataclass(frozen=True, slots=True)
class Traits:
    """Properties that a method with its default options declares; the law suite checks each one it claims.

    Attributes:
        preserves_sign: no token's credit has the opposite sign of the trajectory's GRPO advantage.
        uses_hindsight: contexts with a hindsight block are scored.
        needs_outcome: all-equal groups get zero credit.
        needs_stale_policy: a snapshot of the policy is kept and refreshed.
        on_spans: no credit outside the reasoning and the action of each step.
    """

    preserves_sign: bool
    uses_hindsight: bool
    needs_outcome: bool
    needs_stale_policy: bool = False
    on_spans: bool = False


class Method(ABC):
    """A credit-assignment method: its options, its traits and one function."""

    name: ClassVar[str]
    paper: ClassVar[str]
    Config: ClassVar[type[MethodConfig]] = MethodConfig
    traits: ClassVar[Traits]

    def __init__(self, config: MethodConfig) -> None:
        self._options = config

    def options(self) -> dict[str, Any]:
        """Every option with its value, defaults included, as JSON values."""
        return self._options.model_dump(mode="json")

    @property
    def stale_refresh(self) -> int | None:
        """Updates between refreshes of the stale policy; None for methods without one."""
        return None

    @abstractmethod
    def credit(self, group: Group, rescore: Rescorer, update: int) -> list[Credit]:
        """Credit for each trajectory of the group, in its order. `update` counts from 0."""
