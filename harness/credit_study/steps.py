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
from stepcredit.methods.contract import Credit, Group, Method, Span, Trajectory
from stepcredit.methods.hindsight import TaughtConfig


@dataclass(frozen=True, slots=True)
class StepCredit:
    """A case's verdict on a step: the mean credit of its action's tokens, tags included, and their sum.

    The whole response's where there is no action. `served` says whether the arm had something to show. Credit is the
    weight of the tokens' policy gradient, and what a distilling loss adds to it. `mass` is the sum of its amounts over
    the whole response, `thought` over the reasoning.
    """

    case: str
    method: str
    arm: str
    task_id: str
    trajectory: int
    step: int
    credit: float
    summed: float
    mass: float
    thought: float
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
            for number, given_T in enumerate(_by_step(trajectory, credit)):
                step = trajectory.steps[number]
                acted = _part(given_T, step.tagged or step.action or Span(0, len(given_T)))
                yield StepCredit(
                    case.name,
                    case.label,
                    case.arm,
                    group.task_id,
                    trajectory.index,
                    number,
                    float(acted.mean()) if len(acted) else 0.0,
                    float(acted.sum()),
                    float(abs(given_T).sum()),
                    float(abs(_part(given_T, step.think or Span(0, 0))).sum()),
                    served,
                )


def step_rows(
    task: Task, group: Group, truths: Sequence[Sequence[StepTruth]]
) -> Iterator[dict[str, str | int | float | bool]]:
    """What is true of each step of the group, whoever judges it."""
    for trajectory, own in zip(group.trajectories, truths, strict=True):
        parting = _parting(group, trajectory)
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
                "refused": not step.valid,
                "parting": number == parting,
                **known,
                "half_1": truth.halves[0],
                "half_2": truth.halves[1],
            }


def _parting(group: Group, trajectory: Trajectory) -> int | None:
    """The first step that the first successful peer did otherwise; None without a peer, or if there is none."""
    peer = next((other for other in group.trajectories if other.success and other is not trajectory), None)
    if peer is None:
        return None
    own, others = ([step.action_text for step in one.steps] for one in (trajectory, peer))
    return next((k for k, action in enumerate(own) if others[k : k + 1] != [action]), None)


def _by_step(trajectory: Trajectory, credit: Credit) -> Iterator[NDArray[np.float64]]:
    """The credit of each step's response tokens."""
    total_T = credit.advantage_T.double()
    if credit.distill_T is not None:
        total_T = total_T + credit.distill_T.double()
    for part_T in total_T.split([len(step.response_ids) for step in trajectory.steps]):
        yield part_T.numpy()


def _part(given_T: NDArray[np.float64], span: Span) -> NDArray[np.float64]:
    return given_T[span.start : span.end]


def _served(method: Method, group: Group, index: int) -> bool:
    config = method.config
    if not isinstance(config, TaughtConfig) or config.hindsight == "none":
        return True
    return config.block_for(group, index) is not None
