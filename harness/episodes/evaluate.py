"""Evaluation: one sampled episode for each task of a panel, with draws that every run shares."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

from stepcredit.envs.panel import Panel
from stepcredit.harness.episodes.player import Player
from stepcredit.harness.episodes.rollout import AT_A_TIME, rollout
from stepcredit.harness.seeds import Draws, seed_for
from stepcredit.harness.spec import RolloutSpec
from stepcredit.methods.contract import Group


@dataclass(frozen=True, slots=True)
class EvalProtocol:
    """How a policy is evaluated."""

    panel: Panel
    temperature: float
    seed: int


def evaluate(
    player: Player,
    limits: RolloutSpec,
    protocol: EvalProtocol,
    report: Callable[[int, int], None] = lambda done, total: None,
) -> list[Group]:
    """One trajectory per task, some hundreds at a time so that memory does not grow with the panel.

    The draws depend on the protocol's seed, the task and the turn alone: policies before and after training,
    or of two methods, meet the same luck, so that their differences are paired. `report` is told how many of
    how many episodes are done.
    """
    spec = limits.model_copy(update={"group": 1, "temperature": protocol.temperature})
    draws = Draws(seed_for("evaluation", protocol.seed), update=0)
    tasks, groups = protocol.panel.tasks, list[Group]()
    for first in range(0, len(tasks), AT_A_TIME):
        report(first, len(tasks))
        part = tasks[first : first + AT_A_TIME]
        groups += rollout(player, part, spec, draws)
    report(len(tasks), len(tasks))
    return groups
