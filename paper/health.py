"""Collapse and divergence of a run, by rules over the numbers of its updates.

The same rules write the notes of a run, on the screen and in its study's report, and stop it where it is asked to stop.
They describe; none of them says that a run is worth nothing.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from enum import StrEnum

from stepcredit.paper.words import listed

PATIENCE = 5
"""Updates in a row that make a note. Where 5% of episodes succeed, 64 of them all fail in one update of 27, by chance,
and in five updates in a row once in ten million."""
ENTROPY_SHARE = 0.1
"""Of the entropy in nats that the first update met. Success is bought with entropy, and where nine tenths are spent
little is left to buy with (arXiv 2505.22617: three quarters of the gain had come by the time 73% were)."""
MOST_KL = 0.5
"""Nats a token by which one update may move the policy. A token that becomes e times as likely, or e times less, adds
0.72 or 0.37 to the estimate; at the clip radius of 0.2 it is 0.02."""
INVALID_SHARE = 0.9
"""Of the actions; hardly one turn in ten does anything."""
_AT_ONCE = frozenset({"not_finite", "kl"})
"""What one update is enough for: no chance makes it."""
_LIMITS = frozenset({"turn_limit", "context_limit"})


class Condition(StrEnum):
    """What can be wrong with an update."""

    NOT_FINITE = "not_finite"
    """Loss, gradient, entropy or KL is no number. With such a loss a run ends at once."""
    ENTROPY = "entropy"
    """Less than `ENTROPY_SHARE` of the first update's is left."""
    SUCCESS = "success"
    """No episode succeeds, after some did."""
    KL = "kl"
    """The update moved the policy by more than `MOST_KL`."""
    INVALID = "invalid"
    """At least `INVALID_SHARE` of the actions are invalid."""
    CUT = "cut"
    """Every episode ends at a limit of turns or tokens, after some did not."""
    UNTAUGHT = "untaught"
    """No group has credit, though not every episode succeeds: the weights stay as they are."""


SENTENCES: Mapping[Condition, str] = {
    Condition.NOT_FINITE: "a number that is not finite",
    Condition.ENTROPY: "entropy below a tenth of its start",
    Condition.SUCCESS: "no success any more",
    Condition.KL: f"KL of an update above {MOST_KL:g} nats a token",
    Condition.INVALID: "nine actions in ten invalid",
    Condition.CUT: "every episode cut at a limit",
    Condition.UNTAUGHT: "no group with credit",
}


@dataclass(frozen=True, slots=True)
class Vitals:
    """Of one update; None where a number was not recorded.

    Attributes:
        taught: whether anything was trained on. Where nothing was, KL, entropy and gradient were not measured.
        limited: share of its episodes that ended at a limit.
    """

    update: int
    taught: bool
    entropy: float | None = None
    kl: float | None = None
    loss: float | None = None
    grad_norm: float | None = None
    success: float | None = None
    invalid_rate: float | None = None
    limited: float | None = None

    @property
    def measured(self) -> Iterator[float]:
        """What a diverging run makes infinite, or no number."""
        return (value for value in (self.entropy, self.kl, self.loss, self.grad_norm) if value is not None)


@dataclass(frozen=True, slots=True)
class Spell:
    """Updates in a row in which a condition holds.

    Attributes:
        first: its first update, `last` its last.
        updates: in which it was measured and held.
        open: whether it holds at the end of what was looked at.
    """

    condition: Condition
    first: int
    last: int
    updates: int
    open: bool

    @property
    def when(self) -> str:
        """In words."""
        if self.first == self.last:
            return f"in update {self.first}"
        return f"from update {self.first} to {'the end' if self.open else self.last}"


def notes(vitals: Sequence[Vitals]) -> list[Spell]:
    """What there is to say of a run: each condition's spells of `PATIENCE` updates or more, in order of their start.

    A number that is not finite and a KL out of bounds are told of at once.
    """
    spells = [spell for condition in Condition for spell in _spells(condition, vitals)]
    told = [one for one in spells if one.updates >= PATIENCE or one.condition in _AT_ONCE]
    return sorted(told, key=lambda spell: spell.first)


def sentences(spells: Sequence[Spell]) -> list[str]:
    """One for each stretch of updates, with all that holds in it."""
    together: dict[str, list[str]] = {}
    for spell in spells:
        together.setdefault(spell.when, []).append(SENTENCES[spell.condition])
    return [f"{listed(what)} {when}" for when, what in together.items()]


def ongoing(vitals: Sequence[Vitals], conditions: Sequence[Condition], updates: int) -> Spell | None:
    """The first of the conditions that holds at the end, and has held for so many updates in a row."""
    spells = (spell for condition in conditions for spell in _spells(condition, vitals))
    return next((spell for spell in spells if spell.open and spell.updates >= updates), None)


def limited_share(stops: Sequence[str]) -> float:
    """Share of episodes that ended at a limit, by why each stopped."""
    return sum(stop in _LIMITS for stop in stops) / len(stops)


def _spells(condition: Condition, vitals: Sequence[Vitals]) -> Iterator[Spell]:
    """All stretches of updates in which it holds; an update in which it was not measured ends none."""
    held: list[int] = []
    for own, holds in zip(vitals, _judged(condition, vitals), strict=True):
        if holds:
            held.append(own.update)
        elif holds is False and held:
            yield Spell(condition, held[0], held[-1], len(held), open=False)
            held = []
    if held:
        yield Spell(condition, held[0], held[-1], len(held), open=True)


def _judged(condition: Condition, vitals: Sequence[Vitals]) -> list[bool | None]:
    """Of each update whether the condition holds; None where that was not measured."""
    match condition:
        case Condition.NOT_FINITE:
            return [not all(map(math.isfinite, own.measured)) for own in vitals]
        case Condition.ENTROPY:
            entropies = [own.entropy if own.taught else None for own in vitals]
            start = next((entropy for entropy in entropies if entropy is not None), 0.0)
            return _where(entropies, lambda entropy: entropy < ENTROPY_SHARE * start)
        case Condition.SUCCESS:
            return _after_some(_where([own.success for own in vitals], lambda success: success == 0.0))
        case Condition.KL:
            return _where([own.kl if own.taught else None for own in vitals], lambda kl: kl > MOST_KL)
        case Condition.INVALID:
            return _where([own.invalid_rate for own in vitals], lambda rate: rate >= INVALID_SHARE)
        case Condition.CUT:
            return _after_some(_where([own.limited for own in vitals], lambda share: share == 1.0))
        case Condition.UNTAUGHT:
            return [not own.taught and own.success != 1.0 for own in vitals]


def _where(values: Sequence[float | None], holds: Callable[[float], bool]) -> list[bool | None]:
    return [None if value is None else holds(value) for value in values]


def _after_some(judged: Sequence[bool | None]) -> list[bool | None]:
    """What holds is a loss only after an update in which it did not hold."""
    first = next((place for place, holds in enumerate(judged) if holds is False), len(judged))
    return [holds if place > first or holds is None else False for place, holds in enumerate(judged)]
