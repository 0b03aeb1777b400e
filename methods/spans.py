"""Which response tokens of a step a method aims at."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Literal

import torch
from torch import Tensor

from stepcredit.methods.contract import Span, Step, Trajectory

TargetSpans = Literal["action_only", "clean_step_no_observation", "answer_only", "final_answer_only"]
"""Target spans of StepOPSD (arXiv 2605.27140): the action (ALFWorld), or reasoning and action (Search-QA).

`answer_only` are the actions between answer tags, `final_answer_only` the last of them. Observations are never part of
a response, so no span can reach them.
"""

ANSWERS: frozenset[TargetSpans] = frozenset({"answer_only", "final_answer_only"})
"""Those that depend on which actions are answers."""

_ANSWER = "answer"


def target_steps(trajectory: Trajectory, target: TargetSpans) -> Tensor:
    """[T] the step each response token belongs to, -1 outside the target spans."""
    aimed = _steps_aimed_at(trajectory, target)
    step_T = torch.full((trajectory.response_tokens,), -1, dtype=torch.long)
    offset = 0
    for index, step in enumerate(trajectory.steps):
        for span in _spans(step, target) if index in aimed else ():
            step_T[offset + span.start : offset + span.end] = index
        offset += len(step.response_ids)
    return step_T


def _steps_aimed_at(trajectory: Trajectory, target: TargetSpans) -> Sequence[int]:
    if target in ("action_only", "clean_step_no_observation"):
        return range(len(trajectory.steps))
    answers = [index for index, step in enumerate(trajectory.steps) if step.action_tag == _ANSWER]
    return answers if target == "answer_only" else answers[-1:]


def _spans(step: Step, target: TargetSpans) -> list[Span]:
    wanted = [step.think, step.action] if target == "clean_step_no_observation" else [step.action]
    return [span for span in wanted if span is not None]
