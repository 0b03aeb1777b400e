"""The options of methods whose teacher is shown something in hindsight."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import replace

from stepcredit.methods.arms import ARMS, EPISODES, HindsightText, Source, outcome_of
from stepcredit.methods.contract import Group, MethodConfig, Needs

SILENT = "a teacher that is the policy itself and sees no more says nothing; choose another teacher or hindsight"


class TaughtConfig(MethodConfig):
    """What methods with a teacher in hindsight have in common."""

    LATER = frozenset({"hindsight", "skills", "outcome_line"})

    hindsight: Source = "peer_traj"
    """What the teacher is shown; see `ARMS`."""
    hindsight_text: HindsightText = "actions"
    """How a peer's or a reference episode is written down; the whole text in StepOPSD's code, actions for `tiny`."""
    skills: str | None = None
    """The folder of hindsight `skills`: a text file for each subset of tasks, SUBSET.txt or .md."""
    outcome_line: bool = False
    """Whether the block ends by saying how the scored trajectory ended."""

    def idle(self) -> Mapping[str, str]:
        why = f"with hindsight {self.hindsight!r}"
        idle = {} if self.hindsight in EPISODES else {"hindsight_text": why}
        if self.hindsight in ("outcome", "none"):
            idle["outcome_line"] = why
        return {**super().idle(), **idle, **({} if self.hindsight == "skills" else {"skills": why})}

    def missing(self) -> str | None:
        if self.hindsight == "skills" and self.skills is None:
            return "hindsight 'skills' needs the option skills, a folder of texts"
        return super().missing()

    def needed(
        self,
        *,
        stale_refresh: int | None = None,
        initial: bool = False,
        ema: float | None = None,
        checkpoint: str | None = None,
        answers: bool = False,
    ) -> Needs:
        """What is needed for the hindsight, and these."""
        golden = self.hindsight == "golden_rollout"
        foreign, untold = self.hindsight in ("foreign", "contrast"), self.hindsight == "without_task"
        kept = Needs(stale_refresh, initial, ema, checkpoint, golden, self.skills, answers=answers)
        return replace(kept, foreign=foreign, untold=untold)

    def block_for(self, group: Group, index: int) -> str | None:
        """What the teacher of trajectory number `index` is shown; None for nothing.

        Raises:
            MethodError: the group lacks a reference trajectory or a skill that is to be shown.
        """
        shown = ARMS[self.hindsight](group, index, self.hindsight_text)
        if not self.outcome_line:
            return shown
        told = outcome_of(group.trajectories[index])
        return told if shown is None else f"{shown}\n{told}"

    def unserved(self, group: Group) -> int:
        """Of mixed groups: in others all rewards are alike, as a rule, and most methods have nothing to say."""
        if not group.mixed or self.hindsight == "none":
            return 0
        return sum(self.block_for(group, index) is None for index in range(len(group.trajectories)))
