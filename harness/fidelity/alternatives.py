"""What else could have been done in a state, and what it would have been worth: VinePPO's test of credit, by actions.

Fresh episodes that go on from a state begin with actions of the policy's own: those that begin alike say what that
action is worth (arXiv 2410.01679, section 6, asks the same of next steps in a proof).
"""

from __future__ import annotations

import random
from collections.abc import Iterator, Sequence
from dataclasses import dataclass

import numpy as np

from stepcredit.envs.panel import Task
from stepcredit.harness.episodes.continuations import Continuations, Place, episodes_from
from stepcredit.harness.episodes.player import Player
from stepcredit.harness.seeds import Draws
from stepcredit.harness.spec import RolloutSpec
from stepcredit.methods.contract import Group, Step, Trajectory

_MOST, _FEWEST_SAMPLES = 5, 8
"""Actions of a state that are compared, the likeliest ones, and episodes that each must begin."""


@dataclass(frozen=True, slots=True)
class Alternative:
    """An action in a state.

    Attributes:
        step: the first turn in which it was drawn.
        value: mean reward of the episodes that begin with it, `count` of them.
        stderr: of it.
    """

    step: Step
    value: float
    stderr: float
    count: int


@dataclass(frozen=True, slots=True)
class Crossroads:
    """A state before a step of a trajectory, and two actions or more that the policy may take there."""

    trajectory: int
    step: int
    options: tuple[Alternative, ...]


def crossroads(
    player: Player, task: Task, group: Group, spec: RolloutSpec, draws: Draws, samples: int
) -> list[Crossroads]:
    """One state of each trajectory of the group, drawn with a seed of its own; those with a choice.

    Raises:
        UserError: the environment does not repeat itself.
    """
    chosen = {(0, index, _drawn(trajectory)) for index, trajectory in enumerate(group.trajectories)}
    wanted = Continuations(samples, draws)

    def of_place(place: Place) -> range:
        return range(samples if place in chosen else 0)

    found = episodes_from(player, [task], [group], spec, wanted, of_place)
    roads = (Crossroads(i, k, tuple(_options(k, episodes))) for (_, i, k), episodes in found if episodes)
    return [road for road in roads if len(road.options) > 1]


def _drawn(trajectory: Trajectory) -> int:
    """Not the first step, which is the same for the whole group."""
    rng = random.Random(f"crossroads:{trajectory.steps[0].seed}")
    return rng.randrange(1, max(2, len(trajectory.steps)))


def _options(step: int, episodes: Sequence[Trajectory]) -> Iterator[Alternative]:
    begun: dict[str, list[Trajectory]] = {}
    for episode in episodes:
        begun.setdefault(episode.steps[step].action_text, []).append(episode)
    often = sorted(begun.values(), key=len, reverse=True)[:_MOST]
    for own in often:
        if len(own) >= _FEWEST_SAMPLES and own[0].steps[step].action is not None:
            rewards = np.array([episode.reward for episode in own])
            share = (rewards.sum() + 1.0) / (len(own) + 2.0)
            stderr = float(np.sqrt(share * (1.0 - share) / len(own)))
            yield Alternative(own[0].steps[step], float(rewards.mean()), stderr, len(own))
