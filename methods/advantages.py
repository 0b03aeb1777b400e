"""Group-relative advantages: the outcome part that methods share."""

from __future__ import annotations

import math
from collections.abc import Sequence

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


def advantages_of(group: Group, *, std: bool = True, eps: float) -> list[float]:
    """One advantage per trajectory, from the group's rewards.

    Raises:
        MethodError: a reward is not a finite number; names its task.
    """
    _require_finite(group)
    return group_advantages([trajectory.reward for trajectory in group.trajectories], std=std, eps=eps)


def outcome_credit(group: Group, *, std: bool = True, eps: float, rows: bool = False) -> list[Tensor]:
    """`step_advantages` on all response tokens: [T] for each trajectory."""
    values = step_advantages(group, std=std, eps=eps, rows=rows)
    return [by_steps(trajectory, own) for trajectory, own in zip(group.trajectories, values, strict=True)]


def step_advantages(group: Group, *, std: bool = True, eps: float, rows: bool = False) -> list[list[float]]:
    """One advantage for each step of each trajectory; all of a trajectory's are equal, unless there are rows.

    With `rows` each step is a row of its own, as in verl-agent (`compute_grpo_outcome_advantage` with
    `compute_mean_std_cross_steps`): a reward counts in mean and deviation as often as its trajectory has steps, and
    each step pays its own penalty (`apply_invalid_action_penalty`).

    Raises:
        MethodError: a reward is not a finite number; names its task.
    """
    if not rows:
        advantages = advantages_of(group, std=std, eps=eps)
        return [[value] * len(t.steps) for t, value in zip(group.trajectories, advantages, strict=True)]
    _require_finite(group)
    scores = [[t.reward - step.penalty for step in t.steps] or [t.reward] for t in group.trajectories]
    values = iter(group_advantages([score for own in scores for score in own], std=std, eps=eps))
    found = [[next(values) for _ in own] for own in scores]
    return [own[: len(t.steps)] for t, own in zip(group.trajectories, found, strict=True)]


def by_steps(trajectory: Trajectory, values: Sequence[float]) -> Tensor:
    """A value for each step on all tokens of its response, [T]."""
    lengths_K = torch.tensor([len(step.response_ids) for step in trajectory.steps], dtype=torch.long)
    return torch.repeat_interleave(torch.tensor(values, dtype=torch.float32), lengths_K)


def _require_finite(group: Group) -> None:
    for trajectory in group.trajectories:
        if not math.isfinite(trajectory.reward):
            raise MethodError(
                f"the environment gave trajectory {trajectory.index} of task {group.task_id!r} the reward "
                f"{trajectory.reward}; rewards must be finite, mend the environment"
            )


def constant(trajectory: Trajectory, value: float) -> Tensor:
    """The same credit for all response tokens, [T]."""
    return torch.full((trajectory.response_tokens,), value, dtype=torch.float32)
