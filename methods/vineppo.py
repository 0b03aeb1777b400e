"""VinePPO: a step is worth what it changes in the chances of success, measured by fresh episodes."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import replace
from typing import ClassVar

import torch
from pydantic import Field

from stepcredit.methods.contract import (
    Credit,
    Group,
    Method,
    MethodConfig,
    MethodError,
    Needs,
    Rescorer,
    Traits,
    Trajectory,
)

_WHITE_EPS = 1e-8


class VinePpoConfig(MethodConfig):
    """Options of VinePPO; defaults of arXiv 2410.01679."""

    LATER = frozenset({"whiten"})

    continuations: int = Field(9, ge=1)
    """K: fresh episodes from the state before each step."""
    whiten: bool = False
    """Give the update's tokens mean 0 and variance 1, as the authors' MATH configuration does
    (McGill-NLP/VinePPO, `masked_whiten`)."""


class VinePpo(Method[VinePpoConfig]):
    """A_k = V(s_{k+1}) - V(s_k) for all tokens of step k (arXiv 2410.01679, eq. 7, without discount).

    V(s_k) is the mean return of K fresh episodes of the current policy from the state before step k; after the last
    step it is the episode's own reward. Unbiased and expensive: environments restart exactly, so that every state can
    be played on. Needs no group and no teacher.
    """

    name: ClassVar[str] = "vineppo"
    label: ClassVar[str] = "VinePPO"
    paper: ClassVar[str] = "VinePPO, arXiv 2410.01679"
    Config: ClassVar[type[MethodConfig]] = VinePpoConfig
    traits: ClassVar[Traits] = Traits(preserves_sign=False, uses_hindsight=False, needs_outcome=False)

    @property
    def needs(self) -> Needs:
        return Needs(continuations=self.config.continuations)

    def credit(self, group: Group, rescore: Rescorer, update: int) -> list[Credit]:
        return [self._credit(trajectory) for trajectory in group.trajectories]

    def settled(self, credits: Sequence[Sequence[Credit]]) -> list[list[Credit]]:
        """Whitened over the update, where that is asked for."""
        if not self.config.whiten:
            return super().settled(credits)
        all_T = torch.cat([credit.advantage_T for own in credits for credit in own]).double()
        if len(all_T) < 2:
            return super().settled(credits)
        mean, scale = float(all_T.mean()), float((all_T.var() + _WHITE_EPS).rsqrt())
        return [[replace(credit, advantage_T=(credit.advantage_T - mean) * scale) for credit in own] for own in credits]

    def _credit(self, trajectory: Trajectory) -> Credit:
        values = [*self._values(trajectory), trajectory.reward]
        gains_K = torch.tensor(values[1:], dtype=torch.float64) - torch.tensor(values[:-1], dtype=torch.float64)
        lengths_K = torch.tensor([len(step.response_ids) for step in trajectory.steps], dtype=torch.long)
        numbers = {"value_before": values[0], "gain_abs": float(gains_K.abs().mean())} if len(gains_K) else {}
        return Credit(torch.repeat_interleave(gains_K.float(), lengths_K), diagnostics=numbers)

    def _values(self, trajectory: Trajectory) -> list[float]:
        """V of the state before each step."""
        wanted, found = self.config.continuations, trajectory.continuations
        counts = None if found is None else {len(returns) for returns in found}
        if found is None or len(found) != len(trajectory.steps) or counts not in (set(), {wanted}):
            raise MethodError(
                f"method {self.name!r} needs {wanted} continuations from each of the {len(trajectory.steps)} steps of "
                f"trajectory {trajectory.index} of {trajectory.task_id!r} and was given "
                f"{'none' if found is None else [len(returns) for returns in found]}; see `Needs.continuations`"
            )
        return [math.fsum(returns) / wanted for returns in found]
