"""The tasks: one decision that matters, a key for later, needs in order, chance, and no cause at all."""

from __future__ import annotations

import random
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from enum import StrEnum

from stepcredit.envs.diagnostic.process import Process, State

COLOURS = ("amber", "black", "blue", "brown", "gold", "green", "grey", "orange", "pink", "red", "violet", "white")
CONTAINERS = ("bag", "barrel", "basket", "box", "chest", "drawer", "jar", "shelf", "trunk", "vase")
THINGS = ("apple", "bread", "cup", "egg", "mug", "pan", "plate", "potato", "spoon", "tomato")
SIDES = ("left", "middle", "right")


class Puzzle(StrEnum):
    """The suites of the benchmark."""

    CRITICAL_STEP = "critical_step"
    DELAYED_KEY = "delayed_key"
    CHAIN_OF_NEEDS = "chain_of_needs"
    BANDIT_TREE = "bandit_tree"
    NULL_CAUSAL = "null_causal"


@dataclass(frozen=True, slots=True)
class Doors:
    """A house of rooms with three doors each.

    In one room a single door leads out; nothing tells until the end whether it was taken. Without such a room nothing
    that is done makes a difference: a coin is thrown at the end.

    State: (doors opened, 1 while the way out can be found; at the end, 1 for outside).
    """

    colours: tuple[str, ...]
    critical: int | None
    way_out: str
    rooms: int = 5

    @property
    def task(self) -> str:
        if self.critical is None:
            return f"get out of the {self.way_out} house."
        return f"get out of the house, in room {self.critical + 1} by the {self.way_out} door."

    @property
    def start(self) -> State:
        return (0, 1)

    def text(self, state: State) -> str:
        opened, good = state
        if opened == self.rooms:
            return "You are outside." if good else "You are in the cellar."
        *others, last = self.colours
        return f"You are in room {opened + 1} of {self.rooms}. The doors are {', '.join(others)} and {last}."

    def actions(self, state: State) -> tuple[str, ...]:
        return () if state[0] == self.rooms else tuple(f"open {colour} door" for colour in self.colours)

    def outcomes(self, state: State, action: str) -> Sequence[tuple[State, float]]:
        opened, good = state
        if self.critical is None and opened + 1 == self.rooms:
            return [((self.rooms, 0), 0.5), ((self.rooms, 1), 0.5)]
        missed = opened == self.critical and action != f"open {self.way_out} door"
        return [((opened + 1, 0 if missed else good), 1.0)]

    def won(self, state: State) -> bool:
        return state == (self.rooms, 1)


@dataclass(frozen=True, slots=True)
class Key:
    """A key that is taken, or not, at the beginning, a hall without choices that matter, and the door at its end.

    State: (actions taken, 1 with the key, 1 once the door is open).
    """

    containers: tuple[str, ...]
    place: str
    hall: int = 4

    @property
    def task(self) -> str:
        return f"open the door at the end of the hall; its key is in the {self.place}."

    @property
    def start(self) -> State:
        return (0, 0, 0)

    def text(self, state: State) -> str:
        taken, _, opened = state
        if taken == 0:
            *others, last = (f"a {container}" for container in self.containers)
            return f"You see {', '.join(others)} and {last}."
        if taken <= self.hall:
            return f"You are in the hall, {counted(self.hall - taken + 1)} from the door."
        if taken == self.hall + 1:
            return "You are at the door."
        return "The door is open." if opened else "The door is closed."

    def actions(self, state: State) -> tuple[str, ...]:
        taken = state[0]
        if taken == 0:
            return tuple(f"search {container}" for container in self.containers)
        if taken <= self.hall:
            return tuple(f"walk {side}" for side in SIDES)
        return ("go away", "open door") if taken == self.hall + 1 else ()

    def outcomes(self, state: State, action: str) -> Sequence[tuple[State, float]]:
        taken, key, _ = state
        if taken == 0:
            key = int(action == f"search {self.place}")
        return [((taken + 1, key, int(action == "open door" and key == 1)), 1.0)]

    def won(self, state: State) -> bool:
        return state[2] == 1


@dataclass(frozen=True, slots=True)
class Needs:
    """Take, heat, put: each needs the one before, and what is put down cold stays cold.

    State: (actions taken, 1 with the thing in hand, 1 once it is hot, 1 once it is put down).
    """

    thing: str
    distractor: str
    turns: int = 6

    @property
    def task(self) -> str:
        return f"put a hot {self.thing} on the table."

    @property
    def start(self) -> State:
        return (0, 0, 0, 0)

    def text(self, state: State) -> str:
        taken, held, hot, put = state
        warmth = "hot" if hot else "cold"
        if put:
            return f"A {warmth} {self.thing} is on the table."
        left = f"{counted(self.turns - taken)} left."
        return f"You hold a {warmth} {self.thing}, {left}" if held else f"You see the {self.thing}, {left}"

    def actions(self, state: State) -> tuple[str, ...]:
        if state[0] == self.turns or state[3]:
            return ()
        on_it = (f"heat {self.thing}", f"look at {self.distractor}", f"put {self.thing}", f"take {self.thing}")
        return tuple(sorted(on_it))

    def outcomes(self, state: State, action: str) -> Sequence[tuple[State, float]]:
        taken, held, hot, put = state
        match action.split()[0]:
            case "take":
                held = 1
            case "heat":
                hot = max(hot, held)
            case "put":
                put = held
        return [((taken + 1, held, hot, put), 1.0)]

    def won(self, state: State) -> bool:
        return state[2:] == (1, 1)


@dataclass(frozen=True, slots=True)
class Tree:
    """Paths that fork in two, a guide who errs, and at each end a prize that is there or not.

    State: (forks passed, the path as a binary number, 1 with the prize).
    """

    colours: tuple[str, str]
    likely: int
    forks: int = 3
    error: float = 0.1
    rich: float = 0.9
    poor: float = 0.3

    @property
    def task(self) -> str:
        turns = [self.colours[(self.likely >> (self.forks - 1 - fork)) & 1] for fork in range(self.forks)]
        return f"find the prize, most likely at the end of {', '.join(turns)}."

    @property
    def start(self) -> State:
        return (0, 0, 0)

    def text(self, state: State) -> str:
        passed, path, prize = state
        if passed == self.forks:
            return "The prize is here." if prize else "There is nothing here."
        one, other = self.colours
        came = f"You came by the {self.colours[path & 1]} path. " if passed else ""
        return f"{came}At fork {passed + 1} of {self.forks} the paths are {one} and {other}."

    def actions(self, state: State) -> tuple[str, ...]:
        return () if state[0] == self.forks else tuple(f"take {colour} path" for colour in self.colours)

    def outcomes(self, state: State, action: str) -> Sequence[tuple[State, float]]:
        passed, path, _ = state
        turn = self.colours.index(action.split()[1])
        ways = [(2 * path + turn, 1.0 - self.error), (2 * path + 1 - turn, self.error)]
        if passed + 1 < self.forks:
            return [((passed + 1, way, 0), chance) for way, chance in ways]
        return [((self.forks, way, prize), chance * odds) for way, chance in ways for prize, odds in self._odds(way)]

    def won(self, state: State) -> bool:
        return state[2] == 1

    def _odds(self, path: int) -> Sequence[tuple[int, float]]:
        there = self.rich if path == self.likely else self.poor
        return [(0, 1.0 - there), (1, there)]


def counted(turns: int) -> str:
    """`1 step`, `2 steps`."""
    return f"{turns} step{'s' if turns > 1 else ''}"


def _critical_step(rng: random.Random) -> Process:
    colours = tuple(sorted(rng.sample(COLOURS, 3)))
    return Doors(colours, rng.randrange(5), rng.choice(colours))


def _null_causal(rng: random.Random) -> Process:
    return Doors(tuple(sorted(rng.sample(COLOURS, 3))), None, rng.choice(COLOURS))


def _delayed_key(rng: random.Random) -> Process:
    containers = tuple(sorted(rng.sample(CONTAINERS, 3)))
    return Key(containers, rng.choice(containers))


def _chain_of_needs(rng: random.Random) -> Process:
    thing, distractor = rng.sample(THINGS, 2)
    return Needs(thing, distractor)


def _bandit_tree(rng: random.Random) -> Process:
    one, other = sorted(rng.sample(COLOURS, 2))
    return Tree((one, other), rng.randrange(8))


_DRAWN: Mapping[Puzzle, Callable[[random.Random], Process]] = {
    Puzzle.CRITICAL_STEP: _critical_step,
    Puzzle.DELAYED_KEY: _delayed_key,
    Puzzle.CHAIN_OF_NEEDS: _chain_of_needs,
    Puzzle.BANDIT_TREE: _bandit_tree,
    Puzzle.NULL_CAUSAL: _null_causal,
}


def drawn(puzzle: Puzzle, name: str) -> Process:
    """The task of that name, the same on every machine."""
    return _DRAWN[puzzle](random.Random(f"{puzzle}:{name}"))
