"""How much more likely a teacher in hindsight finds each token than the student does."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace
from typing import Literal

import torch
from torch import Tensor

from stepcredit.methods.arms import HindsightText, drawn_for, peers, placebo, written
from stepcredit.methods.contract import Group, MethodError, Rescorer, ScoreRequest, Trajectory, Weights
from stepcredit.methods.hindsight import TaughtConfig

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
        told: the trajectory as the teacher sees it, where that is not as it was.
        against: a block that stands in the student's context, which the teacher's weights score then too.
        mixed_T: [T] which tokens' gaps change places with each other, at random; None for none.
    """

    trajectory: Trajectory
    hindsight: str | None
    starts: tuple[int | None, ...] | None = None
    told: Trajectory | None = None
    against: str | None = None
    mixed_T: Tensor | None = None

    def asked(self, teacher: Weights) -> ScoreRequest:
        """The teacher's view of it."""
        starts = None if self.hindsight is None else self.starts
        return ScoreRequest(self.told or self.trajectory, teacher, self.hindsight, starts)

    def compared(self, teacher: Weights) -> ScoreRequest:
        """The view that the teacher's is compared with."""
        if self.against is None:
            return ScoreRequest(self.trajectory, Weights.LIVE)
        return ScoreRequest(self.trajectory, teacher, self.against, self.starts)

    def settled(self, gap_T: Tensor) -> Tensor:
        """The gaps, some of them in other places."""
        if self.mixed_T is None:
            return gap_T
        places = self.mixed_T.nonzero()[:, 0].tolist()
        order = drawn_for(self.trajectory, "scrambled").sample(places, len(places))
        return gap_T.index_copy(0, torch.tensor(places, dtype=torch.long), gap_T[order])


def lesson_of(
    group: Group,
    index: int,
    config: TaughtConfig,
    *,
    starts: tuple[int | None, ...] | None = None,
    target_T: Tensor | None = None,
) -> Lesson | None:
    """What a trajectory's teacher is shown by its arm; None where there is no hindsight.

    Args:
        starts: where it stands; see `ScoreRequest`.
        target_T: [T] which tokens the method aims at; None for all.
    """
    trajectory, block = group.trajectories[index], config.block_for(group, index)
    if block is None:
        return Lesson(trajectory, None) if config.hindsight == "none" else None
    lesson = Lesson(trajectory, block, starts)
    match config.hindsight:
        case "contrast":
            against = placebo(group, index, config.hindsight_text)
            return None if against is None else replace(lesson, against=against)
        case "without_task":
            return replace(lesson, told=_untold(trajectory))
        case "scrambled_gap":
            everywhere_T = torch.ones(trajectory.response_tokens, dtype=torch.bool)
            return replace(lesson, mixed_T=everywhere_T if target_T is None else target_T)
        case _:
            return lesson


def lessons_of(group: Group, config: TaughtConfig, advantages: Sequence[float]) -> list[Lesson | None]:
    """A lesson for each trajectory; None where there is no hindsight, or the teacher's word could change nothing."""
    matter = [
        advantage != 0.0 and trajectory.response_tokens > 0
        for trajectory, advantage in zip(group.trajectories, advantages, strict=True)
    ]
    return [lesson_of(group, index, config) if matters else None for index, matters in enumerate(matter)]


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
    recorded = [student != "causal_prefix" and lesson.against is None for lesson in taught]
    others = [one.compared(teacher) for one, known in zip(taught, recorded, strict=True) if not known]
    scores = iter(rescore.score([*(lesson.asked(teacher) for lesson in taught), *others]))
    teachers = [next(scores) for _ in taught]
    students = [
        _sampled(one.trajectory) if known else next(scores) for one, known in zip(taught, recorded, strict=True)
    ]
    scored = zip(taught, teachers, students, strict=True)
    gaps = iter([lesson.settled((teacher_T - student_T).detach()) for lesson, teacher_T, student_T in scored])
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
    rng = drawn_for(trajectory, "hints")
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


def _untold(trajectory: Trajectory) -> Trajectory:
    """The trajectory for somebody who does not know the task.

    Raises:
        MethodError: its steps do not carry such prompts.
    """
    steps = []
    for step in trajectory.steps:
        if step.untold_ids is None:
            raise MethodError(
                f"hindsight 'without_task' needs prompts without the task, {trajectory.task_id!r} has none"
            )
        steps.append(replace(step, prompt_ids=step.untold_ids))
    return replace(trajectory, steps=tuple(steps))


def _sampled(trajectory: Trajectory) -> Tensor:
    return torch.cat([torch.from_numpy(step.logprobs) for step in trajectory.steps])
