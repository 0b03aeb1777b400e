"""A whole benchmark, and a small one: an example to be changed into one of your own.

The agent stands in a corridor and must open the door that the task names.
"""

from __future__ import annotations

import hashlib
from collections.abc import Mapping, Sequence
from copy import copy
from typing import Any, Self

from stepcredit.envs.contract import EnvError, Observation, StepResult, TurnFormat
from stepcredit.envs.family import Family, Suite
from stepcredit.envs.naming import unknown
from stepcredit.envs.panel import Panel, Task

_SPLITS = {"train": range(40), "test": range(40, 60)}
_ACTIONS = ("left", "open", "right")
_DOORS = 5


class HallwayEnv:
    """One walk; door `number % 5` is the right one."""

    def __init__(self, number: int) -> None:
        self._goal, self._place, self._moves = number % _DOORS, 0, 0

    def reset(self) -> Observation:
        """What the agent reads first."""
        task = f"open door {self._goal}."
        return Observation(f"You are at door 0 of {_DOORS}. Your task is to: {task}", _ACTIONS, task=task)

    def step(self, action: str) -> StepResult:
        """Walk, or open the door and with it end the episode."""
        self._moves += 1
        if action == "open":
            won = self._place == self._goal
            return StepResult(Observation(f"Door {self._place} is open.", ()), True, won, True)
        self._place = min(max(self._place + {"left": -1, "right": 1}.get(action, 0), 0), _DOORS - 1)
        return StepResult(Observation(f"You are at door {self._place}.", _ACTIONS), False, False, action in _ACTIONS)

    def clone(self) -> Self:
        """Numbers alone: a plain copy is independent."""
        return copy(self)

    @property
    def state_key(self) -> str:
        """Where the agent stands; how it came there makes no difference to what it can do."""
        return f"{self._goal}:{self._place}"

    @property
    def metrics(self) -> Mapping[str, float]:
        """Recorded of each episode."""
        return {"moves": float(self._moves)}


class Hallway:
    """The benchmark."""

    name, suite = "hallway", "short"
    subsets = trained_subsets = ("Near", "Far")
    turn_format = TurnFormat(("action",), "Write one action, left, right or open, as in <action>left</action>.")

    def panel(self, split: str) -> Panel:
        """Every task of the split once."""
        if split not in _SPLITS:
            raise unknown("split of hallway", split, _SPLITS)
        return Panel.of(self.name, self.suite, split, [self._task(number) for number in _SPLITS[split]])

    def make(self, task_id: str) -> HallwayEnv:
        """A fresh environment."""
        return HallwayEnv(int(task_id.removeprefix("walk-")))

    def solution(self, task_id: str) -> tuple[str, ...]:
        """The shortest way, for methods that are shown one."""
        return (*["right"] * (int(task_id.removeprefix("walk-")) % _DOORS), "open")

    def prefetch(self, actions: Sequence[str]) -> None:
        """Nothing is costly here."""

    def provenance(self) -> Mapping[str, str]:
        """To be changed whenever episodes change."""
        return {"hallway": "1"}

    def _task(self, number: int) -> Task:
        content = hashlib.sha256(f"door {number % _DOORS} of {_DOORS}".encode()).hexdigest()
        return Task(f"walk-{number:02}", "Near" if number % _DOORS < 3 else "Far", content)


def _no_options(options: Mapping[str, Any]) -> dict[str, Any]:
    if options:
        raise EnvError(f"benchmark hallway has no option {next(iter(options))!r}; leave env_options out")
    return {}


FAMILY = Family(
    load=lambda suite, options: Hallway(),
    complete=_no_options,
    suites={"short": Suite(max_turns=8, max_context_tokens=1024)},
)
"""What the entry point names."""
