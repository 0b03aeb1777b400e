"""A game as data: what a source hands out and a panel fingerprints."""

from __future__ import annotations

import hashlib
from dataclasses import dataclass

from stepcredit.envs.alfworld.assets import GRAMMAR_VERSION
from stepcredit.envs.alfworld.subsets import Subset
from stepcredit.envs.panel import Task


@dataclass(frozen=True, slots=True)
class GameRecord:
    """One game.

    Attributes:
        id: "mini/valid_unseen/Pick/0007", or ALFWorld's "valid_unseen/look_at_obj_in_light-.../trial_T...".
        task: the task's sentence, as the agent reads it. Copies of the real games differ in it.
        problem: PDDL problem for the wheel's domain.
    """

    id: str
    subset: Subset
    task: str
    problem: str

    def as_task(self) -> Task:
        """The panel's entry: its fingerprint covers grammar version, sentence and problem."""
        content = "\x1f".join((GRAMMAR_VERSION, self.task, self.problem))
        return Task(self.id, self.subset.value, hashlib.sha256(content.encode()).hexdigest())
