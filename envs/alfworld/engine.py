"""The engine behind the small interface that conformance checks hold against stock TextWorld."""

from __future__ import annotations

import re
from collections.abc import Mapping
from typing import Protocol

from stepcredit.envs.alfworld.game import Game
from stepcredit.envs.alfworld.text import GRAMMARS
from stepcredit.envs.alfworld.world import World
from stepcredit.envs.contract import EnvError

_TASK = re.compile(r'"Your task is to: ([^"\\]*)"')
# The domain of 2.1.1 lets sinks clean; later ones have commented that line out.
_SINK_CLEANS = re.compile(r"^\s*\(receptacletype \?r sinktype\)", re.MULTILINE | re.IGNORECASE)


class Engine(Protocol):
    """An engine that plays one game."""

    @property
    def text(self) -> str:
        """What the agent sees after the last command; the introduction before the first."""
        ...

    @property
    def commands(self) -> list[str]:
        """The admissible commands, sorted."""
        ...

    @property
    def won(self) -> bool:
        """Whether the goal is met."""
        ...

    def step(self, command: str) -> None:
        """Carry the command out."""
        ...


class WorldEngine:
    """This package's engine."""

    def __init__(self, world: World) -> None:
        self._world = world
        self.text = world.introduction()

    @property
    def commands(self) -> list[str]:
        """The admissible commands, sorted."""
        return list(self._world.commands())

    @property
    def won(self) -> bool:
        """Whether the goal is met."""
        return self._world.won

    def step(self, command: str) -> None:
        """Carry the command out."""
        self.text = self._world.step(command)


def for_conformance(game: Mapping[str, str]) -> WorldEngine:
    """An engine for the content of a `game.tw-pddl` file.

    Args:
        game: `pddl_domain`, `pddl_problem` and `grammar`, which holds the task's sentence.

    Raises:
        EnvError: the game is incomplete or of an unknown grammar.
    """
    missing = [key for key in ("pddl_domain", "pddl_problem", "grammar") if key not in game]
    if missing:
        raise EnvError(f"game has no {missing[0]!r}; a game.tw-pddl file has pddl_domain, pddl_problem and grammar")
    grammar = game["grammar"]
    task = _TASK.search(grammar)
    if task is None:
        raise EnvError("game's grammar has no sentence 'Your task is to: ...'")
    sink_cleans = _SINK_CLEANS.search(game["pddl_domain"]) is not None
    return WorldEngine(World(Game.from_pddl(game["pddl_problem"], task[1], _version(grammar), sink_cleans)))


def _version(grammar: str) -> str:
    for version, words in GRAMMARS.items():
        if words.put.format(object="{o}", receptacle="{r}") in grammar:
            return version
    raise EnvError(f"game's grammar is none of {', '.join(GRAMMARS)}: it puts things down in other words")
