"""Generated games: deterministic, solvable, searchable, rooms held out."""

from __future__ import annotations

import hashlib
import os
import re
import subprocess
import sys
from pathlib import Path

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from stepcredit.envs.alfworld.assets import GRAMMAR_VERSION, load_assets
from stepcredit.envs.alfworld.game import Game
from stepcredit.envs.alfworld.generator import generate, layout
from stepcredit.envs.alfworld.oracle import solve
from stepcredit.envs.alfworld.rooms import KINDS, SIZES, SPLIT_SIZES, rooms_of
from stepcredit.envs.alfworld.subsets import Subset
from stepcredit.envs.alfworld.world import World

suites = st.sampled_from(sorted(SIZES))
splits = st.sampled_from(sorted(SPLIT_SIZES))
subsets = st.sampled_from(list(Subset))
indices = st.integers(0, 39)

FINGERPRINT = """
import hashlib
from stepcredit.envs.alfworld.generator import generate
from stepcredit.envs.alfworld.subsets import Subset
digest = hashlib.sha256()
for suite in ("mini", "full"):
    for subset in Subset:
        game = generate(suite, "valid_unseen", subset, 3)
        digest.update((game.task + game.problem).encode())
print(digest.hexdigest())
"""


def placements(problem: str) -> list[tuple[str, str]]:
    """(object type, receptacle type) for each object at the start, read from the PDDL facts."""
    types = dict(re.findall(r"\((?:objectType|receptacleType) (\S+) (\w+)Type\)", problem.split("(:goal")[0]))
    facts = re.findall(r"\(inReceptacle ([^\s?]+) ([^\s?)]+)\)", problem)
    return [(types[item], types[place]) for item, place in facts]


@pytest.mark.parametrize("hash_seed", ["0", "12345"])
def test_other_processes_generate_the_same_bytes(hash_seed: str) -> None:
    digest = hashlib.sha256()
    for suite in ("mini", "full"):
        for subset in Subset:
            game = generate(suite, "valid_unseen", subset, 3)
            digest.update((game.task + game.problem).encode())
    environment = {**os.environ, "PYTHONHASHSEED": hash_seed, "PYTHONPATH": str(Path(__file__).parents[2])}
    other = subprocess.run(
        [sys.executable, "-c", FINGERPRINT], env=environment, capture_output=True, text=True, check=True
    )
    assert other.stdout.strip() == digest.hexdigest()


@settings(max_examples=60, deadline=None)
@given(suites, splits, subsets, indices)
def test_every_game_starts_unsolved_and_can_be_solved(suite: str, split: str, subset: Subset, index: int) -> None:
    game = generate(suite, split, subset, index)
    world = World(Game.from_pddl(game.problem, game.task, GRAMMAR_VERSION))
    assert not world.won
    plan = solve(world)
    assert plan is not None
    assert 3 <= len(plan) <= 11


@settings(max_examples=60, deadline=None)
@given(suites, splits, subsets, indices)
def test_objects_lie_only_where_they_fit(suite: str, split: str, subset: Subset, index: int) -> None:
    fits = load_assets().fits
    for item, place in placements(generate(suite, split, subset, index).problem):
        assert item == "DeskLamp" or item in fits[place]


@settings(max_examples=60, deadline=None)
@given(splits, subsets, indices)
def test_mini_games_are_small(split: str, subset: Subset, index: int) -> None:
    game = generate("mini", split, subset, index)
    assert 6 <= len(layout("mini", game.room).receptacles) <= 10
    assert 5 <= len(placements(game.problem)) <= 9


@given(splits, subsets, indices)
@settings(max_examples=40, deadline=None)
def test_the_wanted_object_is_not_yet_at_its_target(split: str, subset: Subset, index: int) -> None:
    game = generate("mini", split, subset, index)
    goal = game.problem.split("(:goal")[1]
    targets = set(re.findall(r"\(receptacleType \?r (\w+)Type\)", goal))
    wanted = set(re.findall(r"\(objectType \?o\d? (\w+)Type\)", goal))
    assert len(wanted) == 1
    lies_in = {place for item, place in placements(game.problem) if item in wanted}
    assert lies_in
    assert not lies_in & targets


def test_about_half_of_the_wanted_objects_lie_behind_a_door() -> None:
    openable = {"Cabinet", "Drawer", "Fridge", "Microwave", "Safe"}
    games = [generate("mini", "valid_unseen", subset, index) for subset in Subset for index in range(40)]
    first = [placements(game.problem)[0][1] for game in games]
    hidden = sum(place in openable for place in first) / len(first)
    assert 0.3 < hidden < 0.6


def test_held_out_rooms_are_three_of_each_kind_and_disjoint_from_the_others() -> None:
    unseen, seen = set(rooms_of("valid_unseen")), set(rooms_of("train"))
    assert not unseen & seen
    assert rooms_of("valid_seen") == rooms_of("train")
    assert len(unseen | seen) == 120
    assert [len(unseen & set(kind.numbers)) for kind in KINDS] == [3, 3, 3, 3]
    assert {10, 219, 308, 424} <= unseen, "ALFWorld's own unseen rooms stay unseen"


@given(suites, splits, subsets, indices)
@settings(max_examples=40, deadline=None)
def test_a_game_plays_in_a_room_of_its_split_and_kind(suite: str, split: str, subset: Subset, index: int) -> None:
    game = generate(suite, split, subset, index)
    assert game.room in rooms_of(split)
    assert layout(suite, game.room).kind in load_assets().kinds[subset]
    assert game.id == f"{suite}/{split}/{subset.value}/{index:04d}"


@pytest.mark.parametrize("number", range(1, 31))
def test_kitchens_of_both_sizes_hold_every_appliance(number: int) -> None:
    for suite in SIZES:
        assert {"Fridge", "Microwave", "SinkBasin"} <= layout(suite, number).types


@given(suites, st.sampled_from(rooms_of("train") + rooms_of("valid_unseen")))
@settings(max_examples=40, deadline=None)
def test_no_two_receptacles_share_an_id_or_a_location(suite: str, number: int) -> None:
    receptacles = layout(suite, number).receptacles
    assert len({r.id for r in receptacles}) == len({r.location for r in receptacles}) == len(receptacles)


def test_sentences_come_from_the_wheel_and_end_like_the_real_ones() -> None:
    sentences = {generate("mini", "train", Subset.HEAT, index).task for index in range(40)}
    assert all(re.fullmatch(r"(put a hot \w+ in \w+|heat some \w+ and put it in \w+)\.", s) for s in sentences)
    assert len({s.split()[0] for s in sentences}) == 2
