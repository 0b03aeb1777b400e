"""GRPO: every token of a trajectory gets the trajectory's group-relative advantage."""

from __future__ import annotations

from typing import ClassVar

from pydantic import Field

from stepcredit.methods.advantages import outcome_credit
from stepcredit.methods.contract import Credit, Group, Method, MethodConfig, Rescorer, Traits


class GrpoConfig(MethodConfig):
    """Options of GRPO."""

    LATER = frozenset({"rows"})

    std: bool = True
    """Divide by the group's standard deviation; Dr. GRPO (arXiv 2503.20783) does not."""
    eps: float = Field(1e-6, gt=0.0)
    """Added to the standard deviation; verl's value."""
    rows: bool = False
    """Take mean and deviation over the group's steps, so that long episodes weigh more, as in verl-agent."""


class Grpo(Method[GrpoConfig]):
    """A_t = A_i = (R_i - mean R) / (std R + eps) for all tokens t of trajectory i (arXiv 2402.03300).

    Without `std` it is Dr. GRPO's (arXiv 2503.20783). How tokens are averaged and how far their ratios may go are the
    objective's, for every method alike: `objective.aggregation`, and `objective.clip_high` above `clip_low` for
    clip-higher (DAPO, arXiv 2503.14476).
    """

    name: ClassVar[str] = "grpo"
    label: ClassVar[str] = "GRPO"
    paper: ClassVar[str] = "DeepSeekMath, arXiv 2402.03300"
    Config: ClassVar[type[MethodConfig]] = GrpoConfig
    traits: ClassVar[Traits] = Traits(preserves_sign=True, uses_hindsight=False, needs_outcome=True, prefix_only=True)

    @property
    def scores_steps(self) -> bool:
        return self.config.rows

    def credit(self, group: Group, rescore: Rescorer, update: int) -> list[Credit]:
        config = self.config
        return [Credit(own_T) for own_T in outcome_credit(group, std=config.std, eps=config.eps, rows=config.rows)]
