"""The conditions of PDDL goals: what they are made of, how they are read, and what a state answers to each."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Protocol

from stepcredit.envs.alfworld.pddl import ARITIES, Expression, Fact
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


def clauses_of(condition: Expression) -> Iterator[Clause]:
    """The clauses whose conjunction the condition is.

    Raises:
        EnvError: it uses conditions that no ALFWorld goal has.
    """
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
