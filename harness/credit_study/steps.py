"""What is known of each step: its truth, and the credit that each case gives it."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import asdict, dataclass, replace

import numpy as np
from numpy.typing import NDArray

from stepcredit.envs.panel import Task
from stepcredit.harness.credit_study.cases import Case
from stepcredit.harness.engine.rescore import Drawn, ModelRescorer
from stepcredit.harness.episodes.player import Player
from stepcredit.harness.episodes.reward import paid
from stepcredit.harness.fidelity.truth import StepTruth
from stepcredit.harness.run.given import complete
from stepcredit.harness.run.kept import Kept
from stepcredit.harness.run.train import credits_of
from stepcredit.harness.setup.parts import Parts
from stepcredit.harness.setup.skills import load_skills
from stepcredit.harness.spec import RunSpec
from stepcredit.methods.contract import Credit, Group, Method, Trajectory
from stepcredit.methods.hindsight import TaughtConfig


@dataclass(frozen=True, slots=True)
class StepCredit:
    """A case's verdict on a step: the mean credit of its action's tokens, tags included, and their sum.

    The whole response's where there is no action. `served` says whether the arm had something to show. Credit is the
    weight of the tokens' policy gradient, and what a distilling loss adds to it.
    """

    case: str
    method: str
    arm: str
    task_id: str
    trajectory: int
    step: int
    credit: float
    summed: float
    served: bool


def step_credits(
    case: Case, groups: Sequence[Group], tasks: Sequence[Task], player: Player, spec: RunSpec, parts: Parts
) -> Iterator[StepCredit]:
    """What the case says of every step of the groups; all weights that a teacher may have are the policy's own.

    Raises:
        EnvError: the benchmark has no reference trajectory for an arm that needs one.
    """
    method = case.method
    own = replace(parts, method=method, skills=load_skills(method.needs.skills, parts.benchmark.subsets))
    kept = Kept.of(spec, own)
    drawn = Drawn.now_by(player.engine)
    rescorer = ModelRescorer(
        parts.policy, kept.teachers, spec.optim.token_budget, spec.rollout.temperature, drawn=drawn
    )
    with kept.teaching():
        given = paid(complete(groups, tasks, method.needs, player, spec, 0, own.skills), spec.objective)
        credits = credits_of(method, given, rescorer, 0)
    for group, verdicts in zip(given, credits, strict=True):
        for index, (trajectory, credit) in enumerate(zip(group.trajectories, verdicts, strict=True)):
            served = _served(method, group, index)
            for step, numbers in enumerate(_by_step(trajectory, credit)):
                yield StepCredit(
                    case.name,
                    method.name,
                    case.arm,
                    group.task_id,
                    trajectory.index,
                    step,
                    float(numbers.mean()) if len(numbers) else 0.0,
                    float(numbers.sum()),
                    served,
                )


def step_rows(
    task: Task, group: Group, truths: Sequence[Sequence[StepTruth]]
) -> Iterator[dict[str, str | int | float | bool]]:
    """What is true of each step of the group, whoever judges it."""
    for trajectory, own in zip(group.trajectories, truths, strict=True):
        for number, (step, truth) in enumerate(zip(trajectory.steps, own, strict=True)):
            known = {name: value for name, value in asdict(truth).items() if name != "halves"}
            yield {
                "task_id": task.id,
                "subset": task.subset,
                "trajectory": trajectory.index,
                "step": number,
                "steps": len(trajectory.steps),
                "success": trajectory.success,
                "mixed": group.mixed,
                "valid": step.valid,
                "action": step.action_text,
                **known,
                "half_1": truth.halves[0],
                "half_2": truth.halves[1],
            }


def _by_step(trajectory: Trajectory, credit: Credit) -> Iterator[NDArray[np.float64]]:
    """The credit of each step's action's tokens."""
    total_T = credit.advantage_T.double()
    if credit.distill_T is not None:
        total_T = total_T + credit.distill_T.double()
    offset = 0
    for step in trajectory.steps:
        own_T = total_T[offset : offset + len(step.response_ids)]
        span = step.tagged or step.action
        yield (own_T[span.start : span.end] if span else own_T).numpy()
        offset += len(step.response_ids)


def _served(method: Method, group: Group, index: int) -> bool:
    config = method.config
    if not isinstance(config, TaughtConfig) or config.hindsight == "none":
        return True
    return config.block_for(group, index) is not None
