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


def target_steps(trajectory: Trajectory, target: TargetSpans, *, tags: bool = False) -> Tensor:
    """[T] the step each response token belongs to, -1 outside the target spans.

    With `tags` an action's tags belong to it, and reasoning with action is all from the response's beginning to the
    action's end, as in StepOPSD's code.
    """
    step_T = torch.full((trajectory.response_tokens,), -1, dtype=torch.long)
    offset = 0
    for index, (step, spans) in enumerate(zip(trajectory.steps, _targets(trajectory, target, tags), strict=True)):
        for span in spans:
            step_T[offset + span.start : offset + span.end] = index
        offset += len(step.response_ids)
    return step_T


def target_starts(trajectory: Trajectory, target: TargetSpans, *, tags: bool = False) -> tuple[int | None, ...]:
    """[K] the first target token of each step's response; None for steps without one."""
    found = _targets(trajectory, target, tags)
    return tuple(min((span.start for span in spans if span.end > span.start), default=None) for spans in found)


def _targets(trajectory: Trajectory, target: TargetSpans, tags: bool) -> list[list[Span]]:
    """The target spans of each step."""
    aimed = _steps_aimed_at(trajectory, target)
    return [_spans(step, target, tags) if index in aimed else [] for index, step in enumerate(trajectory.steps)]


def _steps_aimed_at(trajectory: Trajectory, target: TargetSpans) -> Sequence[int]:
    if target in ("action_only", "clean_step_no_observation"):
        return range(len(trajectory.steps))
    answers = [index for index, step in enumerate(trajectory.steps) if step.action_tag == _ANSWER]
    return answers if target == "answer_only" else answers[-1:]


def _spans(step: Step, target: TargetSpans, tags: bool) -> list[Span]:
    action = (step.tagged or step.action) if tags else step.action
    if target != "clean_step_no_observation":
        wanted = [action]
    elif tags and action is not None:
        wanted = [Span(0, action.end)]
    else:
        wanted = [step.think, action]
    return [span for span in wanted if span is not None]
