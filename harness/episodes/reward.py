"""What methods see of an episode's reward: scaled, less a penalty for invalid actions."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import replace

from stepcredit.harness.spec import ObjectiveSpec, Penalised
from stepcredit.methods.contract import Group, Trajectory


def paid(groups: Iterable[Group], objective: ObjectiveSpec) -> list[Group]:
    """The groups with the rewards that methods see, and what each step costs where steps are penalised."""
    return [_paid(group, objective) for group in groups]


def _paid(group: Group, objective: ObjectiveSpec) -> Group:
    penalty, cost = penalty_in(group, objective), _cost_of_steps(objective)
    rewards = (pay(t, objective.reward_scale, penalty) for t in group.trajectories)
    paired = zip(group.trajectories, rewards, strict=True)
    return replace(group, trajectories=tuple(replace(_costed(t, cost), reward=reward) for t, reward in paired))


def _cost_of_steps(objective: ObjectiveSpec) -> float:
    return objective.invalid_penalty if objective.penalised is Penalised.STEP else 0.0


def _costed(trajectory: Trajectory, cost: float) -> Trajectory:
    steps = tuple(replace(step, penalty=cost * (not step.valid)) for step in trajectory.steps)
    return replace(trajectory, steps=steps) if cost else trajectory


def penalty_in(group: Group, objective: ObjectiveSpec) -> float:
    """What an invalid action costs its episode; nothing where no trajectory of the group succeeds.

    There a penalty would train on validity alone, at the price of success.
    """
    if objective.penalised is Penalised.STEP:
        return 0.0
    return objective.invalid_penalty * any(trajectory.success for trajectory in group.trajectories)


def pay(trajectory: Trajectory, scale: float, penalty: float) -> float:
    """The scaled reward less `penalty` for each invalid action."""
    return scale * trajectory.reward - penalty * sum(not step.valid for step in trajectory.steps)
