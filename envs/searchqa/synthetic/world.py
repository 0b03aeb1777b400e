"""A small invented world: people, works, cities, regions and institutes, and what is true of them."""

from __future__ import annotations

import random
from dataclasses import dataclass
from functools import lru_cache

from stepcredit.envs.searchqa.synthetic.names import (
    CITIES,
    FIRST,
    INSTITUTES,
    KINDS,
    MONTHS,
    OCCUPATIONS,
    REGIONS,
    RIVERS,
    SURNAMES,
    TITLES,
)

VERSION = "1"
"""Counts up when anything about the world, its passages or its questions changes."""

YEARS = range(1700, 1970)
"""When everything happens: cities are founded first, works come last."""

_PEOPLE, _WORKS, _ORGANISATIONS = 1300, 1300, 320
_HOMONYMS = 0.1
_ALIASED = 0.25


@dataclass(frozen=True, slots=True)
class Region:
    """A region and its capital."""

    name: str
    capital: str


@dataclass(frozen=True, slots=True)
class City:
    """A city, where it lies, and since when."""

    name: str
    region: str
    river: str
    founded: int


@dataclass(frozen=True, slots=True)
class Person:
    """A person; `alias` is empty for most."""

    name: str
    alias: str
    day: int
    month: str
    year: int
    birthplace: City
    home: City
    occupation: str

    @property
    def born(self) -> str:
        """Date of birth."""
        return f"{self.day} {self.month} {self.year}"


@dataclass(frozen=True, slots=True)
class Work:
    """A work of art. Two works may share a title, never title and kind."""

    title: str
    kind: str
    creator: Person
    year: int
    setting: City


@dataclass(frozen=True, slots=True)
class Organisation:
    """An institution that somebody founded."""

    name: str
    city: City
    founder: Person
    year: int


@dataclass(frozen=True, slots=True)
class World:
    """Everything there is."""

    regions: tuple[Region, ...]
    cities: tuple[City, ...]
    people: tuple[Person, ...]
    works: tuple[Work, ...]
    organisations: tuple[Organisation, ...]


@lru_cache(maxsize=2)
def make_world(number: int = 0) -> World:
    """A world; the same on every machine. Number 0 is the benchmark's, the others share its names, not its facts."""
    rng = random.Random(f"searchqa world {VERSION} {number}")
    cities = _cities(rng)
    regions = tuple(Region(name, rng.choice([city.name for city in cities if city.region == name])) for name in REGIONS)
    people = _people(rng, cities)
    return World(regions, cities, people, _works(rng, people, cities), _organisations(rng, people, cities))


def _cities(rng: random.Random) -> tuple[City, ...]:
    names = rng.sample(CITIES, len(CITIES))
    return tuple(
        City(name, REGIONS[place % len(REGIONS)], rng.choice(RIVERS), rng.randint(1700, 1819))
        for place, name in enumerate(names)
    )


def _people(rng: random.Random, cities: tuple[City, ...]) -> tuple[Person, ...]:
    names = rng.sample([(first, last) for first in FIRST for last in SURNAMES], 2 * _PEOPLE)
    people = []
    for (first, last), (_, other) in zip(names[:_PEOPLE], names[_PEOPLE:], strict=True):
        alias = f"{first} {other}" if rng.random() < _ALIASED and (first, other) not in names else ""
        birthplace, home = rng.sample(cities, 2)
        day, month, year = rng.randint(1, 28), rng.choice(MONTHS), rng.randint(1820, 1929)
        people.append(Person(f"{first} {last}", alias, day, month, year, birthplace, home, rng.choice(OCCUPATIONS)))
    return tuple(people)


def _works(rng: random.Random, people: tuple[Person, ...], cities: tuple[City, ...]) -> tuple[Work, ...]:
    titles = rng.sample(TITLES, _WORKS)
    works = []
    for title in titles:
        kinds = rng.sample(sorted(KINDS), 2 if rng.random() < _HOMONYMS else 1)
        for kind in kinds:
            creator = rng.choice(people)
            works.append(Work(title, kind, creator, creator.year + rng.randint(20, 40), rng.choice(cities)))
    return tuple(works)


def _organisations(
    rng: random.Random, people: tuple[Person, ...], cities: tuple[City, ...]
) -> tuple[Organisation, ...]:
    names = rng.sample([(last, kind) for last in SURNAMES for kind in INSTITUTES], _ORGANISATIONS)
    found = []
    for last, kind in names:
        founder = rng.choice(people)
        year = founder.year + rng.randint(20, 40)
        found.append(Organisation(f"{last} {kind}", rng.choice(cities), founder, year))
    return tuple(found)
