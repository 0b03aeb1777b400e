"""RLSD with a contrast of two hints in place of a gap to the student: an ablation of RLCSD's authors."""

from __future__ import annotations

from typing import ClassVar

from pydantic import Field

from stepcredit.methods.advantages import advantages_of
from stepcredit.methods.arms import HindsightText
from stepcredit.methods.contract import (
    Credit,
    Group,
    Method,
    MethodConfig,
    Needs,
    Rescorer,
    Traits,
    Weights,
)
from stepcredit.methods.gaps import contrast_of, score_contrasts
from stepcredit.methods.shaping import decayed, tilted


class RlsdEctrConfig(MethodConfig):
    """Options; defaults of THU-BPM/RLCSD at 7eeff3c, configs/logic_kk/qwen3_4b_rlsd_ectr.yaml."""

    clip: float = Field(0.2, ge=0.0, lt=1.0)
    """Clip radius of the token weight around 1."""
    lambda_mix: float = Field(0.5, ge=0.0, le=1.0)
    """Share of the weighted advantage, at first."""
    decay_updates: int | None = Field(50, ge=1)
    """Updates over which lambda_mix falls linearly to 0; None keeps it."""
    refresh: int = Field(10, ge=1)
    """Updates between the teacher's snapshots of the policy."""
    hindsight_text: HindsightText = "actions"
    """How both peers' episodes are written down; the whole text in the authors' code, actions for `tiny`."""
    eps: float = Field(1e-6, gt=0.0)
    """Added to the group's standard deviation; verl's value."""


class RlsdEctr(Method[RlsdEctrConfig]):
    """RLSD's weight of C_t, what a right hint says beyond a wrong one: what any hint does to style cancels.

    C_t = log pi_T(y_t | c + right, y_<t) - log pi_T(y_t | c + wrong, y_<t);
    A'_t = A ((1 - lambda) + lambda clip(exp(sign(A) C_t), 1 - clip, 1 + clip)) (`compute_policy_loss_rlsd_ectr` in
    verl/trainer/ppo/core_algos.py).
    Both hints are drawn from the peers of a mixed group. A trajectory that lacks either keeps GRPO's advantage (ours).
    """

    name: ClassVar[str] = "rlsd_ectr"
    label: ClassVar[str] = "RLSD-ECTR"
    paper: ClassVar[str] = "RLCSD, arXiv 2606.11709 (its ablation)"
    Config: ClassVar[type[RlsdEctrConfig]] = RlsdEctrConfig
    traits: ClassVar[Traits] = Traits(
        preserves_sign=True,
        uses_hindsight=True,
        needs_outcome=True,
        needs_stale_policy=True,
        tilt="clip",
        mixing="lambda_mix",
        prefix_only=True,
        teachers=2,
    )

    @property
    def needs(self) -> Needs:
        return Needs(stale_refresh=self.config.refresh)

    def credit(self, group: Group, rescore: Rescorer, update: int) -> list[Credit]:
        share = decayed(self.config.lambda_mix, update, self.config.decay_updates)
        advantages = advantages_of(group, eps=self.config.eps)
        text = self.config.hindsight_text
        pairs = [
            contrast_of(group, index, text, wrong=1) if advantage * share else None
            for index, advantage in enumerate(advantages)
        ]
        contrasts = score_contrasts(pairs, rescore, teacher=Weights.STALE)
        return [
            tilted(trajectory, advantage, contrast_T, clip=self.config.clip, share=share)
            for trajectory, advantage, contrast_T in zip(group.trajectories, advantages, contrasts, strict=True)
        ]
