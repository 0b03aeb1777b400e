"""What an environment promises to whoever runs it: tasks, observations, steps."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Protocol, Self, runtime_checkable

from stepcredit.envs.panel import Panel


class EnvError(ValueError):
    """Bad input to an environment: one sentence that says what, where, the value seen and what to do."""


class EnvFailure(RuntimeError):
    """An environment broke in mid-episode; the rollout records it as that episode's outcome."""


@dataclass(frozen=True, slots=True)
class TurnFormat:
    """How an agent writes a turn: its reasoning in <think>, then one action between tags.

    Attributes:
        actions: names of the tags that an action may stand between. Where there is one, an environment is sent what
            stands between the tags; where there are several, the tags as well, as in `<search>...</search>`.
        instructions: what instruction-tuned policies are told before the first observation.
    """

    actions: tuple[str, ...]
    instructions: str


@dataclass(frozen=True, slots=True)
class Observation:
    """What the agent may know after a command.

    Attributes:
        text: the words shown to the agent.
        actions: the admissible actions, sorted; empty once the episode is over, or where any text is admissible.
        closing: how the text ends; kept where the text has to be cut short.
        task: the words of the text that say what is to be done; empty where there are none, or nobody says.
    """

    text: str
    actions: tuple[str, ...]
    closing: str = ""
    task: str = ""


@dataclass(frozen=True, slots=True)
class StepResult:
    """One action's consequence.

    Attributes:
        valid: whether the action was admissible.
        reward: of the episode, once it is done; None where it is 1 for success and else 0.
    """

    observation: Observation
    done: bool
    success: bool
    valid: bool
    reward: float | None = None


class Env(Protocol):
    """One episode of one task. Single use; deterministic given the task and the actions."""

    def reset(self) -> Observation: ...

    def step(self, action: str) -> StepResult: ...

    def clone(self) -> Self:
        """An independent copy of the episode as it stands."""
        ...

    @property
    def state_key(self) -> str:
        """Equal for two states of one task if and only if nothing the agent can do tells them apart."""
        ...

    @property
    def metrics(self) -> Mapping[str, float]:
        """What else is worth recording of the episode as it stands; the same names for every task of a benchmark."""
        ...


@runtime_checkable
class Chance(Protocol):
    """What an environment has besides where its consequences depend on chance: then it is deterministic given the task,
    the actions and these seeds, and an action taken anew may end in another way."""

    def chance(self, seed: int) -> None:
        """Told before each step what it draws from."""
        ...


class Benchmark(Protocol):
    """A source of tasks: its splits as canonical panels, and an environment for each task."""

    @property
    def name(self) -> str: ...

    @property
    def suite(self) -> str:
        """Which variant of the benchmark this is, printed in every table (`mini`, `full`, `real`)."""
        ...

    @property
    def subsets(self) -> tuple[str, ...]:
        """Names of the subsets in the order in which tables list them."""
        ...

    @property
    def trained_subsets(self) -> tuple[str, ...]:
        """The subsets that training tasks come from; the others are out of distribution."""
        ...

    @property
    def turn_format(self) -> TurnFormat:
        """How its agents write a turn."""
        ...

    def panel(self, split: str) -> Panel:
        """The whole split: every task once, sorted by id."""
        ...

    def make(self, task_id: str) -> Env:
        """A fresh environment for the task."""
        ...

    def solution(self, task_id: str) -> tuple[str, ...]:
        """Actions of a reference episode, which succeeds.

        Raises:
            EnvError: no such task, or there is no reference for it.
        """
        ...

    def prefetch(self, actions: Sequence[str]) -> None:
        """Told which actions are about to be taken, so that costly answers can be looked up together."""
        ...

    def provenance(self) -> Mapping[str, str]:
        """What identifies the data: grammar version, generator version or file fingerprints."""
        ...
