"""A deterministic expert that sees everything: an upper bound, and the proof that a game can be won.

It is no demonstrator, since an agent that must search cannot imitate it; `stepcredit.envs.alfworld.searcher` is one.
"""

from __future__ import annotations

from collections.abc import Iterable

from stepcredit.envs.alfworld.subsets import Subset, Treatment
from stepcredit.envs.alfworld.world import World

Placed = tuple[str, str]
"""An object and the receptacle that it lies in or on."""


def solve(world: World, limit: int = 40) -> list[str] | None:
    """The oracle's commands from here to the goal, None if they would be more than `limit` or there is no way.

    The world itself is left as it is.
    """
    plan: list[str] = []
    world = world.clone()
    while not world.won:
        command = oracle_action(world) if len(plan) < limit else None
        if command is None:
            return None
        world.step(command)
        plan.append(command)
    return plan


def oracle_action(world: World) -> str | None:
    """The oracle's next command from any state, None if the goal is met or out of reach.

    Real rooms have dead ends: a teddy bear, once taken, fits nowhere and cannot be put down.
    """
    goal, held = world.game.goal, world.held
    if world.won:
        return None
    if held is None:
        return _fetch(world)
    if world.game.object_types.get(held) != goal.object_type:
        return _put_away(world, held)
    if goal.subset is Subset.LOOK:
        return _light(world)
    if goal.subset.treatment and held not in _treated(world):
        return _treat(world, held, goal.subset.treatment)
    destination = _destination(world)
    return _put(world, held, destination) if destination else None


def _fetch(world: World) -> str | None:
    """Towards holding a wanted object: rather one that is treated, then one that is near, then one in sight."""
    goal, treated = world.game.goal, _treated(world)
    delivered_to = _destination(world) if goal.subset is Subset.PICK_TWO else None

    def cost(placed: Placed) -> tuple[bool, bool, bool, Placed]:
        item, place = placed
        return item not in treated, not _is_at(world, place), not world.reachable(place), placed

    wanted = (placed for placed in _lying(world, goal.object_type) if placed[1] != delivered_to)
    best = min((placed for placed in wanted if placed[0] in world.game.pickupable), key=cost, default=None)
    if best is None:
        return None
    item, place = best
    return _reach(world, place) or f"take {world.game.names[item]} from {world.game.names[place]}"


def _put_away(world: World, held: str) -> str | None:
    """Towards empty hands: rather here, then rather where nothing needs opening."""
    places = (place for place in world.game.receptacle_types if world.game.fits(held, place))
    best = min(places, key=lambda r: (not _is_at(world, r), not world.reachable(r), r), default=None)
    return _put(world, held, best) if best else None


def _light(world: World) -> str | None:
    """Towards being where a lamp is on."""
    best = min(_lying(world, world.game.goal.target_type), key=lambda p: (not _is_at(world, p[1]), p), default=None)
    if best is None:
        return None
    lamp, place = best
    return f"use {world.game.names[lamp]}" if _is_at(world, place) else _go(world, place)


def _treat(world: World, held: str, treatment: Treatment) -> str | None:
    """Towards a treated object in hand. Appliances work closed too."""
    place = _nearest(world, _of_type(world, treatment.appliance.lower()))
    if place is None:
        return None
    names = world.game.names
    return f"{treatment.verb} {names[held]} with {names[place]}" if _is_at(world, place) else _go(world, place)


def _put(world: World, held: str, place: str) -> str:
    names = world.game.names
    command = world.game.grammar.put.format(object=names[held], receptacle=names[place])
    return _reach(world, place) or command


def _destination(world: World) -> str | None:
    """Where the goal wants its objects: where most of them lie already, if it wants several in one place."""
    goal = world.game.goal
    homes = [place for place in _of_type(world, goal.target_type) if _can_hold_wanted(world, place)]
    if goal.subset is not Subset.PICK_TWO:
        return _nearest(world, homes)
    delivered = [place for _, place in _lying(world, goal.object_type)]
    return min(homes, key=lambda r: (-delivered.count(r), not _is_at(world, r), r), default=None)


def _can_hold_wanted(world: World, place: str) -> bool:
    game = world.game
    return (game.receptacle_types[place], game.goal.object_type) in game.can_contain


def _treated(world: World) -> frozenset[str]:
    """The objects that have undergone what the goal asks for; none if it asks for nothing."""
    states = {Subset.CLEAN: world.clean, Subset.HEAT: world.hot, Subset.COOL: world.cool}
    return states.get(world.game.goal.subset, frozenset())


def _lying(world: World, object_type: str) -> list[Placed]:
    """Objects of the type with their places, held ones not among them."""
    types = world.game.object_types
    return [(item, place) for place, items in world.contents.items() for item in items if types[item] == object_type]


def _of_type(world: World, receptacle_type: str) -> list[str]:
    return [place for place, kind in world.game.receptacle_types.items() if kind == receptacle_type]


def _nearest(world: World, places: Iterable[str]) -> str | None:
    return min(places, key=lambda place: (not _is_at(world, place), place), default=None)


def _is_at(world: World, place: str) -> bool:
    return world.location in world.game.locations.get(place, ())


def _reach(world: World, place: str) -> str | None:
    """The next command towards the receptacle's contents, None if they are at hand."""
    if not _is_at(world, place):
        return _go(world, place)
    return None if world.reachable(place) else f"open {world.game.names[place]}"


def _go(world: World, place: str) -> str:
    return f"go to {world.game.names[place]}"
