"""Hindsight blocks: what a teacher is shown of an episode that went well."""

from __future__ import annotations

from typing import Literal

from methods.contract import Group, Trajectory

HindsightText = Literal["actions", "full"]
"""How an episode is written down for the teacher.

`actions` lists the admitted actions, a line each, as the embedded policy's warm start has seen them. It is short enough
to stand in the context of every step, and what it leaves out is mostly what the teacher's own context shows.
`full` follows each action by what the environment answered, for policies that can use it.
"""


def peer_hindsight(group: Group, index: int, render: HindsightText) -> str | None:
    """The text of the first successful trajectory of a mixed group, other than number `index` (arXiv 2605.27140).

    A sole winner has no such peer and gets none (ours): shown its own trajectory, the teacher would praise every token
    for having been drawn. Groups in which all or none succeed get none either.
    """
    if not group.mixed:
        return None
    peers = (peer for place, peer in enumerate(group.trajectories) if peer.success and place != index)
    first = next(peers, None)
    return None if first is None else written(first, render)


def written(trajectory: Trajectory, render: HindsightText) -> str:
    """The trajectory as text; actions that were not admitted are left out, with the answers to them."""
    lines = []
    for step in trajectory.steps:
        if step.valid:
            lines += [step.action_text] if render == "actions" else [step.action_text, step.observation]
    return "\n".join(lines)


def with_outcome(hindsight: str, trajectory: Trajectory) -> str:
    """The block, and a last line that tells the teacher how the trajectory that it scores ended."""
    return f"{hindsight}\nThis episode {'succeeded' if trajectory.success else 'failed'}."
