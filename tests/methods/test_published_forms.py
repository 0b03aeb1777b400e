"""Forms of the authors' code that are options or defaults, on one small case, worked out in float64, to 1e-6."""

import math
from dataclasses import replace
from itertools import pairwise
from typing import Any

import pytest
import torch
from torch import Tensor

from stepcredit.methods.arms import written
from stepcredit.methods.contract import Credit, Group, MethodError, Span, Trajectory, Weights
from stepcredit.methods.gaps import Lesson, score_contrasts
from stepcredit.methods.registry import build
from tests.methods.support import GapRescorer, HashRescorer, make_group, make_step, make_trajectory, one_word_group
from tests.methods.test_golden_relatives import ADVANTAGES, EPS, GAPS, assert_credit, by_hint, credits, group_of_three

A = ADVANTAGES[0]


@pytest.mark.parametrize(("tau", "eta"), [(0.03, 1.0), (1.0, 0.5)])
def test_rlcsd_takes_two_means_of_what_it_keeps(tau: float, eta: float) -> None:
    """Both winners have a right and a wrong hint; the loser has no other loser and is dropped."""
    method = build("rlcsd", {"tau": tau, "eta": eta})
    given = method.credit(group_of_three(), GapRescorer(by_hint), 0)
    found = method.settled([given])[0]
    residuals = [0.2 * 0.5 * math.tanh((gap - 0.1) / tau) for gap in GAPS]
    selected = [abs(residual) > 0.02 for residual in residuals]
    assert all(selected) == (tau == 0.03)
    total, chosen = 12, 2 * sum(selected)
    expected = [
        eta * total / chosen * (A + residual) if taken else total / (8 - chosen) * A
        for residual, taken in zip(residuals, selected, strict=True)
    ]
    for winner in (0, 2):
        assert_credit(found[winner], expected)
    assert_credit(found[1], [0.0] * 4)


def test_rlcsd_never_turns_an_advantage() -> None:
    """The largest residual, 0.5 against an advantage of 0.58, and 2 against it, which would turn it."""
    found = credits("rlcsd", {"tau": 1e-6, "beta": 4.0, "lam": 1.0, "largest": 2.0})[0]
    assert_credit(found, [A + 2.0, 0.0, 0.0, 0.0])


def test_a_contrast_is_with_the_mean_of_the_wrong_hints() -> None:
    """log mean(exp 0.2, exp -1.0) above a student's log-probability; the right hint lies 0.5 above it."""
    trajectory = group_of_three().trajectories[0]
    told = {"right": 0.5, "one": 0.2, "other": -1.0}
    rescore = GapRescorer(lambda _, hint: torch.full((4,), told[str(hint)]))
    lessons = {hint: Lesson(trajectory, hint) for hint in told}
    pair = lessons["right"], [lessons["one"], lessons["other"]]
    found, nothing = score_contrasts([pair, None], rescore, teacher=Weights.STALE)
    assert nothing is None
    assert found is not None
    expected = 0.5 - math.log((math.exp(0.2) + math.exp(-1.0)) / 2)
    assert found.tolist() == pytest.approx([expected] * 4, abs=1e-6)


@pytest.mark.parametrize(("update", "share"), [(0, 0.5), (15, 0.375), (60, 0.0), (90, 0.0)])
def test_rlsd_fades_as_in_the_training_script(update: int, share: float) -> None:
    rescore = HashRescorer()
    method = build("rlsd", {})
    found = method.credit(group_of_three(), rescore, update)
    assert found[0].diagnostics["lambda_mix"] == pytest.approx(share)
    assert {request.weights for request in rescore.requests} == ({Weights.STALE, Weights.LIVE} if share else set())
    assert method.needs.stale_refresh == 20


def test_rlsd_with_the_configurations_frozen_teacher() -> None:
    method = build("rlsd", {"teacher": "initial", "decay_updates": None})
    assert method.needs.initial
    found = method.credit(group_of_three(), GapRescorer(by_hint), 1000)[0]
    assert_credit(found, [A * (0.5 + 0.5 * min(max(math.exp(gap), 0.8), 1.2)) for gap in GAPS])


def test_agentopsd_by_its_scripts() -> None:
    """Rewards of 10: a mean of 6.7 is clamped to 0.9999, and gamma is 1. Evidence of the two turns: sums of GAPS."""
    group = group_of_three()
    paid = replace(group, trajectories=tuple(replace(t, reward=10.0 * t.success) for t in group.trajectories))
    options = {"gamma": 1.0, "least_prior": 1e-4, "belief_eps": 1e-6}
    found = build("agentopsd", options).credit(paid, GapRescorer(by_hint), 0)[0]
    evidence = [sum(GAPS[:3]), GAPS[3]]
    prior = math.log(0.9999 / 0.0001)
    beliefs = [1 / (1 + math.exp(-x)) for x in (prior, prior + evidence[0], prior + sum(evidence))]
    moves = [after - before for before, after in pairwise(beliefs)]
    mean, spread = sum(moves) / 2, abs(moves[0] - moves[1]) / 2
    weights = [min(max(1 + 0.2 * (move - mean) / (spread + 1e-6), 0.8), 1.2) for move in moves]
    advantage = 10 / 3 / (10 * math.sqrt(1 / 3) + EPS)
    assert_credit(found, [advantage * (0.5 + 0.5 * weights[turn]) for turn in (0, 0, 0, 1)])


def test_vineppo_whitens_an_update() -> None:
    method = build("vineppo", {"continuations": 1, "whiten": True})
    given = [[Credit(torch.tensor([1.0, 1.0, 4.0]))], [Credit(torch.tensor([-2.0])), Credit(torch.tensor([6.0]))]]
    # mean 2, squared deviations 1 1 4 16 16: variance 38 / 4
    scale = 1 / math.sqrt(9.5 + 1e-8)
    found = method.settled(given)
    assert [c.advantage_T.tolist() for own in found for c in own] == [
        pytest.approx([-scale, -scale, 2 * scale], abs=1e-6),
        pytest.approx([-4 * scale], abs=1e-6),
        pytest.approx([4 * scale], abs=1e-6),
    ]


def uneven_group() -> Group:
    """A winner of three steps and a loser of one."""
    return make_group(
        make_trajectory(*(make_step(1, text=f"go {k}") for k in range(3)), success=True),
        make_trajectory(make_step(2, text="go 0"), success=False),
    )


@pytest.mark.parametrize("name", ["grpo", "sdar", "gigpo"])
def test_rewards_count_as_often_as_there_are_steps(name: str) -> None:
    """1 1 1 0: mean 3/4, sample variance (3/16 + 9/16) / 3 = 1/4."""
    options = {"rows": True, **({"omega": 0.0} if name == "gigpo" else {})}
    winner, loser = build(name, options).credit(uneven_group(), GapRescorer(by_hint_of_any_length), 0)
    assert_credit(winner, [0.25 / (0.5 + EPS)] * 3)
    assert_credit(loser, [-0.75 / (0.5 + EPS)] * 2)


@pytest.mark.parametrize("name", ["grpo", "sdar", "gigpo"])
def test_steps_pay_their_own_penalties(name: str) -> None:
    """1 .5 1 0: mean 5/8, sample variance (9/64 + 1/64 + 9/64 + 25/64) / 3 = 11/48."""
    options = {"rows": True, **({"omega": 0.0} if name == "gigpo" else {})}
    winner, loser = uneven_group().trajectories
    steps = tuple(replace(step, penalty=0.5 * (k == 1)) for k, step in enumerate(winner.steps))
    group = make_group(replace(winner, steps=steps), loser)
    won, lost = build(name, options).credit(group, GapRescorer(by_hint_of_any_length), 0)
    scale = (11 / 48) ** 0.5 + EPS
    assert_credit(won, [0.375 / scale, -0.125 / scale, 0.375 / scale])
    assert_credit(lost, [-0.625 / scale] * 2)


def test_gigpos_returns_pay_penalties_too() -> None:
    """Undiscounted returns of the first steps 1 - .5 and 0, of the two others none to compare with: +- sqrt(1/2)."""
    winner, loser = uneven_group().trajectories
    first = replace(winner.steps[0], penalty=0.5)
    others = [replace(step, observation=f"seen {k}") for k, step in enumerate(winner.steps[1:])]
    group = make_group(replace(winner, steps=(replace(first, observation="seen"), *others)), loser)
    of_episodes, of_both = (
        build("gigpo", {"rows": True, "gamma": 1.0, "omega": omega}).credit(
            group, GapRescorer(by_hint_of_any_length), 0
        )
        for omega in (0.0, 1.0)
    )
    added = [both.advantage_T - one.advantage_T for one, both in zip(of_episodes, of_both, strict=True)]
    assert torch.cat(added).tolist() == pytest.approx([0.5**0.5, 0.0, 0.0, *[-(0.5**0.5)] * 2], abs=1e-5)


def by_hint_of_any_length(trajectory: Trajectory, hint: str | None) -> Tensor:
    return torch.zeros(trajectory.response_tokens)


def test_anchors_that_are_similar_are_one() -> None:
    """After "you are in room 1" and "... 2", 16 of 17 letters alike, the winner's step beats the loser's."""
    first = replace(make_step(1, text="a"), observation="you are in room 1")
    second = replace(make_step(1, text="b"), observation="you are in room 2")
    group = make_group(
        make_trajectory(first, make_step(1, text="c"), success=True),
        make_trajectory(second, make_step(1, text="d"), success=False),
    )
    apart, alike = (
        build("gigpo", {"similarity": similarity}).credit(group, HashRescorer(), 0)[0].advantage_T[1]
        for similarity in (None, 0.9)
    )
    episode = 0.5 / (math.sqrt(0.5) + EPS)
    assert [float(apart), float(alike)] == pytest.approx([episode, 2 * episode], abs=1e-6)
    assert build("gigpo", {"similarity": 0.95}).credit(group, HashRescorer(), 0)[0].advantage_T[1] == apart


def test_sdar_without_a_gate_does_not_hear_its_teacher() -> None:
    """The row "GRPO+OPSD" of the paper's table: swapping the teacher changes nothing at all."""
    by_noise = GapRescorer(lambda trajectory, hint: torch.randn(4, generator=torch.Generator().manual_seed(7)))
    method, group = build("sdar", {"beta": 0.0}), group_of_three()
    by_peer, by_chance = (method.credit(group, rescore, 0) for rescore in (GapRescorer(by_hint), by_noise))
    for one, other in zip(by_peer, by_chance, strict=True):
        assert one.distill_T is not None
        assert other.distill_T is not None
        assert torch.equal(one.distill_T, other.distill_T)
        assert one.distill_T.tolist() == pytest.approx([0.005] * 4, abs=1e-9)


def test_sdars_opsd_row_has_no_policy_gradient() -> None:
    for credit in credits("sdar", {"base": "none"}):
        assert not credit.advantage_T.any()
        assert credit.distill_T is not None
        assert (credit.distill_T > 0).all()


def asked(options: dict[str, Any], group: Group) -> list[tuple[int, str | None, tuple[int | None, ...] | None]]:
    rescore = HashRescorer()
    build("stepopsd", options).credit(group, rescore, 0)
    return [(r.trajectory.index, r.hindsight, r.starts) for r in rescore.requests if r.weights is Weights.STALE]


def test_stepopsds_losers_see_a_peer_right_before_their_targets() -> None:
    """Actions, with their tags, begin at token 1 of the first turn and 0 of the second."""
    peer = "first a\nsecond a"
    assert asked({}, group_of_three()) == [(0, None, None), (1, peer, (1, 0)), (2, None, None)]
    assert asked({"tags": False}, group_of_three())[1] == (1, peer, (2, 0))
    assert asked({"target": "clean_step_no_observation"}, group_of_three())[1] == (1, peer, (0, 0))
    assert asked({"block": "response"}, group_of_three())[1] == (1, peer, None)
    assert [hint for _, hint, _ in asked({"taught": "all"}, group_of_three())] == ["first c\nsecond c", peer, peer]


def test_stepopsd_may_be_told_nothing_but_how_it_ended() -> None:
    won, lost = "This episode succeeded.", "This episode failed."
    assert [hint for _, hint, _ in asked({"hindsight": "outcome"}, group_of_three())] == [won, lost, won]
    assert [hint for _, hint, _ in asked({"outcome_line": True}, group_of_three())] == [
        won, f"first a\nsecond a\n{lost}", won
    ]  # fmt: skip


def test_rlcsds_hints_are_drawn_by_the_trajectorys_own_seed() -> None:
    def hints(seed: int) -> list[str | None]:
        won, lost, *_ = group_of_three().trajectories
        first, *others = lost.steps
        scored = replace(lost, steps=(replace(first, seed=seed), *others))
        group = make_group(
            scored,
            *(replace(won, steps=(replace(first, text="", action_text=f"w{k}"),)) for k in range(3)),
            *(replace(lost, steps=(replace(first, text="", action_text=f"l{k}"),)) for k in range(5)),
        )
        rescore = HashRescorer()
        build("rlcsd", {}).credit(group, rescore, 0)
        return [r.hindsight for r in rescore.requests if r.trajectory is group.trajectories[0]]

    drawn = [hints(seed) for seed in range(40)]
    assert drawn[0] == hints(0)
    assert {right for right, *_ in drawn} == {"w0", "w1", "w2"}
    assert all(len(set(wrong)) == 4 for _, *wrong in drawn)
    assert {hint for _, *wrong in drawn for hint in wrong} == {f"l{k}" for k in range(5)}


def test_a_peers_whole_text_is_what_it_said_and_saw() -> None:
    step = replace(make_step(3, text="go"), text="<think>so</think><action>go</action>", observation="a room")
    assert written(make_trajectory(step, success=True), "full") == "<think>so</think><action>go</action>\na room"


def test_tags_belong_to_targets_as_in_the_authors_code() -> None:
    """w = exp(gap) clipped to 0.8 and 1.2, lambda 0.2, no budget: tag, action and action of the loser."""
    options = {"weight": "exp", "budget": False}
    loser = credits("stepopsd", options)[1]
    weights = [min(max(math.exp(-gap), 0.8), 1.2) for gap in GAPS]
    expected = [ADVANTAGES[1] * (1.0 if place == 0 else 0.8 + 0.2 * weight) for place, weight in enumerate(weights)]
    assert_credit(loser, expected)


@pytest.mark.parametrize(
    ("name", "options", "complaint"),
    [
        ("stepopsd", {"hindsight": "none", "outcome_line": True}, "outcome_line has no effect with hindsight 'none'"),
        ("stepopsd", {"hindsight": "outcome", "hindsight_text": "full"}, "hindsight_text has no effect with hindsight"),
        ("stepopsd", {"teacher": "live_actor", "refresh": 5}, "refresh has no effect with teacher 'live_actor'"),
        ("stepopsd", {"hindsight": "golden_rollout", "taught": "all"}, "taught has no effect with hindsight"),
        ("stepopsd", {"hindsight": "none", "teacher": "live_actor"}, "says nothing"),
        ("stepopsd", {"skills": "texts"}, "skills has no effect with hindsight 'peer_traj'"),
        ("stepopsd", {"hindsight": "skills"}, "needs the option skills"),
        ("opd", {"top_k": 5}, "top_k has no effect with divergence 'sampled'"),
        ("opd", {"divergence": "forward_kl", "beta": 0.3}, "beta has no effect with divergence 'forward_kl'"),
        ("opd", {"ema_rate": 0.5}, "ema_rate has no effect with teacher 'initial'"),
        ("opd", {"checkpoint": "tiny"}, "checkpoint has no effect with teacher 'initial'"),
        ("opd", {"teacher": "checkpoint"}, "needs the option checkpoint"),
        ("rlsd", {"teacher": "live", "refresh": 5}, "refresh has no effect with teacher 'live'"),
        ("sdar", {"base": "none", "rows": True}, "rows has no effect without a base"),
        ("gigpo", {"anchor": "state", "similarity": 0.5}, "similarity has no effect with anchor 'state'"),
    ],
)
def test_options_without_effect_are_refused(name: str, options: dict[str, Any], complaint: str) -> None:
    with pytest.raises(MethodError, match=complaint) as caught:
        build(name, options)
    assert "\n" not in str(caught.value)
    assert build(name, build(name, {}).options()).options() == build(name, {}).options()


def test_opd_hands_on_the_teachers_distributions() -> None:
    group, rescore = one_word_group(True, False, False), HashRescorer()
    method = build("opd", {"divergence": "jsd", "beta": 0.3, "top_k": 4, "weight": 0.5, "teacher": "ema"})
    found = method.credit(group, rescore, 0)
    assert found[0].target is None
    for credit in found[1:]:
        assert credit.target is not None
        assert credit.target.beta == 0.3
        assert credit.target.teacher.ids_Tk.shape == (8, 4)
        assert credit.target.weight_T.tolist() == [0.5] * 8
        assert not credit.advantage_T.any()
    assert {request.weights for request in rescore.requests} == {Weights.EMA}
    assert method.needs.ema == 0.05


def test_what_stands_after_a_tag_is_a_target_as_well() -> None:
    step = replace(make_step(6, think=Span(1, 2), action=Span(4, 5)), tagged=Span(3, 6))
    group = make_group(make_trajectory(step, success=False), make_trajectory(make_step(1), success=True))
    for options, start in (({}, 3), ({"tags": False}, 4), ({"target": "clean_step_no_observation"}, 0)):
        assert asked(options, group)[0][2] == (start,)
