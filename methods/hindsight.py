"""Hindsight blocks: what a teacher is shown beside the student's own context."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from typing import Literal

from stepcredit.methods.contract import Group, MethodConfig, MethodError, Needs, Trajectory

HindsightText = Literal["actions", "full"]
"""How an episode is written down for the teacher.

`actions` lists the admitted actions, a line each, as the embedded policy's warm start has seen them. It is short enough
to stand in the context of every step, and what it leaves out is mostly what the teacher's own context shows.
`full` is every response, reasoning included, each followed by what the environment answered.
"""

Source = Literal["peer_traj", "golden_rollout", "skills", "outcome", "none"]
"""What the teacher is shown.

`peer_traj` is the first successful other trajectory of a mixed group (StepOPSD, arXiv 2605.27140), `golden_rollout` the
benchmark's reference, `skills` a text about tasks of this type (SDAR, arXiv 2605.15155), `outcome` only how the very
trajectory that is scored ended (the default of StepOPSD's script), `none` nothing.
"""

SILENT = "a teacher that is the policy itself and sees no more says nothing; choose another teacher or hindsight"
_EPISODES: tuple[Source, ...] = ("peer_traj", "golden_rollout")


class TaughtConfig(MethodConfig):
    """What methods with a teacher in hindsight have in common."""

    LATER = frozenset({"hindsight", "skills", "outcome_line"})

    hindsight: Source = "peer_traj"
    """What the teacher is shown; see `Source`."""
    hindsight_text: HindsightText = "actions"
    """How a peer's or a reference episode is written down; the whole text in StepOPSD's code, actions for `tiny`."""
    skills: str | None = None
    """The folder of hindsight `skills`: a text file for each subset of tasks, SUBSET.txt or .md."""
    outcome_line: bool = False
    """Whether the block ends by saying how the scored trajectory ended."""

    def idle(self) -> Mapping[str, str]:
        why = f"with hindsight {self.hindsight!r}"
        idle = {} if self.hindsight in _EPISODES else {"hindsight_text": why}
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
        return Needs(stale_refresh, initial, ema, checkpoint, golden, self.skills, answers=answers)

    def block_for(self, group: Group, index: int) -> str | None:
        """What the teacher of trajectory number `index` is shown; None for nothing.

        Raises:
            MethodError: the group lacks a reference trajectory or a skill that is to be shown.
        """
        trajectory = group.trajectories[index]
        if self.hindsight == "outcome":
            return outcome_of(trajectory)
        shown = self._shown(group, index)
        if not self.outcome_line:
            return shown
        return outcome_of(trajectory) if shown is None else f"{shown}\n{outcome_of(trajectory)}"

    def _shown(self, group: Group, index: int) -> str | None:
        match self.hindsight:
            case "peer_traj":
                return peer_hindsight(group, index, self.hindsight_text)
            case "golden_rollout":
                return golden_hindsight(group, self.hindsight_text)
            case "skills":
                return skill_hindsight(group)
            case _:
                return None


def peer_hindsight(group: Group, index: int, render: HindsightText) -> str | None:
    """The text of the first successful trajectory of a mixed group, other than number `index` (arXiv 2605.27140).

    A sole winner has no such peer and gets none (ours): shown its own trajectory, the teacher would praise every token
    for having been drawn. Groups in which all or none succeed get none either.
    """
    first = next(iter(peers(group, index, success=True)), None)
    return None if first is None else written(first, render)


def peers(group: Group, index: int, *, success: bool) -> list[Trajectory]:
    """The other trajectories of a mixed group than number `index` that ended so; none of another group."""
    if not group.mixed:
        return []
    return [peer for place, peer in enumerate(group.trajectories) if peer.success is success and place != index]


def golden_hindsight(group: Group, render: HindsightText) -> str:
    """The text of the benchmark's reference trajectory.

    Raises:
        MethodError: the group carries none.
    """
    if group.golden is None:
        raise MethodError(
            f"hindsight 'golden_rollout' needs a reference trajectory and the group of {group.task_id!r} has none; "
            "choose hindsight 'peer_traj' or a benchmark that has them"
        )
    return _joined(((turn.action_text, turn.observation) for turn in group.golden), render)


def skill_hindsight(group: Group) -> str:
    """The text about tasks of the group's type.

    Raises:
        MethodError: the group carries none.
    """
    if group.skill is None:
        raise MethodError(f"hindsight 'skills' needs a text, and the group of {group.task_id!r} has none")
    return group.skill


def written(trajectory: Trajectory, render: HindsightText) -> str:
    """The trajectory as text; among its actions those that were not admitted are left out."""
    if render == "full":
        return _joined(((step.text or step.action_text, step.observation) for step in trajectory.steps), render)
    return _joined(((step.action_text, step.observation) for step in trajectory.steps if step.valid), render)


def outcome_of(trajectory: Trajectory) -> str:
    """The line that tells the teacher how the trajectory that it scores ended."""
    return f"This episode {'succeeded' if trajectory.success else 'failed'}."


def _joined(turns: Iterable[tuple[str, str]], render: HindsightText) -> str:
    return "\n".join(text for turn in turns for text in (turn[:1] if render == "actions" else turn))
