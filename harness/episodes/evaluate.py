"""Evaluation: one sampled episode for each task of a panel, with draws that every run shares."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

from stepcredit.envs.contract import Benchmark
from stepcredit.envs.panel import Panel
from stepcredit.harness.engine.contract import Engine
from stepcredit.harness.episodes.rollout import rollout
from stepcredit.harness.model.policy import Policy
from stepcredit.harness.seeds import seed_for
from stepcredit.harness.spec import RolloutSpec
from stepcredit.methods.contract import Group

_AT_A_TIME = 512


@dataclass(frozen=True, slots=True)
class Protocol:
    """How a policy is evaluated."""

    panel: Panel
    temperature: float
    seed: int


def evaluate(
    policy: Policy,
    engine: Engine,
    benchmark: Benchmark,
    limits: RolloutSpec,
    protocol: Protocol,
    report: Callable[[int, int], None] = lambda done, total: None,
) -> list[Group]:
    """One trajectory a task, some hundreds at a time so that memory does not grow with the panel.

    The draws depend on the protocol's seed, the task and the turn alone: policies before and after training,
    or of two methods, meet the same luck, so that their differences are paired. `report` is told how many of
    how many episodes are done.
    """
    spec = limits.model_copy(update={"group": 1, "temperature": protocol.temperature})
    run_seed = seed_for("evaluation", protocol.seed)
    tasks, groups = protocol.panel.tasks, list[Group]()
    for first in range(0, len(tasks), _AT_A_TIME):
        report(first, len(tasks))
        part = tasks[first : first + _AT_A_TIME]
        groups += rollout(policy, engine, benchmark.make, part, spec, run_seed, 0, prefetch=benchmark.prefetch)
    report(len(tasks), len(tasks))
    return groups
