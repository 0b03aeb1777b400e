"""Token-level on-policy distillation: a teacher, usually the policy itself in hindsight, grades every token."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import replace
from typing import ClassVar, Literal

from pydantic import Field
from torch import Tensor

from stepcredit.methods.advantages import advantages_of, constant
from stepcredit.methods.contract import Credit, Group, Method, Needs, Rescorer, Traits, Trajectory, Weights
from stepcredit.methods.divergences import Approach, Divergence
from stepcredit.methods.gaps import lessons_of, score_gaps
from stepcredit.methods.hindsight import SILENT, TaughtConfig


class OpdConfig(TaughtConfig):
    """Options of token-level OPD."""

    base: Literal["none", "grpo"] = "none"
    """`none` is pure distillation (Thinking Machines 2025); `grpo` adds the teacher's word to GRPO's advantage."""
    weight: float = Field(1.0, ge=0.0)
    """Factor of the gap or of the divergence; 1 is the reverse-KL policy gradient."""
    divergence: Divergence = "sampled"
    """`sampled` is the policy gradient of the drawn tokens' log-ratios (tinker-cookbook `incorporate_kl_penalty`);
    `forward_kl` KL(teacher || policy), `reverse_kl` KL(policy || teacher), `jsd` what lies between."""
    beta: float = Field(0.5, gt=0.0, lt=1.0)
    """Where `jsd` lies: towards 0 it is forward, towards 1 reverse; OPSD's value (scripts/run_opsd.sh)."""
    top_k: int = Field(100, ge=1)
    """The teacher's likeliest tokens that a divergence tells apart, the others count as one; SDPO's number."""
    entry_clip: float | None = Field(None, gt=0.0)
    """Most that one token of the vocabulary may add to a divergence; 0.05 in later versions of OPSD."""
    teacher: Weights = Weights.INITIAL
    """The policy at the start (`--fixed_teacher` of siyan-zhao/OPSD; also TRL and verl), a moving average of it (SDPO),
    its last snapshot, the policy itself, or another policy: `checkpoint`."""
    ema_rate: float = Field(0.05, gt=0.0, le=1.0)
    """How fast the average follows; SDPO's value."""
    refresh: int = Field(10, ge=1)
    """Updates between snapshots, StepOPSD's value (ours)."""
    checkpoint: str | None = None
    """The other policy: a preset's name, a run's folder or a policy's. It must have the same vocabulary."""
    eps: float = Field(1e-6, gt=0.0)
    """Added to the group's standard deviation, verl's value."""

    def idle(self) -> Mapping[str, str]:
        teacher, divergence = f"with teacher {str(self.teacher)!r}", f"with divergence {self.divergence!r}"
        idle = {"refresh": teacher} if self.teacher is not Weights.STALE else {}
        idle |= {"ema_rate": teacher} if self.teacher is not Weights.EMA else {}
        idle |= {"checkpoint": teacher} if self.teacher is not Weights.CHECKPOINT else {}
        idle |= {"beta": divergence} if self.divergence != "jsd" else {}
        idle |= {"top_k": divergence, "entry_clip": divergence} if self.divergence == "sampled" else {}
        return {**super().idle(), **idle, **({"eps": "without a base"} if self.base == "none" else {})}

    def missing(self) -> str | None:
        if self.teacher is Weights.CHECKPOINT and self.checkpoint is None:
            return "teacher 'checkpoint' needs the option checkpoint"
        if self.teacher is Weights.LIVE and self.hindsight == "none":
            return SILENT
        if self.divergence != "sampled" and self.hindsight in ("contrast", "scrambled_gap"):
            return f"hindsight {self.hindsight!r} changes the gaps of drawn tokens; it needs divergence 'sampled'"
        return super().missing()


class Opd(Method[OpdConfig]):
    """A_t = weight * D_t, D_t = log pi_T(y_t | c + h, y_<t) - log pi(y_t | c, y_<t), over the whole response.

    The reverse-KL policy gradient of on-policy distillation (Thinking Machines 2025; GKD, arXiv 2306.13649) with the
    policy in hindsight as teacher (OPSD, arXiv 2601.18734): no reward, no step structure. With a divergence over the
    vocabulary the objective has a term weight * D(teacher, policy) in its place. With base `grpo` GRPO's advantage is
    added. The hindsight is StepOPSD's (ours), so that the two differ in credit alone; trajectories without it have no
    teacher.
    """

    name: ClassVar[str] = "opd"
    label: ClassVar[str] = "OPD"
    paper: ClassVar[str] = "On-policy distillation (2025); GKD, arXiv 2306.13649; OPSD, arXiv 2601.18734"
    Config: ClassVar[type[OpdConfig]] = OpdConfig
    traits: ClassVar[Traits] = Traits(preserves_sign=False, uses_hindsight=True, needs_outcome=True, prefix_only=True)

    @property
    def needs(self) -> Needs:
        teacher = self.config.teacher
        needs = self.config.needed(
            stale_refresh=self.config.refresh if teacher is Weights.STALE else None,
            initial=teacher is Weights.INITIAL,
            ema=self.config.ema_rate if teacher is Weights.EMA else None,
            checkpoint=self.config.checkpoint,
        )
        return replace(needs, distributions=self.config.divergence != "sampled")

    def credit(self, group: Group, rescore: Rescorer, update: int) -> list[Credit]:
        config = self.config
        lessons = lessons_of(group, config, [config.weight] * len(group.trajectories))
        if config.divergence == "sampled":
            gaps = score_gaps(lessons, rescore, teacher=config.teacher)
            told = [None if gap_T is None else self._graded(gap_T) for gap_T in gaps]
        else:
            way = Approach(config.weight, config.divergence, config.beta, config.top_k, config.entry_clip)
            told = way.targets(lessons, rescore, config.teacher)
        return [
            self._credit(trajectory, base, word)
            for trajectory, base, word in zip(group.trajectories, self._bases(group), told, strict=True)
        ]

    def _bases(self, group: Group) -> list[float]:
        if self.config.base == "grpo":
            return advantages_of(group, eps=self.config.eps)
        return [0.0] * len(group.trajectories)

    def _graded(self, gap_T: Tensor) -> Credit:
        numbers = {"gap_mean": float(gap_T.mean()), "gap_abs": float(gap_T.abs().mean())}
        return Credit(self.config.weight * gap_T, diagnostics=numbers)

    def _credit(self, trajectory: Trajectory, base: float, word: Credit | None) -> Credit:
        if word is None:
            return Credit(constant(trajectory, base), diagnostics={"taught_share": 0.0})
        return Credit(base + word.advantage_T, None, {"taught_share": 1.0, **word.diagnostics}, word.target)
