"""Word for word like stock TextWorld: introduction, answers, commands, and whether the game is won."""

from __future__ import annotations

import json
import lzma
import os
import random
import sys
from collections.abc import Iterable, Mapping
from functools import cache
from pathlib import Path

import pytest

from stepcredit.envs.alfworld.assets import load_assets
from stepcredit.envs.alfworld.engine import for_conformance
from stepcredit.envs.alfworld.generator import generate
from stepcredit.envs.alfworld.reference import StockEngine, game_content
from stepcredit.envs.alfworld.subsets import Subset
from tests.envs import rooms

DATA = Path(os.environ.get("STEPCREDIT_DATA", "")) / "alfworld"
needs_data = pytest.mark.skipif(not os.environ.get("STEPCREDIT_DATA"), reason="STEPCREDIT_DATA is not set")

LIKELY = {"take": 6, "move": 8, "put": 8, "open": 3, "clean": 8, "heat": 8, "cool": 8, "use": 4, "slice": 5}

# Through the corners: the counter stands next to the cabinet, appliances work closed, and a lamp stays on.
TOUR = """
look; dance wildly; help; inventory; go to countertop 1; go to cabinet 1; examine cabinet 1; look; open cabinet 1
take mug 1 from countertop 1; look; move mug 1 to cabinet 1; look; take mug 1 from cabinet 1; move mug 1 to countertop 1
take knife 1 from countertop 1; slice apple 1 with knife 1; examine knife 1; move knife 1 to countertop 1
take apple 1 from countertop 1; examine apple 1; go to sinkbasin 1; clean apple 1 with sinkbasin 1; examine apple 1
go to microwave 1; heat apple 1 with microwave 1; examine apple 1; go to fridge 1; cool apple 1 with fridge 1
examine apple 1; inventory; look; open fridge 1; move apple 1 to fridge 1; close fridge 1; go to sidetable 1
examine plate 1; use desklamp 1; use desklamp 1; take plate 1 from sidetable 1; examine plate 1; go to cabinet 1
move plate 1 to cabinet 1; take mug 1 from countertop 1; take mug 2 from cabinet 1; go to sidetable 1
move mug 1 to sidetable 1; go to cabinet 1; take mug 2 from cabinet 1; go to sidetable 1; move mug 2 to sidetable 1
""".replace("\n", ";").split(";")


@cache
def stock() -> StockEngine:
    return StockEngine(content(rooms.problem(), "put a mug in sidetable."))


def content(problem: str, task: str) -> dict[str, str]:
    assets = load_assets()
    return game_content(problem, task, assets.domain, assets.grammar)


def packed(split: str, line: int, grammar: str) -> dict[str, str]:
    """A real game as the assets of that version have it."""
    with lzma.open(DATA / f"{split}.jsonl.xz", "rt", encoding="utf-8") as lines:
        row = json.loads(next(text for number, text in enumerate(lines) if number == line))
    if grammar == "2.1.2":
        return content(row["problem"], row["task"])
    domain, words = (DATA / name for name in ("domain_2.1.1.pddl", "grammar_2.1.1.twl2"))
    return game_content(row["problem"], row["task"], domain.read_text("utf-8"), words.read_text("utf-8"))


def assert_same(game: Mapping[str, str], commands: Iterable[str] | None = None, turns: int = 25) -> bool:
    """Play the commands, or likely ones at random, in both engines; return whether that won the game."""
    mine, theirs, rng = for_conformance(game), stock(), random.Random(0)
    theirs.load(game)
    given = iter(commands) if commands is not None else None
    for _ in range(turns):
        assert mine.text == theirs.text
        assert mine.commands == theirs.commands
        assert mine.won == theirs.won
        weights = [LIKELY.get(command.split()[0], 1) for command in mine.commands]
        command = rng.choices(mine.commands, weights)[0] if given is None else next(given, None)
        if command is None:
            break
        mine.step(command)
        theirs.step(command)
    return theirs.won


def test_a_tour_of_the_odd_corners_reads_the_same() -> None:
    tour = [command.strip() for command in TOUR if command.strip()]
    assert assert_same(content(rooms.problem(Subset.PICK_TWO), "put two mug in sidetable."), tour, turns=len(tour) + 1)


@pytest.mark.parametrize("subset", [Subset.LOOK, Subset.HEAT])
def test_generated_games_read_the_same(subset: Subset) -> None:
    game = generate("mini", "valid_unseen", subset, 1)
    assert_same(content(game.problem, game.task))


@needs_data
@pytest.mark.parametrize(("split", "line", "grammar"), [("valid_seen", 20, "2.1.1"), ("valid_unseen", 60, "2.1.2")])
def test_real_games_read_the_same(split: str, line: int, grammar: str) -> None:
    assert_same(packed(split, line, grammar), turns=12)


def test_the_stock_engine_leaves_the_process_as_it_was() -> None:
    before = (list(sys.argv), sys.stdout, os.environ.get("ALFWORLD_DATA"))
    StockEngine(content(rooms.problem(objects=rooms.NOOK_OBJECTS), "put a mug in sidetable."))
    assert (sys.argv, sys.stdout, os.environ.get("ALFWORLD_DATA")) == before
