"""A demonstrator that answers generated questions by their hops: it searches, reads what it needs, goes on.

How often it guesses or asks carelessly is a parameter: a demonstrator that errs leaves something to learn.
"""

from __future__ import annotations

import random
from collections.abc import Mapping, Sequence
from copy import copy
from dataclasses import dataclass

from stepcredit.envs.searchqa.metrics import exact_match
from stepcredit.envs.searchqa.synthetic.shapes import Draft, Hop


@dataclass(frozen=True, slots=True)
class Habits:
    """How a demonstrator errs.

    Attributes:
        guess: share of episodes in which it answers before it has found out.
        careless: probability of a query that leaves out its first word.
        hasty: whether it answers at once where another episode told it the answer.
    """

    guess: float = 0.0
    careless: float = 0.0
    hasty: bool = False


@dataclass(frozen=True, slots=True)
class Turn:
    """A thought and an action, as `<search>...</search>` or `<answer>...</answer>`."""

    thought: str
    action: str

    @property
    def sent(self) -> str:
        """The action as environments take it."""
        return self.action.replace("> ", ">")


class Solver:
    """Plays one question.

    Args:
        guesses: values to guess from, by slot.
    """

    def __init__(self, draft: Draft, habits: Habits, guesses: Mapping[str, Sequence[str]], rng: random.Random) -> None:
        self._draft, self._habits, self._guesses, self._rng = draft, habits, guesses, rng
        self._next, self._known, self._told = 0, "", ""
        self._asked: frozenset[str] = frozenset()
        self._guess_at = rng.randrange(len(draft.hops)) if rng.random() < habits.guess else -1

    def settle(self) -> None:
        """From now on make no mistakes, as with a hint at hand."""
        self._habits, self._guess_at = Habits(), -1

    def informed_by(self, actions: Sequence[str], rng: random.Random, *, faultless: bool = False) -> Solver:
        """A twin that asks as another episode did where that is what it looks for, and where it would guess answers as
        that one did; it knows whether the answer was right.

        Args:
            actions: of any other episode on the question.
            rng: of the twin's choices.
            faultless: whether it also stops guessing and asking carelessly.
        """
        twin, told = copy(self), _answer_in(actions)
        twin._rng, twin._told = rng, told if exact_match(told, self._draft.answers) else ""
        twin._asked = frozenset(_query_in(action) for action in actions)
        if faultless:
            twin.settle()
        return twin

    def decide(self) -> Turn:
        """The next turn."""
        hops = self._draft.hops
        if self._next == len(hops):
            answer = self._draft.answers[0]
            told = self._known.endswith(_spaced(answer))
            return Turn(self._known if told else f"{self._known}, so{_spaced(answer)}", _answer(answer))
        if self._told and self._habits.hasty:
            return Turn(f"{self._known} so{_spaced(self._told)}", _answer(self._told))
        if self._next == self._guess_at:
            guess = self._told or self._rng.choice(self._guesses[hops[-1].slot])
            return Turn(f"{self._known} guess", _answer(guess))
        missing = "".join(f" {hop.slot}" for hop in hops[self._next :])
        return Turn(f"{self._known} need{missing}", _search(self._query(hops[self._next])))

    def read(self, observation: str) -> None:
        """Take in what a search found; where it is not what was looked for, the same is looked for again."""
        if self._next == len(self._draft.hops):
            return
        hop = self._draft.hops[self._next]
        if f"(Title: {hop.title})" in observation and hop.value in observation:
            self._next, self._known = self._next + 1, f" {hop.slot} is {hop.value}"
        else:
            self._known, self._habits = " not found", Habits(hasty=self._habits.hasty)

    def _query(self, hop: Hop) -> str:
        words = hop.query.split()
        careless = self._rng.random() < self._habits.careless and hop.query not in self._asked
        return " ".join(words[1:] if careless and len(words) > 1 else words)


def solution(draft: Draft) -> list[str]:
    """The actions of a flawless episode."""
    return [*(_search(hop.query).replace("> ", ">") for hop in draft.hops), f"<answer>{draft.answers[0]}</answer>"]


def _answer_in(actions: Sequence[str]) -> str:
    """What an episode answered; empty if nothing."""
    last = actions[-1] if actions else ""
    return last.removeprefix("<answer>").removesuffix("</answer>").strip() if last.startswith("<answer>") else ""


def _query_in(action: str) -> str:
    """What it searched for; empty if nothing."""
    return action.removeprefix("<search>").removesuffix("</search>").strip() if action.startswith("<search>") else ""


def _search(query: str) -> str:
    return f"<search>{_spaced(query)}</search>"


def _answer(answer: str) -> str:
    return f"<answer>{_spaced(answer)}</answer>"


def _spaced(text: str) -> str:
    """Words stand after a space everywhere, so that each has one token."""
    return f" {text}"
