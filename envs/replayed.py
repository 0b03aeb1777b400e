"""Copies of episodes whose environment cannot be copied: a fresh one takes the same actions again."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from typing import Protocol, Self

from stepcredit.envs.contract import Benchmark, Chance, EnvFailure, Observation, StepResult, TurnFormat
from stepcredit.envs.panel import Panel


class Single(Protocol):
    """What such an environment still promises: all of `Env` but `clone`."""

    def reset(self) -> Observation: ...

    def step(self, action: str) -> StepResult: ...

    @property
    def state_key(self) -> str: ...

    @property
    def metrics(self) -> Mapping[str, float]: ...


class Replaying:
    """A benchmark of such environments, as one whose episodes can be copied.

    Attributes:
        retaken: actions that were taken again for copies so far: what they cost.
    """

    def __init__(self, benchmark: Benchmark) -> None:
        self._benchmark = benchmark
        self.retaken = 0

    @property
    def name(self) -> str:
        return self._benchmark.name

    @property
    def suite(self) -> str:
        return self._benchmark.suite

    @property
    def subsets(self) -> tuple[str, ...]:
        return self._benchmark.subsets

    @property
    def trained_subsets(self) -> tuple[str, ...]:
        return self._benchmark.trained_subsets

    @property
    def turn_format(self) -> TurnFormat:
        return self._benchmark.turn_format

    def panel(self, split: str) -> Panel:
        return self._benchmark.panel(split)

    def make(self, task_id: str) -> Replayed:
        """A fresh episode, whose copies are made by taking its actions again."""
        return Replayed(task_id, lambda: self._benchmark.make(task_id), self._count)

    def solution(self, task_id: str) -> tuple[str, ...]:
        return self._benchmark.solution(task_id)

    def prefetch(self, actions: Sequence[str]) -> None:
        self._benchmark.prefetch(actions)

    def provenance(self) -> Mapping[str, str]:
        return self._benchmark.provenance()

    def _count(self, actions: int) -> None:
        self.retaken += actions


class Replayed:
    """An episode that remembers its actions."""

    def __init__(self, task_id: str, make: Callable[[], Single], count: Callable[[int], None]) -> None:
        self._task_id, self._make, self._count = task_id, make, count
        self._env = make()
        self._seed: int | None = None
        self._begun: Observation | None = None
        self._taken: list[tuple[int | None, str, StepResult]] = []

    def reset(self) -> Observation:
        self._begun = self._env.reset()
        return self._begun

    def chance(self, seed: int) -> None:
        """Passed on where the environment draws."""
        self._seed = seed
        if isinstance(self._env, Chance):
            self._env.chance(seed)

    def step(self, action: str) -> StepResult:
        result = self._env.step(action)
        self._taken.append((self._seed, action, result))
        return result

    def clone(self) -> Self:
        """A fresh episode that has taken the same actions.

        Raises:
            EnvFailure: it is not answered as this one was.
        """
        twin = type(self)(self._task_id, self._make, self._count)
        if self._begun is not None and twin.reset() != self._begun:
            raise self._other("its first observation")
        for turn, (seed, action, result) in enumerate(self._taken):
            if seed is not None:
                twin.chance(seed)
            if twin.step(action) != result:
                raise self._other(f"the answer to action {turn + 1}, {action!r},")
        self._count(len(self._taken))
        return twin

    @property
    def state_key(self) -> str:
        return self._env.state_key

    @property
    def metrics(self) -> Mapping[str, float]:
        return self._env.metrics

    def _other(self, what: str) -> EnvFailure:
        return EnvFailure(
            f"task {self._task_id} cannot be copied by taking its actions again: {what} is another one now, so it is "
            "not deterministic; give its environment `clone`, or `chance` for what it draws"
        )
