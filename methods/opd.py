"""Token-level on-policy distillation with the policy itself, shown hindsight, as the teacher."""

from __future__ import annotations

from typing import ClassVar, Literal, Self

from pydantic import Field, model_validator
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
from stepcredit.methods.gaps import Lesson, score_gaps
from stepcredit.methods.hindsight import HindsightText, peer_hindsight


class OpdConfig(MethodConfig):
    """Options of token-level OPD."""

    LATER = frozenset({"checkpoint", "hindsight"})

    base: Literal["none", "grpo"] = "none"
    """`none` is pure distillation (Thinking Machines 2025); `grpo` adds the gap to GRPO's advantage."""
    weight: float = Field(1.0, ge=0.0)
    """Factor of the gap; 1 is the reverse-KL policy gradient."""
    teacher: Weights = Weights.LIVE
    """The policy itself (OPSD, arXiv 2601.18734), its last snapshot, or another policy: `checkpoint`."""
    checkpoint: str | None = None
    """The other policy: a preset's name, a run's folder or a policy's. It must have the same vocabulary."""
    hindsight: Literal["peer_traj", "none"] = "peer_traj"
    """What the teacher is shown; nothing is for another policy as teacher, as in GKD (arXiv 2306.13649)."""
    refresh: int = Field(10, ge=1)
    """Updates between snapshots, StepOPSD's value (ours); unused with a live teacher."""
    hindsight_text: HindsightText = "actions"
    """How the peer's episode is written down (ours)."""
    eps: float = Field(1e-6, gt=0.0)
    """Added to the group's standard deviation, verl's value; unused without a base."""

    @model_validator(mode="after")
    def _require_teacher(self) -> Self:
        if (self.teacher is Weights.CHECKPOINT) != (self.checkpoint is not None):
            raise ValueError("teacher 'checkpoint' and the option checkpoint need each other")
        return self


class Opd(Method[OpdConfig]):
    """A_t = weight * D_t, D_t = log pi_T(y_t | c + h, y_<t) - log pi(y_t | c, y_<t), over the whole response.

    The reverse-KL policy gradient of on-policy distillation (Thinking Machines 2025; GKD, arXiv 2306.13649) with the
    policy in hindsight as teacher (OPSD, arXiv 2601.18734, 2602.04942): no reward, no step structure. With base
    `grpo`, A_t = A_i + weight * D_t. The hindsight is StepOPSD's, so that the two differ in credit alone; trajectories
    without it have no teacher and a gap of zero (ours).
    """

    name: ClassVar[str] = "opd"
    label: ClassVar[str] = "OPD"
    paper: ClassVar[str] = "On-policy distillation (2025); GKD, arXiv 2306.13649; OPSD, arXiv 2601.18734"
    Config: ClassVar[type[MethodConfig]] = OpdConfig
    traits: ClassVar[Traits] = Traits(preserves_sign=False, uses_hindsight=True, needs_outcome=True, prefix_only=True)

    @property
    def needs(self) -> Needs:
        refresh = self.config.refresh if self.config.teacher is Weights.STALE else None
        return Needs(stale_refresh=refresh, checkpoint=self.config.checkpoint)

    def credit(self, group: Group, rescore: Rescorer, update: int) -> list[Credit]:
        lessons = [self._lesson(group, index) for index in range(len(group.trajectories))]
        gaps = score_gaps(lessons, rescore, teacher=self.config.teacher)
        return [
            self._credit(trajectory, base, gap_T)
            for trajectory, base, gap_T in zip(group.trajectories, self._bases(group), gaps, strict=True)
        ]

    def _bases(self, group: Group) -> list[float]:
        if self.config.base == "grpo":
            return advantages_of(group, eps=self.config.eps)
        return [0.0] * len(group.trajectories)

    def _lesson(self, group: Group, index: int) -> Lesson | None:
        trajectory = group.trajectories[index]
        if not trajectory.response_tokens or self.config.weight == 0.0:
            return None
        if self.config.hindsight == "none":
            return Lesson(trajectory, None)
        hint = peer_hindsight(group, index, self.config.hindsight_text)
        return None if hint is None else Lesson(trajectory, hint)

    def _credit(self, trajectory: Trajectory, base: float, gap_T: Tensor | None) -> Credit:
        if gap_T is None:
            return Credit(constant(trajectory, base), diagnostics={"taught_share": 0.0})
        numbers = {"taught_share": 1.0, "gap_mean": float(gap_T.mean()), "gap_abs": float(gap_T.abs().mean())}
        return Credit(base + self.config.weight * gap_T, diagnostics=numbers)
