"""Group-relative advantages: the outcome part that methods share."""

from __future__ import annotations

import math
from collections.abc import Sequence
from itertools import accumulate

import torch
from torch import Tensor

from stepcredit.methods.contract import Group, MethodError, Trajectory


def group_advantages(rewards: Sequence[float], *, std: bool, eps: float) -> list[float]:
    """GRPO's advantages of a group (arXiv 2402.03300, outcome supervision).

    A_i = (R_i - mean R) / (std R + eps); without `std` the numerator alone (Dr. GRPO, arXiv 2503.20783). The paper
    does not say which standard deviation; this is the sample's (n - 1), as in verl. Sums are exact, so the order
    of the rewards changes no bit. Equal rewards, and groups of one, give exact zeros.

    Raises:
        MethodError: a reward is not a finite number.
    """
    for index, reward in enumerate(rewards):
        if not math.isfinite(reward):
            raise MethodError(f"reward {index} of a group is {reward}; rewards must be finite, mend what gave it")
    if len(set(rewards)) < 2:
        return [0.0] * len(rewards)
    mean = math.fsum(rewards) / len(rewards)
    deviations = [reward - mean for reward in rewards]
    if not std:
        return deviations
    spread = math.sqrt(math.fsum(deviation**2 for deviation in deviations) / (len(rewards) - 1))
    return [deviation / (spread + eps) for deviation in deviations]


def advantages_of(group: Group, *, std: bool = True, eps: float, rows: bool = False) -> list[float]:
    """One advantage per trajectory, from the group's rewards.

    With `rows` each reward counts in mean and deviation as often as its trajectory has steps, as in verl-agent, whose
    rows are steps (`compute_mean_std_cross_steps`).

    Raises:
        MethodError: a reward is not a finite number; names its task.
    """
    for trajectory in group.trajectories:
        if not math.isfinite(trajectory.reward):
            raise MethodError(
                f"the environment gave trajectory {trajectory.index} of task {group.task_id!r} the reward "
                f"{trajectory.reward}; rewards must be finite, mend the environment"
            )
    counts = [max(len(trajectory.steps), 1) if rows else 1 for trajectory in group.trajectories]
    repeated = [t.reward for t, count in zip(group.trajectories, counts, strict=True) for _ in range(count)]
    advantages = group_advantages(repeated, std=std, eps=eps)
    return [advantages[end - count] for end, count in zip(accumulate(counts), counts, strict=True)]


def constant(trajectory: Trajectory, value: float) -> Tensor:
    """The same credit for all response tokens, [T]."""
    return torch.full((trajectory.response_tokens,), value, dtype=torch.float32)
