"""Which peer teaches, and in what words."""

from dataclasses import replace

import pytest

from stepcredit.methods.arms import peer_hindsight
from stepcredit.methods.contract import Group
from stepcredit.methods.registry import build
from tests.methods.support import HashRescorer, make_group, make_step, make_trajectory, one_word_group

LOSER = make_trajectory(make_step(1, text="sleep"), success=False)
WINNER = make_trajectory(
    make_step(1, text="go to shelf 1"),
    make_step(1, text="eat mug 1", valid=False),
    make_step(1, text="take mug 1 from shelf 1"),
    success=True,
)


def test_actions_are_the_admitted_ones_in_order() -> None:
    assert peer_hindsight(make_group(LOSER, WINNER), 0, "actions") == "go to shelf 1\ntake mug 1 from shelf 1"


def test_full_text_adds_the_answers() -> None:
    assert peer_hindsight(make_group(LOSER, WINNER), 0, "full") == (
        "go to shelf 1\nyou see go to shelf 1\neat mug 1\nyou see eat mug 1\n"
        "take mug 1 from shelf 1\nyou see take mug 1 from shelf 1"
    )


@pytest.mark.parametrize(
    ("successes", "teachers"),
    [
        ((False, True, False, True), [1, 3, 1, 1]),
        ((True, True, False), [1, 0, 0]),
        ((False, True, False), [1, None, 1]),
        ((True, True, True), [None] * 3),
        ((False, False), [None] * 2),
        ((True,), [None]),
    ],
)
def test_the_first_other_winner_of_a_mixed_group_teaches(
    successes: tuple[bool, ...], teachers: list[int | None]
) -> None:
    group = one_word_group(*successes)
    expected = [None if teacher is None else f"go {teacher}.0\ngo {teacher}.1" for teacher in teachers]
    assert [peer_hindsight(group, index, "actions") for index in range(len(successes))] == expected


def test_no_more_is_rescored_than_needed() -> None:
    """Winner 1 has no other winner to learn from; penalties that make all rewards equal leave nothing to shape."""
    rescore, group = HashRescorer(), one_word_group(False, True, False)
    build("stepopsd", {"taught": "all"}).credit(group, rescore, 0)
    assert [(request.trajectory.index, str(request.weights), request.hindsight) for request in rescore.requests] == [
        (0, "stale", "go 1.0\ngo 1.1"),
        (2, "stale", "go 1.0\ngo 1.1"),
        (0, "live", None),
        (2, "live", None),
    ]
    equal = Group(group.task_id, tuple(replace(trajectory, reward=0.0) for trajectory in group.trajectories))
    build("stepopsd", {}).credit(equal, rescore, 0)
    assert len(rescore.calls) == 1


def test_outcome_line_tells_how_the_scored_trajectory_ended() -> None:
    rescore = HashRescorer()
    build("stepopsd", {"outcome_line": True}).credit(one_word_group(True, False, True), rescore, 0)
    endings = [request.hindsight.splitlines()[-1] for request in rescore.requests if request.hindsight is not None]
    assert endings == ["This episode succeeded.", "This episode failed.", "This episode succeeded."]


def test_without_hindsight_the_teacher_is_the_stale_policy_alone() -> None:
    rescore = HashRescorer()
    build("stepopsd", {"hindsight": "none"}).credit(one_word_group(True, False, False), rescore, 0)
    assert len(rescore.requests) == 6
    assert {request.hindsight for request in rescore.requests} == {None}
