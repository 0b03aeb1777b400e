"""What the agent can do in a situation: commands and the actions they stand for."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from enum import StrEnum
from typing import NamedTuple


class Verb(StrEnum):
    """The domain's actions."""

    LOOK = "look"
    INVENTORY = "inventory"
    HELP = "help"
    GO = "go to"
    OPEN = "open"
    CLOSE = "close"
    TAKE = "take"
    PUT = "put"
    USE = "use"
    CLEAN = "clean"
    HEAT = "heat"
    COOL = "cool"
    SLICE = "slice"
    EXAMINE_RECEPTACLE = "examine receptacle"
    EXAMINE_OBJECT = "examine object"


class Action(NamedTuple):
    """An action with what it acts on; fields that the verb does not need are empty.

    Attributes:
        object: what is taken, put, used, changed or examined.
        receptacle: where to, where from, or the appliance.
        location: where going leads.
        tool: what slices.
    """

    verb: Verb
    object: str = ""
    receptacle: str = ""
    location: str = ""
    tool: str = ""


@dataclass(frozen=True, slots=True)
class Menu:
    """The admissible commands of a situation.

    Attributes:
        here: commands other than going elsewhere. Where two actions read the same, the first counts.
        travel: commands that lead elsewhere; shared by the situations at one location.
        commands: all of them, sorted.
    """

    here: Mapping[str, Action]
    travel: Mapping[str, Action]
    commands: tuple[str, ...]

    @classmethod
    def of(cls, here: Iterable[tuple[str, Action]], travel: Mapping[str, Action]) -> Menu:
        """The menu of these commands, the first of equal ones counting."""
        first: dict[str, Action] = {}
        for command, action in here:
            first.setdefault(command, action)
        return cls(first, travel, tuple(sorted((*first, *travel))))

    def find(self, command: str) -> Action | None:
        """The action that the command stands for, None if it is not admissible."""
        return self.here.get(command) or self.travel.get(command)
