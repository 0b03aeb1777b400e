"""Whether a teacher ranks the actions of a state as they are worth."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass, replace
from itertools import combinations
from typing import Any

import numpy as np
import pandas as pd

from stepcredit.harness.engine.rescore import Drawn, ModelRescorer
from stepcredit.harness.episodes.player import Player
from stepcredit.harness.fidelity.alternatives import Alternative, Crossroads
from stepcredit.harness.fidelity.ranks import Estimate, clustered_mean
from stepcredit.harness.spec import RunSpec
from stepcredit.methods.contract import Group, Trajectory, Weights
from stepcredit.methods.gaps import Lesson, lesson_of, score_gaps
from stepcredit.methods.hindsight import TaughtConfig
from stepcredit.methods.registry import build

_READER = "opd"
"""Whose options say what a teacher is shown; its block stands at the end of the prompt."""
_NO_STATE = frozenset({"without_task", "scrambled_gap", "skills"})
"""Arms that are about a trajectory's own tokens, or texts."""
_NOISE = 2.0


@dataclass(frozen=True, slots=True)
class Choice:
    """Of an arm, over pairs of actions of a state whose values differ by more than their noise.

    Attributes:
        gap: share of the pairs of which the better action has the larger gap between teacher and student.
        teacher: likewise the student's log-probability and the gap together: the teacher's, but for a contrast.
        student: the student's.
    """

    arm: str
    gap: Estimate
    teacher: Estimate
    student: Estimate


def choice_rows(
    arms: Sequence[str], roads: Sequence[Crossroads], group: Group, player: Player, spec: RunSpec
) -> Iterator[dict[str, Any]]:
    """For each arm and each action of each state its value, and its log-probabilities, summed over the action."""
    rescorer = ModelRescorer(
        player.policy, {}, spec.optim.token_budget, spec.rollout.temperature, drawn=Drawn.now_by(player.engine)
    )
    for arm in (arm for arm in arms if arm not in _NO_STATE):
        config = build(_READER, {"hindsight": arm}).config
        assert isinstance(config, TaughtConfig)
        lessons = [_lessons(road, group, config) for road in roads]
        gaps = iter(score_gaps([lesson for own in lessons for lesson in own], rescorer, teacher=Weights.LIVE))
        for road in roads:
            for option in road.options:
                gap_T, span = next(gaps), option.step.tagged or option.step.action
                if gap_T is None or span is None:
                    continue
                last_T = gap_T[len(gap_T) - len(option.step.response_ids) :]
                gap, student = float(last_T[span.start : span.end].sum()), option.step.logprobs[span.start : span.end]
                yield {
                    "arm": arm,
                    "task_id": group.task_id,
                    "trajectory": group.trajectories[road.trajectory].index,
                    "step": road.step,
                    "action": option.step.action_text,
                    "value": option.value,
                    "stderr": option.stderr,
                    "count": option.count,
                    "student": float(student.sum()),
                    "teacher": float(student.sum()) + gap,
                    "gap": gap,
                }


def choices(rows: pd.DataFrame) -> list[Choice]:
    """Every arm, in the order in which it first occurs; none where no state had a choice."""
    if rows.empty:
        return []
    return [
        Choice(str(arm), *(_ranked(own, score) for score in ("gap", "teacher", "student")))
        for arm, own in rows.groupby("arm", sort=False)
    ]


def _lessons(road: Crossroads, group: Group, config: TaughtConfig) -> list[Lesson | None]:
    """The block is that of the trajectory as it was; what is scored ends with the other action."""
    was, lesson = group.trajectories[road.trajectory], lesson_of(group, road.trajectory, config)
    if lesson is None:
        return [None] * len(road.options)
    return [replace(lesson, trajectory=_ending(was, road.step, option)) for option in road.options]


def _ending(was: Trajectory, step: int, option: Alternative) -> Trajectory:
    return replace(was, steps=(*was.steps[:step], option.step))


def _ranked(own: pd.DataFrame, score: str) -> Estimate:
    values: dict[str, list[float]] = {}
    for (task, _, _), state in own.groupby(["task_id", "trajectory", "step"], sort=True):
        values.setdefault(str(task), []).extend(_pairs(state, score))
    return clustered_mean(values)


def _pairs(state: pd.DataFrame, score: str) -> Iterator[float]:
    """1 where the better one has the larger score, 0 where it has the smaller, a half where they are equal."""
    for one, other in combinations(state.to_dict("records"), 2):
        apart = one["value"] - other["value"]
        if abs(apart) > _NOISE * float(np.hypot(one["stderr"], other["stderr"])):
            yield (1.0 + float(np.sign((one[score] - other[score]) * apart))) / 2.0
