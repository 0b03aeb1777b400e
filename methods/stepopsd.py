"""StepOPSD: GRPO's advantage, tilted a little on each step's action by a teacher that knows how a peer succeeded."""

from __future__ import annotations

from typing import ClassVar, Literal

from pydantic import Field
from torch import Tensor

from stepcredit.methods.advantages import advantages_of, constant
from stepcredit.methods.contract import (
    Credit,
    Group,
    Method,
    MethodConfig,
    Needs,
    Rescorer,
    Traits,
    Trajectory,
    Weights,
)
from stepcredit.methods.gaps import Lesson, StudentScoring, score_gaps
from stepcredit.methods.hindsight import HindsightText, golden_hindsight, peer_hindsight, with_outcome
from stepcredit.methods.shaping import WeightForm, shape_advantages, weight_diagnostics
from stepcredit.methods.spans import ANSWERS, TargetSpans, target_steps

__all__ = ["StepOpsd", "StepOpsdConfig", "shape_advantages"]


class StepOpsdConfig(MethodConfig):
    """Options of StepOPSD; defaults of arXiv 2605.27140 on ALFWorld, where not marked (ours)."""

    alpha_clip: float = Field(0.2, ge=0.0, lt=1.0)
    """Clip radius of the token weight around 1; reported: 0.2, 0.1, 0.05."""
    lambda_mix: float = Field(0.2, ge=0.0, le=1.0)
    """Initial share of the weighted advantage; reported: 0.05, 0.1, 0.2, 0.5."""
    decay_updates: int = Field(50, ge=1)
    """Updates over which lambda_mix falls linearly to 0; afterwards the method is GRPO."""
    diagnose_after_decay: bool = False
    """Go on rescoring for the diagnostics when lambda_mix is 0 (ours: off, it costs time and changes no credit)."""
    weight: WeightForm = "sigmoid"
    """Form of the token weight."""
    budget: bool = True
    """Give every step the same mean |A'|, within a factor of 2."""
    target: TargetSpans = "action_only"
    """Which tokens of a step are tilted."""
    hindsight: Literal["peer_traj", "golden_rollout", "none"] = "peer_traj"
    """What the teacher is shown: a peer's episode, the benchmark's reference, or nothing; then the gap measures the
    teacher's staleness alone."""
    hindsight_text: HindsightText = "actions"
    """How the peer's episode is written down (ours)."""
    outcome_line: bool = False
    """Whether the block ends by saying how the scored trajectory ended."""
    teacher: Literal["stale_ref_policy", "live_actor"] = "stale_ref_policy"
    """A snapshot of the policy, or the policy itself."""
    refresh: int = Field(10, ge=1)
    """Updates between snapshots."""
    student: StudentScoring = "causal_prefix"
    """Where the student's log-probabilities come from."""
    eps: float = Field(1e-6, gt=0.0)
    """Added to the group's standard deviation; verl's value."""


class StepOpsd(Method[StepOpsdConfig]):
    """A'_t = (1 - lambda) A + lambda w_t A on the target spans, equal budget a step (arXiv 2605.27140).

    w_t = clip(2 sigmoid(sign(A) D_t), 1 - alpha, 1 + alpha), D_t = log pi_T(y_t | c_k + h) - log pi(y_t | c_k), h the
    first successful peer of a mixed group. A sole winner has no such peer: it gets no hindsight and keeps w = 1, GRPO's
    advantage (ours), as do all trajectories of groups that are all-success or all-failure.
    """

    name: ClassVar[str] = "stepopsd"
    label: ClassVar[str] = "StepOPSD"
    paper: ClassVar[str] = "StepOPSD, arXiv 2605.27140"
    Config: ClassVar[type[MethodConfig]] = StepOpsdConfig
    traits: ClassVar[Traits] = Traits(
        preserves_sign=True,
        uses_hindsight=True,
        needs_outcome=True,
        needs_stale_policy=True,
        tilts_spans="target",
        tilt="alpha_clip",
        mixing="lambda_mix",
        step_budget="budget",
        prefix_only=True,
    )

    @property
    def needs(self) -> Needs:
        refresh = self.config.refresh if self.config.teacher == "stale_ref_policy" else None
        golden, answers = self.config.hindsight == "golden_rollout", self.config.target in ANSWERS
        return Needs(stale_refresh=refresh, golden=golden, answers=answers)

    def lambda_at(self, update: int) -> float:
        """lambda_mix at an update: linear from its initial value at 0 to 0 at `decay_updates`."""
        return self.config.lambda_mix * max(0.0, 1.0 - update / self.config.decay_updates)

    def credit(self, group: Group, rescore: Rescorer, update: int) -> list[Credit]:
        lambda_mix = self.lambda_at(update)
        advantages = advantages_of(group, eps=self.config.eps)
        lessons: list[Lesson | None] = [None] * len(advantages)
        if lambda_mix > 0.0 or self.config.diagnose_after_decay:
            lessons = [self._lesson(group, index, advantage) for index, advantage in enumerate(advantages)]
        teacher = Weights.STALE if self.config.teacher == "stale_ref_policy" else Weights.LIVE
        gaps = score_gaps(lessons, rescore, teacher=teacher, student=self.config.student)
        return [
            self._credit(trajectory, advantage, gap_T, lambda_mix)
            for trajectory, advantage, gap_T in zip(group.trajectories, advantages, gaps, strict=True)
        ]

    def _lesson(self, group: Group, index: int, advantage: float) -> Lesson | None:
        """None where the teacher's word could not change the credit."""
        trajectory = group.trajectories[index]
        if advantage == 0.0 or not trajectory.response_tokens:
            return None
        if self.config.hindsight == "none":
            return Lesson(trajectory, None)
        text = self.config.hindsight_text
        golden = self.config.hindsight == "golden_rollout"
        hint = golden_hindsight(group, text) if golden else peer_hindsight(group, index, text)
        if hint is None:
            return None
        return Lesson(trajectory, with_outcome(hint, trajectory) if self.config.outcome_line else hint)

    def _credit(self, trajectory: Trajectory, advantage: float, gap_T: Tensor | None, lambda_mix: float) -> Credit:
        numbers = {"lambda_mix": lambda_mix, "taught_share": float(gap_T is not None)}
        if gap_T is None:
            return Credit(constant(trajectory, advantage), diagnostics=numbers)
        step_T = target_steps(trajectory, self.config.target)
        alpha_clip, form, budget = self.config.alpha_clip, self.config.weight, self.config.budget
        numbers |= weight_diagnostics(advantage, gap_T[step_T >= 0], alpha_clip=alpha_clip, form=form)
        shaped_T = shape_advantages(
            advantage, gap_T, step_T, alpha_clip=alpha_clip, lambda_mix=lambda_mix, weight=form, budget=budget
        )
        return Credit(shaped_T, diagnostics=numbers)
