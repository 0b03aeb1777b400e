"""How much more likely a teacher in hindsight finds each token than the student does."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Literal

import torch
from torch import Tensor

from methods.contract import Rescorer, ScoreRequest, Trajectory, Weights

StudentScoring = Literal["causal_prefix", "rollout_old_log_prob"]
"""The student's log-probabilities: current weights on each step's own prefix, or as they were when sampled."""


@dataclass(frozen=True, slots=True)
class Lesson:
    """A trajectory to be scored by its teacher, and the hindsight block that the teacher is shown, if any."""

    trajectory: Trajectory
    hindsight: str | None


def score_gaps(
    lessons: Sequence[Lesson | None],
    rescore: Rescorer,
    *,
    teacher: Weights,
    student: StudentScoring = "causal_prefix",
) -> list[Tensor | None]:
    """D_t = log pi_T(y_t | c_k + h, y_<t) - log pi(y_t | c_k, y_<t) of each lesson: [T], detached; None for None.

    Teacher and student are asked for in one call of the rescorer; without lessons it is not called.
    """
    taught = [lesson for lesson in lessons if lesson is not None]
    if not taught:
        return [None] * len(lessons)
    requests = [ScoreRequest(lesson.trajectory, teacher, lesson.hindsight) for lesson in taught]
    if student == "causal_prefix":
        requests += [ScoreRequest(lesson.trajectory, Weights.LIVE) for lesson in taught]
    scores = rescore.score(requests)
    students = scores[len(taught) :] or [_sampled(lesson.trajectory) for lesson in taught]
    pairs = zip(scores[: len(taught)], students, strict=True)
    gaps = iter([(teacher_T - student_T).detach() for teacher_T, student_T in pairs])
    return [None if lesson is None else next(gaps) for lesson in lessons]


def _sampled(trajectory: Trajectory) -> Tensor:
    return torch.cat([torch.from_numpy(step.logprobs) for step in trajectory.steps])
