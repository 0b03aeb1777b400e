"""How much more likely a teacher in hindsight finds each token than the student does."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Literal

import torch
from torch import Tensor

from stepcredit.methods.contract import Group, Rescorer, ScoreRequest, Trajectory, Weights
from stepcredit.methods.hindsight import HindsightText, peer_hindsight

StudentScoring = Literal["causal_prefix", "rollout_old_log_prob"]
"""The student's log-probabilities: of the current weights on each step's own prefix, or as recorded when sampled.

Where the current weights sampled, with an exact engine, the two are the same, and the rescorer answers the first with
the second. They differ for batches that are older, or drawn by another engine.
"""


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


def score_contrasts(
    pairs: Sequence[tuple[Lesson, Lesson] | None], rescore: Rescorer, *, teacher: Weights
) -> list[Tensor | None]:
    """log pi_T(y_t | c + h, y_<t) - log pi_T(y_t | c + h', y_<t) of each pair of lessons, [T], detached; None for None.

    Both of a pair are of one trajectory. Without pairs the rescorer is not called.
    """
    taught = [pair for pair in pairs if pair is not None]
    if not taught:
        return [None] * len(pairs)
    requests = [ScoreRequest(lesson.trajectory, teacher, lesson.hindsight) for pair in taught for lesson in pair]
    scores = rescore.score(requests)
    contrasts = iter([(right_T - wrong_T).detach() for right_T, wrong_T in zip(scores[::2], scores[1::2], strict=True)])
    return [None if pair is None else next(contrasts) for pair in pairs]


def score_peer_gaps(
    group: Group, advantages: Sequence[float], rescore: Rescorer, render: HindsightText
) -> list[Tensor | None]:
    """D_t of the policy itself in each trajectory's peer hindsight, [T]; None where that could teach nothing."""
    return score_gaps(_peer_lessons(group, advantages, render), rescore, teacher=Weights.LIVE)


def _peer_lessons(group: Group, advantages: Sequence[float], render: HindsightText) -> list[Lesson | None]:
    hints = (peer_hindsight(group, index, render) for index in range(len(advantages)))
    return [
        Lesson(trajectory, hint) if hint is not None and advantage != 0.0 and trajectory.response_tokens else None
        for trajectory, advantage, hint in zip(group.trajectories, advantages, hints, strict=True)
    ]


def _sampled(trajectory: Trajectory) -> Tensor:
    return torch.cat([torch.from_numpy(step.logprobs) for step in trajectory.steps])
