"""SDAR: GRPO, and beside it a distillation loss that is gated by how much better the teacher finds each token."""

from __future__ import annotations

from collections.abc import Mapping
from typing import ClassVar, Literal

from pydantic import Field
from torch import Tensor

from stepcredit.methods.advantages import constant, outcome_credit
from stepcredit.methods.contract import Credit, Group, Method, Needs, Rescorer, Traits, Trajectory, Weights
from stepcredit.methods.gaps import lessons_of, score_gaps
from stepcredit.methods.hindsight import TaughtConfig

_NO_BASE = "without a base"


class SdarConfig(TaughtConfig):
    """Options of SDAR; defaults of arXiv 2605.15155, where not marked (ours)."""

    LATER = TaughtConfig.LATER | {"base", "rows"}

    base: Literal["grpo", "none"] = "grpo"
    """`none` is distillation alone: the row "OPSD" of the paper's tables (`pg_loss_coef` 0)."""
    beta: float = Field(5.0, ge=0.0)
    """Steepness of the gate; at 0 the teacher is not heard (the row "GRPO+OPSD")."""
    lambda_distill: float = Field(0.01, ge=0.0)
    """Weight of the distillation loss beside GRPO's, as in the authors' scripts; 0 is GRPO."""
    eps: float = Field(1e-6, gt=0.0)
    """Added to the group's standard deviation; verl's value."""
    rows: bool = False
    """Take mean and deviation over the group's steps, as verl-agent does, which the authors' code stands on."""

    def idle(self) -> Mapping[str, str]:
        return super().idle() if self.base == "grpo" else {**super().idle(), "rows": _NO_BASE, "eps": _NO_BASE}


class Sdar(Method[SdarConfig]):
    """L = L_GRPO + lambda agg(g_t (q_t - s_t)), g_t = stopgrad(sigmoid(beta D_t)) (arXiv 2605.15155).

    The advantage is GRPO's; lambda g_t is the weight of each token in the distillation loss, whose gradient flows
    through the student's s_t alone (`objective.distill` is a further factor, 1). It is never negative: whatever was
    drawn becomes likelier, and with beta 0 all alike, whoever teaches. D_t = q_t - s_t with the policy itself in
    hindsight as teacher. The paper shows its teacher a retrieved skill (hindsight `skills`), the default is StepOPSD's
    (ours). Trajectories without hindsight are not distilled.
    """

    name: ClassVar[str] = "sdar"
    label: ClassVar[str] = "SDAR"
    paper: ClassVar[str] = "SDAR, arXiv 2605.15155"
    Config: ClassVar[type[SdarConfig]] = SdarConfig
    traits: ClassVar[Traits] = Traits(
        preserves_sign=True,
        uses_hindsight=True,
        needs_outcome=True,
        mixing="lambda_distill",
        prefix_only=True,
        distils=True,
    )

    @property
    def needs(self) -> Needs:
        return self.config.needed()

    @property
    def scores_steps(self) -> bool:
        return self.config.base == "grpo" and self.config.rows

    def credit(self, group: Group, rescore: Rescorer, update: int) -> list[Credit]:
        outcomes = outcome_credit(group, eps=self.config.eps, rows=self.config.rows)
        heard = [float(own_T.count_nonzero()) if self._by_reward else 1.0 for own_T in outcomes]
        gaps = score_gaps(lessons_of(group, self.config, heard), rescore, teacher=Weights.LIVE)
        return [
            self._credit(trajectory, own_T if self.config.base == "grpo" else constant(trajectory, 0.0), gap_T)
            for trajectory, own_T, gap_T in zip(group.trajectories, outcomes, gaps, strict=True)
        ]

    @property
    def _by_reward(self) -> bool:
        """Whether what a peer did is shown, which needs groups that are not all alike."""
        return self.config.hindsight == "peer_traj"

    def _credit(self, trajectory: Trajectory, advantage_T: Tensor, gap_T: Tensor | None) -> Credit:
        if gap_T is None:
            return Credit(advantage_T, constant(trajectory, 0.0), {"taught_share": 0.0})
        gate_T = (self.config.beta * gap_T).sigmoid()
        numbers = {"taught_share": 1.0, "gap_mean": float(gap_T.mean()), "gate_mean": float(gate_T.mean())}
        return Credit(advantage_T, self.config.lambda_distill * gate_T, numbers)
