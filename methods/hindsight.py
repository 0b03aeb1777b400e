"""Hindsight blocks: what a teacher is shown of an episode that went well."""

from __future__ import annotations

from collections.abc import Iterable
from typing import Literal

from stepcredit.methods.contract import Group, MethodError, Trajectory

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


def wrong_hindsight(group: Group, index: int, render: HindsightText) -> str | None:
    """The text of the first failed trajectory of a mixed group, other than number `index`; None without one (ours)."""
    if not group.mixed:
        return None
    peers = (peer for place, peer in enumerate(group.trajectories) if not peer.success and place != index)
    first = next(peers, None)
    return None if first is None else written(first, render)


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


def written(trajectory: Trajectory, render: HindsightText) -> str:
    """The trajectory as text; actions that were not admitted are left out, with the answers to them."""
    return _joined(((step.action_text, step.observation) for step in trajectory.steps if step.valid), render)


def _joined(turns: Iterable[tuple[str, str]], render: HindsightText) -> str:
    return "\n".join(text for turn in turns for text in (turn[:1] if render == "actions" else turn))


def with_outcome(hindsight: str, trajectory: Trajectory) -> str:
    """The block, and a last line that tells the teacher how the trajectory that it scores ended."""
    return f"{hindsight}\nThis episode {'succeeded' if trajectory.success else 'failed'}."
