"""Evaluation: sampled episodes of each task of a panel, with draws that runs share."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

from stepcredit.envs.panel import Panel
from stepcredit.harness.episodes.player import Player
from stepcredit.harness.episodes.rollout import AT_A_TIME, rollout
from stepcredit.harness.seeds import Draws, seed_for
from stepcredit.harness.spec import RolloutSpec
from stepcredit.methods.contract import Group


@dataclass(frozen=True, slots=True)
class EvalProtocol:
    """How a policy is evaluated.

    Attributes:
        panel: the tasks.
        temperature: of sampling; 0 is greedy.
        seed: of the draws.
        samples: episodes of each task.
        run_seed: of the run whose policy it is, where runs of other seeds are to meet other draws.
    """

    panel: Panel
    temperature: float
    seed: int
    samples: int = 1
    run_seed: int | None = None

    @property
    def draws(self) -> Draws:
        """What the episodes' draws are named after."""
        own = () if self.run_seed is None else (self.run_seed,)
        return Draws(seed_for("evaluation", self.seed, *own), update=0)


def evaluate(
    player: Player,
    limits: RolloutSpec,
    protocol: EvalProtocol,
    report: Callable[[int, int], None] = lambda done, total: None,
) -> list[Group]:
    """A group of trajectories per task, some hundreds at a time so that memory does not grow with the panel.

    The draws depend on the protocol's seeds, the task, the sample and the turn alone: policies before and after
    training, or of two methods, meet the same luck, so that their differences are paired. `report` is told how many
    of how many episodes are done.
    """
    spec = limits.model_copy(update={"group": protocol.samples, "temperature": protocol.temperature})
    tasks, groups = protocol.panel.tasks, list[Group]()
    size = max(1, AT_A_TIME // protocol.samples)
    for first in range(0, len(tasks), size):
        report(first * protocol.samples, len(tasks) * protocol.samples)
        groups += rollout(player, tasks[first : first + size], spec, protocol.draws)
    report(len(tasks) * protocol.samples, len(tasks) * protocol.samples)
    return groups
