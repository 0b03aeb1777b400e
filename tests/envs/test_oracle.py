"""The full-information expert: wins from the start, and from wherever else one can end up."""

from __future__ import annotations

import os
import random
import re

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from stepcredit.envs.alfworld.game import Game
from stepcredit.envs.alfworld.generator import generate
from stepcredit.envs.alfworld.oracle import oracle_action, solve
from stepcredit.envs.alfworld.sources import open_source
from stepcredit.envs.alfworld.subsets import Subset
from stepcredit.envs.alfworld.world import World

DATA = os.environ.get("STEPCREDIT_DATA", "")

# go, open, take, go, open, put for each of two objects, less the second opening of the target
LONGEST_DIRECT_PLAN = 11


def start(subset: Subset, index: int, suite: str = "mini", grammar: str = "2.1.2") -> World:
    game = generate(suite, "valid_unseen", subset, index)
    return World(Game.from_pddl(game.problem, game.task, grammar))


@settings(max_examples=60, deadline=None)
@given(st.sampled_from(list(Subset)), st.integers(0, 39), st.integers(0, 25), st.integers(0, 1000))
def test_it_wins_from_wherever_a_wanderer_ends_up(subset: Subset, index: int, wandering: int, seed: int) -> None:
    world, rng = start(subset, index), random.Random(seed)
    for _ in range(wandering):
        world.step(rng.choice(world.commands()))
    plan = solve(world)
    assert plan is not None
    # at most one object to put away first: go, open, put
    assert len(plan) <= LONGEST_DIRECT_PLAN + 3


@settings(max_examples=30, deadline=None)
@given(st.sampled_from(list(Subset)), st.integers(0, 39), st.sampled_from(["2.1.1", "2.1.2"]))
def test_its_commands_are_admissible_and_win_only_at_the_end(subset: Subset, index: int, grammar: str) -> None:
    world = start(subset, index, "full", grammar)
    plan = solve(world)
    assert plan is not None
    for command in plan:
        assert not world.won
        assert command in world.commands()
        world.step(command)
    assert world.won
    assert oracle_action(world) is None


def test_it_leaves_the_world_as_it_was() -> None:
    world = start(Subset.HEAT, 0)
    before = world.commands()
    assert solve(world)
    assert world.commands() == before
    assert not world.won


def test_a_plan_longer_than_the_limit_is_none() -> None:
    world = start(Subset.PICK_TWO, 0)
    plan = solve(world)
    assert plan is not None
    assert solve(world, limit=len(plan)) == plan
    assert solve(world, limit=len(plan) - 1) is None


def test_without_anything_to_take_there_is_no_plan() -> None:
    game = generate("mini", "valid_unseen", Subset.PICK, 0)
    hidden = re.sub(r"\(pickupable \S+\)", "", game.problem)
    assert solve(World(Game.from_pddl(hidden, game.task))) is None


@pytest.mark.skipif(not DATA, reason="STEPCREDIT_DATA is unset: no real games")
@pytest.mark.parametrize("split", ["valid_seen", "valid_unseen"])
def test_it_solves_all_real_validation_games(split: str) -> None:
    plans = {
        record.id: solve(World(Game.from_pddl(record.problem, record.task)), limit=10)
        for record in open_source("real", {"STEPCREDIT_DATA": DATA}).games(split)
    }
    assert [game for game, plan in plans.items() if plan is None] == []
