"""Fresh episodes from the states that a trajectory went through."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass, replace
from functools import partial
from itertools import islice

from envs.contract import Benchmark
from envs.panel import Task
from harness.episode import Episode, SeedOf, open_episodes
from harness.errors import UserError
from harness.policy import Policy
from harness.rollout import play
from harness.sampling import Engine
from harness.seeds import continuation_seed, turn_seed
from harness.spec import RolloutSpec
from methods.contract import Group, Trajectory

_AT_A_TIME = 512

_Place = tuple[int, int, int]
"""Group, trajectory and step."""


@dataclass(frozen=True, slots=True)
class Continuations:
    """How many fresh episodes go on from each state, and what their draws are named after."""

    count: int
    run_seed: int
    update: int


def with_continuations(
    policy: Policy,
    engine: Engine,
    benchmark: Benchmark,
    tasks: Sequence[Task],
    groups: Sequence[Group],
    spec: RolloutSpec,
    wanted: Continuations,
) -> list[Group]:
    """The groups with `Trajectory.continuations`: returns of fresh episodes from the state before each step.

    States come back by taking the recorded actions again, and have the turns left that the trajectory had. All first
    steps of a group are taken in one state: its episodes are drawn once. Draws depend on (run seed, update, task,
    trajectory, step, sample, turn) and the weights; they share no seed with rollouts. Some hundreds of episodes are
    live at a time.

    Raises:
        UserError: an environment answers a recorded action differently now.
    """
    returns: dict[_Place, tuple[float, ...]] = {}
    branches = _branches(policy, benchmark, tasks, groups, spec, wanted)
    for part in _parts(branches, max(1, _AT_A_TIME // wanted.count)):
        play(policy, engine, [episode for _, episodes in part for episode in episodes], spec, benchmark.prefetch)
        for place, episodes in part:
            returns[place] = tuple(episode.finished().reward for episode in episodes)
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


def _branches(
    policy: Policy,
    benchmark: Benchmark,
    tasks: Sequence[Task],
    groups: Sequence[Group],
    spec: RolloutSpec,
    wanted: Continuations,
) -> Iterator[tuple[_Place, list[Episode]]]:
    """Episodes that are about to take the turn of each step, those of a shared first state once."""
    for g, (task, group) in enumerate(zip(tasks, groups, strict=True)):
        seed_of = partial(turn_seed, wanted.run_seed, wanted.update)
        bases = open_episodes(task, benchmark.make, policy.transcript, spec, seed_of)
        for i, trajectory in enumerate(group.trajectories):
            for k, step in enumerate(trajectory.steps):
                if k or not i:
                    yield (g, i, k), [bases[i].branch(_seeds(wanted, k, sample)) for sample in range(wanted.count)]
                _require_same(trajectory, k, bases[i].replay(step))


def _seeds(wanted: Continuations, step: int, sample: int) -> SeedOf:
    return partial(continuation_seed, wanted.run_seed, wanted.update, step, sample)


def _require_same(trajectory: Trajectory, k: int, answer: str) -> None:
    recorded = trajectory.steps[k].observation
    if answer != recorded:
        raise UserError(
            f"{trajectory.task_id!r}: step {k} of trajectory {trajectory.index} is answered with {answer!r} "
            f"and was answered with {recorded!r} before; continuations need an environment that repeats itself"
        )


def _parts(branches: Iterator[tuple[_Place, list[Episode]]], size: int) -> Iterator[list[tuple[_Place, list[Episode]]]]:
    while part := list(islice(branches, size)):
        yield part
