"""SDAR: GRPO, and beside it a distillation loss that is gated by how much better the teacher finds each token."""

from __future__ import annotations

from typing import ClassVar

from pydantic import Field
from torch import Tensor

from stepcredit.methods.advantages import advantages_of, constant
from stepcredit.methods.contract import Credit, Group, Method, MethodConfig, Rescorer, Traits, Trajectory
from stepcredit.methods.gaps import score_peer_gaps
from stepcredit.methods.hindsight import HindsightText


class SdarConfig(MethodConfig):
    """Options of SDAR; defaults of arXiv 2605.15155, where not marked (ours)."""

    beta: float = Field(5.0, ge=0.0)
    """Steepness of the gate."""
    lambda_distill: float = Field(0.01, ge=0.0)
    """Weight of the distillation loss beside GRPO's, as in the authors' scripts; 0 is GRPO."""
    hindsight_text: HindsightText = "actions"
    """How the peer's episode is written down (ours)."""
    eps: float = Field(1e-6, gt=0.0)
    """Added to the group's standard deviation; verl's value."""


class Sdar(Method[SdarConfig]):
    """L = L_GRPO + lambda agg(g_t (q_t - s_t)), g_t = stopgrad(sigmoid(beta D_t)) (arXiv 2605.15155).

    The advantage is GRPO's; lambda g_t is the weight of each token in the distillation loss, whose gradient flows
    through the student's s_t alone (`objective.distill` is a further factor, 1). D_t = q_t - s_t with the policy itself
    in hindsight as teacher. The paper shows its teacher a retrieved skill, ours sees StepOPSD's hindsight (ours).
    Trajectories without it are not distilled.
    """

    name: ClassVar[str] = "sdar"
    label: ClassVar[str] = "SDAR"
    paper: ClassVar[str] = "SDAR, arXiv 2605.15155"
    Config: ClassVar[type[MethodConfig]] = SdarConfig
    traits: ClassVar[Traits] = Traits(
        preserves_sign=True,
        uses_hindsight=True,
        needs_outcome=True,
        mixing="lambda_distill",
        prefix_only=True,
        distils=True,
    )

    def credit(self, group: Group, rescore: Rescorer, update: int) -> list[Credit]:
        advantages = advantages_of(group, eps=self.config.eps)
        gaps = score_peer_gaps(group, advantages, rescore, self.config.hindsight_text)
        return [
            self._credit(trajectory, advantage, gap_T)
            for trajectory, advantage, gap_T in zip(group.trajectories, advantages, gaps, strict=True)
        ]

    def _credit(self, trajectory: Trajectory, advantage: float, gap_T: Tensor | None) -> Credit:
        advantage_T = constant(trajectory, advantage)
        if gap_T is None:
            return Credit(advantage_T, constant(trajectory, 0.0), {"taught_share": 0.0})
        gate_T = (self.config.beta * gap_T).sigmoid()
        numbers = {"taught_share": 1.0, "gap_mean": float(gap_T.mean()), "gate_mean": float(gate_T.mean())}
        return Credit(advantage_T, self.config.lambda_distill * gate_T, numbers)
