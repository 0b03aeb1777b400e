"""Hindsight blocks: what a teacher is shown of an episode that went well."""

from __future__ import annotations

from enum import StrEnum

from methods.contract import Group, Trajectory


class HindsightText(StrEnum):
    """How an episode is written down for the teacher.

    `actions` lists the admitted actions, a line each: short enough to be read at every step, and free of the
    observations, which the teacher's own context shows it anyway. `full` adds what the environment answered.
    """

    ACTIONS = "actions"
    FULL = "full"


def peer_hindsight(group: Group, index: int, style: HindsightText) -> str | None:
    """The first successful trajectory of a mixed group, other than the trajectory itself (arXiv 2605.27140).

    A sole winner has no successful peer and gets none: shown its own trajectory, the teacher would praise every token
    for having been drawn. Groups in which all or none succeed get none either.
    """
    if not group.mixed:
        return None
    peers = (peer for peer in group.trajectories if peer.success and peer.index != index)
    first = next(peers, None)
    return None if first is None else written(first, style)


def written(trajectory: Trajectory, style: HindsightText) -> str:
    """The trajectory as text; actions that were not admitted are left out."""
    lines = []
    for step in trajectory.steps:
        if step.valid:
            lines.append(step.action_text)
            if style is HindsightText.FULL:
                lines.append(step.observation)
    return "\n".join(lines)


def outcome_line(trajectory: Trajectory) -> str:
    """The line that tells the teacher how the trajectory it scores ended."""
    return "This episode succeeded." if trajectory.success else "This episode failed."
