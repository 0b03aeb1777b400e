"""RLCSD: GRPO's advantage, moved where a right hint says something else than wrong ones."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace
from typing import ClassVar

import torch
from pydantic import Field
from torch import Tensor

from stepcredit.methods.advantages import advantages_of, constant
from stepcredit.methods.arms import HindsightText
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
from stepcredit.methods.gaps import contrast_of, score_contrasts


class RlcsdConfig(MethodConfig):
    """Options of RLCSD; defaults of `compute_policy_loss_rlcsd` (THU-BPM/RLCSD at 7eeff3c, verl's core_algos.py)."""

    tau: float = Field(0.03, gt=0.0)
    """Contrast at which the residual is three quarters of its largest; 0.02 in the authors' configurations."""
    beta: float = Field(0.2, ge=0.0)
    """Largest residual is beta * lam; 1 in the authors' configurations."""
    lam: float = Field(0.5, ge=0.0)
    """See beta."""
    delta: float = Field(0.02, ge=0.0)
    """Tokens with a smaller residual are not selected."""
    largest: float = Field(0.5, gt=0.0)
    """Bound of the residual; 2 in the authors' configurations."""
    eta: float = Field(1.0, ge=0.0)
    """Weight of the selected tokens' mean."""
    wrong: int = Field(4, ge=1)
    """Most wrong hints that a right one is compared with."""
    refresh: int = Field(10, ge=1)
    """Updates between the teacher's snapshots of the policy."""
    hindsight_text: HindsightText = "actions"
    """How peers' episodes are written down; the whole text in the authors' code, actions for `tiny`."""
    eps: float = Field(1e-6, gt=0.0)
    """Added to the group's standard deviation; verl's value."""


@dataclass(frozen=True, slots=True, kw_only=True)
class _Selected(Credit):
    """Credit of a trajectory that is kept, and which of its tokens [T] are selected."""

    selected_T: Tensor

    def scaled(self, others: float, selected: float) -> Credit:
        return replace(self, advantage_T=torch.where(self.selected_T, selected, others) * self.advantage_T)


class Rlcsd(Method[RlcsdConfig]):
    """A'_t = A + r_t on selected tokens, without changing A's sign; two token means (arXiv 2606.11709).

    C_t = log pi_T(y_t | c + right, y_<t) - log mean_k pi_T(y_t | c + wrong_k, y_<t), r_t = clip(beta lam tanh(C_t /
    tau)), selected where |r_t| > delta. The loss is a mean over the tokens that are not selected, with A, and eta times
    one over those that are, with A'; trajectories without a right or a wrong hint are dropped, also from the means. The
    right hint and the wrong ones are drawn from the peers of a mixed group. The authors take both means over a
    micro-batch, here they are over the update.
    """

    name: ClassVar[str] = "rlcsd"
    label: ClassVar[str] = "RLCSD"
    paper: ClassVar[str] = "RLCSD, arXiv 2606.11709"
    Config: ClassVar[type[RlcsdConfig]] = RlcsdConfig
    traits: ClassVar[Traits] = Traits(
        preserves_sign=True,
        uses_hindsight=True,
        needs_outcome=True,
        needs_stale_policy=True,
        prefix_only=True,
        teachers=5,
    )

    @property
    def needs(self) -> Needs:
        return Needs(stale_refresh=self.config.refresh)

    def credit(self, group: Group, rescore: Rescorer, update: int) -> list[Credit]:
        advantages = advantages_of(group, eps=self.config.eps)
        text, wrong = self.config.hindsight_text, self.config.wrong
        pairs = [contrast_of(group, i, text, wrong=wrong) if value else None for i, value in enumerate(advantages)]
        contrasts = score_contrasts(pairs, rescore, teacher=Weights.STALE)
        return [
            self._credit(trajectory, advantage, contrast_T)
            for trajectory, advantage, contrast_T in zip(group.trajectories, advantages, contrasts, strict=True)
        ]

    def settled(self, credits: Sequence[Sequence[Credit]]) -> list[list[Credit]]:
        """Both means as weights of tokens in a mean over all tokens of the update."""
        kept = [credit for own in credits for credit in own if isinstance(credit, _Selected)]
        selected = sum(int(credit.selected_T.sum()) for credit in kept)
        total = sum(len(credit.advantage_T) for own in credits for credit in own)
        others = sum(len(credit.advantage_T) for credit in kept) - selected
        scales = total / max(others, 1), self.config.eta * total / max(selected, 1)
        return [[c.scaled(*scales) if isinstance(c, _Selected) else c for c in own] for own in credits]

    def _credit(self, trajectory: Trajectory, advantage: float, contrast_T: Tensor | None) -> Credit:
        if contrast_T is None:
            return Credit(constant(trajectory, 0.0), diagnostics={"taught_share": 0.0})
        bound = self.config.largest
        residual_T = (self.config.beta * self.config.lam * (contrast_T / self.config.tau).tanh()).clamp(-bound, bound)
        selected_T = residual_T.abs() > self.config.delta
        moved_T = advantage + residual_T
        moved_T = moved_T.clamp(min=0.0) if advantage > 0 else moved_T.clamp(max=0.0)
        numbers = {"contrast_abs": float(contrast_T.abs().mean()), "selected_share": float(selected_T.float().mean())}
        numbers["taught_share"] = 1.0
        return _Selected(torch.where(selected_T, moved_T, advantage), diagnostics=numbers, selected_T=selected_T)
