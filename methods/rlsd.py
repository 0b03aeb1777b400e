"""RLSD: GRPO's advantage, weighted token by token by a teacher in hindsight."""

from __future__ import annotations

from collections.abc import Mapping
from typing import ClassVar, Literal

from pydantic import Field

from stepcredit.methods.advantages import advantages_of
from stepcredit.methods.contract import Credit, Group, Method, Needs, Rescorer, Traits, Weights
from stepcredit.methods.gaps import lessons_of, score_gaps
from stepcredit.methods.hindsight import TaughtConfig
from stepcredit.methods.shaping import decayed, tilted


class RlsdConfig(TaughtConfig):
    """Options of RLSD; defaults of the authors' training script (iie-ycx/RLSD at 93e46f7, examples/visual_rl)."""

    clip: float = Field(0.2, ge=0.0, lt=1.0)
    """Clip radius of the token weight around 1."""
    lambda_mix: float = Field(0.5, ge=0.0, le=1.0)
    """Share of the weighted advantage, at first."""
    decay_updates: int | None = Field(60, ge=1)
    """Updates over which lambda_mix falls linearly to 0; None keeps it, as the authors' rlsd_config.yaml does."""
    teacher: Literal["stale", "initial", "live"] = "stale"
    """A snapshot of the policy (rlsd_train.sh), the policy at the start (rlsd_config.yaml), or the policy itself."""
    refresh: int = Field(20, ge=1)
    """Updates between snapshots."""
    eps: float = Field(1e-6, gt=0.0)
    """Added to the group's standard deviation; verl's value."""

    def idle(self) -> Mapping[str, str]:
        return {**super().idle(), **({} if self.teacher == "stale" else {"refresh": f"with teacher {self.teacher!r}"})}


class Rlsd(Method[RlsdConfig]):
    """A'_t = A ((1 - lambda) + lambda w_t), w_t = clip(exp(sign(A) D_t), 1 - clip, 1 + clip) (arXiv 2604.03128).

    D_t = log pi_T(y_t | c + h, y_<t) - log pi(y_t | c, y_<t) over the whole response: no step structure
    (`_build_stgca_advantages` in verl/workers/actor/dp_opsd_actor.py). The authors show their teacher the answer, ours
    sees a peer that succeeded (ours); trajectories without hindsight keep GRPO's advantage.
    """

    name: ClassVar[str] = "rlsd"
    label: ClassVar[str] = "RLSD"
    paper: ClassVar[str] = "RLSD, arXiv 2604.03128"
    Config: ClassVar[type[RlsdConfig]] = RlsdConfig
    traits: ClassVar[Traits] = Traits(
        preserves_sign=True,
        uses_hindsight=True,
        needs_outcome=True,
        needs_stale_policy=True,
        tilt="clip",
        mixing="lambda_mix",
        prefix_only=True,
    )

    @property
    def needs(self) -> Needs:
        return self.config.needed(
            stale_refresh=self.config.refresh if self.config.teacher == "stale" else None,
            initial=self.config.teacher == "initial",
        )

    def credit(self, group: Group, rescore: Rescorer, update: int) -> list[Credit]:
        share = decayed(self.config.lambda_mix, update, self.config.decay_updates)
        advantages = advantages_of(group, eps=self.config.eps)
        lessons = lessons_of(group, self.config, advantages if share > 0.0 else [0.0] * len(advantages))
        gaps = score_gaps(lessons, rescore, teacher=Weights(self.config.teacher))
        return [
            tilted(trajectory, advantage, gap_T, clip=self.config.clip, share=share)
            for trajectory, advantage, gap_T in zip(group.trajectories, advantages, gaps, strict=True)
        ]
