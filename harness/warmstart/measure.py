"""What a warm start can do: success and invalid actions on held-out games, without and with hindsight."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass

from stepcredit.envs.contract import Benchmark
from stepcredit.envs.panel import Panel
from stepcredit.harness.episodes.player import Player
from stepcredit.harness.episodes.rollout import rollout
from stepcredit.harness.model.policy import Policy
from stepcredit.harness.seeds import Draws, seed_for
from stepcredit.harness.spec import RolloutSpec
from stepcredit.methods.contract import Trajectory


@dataclass(frozen=True, slots=True)
class Measurement:
    """Sampled episodes at temperature 1, one per task.

    Attributes:
        hindsight: none, true (a successful episode of the same task) or foreign (of another task).
        success: share of episodes that succeed.
        stderr: its binomial standard error.
        invalid: share of actions that the environment did not admit.
    """

    suite: str
    split: str
    panel_sha256: str
    hindsight: str
    episodes: int
    success: float
    stderr: float
    invalid: float
    turns: float


def measure(
    policy: Policy, benchmark: Benchmark, panel: Panel, limits: RolloutSpec, hints: Mapping[str, str]
) -> list[Measurement]:
    """Three measurements on the panel: no hindsight, true hindsight, a foreign task's hindsight.

    Args:
        hints: task id -> the actions of an episode that succeeds, as hindsight text.
    """
    ids = sorted(hints)
    foreign = {task: hints[other] for task, other in zip(ids, [*ids[1:], *ids[:1]], strict=True)}
    arms: Mapping[str, Mapping[str, str]] = {"none": {}, "true": hints, "foreign": foreign}
    return [measure_arm(policy, benchmark, panel, limits, name, shown) for name, shown in arms.items()]


def measure_arm(
    policy: Policy, benchmark: Benchmark, panel: Panel, limits: RolloutSpec, name: str, shown: Mapping[str, str]
) -> Measurement:
    """One of them, on the panel; `shown` maps task ids to hindsight texts."""
    seed = seed_for("measure", panel.sha256)
    one_each = limits.model_copy(update={"group": 1})
    groups = rollout(Player.of(policy, benchmark), panel.tasks, one_each, Draws(seed, update=0), shown)
    episodes = [trajectory for group in groups for trajectory in group.trajectories]
    success = _mean([float(episode.success) for episode in episodes])
    return Measurement(
        suite=panel.suite,
        split=panel.split,
        panel_sha256=panel.sha256,
        hindsight=name,
        episodes=len(episodes),
        success=success,
        stderr=math.sqrt(success * (1.0 - success) / len(episodes)),
        invalid=_invalid(episodes),
        turns=_mean([float(len(episode.steps)) for episode in episodes]),
    )


def _invalid(episodes: Sequence[Trajectory]) -> float:
    return _mean([float(not step.valid) for episode in episodes for step in episode.steps])


def _mean(values: Sequence[float]) -> float:
    return sum(values) / len(values) if values else math.nan
