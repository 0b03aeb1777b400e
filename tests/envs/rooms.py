"""Rooms made for tests: small, and full of the corners in which the stock engine behaves oddly."""

from __future__ import annotations

from collections.abc import Iterable

from stepcredit.envs.alfworld.assets import load_assets
from stepcredit.envs.alfworld.subsets import Subset

START = "loc_bar_0"

# receptacle: type, location. The cabinet and the counter stand at one place.
RECEPTACLES = {
    "Cabinet_bar_1": ("Cabinet", "loc_bar_1"),
    "CounterTop_bar_1": ("CounterTop", "loc_bar_1"),
    "Sink_bar_1_bar_SinkBasin": ("SinkBasin", "loc_bar_2"),
    "Microwave_bar_1": ("Microwave", "loc_bar_3"),
    "Fridge_bar_1": ("Fridge", "loc_bar_4"),
    "SideTable_bar_1": ("SideTable", "loc_bar_5"),
}
OPENABLE = ("Cabinet", "Microwave", "Fridge")

# object: type, receptacle, affordances
OBJECTS = {
    "Apple_bar_1": ("Apple", "CounterTop_bar_1", "pickupable cleanable heatable coolable sliceable"),
    "Knife_bar_1": ("Knife", "CounterTop_bar_1", "pickupable cleanable"),
    "Mug_bar_1": ("Mug", "Cabinet_bar_1", "pickupable cleanable heatable coolable"),
    "Mug_bar_2": ("Mug", "CounterTop_bar_1", "pickupable cleanable heatable coolable"),
    "Plate_bar_1": ("Plate", "SideTable_bar_1", "pickupable cleanable heatable coolable isReceptacleObject"),
    "DeskLamp_bar_1": ("DeskLamp", "SideTable_bar_1", "toggleable"),
}

# A smaller room in which a mug can be carried between two receptacles at one place.
NOOK = ("Cabinet_bar_1", "CounterTop_bar_1", "Microwave_bar_1", "SideTable_bar_1")
NOOK_OBJECTS = ("Mug_bar_2", "DeskLamp_bar_1")


def problem(
    subset: Subset = Subset.PICK,
    wanted: str = "Mug",
    target: str = "SideTable",
    receptacles: Iterable[str] = RECEPTACLES,
    objects: Iterable[str] = OBJECTS,
    extra: str = "",
) -> str:
    """The room's problem, with the wheel's goal for the subset and further facts from `extra`."""
    goal = load_assets().goals[subset].pddl.format(obj=wanted, recep=target, toggle="DeskLamp")
    receptacles, objects = tuple(receptacles), tuple(objects)
    declared = "\n".join(_declarations(receptacles, objects))
    facts = "\n".join((*_facts(receptacles, objects), extra))
    return f"(define (problem test)\n(:domain alfred)\n(:objects\n{declared}\n)\n(:init\n{facts}\n)\n{goal}"


def _declarations(receptacles: Iterable[str], objects: Iterable[str]) -> Iterable[str]:
    yield "agent1 - agent"
    yield from (f"{name} - object" for name in objects)
    yield from (f"{name} - receptacle" for name in receptacles)
    yield from (f"{place} - location" for place in sorted({place for _, place in RECEPTACLES.values()} | {START}))
    # The domain's actions name some types, so that every problem declares them.
    yield from (f"{kind}Type - otype" for kind in sorted({kind for kind, *_ in OBJECTS.values()} | {"ButterKnife"}))
    yield from (f"{kind}Type - rtype" for kind in sorted({kind for kind, _ in RECEPTACLES.values()} | {"Sink"}))


def _facts(receptacles: Iterable[str], objects: Iterable[str]) -> Iterable[str]:
    yield f"(atLocation agent1 {START})"
    for name in receptacles:
        kind, place = RECEPTACLES[name]
        yield f"(receptacleType {name} {kind}Type) (receptacleAtLocation {name} {place})"
        if kind in OPENABLE:
            yield f"(openable {name})"
    for name in objects:
        kind, receptacle, affordances = OBJECTS[name]
        yield f"(objectType {name} {kind}Type) (inReceptacle {name} {receptacle})"
        yield f"(objectAtLocation {name} {RECEPTACLES[receptacle][1]})"
        yield from (f"({affordance} {name})" for affordance in affordances.split())
    # Apples and knives never go into the cabinet; mugs and plates fit everywhere.
    for receptacle in sorted({RECEPTACLES[name][0] for name in receptacles}):
        kinds = {OBJECTS[name][0] for name in objects} - {"DeskLamp"}
        barred = {"Apple", "Knife"} if receptacle == "Cabinet" else set()
        yield from (f"(canContain {receptacle}Type {kind}Type)" for kind in sorted(kinds - barred))
