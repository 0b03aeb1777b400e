"""ALFWorld's PDDL problems: the facts a game starts from, and its goal as an expression."""

from __future__ import annotations

import re
from collections import Counter
from collections.abc import Iterable, Mapping
from dataclasses import dataclass

from stepcredit.envs.contract import EnvError

Expression = str | list["Expression"]
"""An s-expression in lower case: a symbol, or a list of expressions."""

Fact = tuple[str, ...]
"""A fact's arguments, without its predicate."""

ARITIES: Mapping[str, int] = {
    "atlocation": 2,
    "receptacleatlocation": 2,
    "objectatlocation": 2,
    "openable": 1,
    "opened": 1,
    "inreceptacle": 2,
    "isreceptacleobject": 1,
    "inreceptacleobject": 2,
    "isreceptacleobjectfull": 1,
    "wasinreceptacle": 2,
    "checked": 1,
    "examined": 1,
    "receptacletype": 2,
    "cancontain": 2,
    "objecttype": 2,
    "holds": 2,
    "holdsany": 1,
    "holdsanyreceptacleobject": 1,
    "full": 1,
    "isclean": 1,
    "cleanable": 1,
    "ishot": 1,
    "heatable": 1,
    "iscool": 1,
    "coolable": 1,
    "pickupable": 1,
    "moveable": 1,
    "toggleable": 1,
    "ison": 1,
    "istoggled": 1,
    "sliceable": 1,
    "issliced": 1,
}
"""Predicates of the domain, in lower case as everything in PDDL, and how many arguments each takes."""

_COMMENT = re.compile(r";[^\n]*")
_NUMBER = re.compile(r"\(=\s*\([^()]*\)\s*[\d.]+\s*\)")
_TOKEN = re.compile(r"[()]|[^\s()]+")
_SHOWN = 60


@dataclass(frozen=True, slots=True)
class Problem:
    """What a problem's text says, in lower case.

    Attributes:
        facts: predicate -> its facts in the text's order; every predicate of the domain is a key.
        goal: the goal's condition.
    """

    facts: Mapping[str, tuple[Fact, ...]]
    goal: Expression

    @property
    def agent(self) -> str:
        """The agent's symbol."""
        return self.facts["atlocation"][0][0]

    @property
    def start(self) -> str:
        """The agent's location at the start."""
        return self.facts["atlocation"][0][1]

    def arguments(self, predicate: str) -> frozenset[str]:
        """What a predicate of one argument holds for."""
        return frozenset(fact[0] for fact in self.facts[predicate])

    def symbols(self) -> list[str]:
        """Every symbol that a fact names, sorted."""
        return sorted({symbol for facts in self.facts.values() for fact in facts for symbol in fact})


def parse_problem(text: str) -> Problem:
    """Read a problem of the ALFRED domain.

    Raises:
        EnvError: the text is no such problem; says which part is wrong.
    """
    text = text.lower()
    if ";" in text:
        text = _COMMENT.sub("", text)
    head, found, rest = text.partition("(:init")
    if not found:
        raise EnvError(f"PDDL problem has no '(:init' section; it begins {_shorten(head)}")
    init, found, goal = rest.partition("(:goal")
    if not found:
        raise EnvError(f"PDDL problem has no '(:goal' section after its facts; it ends {_shorten(rest[-_SHOWN:])}")
    problem = Problem(_parse_facts(init), _parse_goal(goal))
    _check_start(problem)
    return problem


def _parse_facts(init: str) -> dict[str, tuple[Fact, ...]]:
    """The facts in `FACT ... FACT)`, the rest of a section of which the opening is already read."""
    if "(=" in init:
        init = _NUMBER.sub("", init)
    if not init.rstrip().endswith(")"):
        raise EnvError(
            f"PDDL problem's '(:init' section lacks its closing parenthesis; it ends {_shorten(init[-_SHOWN:])}"
        )
    before, *pieces = init.rstrip()[:-1].split("(")
    facts: dict[str, list[Fact]] = {predicate: [] for predicate in ARITIES}
    stray = before.strip()
    for piece in pieces:
        written, closed, after = piece.partition(")")
        stray = stray or after.strip() or ("" if closed else piece)
        predicate, *arguments = written.split() or [""]
        if stray or ARITIES.get(predicate) != len(arguments):
            raise EnvError(f"PDDL problem's '(:init' section: {_expected(stray, written, predicate)}")
        facts[predicate].append(tuple(arguments))
    return {predicate: tuple(dict.fromkeys(rows)) for predicate, rows in facts.items()}


def _expected(stray: str, written: str, predicate: str) -> str:
    if stray:
        return f"it must be a list of flat facts, found {_shorten(stray)}"
    if predicate not in ARITIES:
        return f"the ALFRED domain has no predicate {predicate!r}, found '({written})'"
    return f"{predicate!r} takes {ARITIES[predicate]} argument(s), found '({written})'"


def _parse_goal(rest: str) -> Expression:
    """The condition in `(:goal CONDITION))`, of which the opening is already read."""
    open_lists: list[list[Expression]] = [[]]
    for token in _TOKEN.findall(rest):
        if token == "(":
            open_lists.append([])
        elif token == ")":
            finished = open_lists.pop()
            if not open_lists:
                return _only_condition(finished)
            open_lists[-1].append(finished)
        else:
            open_lists[-1].append(token)
    raise EnvError(f"PDDL problem's goal lacks {len(open_lists)} closing parenthesis(es): {_shorten(rest)}")


def _only_condition(goal: list[Expression]) -> Expression:
    if len(goal) != 1:
        raise EnvError(f"PDDL problem's goal must be one condition, found {len(goal)}")
    return goal[0]


def _check_start(problem: Problem) -> None:
    starts = problem.facts["atlocation"]
    if len(starts) != 1:
        raise EnvError(f"PDDL problem must place the agent once, found {len(starts)} facts (atLocation ...)")
    if len(problem.facts["holds"]) > 1:
        raise EnvError("PDDL problem lets the agent hold more than one object")
    for item, container, kind in (
        ("object", "inreceptacle", "objecttype"),
        ("receptacle", "receptacleatlocation", "receptacletype"),
    ):
        typed = _check_types(problem.facts[kind], item)
        missing = {fact[0] for fact in problem.facts[container]} - typed
        if missing:
            raise EnvError(f"PDDL problem gives no type to the {item} {min(missing)!r}")


def _check_types(facts: Iterable[Fact], item: str) -> set[str]:
    """The typed symbols, each of which must have one type."""
    counts = Counter(fact[0] for fact in facts)
    symbol, count = max(counts.items(), key=lambda pair: pair[1], default=("", 1))
    if count > 1:
        raise EnvError(f"PDDL problem gives {count} types to the {item} {symbol!r}")
    return set(counts)


def _shorten(text: str) -> str:
    words = " ".join(text.split())
    return repr(words if len(words) <= _SHOWN else words[:_SHOWN] + "...")
