"""StepOPSD: GRPO's advantage, tilted a little on each step's action by a teacher that knows how a peer succeeded."""

from __future__ import annotations

from dataclasses import dataclass
from enum import StrEnum
from typing import ClassVar, Literal

import torch
from pydantic import Field
from torch import Tensor

from methods.advantages import advantages_of, constant
from methods.contract import Credit, Group, Method, MethodConfig, Rescorer, ScoreRequest, Traits, Trajectory, Weights
from methods.hindsight import HindsightText, outcome_line, peer_hindsight
from methods.shaping import WeightForm, equal_step_mean_abs, mixed_advantages, token_weights
from methods.spans import TargetSpan, target_steps


class StudentScoring(StrEnum):
    """The student's log-probabilities: rescored with current weights on the step's own prefix, or as sampled."""

    CAUSAL_PREFIX = "causal_prefix"
    ROLLOUT_OLD_LOG_PROB = "rollout_old_log_prob"


class StepOpsdConfig(MethodConfig):
    """Options of StepOPSD; defaults of arXiv 2605.27140."""

    alpha_clip: float = Field(0.2, ge=0.0, le=1.0)
    """Clip radius of the token weight around 1."""
    lambda_mix: float = Field(0.2, ge=0.0, le=1.0)
    """Initial share of the weighted advantage."""
    decay_updates: int = Field(50, ge=1)
    """Updates over which lambda_mix falls linearly to 0; afterwards the method is GRPO."""
    weight: WeightForm = "sigmoid"
    """Form of the token weight."""
    budget: bool = True
    """Give every step the same mean |A'|, within a factor of 2."""
    target: TargetSpan = TargetSpan.ACTION_ONLY
    """Which tokens of a step are tilted."""
    hindsight: Literal["peer_traj", "none"] = "peer_traj"
    """What the teacher is shown; with `none` the gap measures the teacher's staleness alone."""
    hindsight_text: HindsightText = HindsightText.ACTIONS
    """How the peer's episode is written down."""
    outcome: bool = False
    """Whether the teacher is told how the scored trajectory ended."""
    teacher: Literal["stale_ref_policy", "live_actor"] = "stale_ref_policy"
    """A snapshot of the policy, or the policy itself."""
    refresh: int = Field(10, ge=1)
    """Updates between snapshots."""
    student: StudentScoring = StudentScoring.CAUSAL_PREFIX
    """Where the student's log-probabilities come from."""
    eps: float = Field(1e-6, gt=0.0)
    """Added to the group's standard deviation."""


@dataclass(frozen=True, slots=True)
class _Case:
    """A trajectory with a teacher: its advantage and the hindsight block."""

    trajectory: Trajectory
    advantage: float
    hint: str | None


def shape_advantages(
    advantage: float,
    gap_T: Tensor,
    step_T: Tensor,
    *,
    alpha_clip: float,
    lambda_mix: float,
    weight: WeightForm = "sigmoid",
    budget: bool,
) -> Tensor:
    """Shaped advantages [T] of one trajectory (arXiv 2605.27140, sections 3.3 to 3.5).

    Args:
        advantage: A, the trajectory's group-relative advantage.
        gap_T: [T] teacher minus student log-probability of each response token; detached here.
        step_T: [T] the step each token belongs to, -1 outside target spans, where w = 1.
        alpha_clip: clip radius of w around 1.
        lambda_mix: share of the weighted advantage; 0 returns A to the bit.
        weight: form of w.
        budget: whether steps share their credit equally (`equal_step_mean_abs`).
    """
    weight_T = token_weights(advantage, gap_T, alpha_clip=alpha_clip, form=weight)
    weight_T = torch.where(step_T >= 0, weight_T, torch.ones_like(weight_T))
    shaped_T = mixed_advantages(advantage, weight_T, lambda_mix)
    return equal_step_mean_abs(shaped_T, step_T) if budget and lambda_mix > 0.0 else shaped_T


class StepOpsd(Method):
    """A'_t = (1 - lambda) A + lambda w_t A on the target spans, equal budget a step (arXiv 2605.27140).

    w_t = clip(2 sigmoid(sign(A) D_t), 1 +- alpha), D_t = log pi_T(y_t | c_k + h) - log pi(y_t | c_k), h the first
    successful peer of a mixed group. A sole winner has no such peer: it gets no hindsight and keeps GRPO's advantage,
    as do all trajectories of groups that are all-success or all-failure (ours where the paper is silent).
    """

    name: ClassVar[str] = "stepopsd"
    paper: ClassVar[str] = "StepOPSD, arXiv 2605.27140"
    Config: ClassVar[type[MethodConfig]] = StepOpsdConfig
    traits: ClassVar[Traits] = Traits(
        preserves_sign=True, uses_hindsight=True, needs_outcome=True, needs_stale_policy=True
    )

    def __init__(self, config: StepOpsdConfig) -> None:
        super().__init__(config)
        self._config = config

    @property
    def stale_refresh(self) -> int | None:
        return self._config.refresh if self._config.teacher == "stale_ref_policy" else None

    def lambda_at(self, update: int) -> float:
        """lambda_mix at an update: linear from its initial value at 0 to 0 at `decay_updates`."""
        return self._config.lambda_mix * max(0.0, 1.0 - update / self._config.decay_updates)

    def credit(self, group: Group, rescore: Rescorer, update: int) -> list[Credit]:
        lambda_mix = self.lambda_at(update)
        advantages = advantages_of(group, scale=True, eps=self._config.eps)
        cases = self._cases(group, advantages) if lambda_mix > 0.0 else []
        gaps = {case.trajectory.index: gap_T for case, gap_T in zip(cases, self._gaps(cases, rescore), strict=True)}
        return [
            self._credit(trajectory, advantage, gaps.get(trajectory.index), lambda_mix)
            for trajectory, advantage in zip(group.trajectories, advantages, strict=True)
        ]

    def _cases(self, group: Group, advantages: list[float]) -> list[_Case]:
        cases = []
        for trajectory, advantage in zip(group.trajectories, advantages, strict=True):
            hint = self._hint(group, trajectory)
            if advantage != 0.0 and trajectory.steps and (hint is not None or self._config.hindsight == "none"):
                cases.append(_Case(trajectory, advantage, hint))
        return cases

    def _hint(self, group: Group, trajectory: Trajectory) -> str | None:
        if self._config.hindsight == "none":
            return None
        hint = peer_hindsight(group, trajectory.index, self._config.hindsight_text)
        return f"{hint}\n{outcome_line(trajectory)}" if hint is not None and self._config.outcome else hint

    def _gaps(self, cases: list[_Case], rescore: Rescorer) -> list[Tensor]:
        """D_t of each case, [T]."""
        weights = Weights.STALE if self._config.teacher == "stale_ref_policy" else Weights.LIVE
        requests = [ScoreRequest(case.trajectory, weights, case.hint) for case in cases]
        if self._config.student is StudentScoring.CAUSAL_PREFIX:
            requests += [ScoreRequest(case.trajectory, Weights.LIVE) for case in cases]
        scores = rescore.score(requests) if cases else []
        students = scores[len(cases) :] or [_sampled(case.trajectory) for case in cases]
        return [q_T - s_T for q_T, s_T in zip(scores[: len(cases)], students, strict=True)]

    def _credit(self, trajectory: Trajectory, advantage: float, gap_T: Tensor | None, lambda_mix: float) -> Credit:
        shares = {"lambda_mix": lambda_mix, "hindsight_share": float(gap_T is not None)}
        if gap_T is None:
            return Credit(constant(trajectory, advantage), diagnostics=shares)
        step_T = target_steps(trajectory, self._config.target)
        settings = self._config
        shaped_T = shape_advantages(
            advantage,
            gap_T,
            step_T,
            alpha_clip=settings.alpha_clip,
            lambda_mix=lambda_mix,
            weight=settings.weight,
            budget=settings.budget,
        )
        return Credit(shaped_T, diagnostics=shares | _target_diagnostics(gap_T[step_T >= 0], settings.alpha_clip))


def _sampled(trajectory: Trajectory) -> Tensor:
    return torch.cat([torch.from_numpy(step.logprobs) for step in trajectory.steps])


def _target_diagnostics(gap_N: Tensor, alpha_clip: float) -> dict[str, float]:
    """Of the gap on target tokens: its mean, its mean size, and how often its weight is clipped."""
    if not len(gap_N):
        return {}
    clipped_N = (2.0 * gap_N.sigmoid() - 1.0).abs() > alpha_clip
    return {
        "gap_mean_target": float(gap_N.mean()),
        "gap_abs_target": float(gap_N.abs().mean()),
        "weight_clipped": float(clipped_N.float().mean()),
    }
