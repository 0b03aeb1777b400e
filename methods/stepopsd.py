"""StepOPSD: GRPO's advantage, tilted a little on each step's action by a teacher that knows how a peer succeeded."""

from __future__ import annotations

from typing import ClassVar

from torch import Tensor

from stepcredit.methods.advantages import advantages_of, constant
from stepcredit.methods.arms import PEERS, outcome_of
from stepcredit.methods.contract import (
    Credit,
    Group,
    Method,
    Needs,
    Rescorer,
    Traits,
    Trajectory,
    Weights,
)
from stepcredit.methods.gaps import Lesson, lesson_of, score_gaps
from stepcredit.methods.shaping import decayed, shape_advantages, weight_diagnostics
from stepcredit.methods.spans import ANSWERS, target_starts, target_steps
from stepcredit.methods.stepopsd_options import StepOpsdConfig

__all__ = ["StepOpsd", "StepOpsdConfig", "shape_advantages"]


class StepOpsd(Method[StepOpsdConfig]):
    """A'_t = (1 - lambda) A + lambda w_t A on the target spans, equal budget a step (arXiv 2605.27140).

    w_t = clip(2 sigmoid(sign(A) D_t), 1 - alpha, 1 + alpha), D_t = log pi_T(y_t | c_k + h) - log pi(y_t | c_k), h the
    first successful peer of a mixed group. Where the paper is silent the defaults are the first author's code
    (yanfei-zhang-95/OPSD_experiment_SearchR1 at 79c114c, `_build_teacher_hindsight_suffix_ids` and what calls it in
    verl/trainer/main_ppo.py): only losers see a peer, right before their target tokens, tags included. With `taught`
    all, a sole winner gets no hindsight and keeps w = 1, GRPO's advantage (ours). The code's lambda is one update
    further on than the paper's: 0.98 of its value at first.
    """

    name: ClassVar[str] = "stepopsd"
    label: ClassVar[str] = "StepOPSD"
    paper: ClassVar[str] = "StepOPSD, arXiv 2605.27140"
    Config: ClassVar[type[StepOpsdConfig]] = StepOpsdConfig
    traits: ClassVar[Traits] = Traits(
        preserves_sign=True,
        uses_hindsight=True,
        needs_outcome=True,
        needs_stale_policy=True,
        tilts_spans="target",
        tags="tags",
        tilt="alpha_clip",
        mixing="lambda_mix",
        step_budget="budget",
        prefix_only=True,
    )

    @property
    def needs(self) -> Needs:
        refresh = self.config.refresh if self.config.teacher == "stale_ref_policy" else None
        return self.config.needed(stale_refresh=refresh, answers=self.config.target in ANSWERS)

    def credit(self, group: Group, rescore: Rescorer, update: int) -> list[Credit]:
        config = self.config
        lambda_mix = decayed(config.lambda_mix, update, config.decay_updates)
        advantages = advantages_of(group, eps=config.eps)
        lessons: list[Lesson | None] = [None] * len(advantages)
        if lambda_mix > 0.0 or config.diagnose_after_decay:
            lessons = [self._lesson(group, index, advantage) for index, advantage in enumerate(advantages)]
        teacher = Weights.STALE if config.teacher == "stale_ref_policy" else Weights.LIVE
        gaps = score_gaps(lessons, rescore, teacher=teacher, student=config.student)
        return [
            self._credit(trajectory, advantage, gap_T, lambda_mix)
            for trajectory, advantage, gap_T in zip(group.trajectories, advantages, gaps, strict=True)
        ]

    def _lesson(self, group: Group, index: int, advantage: float) -> Lesson | None:
        """None where the teacher's word could not change the credit."""
        trajectory, config = group.trajectories[index], self.config
        if advantage == 0.0 or not trajectory.response_tokens:
            return None
        starts = target_starts(trajectory, config.target, tags=config.tags) if config.block == "target" else None
        if trajectory.success and config.taught == "losers" and config.hindsight in PEERS:
            return Lesson(trajectory, outcome_of(trajectory) if config.outcome_line else None, starts)
        target_T = target_steps(trajectory, config.target, tags=config.tags) >= 0
        return lesson_of(group, index, config, starts=starts, target_T=target_T)

    def _credit(self, trajectory: Trajectory, advantage: float, gap_T: Tensor | None, lambda_mix: float) -> Credit:
        numbers = {"lambda_mix": lambda_mix, "taught_share": float(gap_T is not None)}
        if gap_T is None:
            return Credit(constant(trajectory, advantage), diagnostics=numbers)
        step_T = target_steps(trajectory, self.config.target, tags=self.config.tags)
        alpha_clip, form, budget = self.config.alpha_clip, self.config.weight, self.config.budget
        numbers |= weight_diagnostics(advantage, gap_T[step_T >= 0], alpha_clip=alpha_clip, form=form)
        shaped_T = shape_advantages(
            advantage, gap_T, step_T, alpha_clip=alpha_clip, lambda_mix=lambda_mix, weight=form, budget=budget
        )
        return Credit(shaped_T, diagnostics=numbers)
