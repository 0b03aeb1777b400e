"""RLCSD: what a right hint says beyond a wrong one."""

from __future__ import annotations

from typing import ClassVar

from pydantic import Field
from torch import Tensor

from stepcredit.methods.advantages import advantages_of, constant
from stepcredit.methods.contract import Credit, Group, Method, MethodConfig, Rescorer, Traits, Trajectory, Weights
from stepcredit.methods.gaps import Lesson, score_contrasts
from stepcredit.methods.hindsight import HindsightText, peer_hindsight, wrong_hindsight
from stepcredit.methods.shaping import tilt_advantage, weight_diagnostics


class RlcsdConfig(MethodConfig):
    """Options of RLCSD; the contrast is the paper's (arXiv 2606.11709), what becomes of it is RLSD's (ours)."""

    clip: float = Field(0.2, ge=0.0, lt=1.0)
    """Clip radius of the token weight around 1 (ours: RLSD's)."""
    lambda_mix: float = Field(0.5, ge=0.0, le=1.0)
    """Share of the weighted advantage (ours: RLSD's)."""
    hindsight_text: HindsightText = "actions"
    """How both peers' episodes are written down (ours)."""
    eps: float = Field(1e-6, gt=0.0)
    """Added to the group's standard deviation; verl's value."""


class Rlcsd(Method[RlcsdConfig]):
    """C_t = D_t(right hint) - D_t(wrong hint): what any hint does to style cancels (arXiv 2606.11709).

    C_t = log pi(y_t | c + right, y_<t) - log pi(y_t | c + wrong, y_<t), the policy itself as teacher. The right hint is
    the first successful peer of a mixed group, the wrong one the first failed peer (ours); a trajectory that lacks
    either keeps GRPO's advantage. Then A'_t = A ((1 - lambda) + lambda clip(exp(sign(A) C_t), 1 - clip, 1 + clip)),
    RLSD's weight (ours).
    """

    name: ClassVar[str] = "rlcsd"
    label: ClassVar[str] = "RLCSD"
    paper: ClassVar[str] = "RLCSD, arXiv 2606.11709"
    Config: ClassVar[type[MethodConfig]] = RlcsdConfig
    traits: ClassVar[Traits] = Traits(
        preserves_sign=True,
        uses_hindsight=True,
        needs_outcome=True,
        tilt="clip",
        mixing="lambda_mix",
        prefix_only=True,
        teachers=2,
    )

    def credit(self, group: Group, rescore: Rescorer, update: int) -> list[Credit]:
        advantages = advantages_of(group, eps=self.config.eps)
        pairs = [self._pair(group, index, advantage) for index, advantage in enumerate(advantages)]
        contrasts = score_contrasts(pairs, rescore, teacher=Weights.LIVE)
        return [
            self._credit(trajectory, advantage, contrast_T)
            for trajectory, advantage, contrast_T in zip(group.trajectories, advantages, contrasts, strict=True)
        ]

    def _pair(self, group: Group, index: int, advantage: float) -> tuple[Lesson, Lesson] | None:
        trajectory, text = group.trajectories[index], self.config.hindsight_text
        right, wrong = peer_hindsight(group, index, text), wrong_hindsight(group, index, text)
        if advantage == 0.0 or not trajectory.response_tokens or right is None or wrong is None:
            return None
        return Lesson(trajectory, right), Lesson(trajectory, wrong)

    def _credit(self, trajectory: Trajectory, advantage: float, contrast_T: Tensor | None) -> Credit:
        if contrast_T is None:
            return Credit(constant(trajectory, advantage), diagnostics={"taught_share": 0.0})
        numbers = weight_diagnostics(advantage, contrast_T, alpha_clip=self.config.clip, form="exp")
        shaped_T = tilt_advantage(advantage, contrast_T, clip=self.config.clip, lambda_mix=self.config.lambda_mix)
        return Credit(shaped_T, diagnostics={"taught_share": 1.0} | numbers)
