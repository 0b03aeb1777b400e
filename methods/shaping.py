"""From gaps to advantages: token weights, mixing, the per-step budget (StepOPSD, arXiv 2605.27140)."""

from __future__ import annotations

from typing import Literal

import torch
from torch import Tensor

from stepcredit.methods.advantages import constant
from stepcredit.methods.contract import Credit, MethodError, Trajectory

_LARGEST_EXPONENT = 50.0
_BUDGET_EPS = 1e-6
_BUDGET_RANGE = (0.5, 2.0)

WeightForm = Literal["sigmoid", "exp"]


def shape_advantages(
    advantage: float,
    gap_T: Tensor,
    step_T: Tensor,
    *,
    alpha_clip: float,
    lambda_mix: float,
    weight: WeightForm = "sigmoid",
    budget: bool,
) -> Tensor:
    """Shaped advantages of one trajectory, [T], in the precision of the gap and without gradient.

    w_t = clip(2 sigmoid(sign(A) D_t), 1 - alpha, 1 + alpha) on target spans, 1 elsewhere;
    A'_t = (1 - lambda) A + lambda w_t A; then the per-step budget. The sign of A is kept.

    Args:
        advantage: A, the trajectory's group-relative advantage.
        gap_T: [T] D_t, teacher minus student log-probability of each response token.
        step_T: [T] the step each token belongs to, -1 outside target spans.
        alpha_clip: clip radius of w around 1, in [0, 1).
        lambda_mix: share of the weighted advantage, in [0, 1]; 0 returns A to the bit.
        weight: form of w; `exp` puts exp in place of 2 sigmoid.
        budget: whether steps share their credit equally, see `equal_step_mean_abs`.

    Raises:
        MethodError: a radius or share out of range, or gap and steps of different lengths.
    """
    _require_usable(gap_T, step_T, alpha_clip, lambda_mix)
    if lambda_mix == 0.0:
        return torch.full_like(gap_T, advantage, requires_grad=False)
    weight_T = raw_weights(advantage, gap_T, weight).clamp(1.0 - alpha_clip, 1.0 + alpha_clip)
    weight_T = torch.where(step_T >= 0, weight_T, torch.ones_like(weight_T))
    shaped_T = (1.0 - lambda_mix) * advantage + lambda_mix * weight_T * advantage
    return equal_step_mean_abs(shaped_T, step_T) if budget else shaped_T


def decayed(share: float, update: int, over: int | None) -> float:
    """The share at an update: as it is at 0, falling linearly to 0 at update `over`; None keeps it."""
    return share if over is None else share * max(0.0, 1.0 - update / over)


def raw_weights(advantage: float, gap_T: Tensor, form: WeightForm) -> Tensor:
    """2 sigmoid(sign(A) D_t), or exp(sign(A) D_t); [T]. The exponent is clamped first, so that no gap overflows."""
    sign = (advantage > 0) - (advantage < 0)
    signed_T = (sign * gap_T.detach()).clamp(-_LARGEST_EXPONENT, _LARGEST_EXPONENT)
    return 2.0 * signed_T.sigmoid() if form == "sigmoid" else signed_T.exp()


def tilt_advantage(advantage: float, gap_T: Tensor, *, clip: float, lambda_mix: float) -> Tensor:
    """A'_t = A ((1 - lambda) + lambda clip(exp(sign(A) D_t), 1 - clip, 1 + clip)), [T] (RLSD, arXiv 2604.03128)."""
    weight_T = raw_weights(advantage, gap_T, "exp").clamp(1.0 - clip, 1.0 + clip)
    return advantage * ((1.0 - lambda_mix) + lambda_mix * weight_T)


def tilted(trajectory: Trajectory, advantage: float, gap_T: Tensor | None, *, clip: float, share: float) -> Credit:
    """RLSD's credit of a trajectory: GRPO's where there is no gap, see `tilt_advantage`."""
    numbers = {"lambda_mix": share, "taught_share": float(gap_T is not None)}
    if gap_T is None:
        return Credit(constant(trajectory, advantage), diagnostics=numbers)
    numbers |= weight_diagnostics(advantage, gap_T, alpha_clip=clip, form="exp")
    return Credit(tilt_advantage(advantage, gap_T, clip=clip, lambda_mix=share), diagnostics=numbers)


def equal_step_mean_abs(shaped_T: Tensor, step_T: Tensor) -> Tensor:
    """The budget: moves the mean |A'| of each step's target tokens towards their mean over steps; [T].

    m_k = mean |A'_t| over step k's target tokens, m = mean_k m_k, A'_t *= clamp(m / (m_k + 1e-6), 1/2, 2) on step k's
    target tokens. Fewer than two steps with target tokens: nothing changes.
    """
    target_T = step_T >= 0
    steps_K, place_N, count_K = step_T[target_T].unique(return_inverse=True, return_counts=True)
    if len(steps_K) < 2:
        return shaped_T
    mean_K = shaped_T.new_zeros(len(steps_K)).index_add(0, place_N, shaped_T[target_T].abs()) / count_K
    scale_K = (mean_K.mean() / (mean_K + _BUDGET_EPS)).clamp(*_BUDGET_RANGE)
    scaled_T = shaped_T.clone()
    scaled_T[target_T] *= scale_K[place_N]
    return scaled_T


def weight_diagnostics(advantage: float, gap_N: Tensor, *, alpha_clip: float, form: WeightForm) -> dict[str, float]:
    """Of a trajectory's target tokens: the gap's mean, its mean size, and the share of weights that are clipped."""
    if not len(gap_N):
        return {}
    clipped_N = (raw_weights(advantage, gap_N, form) - 1.0).abs() > alpha_clip
    return {
        "gap_mean_target": float(gap_N.mean()),
        "gap_abs_target": float(gap_N.abs().mean()),
        "weight_clipped_share": float(clipped_N.float().mean()),
    }


def _require_usable(gap_T: Tensor, step_T: Tensor, alpha_clip: float, lambda_mix: float) -> None:
    if gap_T.ndim != 1 or gap_T.shape != step_T.shape:
        raise MethodError(
            f"gap_T has shape {tuple(gap_T.shape)} and step_T {tuple(step_T.shape)}; "
            "both must be [T], one number per response token"
        )
    if not 0.0 <= alpha_clip < 1.0:
        raise MethodError(f"alpha_clip is {alpha_clip}; choose it at least 0 and below 1")
    if not 0.0 <= lambda_mix <= 1.0:
        raise MethodError(f"lambda_mix is {lambda_mix}; choose it between 0 and 1")
