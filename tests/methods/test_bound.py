"""BOUND.md, number by number."""

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from stepcredit.methods.shaping import shape_advantages

GAPS = st.lists(st.floats(-30, 30), min_size=4, max_size=24)
SHARES = st.floats(0.01, 0.95)
ADVANTAGES = st.floats(-3, 3).filter(lambda advantage: abs(advantage) > 1e-3)


def shaped(advantage: float, gaps: list[float], alpha: float, share: float, *, budget: bool) -> torch.Tensor:
    """Two tokens a step."""
    steps_T = torch.arange(len(gaps)) // 2
    gap_T = torch.tensor(gaps, dtype=torch.float64)
    return shape_advantages(advantage, gap_T, steps_T, alpha_clip=alpha, lambda_mix=share, budget=budget)


@settings(deadline=None)
@given(ADVANTAGES, GAPS, SHARES, SHARES)
def test_it_is_grpo_and_distillation_that_does_not_know_the_outcome(
    advantage: float, gaps: list[float], alpha: float, share: float
) -> None:
    pull_T = (torch.tensor(gaps, dtype=torch.float64) / 2).tanh().clamp(-alpha, alpha)
    expected_T = advantage + share * abs(advantage) * pull_T
    torch.testing.assert_close(shaped(advantage, gaps, alpha, share, budget=False), expected_T, rtol=0, atol=1e-12)


@settings(deadline=None)
@given(ADVANTAGES, GAPS, SHARES, SHARES)
def test_the_bounds(advantage: float, gaps: list[float], alpha: float, share: float) -> None:
    c, size = alpha * share, abs(advantage)
    plain_T, budgeted_T = (shaped(advantage, gaps, alpha, share, budget=budget) for budget in (False, True))
    assert float((plain_T - advantage).abs().max()) <= c * size * (1 + 1e-9)
    if c <= 1 / 3:
        assert float((budgeted_T - advantage).abs().max()) <= c * (3 + c) / (1 - c) * size + 1e-5


def test_the_budgets_bound_is_nearly_met() -> None:
    """Many steps that the teacher likes, and one that it dislikes but for a token: that token gains from both."""
    c, liked = 0.04, [30.0] * 2 * 400
    tokens = [-30.0] * 200 + [30.0]
    steps_T = torch.tensor([k // 2 for k in range(800)] + [400] * 201)
    gap_T = torch.tensor(liked + tokens, dtype=torch.float64)
    found_T = shape_advantages(1.0, gap_T, steps_T, alpha_clip=0.2, lambda_mix=0.2, budget=True)
    bound = c * (3 + c) / (1 - c)
    assert bound == pytest.approx(0.127, abs=5e-4)
    assert 0.97 * bound < float(found_T[-1]) - 1.0 <= bound


def test_a_liked_token_is_paid_whatever_comes_of_it() -> None:
    """A coin decides: GRPO pays nothing on average, StepOPSD lambda alpha E|A|."""
    mean = sum(shaped(advantage, [9.0] * 4, 0.2, 0.5, budget=False) for advantage in (1.0, -1.0)) / 2
    torch.testing.assert_close(mean, torch.full((4,), 0.1, dtype=torch.float64))
