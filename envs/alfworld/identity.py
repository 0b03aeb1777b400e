"""When two states of one game are the same to the agent."""

from __future__ import annotations

import hashlib

from stepcredit.envs.alfworld.game import Game
from stepcredit.envs.alfworld.world import World

_DIGEST_BYTES = 16


def state_key(world: World) -> str:
    """A digest of all in the state that some sequence of commands, or the goal, can bring to light."""
    game = world.game
    traces = sorted(trace for trace in world.left if _can_show(game, *trace))
    located = {item for item, _ in traces} | (game.sliceable if game.knives else frozenset())
    told_apart = (
        world.location,
        world.held,
        sorted((receptacle, items) for receptacle, items in world.contents.items() if items),
        sorted(world.opened),
        [sorted(items & game.noticeable[predicate]) for predicate, items in world.marks().items()],
        traces,
        sorted((item, places) for item, places in world.lying.items() if places and item in located),
    )
    return hashlib.blake2b(repr(told_apart).encode(), digest_size=_DIGEST_BYTES).hexdigest()


def _can_show(game: Game, item: str, left: str) -> bool:
    """Whether looking around can list the object as next to the receptacle it was taken from.

    That takes another receptacle at the same location to put it down in.
    """
    neighbours = {other for place in game.locations.get(left, ()) for other in game.receptacles_at[place]} - {left}
    return any(game.fits(item, other) for other in neighbours)
