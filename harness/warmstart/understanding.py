"""Whether a policy understands what teachers are shown: its gaps where it reads a peer's episode, and a placebo."""

from __future__ import annotations

import random
from collections import defaultdict
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from stepcredit.envs.panel import Panel
from stepcredit.harness.engine.rescore import ModelRescorer
from stepcredit.harness.episodes.player import Player
from stepcredit.harness.episodes.rollout import rollout
from stepcredit.harness.fidelity.ranks import Estimate, clustered_mean, rank_correlation
from stepcredit.harness.fidelity.truth import Precision, StepTruth, true_steps
from stepcredit.harness.seeds import Draws, seed_for
from stepcredit.harness.spec import RolloutSpec
from stepcredit.harness.warmstart.reading import Actions, Tutor
from stepcredit.methods.arms import peers, written
from stepcredit.methods.contract import Group, ScoreRequest, Trajectory, Weights
from stepcredit.methods.spans import target_starts

_GROUP, _TOKENS = 8, 8192
_PRECISION = Precision(first=24, most=24)
_ALIKE = 5


@dataclass(frozen=True, slots=True)
class Understanding:
    """Gaps of steps where a teacher's block stands, summed over the tokens that follow it.

    Attributes:
        place: `action`, before the action's tag, or `response`, at the end of the prompt.
        straight: mean gap under a peer's block of actions that lead straight to what it tells.
        other: of all other actions.
        placebo: mean gap under another task's block of that length.
        peer: rank correlation of a peer's gap with the true step advantage, within trajectories.
        foreign: likewise of the placebo's.
        beyond: the peer's less the placebo's.
    """

    place: str
    straight: Estimate
    other: Estimate
    placebo: Estimate
    peer: Estimate
    foreign: Estimate
    beyond: Estimate


def described(found: Understanding) -> dict[str, Any]:
    """As manifests have it."""
    estimates = {name: getattr(found, name).described() for name in Understanding.__slots__[1:]}
    return {"place": found.place, **estimates}


@dataclass(frozen=True, slots=True)
class _Watched:
    """A trajectory of a mixed group, what its teacher is shown, which of its steps [K] led straight there, and their
    true advantages [K]."""

    trajectory: Trajectory
    peer: str
    placebo: str
    straight_K: NDArray[np.bool_]
    truth_K: NDArray[np.float64]


def understand(
    player: Player, panel: Panel, tasks: int, limits: RolloutSpec, tutor_of: Callable[[str], Tutor]
) -> list[Understanding]:
    """For both places, on the first tasks of the panel in a random order.

    Groups of eight; the true advantages from 24 continuations of each state.
    """
    chosen = random.Random(f"understanding:{panel.sha256}").sample(panel.tasks, min(tasks, len(panel.tasks)))
    draws, spec = Draws(seed_for("understanding", panel.sha256), 0), limits.model_copy(update={"group": _GROUP})
    played = zip(chosen, rollout(player, chosen, spec, draws), strict=True)
    mixed = [(task, group) for task, group in played if group.mixed]
    truths = [true_steps(player, task, group, spec, draws, _PRECISION) for task, group in mixed]
    watched = list(_watched([group for _, group in mixed], truths, tutor_of))
    rescorer = ModelRescorer(player.policy, {}, _TOKENS)
    return [_measured(place, watched, rescorer) for place in ("action", "response")]


def _watched(
    groups: Sequence[Group], truths: Sequence[Sequence[Sequence[StepTruth]]], tutor_of: Callable[[str], Tutor]
) -> Iterator[_Watched]:
    """All that have a successful peer, as methods show it: the first; and another task's to compare it with."""
    won = [(group.task_id, _actions(t)) for group in groups for t in group.trajectories if t.success]
    for group, known in zip(groups, truths, strict=True):
        others = [other for task, other in won if task != group.task_id]
        for index, (trajectory, steps) in enumerate(zip(group.trajectories, known, strict=True)):
            shown = next(iter(peers(group, index, success=True)), None)
            if shown is not None and others:
                told, placebo = _actions(shown), _alike(_actions(shown), others, trajectory)
                straight_K = np.fromiter(_straight(trajectory, told, tutor_of(group.task_id)), dtype=np.bool_)
                truth_K = np.array([step.advantage for step in steps])
                yield _Watched(trajectory, "\n".join(told), "\n".join(placebo), straight_K, truth_K)


def _straight(trajectory: Trajectory, told: Actions, tutor: Tutor) -> Iterator[bool]:
    for step in trajectory.steps:
        yield tutor.straight(told) == step.action_text
        tutor.observe(step)


def _alike(told: Actions, others: Sequence[Actions], trajectory: Trajectory) -> Actions:
    """One of the others that are nearest in length, drawn with a seed of the trajectory's own."""
    rng = random.Random(f"placebo:{trajectory.steps[0].seed}")
    nearest = sorted(others, key=lambda other: (abs(len(other) - len(told)), rng.random()))
    return rng.choice(nearest[:_ALIKE])


def _measured(place: str, watched: Sequence[_Watched], rescorer: ModelRescorer) -> Understanding:
    peer = _gaps(rescorer, [(one.trajectory, one.peer) for one in watched], place)
    placebo = _gaps(rescorer, [(one.trajectory, one.placebo) for one in watched], place)
    kept: dict[str, dict[str, list[float]]] = {name: defaultdict(list) for name in Understanding.__slots__[1:]}
    for one, peer_K, placebo_K in zip(watched, peer, placebo, strict=True):
        task, truth_K = one.trajectory.task_id, one.truth_K
        kept["straight"][task] += peer_K[one.straight_K].tolist()
        kept["other"][task] += peer_K[~one.straight_K].tolist()
        kept["placebo"][task] += placebo_K.tolist()
        ranks = rank_correlation(peer_K, truth_K), rank_correlation(placebo_K, truth_K)
        if ranks[0] is not None and ranks[1] is not None:
            kept["peer"][task].append(ranks[0])
            kept["foreign"][task].append(ranks[1])
            kept["beyond"][task].append(ranks[0] - ranks[1])
    return Understanding(place, **{name: clustered_mean(found) for name, found in kept.items()})


def _gaps(
    rescorer: ModelRescorer, shown: Sequence[tuple[Trajectory, str]], place: str
) -> Iterator[NDArray[np.float64]]:
    """[K] each trajectory's gaps, summed over each step's action, or its response where the block stands before it."""
    requests = [
        ScoreRequest(
            trajectory,
            Weights.LIVE,
            block,
            target_starts(trajectory, "action_only", tags=True) if place == "action" else None,
        )
        for trajectory, block in shown
    ]
    for request, teacher_T in zip(requests, rescorer.score(requests), strict=True):
        yield _by_step(request.trajectory, teacher_T.double().numpy(), whole=place == "response")


def _by_step(trajectory: Trajectory, teacher_T: NDArray[np.float64], *, whole: bool) -> NDArray[np.float64]:
    """A response's reasoning often says its action already: before it, what the block tells shows there."""
    gaps, offset = [], 0
    for step in trajectory.steps:
        span = None if whole else step.tagged or step.action
        own_T = teacher_T[offset : offset + len(step.response_ids)] - step.logprobs
        gaps.append(float((own_T[span.start : span.end] if span else own_T).sum()))
        offset += len(step.response_ids)
    return np.array(gaps)


def _actions(trajectory: Trajectory) -> Actions:
    return written(trajectory, "actions").split("\n")
