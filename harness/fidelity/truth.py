"""What each step was worth: from fresh continuations of the states before and after it."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from itertools import pairwise

import numpy as np

from stepcredit.envs.panel import Task
from stepcredit.harness.episodes.continuations import Continuations, Place, returns_from
from stepcredit.harness.episodes.player import Player
from stepcredit.harness.seeds import Draws
from stepcredit.harness.spec import RolloutSpec
from stepcredit.methods.contract import Group, Trajectory

_UNSEEN = 1.0
"""Successes and failures, one each, that are added to what was seen when it is guessed how a state's returns vary."""


@dataclass(frozen=True, slots=True)
class Precision:
    """How well the true advantages are to be known.

    Attributes:
        stderr: standard error of a step's advantage that is aimed at.
        first: continuations of each state to begin with; from these follows how many more it needs.
        most: continuations of a state at most.
    """

    stderr: float = 0.03
    first: int = 16
    most: int = 600

    def needed(self, returns: Sequence[float]) -> int:
        """Continuations of a state whose first ones earned that, each of 0 or 1: two states make an advantage."""
        share = (sum(returns) + _UNSEEN) / (len(returns) + 2 * _UNSEEN)
        wanted = share * (1.0 - share) / (self.stderr**2 / 2.0)
        return min(self.most, max(self.first, math.ceil(wanted)))


@dataclass(frozen=True, slots=True)
class StepTruth:
    """A step's true advantage A*_k = V(s_{k+1}) - V(s_k), without discount; luck in what the step led to is in it.

    Attributes:
        value: V of the state before it.
        advantage: A*, from all continuations.
        stderr: of it.
        halves: A* from every other continuation, and from the rest.
        continuations: of the state before it.
    """

    value: float
    advantage: float
    stderr: float
    halves: tuple[float, float]
    continuations: int


@dataclass(frozen=True, slots=True)
class _Known:
    """A state's value, its variance, and its value from either half of the continuations."""

    mean: float
    variance: float
    halves: tuple[float, float]
    count: int

    @classmethod
    def of(cls, returns: Sequence[float]) -> _Known:
        found = np.asarray(returns, dtype=np.float64)
        share = (found.sum() + _UNSEEN) / (len(found) + 2 * _UNSEEN)
        even, odd = float(found[::2].mean()), float(found[1::2].mean())
        return cls(float(found.mean()), float(share * (1.0 - share) / len(found)), (even, odd), len(found))

    @classmethod
    def sure(cls, reward: float) -> _Known:
        return cls(reward, 0.0, (reward, reward), 0)


def true_steps(
    player: Player, task: Task, group: Group, spec: RolloutSpec, draws: Draws, precision: Precision
) -> list[list[StepTruth]]:
    """For each trajectory of the group the truth of its steps; rewards are 0 or 1.

    Raises:
        UserError: the environment does not repeat itself.
    """
    wanted = Continuations(precision.first, draws)
    first = returns_from(player, [task], [group], spec, wanted, lambda _: range(precision.first))
    more = {place: range(precision.first, precision.needed(returns)) for place, returns in first.items()}
    rest = returns_from(player, [task], [group], spec, wanted, more.__getitem__)
    known = {place: _Known.of([*first[place], *rest[place]]) for place in first}
    return [list(_steps(known, index, trajectory)) for index, trajectory in enumerate(group.trajectories)]


def _steps(known: Mapping[Place, _Known], index: int, trajectory: Trajectory) -> Sequence[StepTruth]:
    own = [known[0, index if k else 0, k] for k in range(len(trajectory.steps))]
    states = [*own, _Known.sure(trajectory.reward)]
    return [_between(before, after) for before, after in pairwise(states)]


def _between(before: _Known, after: _Known) -> StepTruth:
    return StepTruth(
        before.mean,
        after.mean - before.mean,
        math.sqrt(before.variance + after.variance),
        (after.halves[0] - before.halves[0], after.halves[1] - before.halves[1]),
        before.count,
    )
