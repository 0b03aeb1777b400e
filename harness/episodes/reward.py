"""What methods see of an episode's reward: scaled, less a penalty for invalid actions."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import replace

from stepcredit.harness.spec import ObjectiveSpec
from stepcredit.methods.contract import Group, Trajectory


def paid(groups: Iterable[Group], objective: ObjectiveSpec) -> list[Group]:
    """The groups with the rewards that methods see; without penalties where no trajectory of a group succeeds.

    A penalty inside an all-failure group would train on validity alone, at the price of success.
    """
    return [_paid(group, objective) for group in groups]


def _paid(group: Group, objective: ObjectiveSpec) -> Group:
    penalty = penalty_in(group, objective)
    rewards = (pay(t, objective.reward_scale, penalty) for t in group.trajectories)
    paired = zip(group.trajectories, rewards, strict=True)
    return replace(group, trajectories=tuple(replace(t, reward=reward) for t, reward in paired))


def penalty_in(group: Group, objective: ObjectiveSpec) -> float:
    """What an invalid action costs in the group."""
    return objective.invalid_penalty * any(trajectory.success for trajectory in group.trajectories)


def pay(trajectory: Trajectory, scale: float, penalty: float) -> float:
    """The scaled reward less `penalty` for each invalid action."""
    return scale * trajectory.reward - penalty * sum(not step.valid for step in trajectory.steps)
