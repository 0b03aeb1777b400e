"""What a teacher can be shown in hindsight: each arm is a text for one trajectory of a group, and one line in `ARMS`.

Arms that show an episode do so where StepOPSD's teacher has one: in mixed groups, to trajectories that have a
successful peer. So they differ in what is shown alone.
"""

from __future__ import annotations

import random
from collections.abc import Callable, Iterable, Mapping
from typing import Literal

from stepcredit.methods.contract import Group, MethodError, Trajectory

HindsightText = Literal["actions", "full"]
"""How an episode is written down for the teacher.

`actions` lists the admitted actions, a line each, as the embedded policy's warm start has seen them. It is short enough
to stand in the context of every step, and what it leaves out is mostly what the teacher's own context shows.
`full` is every response, reasoning included, each followed by what the environment answered.
"""

Source = Literal[
    "peer_traj",
    "peer_any",
    "golden_rollout",
    "skills",
    "outcome",
    "failed_peer",
    "foreign",
    "shuffled",
    "self",
    "empty",
    "without_task",
    "contrast",
    "scrambled_gap",
    "none",
]
"""What the teacher is shown, see `ARMS`; `none` is nothing at all."""

IT_FAILED = "That episode failed."
"""The last line of a failed peer's block."""

_NEAREST = 5

_Text = Callable[[Group, int, HindsightText], str | None]


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


def placebo(group: Group, index: int, render: HindsightText) -> str | None:
    """A successful trajectory of another task, one of those whose text is nearest in length to the peer's.

    None where there is no peer, or no other task succeeded.
    """
    peer = peer_hindsight(group, index, render)
    others = [text for other in group.foreign if (text := written(other, render))]
    if peer is None or not others:
        return None
    rng = drawn_for(group.trajectories[index], "placebo")
    return rng.choice(sorted(others, key=lambda text: abs(len(text) - len(peer)))[:_NEAREST])


def drawn_for(trajectory: Trajectory, what: str) -> random.Random:
    """A source of choices about a trajectory, by the seed of its first turn."""
    return random.Random(f"{what}:{trajectory.steps[0].seed if trajectory.steps else trajectory.index}")


def written(trajectory: Trajectory, render: HindsightText) -> str:
    """The trajectory as text; among its actions those that were not admitted are left out."""
    return "\n".join(_parts(trajectory, render))


def outcome_of(trajectory: Trajectory) -> str:
    """The line that tells the teacher how the trajectory that it scores ended."""
    return f"This episode {'succeeded' if trajectory.success else 'failed'}."


def _parts(trajectory: Trajectory, render: HindsightText) -> list[str]:
    """A text for each turn."""
    if render == "actions":
        return [step.action_text for step in trajectory.steps if step.valid]
    return [f"{step.text or step.action_text}\n{step.observation}" for step in trajectory.steps]


def _joined(turns: Iterable[tuple[str, str]], render: HindsightText) -> str:
    return "\n".join(text for turn in turns for text in (turn[:1] if render == "actions" else turn))


def _peer_any(group: Group, index: int, render: HindsightText) -> str | None:
    others = [peer for place, peer in enumerate(group.trajectories) if place != index]
    others.sort(key=lambda peer: peer.success)  # the order of winners and losers among each other means nothing
    return written(drawn_for(group.trajectories[index], "peer").choice(others), render) if others else None


def _failed_peer(group: Group, index: int, render: HindsightText) -> str | None:
    first = next(iter(peers(group, index, success=False)), None)
    return None if first is None else f"{written(first, render)}\n{IT_FAILED}"


def _shuffled(group: Group, index: int, render: HindsightText) -> str | None:
    first = next(iter(peers(group, index, success=True)), None)
    if first is None:
        return None
    parts = _parts(first, render)
    return "\n".join(drawn_for(group.trajectories[index], "shuffled").sample(parts, len(parts)))


def _self(group: Group, index: int, render: HindsightText) -> str | None:
    return written(group.trajectories[index], render) if group.mixed else None


ARMS: Mapping[Source, _Text] = {
    "peer_traj": peer_hindsight,
    "peer_any": _peer_any,
    "golden_rollout": lambda group, _, render: golden_hindsight(group, render),
    "skills": lambda group, *_: skill_hindsight(group),
    "outcome": lambda group, index, _: outcome_of(group.trajectories[index]),
    "failed_peer": _failed_peer,
    "foreign": placebo,
    "shuffled": _shuffled,
    "self": _self,
    "empty": lambda *_: "",
    "without_task": peer_hindsight,
    "contrast": peer_hindsight,
    "scrambled_gap": peer_hindsight,
    "none": lambda *_: None,
}
"""The text of each arm.

`peer_traj` is the first successful other trajectory of a mixed group (StepOPSD, arXiv 2605.27140), `golden_rollout` the
benchmark's reference, `skills` a text about tasks of this type (SDAR, arXiv 2605.15155), `outcome` only how the very
trajectory that is scored ended (the default of StepOPSD's script), `none` nothing. The others are controls: `peer_any`
another trajectory, however it ended; `failed_peer` one that failed; `foreign` a successful one of another task, the
placebo; `shuffled` the peer's steps in random order; `self` the very trajectory that is scored; `empty` the block
without content; `without_task` the peer for a teacher who is not told the task (arXiv 2607.02234); `contrast` what the
peer makes likelier than the placebo does (CREDIT, arXiv 2605.11613); `scrambled_gap` the peer's gaps, in random order.
"""

EPISODES: frozenset[Source] = frozenset(ARMS) - {"skills", "outcome", "empty", "none"}
"""Arms that show an episode, which can be written down in two ways."""

PEERS: frozenset[Source] = EPISODES - {"golden_rollout"}
"""Arms that stand in for a peer: StepOPSD shows them to losers alone."""
