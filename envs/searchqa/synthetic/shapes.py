"""The shapes of questions, by dataset, each with the searches that lead to the answer.

A chain of hops is a question's solution: what to search for, what to look for in the passage, what it says.
"""

from __future__ import annotations

import random
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import TypeVar

from stepcredit.envs.searchqa.questions import Dataset
from stepcredit.envs.searchqa.synthetic.names import KINDS
from stepcredit.envs.searchqa.synthetic.world import City, Organisation, Person, Region, Work, World

T = TypeVar("T")


@dataclass(frozen=True, slots=True)
class Hop:
    """One search on the way to an answer.

    Attributes:
        query: what to search for.
        title: of the passage that tells.
        slot: what is looked for.
        value: what is found.
        alias: another name of the value, empty for most.
    """

    query: str
    title: str
    slot: str
    value: str
    alias: str = ""


@dataclass(frozen=True, slots=True)
class Draft:
    """A question and how to answer it, before it has a number."""

    text: str
    answers: tuple[str, ...]
    hops: tuple[Hop, ...]


class Subjects:
    """The entities that a split's questions ask about: every fourth for `test`, the others for `train`.

    The splits share none, so no question is in both.
    """

    def __init__(self, world: World, split: str) -> None:
        self.people = _part(world.people, split)
        self.works = _part(world.works, split)
        self.cities = _part(world.cities, split)
        self.organisations = _part(world.organisations, split)
        self.regions = _part(world.regions, split)


Shape = Callable[[Subjects, random.Random], Draft]


def draft_of(dataset: Dataset, subjects: Subjects, rng: random.Random) -> Draft:
    """A question of the dataset's shape."""
    return rng.choice(_SHAPES[dataset])(subjects, rng)


def _part(everything: Sequence[T], split: str) -> list[T]:
    return [item for place, item in enumerate(everything) if (place % 4 == 0) == (split == "test")]


# What one search finds out.


def _birthplace(person: Person, called: str = "") -> Hop:
    return Hop(f"{called or person.name} born in", person.name, "birthplace", person.birthplace.name)


def _birthday(person: Person, called: str = "") -> Hop:
    return Hop(f"{called or person.name} born on", person.name, "birthday", person.born)


def _occupation(person: Person, called: str = "") -> Hop:
    return Hop(f"{called or person.name} is a", person.name, "occupation", person.occupation)


def _creator(work: Work) -> Hop:
    maker = work.creator
    return Hop(f"{work.kind} {work.title}", work.title, KINDS[work.kind][1], maker.name, maker.alias)


def _released(work: Work) -> Hop:
    return Hop(f"{work.kind} {work.title}", work.title, "year", str(work.year))


def _river(city: City) -> Hop:
    return Hop(f"{city.name} river", city.name, "river", city.river)


def _region(city: City) -> Hop:
    return Hop(f"{city.name} city", city.name, "region", city.region)


def _founded(city: City) -> Hop:
    return Hop(f"{city.name} founded", city.name, "year", str(city.founded))


def _founder(organisation: Organisation) -> Hop:
    founder = organisation.founder
    return Hop(f"{organisation.name} founded by", organisation.name, "founder", founder.name, founder.alias)


def _capital(region: Region) -> Hop:
    return Hop(f"{region.name} capital", region.name, "capital", region.capital)


def facts_of(of: Subjects) -> list[tuple[Hop, ...]]:
    """What the encyclopedia says of each entity."""
    found: list[tuple[Hop, ...]] = [(_birthplace(it), _birthday(it), _occupation(it)) for it in of.people]
    found += [(_creator(it), _released(it)) for it in of.works]
    found += [(_river(it), _region(it), _founded(it)) for it in of.cities]
    found += [(_founder(it),) for it in of.organisations]
    return found


def _ask(text: str, *hops: Hop) -> Draft:
    """A question that the last hop answers."""
    last = hops[-1]
    return Draft(text, (last.value, last.alias) if last.alias else (last.value,), hops)


def _called(person: Person, rng: random.Random) -> str:
    return person.alias if person.alias and rng.random() < 0.5 else person.name


def _first_of(text: str, names: Sequence[str], hops: Sequence[Hop]) -> Draft:
    """A comparison: the name whose year comes first."""
    years = [int(hop.value.split()[-1]) for hop in hops]
    return Draft(text.format(*names), (names[years.index(min(years))],), tuple(hops))


# NQ: what people type into a search box.


def _nq_person(of: Subjects, rng: random.Random) -> Draft:
    person = rng.choice(of.people)
    name = _called(person, rng)
    return rng.choice(
        (
            _ask(f"where was {name} born", _birthplace(person, name)),
            _ask(f"when was {name} born", _birthday(person, name)),
            _ask(f"what did {name} work as", _occupation(person, name)),
        )
    )


def _nq_work(of: Subjects, rng: random.Random) -> Draft:
    work = rng.choice(of.works)
    return rng.choice(
        (
            _ask(f"who {KINDS[work.kind][0]} the {work.kind} {work.title}", _creator(work)),
            _ask(f"what year is the {work.kind} {work.title} from", _released(work)),
        )
    )


def _nq_place(of: Subjects, rng: random.Random) -> Draft:
    city, organisation = rng.choice(of.cities), rng.choice(of.organisations)
    return rng.choice(
        (
            _ask(f"which river runs through {city.name}", _river(city)),
            _ask(f"when was {city.name} founded", _founded(city)),
            _ask(f"who founded the {organisation.name}", _founder(organisation)),
        )
    )


# TriviaQA: whole sentences with a hint too many.


def _trivia_person(of: Subjects, rng: random.Random) -> Draft:
    person = rng.choice(of.people)
    return rng.choice(
        (
            _ask(f"In which city was the {person.occupation} {person.name} born?", _birthplace(person)),
            _ask(f"On which day was the {person.occupation} {person.name} born?", _birthday(person)),
        )
    )


def _trivia_work(of: Subjects, rng: random.Random) -> Draft:
    work = rng.choice(of.works)
    verb = KINDS[work.kind][0]
    return rng.choice(
        (
            _ask(f"Who in {work.year} {verb} the {work.kind} {work.title}?", _creator(work)),
            _ask(f"In which year did {work.creator.name} finish the {work.kind} {work.title}?", _released(work)),
        )
    )


def _trivia_city(of: Subjects, rng: random.Random) -> Draft:
    city = rng.choice(of.cities)
    return _ask(f"The city of {city.name} in {city.region} lies on which river?", _river(city))


# PopQA: one template a relation.


def _pop_person(of: Subjects, rng: random.Random) -> Draft:
    person = rng.choice(of.people)
    name = _called(person, rng)
    return rng.choice(
        (
            _ask(f"What is the occupation of {name}?", _occupation(person, name)),
            _ask(f"In what city was {name} born?", _birthplace(person, name)),
        )
    )


def _pop_work(of: Subjects, rng: random.Random) -> Draft:
    work = rng.choice(of.works)
    return _ask(f"Who is the {KINDS[work.kind][1]} of the {work.kind} {work.title}?", _creator(work))


def _pop_place(of: Subjects, rng: random.Random) -> Draft:
    region, city = rng.choice(of.regions), rng.choice(of.cities)
    return rng.choice(
        (
            _ask(f"What is the capital of {region.name}?", _capital(region)),
            _ask(f"In what region is {city.name}?", _region(city)),
        )
    )


# HotpotQA: a bridge that is not named, or a comparison.


def _hotpot_work(of: Subjects, rng: random.Random) -> Draft:
    work = rng.choice(of.works)
    maker, role = work.creator, KINDS[work.kind][1]
    whom = f"the {role} of the {work.kind} {work.title}"
    return rng.choice(
        (
            _ask(f"In which city was {whom} born?", _creator(work), _birthplace(maker)),
            _ask(f"What was {whom} by occupation?", _creator(work), _occupation(maker)),
        )
    )


def _hotpot_organisation(of: Subjects, rng: random.Random) -> Draft:
    organisation = rng.choice(of.organisations)
    whom = f"the founder of the {organisation.name}"
    return rng.choice(
        (
            _ask(f"In which city was {whom} born?", _founder(organisation), _birthplace(organisation.founder)),
            _ask(f"When was {whom} born?", _founder(organisation), _birthday(organisation.founder)),
        )
    )


def _hotpot_comparison(of: Subjects, rng: random.Random) -> Draft:
    first, second = _apart(of.cities, lambda city: city.founded, rng)
    hops = (_founded(first), _founded(second))
    return _first_of("Which city was founded first, {} or {}?", (first.name, second.name), hops)


# 2WikiMultihopQA: templates over chains, and comparisons.


def _wiki2_chain(of: Subjects, rng: random.Random) -> Draft:
    work = rng.choice(of.works)
    maker, role = work.creator, KINDS[work.kind][1]
    whom = f"the {role} of {work.kind} {work.title}"
    return rng.choice(
        (
            _ask(f"What is the date of birth of {whom}?", _creator(work), _birthday(maker)),
            _ask(f"What is the place of birth of {whom}?", _creator(work), _birthplace(maker)),
        )
    )


def _wiki2_comparison(of: Subjects, rng: random.Random) -> Draft:
    first, second = _apart(of.people, lambda person: person.year, rng)
    return _first_of("Who was born first, {} or {}?", (first.name, second.name), (_birthday(first), _birthday(second)))


# MuSiQue: chains of two and three hops.


def _musique_city(of: Subjects, rng: random.Random) -> Draft:
    person = rng.choice(of.people)
    place = person.birthplace
    return rng.choice(
        (
            _ask(f"Which river runs through the birthplace of {person.name}?", _birthplace(person), _river(place)),
            _ask(f"In which region is the birthplace of {person.name}?", _birthplace(person), _region(place)),
        )
    )


def _musique_work(of: Subjects, rng: random.Random) -> Draft:
    work = rng.choice(of.works)
    maker, role = work.creator, KINDS[work.kind][1]
    text = f"In which region is the birthplace of the {role} of the {work.kind} {work.title}?"
    return _ask(text, _creator(work), _birthplace(maker), _region(maker.birthplace))


# Bamboogle: two hops in one breath.


def _bamboogle_city(of: Subjects, rng: random.Random) -> Draft:
    person, organisation = rng.choice(of.people), rng.choice(of.organisations)
    place = person.birthplace
    return rng.choice(
        (
            _ask(f"When was the city where {person.name} was born founded?", _birthplace(person), _founded(place)),
            _ask(
                f"What did the founder of the {organisation.name} work as?",
                _founder(organisation),
                _occupation(organisation.founder),
            ),
        )
    )


def _bamboogle_work(of: Subjects, rng: random.Random) -> Draft:
    work = rng.choice(of.works)
    verb = KINDS[work.kind][0]
    text = f"On which day was the person who {verb} the {work.kind} {work.title} born?"
    return _ask(text, _creator(work), _birthday(work.creator))


def _apart(items: Sequence[T], year: Callable[[T], int], rng: random.Random) -> tuple[T, T]:
    """Two items of different years."""
    while True:
        first, second = rng.sample(items, 2)
        if year(first) != year(second):
            return first, second


_SHAPES: Mapping[Dataset, tuple[Shape, ...]] = {
    Dataset.NQ: (_nq_person, _nq_work, _nq_place),
    Dataset.HOTPOTQA: (_hotpot_work, _hotpot_work, _hotpot_organisation, _hotpot_comparison),
    Dataset.TRIVIAQA: (_trivia_person, _trivia_work, _trivia_city),
    Dataset.POPQA: (_pop_person, _pop_work, _pop_place),
    Dataset.WIKI2: (_wiki2_chain, _wiki2_chain, _wiki2_comparison),
    Dataset.MUSIQUE: (_musique_city, _musique_city, _musique_work),
    Dataset.BAMBOOGLE: (_bamboogle_city, _bamboogle_work),
}
