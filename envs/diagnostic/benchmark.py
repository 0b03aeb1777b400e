"""The benchmark: its suites are the puzzles, its environments walk through a process."""

from __future__ import annotations

import hashlib
import random
from collections.abc import Mapping, Sequence
from copy import copy
from typing import Any, Self

from stepcredit.envs.contract import EnvError, Observation, StepResult, TurnFormat
from stepcredit.envs.diagnostic.process import Process, State, best_actions, best_values
from stepcredit.envs.diagnostic.puzzles import Puzzle, drawn
from stepcredit.envs.family import Family, Suite
from stepcredit.envs.naming import unknown
from stepcredit.envs.panel import Panel, Task

VERSION = "1"
SPLITS = {"train": 96, "test": 48}
SOONER = 0.99
"""Discount of an action for whoever does not dawdle."""
_UNKNOWN = "Nothing happens."


class DiagnosticEnv:
    """One episode. An action that is not admitted changes nothing; a process never comes back to a state."""

    def __init__(self, process: Process) -> None:
        self._process, self._state, self._seed, self._moves = process, process.start, 0, 0

    @property
    def state(self) -> State:
        """Where it stands in its process."""
        return self._state

    def reset(self) -> Observation:
        process = self._process
        text = f"{process.text(self._state)} Your task is to: {process.task}"
        return Observation(text, process.actions(self._state), task=process.task)

    def chance(self, seed: int) -> None:
        """See `stepcredit.envs.contract.Chance`."""
        self._seed = seed

    def step(self, action: str) -> StepResult:
        process, state = self._process, self._state
        if action not in process.actions(state):
            return StepResult(Observation(_UNKNOWN, process.actions(state)), False, False, False)
        self._moves += 1
        after, odds = zip(*process.outcomes(state, action), strict=True)
        (self._state,) = random.Random(f"{state}:{self._seed}").choices(after, odds)
        actions = process.actions(self._state)
        won = not actions and process.won(self._state)
        return StepResult(Observation(process.text(self._state), actions), not actions, won, True)

    def clone(self) -> Self:
        return copy(self)

    @property
    def state_key(self) -> str:
        return ":".join(str(part) for part in self._state)

    @property
    def metrics(self) -> Mapping[str, float]:
        return {"moves": float(self._moves)}


class DiagnosticBenchmark:
    """All tasks of one puzzle."""

    name = "diagnostic"
    turn_format = TurnFormat(
        ("action",),
        "Think first, between <think> and </think>. Then write one action that is possible where you are, between "
        "<action> and </action>, such as <action>open red door</action>.",
    )

    def __init__(self, suite: str) -> None:
        if suite not in list(Puzzle):
            raise unknown("suite of diagnostic", suite, list(Puzzle))
        self.suite, self._puzzle = suite, Puzzle(suite)

    @property
    def subsets(self) -> tuple[str, ...]:
        return (self.suite,)

    @property
    def trained_subsets(self) -> tuple[str, ...]:
        return (self.suite,)

    def panel(self, split: str) -> Panel:
        if split not in SPLITS:
            raise unknown("split of diagnostic", split, list(SPLITS))
        return Panel.of(self.name, self.suite, split, [self._task(f"{split}-{n:03}") for n in range(SPLITS[split])])

    def make(self, task_id: str) -> DiagnosticEnv:
        return DiagnosticEnv(self.process(task_id))

    def process(self, task_id: str) -> Process:
        """What the task is, exactly.

        Raises:
            EnvError: there is no such task.
        """
        split, _, number = task_id.partition("-")
        if not number.isdecimal() or task_id not in {f"{split}-{n:03}" for n in range(SPLITS.get(split, 0))}:
            raise EnvError(f"diagnostic-{self.suite} has no task {task_id!r}; tasks are train-000 to test-047")
        return drawn(self._puzzle, task_id)

    def solution(self, task_id: str) -> tuple[str, ...]:
        """The fewest actions that win, first in order where several are as good."""
        process, taken = self.process(task_id), list[str]()
        best, state = best_values(process, SOONER), process.start
        while process.actions(state):
            action = best_actions(process, state, best)[0]
            ((state, odds), *_) = process.outcomes(state, action)
            if odds < 1.0:
                raise EnvError(
                    f"task {task_id!r} of diagnostic-{self.suite} is a matter of chance: no actions win for sure"
                )
            taken.append(action)
        return tuple(taken)

    def prefetch(self, actions: Sequence[str]) -> None:
        """Nothing is costly here."""

    def provenance(self) -> Mapping[str, str]:
        return {"diagnostic": VERSION}

    def _task(self, task_id: str) -> Task:
        return Task(task_id, self.suite, hashlib.sha256(f"{VERSION}:{self.process(task_id)}".encode()).hexdigest())


def _no_options(options: Mapping[str, Any]) -> dict[str, Any]:
    if options:
        raise EnvError(f"benchmark diagnostic has no option {next(iter(options))!r}; leave env_options out")
    return {}


FAMILY = Family(
    load=lambda suite, options: DiagnosticBenchmark(suite),
    complete=_no_options,
    suites={puzzle: Suite(max_turns=10, max_context_tokens=1024) for puzzle in Puzzle},
)
"""What the registry names."""
