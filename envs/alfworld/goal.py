"""Goals: which of the six tasks a PDDL goal poses, and a compiled test of whether a state meets it."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Protocol

from stepcredit.envs.alfworld.pddl import ARITIES, Expression, Fact, Problem
from stepcredit.envs.alfworld.subsets import Subset
from stepcredit.envs.contract import EnvError


class State(Protocol):
    """The facts that actions change; see `stepcredit.envs.alfworld.world.World`."""

    location: str
    held: str | None
    contents: dict[str, tuple[str, ...]]
    opened: frozenset[str]
    clean: frozenset[str]
    hot: frozenset[str]
    cool: frozenset[str]
    toggled: frozenset[str]
    sliced: frozenset[str]


DYNAMIC: Mapping[str, Callable[[State, Fact], bool]] = {
    "atlocation": lambda state, fact: state.location == fact[1],
    "inreceptacle": lambda state, fact: fact[0] in state.contents.get(fact[1], ()),
    "holds": lambda state, fact: state.held == fact[1],
    "opened": lambda state, fact: fact[0] in state.opened,
    "isclean": lambda state, fact: fact[0] in state.clean,
    "ishot": lambda state, fact: fact[0] in state.hot,
    "iscool": lambda state, fact: fact[0] in state.cool,
    "istoggled": lambda state, fact: fact[0] in state.toggled,
    "issliced": lambda state, fact: fact[0] in state.sliced,
}
"""Predicates that actions change and goals may name, with their tests."""

STATIC = frozenset(
    (
        "receptacleatlocation",
        "openable",
        "isreceptacleobject",
        "inreceptacleobject",
        "receptacletype",
        "cancontain",
        "objecttype",
        "cleanable",
        "heatable",
        "coolable",
        "pickupable",
        "moveable",
        "toggleable",
        "sliceable",
    )
)
"""Predicates that no action changes."""


@dataclass(frozen=True, slots=True)
class GoalSpec:
    """What a task asks for, in the words of the game: types are "mug", "sinkbasin", "desklamp".

    Attributes:
        target_type: the receptacle type the objects must end in, or the lamp's type for Look.
    """

    subset: Subset
    object_type: str
    target_type: str


@dataclass(frozen=True, slots=True)
class Atom:
    """A condition on variables (they begin with "?") and symbols, possibly negated."""

    predicate: str
    arguments: Fact
    negated: bool

    @property
    def variables(self) -> tuple[str, ...]:
        """The variables among the arguments."""
        return tuple(name for name in self.arguments if name.startswith("?"))


@dataclass(frozen=True, slots=True)
class Clause:
    """There are values of `variables` (name -> PDDL type) for which all `atoms` hold."""

    variables: Mapping[str, str]
    atoms: tuple[Atom, ...]


@dataclass(frozen=True, slots=True)
class Goal:
    """A compiled goal.

    Attributes:
        spec: what it asks for.
        predicates: the dynamic predicates it depends on.
    """

    spec: GoalSpec
    predicates: frozenset[str]
    searches: tuple[_Search, ...]

    def is_met(self, state: State) -> bool:
        """Whether the state meets the goal."""
        return all(search.succeeds(state) for search in self.searches)

    def candidates(self, predicate: str) -> frozenset[str]:
        """The symbols for which the goal may ask whether `predicate` (of one argument) holds."""
        found = (search.candidates_of(predicate) for search in self.searches)
        return frozenset().union(*found)


def compile_goal(problem: Problem) -> Goal:
    """Compile the problem's goal.

    Raises:
        EnvError: the goal is none of the six tasks, or uses conditions outside them.
    """
    clauses = tuple(_clauses(problem.goal))
    atoms = [atom for clause in clauses for atom in clause.atoms]
    return Goal(
        spec=_recognize(clauses),
        predicates=frozenset(atom.predicate for atom in atoms if atom.predicate in DYNAMIC),
        searches=tuple(_Search.plan(clause, problem) for clause in clauses),
    )


def _clauses(condition: Expression) -> Iterator[Clause]:
    for part in _conjuncts(condition):
        variables: dict[str, str] = {}
        yield Clause(variables, tuple(_atoms(part, variables)))


def _conjuncts(condition: Expression) -> Iterator[Expression]:
    if isinstance(condition, list) and condition[:1] == ["and"]:
        for part in condition[1:]:
            yield from _conjuncts(part)
    else:
        yield condition


def _atoms(condition: Expression, variables: dict[str, str]) -> Iterator[Atom]:
    """The atoms of a conjunction in which existentials may be nested; their variables are added to `variables`."""
    for part in _conjuncts(condition):
        match part:
            case ["exists", [*declared], body]:
                for name, kind in _declarations(declared):
                    if name in variables:
                        raise EnvError(f"PDDL goal declares the variable {name!r} twice in one condition")
                    variables[name] = kind
                yield from _atoms(body, variables)
            case ["not", inner]:
                yield _atom(inner, variables, negated=True)
            case _:
                yield _atom(part, variables, negated=False)


def _declarations(declared: Sequence[Expression]) -> Iterator[tuple[str, str]]:
    """Name and type of each variable in `?a ?b - type ?c - type`."""
    pending: list[str] = []
    symbols = iter(declared)
    for symbol in symbols:
        if symbol == "-":
            kind = next(symbols, "")
            yield from ((name, str(kind)) for name in pending)
            pending = []
        else:
            pending.append(str(symbol))
    if pending:
        raise EnvError(f"PDDL goal gives no type to the variable {pending[0]!r}")


def _atom(part: Expression, variables: Mapping[str, str], *, negated: bool) -> Atom:
    if not isinstance(part, list) or not part or not all(isinstance(word, str) for word in part):
        raise EnvError(f"PDDL goal uses a condition that this engine does not know: {_write(part)}")
    predicate, *arguments = (str(word) for word in part)
    if predicate != "=" and predicate not in DYNAMIC and predicate not in STATIC:
        raise EnvError(f"PDDL goal uses a condition that this engine does not know: {_write(part)}")
    if len(arguments) != ARITIES.get(predicate, 2):
        raise EnvError(f"PDDL goal gives {predicate!r} {len(arguments)} argument(s): {_write(part)}")
    atom = Atom(predicate, tuple(arguments), negated)
    unbound = [name for name in atom.variables if name not in variables]
    if unbound or not atom.variables:
        what = f"the undeclared variable {unbound[0]!r}" if unbound else "a condition without variables"
        raise EnvError(f"PDDL goal uses {what}: {_write(part)}")
    return atom


def _write(expression: Expression) -> str:
    return expression if isinstance(expression, str) else f"({' '.join(map(_write, expression))})"


_SHAPES: Mapping[tuple[str, ...], Subset] = {
    ("inreceptacle",): Subset.PICK,
    ("atlocation", "holds", "inreceptacle", "istoggled"): Subset.LOOK,
    ("inreceptacle", "isclean"): Subset.CLEAN,
    ("inreceptacle", "ishot"): Subset.HEAT,
    ("inreceptacle", "iscool"): Subset.COOL,
    ("inreceptacle", "inreceptacle"): Subset.PICK_TWO,
}
"""The dynamic predicates of a goal, sorted, tell which task it is."""


def _recognize(clauses: Sequence[Clause]) -> GoalSpec:
    atoms = [atom for clause in clauses for atom in clause.atoms]
    shape = tuple(sorted(("not " * atom.negated) + atom.predicate for atom in atoms if atom.predicate in DYNAMIC))
    if shape not in _SHAPES:
        raise EnvError(f"PDDL goal is none of ALFWorld's six tasks; it depends on {', '.join(shape) or 'nothing'}")
    if _SHAPES[shape] is Subset.LOOK:
        wanted = [clause for clause in clauses if any(atom.predicate == "holds" for atom in clause.atoms)]
        lamp = [clause for clause in clauses if any(atom.predicate == "istoggled" for atom in clause.atoms)]
        return GoalSpec(Subset.LOOK, _type_named(wanted, "objecttype"), _type_named(lamp, "objecttype"))
    return GoalSpec(_SHAPES[shape], _type_named(clauses, "objecttype"), _type_named(clauses, "receptacletype"))


def _type_named(clauses: Sequence[Clause], predicate: str) -> str:
    """The one type that the clauses' atoms of `predicate` name."""
    named = {atom.arguments[1] for clause in clauses for atom in clause.atoms if atom.predicate == predicate}
    if len(named) != 1:
        raise EnvError(f"PDDL goal must name one type with {predicate!r}, found {sorted(named)}")
    return type_name(named.pop())


def type_name(symbol: str) -> str:
    """ "mug" for the type that PDDL calls "mugtype"."""
    return symbol.removesuffix("type")


@dataclass(frozen=True, slots=True)
class _Test:
    """An atom whose arguments stand in value slots."""

    holds: Callable[[State, Fact], bool]
    slots: tuple[int, ...]
    expected: bool

    def passes(self, state: State, values: Sequence[str]) -> bool:
        return self.holds(state, tuple([values[slot] for slot in self.slots])) is self.expected


@dataclass(frozen=True, slots=True)
class _Search:
    """A clause as a backtracking search: variables in order of fewest candidates, each atom tested once bound.

    Attributes:
        candidates: variable -> the symbols that satisfy its static conditions.
        constants: symbols in the value slots behind the variables'.
        tests: for each variable, the atoms that binding it completes.
        atoms: the clause's.
    """

    candidates: Mapping[str, Sequence[str]]
    constants: tuple[str, ...]
    tests: tuple[tuple[_Test, ...], ...]
    atoms: tuple[Atom, ...]

    @classmethod
    def plan(cls, clause: Clause, problem: Problem) -> _Search:
        domains = _domains(problem)
        unary = [atom for atom in clause.atoms if atom.predicate in STATIC and len(atom.variables) == 1]
        possible: dict[str, Sequence[str]] = {}
        for name, kind in clause.variables.items():
            if kind not in domains:
                raise EnvError(f"PDDL goal gives the variable {name!r} the unknown type {kind!r}")
            possible[name] = domains[kind]
            for atom in unary:
                if atom.variables == (name,):
                    possible[name] = _satisfying(atom, possible[name], problem)
        candidates = dict(sorted(possible.items(), key=lambda item: len(item[1])))
        remaining = [atom for atom in clause.atoms if atom not in unary]
        constants = sorted({name for atom in remaining for name in atom.arguments} - set(candidates))
        slots = {name: slot for slot, name in enumerate((*candidates, *constants))}
        tests: list[list[_Test]] = [[] for _ in candidates]
        for atom in remaining:
            used = tuple(slots[name] for name in atom.arguments)
            depth = max(slots[name] for name in atom.variables)
            tests[depth].append(_Test(_predicate_test(atom.predicate, problem), used, not atom.negated))
        return cls(candidates, tuple(constants), tuple(map(tuple, tests)), clause.atoms)

    def succeeds(self, state: State) -> bool:
        """Whether some values satisfy the clause in this state."""
        values = [*self.candidates, *self.constants]
        return self._extend(state, values, tuple(self.candidates.values()), 0)

    def candidates_of(self, predicate: str) -> frozenset[str]:
        """The values that the argument of `predicate` may take."""
        names = (name for atom in self.atoms if atom.predicate == predicate for name in atom.variables)
        return frozenset(symbol for name in names for symbol in self.candidates[name])

    def _extend(self, state: State, values: list[str], candidates: Sequence[Sequence[str]], depth: int) -> bool:
        if depth == len(candidates):
            return True
        tests = self.tests[depth]
        for symbol in candidates[depth]:
            values[depth] = symbol
            if all(test.passes(state, values) for test in tests) and self._extend(state, values, candidates, depth + 1):
                return True
        return False


def _domains(problem: Problem) -> dict[str, list[str]]:
    """PDDL type -> its symbols, as far as a goal can tell them apart."""
    places = (*problem.facts["receptacleatlocation"], *problem.facts["atlocation"])
    return {
        "agent": [problem.agent],
        "location": sorted({location for _, location in places}),
        "object": sorted(item for item, _ in problem.facts["objecttype"]),
        "receptacle": sorted(item for item, _ in problem.facts["receptacletype"]),
    }


def _satisfying(atom: Atom, symbols: Sequence[str], problem: Problem) -> Sequence[str]:
    """Those symbols that, in the place of the static atom's one variable, make it hold."""
    known = set(problem.facts[atom.predicate])
    filled = [tuple([symbol if name.startswith("?") else name for name in atom.arguments]) for symbol in symbols]
    return [symbol for symbol, fact in zip(symbols, filled, strict=True) if (fact in known) is not atom.negated]


def _predicate_test(predicate: str, problem: Problem) -> Callable[[State, Fact], bool]:
    if predicate == "=":
        return lambda _, fact: fact[0] == fact[1]
    if predicate in DYNAMIC:
        return DYNAMIC[predicate]
    known = frozenset(problem.facts[predicate])
    return lambda _, fact: fact in known
