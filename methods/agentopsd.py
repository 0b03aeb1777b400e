"""AgentOPSD: turns are weighted by how much each moves a belief in success."""

from __future__ import annotations

import math
from typing import ClassVar

import torch
from pydantic import Field
from torch import Tensor

from stepcredit.methods.advantages import by_steps, step_advantages
from stepcredit.methods.contract import Credit, Group, Method, Needs, Rescorer, Traits, Trajectory, Weights
from stepcredit.methods.gaps import lessons_of, score_gaps
from stepcredit.methods.hindsight import TaughtConfig


class AgentOpsdConfig(TaughtConfig):
    """Options of AgentOPSD; defaults of arXiv 2608.05987, where not marked (ours)."""

    LATER = TaughtConfig.LATER | {"least_prior", "belief_eps", "rows"}

    b: float = Field(0.2, ge=0.0, lt=1.0)
    """Scale of the turn weight and its clip radius around 1."""
    lambda_mix: float = Field(0.5, ge=0.0, le=1.0)
    """Share of the weighted advantage."""
    gamma: float = Field(0.95, ge=0.0, le=1.0)
    """How much of the evidence so far each turn keeps; 1 in the authors' scripts, which leave it out."""
    least_prior: float = Field(1e-3, gt=0.0, lt=0.5)
    """The first belief is at least this and at most 1 less it; 1e-4 in `compute_opsd_turn_advantage`."""
    belief_eps: float = Field(0.0, ge=0.0, lt=0.5)
    """How far beliefs stay from 0 and 1, and what is added to the deviation of their moves; 1e-6 in that code."""
    rows: bool = False
    """Take a group's mean and deviation over its steps, as verl-agent does, which the authors' code stands on."""
    eps: float = Field(1e-6, gt=0.0)
    """Added to the group's standard deviation; verl's value."""


class AgentOpsd(Method[AgentOpsdConfig]):
    """A'_k = A ((1 - lambda) + lambda w_k) for all tokens of turn k (arXiv 2608.05987).

    Evidence e_k = sum_t D_t over the turn; belief B_k = sigmoid(l_0 + c_k), c_k = gamma c_{k-1} + e_k, l_0 the logit
    of the group's mean reward, clipped to [least_prior, 1 - least_prior]. q_k = sign(A) (B_k - B_{k-1}), standardised
    within the trajectory to z_k, by the population's deviation; w_k = clip(1 + b z_k, 1 - b, 1 + b). One turn, or turns
    that all move the belief equally, have w = 1. D_t as in RLSD with the policy itself as teacher; trajectories without
    hindsight keep A.
    """

    name: ClassVar[str] = "agentopsd"
    label: ClassVar[str] = "AgentOPSD"
    paper: ClassVar[str] = "AgentOPSD, arXiv 2608.05987"
    Config: ClassVar[type[AgentOpsdConfig]] = AgentOpsdConfig
    traits: ClassVar[Traits] = Traits(
        preserves_sign=True, uses_hindsight=True, needs_outcome=True, tilt="b", mixing="lambda_mix"
    )

    @property
    def needs(self) -> Needs:
        return self.config.needed()

    @property
    def scores_steps(self) -> bool:
        return self.config.rows

    def credit(self, group: Group, rescore: Rescorer, update: int) -> list[Credit]:
        advantages = step_advantages(group, eps=self.config.eps, rows=self.config.rows)
        heard = [float(any(own)) for own in advantages]
        gaps = score_gaps(lessons_of(group, self.config, heard), rescore, teacher=Weights.LIVE)
        mean = math.fsum(trajectory.reward for trajectory in group.trajectories) / len(group.trajectories)
        least = self.config.least_prior
        prior = torch.tensor(mean, dtype=torch.float64).clamp(least, 1.0 - least).logit()
        return [
            self._credit(trajectory, own, gap_T, prior)
            for trajectory, own, gap_T in zip(group.trajectories, advantages, gaps, strict=True)
        ]

    def _credit(self, trajectory: Trajectory, advantages: list[float], gap_T: Tensor | None, prior: Tensor) -> Credit:
        if gap_T is None:
            return Credit(by_steps(trajectory, advantages), diagnostics={"taught_share": 0.0})
        lengths = [len(step.response_ids) for step in trajectory.steps]
        evidence_K = torch.stack([turn_T.sum() for turn_T in gap_T.double().split(lengths)])
        moved_K = self._moves(evidence_K, prior)
        advantage_K = torch.tensor(advantages, dtype=torch.float64)
        z_K = advantage_K.sign() * _standardised(moved_K, self.config.belief_eps)
        weight_K = (1.0 + self.config.b * z_K).clamp(1.0 - self.config.b, 1.0 + self.config.b)
        share = self.config.lambda_mix
        shaped_K = advantage_K * ((1.0 - share) + share * weight_K)
        numbers = {"taught_share": 1.0, "belief_moved": float(moved_K.abs().mean())}
        return Credit(torch.repeat_interleave(shaped_K.float(), torch.tensor(lengths)), diagnostics=numbers)

    def _moves(self, evidence_K: Tensor, prior: Tensor) -> Tensor:
        """B_k - B_{k-1}."""
        least = self.config.belief_eps
        evidence, belief, moves = torch.zeros_like(prior), prior.sigmoid(), []
        for turn in evidence_K:
            evidence = self.config.gamma * evidence + turn
            before, belief = belief, (prior + evidence).sigmoid().clamp(least, 1.0 - least)
            moves.append(belief - before)
        return torch.stack(moves)


def _standardised(values_K: Tensor, eps: float) -> Tensor:
    spread = values_K.std(correction=0) + eps
    return (values_K - values_K.mean()) / spread if spread > 0 else torch.zeros_like(values_K)
