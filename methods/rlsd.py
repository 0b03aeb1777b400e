"""RLSD: GRPO's advantage, weighted token by token by a teacher in hindsight."""

from __future__ import annotations

from typing import ClassVar

from pydantic import Field
from torch import Tensor

from stepcredit.methods.advantages import advantages_of, constant
from stepcredit.methods.contract import Credit, Group, Method, MethodConfig, Rescorer, Traits, Trajectory
from stepcredit.methods.gaps import score_peer_gaps
from stepcredit.methods.hindsight import HindsightText
from stepcredit.methods.shaping import tilt_advantage, weight_diagnostics


class RlsdConfig(MethodConfig):
    """Options of RLSD; defaults of arXiv 2604.03128, where not marked (ours)."""

    clip: float = Field(0.2, ge=0.0, lt=1.0)
    """Clip radius of the token weight around 1."""
    lambda_mix: float = Field(0.5, ge=0.0, le=1.0)
    """Share of the weighted advantage."""
    hindsight_text: HindsightText = "actions"
    """How the peer's episode is written down (ours)."""
    eps: float = Field(1e-6, gt=0.0)
    """Added to the group's standard deviation; verl's value."""


class Rlsd(Method[RlsdConfig]):
    """A'_t = A ((1 - lambda) + lambda w_t), w_t = clip(exp(sign(A) D_t), 1 - clip, 1 + clip) (arXiv 2604.03128).

    D_t = log pi(y_t | c + h, y_<t) - log pi(y_t | c, y_<t), the policy itself in hindsight as teacher, over the whole
    response: no step structure. The hindsight is StepOPSD's (ours); trajectories without it keep GRPO's advantage.
    """

    name: ClassVar[str] = "rlsd"
    label: ClassVar[str] = "RLSD"
    paper: ClassVar[str] = "RLSD, arXiv 2604.03128"
    Config: ClassVar[type[MethodConfig]] = RlsdConfig
    traits: ClassVar[Traits] = Traits(
        preserves_sign=True,
        uses_hindsight=True,
        needs_outcome=True,
        tilt="clip",
        mixing="lambda_mix",
        prefix_only=True,
    )

    def credit(self, group: Group, rescore: Rescorer, update: int) -> list[Credit]:
        advantages = advantages_of(group, eps=self.config.eps)
        gaps = score_peer_gaps(group, advantages, rescore, self.config.hindsight_text)
        return [
            self._credit(trajectory, advantage, gap_T)
            for trajectory, advantage, gap_T in zip(group.trajectories, advantages, gaps, strict=True)
        ]

    def _credit(self, trajectory: Trajectory, advantage: float, gap_T: Tensor | None) -> Credit:
        if gap_T is None:
            return Credit(constant(trajectory, advantage), diagnostics={"taught_share": 0.0})
        numbers = weight_diagnostics(advantage, gap_T, alpha_clip=self.config.clip, form="exp")
        shaped_T = tilt_advantage(advantage, gap_T, clip=self.config.clip, lambda_mix=self.config.lambda_mix)
        return Credit(shaped_T, diagnostics={"taught_share": 1.0} | numbers)
