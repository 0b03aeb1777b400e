"""How much more likely a teacher in hindsight finds each token than the student does."""

from __future__ import annotations

import random
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Literal

import torch
from torch import Tensor

from stepcredit.methods.contract import Group, Rescorer, ScoreRequest, Trajectory, Weights
from stepcredit.methods.hindsight import HindsightText, TaughtConfig, peers, written

StudentScoring = Literal["causal_prefix", "rollout_old_log_prob"]
"""The student's log-probabilities: of the current weights on each step's own prefix, or as recorded when sampled.

Where the current weights sampled, with an exact engine, the two are the same, and the rescorer answers the first with
the second. They differ for batches that are older, or drawn by another engine.
"""


@dataclass(frozen=True, slots=True)
class Lesson:
    """A trajectory to be scored by its teacher.

    Attributes:
        hindsight: the block that the teacher is shown, if any.
        starts: where in each step's response it stands; see `ScoreRequest`.
    """

    trajectory: Trajectory
    hindsight: str | None
    starts: tuple[int | None, ...] | None = None

    def asked(self, teacher: Weights) -> ScoreRequest:
        """The teacher's view of it."""
        starts = None if self.hindsight is None else self.starts
        return ScoreRequest(self.trajectory, teacher, self.hindsight, starts)


def lessons_of(group: Group, config: TaughtConfig, advantages: Sequence[float]) -> list[Lesson | None]:
    """A lesson for each trajectory; None where there is no hindsight, or the teacher's word could change nothing."""
    lessons: list[Lesson | None] = []
    for index, (trajectory, advantage) in enumerate(zip(group.trajectories, advantages, strict=True)):
        matters = advantage != 0.0 and trajectory.response_tokens > 0
        block = config.block_for(group, index) if matters else None
        taught = matters and (block is not None or config.hindsight == "none")
        lessons.append(Lesson(trajectory, block) if taught else None)
    return lessons


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
    requests = [lesson.asked(teacher) for lesson in taught]
    if student == "causal_prefix":
        requests += [ScoreRequest(lesson.trajectory, Weights.LIVE) for lesson in taught]
    scores = rescore.score(requests)
    students = scores[len(taught) :] or [_sampled(lesson.trajectory) for lesson in taught]
    pairs = zip(scores[: len(taught)], students, strict=True)
    gaps = iter([(teacher_T - student_T).detach() for teacher_T, student_T in pairs])
    return [None if lesson is None else next(gaps) for lesson in lessons]


def contrast_of(group: Group, index: int, text: HindsightText, *, wrong: int) -> tuple[Lesson, Sequence[Lesson]] | None:
    """A lesson with a successful peer, and up to `wrong` with failed ones; None if either lacks.

    Both are drawn, as in the authors' code (`_hint_candidate_indices` in THU-BPM/RLCSD's src/self_distill_main.py);
    here with a seed of the trajectory's own.
    """
    trajectory = group.trajectories[index]
    right, failed = peers(group, index, success=True), peers(group, index, success=False)
    if not right or not failed or not trajectory.response_tokens:
        return None
    rng = random.Random(f"hints:{trajectory.steps[0].seed}")
    hints = [rng.choice(right), *rng.sample(failed, min(wrong, len(failed)))]
    first, *others = (Lesson(trajectory, written(peer, text)) for peer in hints)
    return first, others


def score_contrasts(
    pairs: Sequence[tuple[Lesson, Sequence[Lesson]] | None], rescore: Rescorer, *, teacher: Weights
) -> list[Tensor | None]:
    """log pi_T(y_t | c + h, y_<t) - log mean_k pi_T(y_t | c + h_k, y_<t), [T], detached; None for None.

    Each pair is a lesson with the right hint and at least one with a wrong one, all of one trajectory. Without pairs
    the rescorer is not called.
    """
    taught = [(right, *wrong) for right, wrong in (pair for pair in pairs if pair is not None)]
    if not taught:
        return [None] * len(pairs)
    scores = iter(rescore.score([lesson.asked(teacher) for lessons in taught for lesson in lessons]))
    contrasts = []
    for lessons in taught:
        right_T, *wrong = (next(scores) for _ in lessons)
        contrasts.append((right_T - (torch.stack(wrong).logsumexp(0) - torch.tensor(len(wrong)).log())).detach())
    found = iter(contrasts)
    return [None if pair is None else next(found) for pair in pairs]


def _sampled(trajectory: Trajectory) -> Tensor:
    return torch.cat([torch.from_numpy(step.logprobs) for step in trajectory.steps])
