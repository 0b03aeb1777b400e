"""Which response tokens of a step a method aims at."""

from __future__ import annotations

from typing import Literal

import torch
from torch import Tensor

from methods.contract import Span, Step, Trajectory

TargetSpans = Literal["action_only", "clean_step_no_observation"]
"""Target spans of StepOPSD (arXiv 2605.27140): the action (ALFWorld), or reasoning and action (Search-QA).

Observations are never part of a response, so no span can reach them.
"""


def target_steps(trajectory: Trajectory, target: TargetSpans) -> Tensor:
    """[T] the step each response token belongs to, -1 outside the target spans."""
    step_T = torch.full((trajectory.response_tokens,), -1, dtype=torch.long)
    offset = 0
    for index, step in enumerate(trajectory.steps):
        for span in _spans(step, target):
            step_T[offset + span.start : offset + span.end] = index
        offset += len(step.response_ids)
    return step_T


def _spans(step: Step, target: TargetSpans) -> list[Span]:
    wanted = [step.action] if target == "action_only" else [step.think, step.action]
    return [span for span in wanted if span is not None]
