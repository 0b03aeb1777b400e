"""What an environment promises to whoever runs it: tasks, observations, steps."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Protocol, Self

from envs.panel import Panel


class EnvError(ValueError):
    """Bad input to an environment: one sentence that says what, where, the value seen and what to do."""


class EnvFailure(RuntimeError):
    """An environment broke in mid-episode; the rollout records it as that episode's outcome."""


@dataclass(frozen=True, slots=True)
class Observation:
    """What the agent may know after a command.

    Attributes:
        text: the words shown to the agent.
        actions: the admissible actions, sorted; empty once the episode is over.
    """

    text: str
    actions: tuple[str, ...]


@dataclass(frozen=True, slots=True)
class StepResult:
    """One action's consequence. `valid` says whether the action was admissible."""

    observation: Observation
    done: bool
    success: bool
    valid: bool


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

    def panel(self, split: str) -> Panel:
        """The whole split: every task once, sorted by id."""
        ...

    def make(self, task_id: str) -> Env:
        """A fresh environment for the task."""
        ...

    def provenance(self) -> Mapping[str, str]:
        """What identifies the data: grammar version, generator version or file fingerprints."""
        ...
