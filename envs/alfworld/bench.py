"""How fast the engine is on this machine."""

from __future__ import annotations

import random
import statistics
import time
from collections.abc import Callable, Sequence
from functools import partial

from envs.alfworld.game import Game
from envs.alfworld.generator import generate
from envs.alfworld.record import GameRecord
from envs.alfworld.subsets import Subset
from envs.alfworld.world import World

_GAMES_PER_SUBSET = 4
_EPISODES = 8
_TURNS = 50
_CLONES = 2000


def measure() -> dict[str, float]:
    """Medians over generated full-sized games, in one process.

    Returns:
        `load_ms` to parse a game, `clone_us` to copy an episode in mid-play, and `steps_per_s` of random play in which
        the admissible commands are listed at every step, eight episodes of fifty turns on each game.
    """
    indices = range(_GAMES_PER_SUBSET)
    records = [generate("full", "valid_seen", subset, index) for subset in Subset for index in indices]
    games = [_load(record) for record in records]
    return {
        "load_ms": 1e3 * _median_seconds([partial(_load, record) for record in records]),
        "clone_us": 1e6 * _median_seconds([_cloning(game) for game in games]) / _CLONES,
        "steps_per_s": _EPISODES * _TURNS / _median_seconds([_playing(game) for game in games]),
    }


def _median_seconds(jobs: Sequence[Callable[[], object]]) -> float:
    seconds = []
    for job in jobs:
        started = time.perf_counter()
        job()
        seconds.append(time.perf_counter() - started)
    return statistics.median(seconds)


def _load(record: GameRecord) -> Game:
    return Game.from_pddl(record.problem, record.task)


def _playing(game: Game) -> Callable[[], None]:
    def play() -> None:
        for episode in range(_EPISODES):
            _walk(World(game), random.Random(episode))

    return play


def _cloning(game: Game) -> Callable[[], None]:
    world = World(game)
    _walk(world, random.Random(0))

    def clone() -> None:
        for _ in range(_CLONES):
            world.clone()

    return clone


def _walk(world: World, rng: random.Random) -> None:
    for _ in range(_TURNS):
        commands = world.commands()
        world.step(commands[int(rng.random() * len(commands))])


if __name__ == "__main__":
    for name, value in measure().items():
        print(f"{name} {value:.3g}")
