"""The second lesson: what is shown where, what is learned from it, and that all else stays as the student has it."""

from collections.abc import Iterator
from dataclasses import dataclass, replace
from itertools import islice

import numpy as np
import pytest

from stepcredit.envs import load_benchmark
from stepcredit.harness.episodes.player import Player
from stepcredit.harness.model.policy import Policy, load_policy
from stepcredit.harness.warmstart.build import Course
from stepcredit.harness.warmstart.household import HouseholdCourse
from stepcredit.harness.warmstart.reading import Block, Place, Reading, ReadingSpec
from stepcredit.harness.warmstart.search import SearchCourse
from stepcredit.harness.warmstart.trees import Tree

SPEC = ReadingSpec(games=6, shown=0)
COURSES: dict[str, Course] = {"alfworld": HouseholdCourse(), "searchqa": SearchCourse()}


@dataclass(frozen=True)
class Branch:
    """What follows the trunk's text `before`: `shown`, then `learned`, or `kept` in place of it."""

    before: str
    after: str
    shown: str
    learned: str
    kept: str


def policy_of(name: str) -> Policy:
    return load_policy("tiny", load_benchmark(name, COURSES[name].held_out()[0].suite, {}), "cpu")


def trees_of(name: str, spec: ReadingSpec, count: int) -> tuple[Policy, list[Tree]]:
    policy, benchmark = policy_of(name), COURSES[name].held_out()[0]
    reading = Reading(spec, Player.of(policy, benchmark), Player.of(policy, benchmark), COURSES[name].limits, 0)
    return policy, list(islice(reading.trees(COURSES[name].lessons(policy)), count))


def text(policy: Policy, tokens: "np.ndarray[tuple[int], np.dtype[np.int64]]") -> str:
    return b"".join(policy.transcript.token_bytes(int(token)) for token in tokens).decode()


def branches(policy: Policy, tree: Tree) -> Iterator[Branch]:
    starts = [row for row in range(tree.trunk, len(tree.parents)) if tree.parents[row] != row - 1]
    for start, end in zip(starts, [*starts[1:], len(tree.parents)], strict=True):
        rows, after = np.arange(start, end), int(tree.parents[start]) + 1
        told, kept = tree.weights[rows] > 0, tree.copied[rows] >= 0
        yield Branch(
            text(policy, tree.token_ids[:after]),
            text(policy, tree.token_ids[after : tree.trunk]),
            text(policy, tree.token_ids[rows[~told & ~kept]]),
            text(policy, tree.token_ids[rows[told]]),
            text(policy, tree.token_ids[rows[kept]]),
        )


@pytest.fixture(scope="module", params=sorted(COURSES))
def read(request: pytest.FixtureRequest) -> tuple[Policy, list[Tree]]:
    return trees_of(request.param, replace(SPEC, led=0), 60)


def test_what_the_student_wrote_stays_as_it_expects_it(read: tuple[Policy, list[Tree]]) -> None:
    for tree in read[1]:
        trunk = np.arange(tree.trunk)
        assert ((tree.copied[trunk] == trunk - 1) | (tree.copied[trunk] == -1)).all()
        written = text(read[0], tree.token_ids[trunk[tree.copied[trunk] >= 0]])
        assert written.startswith("<think>")
        assert "<|" not in written


def test_blocks_of_all_kinds_stand_at_all_places(read: tuple[Policy, list[Tree]]) -> None:
    found = [branch for tree in read[1] for branch in branches(read[0], tree)]
    assert all(branch.shown.startswith("<|hint|>") for branch in found)
    assert {branch.shown.endswith("<|act|>") for branch in found} == {True, False}
    assert {branch.before.endswith("</think>") for branch in found} == {True, False}
    assert {bool(branch.learned) for branch in found} == {True, False}


def test_what_is_learned_is_the_rest_of_a_response(read: tuple[Policy, list[Tree]]) -> None:
    for branch in (branch for tree in read[1] for branch in branches(read[0], tree) if branch.learned):
        begun = "" if branch.shown.endswith("<|act|>") else branch.before.rpartition("<|act|>")[2]
        response = begun + branch.learned
        assert response.startswith("<think>")
        assert response.count("</think>") == 1
        assert response.endswith(("</action>", "</search>", "</answer>")) or "This episode" in branch.shown


def test_the_line_that_says_how_it_ended_precedes_what_was_done(read: tuple[Policy, list[Tree]]) -> None:
    lines = [b for tree in read[1] for b in branches(read[0], tree) if "This episode" in b.shown]
    assert {"succeeded" in branch.shown for branch in lines} == {True, False}
    for branch in lines:
        assert branch.after.removeprefix("<|act|>").startswith(branch.learned)


def test_a_foreign_block_changes_nothing(read: tuple[Policy, list[Tree]]) -> None:
    foreign = [b for tree in read[1] for b in branches(read[0], tree) if b.kept]
    assert len(foreign) > 20
    for branch in foreign:
        assert not branch.learned
        assert branch.after.removeprefix("<|act|>").startswith(branch.kept[: branch.kept.index("</")])


def test_the_reader_is_led_in_episodes_of_its_own() -> None:
    policy, trees = trees_of("alfworld", replace(SPEC, group=1, games=3), 6)
    led = [tree for tree in trees if not (tree.copied >= 0).any()]
    assert led
    for tree in led:
        assert text(policy, tree.token_ids[: tree.trunk]).count("<|hint|>") == 1
        assert all(b.before.endswith("<|act|>") and not b.shown for b in branches(policy, tree))


def test_the_same_seed_gives_the_same_trees() -> None:
    (_, one), (_, other) = (trees_of("alfworld", replace(SPEC, games=2), 12) for _ in range(2))
    for first, second in zip(one, other, strict=True):
        assert np.array_equal(first.token_ids, second.token_ids)
        assert np.array_equal(first.copied, second.copied)


def test_only_wanted_blocks_are_drawn() -> None:
    policy, trees = trees_of(
        "alfworld", replace(SPEC, blocks=((Block.OUTCOME, 1.0),), places=((Place.TAG, 1.0),), opening=0.0, led=0), 8
    )
    for branch in (branch for tree in trees for branch in branches(policy, tree)):
        assert branch.shown.removesuffix("<|act|>").startswith("<|hint|>This episode")


def test_what_the_tutor_is_told_it_does() -> None:
    """Where the block names the wanted thing's place, and the student has not been there, the tutor goes there."""
    course = HouseholdCourse()
    benchmark, panel = course.held_out()
    task = next(task for task in panel.tasks if "Pick" in task.subset)
    solution = benchmark.solution(task.id)
    taken = next(action for action in solution if action.startswith("take "))
    place = taken.rpartition(" from ")[2]
    tutor = course.tutor(task.id)
    assert tutor.straight(solution) in (f"go to {place}", taken)
    thought, action = tutor.answer(solution)
    assert thought.startswith("<think>")
    assert action.endswith("</action>")
