"""A game's static part, shared by all its episodes: the room, what fits where, names, commands, the goal."""

from __future__ import annotations

from collections import Counter, defaultdict
from collections.abc import Iterable, Iterator, Mapping, Sequence
from functools import lru_cache

from stepcredit.envs.alfworld.actions import Action, Menu, Verb
from stepcredit.envs.alfworld.goal import compile_goal, type_name
from stepcredit.envs.alfworld.pddl import Fact, Problem, parse_problem
from stepcredit.envs.alfworld.text import GRAMMARS, Grammar
from stepcredit.envs.naming import unknown

Shelf = tuple[str, bool, tuple[str, ...]]
"""A receptacle at hand: its id, whether one can reach into it, and what it holds."""

_KNIVES = frozenset({"knife", "butterknife"})
# Menus are worth keeping: in rollouts of one game the same situations come back.
_MENUS_KEPT = 256


class Game:
    """What actions do not change. Ids are the problem's symbols in lower case; types are as in "mug", "sinkbasin".

    Attributes:
        task: the task's sentence.
        grammar: the words the game speaks.
        names: id -> name as the agent reads it, such as "mug 1".
        object_types: object id -> type.
        receptacle_types: receptacle id -> type.
        locations: receptacle id -> where it stands.
        receptacles_at: location id -> receptacles there, sorted; locations without any are no keys.
        all_receptacles: every receptacle that stands somewhere, sorted, once for each location.
        can_contain: (receptacle type, object type) for which the one can hold the other.
        openable: receptacles that open and close.
        pickupable, cleanable, heatable, coolable, sliceable, toggleable: objects that can be so treated.
        containers: objects that can hold objects.
        inside: container -> objects in it, sorted.
        appliances: verb -> (receptacle types that do it, objects that can undergo it).
        knives: objects that slice.
        problem: the facts at the start.
        goal: what the task asks for.
        compiled_goal: the test of whether a state meets the goal.
        noticeable: predicate -> objects for which examining them, or the goal, tells whether it holds.
        menu: what one can do, given location, held object, receptacles at hand and objects within a knife's reach.
    """

    def __init__(self, problem: Problem, task: str, grammar: Grammar, *, sink_cleans: bool) -> None:
        self.problem, self.task, self.grammar = problem, task, grammar
        self.names = name_symbols(problem.symbols())
        self.object_types = {item: type_name(kind) for item, kind in problem.facts["objecttype"]}
        self.receptacle_types = {item: type_name(kind) for item, kind in problem.facts["receptacletype"]}
        self.locations = grouped(problem.facts["receptacleatlocation"])
        self.receptacles_at = grouped((place, item) for item, place in problem.facts["receptacleatlocation"])
        self.all_receptacles = tuple(item for item in sorted(self.locations) for _ in self.locations[item])
        self.can_contain = frozenset((type_name(r), type_name(o)) for r, o in problem.facts["cancontain"])
        self.openable = problem.arguments("openable")
        self.pickupable = problem.arguments("pickupable")
        self.cleanable = problem.arguments("cleanable")
        self.heatable = problem.arguments("heatable")
        self.coolable = problem.arguments("coolable")
        self.sliceable = problem.arguments("sliceable")
        self.toggleable = problem.arguments("toggleable")
        self.containers = problem.arguments("isreceptacleobject")
        self.inside = grouped((outer, inner) for inner, outer in problem.facts["inreceptacleobject"])
        self.knives = frozenset(item for item, kind in self.object_types.items() if kind in _KNIVES)
        self.appliances = self._appliances(sink_cleans)
        self.compiled_goal = compile_goal(problem)
        self.goal = self.compiled_goal.spec
        self._journeys = [
            (f"go to {self.names[receptacle]}", Action(Verb.GO, receptacle=receptacle, location=place))
            for receptacle in sorted(self.locations)
            for place in self.locations[receptacle]
        ]
        self.noticeable = self._noticeable()
        self.travel = lru_cache(maxsize=None)(self._travel)
        self.menu = lru_cache(maxsize=_MENUS_KEPT)(self._menu)

    @classmethod
    def from_pddl(cls, problem: str, task: str, grammar: str = "2.1.2", sink_cleans: bool = False) -> Game:
        """The game that a PDDL problem describes.

        Args:
            problem: for the ALFRED domain.
            task: the task's sentence, such as "put a mug in shelf.".
            grammar: version of the text grammar, "2.1.2" or "2.1.1".
            sink_cleans: whether a sink cleans as its basin does (the domain of 2.1.1).

        Raises:
            EnvError: the problem cannot be read, poses none of the six tasks, or the grammar is unknown.
        """
        if grammar not in GRAMMARS:
            raise unknown("grammar version", grammar, GRAMMARS)
        return cls(parse_problem(problem), task, GRAMMARS[grammar], sink_cleans=sink_cleans)

    def fits(self, item: str, receptacle: str) -> bool:
        """Whether the receptacle can hold the object."""
        return (self.receptacle_types.get(receptacle), self.object_types.get(item)) in self.can_contain

    def _noticeable(self) -> Mapping[str, frozenset[str]]:
        # Only what is held can be examined, and containers show their content instead of their state.
        examined = self.pickupable - self.containers
        predicates = ("isclean", "ishot", "iscool", "istoggled", "issliced")
        return {predicate: examined | self.compiled_goal.candidates(predicate) for predicate in predicates}

    def _appliances(self, sink_cleans: bool) -> Mapping[Verb, tuple[frozenset[str], frozenset[str]]]:
        basins = {"sinkbasin", "sink"} if sink_cleans else {"sinkbasin"}
        return {
            Verb.CLEAN: (frozenset(basins), self.cleanable),
            Verb.HEAT: (frozenset({"microwave"}), self.heatable),
            Verb.COOL: (frozenset({"fridge"}), self.coolable),
        }

    def _travel(self, location: str) -> Mapping[str, Action]:
        """Commands that lead to other locations. Receptacles at one's own location cannot be gone to."""
        # Reversed, since the first of equal commands counts and a mapping keeps the last.
        return {command: action for command, action in reversed(self._journeys) if action.location != location}

    def _menu(self, location: str, held: str | None, at_hand: tuple[Shelf, ...], cuttable: tuple[str, ...]) -> Menu:
        return Menu.of(self._commands_here(held, at_hand, cuttable), self.travel(location))

    def _commands_here(
        self, held: str | None, at_hand: Sequence[Shelf], cuttable: Sequence[str]
    ) -> Iterator[tuple[str, Action]]:
        yield "look", Action(Verb.LOOK)
        yield "inventory", Action(Verb.INVENTORY)
        if self.grammar.help is not None:
            yield "help", Action(Verb.HELP)
        for shelf in at_hand:
            yield from self._receptacle_commands(*shelf, held)
        if held is not None:
            name = self.names[held]
            yield f"examine {name}", Action(Verb.EXAMINE_OBJECT, held)
            for item in cuttable:
                yield f"slice {self.names[item]} with {name}", Action(Verb.SLICE, item, tool=held)

    def _receptacle_commands(
        self, receptacle: str, reachable: bool, contents: Sequence[str], held: str | None
    ) -> Iterator[tuple[str, Action]]:
        name = self.names[receptacle]
        yield f"examine {name}", Action(Verb.EXAMINE_RECEPTACLE, receptacle=receptacle)
        if receptacle in self.openable:
            verb = Verb.CLOSE if reachable else Verb.OPEN
            yield f"{verb.value} {name}", Action(verb, receptacle=receptacle)
        for item in contents:
            if item in self.toggleable:
                yield f"use {self.names[item]}", Action(Verb.USE, item)
            if held is None and reachable and item in self.pickupable:
                yield f"take {self.names[item]} from {name}", Action(Verb.TAKE, item, receptacle)
        if held is not None:
            if reachable and self.fits(held, receptacle):
                command = self.grammar.put.format(object=self.names[held], receptacle=name)
                yield command, Action(Verb.PUT, held, receptacle)
            yield from self._treatments(held, receptacle)

    def _treatments(self, held: str, receptacle: str) -> Iterator[tuple[str, Action]]:
        for verb, (appliances, objects) in self.appliances.items():
            if self.receptacle_types.get(receptacle) in appliances and held in objects:
                command = f"{verb.value} {self.names[held]} with {self.names[receptacle]}"
                yield command, Action(verb, held, receptacle)


def name_symbols(symbols: Sequence[str]) -> dict[str, str]:
    """ALFWorld's names for a problem's symbols, given sorted: "mug 2" for the first of two mugs, "mug 1" for the last.

    Source: `Demangler` of alfworld/agents/utils/misc.py.
    """
    bases = {symbol: _base(symbol) for symbol in symbols}
    left = Counter(bases.values())
    names = {}
    for symbol, base in bases.items():
        if "_bar_" in symbol:
            names[symbol] = f"{base} {left[base]}"
            left[base] -= 1
        else:
            names[symbol] = f"{symbol} "
    return names


def _base(symbol: str) -> str:
    base, separator, _ = symbol.partition("_bar_")
    return f"{base}basin" if separator and "basin" in symbol else base


def grouped(pairs: Iterable[Fact]) -> dict[str, tuple[str, ...]]:
    """First member -> the second members that go with it, sorted."""
    groups = defaultdict(list)
    for key, member in pairs:
        groups[key].append(member)
    return {key: tuple(sorted(members)) for key, members in groups.items()}
