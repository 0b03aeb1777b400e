"""Goals: which of the six tasks a PDDL goal poses, and a compiled test of whether a state meets it."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

from stepcredit.envs.alfworld.clause_search import ClauseSearch
from stepcredit.envs.alfworld.conditions import DYNAMIC, Clause, State, clauses_of
from stepcredit.envs.alfworld.pddl import Problem
from stepcredit.envs.alfworld.subsets import Subset
from stepcredit.envs.contract import EnvError


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
class Goal:
    """A compiled goal.

    Attributes:
        spec: what it asks for.
        predicates: the dynamic predicates it depends on.
    """

    spec: GoalSpec
    predicates: frozenset[str]
    searches: tuple[ClauseSearch, ...]

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
    clauses = tuple(clauses_of(problem.goal))
    atoms = [atom for clause in clauses for atom in clause.atoms]
    return Goal(
        spec=_recognize(clauses),
        predicates=frozenset(atom.predicate for atom in atoms if atom.predicate in DYNAMIC),
        searches=tuple(ClauseSearch.plan(clause, problem) for clause in clauses),
    )


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
