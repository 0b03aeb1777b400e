"""What the generated encyclopedia says: one passage an entity in several surface forms, and lists that distract."""

from __future__ import annotations

import random
from collections import defaultdict
from collections.abc import Iterator
from functools import lru_cache

from stepcredit.envs.searchqa.corpus import Corpus, Passage
from stepcredit.envs.searchqa.synthetic.names import KINDS
from stepcredit.envs.searchqa.synthetic.world import (
    VERSION,
    City,
    Organisation,
    Person,
    Region,
    Work,
    World,
    make_world,
)

_LISTED = 4


@lru_cache(maxsize=2)
def synthetic_corpus(number: int = 0) -> Corpus:
    """The passages of a generated world, a few thousand; number 0 is the benchmark's."""
    world = make_world(number)
    rng = random.Random(f"searchqa passages {VERSION} {number}")
    texts = [*_entities(world, rng), *_lists(world)]
    return Corpus.of([Passage(f"synthetic-{number:05d}", title, text) for number, (title, text) in enumerate(texts)])


def _entities(world: World, rng: random.Random) -> Iterator[tuple[str, str]]:
    for person in world.people:
        yield person.name, _person(person, rng)
    for work in world.works:
        yield work.title, _work(work, rng, rng.choice(world.people))
    for city in world.cities:
        yield city.name, _city(city, rng)
    for region in world.regions:
        yield region.name, _region(region, rng.choice([city for city in world.cities if city.region == region.name]))
    for organisation in world.organisations:
        yield organisation.name, _organisation(organisation, rng)


def _person(person: Person, rng: random.Random) -> str:
    born, home, occupation = person.birthplace.name, person.home.name, person.occupation
    text = rng.choice(
        (
            f"{person.name} is a {occupation} from {home}, born on {person.born} in {born}.",
            f"{person.name} was born in {born} on {person.born} and worked as a {occupation} in {home}.",
            f"Born on {person.born} in {born}, {person.name} became a {occupation} and moved to {home}.",
        )
    )
    return f"{text} Also known as {person.alias}." if person.alias else text


def _work(work: Work, rng: random.Random, critic: Person) -> str:
    verb, role = KINDS[work.kind]
    text = rng.choice(
        (
            f"{work.title} is a {work.kind} that {work.creator.name} {verb} in {work.year}.",
            f"{work.title} is a {work.kind} of {work.year}. Its {role} is {work.creator.name}.",
            f"In {work.year} {work.creator.name} {verb} the {work.kind} {work.title}.",
        )
    )
    further = rng.choice((f"It is set in {work.setting.name}.", f"It was praised by {critic.name}.", ""))
    return f"{text} {further}".strip()


def _city(city: City, rng: random.Random) -> str:
    return rng.choice(
        (
            f"{city.name} is a city in {city.region} on the river {city.river}, founded in {city.founded}.",
            f"{city.name}, founded in {city.founded}, lies on the river {city.river} in {city.region}.",
            f"The river {city.river} runs through {city.name}, a city in {city.region} founded in {city.founded}.",
        )
    )


def _region(region: Region, other: City) -> str:
    return f"{region.name} is a region. Its capital is {region.capital}. Another city is {other.name}."


def _organisation(organisation: Organisation, rng: random.Random) -> str:
    name, city, founder, year = organisation.name, organisation.city.name, organisation.founder.name, organisation.year
    return rng.choice(
        (
            f"{name} was founded in {city} by {founder} in {year}.",
            f"{name} stands in {city}. {founder} founded it in {year}.",
        )
    )


def _lists(world: World) -> Iterator[tuple[str, str]]:
    """Names without facts: what a careless query finds."""
    by_home: defaultdict[str, list[str]] = defaultdict(list)
    for person in world.people:
        by_home[person.home.name].append(person.name)
    for city, names in sorted(by_home.items()):
        yield f"People of {city}", f"People of {city}: {', '.join(names[:_LISTED])}."
    for region in world.regions:
        names = [city.name for city in world.cities if city.region == region.name]
        yield f"Cities of {region.name}", f"Cities of {region.name}: {', '.join(names[:_LISTED])}."
