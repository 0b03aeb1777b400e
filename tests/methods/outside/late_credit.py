"""Late turns get more of GRPO's advantage than early ones."""

import torch
from pydantic import Field

from methods.advantages import advantages_of
from methods.contract import Credit, Group, Method, MethodConfig, Rescorer, Traits


class LateCreditConfig(MethodConfig):
    """Options of late credit."""

    gamma: float = Field(0.95, gt=0.0, le=1.0)
    """Factor for each turn that an action comes before the last."""


class LateCredit(Method):
    """A_t = gamma^(K - k) A for the tokens t of turn k of K, A as in GRPO."""

    name = "late_credit"
    paper = "none: an example"
    Config = LateCreditConfig
    traits = Traits(preserves_sign=True, uses_hindsight=False, needs_outcome=True)

    def __init__(self, config: LateCreditConfig) -> None:
        super().__init__(config)
        self._gamma = config.gamma

    def credit(self, group: Group, rescore: Rescorer, update: int) -> list[Credit]:
        credits = []
        for trajectory, advantage in zip(group.trajectories, advantages_of(group, eps=1e-6), strict=True):
            lengths = torch.tensor([len(step.response_ids) for step in trajectory.steps], dtype=torch.long)
            before_last_K = torch.arange(len(lengths)).flip(0)
            credits.append(Credit(advantage * torch.repeat_interleave(self._gamma**before_last_K, lengths)))
        return credits
