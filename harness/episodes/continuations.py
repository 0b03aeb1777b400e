"""Fresh episodes from the states that a trajectory went through."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, field, replace

import numpy as np

from stepcredit.envs.panel import Task
from stepcredit.harness.episodes.episode import Episode, open_episodes
from stepcredit.harness.episodes.player import Player
from stepcredit.harness.episodes.reward import pay, penalty_in
from stepcredit.harness.episodes.rollout import AT_A_TIME, play
from stepcredit.harness.errors import UserError
from stepcredit.harness.seeds import Draws
from stepcredit.harness.spec import ObjectiveSpec, RolloutSpec
from stepcredit.methods.contract import Group, Trajectory

Place = tuple[int, int, int]
"""Group, trajectory and step."""


@dataclass(frozen=True, slots=True)
class Continuations:
    """How many fresh episodes go on from each state, and what their draws are named after.

    Attributes:
        objective: its scale of rewards and its penalty, which counts the invalid actions of the episode, its past
            included: returns are in the unit of the rewards that methods see.
    """

    count: int
    draws: Draws
    objective: ObjectiveSpec = field(default_factory=ObjectiveSpec)


def with_continuations(
    player: Player, tasks: Sequence[Task], groups: Sequence[Group], spec: RolloutSpec, wanted: Continuations
) -> list[Group]:
    """The groups with `Trajectory.continuations`: returns of fresh episodes from the state before each step.

    States come back by taking the recorded actions again, and have the turns left that the trajectory had. All first
    steps of a group are taken in one state: its episodes are drawn once. Draws depend on (run seed, update, task,
    trajectory, step, sample, turn) and the weights; they share no seed with rollouts. Some hundreds of episodes are
    live at a time.

    Raises:
        UserError: an environment does not show or answer now what was recorded.
    """
    everywhere = range(wanted.count)
    returns = returns_from(player, tasks, groups, spec, wanted, lambda _: everywhere)
    return [
        replace(
            group,
            trajectories=tuple(
                replace(t, continuations=tuple(returns[g, i if k else 0, k] for k in range(len(t.steps))))
                for i, t in enumerate(group.trajectories)
            ),
        )
        for g, group in enumerate(groups)
    ]


def returns_from(
    player: Player,
    tasks: Sequence[Task],
    groups: Sequence[Group],
    spec: RolloutSpec,
    wanted: Continuations,
    samples: Callable[[Place], range],
) -> dict[Place, tuple[float, ...]]:
    """What fresh episodes from each state earn; which of its samples are drawn is asked for state by state.

    The first step of a group stands for all of its first steps. See `with_continuations`.
    """
    scale, penalties = wanted.objective.reward_scale, [penalty_in(group, wanted.objective) for group in groups]
    return {
        place: tuple(pay(episode, scale, penalties[place[0]]) for episode in episodes)
        for place, episodes in episodes_from(player, tasks, groups, spec, wanted, samples)
    }


def episodes_from(
    player: Player,
    tasks: Sequence[Task],
    groups: Sequence[Group],
    spec: RolloutSpec,
    wanted: Continuations,
    samples: Callable[[Place], range],
) -> Iterator[tuple[Place, tuple[Trajectory, ...]]]:
    """Fresh episodes from each state, with the past that they share; see `returns_from`."""
    for part in _parts(_branches(player, tasks, groups, spec, wanted, samples)):
        play(player, [episode for _, episodes in part for episode in episodes], spec)
        for place, episodes in part:
            yield place, tuple(episode.finished() for episode in episodes)


def _branches(
    player: Player,
    tasks: Sequence[Task],
    groups: Sequence[Group],
    spec: RolloutSpec,
    wanted: Continuations,
    samples: Callable[[Place], range],
) -> Iterator[tuple[Place, list[Episode]]]:
    """Episodes that are about to take the turn of each step, those of a shared first state once."""
    for g, (task, group) in enumerate(zip(tasks, groups, strict=True)):
        bases = open_episodes(task, player.benchmark.make, player.policy.transcript, spec, wanted.draws.of_turn)
        for i, trajectory in enumerate(group.trajectories):
            base = bases[i]
            for k, step in enumerate(trajectory.steps):
                if not np.array_equal(base.prompt, step.prompt_ids):
                    raise _changed(trajectory, f"before step {k} it shows something else than it did")
                if k or not i:
                    yield (g, i, k), [base.branch(wanted.draws.of_branch(k, n)) for n in samples((g, i, k))]
                answer = base.replay(step)
                if answer != step.observation:
                    raise _changed(trajectory, f"step {k} is answered with {answer!r}, not with {step.observation!r}")
            if base.stop is not trajectory.stop:
                raise _changed(trajectory, f"it ends with {base.stop}, not with {trajectory.stop}")


def _changed(trajectory: Trajectory, how: str) -> UserError:
    return UserError(
        f"trajectory {trajectory.index} of {trajectory.task_id!r} was played again and {how}; continuations need an "
        "environment that repeats itself, so choose a method without them, or mend the environment"
    )


def _parts(branches: Iterator[tuple[Place, list[Episode]]]) -> Iterator[list[tuple[Place, list[Episode]]]]:
    part: list[tuple[Place, list[Episode]]] = []
    live = 0
    for branch in branches:
        if part and live + len(branch[1]) > AT_A_TIME:
            yield part
            part, live = [], 0
        part.append(branch)
        live += len(branch[1])
    if part:
        yield part
