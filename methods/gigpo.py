"""GiGPO: GRPO, and for each step a second comparison with what peers did in the same state."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Iterable, Mapping
from difflib import SequenceMatcher
from typing import ClassVar, Literal

from pydantic import Field

from stepcredit.methods.advantages import by_steps, group_advantages, outcome_credit
from stepcredit.methods.contract import Credit, Group, Method, MethodConfig, Rescorer, Traits


class GigpoConfig(MethodConfig):
    """Options of GiGPO; defaults of arXiv 2505.10978."""

    LATER = frozenset({"rows", "similarity"})

    anchor: Literal["observation", "state"] = "observation"
    """What two steps must share to be compared: what the agent had just seen, or the environment's state (ours)."""
    gamma: float = Field(0.95, ge=0.0, le=1.0)
    """Discount of a step's return-to-go, per turn."""
    omega: float = Field(1.0, ge=0.0)
    """Weight of the step advantage; 0 is GRPO."""
    std: bool = True
    """Divide by the standard deviation of the group and of the step group."""
    eps: float = Field(1e-6, gt=0.0)
    """Added to the standard deviations; verl-agent's value."""
    rows: bool = False
    """Take mean and deviation of rewards over the group's steps (`compute_mean_std_cross_steps` in verl-agent)."""
    similarity: float | None = Field(None, gt=0.0, lt=1.0)
    """Anchors that agree to this ratio are the same, the first of a cluster stands for it (`build_step_group` in
    verl-agent); None asks for equal ones."""

    def idle(self) -> Mapping[str, str]:
        return {} if self.anchor == "observation" else {"similarity": "with anchor 'state'"}


class Gigpo(Method[GigpoConfig]):
    """A'_k = A + omega A_step(k) for all tokens of step k (arXiv 2505.10978, eq. 8).

    Steps of a group with the same anchor, the observation before them, form a step group; A_step is the return-to-go
    gamma^(K - 1 - k) R, less the step's own penalty, normalised in it as GRPO normalises R in the group. A step whose
    anchor no other shares gets A_step = 0. All first steps of a group share theirs. Needs no teacher.
    """

    name: ClassVar[str] = "gigpo"
    label: ClassVar[str] = "GiGPO"
    paper: ClassVar[str] = "GiGPO, arXiv 2505.10978"
    Config: ClassVar[type[MethodConfig]] = GigpoConfig
    traits: ClassVar[Traits] = Traits(
        preserves_sign=False,
        uses_hindsight=False,
        needs_outcome=False,
        mixing="omega",
        compares_states=True,
    )

    @property
    def scores_steps(self) -> bool:
        return self.config.rows

    def credit(self, group: Group, rescore: Rescorer, update: int) -> list[Credit]:
        outcomes = outcome_credit(group, std=self.config.std, eps=self.config.eps, rows=self.config.rows)
        steps, shared = self._step_advantages(group)
        return [
            Credit(
                own_T + by_steps(trajectory, [self.config.omega * value for value in of_steps]),
                diagnostics={"shared_anchors": shared},
            )
            for trajectory, own_T, of_steps in zip(group.trajectories, outcomes, steps, strict=True)
        ]

    def _step_advantages(self, group: Group) -> tuple[list[list[float]], float]:
        """A_step of each trajectory's steps, and the share of steps whose anchor is another step's too."""
        places: dict[str, list[tuple[int, int]]] = defaultdict(list)
        for index, trajectory in enumerate(group.trajectories):
            for k, step in enumerate(trajectory.steps):
                seen = trajectory.steps[k - 1].observation if k else ""
                anchor = step.state_key if self.config.anchor == "state" else self._alike(seen, places)
                places[anchor].append((index, k))
        found = [[0.0] * len(trajectory.steps) for trajectory in group.trajectories]
        for members in places.values():
            returns = [self._return_to_go(group, index, k) for index, k in members]
            values = group_advantages(returns, std=self.config.std, eps=self.config.eps)
            for (index, k), value in zip(members, values, strict=True):
                found[index][k] = value
        total = sum(map(len, found))
        return found, sum(len(members) for members in places.values() if len(members) > 1) / max(total, 1)

    def _alike(self, seen: str, known: Iterable[str]) -> str:
        """The first known anchor that is similar enough, else what was seen."""
        least = self.config.similarity
        if least is None:
            return seen
        return next((anchor for anchor in known if SequenceMatcher(None, seen, anchor).ratio() >= least), seen)

    def _return_to_go(self, group: Group, index: int, k: int) -> float:
        trajectory = group.trajectories[index]
        return self.config.gamma ** (len(trajectory.steps) - 1 - k) * trajectory.reward - trajectory.steps[k].penalty
