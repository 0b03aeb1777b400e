"""Options of StepOPSD: the paper's values, and where it is silent its first author's code."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Literal

from pydantic import Field

from stepcredit.methods.arms import PEERS
from stepcredit.methods.gaps import StudentScoring
from stepcredit.methods.hindsight import SILENT, TaughtConfig
from stepcredit.methods.shaping import WeightForm
from stepcredit.methods.spans import TargetSpans


class StepOpsdConfig(TaughtConfig):
    """Options of StepOPSD; defaults of arXiv 2605.27140 on ALFWorld, where not marked (ours)."""

    LATER = frozenset({"skills"})

    alpha_clip: float = Field(0.2, ge=0.0, lt=1.0)
    """Clip radius of the token weight around 1; reported: 0.2, 0.1, 0.05."""
    lambda_mix: float = Field(0.2, ge=0.0, le=1.0)
    """Initial share of the weighted advantage; reported: 0.05, 0.1, 0.2, 0.5."""
    decay_updates: int = Field(50, ge=1)
    """Updates over which lambda_mix falls linearly to 0; afterwards the method is GRPO."""
    diagnose_after_decay: bool = False
    """Go on rescoring for the diagnostics when lambda_mix is 0 (ours: off, it costs time and changes no credit)."""
    weight: WeightForm = "sigmoid"
    """Form of the token weight."""
    budget: bool = True
    """Give every step the same mean |A'|, within a factor of 2."""
    target: TargetSpans = "action_only"
    """Which tokens of a step are tilted."""
    tags: bool = True
    """Whether an action's tags, and what stands between reasoning and action, are targets too."""
    taught: Literal["losers", "all"] = "losers"
    """Who is shown the hindsight. Winners are else scored in their own context: their gap is the teacher's staleness,
    and the outcome line where it is on."""
    block: Literal["target", "response"] = "target"
    """Where the hindsight stands: right before a step's first target token, which for actions is after the step's own
    reasoning, or before the whole response."""
    teacher: Literal["stale_ref_policy", "live_actor"] = "stale_ref_policy"
    """A snapshot of the policy, or the policy itself."""
    refresh: int = Field(10, ge=1)
    """Updates between snapshots."""
    student: StudentScoring = "causal_prefix"
    """Where the student's log-probabilities come from."""
    eps: float = Field(1e-6, gt=0.0)
    """Added to the group's standard deviation; verl's value."""

    def idle(self) -> Mapping[str, str]:
        hindsight = f"with hindsight {self.hindsight!r}"
        idle = {} if self.teacher == "stale_ref_policy" else {"refresh": f"with teacher {self.teacher!r}"}
        idle |= {"taught": hindsight} if self.hindsight not in PEERS else {}
        idle |= {"block": hindsight} if self.hindsight == "none" else {}
        return {**super().idle(), **idle}

    def missing(self) -> str | None:
        if self.hindsight == "none" and self.teacher == "live_actor":
            return SILENT
        return super().missing()
