"""Evaluation: one sampled episode for each task of a panel, with draws that every run shares."""

from __future__ import annotations

from dataclasses import dataclass

from envs.contract import Benchmark
from envs.panel import Panel
from harness.policy import Policy
from harness.rollout import rollout
from harness.sampling import Engine
from harness.seeds import seed_for
from harness.spec import RolloutSpec
from methods.contract import Group


@dataclass(frozen=True, slots=True)
class Protocol:
    """How a policy is evaluated."""

    panel: Panel
    temperature: float
    seed: int


def evaluate(
    policy: Policy, engine: Engine, benchmark: Benchmark, limits: RolloutSpec, protocol: Protocol
) -> list[Group]:
    """One trajectory a task.

    The draws depend on the protocol's seed, the task and the turn alone: policies before and after training,
    or of two methods, meet the same luck, so that their differences are paired.
    """
    spec = limits.model_copy(update={"group": 1, "temperature": protocol.temperature})
    run_seed = seed_for("evaluation", protocol.seed)
    tasks = protocol.panel.tasks
    return rollout(policy, engine, benchmark.make, tasks, spec, run_seed, 0, prefetch=benchmark.prefetch)
