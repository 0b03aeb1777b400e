"""What each arm shows, word for word, to whom, and which trajectories it cannot serve."""

from dataclasses import replace
from typing import Any

import pytest
import torch

from stepcredit.methods.arms import ARMS, PEERS, Source
from stepcredit.methods.contract import GoldenTurn, Group, MethodError, ScoreRequest, Weights
from stepcredit.methods.hindsight import TaughtConfig
from stepcredit.methods.registry import build
from tests.methods.support import HashRescorer, make_step, make_trajectory, one_word_group


def group_of_four() -> Group:
    """Loser 0, winners 1 and 2, loser 3; their actions are "go <index>.<step>". A reference, and foreign winners."""
    foreign = tuple(
        make_trajectory(*(make_step(2, text=word) for _ in range(2)), success=True) for word in ("alike", "x" * 99)
    )
    group = one_word_group(False, True, True, False)
    golden = (GoldenTurn("go 9.9", "you see 9"),)
    steps = [
        replace(t, steps=tuple(replace(step, untold_ids=step.prompt_ids[1:]) for step in t.steps))
        for t in group.trajectories
    ]
    return replace(group, trajectories=tuple(steps), golden=golden, skill="look twice", foreign=foreign)


def shown(arm: str, group: Group | None = None, **options: Any) -> list[str | None]:
    config = TaughtConfig(hindsight=arm, **options)
    whole = group or group_of_four()
    return [config.block_for(whole, index) for index in range(len(whole.trajectories))]


FIRST, SECOND = "go 1.0\ngo 1.1", "go 2.0\ngo 2.1"


@pytest.mark.parametrize("arm", ["peer_traj", "without_task", "contrast", "scrambled_gap"])
def test_arms_that_show_the_peer(arm: Source) -> None:
    assert shown(arm) == [FIRST, SECOND, FIRST, FIRST]


def test_what_the_other_arms_show() -> None:
    assert shown("golden_rollout") == ["go 9.9"] * 4
    assert shown("skills", skills="texts") == ["look twice"] * 4
    assert shown("outcome") == [f"This episode {word}." for word in ("failed", "succeeded", "succeeded", "failed")]
    assert shown("self") == [f"go {index}.0\ngo {index}.1" for index in range(4)]
    assert shown("empty") == [""] * 4
    assert shown("none") == [None] * 4


def test_failed_peers_are_known_to_have_failed() -> None:
    first, last = (f"go {index}.0\ngo {index}.1\nThat episode failed." for index in (0, 3))
    assert shown("failed_peer") == [last, first, first, first]


def test_shuffled_peers_say_the_same_in_another_order() -> None:
    found = set()
    for seed in range(20):
        group = group_of_four()
        steps = [(replace(t.steps[0], seed=seed), *t.steps[1:]) for t in group.trajectories]
        own = replace(
            group, trajectories=tuple(replace(t, steps=s) for t, s in zip(group.trajectories, steps, strict=True))
        )
        found.add(shown("shuffled", own)[0])
    assert found == {FIRST, "go 1.1\ngo 1.0"}


def test_any_peer_is_another() -> None:
    for index, text in enumerate(shown("peer_any")):
        assert text in {f"go {other}.0\ngo {other}.1" for other in range(4) if other != index}
    assert shown("peer_any", one_word_group(True, True)) == ["go 1.0\ngo 1.1", "go 0.0\ngo 0.1"]


def test_the_placebo_is_of_another_task_and_alike_in_length() -> None:
    group = group_of_four()
    near = tuple(make_trajectory(make_step(1, text="y" * (10 + k)), success=True) for k in range(5))
    far = tuple(make_trajectory(make_step(1, text="z" * (60 + k)), success=True) for k in range(20))
    for text in shown("foreign", replace(group, foreign=far + near)):
        assert text is not None
        assert text.startswith("y")


def test_groups_that_cannot_serve_an_arm_are_counted() -> None:
    def unserved(arm: Source, group: Group) -> int:
        return TaughtConfig(hindsight=arm).unserved(group)

    alone = one_word_group(True, False, False)  # the winner has no successful peer
    assert {arm: unserved(arm, alone) for arm in ("peer_traj", "shuffled", "failed_peer", "self", "outcome")} == {
        "peer_traj": 1,
        "shuffled": 1,
        "failed_peer": 0,
        "self": 0,
        "outcome": 0,
    }
    assert unserved("foreign", group_of_four()) == 0
    assert unserved("foreign", replace(group_of_four(), foreign=())) == 4
    assert unserved("peer_traj", one_word_group(False, False)) == 0  # nothing to learn there


def asked(method: str, arm: Source, **options: Any) -> list[ScoreRequest]:
    rescore = HashRescorer()
    build(method, {"hindsight": arm, **options}).credit(group_of_four(), rescore, 0)
    return rescore.requests


def test_a_teacher_without_the_task_reads_shorter_prompts_and_the_student_its_own() -> None:
    for request in asked("rlsd", "without_task"):
        assert {len(step.prompt_ids) for step in request.trajectory.steps} == {3 if request.hindsight is None else 2}


def test_a_contrast_is_of_two_contexts_of_the_teachers() -> None:
    requests = asked("stepopsd", "contrast")
    assert {request.weights for request in requests if request.hindsight} == {Weights.STALE}
    losers = [request.hindsight for request in requests if not request.trajectory.success]
    assert losers[:2] == [FIRST, FIRST]
    assert set(losers[2:]) <= {"alike\nalike", "\n".join(["x" * 99] * 2)}


def gaps(arm: Source) -> list[torch.Tensor]:
    method = build("opd", {"hindsight": arm, "teacher": "live"})
    return [credit.advantage_T for credit in method.credit(group_of_four(), HashRescorer(), 0)]


def test_scrambled_gaps_are_the_peers_in_other_places() -> None:
    for peer_T, scrambled_T in zip(gaps("peer_traj"), gaps("scrambled_gap"), strict=True):
        assert sorted(peer_T.tolist()) == sorted(scrambled_T.tolist())
        assert peer_T.tolist() != scrambled_T.tolist()


def test_stepopsd_scrambles_its_targets_alone() -> None:
    method = build("stepopsd", {"hindsight": "scrambled_gap", "lambda_mix": 1.0, "budget": False, "tags": False})
    for credit, peer in zip(
        method.credit(group_of_four(), HashRescorer(), 0),
        build("stepopsd", {"lambda_mix": 1.0, "budget": False, "tags": False}).credit(
            group_of_four(), HashRescorer(), 0
        ),
        strict=True,
    ):
        thought = [place for place in range(8) if place % 4 < 2]
        assert torch.equal(credit.advantage_T[thought], peer.advantage_T[thought])


def test_a_group_that_lacks_what_an_arm_needs_is_named() -> None:
    with pytest.raises(MethodError, match="'without_task' needs prompts without the task"):
        build("rlsd", {"hindsight": "without_task"}).credit(one_word_group(True, True, False), HashRescorer(), 0)


def test_every_arm_is_in_the_table() -> None:
    assert set(ARMS) == set(Source.__args__)  # type: ignore[attr-defined]
    assert set(ARMS) > PEERS


@pytest.mark.parametrize("arm", ["contrast", "scrambled_gap"])
def test_what_changes_gaps_has_no_divergence(arm: Source) -> None:
    with pytest.raises(MethodError, match=f"'{arm}' changes the gaps of drawn tokens"):
        build("opd", {"hindsight": arm, "divergence": "jsd"})
