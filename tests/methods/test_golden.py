"""Numbers worked out by hand or by plain float64 loops, and the laws of StepOPSD's shaping."""

import math
from typing import Any, Literal

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from torch import Tensor

from stepcredit.methods.advantages import group_advantages
from stepcredit.methods.contract import Group, MethodError, Span, Trajectory
from stepcredit.methods.registry import build
from stepcredit.methods.shaping import equal_step_mean_abs, raw_weights
from stepcredit.methods.stepopsd import shape_advantages
from tests.methods.support import GapRescorer, make_group, make_step, make_trajectory

LN3 = math.log(3.0)
LOSER = -(2 / 3) / (math.sqrt(1 / 3) + 1e-6)
WINNER = (1 / 3) / (math.sqrt(1 / 3) + 1e-6)
GAP = torch.tensor([0.7, LN3, math.log(9 / 11), -LN3], dtype=torch.float64)
STEP = torch.tensor([-1, 0, 0, 1])


def shape(advantage: float, gap_T: Tensor = GAP, step_T: Tensor = STEP, **options: Any) -> Tensor:
    settings = {"alpha_clip": 0.2, "lambda_mix": 0.5, "budget": False} | options
    return shape_advantages(advantage, gap_T, step_T, **settings)


def test_grpo_by_hand() -> None:
    # Rewards 1 0 0 1: mean 1/2, sample variance 4 (1/4) / 3 = 1/3.
    spread = math.sqrt(1 / 3) + 1e-6
    assert group_advantages([1, 0, 0, 1], std=True, eps=1e-6) == pytest.approx(
        [v / spread for v in (0.5, -0.5, -0.5, 0.5)]
    )
    assert group_advantages([1, 0, 0, 1], std=False, eps=1e-6) == [0.5, -0.5, -0.5, 0.5]
    # Rewards 10 0 0 0: mean 2.5, sample variance (56.25 + 3 * 6.25) / 3 = 25.
    assert group_advantages([10, 0, 0, 0], std=True, eps=0.0) == [1.5, -0.5, -0.5, -0.5]
    assert group_advantages([0.1, 0.1, 0.1], std=True, eps=1e-6) == [0.0, 0.0, 0.0]
    assert group_advantages([3.0], std=True, eps=1e-6) == [0.0]


@given(rewards=st.lists(st.floats(-10, 10), min_size=1, max_size=8), data=st.data())
def test_order_of_rewards_changes_no_bit(rewards: list[float], data: st.DataObject) -> None:
    order = data.draw(st.permutations(range(len(rewards))))
    advantages = group_advantages(rewards, std=True, eps=1e-6)
    moved = group_advantages([rewards[place] for place in order], std=True, eps=1e-6)
    assert moved == [advantages[place] for place in order]


def test_weights_by_hand() -> None:
    # 2 sigmoid(ln 3) = 3/2, clipped to 1.2; 2 sigmoid(ln 9/11) = 0.9; 2 sigmoid(-ln 3) = 1/2, clipped to 0.8.
    # A' = 0.5 * 2 + 0.5 * w * 2 = 1 + w; outside target spans w = 1.
    assert shape(2.0).tolist() == pytest.approx([2.0, 2.2, 1.9, 1.8], abs=1e-12)
    # A < 0 turns the gaps round: w = 0.8, 2 * 11/20 = 1.1, 1.2; A' = -1 - w.
    assert shape(-2.0).tolist() == pytest.approx([-2.0, -1.8, -2.1, -2.2], abs=1e-12)
    # exp(ln 3) = 3 -> 1.2, 9/11 = 0.818..., 1/3 -> 0.8.
    assert shape(2.0, weight="exp").tolist() == pytest.approx([2.0, 2.2, 1.0 + 9 / 11, 1.8], abs=1e-12)


def test_budget_by_hand() -> None:
    # Step means 2.05 and 1.8, their mean 1.925.
    expected = [2.0, 2.2 * 1.925 / 2.050001, 1.9 * 1.925 / 2.050001, 1.8 * 1.925 / 1.800001]
    assert shape(2.0, budget=True).tolist() == pytest.approx(expected, abs=1e-12)
    # Step means 8, 1, 1, their mean 10/3: factors 5/12 and 10/3, clamped to 1/2 and 2.
    means_T = torch.tensor([8.0, 1.0, -1.0, 5.0])
    assert equal_step_mean_abs(means_T, torch.tensor([0, 3, 4, -1])).tolist() == [4.0, 2.0, -2.0, 5.0]
    # One step with target tokens: nothing changes.
    assert torch.equal(equal_step_mean_abs(means_T, torch.tensor([2, 2, -1, -1])), means_T)


def reference(
    advantage: float,
    gap: np.ndarray,
    step: np.ndarray,
    *,
    alpha_clip: float,
    lambda_mix: float,
    weight: Literal["sigmoid", "exp"],
    budget: bool,
) -> np.ndarray:
    """The formulas of arXiv 2605.27140, token by token in float64."""
    shaped = np.zeros(len(gap))
    for t in range(len(gap)):
        signed = float(np.sign(advantage) * gap[t])
        raw = 2.0 / (1.0 + math.exp(-signed)) if weight == "sigmoid" else math.exp(signed)
        w = min(max(raw, 1.0 - alpha_clip), 1.0 + alpha_clip) if step[t] >= 0 else 1.0
        shaped[t] = (1.0 - lambda_mix) * advantage + lambda_mix * w * advantage
    names = sorted({k for k in step.tolist() if k >= 0})
    if not budget or len(names) < 2 or lambda_mix == 0.0:
        return shaped
    means = {k: sum(abs(shaped[t]) for t in range(len(gap)) if step[t] == k) / np.sum(step == k) for k in names}
    target = sum(means.values()) / len(names)
    for t in range(len(gap)):
        if step[t] >= 0:
            shaped[t] *= min(max(target / (means[step[t]] + 1e-6), 0.5), 2.0)
    return shaped


@st.composite
def cases(draw: st.DrawFn, gaps: float = 8.0) -> dict[str, Any]:
    size = draw(st.integers(0, 12))
    return {
        "advantage": draw(st.floats(0.01, 4.0)) * draw(st.sampled_from([-1.0, 1.0])),
        "gap_T": torch.tensor(
            draw(st.lists(st.floats(-gaps, gaps), min_size=size, max_size=size)), dtype=torch.float64
        ),
        "step_T": torch.tensor(draw(st.lists(st.integers(-1, 4), min_size=size, max_size=size)), dtype=torch.long),
        "alpha_clip": draw(st.floats(0.0, 0.9)),
        "lambda_mix": draw(st.floats(0.0, 1.0)),
        "weight": draw(st.sampled_from(["sigmoid", "exp"])),
        "budget": draw(st.booleans()),
    }


@settings(deadline=None)
@given(case=cases(), dtype=st.sampled_from([torch.float32, torch.float64]))
def test_shaping_is_the_reference(case: dict[str, Any], dtype: torch.dtype) -> None:
    gap_T = case["gap_T"].to(dtype)
    shaped_T = shape_advantages(**case | {"gap_T": gap_T})
    assert shaped_T.dtype == dtype
    names = ("advantage", "alpha_clip", "lambda_mix", "weight", "budget")
    options = {name: case[name] for name in names}
    expected = reference(gap=gap_T.double().numpy(), step=case["step_T"].numpy(), **options)
    tolerance = {"atol": 1e-12, "rtol": 1e-12} if dtype is torch.float64 else {"atol": 1e-6, "rtol": 1e-6}
    np.testing.assert_allclose(shaped_T.double().numpy(), expected, **tolerance)


@settings(deadline=None)
@given(case=cases(gaps=1e4), dtype=st.sampled_from([torch.float32, torch.float64]))
def test_sign_and_clip_hold_for_any_gap(case: dict[str, Any], dtype: torch.dtype) -> None:
    case |= {"gap_T": case["gap_T"].to(dtype), "budget": False}
    factor_T = shape_advantages(**case) / case["advantage"]
    radius = case["lambda_mix"] * case["alpha_clip"]
    assert bool((factor_T > 0).all())
    assert bool(((factor_T - 1).abs() <= radius + 1e-6).all())
    assert bool(((factor_T - 1).abs() <= 1e-6)[case["step_T"] < 0].all())
    assert bool((shape_advantages(**case | {"budget": True}) * case["advantage"] > 0).all())


@pytest.mark.parametrize("lambda_mix", [0.0, 0.5])
def test_no_gradient_flows_through_the_gap(lambda_mix: float) -> None:
    assert not shape(1.0, GAP.clone().requires_grad_(), lambda_mix=lambda_mix, budget=True).requires_grad


@pytest.mark.parametrize("form", ["sigmoid", "exp"])
def test_raw_weights_of_extreme_gaps_are_finite(form: Literal["sigmoid", "exp"]) -> None:
    low, high = raw_weights(-1.0, torch.tensor([1e4, -1e4]), form).tolist()
    assert 0.0 < low < 1e-20
    assert high == 2.0 if form == "sigmoid" else 1e20 < high < math.inf


@settings(deadline=None)
@given(case=cases())
def test_budget_equalises_the_steps_within_its_clamp(case: dict[str, Any]) -> None:
    """Step means differ by at most (1 + r) / (1 - r), r = alpha lambda: below r = 1/3 no clamp acts."""
    case |= {"budget": True, "alpha_clip": case["alpha_clip"] / 3}
    shaped_T, step_T = shape_advantages(**case), case["step_T"]
    plain_T = shape_advantages(**case | {"budget": False})
    means = [float(shaped_T[step_T == k].abs().mean()) for k in step_T[step_T >= 0].unique()]
    assert torch.equal(shaped_T[step_T < 0], plain_T[step_T < 0])
    if case["lambda_mix"] > 0.0 and len(means) >= 2:
        assert means == pytest.approx([means[0]] * len(means), rel=3e-4)


@settings(deadline=None)
@given(case=cases())
def test_lambda_zero_is_the_advantage_to_the_bit(case: dict[str, Any]) -> None:
    shaped_T = shape_advantages(**case | {"lambda_mix": 0.0})
    assert torch.equal(shaped_T, torch.full_like(case["gap_T"], case["advantage"]))


@pytest.mark.parametrize(
    ("wrong", "complaint"),
    [
        ({"alpha_clip": 1.0}, "alpha_clip is 1.0"),
        ({"lambda_mix": -0.1}, "lambda_mix is -0.1"),
        ({"lambda_mix": math.nan}, "lambda_mix is nan"),
        ({"step_T": STEP[:1]}, r"shape \(4,\) and step_T \(1,\)"),
    ],
)
def test_wrong_settings_of_shaping(wrong: dict[str, Any], complaint: str) -> None:
    with pytest.raises(MethodError, match=complaint):
        shape(1.0, **wrong)


def mixed_group() -> Group:
    """Two winners and a loser; three tokens of thought, tag and action, then one of action."""
    turns = (make_step(3, think=Span(0, 1), action=Span(2, 3)), make_step(1, action=Span(0, 1)))
    return make_group(*(make_trajectory(*turns, success=success) for success in (True, False, True)))


def fixed_gap(trajectory: Trajectory, hint: str | None) -> Tensor:
    return torch.tensor([0.7, -0.4, LN3, -LN3])


@pytest.mark.parametrize(
    ("base", "expected"),
    [
        # Rewards 1 0 1: mean 2/3, sample variance (1/9 + 4/9 + 1/9) / 2 = 1/3; the loser's A is LOSER.
        ("none", [0.7, -0.4, LN3, -LN3]),
        ("grpo", [LOSER + 0.7, LOSER - 0.4, LOSER + LN3, LOSER - LN3]),
    ],
)
def test_opd_by_hand(base: str, expected: list[float]) -> None:
    credits = build("opd", {"base": base}).credit(mixed_group(), GapRescorer(fixed_gap), 7)
    assert credits[1].advantage_T.tolist() == pytest.approx(expected, abs=1e-6)
    assert credits[1].diagnostics["gap_mean"] == pytest.approx(0.075, abs=1e-6)
    halved = build("opd", {"weight": 0.5}).credit(mixed_group(), GapRescorer(fixed_gap), 7)
    assert halved[0].advantage_T.tolist() == pytest.approx([0.35, -0.2, LN3 / 2, -LN3 / 2], abs=1e-6)


def test_stepopsd_by_hand() -> None:
    # The loser at update 25 of 50, so lambda = 0.1. Its action tokens are number 2 (w = 0.8) and number 3 (w = 1.2).
    # A' = A (0.9 + 0.1 w) = 0.98 A and 1.02 A; the budget takes both to their mean, A, up to its 1e-6.
    low, high = 0.98 * LOSER, 1.02 * LOSER
    budgeted = [low * LOSER / (low - 1e-6), high * LOSER / (high - 1e-6)]
    for budget, ends in ((False, [low, high]), (True, budgeted)):
        (_, loser, _) = build("stepopsd", {"budget": budget, "tags": False}).credit(
            mixed_group(), GapRescorer(fixed_gap), 25
        )
        assert loser.advantage_T.tolist() == pytest.approx([LOSER, LOSER, *ends], abs=1e-6)
        assert loser.diagnostics == pytest.approx(
            {
                "lambda_mix": 0.1,
                "taught_share": 1.0,
                "gap_mean_target": 0.0,
                "gap_abs_target": LN3,
                "weight_clipped_share": 1.0,
            },
            abs=1e-6,
        )


def test_stepopsd_on_whole_steps_by_hand() -> None:
    # Thought and action: tokens 0, 2, 3. A' = A (1 - lambda + lambda w), lambda = 0.2 at update 0.
    # exp(0.7) and exp(ln 3) clip to 1.2, exp(-ln 3) to 0.8.
    options = {"target": "clean_step_no_observation", "weight": "exp", "budget": False, "tags": False}
    winner = build("stepopsd", options).credit(mixed_group(), GapRescorer(fixed_gap), 0)[0]
    expected = [WINNER * factor for factor in (1.04, 1.0, 1.04, 0.96)]
    assert winner.advantage_T.tolist() == pytest.approx(expected, abs=1e-6)


def test_student_as_sampled() -> None:
    """The rollout's own log-probabilities, -1.5 in these steps, take the place of the rescored -1."""
    (_, loser, _) = build("stepopsd", {"student": "rollout_old_log_prob", "tags": False}).credit(
        mixed_group(), GapRescorer(fixed_gap), 0
    )
    assert loser.diagnostics["gap_mean_target"] == pytest.approx(0.5, abs=1e-6)
