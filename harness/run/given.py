"""What a method is given beyond the rollouts: reference trajectories, fresh episodes from their states."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import replace

from stepcredit.envs.contract import Benchmark, EnvFailure
from stepcredit.envs.panel import Task
from stepcredit.harness.episodes.continuations import Continuations, with_continuations
from stepcredit.harness.episodes.player import Player
from stepcredit.harness.episodes.untold import untold
from stepcredit.harness.episodes.watch import Watch
from stepcredit.harness.errors import UserError
from stepcredit.harness.seeds import Draws
from stepcredit.harness.spec import RunSpec
from stepcredit.methods.contract import GoldenTurn, Group, Needs


def complete(
    groups: Sequence[Group],
    tasks: Sequence[Task],
    needs: Needs,
    player: Player,
    spec: RunSpec,
    update: int,
    skills: Mapping[str, str],
) -> list[Group]:
    """The update's groups with what the method needs; most need nothing.

    Raises:
        EnvError: the benchmark has no reference trajectory for a task.
        UserError: one does not succeed, an environment breaks or does not repeat itself, or tasks are in no words.
    """
    completed, limit_s = list(groups), spec.rollout.env_timeout_s
    if needs.golden:
        completed = [
            replace(group, golden=golden_turns(player.benchmark, group.task_id, limit_s)) for group in completed
        ]
    if skills:
        pairs = zip(completed, tasks, strict=True)
        completed = [replace(group, skill=skills[task.subset]) for group, task in pairs]
    if needs.foreign:
        won = [(g.task_id, t) for g in groups if (t := next((t for t in g.trajectories if t.success), None))]
        completed = [replace(g, foreign=tuple(t for task, t in won if task != g.task_id)) for g in completed]
    if needs.untold:
        completed = untold(completed, player.benchmark, player.policy.transcript)
    if needs.continuations:
        wanted = Continuations(needs.continuations, Draws(spec.seed, update), spec.objective)
        completed = with_continuations(player, tasks, completed, spec.rollout, wanted)
    return completed


def golden_turns(benchmark: Benchmark, task_id: str, limit_s: float | None = None) -> tuple[GoldenTurn, ...]:
    """The benchmark's reference actions, taken in its environment, each of which may take so many seconds.

    Raises:
        EnvError: it has none for the task.
        UserError: they do not succeed, or the environment breaks.
    """
    actions, env = benchmark.solution(task_id), benchmark.make(task_id)
    turns, success = [], False
    try:
        with Watch(limit_s) as watch:
            watch.call(task_id, env.reset)
            for action in actions:
                result = watch.call(task_id, env.step, action)
                turns.append(GoldenTurn(action, result.observation.text))
                success = result.success
    except EnvFailure as failure:
        raise UserError(
            f"the environment broke in step {len(turns)} of the reference trajectory of {task_id!r}: {failure}; "
            "run the same command again to resume"
        ) from failure
    if not success:
        raise UserError(
            f"the reference trajectory of {task_id!r} does not succeed: {'; '.join(actions)}; choose method options "
            "that need none, or other settings of the benchmark"
        )
    return tuple(turns)
