"""What a trajectory is rewarded with beyond its success."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import replace

from stepcredit.methods.contract import Group, Trajectory


def penalise_invalid(groups: Iterable[Group], penalty: float) -> list[Group]:
    """The groups with `penalty` taken from each reward per invalid action, except where no trajectory succeeds.

    A penalty inside an all-failure group would train on validity alone, at the price of success.
    """
    return [
        replace(group, trajectories=tuple(replace(t, reward=penalised_reward(t, penalty)) for t in group.trajectories))
        if any(trajectory.success for trajectory in group.trajectories)
        else group
        for group in groups
    ]


def penalised_reward(trajectory: Trajectory, penalty: float) -> float:
    """The reward less `penalty` for each invalid action."""
    return trajectory.reward - penalty * sum(not step.valid for step in trajectory.steps)
