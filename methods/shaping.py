"""StepOPSD's mathematics: token weights, mixing, the per-step budget (arXiv 2605.27140)."""

from __future__ import annotations

from typing import Literal

import torch
from torch import Tensor

_LARGEST_EXPONENT = 50.0
_BUDGET_EPS = 1e-6
_BUDGET_RANGE = (0.5, 2.0)

WeightForm = Literal["sigmoid", "exp"]


def token_weights(advantage: float, gap_T: Tensor, *, alpha_clip: float, form: WeightForm) -> Tensor:
    """w_t = clip(2 sigmoid(sign(A) D_t), 1 - alpha, 1 + alpha), or exp in place of 2 sigmoid; [T].

    The exponent is clamped first, so that no gap overflows.
    """
    sign = (advantage > 0) - (advantage < 0)
    signed_T = (sign * gap_T.detach()).clamp(-_LARGEST_EXPONENT, _LARGEST_EXPONENT)
    raw_T = 2.0 * signed_T.sigmoid() if form == "sigmoid" else signed_T.exp()
    return raw_T.clamp(1.0 - alpha_clip, 1.0 + alpha_clip)


def mixed_advantages(advantage: float, weight_T: Tensor, lambda_mix: float) -> Tensor:
    """A'_t = (1 - lambda) A + lambda w_t A, [T]; at lambda 0 it is A to the bit."""
    if lambda_mix == 0.0:
        return torch.full_like(weight_T, advantage)
    return (1.0 - lambda_mix) * advantage + lambda_mix * weight_T * advantage


def equal_step_mean_abs(shaped_T: Tensor, step_T: Tensor) -> Tensor:
    """The budget: every step's target span gets the mean over steps of the spans' mean |A'|, within [1/2, 2]; [T].

    m_k = mean |A'_t| over step k's target tokens, m = mean_k m_k, A'_t *= clamp(m / (m_k + 1e-6), 1/2, 2) on step k's
    target tokens. Fewer than two steps with target tokens: nothing changes.
    """
    target_N = step_T >= 0
    steps = step_T[target_N].unique()
    if len(steps) < 2:
        return shaped_T
    means_K = torch.stack([shaped_T[step_T == step].abs().mean() for step in steps])
    scales_K = (means_K.mean() / (means_K + _BUDGET_EPS)).clamp(*_BUDGET_RANGE)
    scaled_T = shaped_T.clone()
    scaled_T[target_N] *= scales_K[torch.searchsorted(steps, step_T[target_N])]
    return scaled_T
