"""Generated games: ALFWorld problems made from the wheel's own tables, solvable by construction.

A game is a function of its suite, split, subset and index. A room's layout is a function of its number and the size,
so that a room known from training stays the same room.
"""

from __future__ import annotations

import random
from collections import Counter
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from functools import cache

from stepcredit.envs.alfworld.assets import GoalTemplate, load_assets
from stepcredit.envs.alfworld.record import GameRecord
from stepcredit.envs.alfworld.rooms import LAMP, LAMP_STANDS_ON, SIZES, Size, kind_of, rooms_of
from stepcredit.envs.alfworld.subsets import Subset

GENERATOR_VERSION = "1"

_START = "loc_bar_0_bar_0_bar_1_bar_30"
# Types that the domain's actions name; ALFRED declares them in rooms that lack them too.
_DOMAIN_RECEPTACLES = frozenset({"Fridge", "Microwave", "SinkBasin"})
_DOMAIN_OBJECTS = frozenset({"ButterKnife", "Knife"})
# ALFRED's ids of basins carry two names, and the text engine derives the shown name from both.
_BASINS = {"SinkBasin": "Sink", "BathtubBasin": "Bathtub"}
_AFFORDANCES = {"Cleanable": "cleanable", "Heatable": "heatable", "Coolable": "coolable", "Sliceable": "sliceable"}
_FEWEST_SOURCES = 3

Wishes = Mapping[str, tuple[str | None, ...]]
"""Object types -> the receptacle types they may be asked to go to; None stands for under the lamp."""


@dataclass(frozen=True, slots=True)
class GeneratedGame(GameRecord):
    """A generated game, with ALFRED's number of its room."""

    room: int


@dataclass(frozen=True, slots=True)
class Receptacle:
    """A receptacle of a room. No two stand at one location."""

    id: str
    type: str
    location: str


@dataclass(frozen=True, slots=True)
class Room:
    """A room's layout."""

    number: int
    kind: str
    receptacles: tuple[Receptacle, ...]

    @property
    def types(self) -> frozenset[str]:
        """The receptacle types the room has."""
        return frozenset(receptacle.type for receptacle in self.receptacles)


@dataclass(frozen=True, slots=True)
class Wish:
    """What a goal asks for: `object` in or on a `target` receptacle (or under the lamp, if `target` is None)."""

    object: str
    target: str | None


@dataclass(frozen=True, slots=True)
class PlacedObject:
    """An object and the receptacle it lies in or on at the start."""

    id: str
    type: str
    place: Receptacle


def generate(suite: str, split: str, subset: Subset, index: int) -> GeneratedGame:
    """The game of this name, the same on every machine, in every process and Python version."""
    game_id = f"{suite}/{split}/{subset}/{index:04d}"
    rng = random.Random(f"stepcredit:game:{game_id}")
    number, wishes = rng.choice(_settings(suite, split, subset))
    room = layout(suite, number)
    wanted = rng.choice(sorted(wishes))
    wish = Wish(wanted, rng.choice(wishes[wanted]))
    objects = _place_objects(rng, room, SIZES[suite], subset, wish)
    goal = load_assets().goals[subset]
    return GeneratedGame(
        id=game_id,
        subset=subset,
        room=number,
        task=_sentence(rng, goal, wish),
        problem=_problem(game_id, room, objects, _goal(goal, wish)),
    )


@cache
def layout(suite: str, number: int) -> Room:
    """The room's receptacles, which depend on its number and the suite's size only."""
    rng = random.Random(f"stepcredit:room:{suite}:{number}")
    kind = kind_of(number)
    places, locations = _coordinates(rng), _locations(rng)
    receptacles = []
    for furniture in SIZES[suite].furniture[kind.name]:
        for _ in range(rng.randint(furniture.least, furniture.most)):
            stem, place = _BASINS.get(furniture.type), next(places)
            name = f"{stem}{place}_bar_{furniture.type}" if stem else furniture.type + place
            receptacles.append(Receptacle(name, furniture.type, next(locations)))
    return Room(number, kind.name, tuple(receptacles))


def sources(room: Room, wish: Wish) -> tuple[Receptacle, ...]:
    """Where the wanted object may lie at the start: wherever it fits, except where it is to go."""
    fits = load_assets().fits
    return tuple(r for r in room.receptacles if r.type != wish.target and wish.object in fits[r.type])


@cache
def _settings(suite: str, split: str, subset: Subset) -> tuple[tuple[int, Wishes], ...]:
    """The rooms in which the subset makes sense, each with what can be asked for in it."""
    settings = []
    for number in rooms_of(split):
        wishes = _wishes(layout(suite, number), subset)
        if wishes:
            settings.append((number, wishes))
    return tuple(settings)


def _wishes(room: Room, subset: Subset) -> Wishes:
    assets, treatment = load_assets(), subset.treatment
    if room.kind not in assets.kinds[subset]:
        return {}
    objects: Sequence[str] = kind_of(room.number).objects
    targets: list[str | None] = [None]
    if subset is not Subset.LOOK:
        targets = [*sorted(room.types - ({treatment.appliance} if treatment else set()))]
    if treatment:
        objects = [name for name in objects if name in assets.affords[treatment.affordance]]
    wishes = {name: tuple(t for t in targets if _searchable(room, Wish(name, t))) for name in objects}
    return {name: possible for name, possible in wishes.items() if possible}


def _searchable(room: Room, wish: Wish) -> bool:
    """Whether the target can hold the object and finding the object takes a search."""
    reachable = wish.target is None or wish.object in load_assets().fits[wish.target]
    return reachable and len(sources(room, wish)) >= _FEWEST_SOURCES


def _place_objects(rng: random.Random, room: Room, size: Size, subset: Subset, wish: Wish) -> list[PlacedObject]:
    """The wanted objects first, then the lamp, then whatever else lies about."""
    coordinates = _coordinates(rng)
    total = rng.randint(*size.objects[room.kind])
    placed = []
    for _ in range(subset.wanted + rng.randint(0, 1)):
        place = _hiding_place(rng, sources(room, wish))
        placed.append(PlacedObject(wish.object + next(coordinates), wish.object, place))
    if room.kind in load_assets().kinds[Subset.LOOK]:
        stands = [receptacle for receptacle in room.receptacles if receptacle.type in LAMP_STANDS_ON]
        placed.append(PlacedObject(LAMP + next(coordinates), LAMP, rng.choice(stands)))
    for name in _distractors(rng, room, size, wish)[: total - len(placed)]:
        placed.append(PlacedObject(name + next(coordinates), name, _any_place(rng, room, name)))
    return placed


def _hiding_place(rng: random.Random, candidates: Sequence[Receptacle]) -> Receptacle:
    """Closed in one case of two, where there is a choice."""
    openable = load_assets().openable
    closed = [receptacle for receptacle in candidates if receptacle.type in openable]
    in_sight = [receptacle for receptacle in candidates if receptacle.type not in openable]
    if closed and in_sight:
        return rng.choice(closed if rng.random() < 0.5 else in_sight)
    return rng.choice(closed or in_sight)


def _distractors(rng: random.Random, room: Room, size: Size, wish: Wish) -> list[str]:
    """Types of further objects in random order, as many of each as the size allows."""
    fits = load_assets().fits
    placeable = frozenset().union(*(fits[name] for name in room.types))
    names = [name for name in kind_of(room.number).objects if name != wish.object and name in placeable]
    names *= size.copies
    rng.shuffle(names)
    return names


def _any_place(rng: random.Random, room: Room, name: str) -> Receptacle:
    """A random instance of a random receptacle type that can hold the object."""
    fits = load_assets().fits
    chosen = rng.choice(sorted(kind for kind in room.types if name in fits[kind]))
    return rng.choice([receptacle for receptacle in room.receptacles if receptacle.type == chosen])


def _coordinates(rng: random.Random) -> Iterator[str]:
    """Distinct endings of ids, such as "_bar__plus_00_dot_58_bar__minus_01_dot_95_bar__plus_02_dot_07"."""
    seen = set()
    while True:
        ending = "".join(_axis(rng) for _ in "xyz")
        if ending not in seen:
            seen.add(ending)
            yield ending


def _axis(rng: random.Random) -> str:
    return f"_bar__{rng.choice(('plus', 'minus'))}_{rng.randrange(4):02d}_dot_{rng.randrange(100):02d}"


def _locations(rng: random.Random) -> Iterator[str]:
    """Distinct location ids other than the agent's first, such as "loc_bar__minus_3_bar_7_bar_2_bar_30"."""
    seen = set()
    while True:
        x, z = (f"{rng.choice(('', '_minus_'))}{rng.randrange(1, 13)}" for _ in "xz")
        location = f"loc_bar_{x}_bar_{z}_bar_{rng.randrange(4)}_bar_{rng.choice((15, 30, 45, 60))}"
        if location not in seen:
            seen.add(location)
            yield location


def _sentence(rng: random.Random, goal: GoalTemplate, wish: Wish) -> str:
    words = {"obj": wish.object.lower(), "recep": (wish.target or "").lower(), "toggle": LAMP.lower()}
    return rng.choice(goal.sentences).format(**words) + "."


def _goal(goal: GoalTemplate, wish: Wish) -> str:
    return goal.pddl.format(obj=wish.object, recep=wish.target, toggle=LAMP)


def _problem(game_id: str, room: Room, objects: Sequence[PlacedObject], goal: str) -> str:
    name = game_id.replace("/", "_")
    declared, facts = "\n        ".join(_declarations(room, objects)), "\n        ".join(_facts(room, objects))
    return (
        f"\n(define (problem plan_{name})\n(:domain alfred)\n(:objects\n        {declared}\n        )\n"
        f"(:init\n        {facts}\n        )\n{goal}"
    )


def _declarations(room: Room, objects: Sequence[PlacedObject]) -> Iterator[str]:
    yield "agent1 - agent"
    yield from (f"{name}Type - otype" for name in sorted({o.type for o in objects} | _DOMAIN_OBJECTS))
    yield from (f"{name}Type - rtype" for name in sorted(room.types | _DOMAIN_RECEPTACLES))
    yield from (f"{o.id} - object" for o in objects)
    yield from (f"{r.id} - receptacle" for r in room.receptacles)
    yield from (f"{name} - location" for name in sorted({r.location for r in room.receptacles} | {_START}))


def _facts(room: Room, objects: Sequence[PlacedObject]) -> Iterator[str]:
    assets = load_assets()
    for receptacle in room.receptacles:
        yield f"(receptacleType {receptacle.id} {receptacle.type}Type)"
        yield f"(receptacleAtLocation {receptacle.id} {receptacle.location})"
        if receptacle.type in assets.openable:
            yield f"(openable {receptacle.id})"
    for placed in objects:
        yield from _object_facts(placed)
    counts = Counter(placed.type for placed in objects)
    for kind in sorted(room.types):
        yield from (f"(canContain {kind}Type {name}Type)" for name in sorted(counts) if name in assets.fits[kind])
    yield f"(atLocation agent1 {_START})"


def _object_facts(placed: PlacedObject) -> Iterator[str]:
    assets = load_assets()
    yield f"(objectType {placed.id} {placed.type}Type)"
    yield f"({'toggleable' if placed.type in assets.affords['Toggleable'] else 'pickupable'} {placed.id})"
    if placed.type in assets.containers:
        yield f"(isReceptacleObject {placed.id})"
    for affordance, predicate in _AFFORDANCES.items():
        if placed.type in assets.affords[affordance]:
            yield f"({predicate} {placed.id})"
    yield f"(inReceptacle {placed.id} {placed.place.id})"
    yield f"(objectAtLocation {placed.id} {placed.place.location})"
