"""Stock TextWorld behind the engine's interface: what this package's engine is held against.

Needs the packages alfworld and textworld, imported on first use only. Some 15 steps a second, 2 s to load a game, not
thread-safe. Every engine leaks about 2 MB inside TextWorld: to play many games, `load` them into one.
"""

from __future__ import annotations

import importlib.util
import os
import sys
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from stepcredit.envs.contract import EnvError

_TASK_PLACEHOLDER = "UNKNOWN GOAL."
_DATA_VARIABLE = "ALFWORLD_DATA"


class StockEngine:
    """The unpatched engine of the alfworld and textworld packages, playing one game at a time.

    Args:
        game: `pddl_domain`, `pddl_problem` and `grammar`, as in a `game.tw-pddl` file.

    Raises:
        EnvError: the packages are not installed.
    """

    def __init__(self, game: Mapping[str, str]) -> None:
        with _process_state_restored():
            self._env = _make_environment()
        self.load(game)

    def load(self, game: Mapping[str, str]) -> None:
        """Begin another game in place of the present one."""
        with _process_state_restored():
            self._env.load(dict(game))
            self._state = self._env.reset()

    @property
    def text(self) -> str:
        """What the agent sees after the last command; the introduction before the first."""
        return str(self._state.feedback)

    @property
    def commands(self) -> list[str]:
        """The admissible commands, sorted."""
        return list(self._state["admissible_commands"])

    @property
    def won(self) -> bool:
        """Whether the goal is met."""
        return bool(self._state["won"])

    def step(self, command: str) -> None:
        """Carry the command out."""
        self._state, _, _ = self._env.step(command)


def game_content(problem: str, task: str, domain: str, grammar: str) -> dict[str, str]:
    """The content of a `game.tw-pddl` file.

    Args:
        problem: PDDL problem.
        task: the task's sentence.
        domain: the PDDL domain of the assets' version.
        grammar: its text grammar, with a placeholder for the sentence.

    Raises:
        EnvError: the grammar has no such placeholder.
    """
    if _TASK_PLACEHOLDER not in grammar:
        raise EnvError(f"text grammar has no {_TASK_PLACEHOLDER!r} where the task's sentence belongs")
    return {
        "pddl_domain": domain,
        "pddl_problem": problem,
        "grammar": grammar.replace(_TASK_PLACEHOLDER, task),
    }


def _make_environment() -> Any:
    missing = [name for name in ("alfworld", "textworld") if importlib.util.find_spec(name) is None]
    if missing:
        raise EnvError(
            f"the package {missing[0]} is not installed; install it with: pip install 'alfworld>=0.4.2,<0.5'"
        )
    # Slow to import, and not needed to play in this package's own engine.
    import textworld
    from alfworld.agents.environment.alfred_tw_env import AlfredDemangler
    from textworld.envs import PddlEnv

    infos = textworld.EnvInfos(won=True, admissible_commands=True)
    return AlfredDemangler(PddlEnv(infos), shuffle=False)


@contextmanager
def _process_state_restored() -> Iterator[None]:
    """Undo what the stock packages do to the process.

    The planner's translator overwrites `sys.argv` and, when it fails, leaves `sys.stdout` swapped. Importing alfworld
    sets its data variable and, where that is unset, makes a folder in the user's home.
    """
    arguments, output, data = sys.argv, sys.stdout, os.environ.get(_DATA_VARIABLE)
    if data is None:
        os.environ[_DATA_VARIABLE] = str(Path(__file__).parent)
    try:
        yield
    finally:
        sys.argv, sys.stdout = arguments, output
        if data is None:
            os.environ.pop(_DATA_VARIABLE, None)
