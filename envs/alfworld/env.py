"""A game as an environment."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import replace

from stepcredit.envs.alfworld.game import Game
from stepcredit.envs.alfworld.identity import state_key
from stepcredit.envs.alfworld.text import NOTHING_HAPPENS
from stepcredit.envs.alfworld.world import World
from stepcredit.envs.contract import EnvError, Observation, StepResult


class AlfworldEnv:
    """One episode of a game. It ends when the goal is met; how many turns it may take is the caller's business.

    Args:
        game: may be shared with other episodes.
    """

    def __init__(self, game: Game) -> None:
        self._world = World(game)
        self._begun = False

    def reset(self) -> Observation:
        """Begin the episode: the introduction, word for word as TextWorld gives it.

        Raises:
            EnvError: the episode has begun already.
        """
        if self._begun:
            raise EnvError("this episode has begun already; make a new environment for another one")
        self._begun = True
        return replace(self._observe(self._world.introduction()), task=self._world.game.task)

    def step(self, action: str) -> StepResult:
        """Carry out a command. One that is not admissible changes nothing and is answered "Nothing happens.".

        Raises:
            EnvError: the episode has not begun, or is over.
        """
        world = self._world
        if not self._begun:
            raise EnvError(f"command {action!r} before the episode began; call reset() first")
        if world.won:
            raise EnvError(f"command {action!r} after the episode's end; make a new environment for another one")
        found = world.find(action)
        text = NOTHING_HAPPENS if found is None else world.apply(found)
        return StepResult(self._observe(text), done=world.won, success=world.won, valid=found is not None)

    def clone(self) -> AlfworldEnv:
        """An independent copy of the episode as it stands."""
        twin = object.__new__(AlfworldEnv)
        twin._world, twin._begun = self._world.clone(), self._begun
        return twin

    @property
    def world(self) -> World:
        """The full state, for experts that may see it."""
        return self._world

    @property
    def state_key(self) -> str:
        """Equal for two states of the game if and only if no commands tell them apart."""
        return state_key(self._world)

    @property
    def metrics(self) -> Mapping[str, float]:
        """Nothing beyond what every episode's row has."""
        return {}

    def _observe(self, text: str) -> Observation:
        return Observation(text, () if self._world.won else self._world.commands())
