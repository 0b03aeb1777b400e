"""How fast the engine is on this machine, beside stock TextWorld."""

from __future__ import annotations

import random
import statistics
import time
from collections.abc import Callable, Sequence
from functools import partial

from stepcredit.envs.alfworld.assets import load_assets
from stepcredit.envs.alfworld.game import Game
from stepcredit.envs.alfworld.generator import GeneratedGame, generate
from stepcredit.envs.alfworld.reference import StockEngine, game_content
from stepcredit.envs.alfworld.subsets import Subset
from stepcredit.envs.alfworld.world import World

_GAMES_PER_SUBSET = 4
_EPISODES = 8
_TURNS = 50
_CLONES = 2000
_STOCK_TURNS = 30


def measure() -> dict[str, float]:
    """Medians over generated full-sized games, in one process.

    Returns:
        `generate_ms` to make a game, `load_ms` to parse it, `clone_us` to copy an episode in mid-play, and
        `steps_per_s` of random play in which the admissible commands are listed at every step, eight episodes of fifty
        turns on each game; `stock_steps_per_s` of the stock engine on one of the games, and the `ratio` of the two.
    """
    makings = [
        partial(generate, "full", "valid_seen", subset, index)
        for subset in Subset
        for index in range(_GAMES_PER_SUBSET)
    ]
    records = [make() for make in makings]
    games = [_load(record) for record in records]
    steps_per_s = _EPISODES * _TURNS / _median_seconds([_playing(game) for game in games])
    stock = _stock_steps_per_s(records[0])
    return {
        "generate_ms": 1e3 * _median_seconds(makings),
        "load_ms": 1e3 * _median_seconds([partial(_load, record) for record in records]),
        "clone_us": 1e6 * _median_seconds([_cloning(game) for game in games]) / _CLONES,
        "steps_per_s": steps_per_s,
        "stock_steps_per_s": stock,
        "ratio": steps_per_s / stock,
    }


def _median_seconds(jobs: Sequence[Callable[[], object]]) -> float:
    seconds = []
    for job in jobs:
        started = time.perf_counter()
        job()
        seconds.append(time.perf_counter() - started)
    return statistics.median(seconds)


def _load(record: GeneratedGame) -> Game:
    return Game.from_pddl(record.problem, record.task)


def _playing(game: Game) -> Callable[[], None]:
    def play() -> None:
        for episode in range(_EPISODES):
            _walk(World(game), random.Random(episode))

    return play


def _stock_steps_per_s(record: GeneratedGame) -> float:
    assets = load_assets()
    engine = StockEngine(game_content(record.problem, record.task, assets.domain, assets.grammar))
    rng = random.Random(0)
    started = time.perf_counter()
    for _ in range(_STOCK_TURNS):
        engine.step(engine.commands[int(rng.random() * len(engine.commands))])
    return _STOCK_TURNS / (time.perf_counter() - started)


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
