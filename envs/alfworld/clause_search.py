"""Whether some objects of a room satisfy a goal's clause: planned once a game, asked after every action."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass

from stepcredit.envs.alfworld.conditions import DYNAMIC, STATIC, Atom, Clause, State
from stepcredit.envs.alfworld.pddl import Fact, Problem
from stepcredit.envs.contract import EnvError


@dataclass(frozen=True, slots=True)
class _Test:
    """An atom whose arguments stand in value slots."""

    holds: Callable[[State, Fact], bool]
    slots: tuple[int, ...]
    expected: bool

    def passes(self, state: State, values: Sequence[str]) -> bool:
        return self.holds(state, tuple([values[slot] for slot in self.slots])) is self.expected


@dataclass(frozen=True, slots=True)
class ClauseSearch:
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
    def plan(cls, clause: Clause, problem: Problem) -> ClauseSearch:
        """The search that answers whether a clause holds in states of the problem.

        Raises:
            EnvError: a variable has an unknown type.
        """
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
