"""Token-level on-policy distillation with the policy itself, shown hindsight, as the teacher."""

from __future__ import annotations

from typing import ClassVar, Literal

from pydantic import Field
from torch import Tensor

from methods.advantages import advantages_of, constant
from methods.contract import Credit, Group, Method, MethodConfig, Rescorer, ScoreRequest, Traits, Trajectory, Weights
from methods.hindsight import HindsightText, peer_hindsight


class OpdConfig(MethodConfig):
    """Options of token-level OPD."""

    base: Literal["none", "grpo"] = "none"
    """`none` is pure distillation; `grpo` adds the gap to GRPO's advantage."""
    weight: float = Field(1.0, ge=0.0)
    """Factor of the gap."""
    teacher: Weights = Weights.LIVE
    """The policy itself (OPSD, arXiv 2601.18734), or its last snapshot."""
    refresh: int = Field(10, ge=1)
    """Updates between snapshots; unused with a live teacher."""
    hindsight_text: HindsightText = HindsightText.ACTIONS
    """How the peer's episode is written down."""
    eps: float = Field(1e-6, gt=0.0)
    """Added to the group's standard deviation; unused without a base."""


class Opd(Method):
    """A_t = weight * D_t, D_t = log pi_T(y_t | c + h, y_<t) - log pi(y_t | c, y_<t), over the whole response.

    The reverse-KL policy gradient of on-policy distillation (Thinking Machines 2025; GKD, arXiv 2306.13649) with the
    policy in hindsight as teacher (OPSD, arXiv 2601.18734, 2602.04942): no reward, no step structure. With base
    `grpo`, A_t = A_i + weight * D_t. Trajectories without hindsight have no teacher and a gap of zero (ours).
    """

    name: ClassVar[str] = "opd"
    paper: ClassVar[str] = "On-policy distillation; GKD, arXiv 2306.13649; OPSD, arXiv 2601.18734"
    Config: ClassVar[type[MethodConfig]] = OpdConfig
    traits: ClassVar[Traits] = Traits(preserves_sign=False, uses_hindsight=True, needs_outcome=True)

    def __init__(self, config: OpdConfig) -> None:
        super().__init__(config)
        self._config = config

    @property
    def stale_refresh(self) -> int | None:
        return self._config.refresh if self._config.teacher is Weights.STALE else None

    def credit(self, group: Group, rescore: Rescorer, update: int) -> list[Credit]:
        hints = [peer_hindsight(group, t.index, self._config.hindsight_text) for t in group.trajectories]
        taught = [(t, hint) for t, hint in zip(group.trajectories, hints, strict=True) if hint is not None and t.steps]
        gaps = dict(zip((t.index for t, _ in taught), self._gaps(taught, rescore), strict=True))
        bases = [0.0] * len(hints)
        if self._config.base == "grpo":
            bases = advantages_of(group, scale=True, eps=self._config.eps)
        return [
            self._credit(trajectory, base, gaps.get(trajectory.index))
            for trajectory, base in zip(group.trajectories, bases, strict=True)
        ]

    def _gaps(self, taught: list[tuple[Trajectory, str]], rescore: Rescorer) -> list[Tensor]:
        teacher = [ScoreRequest(trajectory, self._config.teacher, hint) for trajectory, hint in taught]
        student = [ScoreRequest(trajectory, Weights.LIVE) for trajectory, _ in taught]
        scores = rescore.score([*teacher, *student]) if taught else []
        return [q_T - s_T for q_T, s_T in zip(scores[: len(taught)], scores[len(taught) :], strict=True)]

    def _credit(self, trajectory: Trajectory, base: float, gap_T: Tensor | None) -> Credit:
        advantage_T = constant(trajectory, base)
        if gap_T is None:
            return Credit(advantage_T, diagnostics={"hindsight_share": 0.0})
        advantage_T = advantage_T + self._config.weight * gap_T
        return Credit(
            advantage_T,
            diagnostics={"hindsight_share": 1.0, "gap_mean": float(gap_T.mean()), "gap_abs": float(gap_T.abs().mean())},
        )
