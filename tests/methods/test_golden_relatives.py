"""Each relative of StepOPSD on one small case, worked out token by token in float64, to 1e-6."""

import math
from dataclasses import replace
from typing import Any

import numpy as np
import pytest
import torch
from torch import Tensor

from stepcredit.methods.contract import Credit, GoldenTurn, Group, MethodError, Span, Trajectory
from stepcredit.methods.registry import build
from stepcredit.methods.spans import TargetSpans, target_steps
from tests.methods.support import GapRescorer, HashRescorer, make_group, make_step, make_trajectory

GAPS = [0.7, -0.4, 0.05, -1.3]
EPS = 1e-6
SPREAD = math.sqrt(1 / 3) + EPS
ADVANTAGES = [(1 / 3) / SPREAD, -(2 / 3) / SPREAD, (1 / 3) / SPREAD]
"""Of rewards 1 0 1: mean 2/3, sample variance (1/9 + 4/9 + 1/9) / 2 = 1/3."""


def group_of_three() -> Group:
    """Winner, loser, winner; two turns of three tokens and one."""
    return make_group(
        *(
            make_trajectory(
                make_step(3, think=Span(0, 1), action=Span(2, 3), text=f"first {name}"),
                make_step(1, action=Span(0, 1), text=f"second {name}"),
                success=success,
            )
            for name, success in (("a", True), ("b", False), ("c", True))
        )
    )


def by_hint(trajectory: Trajectory, hint: str | None) -> Tensor:
    """Winners' hints move the teacher by GAPS, the loser's by a tenth of a nat in every token."""
    return torch.full((4,), 0.1) if hint is not None and hint.endswith("b") else torch.tensor(GAPS)


def credits(name: str, options: dict[str, Any] | None = None, group: Group | None = None) -> list[Credit]:
    return build(name, options or {}).credit(group or group_of_three(), GapRescorer(by_hint), 0)


def assert_credit(found: Credit, expected: list[float]) -> None:
    np.testing.assert_allclose(found.advantage_T.double().numpy(), expected, atol=1e-6, rtol=0)


@pytest.mark.parametrize(("clip", "share"), [(0.2, 0.5), (0.9, 1.0), (0.05, 0.0)])
def test_rlsd(clip: float, share: float) -> None:
    found = credits("rlsd", {"clip": clip, "lambda_mix": share})
    for credit, advantage in zip(found, ADVANTAGES, strict=True):
        expected = []
        for gap in GAPS:
            weight = min(max(math.exp(math.copysign(1, advantage) * gap), 1 - clip), 1 + clip)
            expected.append(advantage * ((1 - share) + share * weight))
        assert_credit(credit, expected)


def test_the_contrast_takes_the_wrong_hints_part_away() -> None:
    """Both winners have the other as right hint and the loser as wrong one; the loser has no other loser."""
    first, loser, third = credits("rlsd_ectr")
    expected = [ADVANTAGES[0] * (0.5 + 0.5 * min(max(math.exp(gap - 0.1), 0.8), 1.2)) for gap in GAPS]
    assert_credit(first, expected)
    assert_credit(third, expected)
    assert_credit(loser, [ADVANTAGES[1]] * 4)


@pytest.mark.parametrize(("beta", "share"), [(5.0, 0.01), (1.0, 2.0)])
def test_sdar(beta: float, share: float) -> None:
    for credit, advantage in zip(credits("sdar", {"beta": beta, "lambda_distill": share}), ADVANTAGES, strict=True):
        assert_credit(credit, [advantage] * 4)
        assert credit.distill_T is not None
        expected = [share / (1 + math.exp(-beta * gap)) for gap in GAPS]
        np.testing.assert_allclose(credit.distill_T.double().numpy(), expected, atol=1e-6, rtol=0)


def test_sdar_distils_nothing_without_a_teacher() -> None:
    """A sole winner has no peer."""
    group = make_group(*group_of_three().trajectories[:2])
    winner, loser = credits("sdar", group=group)
    assert winner.distill_T is not None
    assert loser.distill_T is not None
    assert not winner.distill_T.any()
    assert loser.distill_T.all()


def sigmoid(x: float) -> float:
    return 1 / (1 + math.exp(-x))


def test_agentopsd() -> None:
    """Turn evidence 0.7 - 0.4 + 0.05 = 0.35 and -1.3; the prior is the mean reward 2/3, log-odds ln 2."""
    b, share, gamma = 0.2, 0.5, 0.95
    prior = math.log(2)
    evidence = [0.35, gamma * 0.35 - 1.3]
    beliefs = [2 / 3, sigmoid(prior + evidence[0]), sigmoid(prior + evidence[1])]
    for credit, advantage in zip(credits("agentopsd"), ADVANTAGES, strict=True):
        moves = [math.copysign(1, advantage) * (beliefs[k + 1] - beliefs[k]) for k in range(2)]
        mean = sum(moves) / 2
        spread = math.sqrt(sum((move - mean) ** 2 for move in moves) / 2)
        weights = [min(max(1 + b * (move - mean) / spread, 1 - b), 1 + b) for move in moves]
        per_turn = [advantage * ((1 - share) + share * weight) for weight in weights]
        assert_credit(credit, [per_turn[0]] * 3 + [per_turn[1]])


def test_agentopsd_by_hand() -> None:
    """Two turns always standardise to plus and minus one: weights 1.2 and 0.8, shaped 1.1 A and 0.9 A."""
    winner, loser, _ = credits("agentopsd")
    assert_credit(winner, [1.1 * ADVANTAGES[0]] * 3 + [0.9 * ADVANTAGES[0]])
    assert_credit(loser, [0.9 * ADVANTAGES[1]] * 3 + [1.1 * ADVANTAGES[1]])


def gigpo_group() -> Group:
    """Three trajectories of 2, 2 and 1 turns; their second turns follow on `you see x`, `you see x` and nothing."""

    def trajectory(success: bool, *texts: str) -> Trajectory:
        return make_trajectory(*(make_step(2, text=text) for text in texts), success=success)

    return make_group(trajectory(True, "x", "y"), trajectory(False, "x", "z"), trajectory(True, "w"))


def test_gigpo() -> None:
    """First turns share the opening: returns-to-go 0.95, 0, 1. The second ones of two share `you see x`: 1, 0."""
    gamma = 0.95
    opening = np.array([gamma, 0.0, 1.0])
    opening = (opening - opening.mean()) / (opening.std(ddof=1) + EPS)
    later = np.array([1.0, 0.0])
    later = (later - later.mean()) / (later.std(ddof=1) + EPS)
    first, second, third = build("gigpo", {}).credit(gigpo_group(), HashRescorer(), 0)
    assert_credit(first, [ADVANTAGES[0] + opening[0]] * 2 + [ADVANTAGES[0] + later[0]] * 2)
    assert_credit(second, [ADVANTAGES[1] + opening[1]] * 2 + [ADVANTAGES[1] + later[1]] * 2)
    assert_credit(third, [ADVANTAGES[2] + opening[2]] * 2)


def test_gigpo_without_std_and_by_state() -> None:
    """States are named after the actions here: x twice, y, z and w once. Returns-to-go of x: 0.95 and 0, mean 0.475."""
    options = {"std": False, "omega": 2.0, "anchor": "state"}
    first, second, third = build("gigpo", options).credit(gigpo_group(), HashRescorer(), 0)
    assert_credit(first, [1 / 3 + 0.95, 1 / 3 + 0.95, 1 / 3, 1 / 3])
    assert_credit(second, [-2 / 3 - 0.95, -2 / 3 - 0.95, -2 / 3, -2 / 3])
    assert_credit(third, [1 / 3, 1 / 3])


def test_vineppo() -> None:
    """Values 1/2 and 3/4 of four episodes each, then the reward: gains 1/4 and 1/4 for the winner, 1/4 and -3/4."""
    returns = ((1.0, 0.0, 1.0, 0.0), (1.0, 1.0, 1.0, 0.0))
    group = group_of_three()
    given = replace(group, trajectories=tuple(replace(t, continuations=returns) for t in group.trajectories))
    winner, loser, _ = build("vineppo", {"continuations": 4}).credit(given, HashRescorer(), 0)
    assert_credit(winner, [0.25] * 4)
    assert_credit(loser, [0.25] * 3 + [-0.75])


@pytest.mark.parametrize("returns", [None, ((1.0,) * 9,), ((1.0,) * 9, (1.0,) * 8)])
def test_vineppo_refuses_what_it_was_not_promised(returns: Any) -> None:
    group = group_of_three()
    given = replace(group, trajectories=tuple(replace(t, continuations=returns) for t in group.trajectories))
    with pytest.raises(MethodError, match="'vineppo' needs 9 continuations from each of the 2 steps of trajectory 0"):
        build("vineppo", {}).credit(given, HashRescorer(), 0)


ANSWERING = make_trajectory(
    replace(make_step(3, think=Span(0, 1), action=Span(1, 2)), action_tag="search"),
    replace(make_step(2, action=Span(0, 2)), action_tag="answer"),
    replace(make_step(2, action=Span(1, 2)), action_tag="answer"),
    success=True,
)


@pytest.mark.parametrize(
    ("target", "expected"),
    [
        ("action_only", [-1, 0, -1, 1, 1, -1, 2]),
        ("clean_step_no_observation", [0, 0, -1, 1, 1, -1, 2]),
        ("answer_only", [-1, -1, -1, 1, 1, -1, 2]),
        ("final_answer_only", [-1, -1, -1, -1, -1, -1, 2]),
    ],
)
def test_target_spans(target: TargetSpans, expected: list[int]) -> None:
    assert target_steps(ANSWERING, target).tolist() == expected


def test_stepopsd_tilts_the_last_answer_alone() -> None:
    """One step with target tokens has no budget: A (0.8 + 0.2 clip(2 sigmoid(gap)))."""
    group = make_group(ANSWERING, ANSWERING, replace(ANSWERING, success=False, reward=0.0))
    gap = GapRescorer(lambda trajectory, hint: torch.full((7,), 0.2))
    found = build("stepopsd", {"target": "final_answer_only", "tags": False}).credit(group, gap, 0)[0]
    tilted = ADVANTAGES[0] * (0.8 + 0.2 * 2 * sigmoid(0.2))
    assert_credit(found, [ADVANTAGES[0]] * 6 + [tilted])


def test_stepopsd_learns_from_the_reference_trajectory() -> None:
    golden = (GoldenTurn("go to shelf 1", "a mug"), GoldenTurn("take mug", "taken"))
    group, rescore = replace(group_of_three(), golden=golden), HashRescorer()
    method = build("stepopsd", {"hindsight": "golden_rollout", "hindsight_text": "full"})
    assert method.needs.golden
    method.credit(group, rescore, 0)
    assert [request.hindsight for request in rescore.requests[:3]] == ["go to shelf 1\na mug\ntake mug\ntaken"] * 3
    with pytest.raises(MethodError, match=r"needs a reference trajectory and the group of 'mini/.*' has none"):
        method.credit(group_of_three(), rescore, 0)


def test_opd_with_another_policy_teaches_every_trajectory() -> None:
    """Without hindsight, even where all fail."""
    options = {"teacher": "checkpoint", "checkpoint": "tiny", "hindsight": "none", "weight": 0.5}
    method, failed = build("opd", options), make_group(*(make_trajectory(make_step(4), success=False),) * 2)
    assert method.needs.checkpoint == "tiny"
    for credit in method.credit(failed, GapRescorer(by_hint), 0):
        assert_credit(credit, [gap / 2 for gap in GAPS])
